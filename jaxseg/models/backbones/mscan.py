"""MSCAN, the backbone of SegNeXt."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxseg.errors import ConfigError
from jaxseg.models.layers.activation import build_activation
from jaxseg.models.layers.conv import Conv, pair
from jaxseg.models.layers.drop import Dropout, DropPath
from jaxseg.models.layers.initializers import normal
from jaxseg.models.layers.norm import LayerNorm, build_norm
from jaxseg.models.layers.transformer import drop_path_rates
from jaxseg.models.names import Source

Sizes = Sequence[int | Sequence[int]]
GELU = nn.FrozenDict(type="GELU")


def depthwise(channels: int, kernel_size: int | Sequence[int], padding: int | Sequence[int], name: str) -> Conv:
    """A convolution of every channel by itself; starts as He et al. (2015), by the pixels that an output sees."""
    height, width = pair(kernel_size)
    start = normal((2 / (height * width)) ** 0.5)
    return Conv(channels, kernel_size, padding=padding, groups=channels, kernel_init=start, name=name)


class StripAttention(nn.Module):
    """Weighs a map by what wide windows see: pairs of strips, which stand for one large kernel each.

    Attributes:
        kernel_sizes, paddings: Of a first convolution, and of the first strip of each pair.
    """

    kernel_sizes: Sizes
    paddings: Sizes

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Returns the weighted map."""
        channels = x.shape[-1]
        near = depthwise(channels, self.kernel_sizes[0], self.paddings[0], "conv0")(x)
        weights = near
        for i, (size, padding) in enumerate(zip(self.kernel_sizes[1:], self.paddings[1:], strict=True)):
            far = depthwise(channels, size, padding, f"conv{i}_1")(near)
            weights = weights + depthwise(channels, size[::-1], padding[::-1], f"conv{i}_2")(far)
        return x * Conv(channels, 1, name="conv3")(weights)


