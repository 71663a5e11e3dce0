"""A learned factor."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float


class Scale(nn.Module):
    """Multiplies by one learned number.

    Attributes:
        initial: What it starts at.
    """

    initial: float = 1.0

    @nn.compact
    def __call__(self, x: Float[Array, "*any"]) -> Float[Array, "*any"]:
        """The product, in the dtype of x."""
        return x * self.param("factor", nn.initializers.constant(self.initial), (), jnp.float32).astype(x.dtype)
