"""ICNet, the image cascade network."""

from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxseg.models.backbones.inner import inner_backbone, inner_frozen_parameters
from jaxseg.models.layers.conv_module import ConvModule
from jaxseg.models.layers.ppm import PyramidPooling
from jaxseg.models.layers.resize import resize

RELU = nn.FrozenDict(type="ReLU")


class ICNet(nn.Module):
    """Three resolutions, the coarser the deeper (Zhao et al. 2018, "ICNet for Real-Time Semantic Segmentation").

    Attributes:
        backbone_cfg: The ResNet that the halved image goes through; it is halved again after two stages.
        in_channels: Channels of the image.
        layer_channels: Of the ResNet's second and last stage.
        light_branch_middle_channels: Of the convolutions on the image at its full size.
        psp_out_channels: Of the pyramid's levels and its result.
        out_channels: Of the three outputs.
        pool_scales: Cells along each side of the pyramid's grids.
        norm_cfg: Norms, but for the ResNet's.
        act_cfg: Activation of the pyramid.
        align_corners: Of the resizes.
    """

    backbone_cfg: Mapping
    in_channels: int = 3
    layer_channels: Sequence[int] = (512, 2048)
    light_branch_middle_channels: int = 32
    psp_out_channels: int = 512
    out_channels: Sequence[int] = (64, 256, 256)
    pool_scales: Sequence[int] = (1, 2, 3, 6)
    norm_cfg: Mapping | None = nn.FrozenDict(type="BN")
    act_cfg: Mapping | None = RELU
    align_corners: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool = False) -> tuple[Float[Array, "b _ _ _"], ...]:
        """Returns maps of strides 8, 16 and 32 of the image at its full size, half and a quarter of it."""
        middle, fine = self.light_branch_middle_channels, x
        for i, channels in enumerate((middle, middle, self.out_channels[0])):
            fine = self.conv(channels, 3, f"conv_sub1_{i}", stride=2)(fine, train)

        resnet = inner_backbone(self.backbone_cfg, "backbone", out_indices=(1, 3))
        # With `ceil_mode`, so that nothing is lost at the borders.
        half, quarter = resnet(
            self.halve(x), train, between=lambda y, stage: self.halve(y) if stage == 1 else y, ceil_mode=True
        )
        half = self.conv(self.out_channels[1], 1, "conv_sub2")(half, train)

        pyramid = PyramidPooling(
            self.pool_scales,
            self.psp_out_channels,
            self.norm_cfg,
            self.act_cfg,
            self.align_corners,
            name="psp_modules",
        )
        channels = quarter.shape[-1]
        # Here the map itself comes after its pooled versions.
        quarter = jnp.roll(pyramid(quarter, train), -channels, axis=-1)
        quarter = self.conv(self.psp_out_channels, 3, "psp_bottleneck", act_cfg=self.act_cfg)(quarter, train)
        return fine, half, self.conv(self.out_channels[2], 1, "conv_sub4")(quarter, train)

    def conv(self, features: int, size: int, name: str, stride: int = 1, act_cfg: Mapping | None = RELU) -> ConvModule:
        """A convolution with norm and activation."""
        return ConvModule(features, size, stride, size // 2, norm_cfg=self.norm_cfg, act_cfg=act_cfg, name=name)

    def halve(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
        """The map at half its size, rounded down."""
        size = (x.shape[1] // 2, x.shape[2] // 2)
        return resize(x, size, align_corners=self.align_corners, scale=None if self.align_corners else (0.5, 0.5))

    @nn.nowrap
    def frozen_parameters(self) -> tuple[str, ...]:
        """Prefixes of the parameter paths that are not trained, for the optimizer."""
        return inner_frozen_parameters(self.backbone_cfg, "backbone/")
