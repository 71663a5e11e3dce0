"""The pyramid pooling module that PSPNet and UPerNet share."""

from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxseg.models.layers.conv_module import ConvModule
from jaxseg.models.layers.pooling import adaptive_avg_pool
from jaxseg.models.layers.resize import resize


class PyramidPooling(nn.Module):
    """Pools a map to several grids and brings each back to its size (Zhao et al. 2017, "PSPNet").

    Attributes:
        pool_scales: Cells along each side of the grids.
        channels: Channels that each grid is reduced to.
        norm_cfg, act_cfg, align_corners: As in the head that owns it.
    """

    pool_scales: Sequence[int]
    channels: int
    norm_cfg: Mapping | None
    act_cfg: Mapping | None
    align_corners: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool = False) -> Float[Array, "b h w c2"]:
        """Returns the input followed by every pooled map, concatenated along the channels."""
        outputs = [x]
        for i, scale in enumerate(self.pool_scales):
            pooled = adaptive_avg_pool(x, scale)
            # In the reference each level is a sequence of (pooling, convolution): hence the 1.
            block = ConvModule(self.channels, 1, norm_cfg=self.norm_cfg, act_cfg=self.act_cfg, name=f"{i}_1")
            pooled = block(pooled, train)
            outputs.append(resize(pooled, x.shape[1:3], align_corners=self.align_corners))
        return jnp.concatenate(outputs, axis=-1)
