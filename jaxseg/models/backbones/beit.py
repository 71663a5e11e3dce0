"""BEiT, a vision transformer with relative positions."""

import functools
from collections.abc import Mapping, Sequence
from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxseg.errors import ConfigError
from jaxseg.models.backbones.vit import BLOCK_RULES
from jaxseg.models.layers.attention import attend_heads
from jaxseg.models.layers.conv import Pair
from jaxseg.models.layers.drop import Dropout, DropPath
from jaxseg.models.layers.initializers import kaiming_normal, trunc_normal
from jaxseg.models.layers.norm import build_norm
from jaxseg.models.layers.transformer import FFN, Linear, PatchEmbed, chosen_layers, drop_path_rates, patch_grid
from jaxseg.models.names import Source

RULES = (*BLOCK_RULES, (r"^blocks\.", "layers."))


class RelativeAttention(nn.Module):
    """Attention between a class token and the patches of a grid, with a learned bias for every distance.

    Attributes:
        num_heads: Number of heads.
        grid: Rows and columns of the patches.
        bias: "qkv": all three projections have biases; "qv": those of keys have none; "": none has.
        attn_drop_rate: Dropout of the weights.
    """

    num_heads: int
    grid: Pair
    bias: str
    attn_drop_rate: float = 0.0

    @nn.compact
    def __call__(self, x: Float[Array, "b n c"], train: bool = False) -> Float[Array, "b n c"]:
        """What every token finds in all."""
        dims = x.shape[-1]
        y = Linear(3 * dims, self.bias == "qkv", name="qkv")(x)
        if self.bias == "qv":
            query, value = (
                self.param(f"{name}_bias", nn.initializers.zeros, (dims,), jnp.float32).astype(x.dtype) for name in "qv"
            )
            y = y + jnp.concatenate([query, jnp.zeros_like(query), value])
        y = y.reshape(*x.shape[:2], 3, self.num_heads, dims // self.num_heads)
        rows, columns = self.grid
        shape = ((2 * rows - 1) * (2 * columns - 1) + 3, self.num_heads)
        table = self.param("relative_position_bias_table", nn.initializers.zeros, shape, jnp.float32)
        drop = Dropout(self.attn_drop_rate, name="attn_drop")
        y = attend_heads(
            *(y[:, :, i] for i in range(3)),
            bias=bias_of_distances(table, self.grid),
            drop=drop.of(train),
        )
        return Linear(dims, name="proj")(y.reshape(x.shape))


def bias_of_distances(table: Float[Array, "m heads"], grid: Pair) -> Float[Array, "heads n n"]:
    """The bias of every pair of tokens: the class token, then the patches of a grid, row by row.

    The table has a bias for each distance between two patches, rows first; then those from the class token to
    patches, from patches to it, and from it to itself.
    """
    (rows, columns), heads = grid, table.shape[-1]
    patches = table[:-3].reshape(2 * rows - 1, 2 * columns - 1, heads)
    distances = [np.subtract.outer(np.arange(n), np.arange(n)) + n - 1 for n in grid]
    patches = patches[distances[0]][:, :, distances[1]]  # two gathers of long slices, instead of one of every pair
    patches = patches.transpose(4, 0, 2, 1, 3).reshape(heads, rows * columns, rows * columns)
    to_patches, to_class, itself = (table[i][:, None, None] for i in (-3, -2, -1))
    patches = jnp.concatenate([jnp.broadcast_to(to_class, (heads, rows * columns, 1)), patches], axis=2)
    first = jnp.concatenate([itself, jnp.broadcast_to(to_patches, (heads, 1, rows * columns))], axis=2)
    return jnp.concatenate([first, patches], axis=1)


@functools.lru_cache(maxsize=8)
def relative_position_index(grid: Pair) -> Int[np.ndarray, "n n"]:
    """The entry of the table for every pair of tokens, which the reference keeps in its state dict."""
    rows, columns = grid
    places = np.stack(np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")).reshape(2, -1)
    down, right = places[:, :, None] - places[:, None] + np.array([rows - 1, columns - 1])[:, None, None]
    index = np.pad(down * (2 * columns - 1) + right, ((1, 0), (1, 0)))
    last = (2 * rows - 1) * (2 * columns - 1) + 2
    index[0], index[1:, 0], index[0, 0] = last - 2, last - 1, last
    return index


def resize_distances(table: Float[np.ndarray, "m heads"], size: int) -> Float[np.ndarray, "n heads"]:
    """A table for another square grid, of `size` distances along an axis; the last three entries stay.

    As the authors do it: the old distances are put at 0, 1, 1 + q, 1 + q + q^2, ... such that they reach as far as the
    new ones, and a cubic spline is read at whole numbers. So the small distances stay nearly as they are.
    """
    from scipy.interpolate import RectBivariateSpline

    old = int((len(table) - 3) ** 0.5)
    half, far = old // 2, size // 2
    low, high = 1.01, 1.5
    while high - low > 1e-6:
        q = (low + high) / 2
        low, high = (low, q) if (1 - q**half) / (1 - q) > far else (q, high)
    away = np.cumsum(q ** np.arange(half))
    places = np.concatenate([-away[::-1], [0], away])
    wanted = np.arange(size) - far
    biases = table[:-3].astype(np.float32).reshape(old, old, -1)
    splines = [RectBivariateSpline(places, places, biases[..., i]) for i in range(biases.shape[-1])]
    resized = np.stack([spline(wanted, wanted) for spline in splines], axis=-1)
    return np.concatenate([resized.reshape(size**2, -1), table[-3:]]).astype(np.float32)


class RelativeEncoderLayer(nn.Module):
    """`RelativeAttention` and a feed-forward network, each behind a norm, scaled and beside a shortcut.

    Attributes:
        num_heads, grid, bias, attn_drop_rate: Of the attention.
        feedforward_channels, num_fcs, act_cfg: Of the feed-forward network.
        drop_path_rate: Stochastic depth.
        norm_cfg: Norm layers.
        init_values: The scales at the start.
    """

    num_heads: int
    grid: Pair
    bias: str
    feedforward_channels: int
    num_fcs: int
    attn_drop_rate: float
    drop_path_rate: float
    act_cfg: Mapping
    norm_cfg: Mapping
    init_values: float

    @nn.compact
    def __call__(self, x: Float[Array, "b n c"], train: bool = False) -> Float[Array, "b n c"]:
        """Applies the layer."""
        attention = RelativeAttention(self.num_heads, self.grid, self.bias, self.attn_drop_rate, name="attn")
        start = nn.initializers.normal(1e-6)
        ffn = FFN(self.feedforward_channels, self.num_fcs, self.act_cfg, bias_init=start, name="ffn")
        for i, branch in enumerate((attention, ffn), start=1):
            y = branch(build_norm(self.norm_cfg, name=f"ln{i}")(x, train), train)
            scale = self.param(f"gamma_{i}", nn.initializers.constant(self.init_values), (x.shape[-1],), jnp.float32)
            x = x + DropPath(self.drop_path_rate, name=f"drop_path_{i}")(scale.astype(x.dtype) * y, train)
        return x


class RelativeTransformer(nn.Module):
    """What BEiT and MAE share: a vision transformer for images of one size, whose attention knows distances.

    Attributes:
        img_size: Of the images, and of no others: one number, or (height, width).
        patch_size: Rows and columns of a patch.
        in_channels: Channels of the image.
        embed_dims: Channels of a token.
        num_layers: Number of layers.
        num_heads: Of the attention.
        mlp_ratio: Width of the feed-forward networks, in widths of a token.
        out_indices: Layers whose outputs are returned; -1: the last.
        attn_drop_rate: Dropout of the attention's weights.
        drop_path_rate: Stochastic depth of the last layer; it grows evenly from 0.
        norm_cfg: Norm layers: layer normalisation.
        act_cfg: Activation of the feed-forward networks.
        patch_norm: Whether the patches are normalised.
        final_norm: Whether there is a norm after the last layer.
        num_fcs: Linear layers of a feed-forward network.
        norm_eval: Kept for configs that state it; layer normalisation has no statistics.
        init_values: What the outputs of attention and feed-forward networks are multiplied by at the start.
        with_cp: Recompute each layer's activations in the backward pass, to save memory.
    """

    img_size: int | Sequence[int] = 224
    patch_size: int = 16
    in_channels: int = 3
    embed_dims: int = 768
    num_layers: int = 12
    num_heads: int = 12
    mlp_ratio: int = 4
    out_indices: int | Sequence[int] = -1
    attn_drop_rate: float = 0.0
    drop_path_rate: float = 0.0
    norm_cfg: Mapping = nn.FrozenDict(type="LN")
    act_cfg: Mapping = nn.FrozenDict(type="GELU")
    patch_norm: bool = False
    final_norm: bool = False
    num_fcs: int = 2
    norm_eval: bool = False
    init_values: float = 0.1
    with_cp: bool = False

    may_lack: ClassVar[str] = ""  # what files to start from may lack: further alternatives of a pattern

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool = False) -> tuple[Float[Array, "b h2 w2 dims"], ...]:
        """Returns the outputs of the layers `out_indices`, as maps of stride `patch_size`."""
        dims, size = self.embed_dims, x.shape[1:3]
        if dims % self.num_heads:
            raise ConfigError(f"backbone.num_heads={self.num_heads} must divide embed_dims={dims}")
        chosen = chosen_layers(self.out_indices, self.num_layers)
        embed = PatchEmbed(
            dims,
            self.patch_size,
            padding=0,
            norm_cfg=self.norm_cfg if self.patch_norm else None,
            kernel_init=kaiming_normal(mode="fan_in"),
            name="patch_embed",
        )
        x = embed(x, train)
        b, *grid, _ = x.shape
        if tuple(grid) != self.grid:
            raise ConfigError(
                f"backbone.img_size={self.img_size!r}: images of {size[0]}x{size[1]} do not fit, whose patches are "
                f"{grid[0]}x{grid[1]} and not {self.grid[0]}x{self.grid[1]}"
            )
        token = self.param("cls_token", trunc_normal(0.02), (1, 1, dims), jnp.float32)
        token = jnp.broadcast_to(token.astype(x.dtype), (b, 1, dims))
        x = self.with_positions(jnp.concatenate([token, x.reshape(b, -1, dims)], axis=1))

        outputs = []
        layer = nn.remat(RelativeEncoderLayer, static_argnums=(2,)) if self.with_cp else RelativeEncoderLayer
        for i, drop_path_rate in enumerate(drop_path_rates(self.drop_path_rate, self.num_layers)):
            x = layer(
                self.num_heads,
                self.grid,
                self.attention_bias,
                self.mlp_ratio * dims,
                self.num_fcs,
                self.attn_drop_rate,
                drop_path_rate,
                self.act_cfg,
                self.norm_cfg,
                self.init_values,
                name=f"layers_{i}",
            )(x, train)
            if self.final_norm and i == self.num_layers - 1:
                x = build_norm(self.norm_cfg, name="ln1")(x, train)
            if i in chosen:
                outputs.append(x[:, 1:].reshape(b, *grid, dims))
        return tuple(outputs)

    @property
    def attention_bias(self) -> str:
        """As in `RelativeAttention.bias`."""
        return "qkv"

    def with_positions(self, x: Float[Array, "b n c"]) -> Float[Array, "b n c"]:
        """What the first layer gets of the tokens."""
        return x

    @property
    def sources(self) -> Mapping[str, Source]:
        """The authors' files, and what the reference's tool makes of them; their tables are resized."""
        # The tool keeps the patches' convolution under its old name, too. Its norm after the last layer has none here.
        unused = r"^(norm|fc_norm|head)\.|^mask_token$|^rel_pos_bias\.|^decoder_|relative_position_index$"
        fields = {"initial": rf"^backbone\.ln1\.{self.may_lack}", "fit": self.fit}
        return {
            "converted": Source((), rf"{unused}|^patch_embed\.proj\.", **fields),
            "authors": Source(RULES, unused, **fields),
        }

    @nn.nowrap
    def fit(self, name: str, array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """A table for this transformer's images."""
        rows, columns = self.grid
        if name.endswith("relative_position_bias_table") and rows == columns and array.shape[1:] == shape[1:]:
            return resize_distances(array, 2 * rows - 1)
        return array

    @property
    def grid(self) -> Pair:
        """Rows and columns of the patches."""
        return patch_grid(self.img_size, self.patch_size)

    @property
    def sample_size(self) -> Pair:
        """Of images that fit."""
        return tuple(length * self.patch_size for length in self.grid)

    @property
    def reference_constants(self) -> Mapping[str, np.ndarray]:
        """The index of the tables, which every layer of the reference has."""
        index = relative_position_index(self.grid)
        return {f"layers.{i}.attn.relative_position_index": index for i in range(self.num_layers)}


class BEiT(RelativeTransformer):
    """A vision transformer with relative positions only (Bao et al. 2021, "BEiT: BERT Pre-Training").

    Attributes:
        qv_bias: Whether queries and values have biases.
    """

    qv_bias: bool = True

    @property
    def attention_bias(self) -> str:
        """As in `RelativeAttention.bias`."""
        return "qv" if self.qv_bias else ""
