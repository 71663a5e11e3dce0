"""ResNet and its variants V1c and V1d."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax
from jaxtyping import Array, Float

from jaxseg.errors import ConfigError
from jaxseg.models.layers.conv import Conv
from jaxseg.models.layers.freezing import FrozenStages
from jaxseg.models.layers.norm import build_norm, norm_name
from jaxseg.models.layers.pooling import avg_pool, max_pool
from jaxseg.models.names import Source


class Block(nn.Module):
    """What the two residual blocks share: fields, named layers and the shortcut.

    Attributes:
        channels: Width of the block; it returns `expansion` times as many channels.
        stride: Stride of the block.
        dilation: Dilation of its (first) 3x3 convolution.
        downsample: Whether the shortcut has a convolution of its own.
        style: Where a bottleneck's stride is: "pytorch" in the 3x3, "caffe" in the first 1x1 convolution.
        avg_down: Whether the shortcut pools before a convolution of stride 1.
        norm_cfg: Norm layers.
        zero_init: Whether the last norm's scale starts at 0, so that the block starts as the identity.
    """

    channels: int
    stride: int
    dilation: int
    downsample: bool
    style: str
    avg_down: bool
    norm_cfg: Mapping
    zero_init: bool

    expansion = 1

    def conv_norm(self, x: Array, train: bool, index: int, features: int, kernel_size: int, **conv) -> Array:
        """Convolution `conv{index}` and the norm that follows it."""
        x = Conv(features, kernel_size, use_bias=False, **conv, name=f"conv{index}")(x)
        last = index == (2 if self.expansion == 1 else 3)
        overrides = {"scale_init": nn.initializers.zeros} if last and self.zero_init else {}
        return build_norm(self.norm_cfg, name=norm_name(self.norm_cfg, index), **overrides)(x, train)

    def shortcut(self, x: Array, train: bool) -> Array:
        """The input in the shape of the output."""
        if not self.downsample:
            return x
        stride, index = self.stride, 0
        if self.avg_down:
            x = avg_pool(x, stride, ceil_mode=True, count_include_pad=False)
            stride, index = 1, 1
        features = self.channels * self.expansion
        x = Conv(features, 1, stride, use_bias=False, name=f"downsample_{index}")(x)
        return build_norm(self.norm_cfg, name=f"downsample_{index + 1}")(x, train)


class BasicBlock(Block):
    """Two 3x3 convolutions: the block of depths 18 and 34."""

    expansion = 1

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool = False) -> Float[Array, "b h2 w2 c2"]:
        """Applies the block."""
        d = self.dilation
        y = self.conv_norm(x, train, 1, self.channels, 3, stride=self.stride, padding=d, dilation=d)
        y = self.conv_norm(jax.nn.relu(y), train, 2, self.channels, 3, padding=1)
        return jax.nn.relu(y + self.shortcut(x, train))


class Bottleneck(Block):
    """1x1, 3x3 and 1x1 convolutions: the block of depths 50 and more."""

    expansion = 4

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool = False) -> Float[Array, "b h2 w2 c2"]:
        """Applies the block."""
        first, second = (1, self.stride) if self.style == "pytorch" else (self.stride, 1)
        y = jax.nn.relu(self.conv_norm(x, train, 1, self.width, 1, stride=first))
        y = self.middle(y, train, second)
        y = self.conv_norm(y, train, 3, self.channels * self.expansion, 1)
        return jax.nn.relu(y + self.shortcut(x, train))

    @property
    def width(self) -> int:
        """Channels between the 1x1 convolutions."""
        return self.channels

    def middle(self, x: Array, train: bool, stride: int) -> Array:
        """What is between the 1x1 convolutions."""
        d = self.dilation
        return jax.nn.relu(self.conv_norm(x, train, 2, self.width, 3, stride=stride, padding=d, dilation=d))


# By depth: the kind of the blocks, and their number in each stage.
Architectures = Mapping[int, tuple[type[Block], tuple[int, ...]]]


class ResNet(FrozenStages, nn.Module):
    """Deep residual network (He et al. 2016, "Deep Residual Learning for Image Recognition").

    `strides` and `dilations` turn the classifier's stride of 32 into the 16 or 8 that segmentation wants.

    Attributes:
        depth: 18, 34, 50, 101 or 152.
        in_channels: Channels of the image.
        stem_channels, base_channels: Channels after the stem, and of the first stage's blocks.
        num_stages: Number of stages, 1 to 4.
        strides, dilations: Of each stage.
        out_indices: Stages whose outputs are returned.
        style: "pytorch" or "caffe", see `Block`.
        deep_stem: Three 3x3 convolutions in the stem instead of one 7x7.
        avg_down: Average pooling in the shortcuts.
        frozen_stages: The stem and this many stages are not trained; -1: everything is.
        norm_cfg: Norm layers.
        norm_eval: Use the running statistics while training, and leave them as they are.
        multi_grid: Dilation of each block of the last stage.
        contract_dilation: Halve the dilation of each dilated stage's first block.
        with_cp: Recompute each block's activations in the backward pass, to save memory.
        zero_init_residual: See `Block.zero_init`.
    """

    depth: int
    in_channels: int = 3
    stem_channels: int = 64
    base_channels: int = 64
    num_stages: int = 4
    strides: Sequence[int] = (1, 2, 2, 2)
    dilations: Sequence[int] = (1, 1, 1, 1)
    out_indices: Sequence[int] = (0, 1, 2, 3)
    style: str = "pytorch"
    deep_stem: bool = False
    avg_down: bool = False
    frozen_stages: int = -1
    norm_cfg: Mapping = nn.FrozenDict(type="BN")
    norm_eval: bool = False
    multi_grid: Sequence[int] | None = None
    contract_dilation: bool = False
    with_cp: bool = False
    zero_init_residual: bool = True

    architectures: ClassVar[Architectures] = {
        18: (BasicBlock, (2, 2, 2, 2)),
        34: (BasicBlock, (3, 4, 6, 3)),
        50: (Bottleneck, (3, 4, 6, 3)),
        101: (Bottleneck, (3, 4, 23, 3)),
        152: (Bottleneck, (3, 8, 36, 3)),
    }
    # torchvision's names are the reference's, and so are those of the weights that the reference starts from.
    sources: ClassVar[Mapping[str, Source]] = {
        "torchvision": Source(ignored=r"^fc\."),
        "mmpretrain": Source(rules=((r"^backbone\.", ""),), ignored=r"^head\."),
    }

    def check(self) -> None:
        """Raises ConfigError where the fields don't fit each other."""
        if self.depth not in self.architectures:
            raise ConfigError(f"backbone.depth={self.depth} is not one of {sorted(self.architectures)}")
        if not 1 <= self.num_stages <= 4:
            raise ConfigError(f"backbone.num_stages={self.num_stages} is not between 1 and 4")
        for name in ("strides", "dilations"):
            if len(getattr(self, name)) != self.num_stages:
                raise ConfigError(
                    f"backbone.{name}={tuple(getattr(self, name))} needs num_stages={self.num_stages} entries"
                )
        if max(self.out_indices) >= self.num_stages:
            raise ConfigError(
                f"backbone.out_indices={tuple(self.out_indices)} names a stage beyond num_stages={self.num_stages}"
            )
        if self.style not in ("pytorch", "caffe"):
            raise ConfigError(f"backbone.style={self.style!r} is not pytorch or caffe")
        last = self.architectures[self.depth][1][self.num_stages - 1]
        if self.multi_grid is not None and len(self.multi_grid) < last:
            raise ConfigError(f"backbone.multi_grid={tuple(self.multi_grid)} needs {last} entries")

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b h w c"],
        train: bool = False,
        between: Callable[[Array, int], Array] | None = None,
        ceil_mode: bool = False,
    ) -> tuple[Float[Array, "b _ _ _"], ...]:
        """Returns the outputs of the stages `out_indices`.

        For backbones around this one: `between(x, stage)` gives what the next stage gets of a stage's output, and
        `ceil_mode` is that of the stem's pooling.

        Their strides are 4 times the running product of `strides`; their channels are `base_channels` times 1, 2,
        4, 8, and times 4 again in bottleneck networks.
        """
        self.check()
        block, stage_blocks = self.architectures[self.depth]
        if self.with_cp:
            block = nn.remat(block, static_argnums=(2,))
        x = self.stem(x, self.trains(train, stage=0), ceil_mode)
        x = self.freeze(x, stage=0)

        outputs, channels = [], self.stem_channels
        for stage in range(self.num_stages):
            stage_train = self.trains(train, stage + 1)
            width = self.base_channels * 2**stage
            for i, dilation in enumerate(self.block_dilations(stage, stage_blocks[stage])):
                stride = self.strides[stage] if i == 0 else 1
                x = block(
                    channels=width,
                    stride=stride,
                    dilation=dilation,
                    downsample=i == 0 and (stride != 1 or channels != width * block.expansion),
                    style=self.style,
                    avg_down=self.avg_down,
                    norm_cfg=self.norm_cfg,
                    name=f"layer{stage + 1}_{i}",
                    **self.block_fields(),
                )(x, stage_train)
                channels = x.shape[-1]
            x = self.freeze(x, stage + 1)
            if stage in self.out_indices:
                outputs.append(x)
            if between is not None:
                x = between(x, stage)
        return tuple(outputs)

    def block_fields(self) -> dict[str, Any]:
        """The fields that all blocks have in common and that depend on the kind of network."""
        return {"zero_init": self.zero_init_residual}

    def stem(self, x: Array, train: bool, ceil_mode: bool = False) -> Array:
        """Brings the image to stride 4."""
        if self.deep_stem:
            half = self.stem_channels // 2
            for i, (features, stride) in enumerate([(half, 2), (half, 1), (self.stem_channels, 1)]):
                # conv, norm and activation are numbered in one sequence
                x = Conv(features, 3, stride, padding=1, use_bias=False, name=f"stem_{3 * i}")(x)
                x = jax.nn.relu(build_norm(self.norm_cfg, name=f"stem_{3 * i + 1}")(x, train))
        else:
            x = Conv(self.stem_channels, 7, 2, padding=3, use_bias=False, name="conv1")(x)
            x = jax.nn.relu(build_norm(self.norm_cfg, name=norm_name(self.norm_cfg, 1))(x, train))
        return max_pool(x, 3, stride=2, padding=1, ceil_mode=ceil_mode)

    def block_dilations(self, stage: int, blocks: int) -> tuple[int, ...]:
        """Dilation of every block of a stage."""
        dilation = self.dilations[stage]
        if self.multi_grid is not None and stage == self.num_stages - 1:
            return tuple(self.multi_grid[:blocks])
        first = dilation // 2 if dilation > 1 and self.contract_dilation else dilation
        return (first, *[dilation] * (blocks - 1))

    def frozen_parameters(self) -> tuple[str, ...]:
        """Prefixes of the parameter paths that are not trained, for the optimizer."""
        if self.frozen_stages < 0:
            return ()
        stem = ("stem_",) if self.deep_stem else ("conv1/", f"{norm_name(self.norm_cfg, 1)}/")
        return (*stem, *(f"layer{stage}_" for stage in range(1, self.frozen_stages + 1)))


class ResNetV1c(ResNet):
    """ResNet with the deep stem (He et al. 2019, "Bag of Tricks for Image Classification")."""

    deep_stem: bool = True


class ResNetV1d(ResNet):
    """ResNetV1c that also pools in its shortcuts (He et al. 2019)."""

    deep_stem: bool = True
    avg_down: bool = True
