"""Fast-SCNN, a network of two branches that share their first layers."""

from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax
from jaxtyping import Array, Float

from jaxseg.errors import ConfigError
from jaxseg.models.layers.conv_module import ConvModule, DepthwiseSeparableConvModule
from jaxseg.models.layers.inverted_residual import InvertedResidual
from jaxseg.models.layers.ppm import PyramidPooling
from jaxseg.models.layers.resize import resize

POOL_SCALES = (1, 2, 3, 6)
EXPAND_RATIO = 6
BLOCKS = 3  # of each of the three groups


class LearningToDownsample(nn.Module):
    """Three convolutions of stride 2, the last two separable.

    Attributes:
        channels: Of the three.
        norm_cfg, act_cfg: Of the first; the others end with a ReLU.
        dw_act_cfg: Activation of the depthwise ones, or None; "default": a ReLU.
    """

    channels: Sequence[int]
    norm_cfg: Mapping
    act_cfg: Mapping | None
    dw_act_cfg: Mapping | str | None

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b h2 w2 c2"]:
        """Returns a map of stride 8."""
        first = ConvModule(self.channels[0], 3, 2, 1, norm_cfg=self.norm_cfg, act_cfg=self.act_cfg, name="conv")
        x = first(x, train)
        for i, features in enumerate(self.channels[1:], 1):
            x = DepthwiseSeparableConvModule(
                features,
                stride=2,
                padding=1,
                norm_cfg=self.norm_cfg,
                act_cfg={"type": "ReLU"},
                dw_act_cfg=None if self.dw_act_cfg == "default" else self.dw_act_cfg or {},
                name=f"dsconv{i}",
            )(x, train)
        return x


class GlobalFeatureExtractor(nn.Module):
    """Three groups of inverted residuals, then pyramid pooling.

    Attributes:
        block_channels, strides: Of the groups.
        out_channels: Of the result.
        norm_cfg, act_cfg, align_corners: As in the backbone.
    """

    block_channels: Sequence[int]
    strides: Sequence[int]
    out_channels: int
    norm_cfg: Mapping
    act_cfg: Mapping | None
    align_corners: bool

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b h2 w2 out_channels"]:
        """Returns the map of the last group, joined with its pooled versions."""
        layers = {"norm_cfg": self.norm_cfg, "act_cfg": self.act_cfg}
        for group, (features, stride) in enumerate(zip(self.block_channels, self.strides, strict=True), 1):
            for i in range(BLOCKS):
                name = f"bottleneck{group}_{i}"
                x = InvertedResidual(features, stride if i == 0 else 1, EXPAND_RATIO, name=name, **layers)(x, train)
        pooled = self.block_channels[-1] // 4
        x = PyramidPooling(POOL_SCALES, pooled, **layers, align_corners=self.align_corners, name="ppm")(x, train)
        return ConvModule(self.out_channels, 3, padding=1, **layers, name="out")(x, train)


class FeatureFusion(nn.Module):
    """Adds what was seen of the whole to the details.

    Attributes:
        features: Output channels.
        norm_cfg, act_cfg, align_corners: As in the backbone.
    """

    features: int
    norm_cfg: Mapping
    act_cfg: Mapping | None
    align_corners: bool

    @nn.compact
    def __call__(
        self, fine: Float[Array, "b h w c"], coarse: Float[Array, "b h2 w2 c2"], train: bool
    ) -> Float[Array, "b h w features"]:
        """Returns a map of the size of `fine`."""
        coarse = resize(coarse, fine.shape[1:3], align_corners=self.align_corners)
        depthwise = ConvModule(
            self.features, 3, padding=1, groups=self.features, norm_cfg=self.norm_cfg, act_cfg=self.act_cfg,
            name="dwconv",
        )  # fmt: skip
        coarse = depthwise(coarse, train)
        coarse = ConvModule(self.features, 1, norm_cfg=self.norm_cfg, name="conv_lower_res")(coarse, train)
        fine = ConvModule(self.features, 1, norm_cfg=self.norm_cfg, name="conv_higher_res")(fine, train)
        return jax.nn.relu(fine + coarse)


