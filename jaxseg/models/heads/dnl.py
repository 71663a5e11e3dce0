"""DNL head."""

from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxseg.models.heads.nl import NLHead
from jaxseg.models.layers.attention import flatten_pixels
from jaxseg.models.layers.conv import Conv
from jaxseg.models.layers.initializers import default_bias, default_kernel
from jaxseg.models.layers.non_local import NonLocal
from jaxseg.models.layers.norm import at_least_float32


class DNLHead(NLHead):
    """An FCN head with a disentangled non-local block in between (Yin et al. 2020, "Disentangled Non-Local").

    Attributes:
        reduction, use_scale: As in `NonLocal`.
        mode: "embedded_gaussian" or "dot_product", as in `NonLocal`.
        temperature: Divides the products before the softmax; of "embedded_gaussian" only.
    """

    temperature: float = 0.05

    modes: ClassVar[tuple[str, ...]] = ("embedded_gaussian", "dot_product")

    def between(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b h w c"]:
        """Adds what the other pixels say."""
        block = DisentangledNonLocal(
            self.reduction, self.use_scale, self.mode, self.norm_cfg, self.temperature, name="dnl_block"
        )
        return block(x, train)


class DisentangledNonLocal(NonLocal):
    """A non-local block in which a pair weighs by its differences from the mean, and a pixel also by itself.

    Attributes:
        temperature: As in `DNLHead`.
    """

    temperature: float = 0.05

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool = False) -> Float[Array, "b h w c"]:
        """Returns the map with its context."""
        value = flatten_pixels(self.projection("g")(x))
        pairwise = jnp.einsum("bqk,bkd->bqd", self.weights(x).astype(value.dtype), value)
        unary = jnp.einsum("bqk,bkd->bqd", self.mask(x).astype(value.dtype), value)
        return x + self.output((pairwise + unary).reshape(*x.shape[:3], -1), x.shape[-1], train)

    def query_and_key(self, x: Float[Array, "b h w c"]) -> tuple[Float[Array, "b n d"], Float[Array, "b n d"]]:
        """Projections less their means over the pixels."""
        wide = at_least_float32(x.dtype)
        pair = super().query_and_key(x)
        query, key = (y - jnp.mean(y.astype(wide), 1, keepdims=True).astype(y.dtype) for y in pair)
        return query, key

    def scale(self, channels: int) -> float:
        """Factor of the products before a softmax."""
        return super().scale(channels) / self.temperature

    def mask(self, x: Float[Array, "b h w c"]) -> Float[Array, "b 1 n"]:
        """What every pixel gives to all, in float32 or more."""
        bias_init = default_bias(fan_in=x.shape[-1])
        scores = Conv(1, 1, kernel_init=default_kernel(), bias_init=bias_init, name="conv_mask")(x)
        return jax.nn.softmax(scores.astype(at_least_float32(x.dtype)).reshape(x.shape[0], 1, -1), axis=-1)
