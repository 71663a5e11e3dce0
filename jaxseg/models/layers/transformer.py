"""What transformers are made of: linear layers, attention with heads, feed-forward networks, patches, positions."""

import math
from collections.abc import Callable, Mapping, Sequence

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxseg.errors import ConfigError
from jaxseg.models.layers.activation import build_activation
from jaxseg.models.layers.attention import attend_heads
from jaxseg.models.layers.conv import Conv, Pair, pair
from jaxseg.models.layers.drop import Dropout, DropPath
from jaxseg.models.layers.initializers import default_bias, default_kernel, trunc_normal
from jaxseg.models.layers.norm import build_norm
from jaxseg.models.layers.product import linear_map
from jaxseg.models.layers.resize import resize

# The reference's names of what `TransformerEncoderLayer` has, see `jaxseg.models.names`.
ATTENTION_NAMES = ((r"^attn_attn$", "attn.attn"),)


class Linear(nn.Module):
    """x kernel + bias, computed in the dtype of x.

    Attributes:
        features: Output channels.
        use_bias: Whether a bias is added.
        kernel_init, bias_init: Initializers.
    """

    features: int
    use_bias: bool = True
    kernel_init: Callable = trunc_normal(0.02)
    bias_init: Callable = nn.initializers.zeros

    @nn.compact
    def __call__(self, x: Float[Array, "*b c"]) -> Float[Array, "*b features"]:
        """Maps every token."""
        kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.features), jnp.float32)
        kernel = jnp.asarray(kernel, x.dtype)
        y = linear_map(x, kernel)
        if self.use_bias:
            y = y + self.param("bias", self.bias_init, (self.features,), jnp.float32).astype(x.dtype)
        return y


def bare_linear(in_channels: int, features: int, **fields) -> Linear:
    """A `Linear` that starts as PyTorch's does."""
    return Linear(features, kernel_init=default_kernel(), bias_init=default_bias(in_channels), **fields)


