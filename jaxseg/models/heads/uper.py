"""UPerNet head."""

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxseg.models.heads.decode_head import DecodeHead
from jaxseg.models.layers.ppm import PyramidPooling
from jaxseg.models.layers.resize import resize


class UPerHead(DecodeHead):
    """A feature pyramid whose top is pooled as in PSPNet (Xiao et al. 2018, "Unified Perceptual Parsing").

    Attributes:
        pool_scales: Cells along each side of the grids that the top map is pooled to.
    """

    input_transform: str | None = "multiple_select"
    pool_scales: Sequence[int] = (1, 2, 3, 6)

    def decode(self, x: list[Float[Array, "b _ _ _"]], train: bool) -> Float[Array, "b h w channels"]:
        """Merges the maps, finest first, from the top down; the result has the size of the finest."""
        pyramid = PyramidPooling(
            self.pool_scales, self.channels, self.norm_cfg, self.act_cfg, self.align_corners, name="psp_modules"
        )
        top = self.conv_module(3, "bottleneck", padding=1)(pyramid(x[-1], train), train)
        levels = [self.conv_module(1, f"lateral_convs_{i}")(level, train) for i, level in enumerate(x[:-1])]
        levels.append(top)
        for i in range(len(levels) - 1, 0, -1):
            levels[i - 1] += resize(levels[i], levels[i - 1].shape[1:3], align_corners=self.align_corners)

        outputs = [
            self.conv_module(3, f"fpn_convs_{i}", padding=1)(level, train) for i, level in enumerate(levels[:-1])
        ]
        outputs.append(levels[-1])
        size = outputs[0].shape[1:3]
        outputs = [resize(output, size, align_corners=self.align_corners) for output in outputs]
        return self.conv_module(3, "fpn_bottleneck", padding=1)(jnp.concatenate(outputs, axis=-1), train)
