"""SegFormer head."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxseg.models.heads.decode_head import DecodeHead
from jaxseg.models.layers.conv_module import ConvModule
from jaxseg.models.layers.resize import resize


class SegformerHead(DecodeHead):
    """All maps, brought to one width and the size of the finest, and mixed (Xie et al. 2021, "SegFormer").

    Attributes:
        interpolate_mode: How the maps are resized.
    """

    input_transform: str | None = "multiple_select"
    interpolate_mode: str = "bilinear"

    def decode(self, x: list[Float[Array, "b _ _ _"]], train: bool) -> Float[Array, "b h w channels"]:
        """Merges the maps."""
        size = x[0].shape[1:3]
        maps = [
            resize(
                self.conv_module(1, f"convs_{i}")(level, train),
                size,
                mode=self.interpolate_mode,
                align_corners=self.align_corners,
            )
            for i, level in enumerate(x)
        ]
        # Whatever the head's activation is, the reference has a ReLU here.
        fusion = ConvModule(self.channels, 1, norm_cfg=self.norm_cfg, act_cfg={"type": "ReLU"}, name="fusion_conv")
        return fusion(jnp.concatenate(maps, axis=-1), train)
