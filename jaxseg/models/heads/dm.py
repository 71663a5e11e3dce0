"""DMNet head."""

from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxseg.models.heads.decode_head import DecodeHead
from jaxseg.models.layers.activation import build_activation
from jaxseg.models.layers.conv import bare_conv, conv2d
from jaxseg.models.layers.conv_module import ConvModule
from jaxseg.models.layers.norm import build_norm
from jaxseg.models.layers.pooling import adaptive_avg_pool


class DMHead(DecodeHead):
    """Convolutions whose kernels come from the image (He et al. 2019, "Dynamic Multi-scale Filters").

    Attributes:
        filter_sizes: Of the kernels.
        fusion: As in `DynamicConv`.
    """

    filter_sizes: Sequence[int] = (1, 3, 5, 7)
    fusion: bool = False

    def check(self) -> None:
        """Raises ConfigError where the fields don't fit each other."""
        super().check()
        if self.act_cfg is None:
            raise self.error("act_cfg", "an activation follows the convolutions")

    def decode(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b h w channels"]:
        """Joins the map with its convolutions."""
        outputs = [x]
        for i, size in enumerate(self.filter_sizes):
            block = DynamicConv(size, self.channels, self.fusion, self.norm_cfg, self.act_cfg, name=f"dcm_modules_{i}")
            outputs.append(block(x, train))
        return self.conv_module(3, "bottleneck", padding=1)(jnp.concatenate(outputs, axis=-1), train)


class DynamicConv(nn.Module):
    """A depthwise convolution with a kernel for each image: the image itself, pooled to the kernel's size.

    Attributes:
        filter_size: Of the kernel. Where it is even, there is one more row and column of padding at the top and left.
        channels: Of the result.
        fusion: Whether one more convolution follows.
        norm_cfg, act_cfg: As in the head that owns it.
    """

    filter_size: int
    channels: int
    fusion: bool
    norm_cfg: Mapping | None
    act_cfg: Mapping

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool = False) -> Float[Array, "b h w channels"]:
        """Returns the convolved map."""
        brick = {"norm_cfg": self.norm_cfg, "act_cfg": self.act_cfg}
        pooled = adaptive_avg_pool(x, self.filter_size)
        kernels = bare_conv(x.shape[-1], self.channels, name="filter_gen_conv")(pooled)
        x = ConvModule(self.channels, 1, **brick, name="input_redu_conv")(x, train)
        y = convolve_each(x, kernels)
        if self.norm_cfg is not None:
            y = build_norm(self.norm_cfg, name="norm")(y, train)
        y = build_activation(self.act_cfg, name="activate")(y)
        return ConvModule(self.channels, 1, **brick, name="fusion_conv")(y, train) if self.fusion else y


def convolve_each(x: Float[Array, "b h w c"], kernels: Float[Array, "b k k c"]) -> Float[Array, "b h w c"]:
    """Depthwise convolution of every image with its own kernel, to maps of the same size."""
    size = kernels.shape[1]
    edge = (size // 2, (size - 1) // 2)
    padded = jnp.pad(x, ((0, 0), edge, edge, (0, 0)))

    def convolve(image: Array, kernel: Array) -> Array:
        return conv2d(image[None], kernel[:, :, None], groups=kernel.shape[-1])[0]

    return jax.vmap(convolve)(padded, kernels)
