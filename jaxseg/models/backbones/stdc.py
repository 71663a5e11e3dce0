"""STDC, the network of short-term dense concatenation."""

import re
from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxseg.errors import ConfigError
from jaxseg.models.backbones.inner import inner_backbone, inner_frozen_parameters
from jaxseg.models.layers.attention_refinement import BN, RELU, AttentionRefinement
from jaxseg.models.layers.conv_module import ConvModule
from jaxseg.models.layers.pooling import adaptive_avg_pool, avg_pool
from jaxseg.models.layers.resize import resize
from jaxseg.models.names import Source

# Strides of the modules of every stage, after the two convolutions at the start.
STAGE_STRIDES = {
    "STDCNet1": ((2, 1), (2, 1), (2, 1)),
    "STDCNet2": ((2, 1, 1, 1), (2, 1, 1, 1, 1), (2, 1, 1)),
}


def pretrained(stdc_type: str, prefix: str = "") -> dict[str, Source]:
    """The authors' files (github.com/MichaelFan01/STDC-Seg), which count all modules, and the reference's of them.

    Args:
        stdc_type: Of the STDCNet.
        prefix: Its name in the backbone, with a dot.
    """
    strides = STAGE_STRIDES.get(stdc_type, ())
    names = ["0", "1", *(f"{i}.{j}" for i, stage in enumerate(strides, start=2) for j in range(len(stage)))]

    def stage(found: re.Match) -> str:
        return f"stages.{names[int(found[1])]}." if int(found[1]) < len(names) else found[0]

    rules = (
        (r"^features\.(\d+)\.", stage),
        (r"\.conv_list\.", ".layers."),
        (r"\.avd_layer\.0\.", ".downsample.conv."),
        (r"\.avd_layer\.1\.", ".downsample.bn."),
        (r"^(?=stages\.)", prefix),
    )
    # Their classifier, and modules under a second name.
    fields = {"ignored": r"^(conv_last|fc|bn|linear|x\d+)\.", "initial": rf"^backbone\.(?!{re.escape(prefix)}stages)"}
    return {"converted": Source(rules[-1:], **fields), "authors": Source(rules, **fields)}


class DenseConcatenation(nn.Module):
    """Convolutions in a row, each narrower than the one before, whose outputs are joined.

    Attributes:
        channels: Of the output.
        stride: 1 or 2.
        num_convs: Number of convolutions.
        norm_cfg: Norms.
        act_cfg: Activation, but for the first convolution's.
    """

    channels: int
    stride: int
    num_convs: int
    norm_cfg: Mapping | None
    act_cfg: Mapping | None

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool = False) -> Float[Array, "b h2 w2 channels"]:
        """Applies the module."""
        half, norm_cfg = self.channels // 2, self.norm_cfg
        x = ConvModule(half, 1, norm_cfg=norm_cfg, act_cfg=RELU, name="layers_0")(x, train)
        outputs = [x]
        if self.stride == 2:
            outputs = [avg_pool(x, 3, stride=2, padding=1)]
            x = ConvModule(half, 3, 2, padding=1, groups=half, norm_cfg=norm_cfg, name="downsample")(x, train)
        for i in range(1, self.num_convs):
            width = self.channels // 2 ** min(i + 1, self.num_convs - 1)
            x = ConvModule(width, 3, padding=1, norm_cfg=norm_cfg, act_cfg=self.act_cfg, name=f"layers_{i}")(x, train)
            outputs.append(x)
        return jnp.concatenate(outputs, axis=-1)


class STDCNet(nn.Module):
    """A backbone of dense concatenations (Fan et al. 2021, "Rethinking BiSeNet").

    Attributes:
        stdc_type: "STDCNet1", or "STDCNet2", which has more modules.
        in_channels: Channels of the image.
        channels: Of the five stages, the first two of which are a convolution each.
        bottleneck_type: "cat". What the reference has besides, "add", no recipe has.
        norm_cfg, act_cfg: Norms and activation.
        num_convs: Convolutions of a module.
        with_final_conv: Whether one more convolution follows the last stage.
    """

    stdc_type: str
    in_channels: int = 3
    channels: Sequence[int] = (32, 64, 256, 512, 1024)
    bottleneck_type: str = "cat"
    norm_cfg: Mapping | None = BN
    act_cfg: Mapping | None = RELU
    num_convs: int = 4
    with_final_conv: bool = False

    @property
    def sources(self) -> Mapping[str, Source]:
        """See `pretrained`."""
        return pretrained(self.stdc_type)

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool = False) -> tuple[Float[Array, "b _ _ _"], ...]:
        """Returns the maps of the last three stages, of strides 8, 16 and 32."""
        self.check()
        fields = {"norm_cfg": self.norm_cfg, "act_cfg": self.act_cfg}
        for i, channels in enumerate(self.channels[:2]):
            x = ConvModule(channels, 3, 2, padding=1, **fields, name=f"stages_{i}")(x, train)
        outputs = []
        for i, strides in enumerate(STAGE_STRIDES[self.stdc_type], start=2):
            for j, stride in enumerate(strides):
                block = DenseConcatenation(self.channels[i], stride, self.num_convs, **fields, name=f"stages_{i}_{j}")
                x = block(x, train)
            outputs.append(x)
        if self.with_final_conv:
            outputs[-1] = ConvModule(max(1024, self.channels[-1]), 1, **fields, name="final_conv")(x, train)
        return tuple(outputs)

    def check(self) -> None:
        """Raises ConfigError where the fields don't fit each other."""
        if self.stdc_type not in STAGE_STRIDES:
            raise ConfigError(f"backbone.stdc_type={self.stdc_type!r} is not one of {sorted(STAGE_STRIDES)}")
        if self.bottleneck_type != "cat":
            raise ConfigError(f"backbone.bottleneck_type={self.bottleneck_type!r}: only 'cat' is supported")
        if len(self.channels) != 5:
            raise ConfigError(f"backbone.channels={tuple(self.channels)} needs 5 entries")
        if self.num_convs < 2:
            raise ConfigError(f"backbone.num_convs={self.num_convs} must be at least 2")


