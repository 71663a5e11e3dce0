"""MobileNetV3."""

from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax
from jaxtyping import Array, Float

from jaxseg.errors import ConfigError
from jaxseg.models.layers.conv_module import ConvModule
from jaxseg.models.layers.inverted_residual import InvertedResidualV3, same_padding

# Of each block: kernel size, width of the middle, channels, whether channels are reweighed, activation, stride,
# dilation. The strides are those of the classifier; where it is dilated, a block has none, so that the coarsest maps
# are of stride 8.
BLOCKS = {
    "small": (
        (3, 16, 16, True, "ReLU", 2, 1),
        (3, 72, 24, False, "ReLU", 2, 1),
        (3, 88, 24, False, "ReLU", 1, 1),
        (5, 96, 40, True, "HSwish", 2, 2),
        (5, 240, 40, True, "HSwish", 1, 2),
        (5, 240, 40, True, "HSwish", 1, 2),
        (5, 120, 48, True, "HSwish", 1, 2),
        (5, 144, 48, True, "HSwish", 1, 2),
        (5, 288, 96, True, "HSwish", 2, 4),
        (5, 576, 96, True, "HSwish", 1, 4),
        (5, 576, 96, True, "HSwish", 1, 4),
    ),
    "large": (
        (3, 16, 16, False, "ReLU", 1, 1),
        (3, 64, 24, False, "ReLU", 2, 1),
        (3, 72, 24, False, "ReLU", 1, 1),
        (5, 72, 40, True, "ReLU", 2, 1),
        (5, 120, 40, True, "ReLU", 1, 1),
        (5, 120, 40, True, "ReLU", 1, 1),
        (3, 240, 80, False, "HSwish", 2, 2),
        (3, 200, 80, False, "HSwish", 1, 2),
        (3, 184, 80, False, "HSwish", 1, 2),
        (3, 184, 80, False, "HSwish", 1, 2),
        (3, 480, 112, True, "HSwish", 1, 2),
        (3, 672, 112, True, "HSwish", 1, 2),
        (5, 672, 160, True, "HSwish", 2, 4),
        (5, 960, 160, True, "HSwish", 1, 4),
        (5, 960, 160, True, "HSwish", 1, 4),
    ),
}
# Index of the first block that `reduction_factor` narrows, and channels of the last convolution.
REDUCED_FROM = {"small": 8, "large": 12}
LAST_CHANNELS = {"small": 576, "large": 960}


class MobileNetV3(nn.Module):
    """Blocks found by a search, with stride 8 for segmentation (Howard et al. 2019, "Searching for MobileNetV3").

    Attributes:
        arch: "small" or "large".
        in_channels: Channels of the image.
        out_indices: Layers whose outputs are returned: 0 is the stem, then come the blocks and one more convolution.
        frozen_stages: The layers up to this one are not trained; -1: everything is.
        reduction_factor: How many times narrower the last blocks are.
        conv_cfg: Kept for configs that state the plain convolution.
        norm_cfg: Norm layers.
        norm_eval: Use the running statistics while training, and leave them as they are.
        with_cp: Recompute each block's activations in the backward pass, to save memory.
    """

    arch: str = "small"
    in_channels: int = 3
    out_indices: Sequence[int] = (0, 1, 12)
    frozen_stages: int = -1
    reduction_factor: int = 1
    conv_cfg: Mapping | None = None
    norm_cfg: Mapping = nn.FrozenDict(type="BN")
    norm_eval: bool = False
    with_cp: bool = False

    def check(self) -> None:
        """Raises ConfigError where the fields don't fit each other."""
        if self.arch not in BLOCKS:
            raise ConfigError(f"backbone.arch={self.arch!r} is not one of {', '.join(BLOCKS)}")
        last = len(BLOCKS[self.arch]) + 1
        if not set(self.out_indices) <= set(range(last + 1)):
            raise ConfigError(f"backbone.out_indices={tuple(self.out_indices)}: there are layers 0 to {last}")
        if not -1 <= self.frozen_stages <= last:
            raise ConfigError(f"backbone.frozen_stages={self.frozen_stages} is not between -1 and {last}")
        if self.reduction_factor < 1:
            raise ConfigError(f"backbone.reduction_factor={self.reduction_factor} is not positive")
        if self.conv_cfg is not None and self.conv_cfg.get("type") not in ("Conv2d", "Conv"):
            raise ConfigError(f"backbone.conv_cfg={self.conv_cfg!r}: only the plain convolution is supported")

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool = False) -> tuple[Float[Array, "b _ _ _"], ...]:
        """Returns the outputs of the layers `out_indices`, the last of stride 8."""
        self.check()
        outputs = []
        for layer in range(len(BLOCKS[self.arch]) + 2):
            x = self.layer(x, layer, train and not self.norm_eval and layer > self.frozen_stages)
            if layer <= self.frozen_stages:
                x = jax.lax.stop_gradient(x)
            if layer in self.out_indices:
                outputs.append(x)
        return tuple(outputs)

    def layer(self, x: Array, index: int, train: bool) -> Array:
        """The stem, a block, or the last convolution."""
        name, act_cfg, blocks = f"layer{index}", {"type": "HSwish"}, BLOCKS[self.arch]
        if index == 0:
            stem = ConvModule(16, 3, 2, norm_cfg=self.norm_cfg, act_cfg=act_cfg, name=name)
            return stem(same_padding(x, 3, 2), train)
        if index > len(blocks):
            last = ConvModule(LAST_CHANNELS[self.arch], 1, norm_cfg=self.norm_cfg, act_cfg=act_cfg, name=name)
            return last(x, train)
        kernel_size, width, features, reweigh, activation, stride, dilation = blocks[index - 1]
        narrower = self.reduction_factor if index > REDUCED_FROM[self.arch] else 1
        block = nn.remat(InvertedResidualV3, static_argnums=(2,)) if self.with_cp else InvertedResidualV3
        block = block(
            features=features // narrower,
            width=width // narrower,
            kernel_size=kernel_size,
            stride=stride if dilation == 1 else 1,
            dilation=dilation,
            shortcut=stride == 1,
            reweigh=reweigh,
            norm_cfg=self.norm_cfg,
            act_cfg={"type": activation},
            name=name,
        )
        return block(x, train)

    def frozen_parameters(self) -> tuple[str, ...]:
        """Prefixes of the parameter paths that are not trained, for the optimizer."""
        return tuple(f"layer{index}/" for index in range(self.frozen_stages + 1))
