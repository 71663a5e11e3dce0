"""GCNet head."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxseg.models.heads.fcn import FCNHead
from jaxseg.models.layers.conv import Conv
from jaxseg.models.layers.initializers import default_bias, default_kernel, kaiming_normal
from jaxseg.models.layers.norm import at_least_float32

FUSIONS = ("channel_add", "channel_mul")


class GCHead(FCNHead):
    """An FCN head whose map learns of the whole image in between (Cao et al. 2019, "GCNet").

    Attributes:
        ratio, pooling_type, fusion_types: As in `GlobalContext`.
    """

    ratio: float = 0.25
    pooling_type: str = "att"
    fusion_types: Sequence[str] = ("channel_add",)

    def check(self) -> None:
        """Raises ConfigError where the fields don't fit each other."""
        super().check()
        if self.num_convs != 2:
            raise self.error("num_convs", "the context is between two convolutions")
        if self.pooling_type not in ("att", "avg"):
            raise self.error("pooling_type", "allowed: 'att', 'avg'")
        if not self.fusion_types or not set(self.fusion_types) <= set(FUSIONS):
            raise self.error("fusion_types", f"allowed are some of {FUSIONS}")

    def between(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b h w c"]:
        """Adds the global context."""
        return GlobalContext(self.ratio, self.pooling_type, self.fusion_types, name="gc_block")(x)


class GlobalContext(nn.Module):
    """Pools an image to one vector, transforms that and gives it to every pixel.

    Attributes:
        ratio: Width of the transform's hidden layer, as a share of the channels.
        pooling_type: "att" weighs the pixels by a learned softmax; "avg" weighs all alike.
        fusion_types: How pixels get the vector, "channel_mul" (as a gate in 0..1) before "channel_add".
    """

    ratio: float
    pooling_type: str
    fusion_types: Sequence[str]

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Returns the map with its context."""
        context = self.pool(x)
        y = x
        if "channel_mul" in self.fusion_types:
            y = y * jax.nn.sigmoid(self.transform(context, "channel_mul_conv"))
        if "channel_add" in self.fusion_types:
            y = y + self.transform(context, "channel_add_conv")
        return y

    def pool(self, x: Float[Array, "b h w c"]) -> Float[Array, "b 1 1 c"]:
        """The (weighted) mean of the pixels."""
        x32 = x.astype(at_least_float32(x.dtype))
        if self.pooling_type == "avg":
            return jnp.mean(x32, (1, 2), keepdims=True).astype(x.dtype)
        scores = Conv(1, 1, kernel_init=kaiming_normal(mode="fan_in"), name="conv_mask")(x)
        weights = jax.nn.softmax(scores.astype(x32.dtype), (1, 2))
        return jnp.einsum("bhwc,bhwo->boc", x32, weights)[:, None].astype(x.dtype)

    def transform(self, context: Float[Array, "b 1 1 c"], name: str) -> Float[Array, "b 1 1 c"]:
        """Two layers with a norm between them; the second starts at zero."""
        channels = context.shape[-1]
        hidden = Conv(
            int(channels * self.ratio),
            1,
            kernel_init=default_kernel(),
            bias_init=default_bias(fan_in=channels),
            name=f"{name}_0",
        )(context)
        # The reference's scale and bias are [c 1 1]; with the channels first ours are, too.
        norm = nn.LayerNorm(
            epsilon=1e-5,
            dtype=context.dtype,
            reduction_axes=(1, 2, 3),
            feature_axes=(1, 2, 3),
            use_fast_variance=False,
            name=f"{name}_1",
        )
        hidden = jax.nn.relu(norm(hidden.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1))
        return Conv(channels, 1, kernel_init=nn.initializers.zeros, name=f"{name}_3")(hidden)