class MultiheadAttention(nn.Module):
    """Attention with several heads (Vaswani et al. 2017) and PyTorch's parameters.

    Attributes:
        embed_dims: Channels of the queries and of the result.
        num_heads: Number of heads.
        attn_drop: Dropout of the weights.
        qkv_bias: Whether the projections have biases (that of the result, too).
        out_init: Initializer of the last projection.
        in_init: Initializer of the others, all three as one matrix.
    """

    embed_dims: int
    num_heads: int
    attn_drop: float = 0.0
    qkv_bias: bool = True
    out_init: Callable = default_kernel()
    in_init: Callable = nn.initializers.xavier_uniform()

    @nn.compact
    def __call__(
        self,
        query: Float[Array, "b q c"],
        key: Float[Array, "b k c"] | None = None,
        value: Float[Array, "b k c"] | None = None,
        bias: Float[Array, "..."] | None = None,
        train: bool = False,
    ) -> Float[Array, "b q c"]:
        """What the queries find in the values; key: by default the queries; value: the keys.

        `bias` [... heads q k] is added to the products.
        """
        key = query if key is None else key
        value = key if value is None else value
        dims = self.embed_dims
        weight = self.param("in_proj_weight", self.in_init, (3 * dims, dims), jnp.float32).T
        shift = 0
        if self.qkv_bias:
            shift = self.param("in_proj_bias", nn.initializers.zeros, (3 * dims,), jnp.float32).astype(query.dtype)
        heads = (self.num_heads, dims // self.num_heads)
        if key is query and value is query:
            y = (linear_map(query, weight.astype(query.dtype)) + shift).reshape(*query.shape[:-1], 3, *heads)
            projected = [y[..., i, :, :] for i in range(3)]
        else:
            shifts = jnp.split(shift, 3) if self.qkv_bias else (0, 0, 0)
            projected = [
                (linear_map(x, part.astype(x.dtype)) + b).reshape(*x.shape[:-1], *heads)
                for x, part, b in zip((query, key, value), jnp.split(weight, 3, axis=1), shifts, strict=True)
            ]
        drop = Dropout(self.attn_drop, name="dropout")
        y = attend_heads(*projected, bias=bias, drop=drop.of(train))
        out = Linear(dims, self.qkv_bias, kernel_init=self.out_init, name="out_proj")
        return out(y.reshape(*query.shape[:-1], dims))


class FFN(nn.Module):
    """Linear layers with an activation in between, for every token by itself; without the shortcut.

    Attributes:
        feedforward_channels: Width in between.
        num_fcs: Number of linear layers.
        act_cfg: Activation.
        ffn_drop: Dropout after every layer.
        kernel_init, bias_init: Of all layers; None: as bare linear layers start.
    """

    feedforward_channels: int
    num_fcs: int = 2
    act_cfg: Mapping = nn.FrozenDict(type="GELU")
    ffn_drop: float = 0.0
    kernel_init: Callable | None = trunc_normal(0.02)
    bias_init: Callable | None = nn.initializers.zeros

    @nn.compact
    def __call__(self, x: Float[Array, "*b c"], train: bool = False) -> Float[Array, "*b c"]:
        """Applies the layers."""
        channels, inner = x.shape[-1], self.num_fcs - 1
        for i in range(self.num_fcs):
            last = i == inner
            name = f"layers_{i}" if last else f"layers_{i}_0"
            inits = {
                "kernel_init": self.kernel_init or default_kernel(),
                "bias_init": self.bias_init or default_bias(x.shape[-1]),
            }
            x = Linear(channels if last else self.feedforward_channels, name=name, **inits)(x)
            x = x if last else build_activation(self.act_cfg)(x)
            x = Dropout(self.ffn_drop, name=f"dropout_{i}")(x, train)
        return x


class TransformerEncoderLayer(nn.Module):
    """Attention and a feed-forward network, each behind a norm and beside a shortcut (Dosovitskiy et al. 2021).

    Attributes:
        num_heads, qkv_bias: Of the attention.
        feedforward_channels, num_fcs, act_cfg: Of the feed-forward network.
        drop_rate: Dropout after both.
        attn_drop_rate: Dropout of the attention's weights.
        drop_path_rate: Stochastic depth of the feed-forward network.
        norm_cfg: Norm layers.
        ffn_bias_init: Initializer of the feed-forward network's biases; None: that of bare linear layers.
        init_std: Standard deviation of the kernels at the start, but for the attention's first; None: those of bare
            linear layers.
    """

    num_heads: int
    feedforward_channels: int
    num_fcs: int = 2
    qkv_bias: bool = True
    drop_rate: float = 0.0
    attn_drop_rate: float = 0.0
    drop_path_rate: float = 0.0
    act_cfg: Mapping = nn.FrozenDict(type="GELU")
    norm_cfg: Mapping = nn.FrozenDict(type="LN")
    ffn_bias_init: Callable | None = nn.initializers.normal(1e-6)
    init_std: float | None = 0.02

    @nn.compact
    def __call__(self, x: Float[Array, "b n c"], train: bool = False) -> Float[Array, "b n c"]:
        """Applies the layer."""
        kernel_init = default_kernel() if self.init_std is None else trunc_normal(self.init_std)
        attention = MultiheadAttention(
            x.shape[-1], self.num_heads, self.attn_drop_rate, self.qkv_bias, kernel_init, name="attn_attn"
        )
        y = attention(build_norm(self.norm_cfg, name="ln1")(x), train=train)
        x = x + Dropout(self.drop_rate, name="proj_drop")(y, train)
        ffn = FFN(
            self.feedforward_channels,
            self.num_fcs,
            self.act_cfg,
            self.drop_rate,
            kernel_init,
            self.ffn_bias_init,
            name="ffn",
        )
        y = ffn(build_norm(self.norm_cfg, name="ln2")(x), train)
        return x + DropPath(self.drop_path_rate, name="drop_path")(y, train)


class PatchEmbed(nn.Module):
    """A convolution that makes patches tokens.

    Attributes:
        embed_dims: Channels of a token.
        kernel_size: Size of a patch.
        stride: Distance of patches; None: their size.
        padding: Pixels on all sides; "corner": what patches need to cover the image, below and to the right;
            "same": as much, on both sides.
        use_bias: Whether the convolution has a bias.
        norm_cfg: Norm of the tokens, or None.
        kernel_init: Initializer of the convolution, whose bias starts at 0; None: both as of a bare convolution.
    """

    embed_dims: int
    kernel_size: int | Sequence[int] = 16
    stride: int | Sequence[int] | None = None
    padding: int | str = "corner"
    use_bias: bool = True
    norm_cfg: Mapping | None = None
    kernel_init: Callable | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool = False) -> Float[Array, "b h2 w2 embed_dims"]:
        """Returns the tokens in their places."""
        size = pair(self.kernel_size)
        stride = size if self.stride is None else pair(self.stride)
        padding = self.padding
        if isinstance(padding, str):
            x, padding = pad_to_patches(x, size, stride, both_sides=padding == "same"), 0
        conv = Conv(
            self.embed_dims,
            size,
            stride,
            padding,
            use_bias=self.use_bias,
            kernel_init=self.kernel_init or default_kernel(),
            bias_init=nn.initializers.zeros if self.kernel_init else default_bias(math.prod(size) * x.shape[-1]),
            name="projection",
        )
        x = conv(x)
        return x if self.norm_cfg is None else build_norm(self.norm_cfg, name="norm")(x, train)


