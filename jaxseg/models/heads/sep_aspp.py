"""DeepLabV3+ head."""

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxseg.models.heads.aspp import ASPPHead
from jaxseg.models.layers.conv_module import DepthwiseSeparableConvModule
from jaxseg.models.layers.resize import resize


class DepthwiseSeparableASPPHead(ASPPHead):
    """ASPP of separable convolutions, whose map is refined by details of the first feature map (Chen et al. 2018).

    The paper is "Encoder-Decoder with Atrous Separable Convolution for Semantic Image Segmentation".

    Attributes:
        c1_in_channels: Channels of the first feature map; 0: it is not used.
        c1_channels: Channels that it is reduced to.
    """

    c1_in_channels: int = 0
    c1_channels: int = 0

    def check(self) -> None:
        """Raises ConfigError where the fields don't fit each other."""
        super().check()
        if self.c1_in_channels < 0 or (self.c1_in_channels > 0) != (self.c1_channels > 0):
            raise self.error("c1_channels", f"must be above 0 where c1_in_channels={self.c1_in_channels} is, else 0")

    def select(self, features: Sequence[Array]) -> list[Array]:
        """The map that the pyramid is built on, and the first one if it is used."""
        x = super().select(features)
        if not self.c1_in_channels:
            return [x]
        if features[0].shape[-1] != self.c1_in_channels:
            raise self.error("c1_in_channels", f"the first map has {features[0].shape[-1]} channels")
        return [x, features[0]]

    def decode(self, x: list[Float[Array, "b _ _ _"]], train: bool) -> Float[Array, "b h w channels"]:
        """Refines the pyramid's map; the result has the size of the first feature map if that is used."""
        y = super().decode(x[0], train)
        if self.c1_in_channels:
            details = self.conv_module(1, "c1_bottleneck", self.c1_channels)(x[1], train)
            y = resize(y, details.shape[1:3], align_corners=self.align_corners)
            y = jnp.concatenate([y, details], axis=-1)
        for i in range(2):
            y = self.separable(f"sep_bottleneck_{i}", padding=1)(y, train)
        return y

    def atrous(self, dilation: int, name: str) -> nn.Module:
        """The convolution of a dilation: separable, but for that of a single pixel."""
        if dilation == 1:
            return super().atrous(dilation, name)
        return self.separable(name, padding=dilation, dilation=dilation)

    def separable(self, name: str, **conv: int) -> DepthwiseSeparableConvModule:
        """A 3x3 separable convolution of this head's width."""
        return DepthwiseSeparableConvModule(
            self.channels, 3, norm_cfg=self.norm_cfg, act_cfg=self.act_cfg, name=name, **conv
        )
