"""Dropout of elements and of whole branches; without a "dropout" key nothing is dropped."""

from collections.abc import Callable

import flax.linen as nn
from jaxtyping import Array, Float


class Dropout(nn.Module):
    """Drops elements while training (Srivastava et al. 2014).

    Attributes:
        rate: Share that is dropped; the rest is scaled up.
    """

    rate: float = 0.0

    @nn.compact
    def __call__(self, x: Float[Array, "*b"], train: bool = False) -> Float[Array, "*b"]:
        """Returns x, some of it zeroed."""
        if not (train and self.rate > 0 and self.has_rng("dropout")):
            return x
        return nn.Dropout(self.rate)(x, deterministic=False)

    def of(self, train: bool) -> Callable[[Array], Array] | None:
        """The layer as a function of x; None where it never drops."""
        return (lambda x: self(x, train)) if train and self.rate > 0 else None


class DropPath(nn.Module):
    """Stochastic depth (Huang et al. 2016): drops a residual branch of whole examples while training.

    Attributes:
        rate: Share of the examples; the branches of the others are scaled up.
    """

    rate: float = 0.0

    @nn.compact
    def __call__(self, x: Float[Array, "b ..."], train: bool = False) -> Float[Array, "b ..."]:
        """Returns the branch, that of some examples zeroed."""
        if not (train and self.rate > 0 and self.has_rng("dropout")):
            return x
        return nn.Dropout(self.rate, broadcast_dims=tuple(range(1, x.ndim)))(x, deterministic=False)
