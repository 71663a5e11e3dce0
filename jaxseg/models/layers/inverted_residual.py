"""Inverted residual blocks: narrow at both ends, wide where the depthwise convolution is."""

from collections.abc import Mapping

import flax.linen as nn
from jaxtyping import Array, Float

from jaxseg.models.layers.conv_module import ConvModule


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
