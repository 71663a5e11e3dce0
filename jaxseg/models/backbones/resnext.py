"""ResNeXt."""

from typing import Any, ClassVar

import jax
from jaxtyping import Array

from jaxseg.models.backbones.resnet import Architectures, Bottleneck, ResNet


class GroupedBottleneck(Bottleneck):
    """A bottleneck whose 3x3 convolution is grouped.

    Attributes:
        groups: Number of groups.
        base_width: Channels of a group where the block is `base_channels` wide.
        base_channels: Of the network.
    """

    groups: int = 1
    base_width: int = 4
    base_channels: int = 64

    @property
    def width(self) -> int:
        """Channels between the 1x1 convolutions."""
        if self.groups == 1:
            return self.channels
        return int(self.channels * (self.base_width / self.base_channels)) * self.groups

    def middle(self, x: Array, train: bool, stride: int) -> Array:
        """The grouped convolution."""
        d = self.dilation
        conv = {"stride": stride, "padding": d, "dilation": d, "groups": self.groups}
        return jax.nn.relu(self.conv_norm(x, train, 2, self.width, 3, **conv))


class ResNeXt(ResNet):
    """ResNet with grouped convolutions (Xie et al. 2017, "Aggregated Residual Transformations").

    Attributes:
        groups, base_width: Number of groups, and how wide one is in the first stage.
        zero_init_residual: Kept for configs that state it; the reference starts these blocks without it.
    """

    groups: int = 1
    base_width: int = 4

    architectures: ClassVar[Architectures] = {
        50: (GroupedBottleneck, (3, 4, 6, 3)),
        101: (GroupedBottleneck, (3, 4, 23, 3)),
        152: (GroupedBottleneck, (3, 8, 36, 3)),
    }

    def block_fields(self) -> dict[str, Any]:
        """The fields that all blocks have in common and that depend on the kind of network."""
        return {
            "zero_init": False,
            "groups": self.groups,
            "base_width": self.base_width,
            "base_channels": self.base_channels,
        }