def pad_to_patches(x: Float[Array, "b h w c"], size: Pair, stride: Pair, both_sides: bool) -> Float[Array, "b _ _ c"]:
    """Adds the zeros with which patches of a size and distance cover every pixel."""
    pads = []
    for length, kernel, step in zip(x.shape[1:3], size, stride, strict=True):
        missing = max((-(-length // step) - 1) * step + kernel - length, 0)
        before = missing // 2 if both_sides else 0
        pads.append((before, missing - before))
    return jnp.pad(x, ((0, 0), *pads, (0, 0)))


def resize_positions(
    table: Float[Array, "1 n c"], size: Pair, new_size: Pair, mode: str = "bicubic"
) -> Float[Array, "1 m c"]:
    """A table of positions for a grid of another size; what is in front of the grid (class tokens) stays."""
    count = size[0] * size[1]
    front, grid = table[:, : table.shape[1] - count], table[:, table.shape[1] - count :]
    grid = resize(grid.reshape(1, *size, -1), new_size, mode)
    return jnp.concatenate([front, grid.reshape(1, new_size[0] * new_size[1], -1)], axis=1)


def drop_path_rates(drop_path_rate: float, depth: int) -> list[float]:
    """Of every block: from 0 to drop_path_rate, evenly."""
    return [drop_path_rate * i / max(depth - 1, 1) for i in range(depth)]


def patch_grid(img_size: int | Sequence[int], patch_size: int) -> Pair:
    """Rows and columns of the whole patches in an image: its size is one number, or (height, width)."""
    height, width = pair(img_size[0] if not isinstance(img_size, int) and len(img_size) == 1 else img_size)
    return height // patch_size, width // patch_size


def chosen_layers(out_indices: int | Sequence[int], num_layers: int) -> tuple[int, ...]:
    """The layers that `out_indices` of a backbone means: -1 is the last.

    Raises:
        ConfigError: There is no such layer.
    """
    chosen = (out_indices,) if isinstance(out_indices, int) else tuple(out_indices)
    chosen = tuple(num_layers - 1 if out_indices == -1 else i for i in chosen)
    if not all(0 <= i < num_layers for i in chosen):
        raise ConfigError(f"backbone.out_indices={out_indices!r}: there are layers 0 to {num_layers - 1}")
    return chosen
