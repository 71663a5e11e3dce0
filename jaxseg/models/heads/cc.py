"""CCNet head."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxseg.models.heads.fcn import FCNHead
from jaxseg.models.layers.conv import bare_conv
from jaxseg.models.layers.norm import at_least_float32
from jaxseg.models.layers.scale import Scale


class CCHead(FCNHead):
    """An FCN head with criss-cross attention in between (Huang et al. 2019, "CCNet").

    Attributes:
        recurrence: How often the attention, each time with the same weights, is applied; twice reaches every pixel.
    """

    recurrence: int = 2

    def check(self) -> None:
        """Raises ConfigError where the fields don't fit each other."""
        super().check()
        if self.num_convs != 2:
            raise self.error("num_convs", "the attention is between two convolutions")
        if self.recurrence < 1:
            raise self.error("recurrence", "must be at least 1")
        if self.channels < 8:
            raise self.error("channels", "must be at least 8: queries and keys have an eighth of them")

    def between(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b h w c"]:
        """Applies the attention."""
        attention = CrissCrossAttention(name="cca")
        for _ in range(self.recurrence):
            x = attention(x)
        return x


class CrissCrossAttention(nn.Module):
    """Attention of every pixel to those of its row and its column, itself once.

    Memory grows with h w (h + w), not with the square of h w.
    """

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Adds what the pixels find, times a learned factor that starts at 0."""
        height, channels = x.shape[1], x.shape[3]
        query = bare_conv(channels, channels // 8, name="query_conv")(x)
        key = bare_conv(channels, channels // 8, name="key_conv")(x)
        value = bare_conv(channels, channels, name="value_conv")(x)

        exact = at_least_float32(x.dtype)
        down = jnp.einsum("bhwc,biwc->bhwi", query, key, preferred_element_type=exact)
        itself = jnp.eye(height, dtype=bool)[:, None]
        down = jnp.where(itself, -jnp.inf, down)  # a pixel is in its row already
        across = jnp.einsum("bhwc,bhjc->bhwj", query, key, preferred_element_type=exact)
        weights = jax.nn.softmax(jnp.concatenate([down, across], axis=-1), axis=-1).astype(x.dtype)
        found = jnp.einsum("bhwi,biwc->bhwc", weights[..., :height], value)
        found += jnp.einsum("bhwj,bhjc->bhwc", weights[..., height:], value)
        return x + Scale(0.0, name="gamma")(found)
