"""PSPNet head."""

from collections.abc import Sequence

from jaxtyping import Array, Float

from jaxseg.models.heads.decode_head import DecodeHead
from jaxseg.models.layers.ppm import PyramidPooling


class PSPHead(DecodeHead):
    """Pyramid pooling (Zhao et al. 2017, "Pyramid Scene Parsing Network").

    Attributes:
        pool_scales: Cells along each side of the pooled grids.
    """

    pool_scales: Sequence[int] = (1, 2, 3, 6)

    def decode(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b h w channels"]:
        """Joins the map with its pooled versions."""
        pyramid = PyramidPooling(
            self.pool_scales, self.channels, self.norm_cfg, self.act_cfg, self.align_corners, name="psp_modules"
        )
        return self.conv_module(3, "bottleneck", padding=1)(pyramid(x, train), train)
