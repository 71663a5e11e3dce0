"""CGNet, the context guided network."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxseg.models.layers.activation import PReLU
from jaxseg.models.layers.conv import Conv
from jaxseg.models.layers.conv_module import ConvModule
from jaxseg.models.layers.initializers import kaiming_normal
from jaxseg.models.layers.norm import at_least_float32, build_norm
from jaxseg.models.layers.pooling import avg_pool
from jaxseg.models.names import Source

# The authors' own checkpoints (github.com/wutianyiRosun/CGNet): three levels, the first of which is the stem here,
# and the first block of the others counted apart. Their classifier has no bias.
AUTHORS = Source(
    rules=(
        (r"^classifier\.0\.conv", "decode_head.conv_seg"),
        (r"^level1_(\d)", r"backbone.stem.\1"),
        (r"^level([23])_0", lambda found: f"backbone.level{int(found[1]) - 1}.0"),
        (r"^level([23])\.(\d+)", lambda found: f"backbone.level{int(found[1]) - 1}.{int(found[2]) + 1}"),
        (r"^(?:b|bn_prelu_)([123])\.", lambda found: f"backbone.norm_prelu_{int(found[1]) - 1}."),
        (r"(norm_prelu_\d)\.bn", r"\1.0"),
        (r"(norm_prelu_\d)\.act", r"\1.1"),
        (r"\.bn_prelu\.", "."),
        (r"\.act\.", ".activate."),
        (r"\.reduce\.conv\.", ".bottleneck."),
        (r"\.F_(loc|sur)\.conv\.", r".f_\1."),
        (r"\.F_glo\.", ".f_glo."),
    ),
    zeros=("decode_head.conv_seg.bias",),
    whole=True,
)


class GlobalContext(nn.Module):
    """Reweighs channels by the image as a whole: pooling, two dense layers, a gate in 0..1."""

    reduction: int

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Returns the reweighed features."""
        channels = x.shape[-1]
        gate = jnp.mean(x.astype(at_least_float32(x.dtype)), axis=(1, 2)).astype(x.dtype)
        gate = nn.Dense(channels // self.reduction, dtype=x.dtype, kernel_init=kaiming_normal(), name="fc_0")(gate)
        gate = nn.Dense(channels, dtype=x.dtype, kernel_init=kaiming_normal(), name="fc_2")(jax.nn.relu(gate))
        return x * jax.nn.sigmoid(gate)[:, None, None]


class ContextGuidedBlock(nn.Module):
    """Joins what a pixel sees nearby and further around, then reweighs it by the global context.

    Attributes:
        features: Output channels.
        dilation: Dilation of the convolution that looks further around.
        reduction: How much the global context's hidden layer is narrower.
        downsample: Whether the block halves the size; otherwise it adds its input.
        norm_cfg: Norm layers.
        act_cfg: Activation of the first convolution.
    """

    features: int
    dilation: int
    reduction: int
    downsample: bool
    norm_cfg: Mapping
    act_cfg: Mapping

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool = False) -> Float[Array, "b h2 w2 features"]:
        """Applies the block."""
        channels = self.features if self.downsample else self.features // 2
        size, stride = (3, 2) if self.downsample else (1, 1)
        block = ConvModule(
            channels, size, stride, (size - 1) // 2, norm_cfg=self.norm_cfg, act_cfg=self.act_cfg, name="conv1x1"
        )
        y = block(x, train)
        near = Conv(channels, 3, padding=1, groups=channels, use_bias=False, name="f_loc")(y)
        around = Conv(
            channels, 3, padding=self.dilation, dilation=self.dilation, groups=channels, use_bias=False, name="f_sur"
        )(y)
        y = jnp.concatenate([near, around], axis=-1)
        y = build_norm(self.norm_cfg, name="bn")(y, train)
        y = PReLU(0.0, name="activate")(y)
        if self.downsample:
            y = Conv(self.features, 1, use_bias=False, name="bottleneck")(y)
        y = GlobalContext(self.reduction, name="f_glo")(y)
        return y if self.downsample else x + y


class CGNet(nn.Module):
    """Context guided network (Wu et al. 2018, "CGNet: A Light-weight Context Guided Network").

    Attributes:
        in_channels: Channels of the image.
        num_channels: Channels of the stem and the two stages.
        num_blocks: Blocks of the two stages.
        dilations, reductions: Of the blocks of the two stages.
        norm_cfg: Norm layers.
        act_cfg: Activation of the convolutions.
        norm_eval: Use the running statistics while training, and leave them as they are.
        with_cp: Recompute each block's activations in the backward pass, to save memory.
    """

    in_channels: int = 3
    num_channels: Sequence[int] = (32, 64, 128)
    num_blocks: Sequence[int] = (3, 21)
    dilations: Sequence[int] = (2, 4)
    reductions: Sequence[int] = (8, 16)
    norm_cfg: Mapping = nn.FrozenDict(type="BN")
    act_cfg: Mapping = nn.FrozenDict(type="PReLU")
    norm_eval: bool = False
    with_cp: bool = False

    sources: ClassVar[Mapping[str, Source]] = {"authors": AUTHORS}
    dotted_names: ClassVar[Sequence[tuple[str, str]]] = ((r"^(norm_prelu_\d)_(\d)$", r"\1.\2"),)

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool = False) -> tuple[Float[Array, "b _ _ _"], ...]:
        """Returns three maps of strides 2, 4 and 8, with 35, 131 and 256 channels by default."""
        train = train and not self.norm_eval
        half = avg_pool(x, 3, stride=2, padding=1)
        quarter = avg_pool(half, 3, stride=2, padding=1)

        for i in range(3):
            stride = 2 if i == 0 else 1
            block = ConvModule(
                self.num_channels[0], 3, stride, 1, norm_cfg=self.norm_cfg, act_cfg=self.activation(), name=f"stem_{i}"
            )
            x = block(x, train)
        stem = self.norm_prelu(jnp.concatenate([x, half], axis=-1), train, 0)

        first, last = self.stage(stem, train, 1)
        low = self.norm_prelu(jnp.concatenate([last, first, quarter], axis=-1), train, 1)

        first, last = self.stage(low, train, 2)
        high = self.norm_prelu(jnp.concatenate([first, last], axis=-1), train, 2)
        return stem, low, high

    def activation(self) -> Mapping:
        """`act_cfg`, where every PReLU starts as a ReLU."""
        return {"slope_init": 0.0, **self.act_cfg} if self.act_cfg["type"] == "PReLU" else self.act_cfg

    def stage(self, x: Array, train: bool, level: int) -> tuple[Array, Array]:
        """Outputs of the first (halving) and of the last block of a stage."""
        block = nn.remat(ContextGuidedBlock, static_argnums=(2,)) if self.with_cp else ContextGuidedBlock
        outputs = []
        for i in range(self.num_blocks[level - 1]):
            x = block(
                features=self.num_channels[level],
                dilation=self.dilations[level - 1],
                reduction=self.reductions[level - 1],
                downsample=i == 0,
                norm_cfg=self.norm_cfg,
                act_cfg=self.activation(),
                name=f"level{level}_{i}",
            )(x, train)
            outputs.append(x)
        return outputs[0], outputs[-1]

    def norm_prelu(self, x: Array, train: bool, level: int) -> Array:
        """Norm and activation of a level's concatenated maps."""
        x = build_norm(self.norm_cfg, name=f"norm_prelu_{level}_0")(x, train)
        return PReLU(0.0, name=f"norm_prelu_{level}_1")(x)
