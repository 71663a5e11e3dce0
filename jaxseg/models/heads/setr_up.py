"""SETR heads that enlarge one map: naive and progressive upsampling."""

from collections.abc import Mapping

import flax.linen as nn
from jaxtyping import Array, Float

from jaxseg.models.heads.decode_head import DecodeHead
from jaxseg.models.layers.norm import build_norm
from jaxseg.models.layers.resize import resize


class SETRUPHead(DecodeHead):
    """Convolutions, each followed by a resize (Zheng et al. 2021, "Rethinking Semantic Segmentation").

    Attributes:
        norm_layer: Norm of the map that comes in.
        num_convs: Number of convolutions.
        up_scale: The factor of every resize.
        kernel_size: Of the convolutions, 1 or 3.
    """

    norm_layer: Mapping = nn.FrozenDict(type="LN", eps=1e-6)
    num_convs: int = 1
    up_scale: int = 4
    kernel_size: int = 3

    def decode(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b h2 w2 channels"]:
        """The map is up_scale ** num_convs times as large as the one that comes in."""
        if self.kernel_size not in (1, 3):
            raise self.error("kernel_size", "must be 1 or 3")
        x = build_norm(self.norm_layer, name="norm")(x, train)
        for i in range(self.num_convs):
            # In the reference each convolution is in a sequence with its resize: hence the second 0.
            x = self.conv_module(self.kernel_size, f"up_convs_{i}_0", padding=self.kernel_size // 2)(x, train)
            x = enlarge(x, self.up_scale, self.align_corners)
        return x


def enlarge(x: Float[Array, "b h w c"], factor: int, align_corners: bool) -> Float[Array, "b h2 w2 c"]:
    """Makes a map a whole number of times larger."""
    return resize(x, [factor * length for length in x.shape[1:3]], align_corners=align_corners)