class FeatureFusion(nn.Module):
    """Joins two maps, and adds the result to itself as the image as a whole reweighs it.

    Attributes:
        out_channels: Of the output.
        scale_factor: How much narrower the hidden layer of the weights is.
        norm_cfg, act_cfg: Norm of the first convolution, and activation.
        in_channels: Of both maps together; nothing depends on it.
    """

    out_channels: int
    scale_factor: int = 4
    norm_cfg: Mapping | None = BN
    act_cfg: Mapping | None = RELU
    in_channels: int | None = None

    @nn.compact
    def __call__(
        self, spatial: Float[Array, "b h w c"], context: Float[Array, "b h w c2"], train: bool = False
    ) -> Float[Array, "b h w out_channels"]:
        """Applies the module."""
        x = jnp.concatenate([spatial, context], axis=-1)
        x = ConvModule(self.out_channels, 1, norm_cfg=self.norm_cfg, act_cfg=self.act_cfg, name="conv0")(x, train)
        # The first of the reference's sequence is the pooling.
        hidden, gate = (
            ConvModule(features, 1, use_bias=False, act_cfg=act_cfg, name=f"attention_{i}")
            for i, features, act_cfg in (
                (1, self.out_channels // self.scale_factor, self.act_cfg),
                (2, self.out_channels, None),
            )
        )
        return x * jax.nn.sigmoid(gate(hidden(adaptive_avg_pool(x, 1), train), train)) + x


class STDCContextPathNet(nn.Module):
    """STDCNet with the context path of BiSeNet (Fan et al. 2021, "Rethinking BiSeNet").

    Attributes:
        backbone_cfg: The STDCNet.
        last_in_channels: Of its last two maps, the last one first; nothing depends on it.
        out_channels: Of the context path.
        ffm_cfg: Fields of `FeatureFusion`.
        upsample_mode, align_corners: Of the resizes.
        norm_cfg: Of the convolutions after them.
    """

    backbone_cfg: Mapping
    last_in_channels: Sequence[int] = (1024, 512)
    out_channels: int = 128
    ffm_cfg: Mapping = nn.FrozenDict(in_channels=512, out_channels=256, scale_factor=4)
    upsample_mode: str = "nearest"
    align_corners: bool | None = None
    norm_cfg: Mapping | None = BN

    @property
    def in_channels(self) -> int:
        """Channels of the image."""
        return self.backbone_cfg.get("in_channels", 3)

    @property
    def sources(self) -> Mapping[str, Source]:
        """See `pretrained`; the context path starts anew."""
        return pretrained(self.backbone_cfg.get("stdc_type"), "backbone.")

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool = False) -> tuple[Float[Array, "b _ _ _"], ...]:
        """Returns STDCNet's map of stride 8, the context path's of strides 16 and 8, and the fused one of stride 8."""
        maps = inner_backbone(self.backbone_cfg, "backbone")(x, train)
        fields = {"norm_cfg": self.norm_cfg, "act_cfg": RELU}
        context = ConvModule(self.out_channels, 1, **fields, name="conv_avg")(adaptive_avg_pool(maps[-1], 1), train)
        context = self.resized(context, maps[-1])
        path = []
        for i in range(len(self.last_in_channels)):
            deep, shallow = maps[-1 - i], maps[-2 - i]
            context = AttentionRefinement(self.out_channels, name=f"arms_{i}")(deep, train) + context
            context = self.resized(context, shallow)
            context = ConvModule(self.out_channels, 3, padding=1, **fields, name=f"convs_{i}")(context, train)
            path.append(context)
        fused = FeatureFusion(**self.ffm_cfg, name="ffm")(maps[0], context, train)
        return maps[0], *path, fused

    def resized(self, x: Float[Array, "b h w c"], to: Float[Array, "b h2 w2 c2"]) -> Float[Array, "b h2 w2 c"]:
        """The map at the size of another."""
        return resize(x, to.shape[1:3], self.upsample_mode, align_corners=bool(self.align_corners))

    @nn.nowrap
    def frozen_parameters(self) -> tuple[str, ...]:
        """Prefixes of the parameter paths that are not trained, for the optimizer."""
        return inner_frozen_parameters(self.backbone_cfg, "backbone/")
