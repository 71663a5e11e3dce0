"""DeepLabV3 head."""

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxseg.models.heads.decode_head import DecodeHead
from jaxseg.models.layers.pooling import adaptive_avg_pool
from jaxseg.models.layers.resize import resize


class ASPPHead(DecodeHead):
    """Atrous spatial pyramid pooling: convolutions of several dilations, and the image's mean (Chen et al. 2017).

    The paper is "Rethinking Atrous Convolution for Semantic Image Segmentation".

    Attributes:
        dilations: Of the parallel convolutions; 1 is one of a single pixel, others are 3x3.
    """

    dilations: Sequence[int] = (1, 6, 12, 18)

    def check(self) -> None:
        """Raises ConfigError where the fields don't fit each other."""
        super().check()
        if not self.dilations or min(self.dilations) < 1:
            raise self.error("dilations", "must be whole numbers, at least 1")

    def decode(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b h w channels"]:
        """Joins the pyramid's maps."""
        # In the reference this one is a sequence of (pooling, convolution): hence the 1.
        mean = self.conv_module(1, "image_pool_1")(adaptive_avg_pool(x, 1), train)
        maps = [resize(mean, x.shape[1:3], align_corners=self.align_corners)]
        maps += [self.atrous(d, f"aspp_modules_{i}")(x, train) for i, d in enumerate(self.dilations)]
        return self.conv_module(3, "bottleneck", padding=1)(jnp.concatenate(maps, axis=-1), train)

    def atrous(self, dilation: int, name: str) -> nn.Module:
        """The convolution of a dilation."""
        if dilation == 1:
            return self.conv_module(1, name)
        return self.conv_module(3, name, padding=dilation, dilation=dilation)