class SpatialAttention(nn.Module):
    """The weighing between two pointwise convolutions, beside a shortcut.

    Attributes:
        kernel_sizes, paddings: As in `StripAttention`.
        act_cfg: Activation.
    """

    kernel_sizes: Sizes
    paddings: Sizes
    act_cfg: Mapping

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Applies the layers."""
        channels = x.shape[-1]
        y = build_activation(self.act_cfg)(Conv(channels, 1, name="proj_1")(x))
        y = StripAttention(self.kernel_sizes, self.paddings, name="spatial_gating_unit")(y)
        return x + Conv(channels, 1, name="proj_2")(y)


class MLP(nn.Module):
    """Two pointwise convolutions with a depthwise one in between.

    Attributes:
        width: Channels in between.
        act_cfg: Activation.
        drop_rate: Dropout of both.
    """

    width: int
    act_cfg: Mapping
    drop_rate: float

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool = False) -> Float[Array, "b h w c"]:
        """Applies the layers."""
        channels = x.shape[-1]
        x = depthwise(self.width, 3, 1, "dwconv")(Conv(self.width, 1, name="fc1")(x))
        x = Dropout(self.drop_rate)(build_activation(self.act_cfg)(x), train)
        return Dropout(self.drop_rate)(Conv(channels, 1, name="fc2")(x), train)


class Block(nn.Module):
    """Attention and a feed-forward network, each behind a norm and beside a shortcut.

    Attributes:
        kernel_sizes, paddings: As in `StripAttention`.
        mlp_ratio: Width of the feed-forward network, in channels of the block.
        drop_rate: Dropout of the feed-forward network.
        drop_path_rate: Stochastic depth of both.
        act_cfg, norm_cfg: Activations and norm layers.
    """

    kernel_sizes: Sizes
    paddings: Sizes
    mlp_ratio: float
    drop_rate: float
    drop_path_rate: float
    act_cfg: Mapping
    norm_cfg: Mapping

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool = False) -> Float[Array, "b h w c"]:
        """Applies the block."""
        attention = SpatialAttention(self.kernel_sizes, self.paddings, self.act_cfg, name="attn")
        x = self.add(x, attention(build_norm(self.norm_cfg, name="norm1")(x, train)), train, 1)
        mlp = MLP(int(x.shape[-1] * self.mlp_ratio), self.act_cfg, self.drop_rate, name="mlp")
        return self.add(x, mlp(build_norm(self.norm_cfg, name="norm2")(x, train), train), train, 2)

    def add(self, x: Array, y: Array, train: bool, index: int) -> Array:
        """The sum, where y has a learned factor for every channel that starts small."""
        factor = self.param(f"layer_scale_{index}", nn.initializers.constant(0.01), (x.shape[-1],), jnp.float32)
        return x + DropPath(self.drop_path_rate)(factor.astype(y.dtype) * y, train)


class MSCAN(nn.Module):
    """A pyramid of convolutional attention at several scales (Guo et al. 2022, "SegNeXt").

    Attributes:
        in_channels: Channels of the image.
        embed_dims: Channels of each stage.
        mlp_ratios: Width of each stage's feed-forward networks, in channels of the stage.
        drop_rate: Dropout.
        drop_path_rate: Stochastic depth of the last block; it grows from 0 in the first.
        depths: Blocks of each stage.
        num_stages: Number of stages; all their outputs are returned.
        attention_kernel_sizes, attention_kernel_paddings: Of a first convolution, and of three strips.
        act_cfg, norm_cfg: Activations of the blocks, and all norm layers but those after the stages.
    """

    in_channels: int = 3
    embed_dims: Sequence[int] = (64, 128, 256, 512)
    mlp_ratios: Sequence[float] = (4, 4, 4, 4)
    drop_rate: float = 0.0
    drop_path_rate: float = 0.0
    depths: Sequence[int] = (3, 4, 6, 3)
    num_stages: int = 4
    attention_kernel_sizes: Sizes = (5, (1, 7), (1, 11), (1, 21))
    attention_kernel_paddings: Sizes = (2, (0, 3), (0, 5), (0, 10))
    act_cfg: Mapping = GELU
    norm_cfg: Mapping = nn.FrozenDict(type="SyncBN")

    # The authors' own checkpoints (github.com/Visual-Attention-Network/SegNeXt), and the reference's copies of them.
    sources: ClassVar[Mapping[str, Source]] = {
        "converted": Source(),
        "authors": Source(rules=((r"\.mlp\.dwconv\.dwconv\.", ".mlp.dwconv."),), ignored=r"^head\."),
    }
    dotted_names = (
        (r"^patch_embed1_proj_(\d)$", r"patch_embed1.proj.\1"),
        (r"^(patch_embed\d)_(proj|norm)$", r"\1.\2"),
        (r"^(proj|conv\d)_([12])$", r"\1_\2"),
    )

    def check(self) -> None:
        """Raises ConfigError where the fields don't fit each other."""
        for name in ("embed_dims", "mlp_ratios", "depths"):
            value = tuple(getattr(self, name))
            if len(value) < self.num_stages:
                raise ConfigError(f"backbone.{name}={value} needs num_stages={self.num_stages} entries")
        for name in ("attention_kernel_sizes", "attention_kernel_paddings"):
            value = tuple(getattr(self, name))
            if len(value) != 4:
                raise ConfigError(f"backbone.{name}={value} needs 4 entries: of a convolution and of three strips")

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool = False) -> tuple[Float[Array, "b _ _ _"], ...]:
        """Returns the outputs of all stages, of strides 4, 8, 16 and 32."""
        self.check()
        rates = iter(drop_path_rates(self.drop_path_rate, sum(self.depths)))
        outputs = []
        for stage in range(self.num_stages):
            channels, number = self.embed_dims[stage], stage + 1
            if stage == 0:
                x = self.halve(x, train, channels // 2, "patch_embed1_proj_0", "patch_embed1_proj_1")
                x = build_activation(GELU)(x)
                x = self.halve(x, train, channels, "patch_embed1_proj_3", "patch_embed1_proj_4")
            else:
                x = self.halve(x, train, channels, f"patch_embed{number}_proj", f"patch_embed{number}_norm")
            for i in range(self.depths[stage]):
                x = Block(
                    self.attention_kernel_sizes,
                    self.attention_kernel_paddings,
                    self.mlp_ratios[stage],
                    self.drop_rate,
                    next(rates),
                    self.act_cfg,
                    self.norm_cfg,
                    name=f"block{number}_{i}",
                )(x, train)
            x = LayerNorm(name=f"norm{number}")(x)
            outputs.append(x)
        return tuple(outputs)

    def halve(self, x: Array, train: bool, channels: int, conv: str, norm: str) -> Array:
        """A convolution of stride 2 and a norm, of these names."""
        return build_norm(self.norm_cfg, name=norm)(Conv(channels, 3, 2, padding=1, name=conv)(x), train)
