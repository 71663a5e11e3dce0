"""Swin Transformer."""

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxseg.errors import ConfigError
from jaxseg.models.layers.attention import attend_heads
from jaxseg.models.layers.conv import pair, shifted_windows
from jaxseg.models.layers.drop import Dropout, DropPath
from jaxseg.models.layers.freezing import FrozenStages
from jaxseg.models.layers.initializers import trunc_normal
from jaxseg.models.layers.norm import build_norm
from jaxseg.models.layers.resize import resize
from jaxseg.models.layers.transformer import (
    FFN,
    Linear,
    PatchEmbed,
    drop_path_rates,
    pad_to_patches,
    resize_positions,
)
from jaxseg.models.layers.windows import from_windows, to_windows
from jaxseg.models.names import Source

APART = -100.0  # added to the product of two tokens that the shift brought into one window


def regions(height: int, width: int, size: int, shift: int) -> np.ndarray:
    """[windows, n] numbers of a rolled map's tokens: in one window, those that were neighbours have the same."""
    rows, columns = (np.searchsorted([-size, -shift], np.arange(-n, 0), side="right") for n in (height, width))
    numbers = (3 * rows[:, None] + columns).reshape(height // size, size, width // size, size)
    return numbers.swapaxes(1, 2).reshape(-1, size * size)


def relative_positions(table: Float[Array, "m h"], size: int) -> Float[Array, "h n n"]:
    """What a table says of every two tokens of a window, by how far the first is below and to the right of the second.

    The table is square: 2 size - 1 rows of as many entries, from the farthest above and to the left on.
    """
    span = 2 * size - 1
    y = table.T.reshape(-1, span, span)
    y = _by_difference(y.swapaxes(1, 2), size)  # [h, columns' difference, row, row]
    y = _by_difference(jnp.moveaxis(y, 1, 3), size)  # [h, row, row, column, column]
    return y.swapaxes(2, 3).reshape(-1, size * size, size * size)


def _by_difference(x: Float[Array, "*a span"], size: int) -> Float[Array, "*a size size"]:
    """[..., i, j] is x[..., size - 1 + i - j]; by copies, one after the other, which each row meets one place later."""
    span = 2 * size - 1
    padded = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, 1)])
    copies = jnp.broadcast_to(padded[..., None, :], (*x.shape[:-1], size, span + 1)).reshape(*x.shape[:-1], -1)
    late = copies[..., : size * span].reshape(*x.shape[:-1], size, span)
    return late[..., size - 1 :].swapaxes(-1, -2)


def in_merging_order(name: str, array: np.ndarray) -> np.ndarray:
    """What belongs to merged tokens, of the authors' files, where the four tokens' channels are one after the other.

    Column by column there, row by row here; and here the four values of a channel are neighbours.
    """
    if ".downsample." not in name:
        return array
    by_token = array.reshape(*array.shape[:-1], 2, 2, -1)  # column, row, channel
    return by_token.swapaxes(-3, -1).reshape(array.shape)


