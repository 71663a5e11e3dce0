"""BiSeNetV2, the bilateral network with guided aggregation."""

from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxseg.models.layers.conv_module import ConvModule, DepthwiseSeparableConvModule
from jaxseg.models.layers.norm import build_norm
from jaxseg.models.layers.pooling import adaptive_avg_pool, avg_pool, max_pool
from jaxseg.models.layers.resize import resize

BN = nn.FrozenDict(type="BN")
RELU = nn.FrozenDict(type="ReLU")


def conv(features: int, size: int, name: str, stride: int = 1, relu: bool = True, groups: int = 1) -> ConvModule:
    """A convolution with batch norm, and with or without ReLU."""
    act_cfg = RELU if relu else None
    return ConvModule(features, size, stride, size // 2, groups=groups, norm_cfg=BN, act_cfg=act_cfg, name=name)


class DetailBranch(nn.Module):
    """Wide and shallow: every stage halves the map and has two or three convolutions.

    Attributes:
        channels: Of the stages.
    """

    channels: Sequence[int]

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool = False) -> Float[Array, "b h2 w2 c2"]:
        """Returns the last stage's map."""
        for i, channels in enumerate(self.channels):
            for j in range(2 if i == 0 else 3):
                x = conv(channels, 3, f"detail_branch_{i}_{j}", stride=2 if j == 0 else 1)(x, train)
        return x


class Stem(nn.Module):
    """Brings the image to stride 4 in two ways, by convolution and by pooling, and joins them.

    Attributes:
        channels: Of the output.
    """

    channels: int

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool = False) -> Float[Array, "b h2 w2 channels"]:
        """Applies the stem."""
        x = conv(self.channels, 3, "conv_first", stride=2)(x, train)
        left = conv(self.channels // 2, 1, "convs_0")(x, train)
        left = conv(self.channels, 3, "convs_1", stride=2)(left, train)
        right = max_pool(x, 3, stride=2, padding=1)
        return conv(self.channels, 3, "fuse_last")(jnp.concatenate([left, right], axis=-1), train)


class GatherExpansion(nn.Module):
    """A residual block whose inner, depthwise convolutions have many times the channels.

    Attributes:
        channels: Of the output.
        expansion: How many inner channels there are for each of the input's.
        stride: 1; or 2, where the shortcut has convolutions, too.
    """

    channels: int
    expansion: int
    stride: int

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool = False) -> Float[Array, "b h2 w2 channels"]:
        """Applies the block."""
        inputs, shortcut = x.shape[-1], x
        inner = inputs * self.expansion
        y = conv(inputs, 3, "conv1")(x, train)
        y = conv(inner, 3, "dwconv_0", self.stride, relu=self.stride == 1, groups=inputs)(y, train)
        if self.stride != 1:
            y = conv(inner, 3, "dwconv_1", groups=inner)(y, train)
            shortcut = DepthwiseSeparableConvModule(
                self.channels, 3, self.stride, padding=1, norm_cfg=BN, name="shortcut_0"
            )(x, train)
        y = conv(self.channels, 1, "conv2_0", relu=False)(y, train)
        return jax.nn.relu(y + shortcut)


class ContextEmbedding(nn.Module):
    """Adds what the image as a whole has to every pixel."""

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool = False) -> Float[Array, "b h w c"]:
        """Applies the block."""
        channels = x.shape[-1]
        # The first of the reference's sequence is the pooling.
        context = build_norm(BN, name="gap_1")(adaptive_avg_pool(x, 1), train)
        context = conv(channels, 1, "conv_gap")(context, train)
        return conv(channels, 3, "conv_last")(x + context, train)


class SemanticBranch(nn.Module):
    """Narrow and deep.

    Attributes:
        channels: Of the stages.
        expansion: See `GatherExpansion`.
    """

    channels: Sequence[int]
    expansion: int

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool = False) -> list[Float[Array, "b _ _ _"]]:
        """Returns the map of every stage, and the last of them with its context."""
        x = Stem(self.channels[0], name="stage1")(x, train)
        outputs, stages = [x], len(self.channels)
        for i in range(1, stages):
            for j in range(4 if i == stages - 1 else 2):
                block = GatherExpansion(
                    self.channels[i], self.expansion, stride=2 if j == 0 else 1, name=f"stage{i + 1}_{j}"
                )
                x = block(x, train)
            outputs.append(x)
        return [*outputs, ContextEmbedding(name=f"stage{stages}_CEBlock")(x, train)]


class GuidedAggregation(nn.Module):
    """Each branch gates the other, at its own resolution.

    Attributes:
        channels: Of the inputs and the output.
        align_corners: Of the resizes.
    """

    channels: int
    align_corners: bool

    @nn.compact
    def __call__(
        self, detail: Float[Array, "b h w channels"], semantic: Float[Array, "b h2 w2 channels"], train: bool = False
    ) -> Float[Array, "b h w channels"]:
        """Returns a map of the size of `detail`."""
        size = detail.shape[1:3]
        fine = self.separable("detail_dwconv_0")(detail, train)
        gate = conv(self.channels, 3, "semantic_conv_0", relu=False)(semantic, train)
        fine *= jax.nn.sigmoid(resize(gate, size, align_corners=self.align_corners))
        coarse = conv(self.channels, 3, "detail_down_0", stride=2, relu=False)(detail, train)
        coarse = avg_pool(coarse, 3, stride=2, padding=1)
        coarse *= jax.nn.sigmoid(self.separable("semantic_dwconv_0")(semantic, train))
        coarse = resize(coarse, size, align_corners=self.align_corners)
        return conv(self.channels, 3, "conv")(fine + coarse, train)

    def separable(self, name: str) -> DepthwiseSeparableConvModule:
        """A depthwise convolution with norm, and a plain pointwise one."""
        return DepthwiseSeparableConvModule(self.channels, 3, padding=1, norm_cfg=BN, pw_norm_cfg={}, name=name)


class BiSeNetV2(nn.Module):
    """A detail and a semantic branch, aggregated (Yu et al. 2021, "BiSeNet V2").

    Attributes:
        in_channels: Channels of the image.
        detail_channels: Of the detail branch's stages.
        semantic_channels: Of the semantic branch's stages.
        semantic_expansion_ratio: Inner channels of the semantic branch's blocks, for each of their input.
        bga_channels: Of the aggregated map; as many as both branches end with.
        out_indices: Which of the outputs to return.
        align_corners: Of the resizes in the aggregation.
        norm_cfg, act_cfg: Without effect, as in the reference: all is batch norm and ReLU.
    """

    in_channels: int = 3
    detail_channels: Sequence[int] = (64, 64, 128)
    semantic_channels: Sequence[int] = (16, 32, 64, 128)
    semantic_expansion_ratio: int = 6
    bga_channels: int = 128
    out_indices: Sequence[int] = (0, 1, 2, 3, 4)
    align_corners: bool = False
    norm_cfg: Mapping = BN
    act_cfg: Mapping = RELU

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool = False) -> tuple[Float[Array, "b _ _ _"], ...]:
        """Returns the aggregated map of stride 8, and the semantic branch's of strides 4, 8, 16 and 32."""
        detail = DetailBranch(self.detail_channels, name="detail")(x, train)
        *stages, context = SemanticBranch(self.semantic_channels, self.semantic_expansion_ratio, name="semantic")(
            x, train
        )
        fused = GuidedAggregation(self.bga_channels, self.align_corners, name="bga")(detail, context, train)
        outputs = (fused, *stages)
        return tuple(outputs[i] for i in self.out_indices)