class FastSCNN(nn.Module):
    """Fast-SCNN (Poudel et al. 2019, "Fast-SCNN: Fast Semantic Segmentation Network").

    Attributes:
        in_channels: Channels of the image.
        downsample_dw_channels: Of the first two of the three convolutions that both branches begin with.
        global_in_channels, higher_in_channels: Of the third one; they are the same.
        global_block_channels, global_block_strides: Of the three groups of blocks of the coarse branch.
        global_out_channels, lower_in_channels: Of that branch's result; they are the same.
        fusion_out_channels: Of the branches' sum.
        out_indices: Which to return of the fine branch (0), the coarse one (1) and their sum (2).
        conv_cfg: Kept for configs that state the plain convolution; anything else is refused.
        norm_cfg, act_cfg: Norm layers and activations.
        align_corners: Of the resizes.
        dw_act_cfg: Activation of the first depthwise convolutions, or None; "default": a ReLU.
    """

    in_channels: int = 3
    downsample_dw_channels: Sequence[int] = (32, 48)
    global_in_channels: int = 64
    global_block_channels: Sequence[int] = (64, 96, 128)
    global_block_strides: Sequence[int] = (2, 2, 1)
    global_out_channels: int = 128
    higher_in_channels: int = 64
    lower_in_channels: int = 128
    fusion_out_channels: int = 128
    out_indices: Sequence[int] = (0, 1, 2)
    conv_cfg: Mapping | None = None
    norm_cfg: Mapping = nn.FrozenDict(type="BN")
    act_cfg: Mapping | None = nn.FrozenDict(type="ReLU")
    align_corners: bool = False
    dw_act_cfg: Mapping | str | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool = False) -> tuple[Float[Array, "b _ _ _"], ...]:
        """Returns the fine branch (stride 8), the coarse one (stride 32) and their sum (stride 8), as selected."""
        self.check()
        channels = (*self.downsample_dw_channels, self.global_in_channels)
        fine = LearningToDownsample(
            channels, self.norm_cfg, self.act_cfg, self.dw_act_cfg, name="learning_to_downsample"
        )(x, train)
        layers = {"norm_cfg": self.norm_cfg, "act_cfg": self.act_cfg, "align_corners": self.align_corners}
        coarse = GlobalFeatureExtractor(
            self.global_block_channels,
            self.global_block_strides,
            self.global_out_channels,
            **layers,
            name="global_feature_extractor",
        )(fine, train)
        fused = FeatureFusion(self.fusion_out_channels, **layers, name="feature_fusion")(fine, coarse, train)
        outputs = (fine, coarse, fused)
        return tuple(outputs[i] for i in self.out_indices)

    def check(self) -> None:
        """Raises ConfigError where the fields don't fit each other."""
        for field, same in (("higher_in_channels", "global_in_channels"), ("lower_in_channels", "global_out_channels")):
            if getattr(self, field) != getattr(self, same):
                raise self.error(field, f"must be {same}={getattr(self, same)}")
        for field, entries in (
            ("downsample_dw_channels", 2), ("global_block_channels", 3), ("global_block_strides", 3),
        ):  # fmt: skip
            if len(getattr(self, field)) != entries:
                raise self.error(field, f"needs {entries} entries")
        if not set(self.out_indices) <= {0, 1, 2}:
            raise self.error("out_indices", "allowed are some of 0, 1, 2")
        if self.conv_cfg is not None and self.conv_cfg.get("type") not in ("Conv2d", "Conv"):
            raise self.error("conv_cfg", "only the plain convolution is supported")

    def error(self, field: str, reason: str) -> ConfigError:
        """A ConfigError about one of this backbone's fields."""
        return ConfigError(f"{self.name or type(self).__name__}.{field}={getattr(self, field)!r}: {reason}")
