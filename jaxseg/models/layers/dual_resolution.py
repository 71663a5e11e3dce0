"""Residual blocks and pyramids that DDRNet and PIDNet share."""

from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxseg.models.layers.conv import Conv
from jaxseg.models.layers.conv_module import ConvModule
from jaxseg.models.layers.initializers import default_kernel
from jaxseg.models.layers.norm import build_norm
from jaxseg.models.layers.pooling import adaptive_avg_pool, avg_pool
from jaxseg.models.layers.resize import resize

BN = nn.FrozenDict(type="BN")
RELU = nn.FrozenDict(type="ReLU")
PRE_ACTIVATION = ("norm", "act", "conv")


class Block(nn.Module):
    """What the two residual blocks share: fields and the shortcut.

    Attributes:
        channels: Width of the block; it returns `expansion` times as many channels.
        stride: Stride of the block.
        activate: Whether a ReLU ends it.
        norm_cfg: Norms, but for the shortcut's.
        shortcut_norm_cfg: Norm of the shortcut.
        plain_shortcut: Whether the shortcut's convolution and norm are apart in the reference, instead of a ConvModule.
    """

    channels: int
    stride: int = 1
    activate: bool = False
    norm_cfg: Mapping = BN
    shortcut_norm_cfg: Mapping = BN
    plain_shortcut: bool = False

    expansion = 1

    def conv(self, features: int, size: int, name: str, stride: int = 1, relu: bool = True) -> ConvModule:
        """A convolution with norm, and with ReLU or without."""
        act_cfg = RELU if relu else None
        return ConvModule(features, size, stride, size // 2, norm_cfg=self.norm_cfg, act_cfg=act_cfg, name=name)

    def finish(self, x: Array, y: Array, train: bool) -> Array:
        """Adds the input to the block's result, in the shape of that."""
        features = self.channels * self.expansion
        if self.stride != 1 or x.shape[-1] != features:
            if self.plain_shortcut:
                x = Conv(features, 1, self.stride, use_bias=False, kernel_init=default_kernel(), name="downsample_0")(x)
                x = build_norm(self.shortcut_norm_cfg, name="downsample_1")(x, train)
            else:
                x = ConvModule(features, 1, self.stride, norm_cfg=self.shortcut_norm_cfg, name="downsample")(x, train)
        return jax.nn.relu(x + y) if self.activate else x + y


class BasicBlock(Block):
    """Two 3x3 convolutions."""

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool = False) -> Float[Array, "b h2 w2 c2"]:
        """Applies the block."""
        y = self.conv(self.channels, 3, "conv1", self.stride)(x, train)
        y = self.conv(self.channels, 3, "conv2", relu=False)(y, train)
        return self.finish(x, y, train)


class Bottleneck(Block):
    """1x1, 3x3 and 1x1 convolutions, the last with twice the channels."""

    expansion = 2

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool = False) -> Float[Array, "b h2 w2 c2"]:
        """Applies the block."""
        y = self.conv(self.channels, 1, "conv1")(x, train)
        y = self.conv(self.channels, 3, "conv2", self.stride)(y, train)
        y = self.conv(self.channels * self.expansion, 1, "conv3", relu=False)(y, train)
        return self.finish(x, y, train)


def residual_layer(
    x: Float[Array, "b h w c"],
    train: bool,
    name: str,
    block: type[Block],
    channels: int,
    num_blocks: int,
    stride: int = 1,
    first: Mapping | None = None,
    **fields,
) -> Float[Array, "b h2 w2 c2"]:
    """Applies blocks in a row, within a compact method; the last of several has no ReLU at its end.

    Args:
        x: The map.
        train: As everywhere.
        name: The blocks are called NAME_0, NAME_1, ...
        block: Their class; the first has a ReLU at its end if it is the basic one.
        channels: Width of the blocks.
        num_blocks: Number of blocks.
        stride: Of the first block.
        first: Fields of the first block that are others than those of all.
        fields: Of all blocks.
    """
    for i in range(num_blocks):
        own = {"stride": stride, **(first or {})} if i == 0 else {}
        activate = block is BasicBlock if i == 0 else i < num_blocks - 1
        x = block(channels, activate=activate, **(fields | own), name=f"{name}_{i}")(x, train)
    return x


class Pyramid(nn.Module):
    """Pools a map at several scales, down to the mean of all pixels.

    Attributes:
        branch_channels: Of every scale.
        out_channels: Of the result.
        kernel_sizes, strides: Of the poolings between the map itself and the mean; padded by half the kernel.
    """

    branch_channels: int
    out_channels: int
    kernel_sizes: Sequence[int] = (5, 9, 17)
    strides: Sequence[int] = (2, 4, 8)

    def conv(self, features: int, size: int, name: str, groups: int = 1) -> ConvModule:
        """Norm, ReLU and a convolution."""
        return ConvModule(
            features,
            size,
            padding=size // 2,
            groups=groups,
            norm_cfg=BN,
            act_cfg=RELU,
            use_bias=False,
            order=PRE_ACTIVATION,
            name=name,
        )

    def scales(self, x: Float[Array, "b h w c"], train: bool) -> list[Float[Array, "b h w c2"]]:
        """The map, its poolings and its mean, each with fewer channels and at the size of the map."""
        outputs = [self.conv(self.branch_channels, 1, "scales_0")(x, train)]
        pooled = []
        for size, stride in zip(self.kernel_sizes, self.strides, strict=True):
            # Rows, then columns: far fewer terms than a window has pixels.
            rows = avg_pool(x, (size, 1), (stride, 1), (size // 2, 0))
            pooled.append(avg_pool(rows, (1, size), (1, stride), (0, size // 2)))
        for i, y in enumerate((*pooled, adaptive_avg_pool(x, 1)), start=1):
            # The first of the reference's sequence is the pooling.
            y = self.conv(self.branch_channels, 1, f"scales_{i}_1")(y, train)
            outputs.append(resize(y, x.shape[1:3]))
        return outputs

    def finish(self, x: Array, outputs: Sequence[Array], train: bool) -> Array:
        """Joins the scales and adds the map."""
        y = self.conv(self.out_channels, 1, "compression")(jnp.concatenate(outputs, axis=-1), train)
        return y + self.conv(self.out_channels, 1, "shortcut")(x, train)


class DAPPM(Pyramid):
    """Deep aggregation pyramid pooling: every scale is refined with the one before (Hong et al. 2021, "DDRNet")."""

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool = False) -> Float[Array, "b h w out_channels"]:
        """Applies the module."""
        first, *scales = self.scales(x, train)
        outputs = [first]
        for i, scale in enumerate(scales):
            outputs.append(self.conv(self.branch_channels, 3, f"processes_{i}")(scale + outputs[-1], train))
        return self.finish(x, outputs, train)


class PAPPM(Pyramid):
    """Parallel aggregation pyramid pooling: all scales are refined at once (Xu et al. 2023, "PIDNet")."""

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool = False) -> Float[Array, "b h w out_channels"]:
        """Applies the module."""
        first, *scales = self.scales(x, train)
        joined = jnp.concatenate([scale + first for scale in scales], axis=-1)
        joined = self.conv(joined.shape[-1], 3, "processes", groups=len(scales))(joined, train)
        return self.finish(x, [first, joined], train)
