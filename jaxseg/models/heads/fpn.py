"""Semantic FPN head."""

import math
from collections.abc import Sequence

from jaxtyping import Array, Float

from jaxseg.models.heads.decode_head import DecodeHead
from jaxseg.models.layers.resize import resize


class FPNHead(DecodeHead):
    """Brings the maps of a pyramid to the size of the finest, step by step, and adds them (Kirillov et al. 2019).

    The paper is "Panoptic Feature Pyramid Networks".

    Attributes:
        feature_strides: Strides of the maps, powers of two; the first is the smallest.
    """

    feature_strides: Sequence[int] = (4, 8, 16, 32)
    input_transform: str | None = "multiple_select"

    def check(self) -> None:
        """Raises ConfigError where the fields don't fit each other."""
        super().check()
        if len(self.feature_strides) != len(self.in_channels):
            raise self.error("feature_strides", f"needs as many entries as in_channels={tuple(self.in_channels)}")
        if min(self.feature_strides) != self.feature_strides[0]:
            raise self.error("feature_strides", "the first must be the smallest")

    def decode(self, x: list[Float[Array, "b _ _ _"]], train: bool) -> Float[Array, "b h w channels"]:
        """Adds the maps; the result has the size of the finest."""
        total = self.branch(x[0], train, 0)
        for i in range(1, len(x)):
            y = self.branch(x[i], train, i)
            total += resize(y, total.shape[1:3], align_corners=self.align_corners)
        return total

    def branch(self, x: Float[Array, "b h w c"], train: bool, level: int) -> Float[Array, "b h2 w2 channels"]:
        """Convolutions of one map, each followed by a doubling of the size but for the finest map's."""
        finest, stride = self.feature_strides[0], self.feature_strides[level]
        doubles = stride != finest
        for k in range(max(1, int(math.log2(stride / finest)))):
            # In the reference each doubling has a number of its own.
            index = 2 * k if doubles else k
            x = self.conv_module(3, f"scale_heads_{level}_{index}", padding=1)(x, train)
            if doubles:
                x = resize(x, (2 * x.shape[1], 2 * x.shape[2]), align_corners=self.align_corners)
        return x