def resized_table(name: str, array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A table of relative positions for windows of another size, as the reference resizes it."""
    if not name.endswith("relative_position_bias_table") or array.shape[1:] != shape[1:]:
        return array
    old, new = math.isqrt(len(array)), math.isqrt(shape[0])
    grid = jnp.asarray(array, jnp.float32).reshape(1, old, old, -1)
    return np.asarray(resize(grid, (new, new), "bicubic")).reshape(shape)


# The norms of the stages' outputs are this segmentation's own.
_COMMON = {"initial": r"^backbone\.norm\d\.", "fit": resized_table}
# The authors' (github.com/microsoft/Swin-Transformer).
AUTHORS = Source(
    rules=(
        (r"^layers\.", "stages."),
        (r"^patch_embed\.proj\.", "patch_embed.projection."),
        (r"\.attn\.", ".attn.w_msa."),
        (r"\.mlp\.fc1\.", ".ffn.layers.0.0."),
        (r"\.mlp\.fc2\.", ".ffn.layers.1."),
    ),
    ignored=r"^(?:norm|head)\.|\.attn_mask$",
    transform=in_merging_order,
    **_COMMON,
)
# Those that the reference's recipes start from: the authors', converted, or trained in mmpretrain.
MMPRETRAIN = Source(rules=((r"^backbone\.", ""),), ignored=r"^(?:backbone\.)?(?:norm|head)\.|\.attn_mask$", **_COMMON)


class WindowAttention(nn.Module):
    """Attention between the tokens of a window, which depends on where they are to each other.

    Attributes:
        num_heads: Number of heads.
        window_size: Tokens along each side of a window.
        qkv_bias: Whether queries, keys and values have a bias.
        qk_scale: Factor of the products; None: 1 / sqrt(channels of a head).
        attn_drop_rate, proj_drop_rate: Dropout of the weights and of the result.
    """

    num_heads: int
    window_size: int
    qkv_bias: bool
    qk_scale: float | None
    attn_drop_rate: float
    proj_drop_rate: float

    @nn.compact
    def __call__(
        self, x: Float[Array, "b windows n c"], apart: Float[Array, "windows n n"] | None, train: bool = False
    ) -> Float[Array, "b windows n c"]:
        """What every token finds in its window; `apart` is added to the products."""
        channels, size = x.shape[-1], self.window_size
        qkv = Linear(3 * channels, self.qkv_bias, name="qkv")(x)
        qkv = qkv.reshape(*x.shape[:-1], 3, self.num_heads, channels // self.num_heads)
        entries = ((2 * size - 1) ** 2, self.num_heads)
        table = self.param("relative_position_bias_table", nn.initializers.zeros, entries, jnp.float32)
        bias = relative_positions(table, size)
        if apart is not None:
            bias = bias + apart[:, None]
        drop = Dropout(self.attn_drop_rate, name="attn_drop")
        y = attend_heads(
            *(qkv[..., i, :, :] for i in range(3)),
            scale=self.qk_scale or None,
            bias=bias,
            drop=drop.of(train),
        )
        y = Linear(channels, name="proj")(y.reshape(x.shape))
        return Dropout(self.proj_drop_rate, name="proj_drop")(y, train)


class Block(nn.Module):
    """Attention in windows and a feed-forward network, each behind a norm and beside a shortcut.

    Attributes:
        num_heads, window_size, qkv_bias, qk_scale, attn_drop_rate: As in `WindowAttention`.
        shift: How far the windows are shifted, down and to the right.
        feedforward_channels, act_cfg: Of the feed-forward network.
        drop_rate: Dropout of the results of both.
        drop_path_rate: Stochastic depth of both.
        norm_cfg: Norm layers.
    """

    num_heads: int
    window_size: int
    shift: int
    feedforward_channels: int
    qkv_bias: bool
    qk_scale: float | None
    drop_rate: float
    attn_drop_rate: float
    drop_path_rate: float
    act_cfg: Mapping
    norm_cfg: Mapping

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool = False) -> Float[Array, "b h w c"]:
        """Applies the block."""
        y = self.attend(build_norm(self.norm_cfg, name="norm1")(x), train)
        x = x + DropPath(self.drop_path_rate, name="attn_drop_path")(y, train)
        ffn = FFN(self.feedforward_channels, act_cfg=self.act_cfg, ffn_drop=self.drop_rate, name="ffn")
        y = ffn(build_norm(self.norm_cfg, name="norm2")(x), train)
        return x + DropPath(self.drop_path_rate, name="ffn_drop_path")(y, train)

    def attend(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b h w c"]:
        """Attention in windows, for which the map is filled up with zeros and, where they are shifted, rolled."""
        size, shift, (height, width) = self.window_size, self.shift, x.shape[1:3]
        x = pad_to_patches(x, pair(size), pair(size), both_sides=False)
        rows, columns = x.shape[1:3]
        apart = None
        if shift:
            x = jnp.roll(x, (-shift, -shift), (1, 2))
            numbers = regions(rows, columns, size, shift)
            apart = jnp.where(numbers[:, :, None] == numbers[:, None], 0.0, APART)
        attention = WindowAttention(
            self.num_heads,
            size,
            self.qkv_bias,
            self.qk_scale,
            self.attn_drop_rate,
            self.drop_rate,
            name="attn_w_msa",
        )
        x = from_windows(attention(to_windows(x, size), apart, train), size, rows, columns)
        if shift:
            x = jnp.roll(x, (shift, shift), (1, 2))
        return x[:, :height, :width]


class PatchMerging(nn.Module):
    """Four neighbouring tokens as one, of twice as many channels.

    Attributes:
        stride: Distance of the groups of four.
        norm_cfg: Norm of the four tokens' channels, or None.
    """

    stride: int
    norm_cfg: Mapping | None

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool = False) -> Float[Array, "b h2 w2 c2"]:
        """Merges the tokens; the four values of a channel are neighbours, row by row, as in the reference."""
        channels = x.shape[-1]
        x = pad_to_patches(x, (2, 2), pair(self.stride), both_sides=False)
        x = jnp.stack([window for _, window in shifted_windows(x, (2, 2), pair(self.stride))], axis=-1)
        x = x.reshape(*x.shape[:3], 4 * channels)
        if self.norm_cfg is not None:
            x = build_norm(self.norm_cfg, name="norm")(x, train)
        return Linear(2 * channels, use_bias=False, name="reduction")(x)


class SwinTransformer(FrozenStages, nn.Module):
    """Transformer whose tokens attend to those of their window, and of a shifted one in every other block.

    Liu et al. 2021, "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows".

    Attributes:
        pretrain_img_size: Size of the images that a table of absolute positions is for; for others it is resized.
        in_channels: Channels of the image.
        embed_dims: Channels of the first stage; each other has twice those of the one before.
        patch_size: Size of the patches that become tokens.
        window_size: Tokens along each side of a window.
        mlp_ratio: How much wider the feed-forward networks are inside.
        depths, num_heads: Blocks of each stage, and the heads of their attention.
        strides: Of the patches, and of the merging before each other stage.
        out_indices: Stages whose outputs are returned.
        qkv_bias: Whether queries, keys and values have a bias.
        qk_scale: Factor of their products; None: 1 / sqrt(channels of a head).
        patch_norm: Whether patches are normalised, and merged ones.
        drop_rate, attn_drop_rate: Dropout of results and of the attention's weights.
        drop_path_rate: Stochastic depth of the last block; it rises to that from 0.
        use_abs_pos_embed: Whether absolute positions are learned, too.
        act_cfg: Activation of the feed-forward networks.
        norm_cfg: Norm layers.
        with_cp: Recompute each block's activations in the backward pass, to save memory.
        frozen_stages: The patches and this many stages are not trained; -1: everything is.
    """

    pretrain_img_size: int | Sequence[int] = 224
    in_channels: int = 3
    embed_dims: int = 96
    patch_size: int | Sequence[int] = 4
    window_size: int = 7
    mlp_ratio: float = 4
    depths: Sequence[int] = (2, 2, 6, 2)
    num_heads: Sequence[int] = (3, 6, 12, 24)
    strides: Sequence[int] = (4, 2, 2, 2)
    out_indices: Sequence[int] = (0, 1, 2, 3)
    qkv_bias: bool = True
    qk_scale: float | None = None
    patch_norm: bool = True
    drop_rate: float = 0.0
    attn_drop_rate: float = 0.0
    drop_path_rate: float = 0.1
    use_abs_pos_embed: bool = False
    act_cfg: Mapping = nn.FrozenDict(type="GELU")
    norm_cfg: Mapping = nn.FrozenDict(type="LN")
    with_cp: bool = False
    frozen_stages: int = -1

    sources: ClassVar[Mapping[str, Source]] = {"authors": AUTHORS, "mmpretrain": MMPRETRAIN}
    dotted_names: ClassVar[Sequence[tuple[str, str]]] = (
        (r"^stages_(\d+)_blocks_(\d+)$", r"stages.\1.blocks.\2"),
        (r"^stages_(\d+)_downsample$", r"stages.\1.downsample"),
        (r"^attn_w_msa$", "attn.w_msa"),
    )

    def check(self) -> None:
        """Raises ConfigError where the fields don't fit each other."""
        stages = len(self.depths)
        for name in ("num_heads", "strides"):
            if len(getattr(self, name)) != stages:
                raise ConfigError(
                    f"backbone.{name}={tuple(getattr(self, name))} needs {stages} entries, as many as depths"
                )
        if self.strides[0] != self.patch_size:
            raise ConfigError(f"backbone.strides={tuple(self.strides)} must begin with patch_size={self.patch_size}")
        for stage, heads in enumerate(self.num_heads):
            if self.embed_dims * 2**stage % heads:
                raise ConfigError(
                    f"backbone.num_heads={tuple(self.num_heads)}: {heads} does not divide the "
                    f"{self.embed_dims * 2**stage} channels of stage {stage}"
                )
        if not all(0 <= stage < stages for stage in self.out_indices):
            raise ConfigError(f"backbone.out_indices={tuple(self.out_indices)}: there are stages 0 to {stages - 1}")

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool = False) -> tuple[Float[Array, "b _ _ _"], ...]:
        """Returns the outputs of the stages `out_indices`, whose strides are the running product of `strides`."""
        self.check()
        patch_norm = self.norm_cfg if self.patch_norm else None
        embed = PatchEmbed(self.embed_dims, self.patch_size, norm_cfg=patch_norm, name="patch_embed")
        x = embed(x, self.trains(train, stage=0))
        if self.use_abs_pos_embed:
            x = x + self.positions(x.shape[1:3]).astype(x.dtype)
        x = Dropout(self.drop_rate, name="drop_after_pos")(x, self.trains(train, stage=0))
        x = self.freeze(x, stage=0)

        block = nn.remat(Block, static_argnums=(2,)) if self.with_cp else Block
        rates = iter(drop_path_rates(self.drop_path_rate, sum(self.depths)))
        outputs = []
        for stage, (depth, heads) in enumerate(zip(self.depths, self.num_heads, strict=True)):
            stage_train = self.trains(train, stage + 1)
            for i in range(depth):
                x = block(
                    num_heads=heads,
                    window_size=self.window_size,
                    shift=self.window_size // 2 if i % 2 else 0,
                    feedforward_channels=int(self.mlp_ratio * x.shape[-1]),
                    qkv_bias=self.qkv_bias,
                    qk_scale=self.qk_scale,
                    drop_rate=self.drop_rate,
                    attn_drop_rate=self.attn_drop_rate,
                    drop_path_rate=next(rates),
                    act_cfg=self.act_cfg,
                    norm_cfg=self.norm_cfg,
                    name=f"stages_{stage}_blocks_{i}",
                )(x, stage_train)
            if stage in self.out_indices:
                norm = build_norm(self.norm_cfg, name=f"norm{stage}")
                outputs.append(self.freeze(norm(x, stage_train), stage + 1))
            if stage + 1 < len(self.depths):
                merge = PatchMerging(self.strides[stage + 1], patch_norm, name=f"stages_{stage}_downsample")
                x = merge(x, stage_train)
            x = self.freeze(x, stage + 1)
        return tuple(outputs)

    def positions(self, size: tuple[int, int]) -> Float[Array, "1 h w c"]:
        """The table of absolute positions, for a map of this size."""
        sides = zip(pair(self.pretrain_img_size), pair(self.patch_size), strict=True)
        own = tuple(image // patch for image, patch in sides)
        shape = (1, own[0] * own[1], self.embed_dims)
        table = self.param("absolute_pos_embed", trunc_normal(0.02), shape, jnp.float32)
        if size != own:
            table = resize_positions(table, own, size)
        return table.reshape(1, *size, self.embed_dims)

    def frozen_parameters(self) -> tuple[str, ...]:
        """Prefixes of the parameter paths that are not trained, for the optimizer."""
        if self.frozen_stages < 0:
            return ()
        stages = (part for stage in range(self.frozen_stages) for part in (f"stages_{stage}_", f"norm{stage}/"))
        return ("patch_embed/", "absolute_pos_embed", *stages)

    @property
    def reference_constants(self) -> dict[str, np.ndarray]:
        """Which entry of the table belongs to two tokens, which the reference keeps for every block."""
        size = self.window_size
        rows, columns = np.divmod(np.arange(size * size), size)
        index = (
            (np.subtract.outer(rows, rows) + size - 1) * (2 * size - 1) + np.subtract.outer(columns, columns) + size - 1
        )
        return {
            f"stages.{stage}.blocks.{i}.attn.w_msa.relative_position_index": index
            for stage, depth in enumerate(self.depths)
            for i in range(depth)
        }
