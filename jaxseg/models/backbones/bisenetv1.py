"""BiSeNetV1, the bilateral network."""

from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxseg.errors import ConfigError
from jaxseg.models.backbones.inner import inner_backbone, inner_frozen_parameters
from jaxseg.models.layers.attention_refinement import BN, RELU, AttentionRefinement
from jaxseg.models.layers.conv_module import ConvModule
from jaxseg.models.layers.pooling import adaptive_avg_pool
from jaxseg.models.layers.resize import resize


class SpatialPath(nn.Module):
    """Four convolutions that keep an eighth of the resolution.

    Attributes:
        channels: Of the convolutions.
    """

    channels: Sequence[int]

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool = False) -> Float[Array, "b h2 w2 c2"]:
        """Returns a map of stride 8."""
        for i, (size, stride) in enumerate([(7, 2), (3, 2), (3, 2), (1, 1)]):
            block = ConvModule(
                self.channels[i], size, stride, size // 2, norm_cfg=BN, act_cfg=RELU, name=f"layer{i + 1}"
            )
            x = block(x, train)
        return x


class ContextPath(nn.Module):
    """A classifier's backbone, whose two deepest maps are refined and enlarged.

    Attributes:
        backbone_cfg: The backbone, of four stages.
        channels: Of the outputs.
    """

    backbone_cfg: Mapping
    channels: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], train: bool = False
    ) -> tuple[Float[Array, "b h8 w8 channels"], Float[Array, "b h16 w16 channels"]]:
        """Returns the enlarged maps, of strides 8 and 16."""
        _, x8, x16, x32 = inner_backbone(self.backbone_cfg, "backbone")(x, train)
        # The first of the reference's sequence is the pooling.
        context = self.conv(1, "gap_conv_1")(adaptive_avg_pool(x32, 1), train)
        y32 = AttentionRefinement(self.channels, name="arm32")(x32, train) + context
        y32 = self.conv(3, "conv_head32")(resize(y32, x16.shape[1:3], mode="nearest"), train)
        y16 = AttentionRefinement(self.channels, name="arm16")(x16, train) + y32
        y16 = self.conv(3, "conv_head16")(resize(y16, x8.shape[1:3], mode="nearest"), train)
        return y16, y32

    def conv(self, size: int, name: str) -> ConvModule:
        """A convolution with norm and activation."""
        return ConvModule(self.channels, size, padding=size // 2, norm_cfg=BN, act_cfg=RELU, name=name)


class FeatureFusion(nn.Module):
    """Joins two maps, and adds the result to itself as the image as a whole reweighs it.

    Attributes:
        channels: Of the output.
    """

    channels: int

    @nn.compact
    def __call__(
        self, spatial: Float[Array, "b h w c"], context: Float[Array, "b h w c2"], train: bool = False
    ) -> Float[Array, "b h w channels"]:
        """Applies the module."""
        joined = jnp.concatenate([spatial, context], axis=-1)
        x = ConvModule(self.channels, 1, norm_cfg=BN, act_cfg=RELU, name="conv1")(joined, train)
        gate = ConvModule(self.channels, 1, norm_cfg=BN, act_cfg=RELU, name="conv_atten_0")
        return x * jax.nn.sigmoid(gate(adaptive_avg_pool(x, 1), train)) + x


class BiSeNetV1(nn.Module):
    """A path that keeps the details beside one that sees the context (Yu et al. 2018, "BiSeNet").

    Attributes:
        backbone_cfg: The context path's backbone, of four stages and strides 4, 8, 16 and 32.
        in_channels: Channels of the image.
        spatial_channels: Of the spatial path's four convolutions.
        context_channels: Of the context path; its inner backbone's last two maps have as many as the last two here.
        out_indices: Which of the outputs to return.
        align_corners, norm_cfg: Without effect, as in the reference: the maps are enlarged without interpolation, and
            all norms but the inner backbone's are batch norms.
        out_channels: Of the fused map.
    """

    backbone_cfg: Mapping
    in_channels: int = 3
    spatial_channels: Sequence[int] = (64, 64, 64, 128)
    context_channels: Sequence[int] = (128, 256, 512)
    out_indices: Sequence[int] = (0, 1, 2)
    align_corners: bool = False
    out_channels: int = 256
    norm_cfg: Mapping = BN

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool = False) -> tuple[Float[Array, "b _ _ _"], ...]:
        """Returns the fused map of stride 8, and the context path's maps of strides 8 and 16."""
        for name, length in (("spatial_channels", 4), ("context_channels", 3)):
            if len(getattr(self, name)) != length:
                raise ConfigError(f"backbone.{name}={tuple(getattr(self, name))} needs {length} entries")
        context8, context16 = ContextPath(self.backbone_cfg, self.context_channels[0], name="context_path")(x, train)
        spatial = SpatialPath(self.spatial_channels, name="spatial_path")(x, train)
        fused = FeatureFusion(self.out_channels, name="ffm")(spatial, context8, train)
        outputs = (fused, context8, context16)
        return tuple(outputs[i] for i in self.out_indices)

    @nn.nowrap
    def frozen_parameters(self) -> tuple[str, ...]:
        """Prefixes of the parameter paths that are not trained, for the optimizer."""
        return inner_frozen_parameters(self.backbone_cfg, "context_path/backbone/")
