"""Inverted residual blocks: narrow at both ends, wide where the depthwise convolution is."""

from collections.abc import Mapping

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxseg.models.layers.conv_module import ConvModule
from jaxseg.models.layers.norm import at_least_float32


def make_divisible(value: float, divisor: int = 8) -> int:
    """The multiple of `divisor` nearest to `value`, or the next one where that is less than 0.9 of it."""
    nearest = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return nearest + divisor if nearest < 0.9 * value else nearest


class InvertedResidual(nn.Module):
    """The block of MobileNetV2 (Sandler et al. 2018): widen, convolve depthwise, narrow without an activation.

    Adds its input where stride and channels allow it.

    Attributes:
        features: Output channels.
        stride, dilation: Of the depthwise convolution.
        expand_ratio: How many times wider the middle is; with 1 there is no widening convolution.
        norm_cfg, act_cfg: Of the convolutions.
    """

    features: int
    stride: int
    expand_ratio: float
    dilation: int = 1
    norm_cfg: Mapping | None = nn.FrozenDict(type="BN")
    act_cfg: Mapping | None = nn.FrozenDict(type="ReLU6")

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool = False) -> Float[Array, "b h2 w2 features"]:
        """Applies the block."""
        width = round(x.shape[-1] * self.expand_ratio)
        depthwise = {"stride": self.stride, "padding": self.dilation, "dilation": self.dilation, "groups": width}
        layers = [(width, 1, {})] if self.expand_ratio != 1 else []
        layers += [(width, 3, depthwise), (self.features, 1, {})]
        y = x
        for i, (features, kernel_size, conv) in enumerate(layers):
            act_cfg = None if i == len(layers) - 1 else self.act_cfg
            block = ConvModule(features, kernel_size, norm_cfg=self.norm_cfg, act_cfg=act_cfg, name=f"conv_{i}", **conv)
            y = block(y, train)
        return x + y if self.stride == 1 and x.shape[-1] == self.features else y


class SqueezeExcitation(nn.Module):
    """Reweighs channels by the mean of the image (Hu et al. 2018), with a gate as MobileNetV3 has it.

    Attributes:
        ratio: How much the hidden layer is narrower.
    """

    ratio: int = 16

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Returns the reweighed features."""
        channels = x.shape[-1]
        gate = jnp.mean(x.astype(at_least_float32(x.dtype)), axis=(1, 2), keepdims=True).astype(x.dtype)
        hidden = make_divisible(channels // self.ratio)
        gate = ConvModule(hidden, 1, act_cfg={"type": "ReLU"}, name="conv1")(gate)
        return x * ConvModule(channels, 1, act_cfg={"type": "HSigmoid"}, name="conv2")(gate)


class InvertedResidualV3(nn.Module):
    """The block of MobileNetV3 (Howard et al. 2019): an inverted residual with any kernel, and channels reweighed.

    Attributes:
        features: Output channels.
        width: Channels of the middle; where the input has as many, there is no widening convolution.
        kernel_size, stride, dilation: Of the depthwise convolution.
        shortcut: Whether the input is added, where it has as many channels.
        reweigh: Whether channels are reweighed.
        norm_cfg, act_cfg: Of the convolutions.
    """

    features: int
    width: int
    kernel_size: int
    stride: int
    dilation: int
    shortcut: bool
    reweigh: bool
    norm_cfg: Mapping | None
    act_cfg: Mapping | None

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool = False) -> Float[Array, "b h2 w2 features"]:
        """Applies the block."""
        y = x
        if x.shape[-1] != self.width:
            block = ConvModule(self.width, 1, norm_cfg=self.norm_cfg, act_cfg=self.act_cfg, name="expand_conv")
            y = block(y, train)
        depthwise = ConvModule(
            self.width,
            self.kernel_size,
            self.stride,
            dilation=self.dilation,
            groups=self.width,
            norm_cfg=self.norm_cfg,
            act_cfg=self.act_cfg,
            name="depthwise_conv",
        )
        y = depthwise(same_padding(y, self.kernel_size, self.stride, self.dilation), train)
        if self.reweigh:
            y = SqueezeExcitation(4, name="se")(y)
        y = ConvModule(self.features, 1, norm_cfg=self.norm_cfg, name="linear_conv")(y, train)
        return x + y if self.shortcut and x.shape[-1] == self.features else y


def same_padding(x: Float[Array, "b h w c"], kernel_size: int, stride: int, dilation: int = 1) -> Array:
    """Pads with zeros so that a convolution returns ceil(size / stride); an odd one goes to the bottom and right."""
    pads = []
    for length in x.shape[1:3]:
        total = max((-(-length // stride) - 1) * stride + (kernel_size - 1) * dilation + 1 - length, 0)
        pads.append((total // 2, total - total // 2))
    return jnp.pad(x, ((0, 0), *pads, (0, 0)))
