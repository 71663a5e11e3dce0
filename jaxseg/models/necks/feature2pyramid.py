"""A pyramid of a plain transformer's maps."""

from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax
from jaxtyping import Array, Float

from jaxseg.errors import ConfigError
from jaxseg.models.layers.conv import ConvTranspose
from jaxseg.models.layers.initializers import default_bias, default_kernel
from jaxseg.models.layers.norm import build_norm
from jaxseg.models.layers.pooling import max_pool

RESCALES = ((4, 2, 1, 0.5), (2, 1, 0.5, 0.25))


class Feature2Pyramid(nn.Module):
    """Enlarges maps by transposed convolutions, and makes them smaller by max pooling (as BEiT, Bao et al. 2021).

    Attributes:
        embed_dim: Channels of the maps, those that come in and those that go out.
        rescales: The factor of each map: (4, 2, 1, 0.5) or (2, 1, 0.5, 0.25).
        norm_cfg: Norm between the two convolutions that enlarge by 4.
    """

    embed_dim: int
    rescales: Sequence[float] = (4, 2, 1, 0.5)
    norm_cfg: Mapping = nn.FrozenDict(type="SyncBN")

    @nn.compact
    def __call__(
        self, features: Sequence[Float[Array, "b _ _ c"]], train: bool = False
    ) -> tuple[Float[Array, "b _ _ c"], ...]:
        """Returns a map for each that comes in, its size times the factor, rounded down."""
        if tuple(self.rescales) not in RESCALES:
            raise ConfigError(f"neck.rescales={tuple(self.rescales)} is not one of {RESCALES}")
        found, stated = [x.shape[-1] for x in features], [self.embed_dim] * len(self.rescales)
        if found != stated:
            raise ConfigError(f"neck.embed_dim={self.embed_dim}, {len(stated)} times: the maps have {found} channels")
        return tuple(self.rescaled(x, factor, train) for x, factor in zip(features, self.rescales, strict=True))

    def rescaled(self, x: Array, factor: float, train: bool) -> Array:
        """A map whose size is multiplied."""
        if factor == 1:
            return x
        if factor < 1:
            return max_pool(x, round(1 / factor))
        x = self.doubled(x, f"upsample_{factor}x_0")
        if factor == 4:
            x = jax.nn.gelu(build_norm(self.norm_cfg, name="upsample_4x_1")(x, train), approximate=False)
            x = self.doubled(x, "upsample_4x_3")
        return x

    def doubled(self, x: Array, name: str) -> Array:
        """A map of twice the size."""
        init = {"kernel_init": default_kernel(), "bias_init": default_bias(4 * self.embed_dim)}
        return ConvTranspose(self.embed_dim, 2, 2, **init, name=name)(x)
