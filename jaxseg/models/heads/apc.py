"""APCNet head."""

from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxseg.models.heads.decode_head import DecodeHead
from jaxseg.models.layers.attention import flatten_pixels
from jaxseg.models.layers.conv import bare_conv
from jaxseg.models.layers.conv_module import ConvModule
from jaxseg.models.layers.pooling import adaptive_avg_pool


class APCHead(DecodeHead):
    """Adaptive context of several grids (He et al. 2019, "Adaptive Pyramid Context Network").

    Attributes:
        pool_scales: Cells along each side of the grids.
        fusion: As in `AdaptiveContext`.
    """

    pool_scales: Sequence[int] = (1, 2, 3, 6)
    fusion: bool = True

    def decode(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b h w channels"]:
        """Joins the map with the context of every grid."""
        outputs = [x]
        for i, scale in enumerate(self.pool_scales):
            context = AdaptiveContext(
                scale, self.channels, self.fusion, self.norm_cfg, self.act_cfg, name=f"acm_modules_{i}"
            )
            outputs.append(context(x, train))
        return self.conv_module(3, "bottleneck", padding=1)(jnp.concatenate(outputs, axis=-1), train)


class AdaptiveContext(nn.Module):
    """Pools a map to a grid, and gives every pixel the cells in shares of its own.

    The shares follow from the pixel and the mean of the image; each is between 0 and 1, whatever the others are.

    Attributes:
        pool_scale: Cells along each side of the grid.
        channels: Of the result.
        fusion: Whether one more convolution follows.
        norm_cfg, act_cfg: As in the head that owns it.
    """

    pool_scale: int
    channels: int
    fusion: bool
    norm_cfg: Mapping | None
    act_cfg: Mapping | None

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool = False) -> Float[Array, "b h w channels"]:
        """Returns the reduced map with its context."""

        def project(x: Array, name: str) -> Array:
            return ConvModule(self.channels, 1, norm_cfg=self.norm_cfg, act_cfg=self.act_cfg, name=name)(x, train)

        cells = project(adaptive_avg_pool(x, self.pool_scale), "pooled_redu_conv")
        x = project(x, "input_redu_conv")
        whole = project(adaptive_avg_pool(x, 1), "global_info")
        shares = jax.nn.sigmoid(bare_conv(self.channels, self.pool_scale**2, name="gla")(x + whole))
        context = jnp.einsum("bhwn,bnc->bhwc", shares, flatten_pixels(cells))
        x = jax.nn.relu(project(context, "residual_conv") + x)
        return project(x, "fusion_conv") if self.fusion else x
