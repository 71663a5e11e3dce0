"""The backbones of Twins, PCPVT and SVT."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxseg.errors import ConfigError
from jaxseg.models.layers.attention import attend_heads
from jaxseg.models.layers.conv import Conv
from jaxseg.models.layers.drop import Dropout, DropPath
from jaxseg.models.layers.initializers import kaiming_normal, normal
from jaxseg.models.layers.norm import build_norm
from jaxseg.models.layers.reduced_attention import ReducedAttention, joined_projections
from jaxseg.models.layers.transformer import FFN, Linear, PatchEmbed, drop_path_rates
from jaxseg.models.layers.windows import from_windows, to_windows
from jaxseg.models.names import Source

# Of the blocks, whatever `norm_cfg` is, as in the reference.
LAYER_NORM = nn.FrozenDict(type="LN")
# Files of classifiers have one norm, after the last stage, which has none here; those after the stages they lack.
OF_CLASSIFIERS = {"ignored": r"^(head|norm)\.", "initial": r"^backbone\.norm_list_"}


def authors(global_blocks: str) -> Source:
    """The authors' own checkpoints (github.com/Meituan-AutoML/Twins); the pattern is of the global blocks' indices."""
    return Source(
        rules=(
            (r"^(patch_embeds\.\d+)\.proj\.", r"\1.projection."),
            (r"^pos_block\.(\d+)\.proj\.0\.", r"position_encodings.\1.proj."),
            (r"^blocks\.", "layers."),
            (r"\.attn\.q\.", ".attn.attn.in_proj_"),
            (rf"^(layers\.\d+\.{global_blocks})\.attn\.proj\.", r"\1.attn.attn.out_proj."),
            (r"\.mlp\.fc1\.", ".ffn.layers.0.0."),
            (r"\.mlp\.fc2\.", ".ffn.layers.1."),
        ),
        prepare=joined_projections,
        **OF_CLASSIFIERS,
    )


CONVERTED = Source(**OF_CLASSIFIERS)  # by the reference's tool


class WindowAttention(nn.Module):
    """Attention among the pixels of square windows.

    Attributes:
        num_heads: Number of heads.
        window_size: Side of the windows.
        qkv_bias: Whether queries, keys and values have biases.
        attn_drop, proj_drop: Dropout of the weights and of the result.
    """

    num_heads: int
    window_size: int
    qkv_bias: bool = False
    attn_drop: float = 0.0
    proj_drop: float = 0.0

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool = False) -> Float[Array, "b h w c"]:
        """What every pixel finds in its window; the map is padded below and to the right to whole windows."""
        _, h, w, c = x.shape
        size = self.window_size
        x = jnp.pad(x, ((0, 0), (0, -h % size), (0, -w % size), (0, 0)))
        height, width = x.shape[1:3]
        y = to_windows(Linear(3 * c, self.qkv_bias, name="qkv")(x), size)
        y = jnp.moveaxis(y.reshape(*y.shape[:3], 3, self.num_heads, c // self.num_heads), 3, 0)
        drop = Dropout(self.attn_drop, name="attn_drop")
        y = attend_heads(*y, bias=self.apart(h, w), drop=drop.of(train))
        y = from_windows(y.reshape(*y.shape[:3], c), size, height, width)[:, :h, :w]
        return Dropout(self.proj_drop, name="proj_drop")(Linear(c, name="proj")(y), train)

    def apart(self, h: int, w: int) -> Float[Array, "windows 1 n n"] | None:
        """Keeps pixels and padding apart; None where the padding is not on both sides, when the reference does not."""
        below, beside = -h % self.window_size, -w % self.window_size
        if not below or not beside:
            return None
        pixels = jnp.pad(jnp.ones((1, h, w, 1)), ((0, 0), (0, below), (0, beside), (0, 0)))
        pixels = to_windows(pixels, self.window_size)[0, :, None, :, 0]
        return jnp.where(pixels[..., None] != pixels[..., None, :], -1000.0, 0.0)


class Block(nn.Module):
    """Attention and a feed-forward network, each behind a norm and beside a shortcut.

    Attributes:
        num_heads, qkv_bias: Of the attention.
        sr_ratio: Side of the patches that a global attention looks at.
        window_size: Side of the windows of a local attention; 0 for a global one.
        feedforward_channels: Of the feed-forward network.
        drop_rate: Dropout of both.
        attn_drop_rate: Dropout of the attention's weights.
        drop_path_rate: Stochastic depth of both.
    """

    num_heads: int
    feedforward_channels: int
    sr_ratio: int = 1
    window_size: int = 0
    qkv_bias: bool = False
    drop_rate: float = 0.0
    attn_drop_rate: float = 0.0
    drop_path_rate: float = 0.0

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool = False) -> Float[Array, "b h w c"]:
        """Applies the block."""
        fields = (self.qkv_bias, self.attn_drop_rate, self.drop_rate)
        if self.window_size:
            attention = WindowAttention(self.num_heads, self.window_size, *fields, name="attn")
        else:
            attention = ReducedAttention(self.num_heads, self.sr_ratio, *fields, LAYER_NORM, name="attn")
        y = attention(build_norm(LAYER_NORM, name="norm1")(x), train)
        x = x + self.drop_path(y, train, 1 if self.window_size else 2)
        ffn = FFN(self.feedforward_channels, ffn_drop=self.drop_rate, name="ffn")
        y = ffn(build_norm(LAYER_NORM, name="norm2")(x), train)
        return x + self.drop_path(y, train, 2)

    def drop_path(self, y: Float[Array, "b h w c"], train: bool, times: int) -> Float[Array, "b h w c"]:
        """Stochastic depth; what the reference drops in two places is dropped twice."""
        for _ in range(times):
            y = DropPath(self.drop_path_rate)(y, train)
        return y


class PositionEncoding(nn.Module):
    """Adds what a depthwise convolution makes of the map, by which pixels know their places (Chu et al. 2021)."""

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Returns the map with its places."""
        start = normal((2 / 9) ** 0.5)
        return x + Conv(x.shape[-1], 3, padding=1, groups=x.shape[-1], kernel_init=start, name="proj")(x)


class PCPVT(nn.Module):
    """A pyramid of transformers with positions from convolutions (Chu et al. 2021, "Twins").

    Attributes:
        in_channels: Channels of the image.
        embed_dims: Channels of each stage.
        patch_sizes, strides: Of the patches that each stage begins with.
        num_heads: Heads of each stage's attention.
        mlp_ratios: Width of each stage's feed-forward networks, in channels of the stage.
        out_indices: Stages whose outputs are returned; those beyond the last are not there.
        qkv_bias: Whether the attention's projections have biases.
        drop_rate, attn_drop_rate: Dropout, and that of the attention's weights.
        drop_path_rate: Stochastic depth of the last block; it grows from 0 in the first.
        norm_cfg: Norm of the patches, and after each stage.
        depths: Blocks of each stage.
        sr_ratios: Side of the patches that each stage's attention looks at.
        norm_after_stage: Whether a norm follows each stage.
    """

    in_channels: int = 3
    embed_dims: Sequence[int] = (64, 128, 256, 512)
    patch_sizes: Sequence[int] = (4, 2, 2, 2)
    strides: Sequence[int] = (4, 2, 2, 2)
    num_heads: Sequence[int] = (1, 2, 4, 8)
    mlp_ratios: Sequence[int] = (4, 4, 4, 4)
    out_indices: Sequence[int] = (0, 1, 2, 3)
    qkv_bias: bool = False
    drop_rate: float = 0.0
    attn_drop_rate: float = 0.0
    drop_path_rate: float = 0.0
    norm_cfg: Mapping = nn.FrozenDict(type="LN")
    depths: Sequence[int] = (3, 4, 6, 3)
    sr_ratios: Sequence[int] = (8, 4, 2, 1)
    norm_after_stage: bool = False

    sources: ClassVar[Mapping[str, Source]] = {"converted": CONVERTED, "authors": authors(r"\d+")}
    # Fields with an entry for each stage.
    per_stage = ("embed_dims", "patch_sizes", "strides", "num_heads", "mlp_ratios", "sr_ratios")

    def check(self) -> None:
        """Raises ConfigError where the fields don't fit each other."""
        for name in self.per_stage:
            value = tuple(getattr(self, name))
            if len(value) < len(self.depths):
                raise ConfigError(f"backbone.{name}={value} needs an entry for each of depths={tuple(self.depths)}")
        for dims, heads in zip(self.embed_dims, self.num_heads, strict=False):
            if dims % heads:
                raise ConfigError(
                    f"backbone.embed_dims={tuple(self.embed_dims)}: {dims} is not divided by {heads} heads"
                )

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool = False) -> tuple[Float[Array, "b _ _ _"], ...]:
        """Returns the outputs of the stages `out_indices`; their strides are the running product of `strides`."""
        self.check()
        rates = iter(drop_path_rates(self.drop_path_rate, sum(self.depths)))
        outputs = []
        for stage, depth in enumerate(self.depths):
            channels = self.embed_dims[stage]
            embed = PatchEmbed(
                channels,
                self.patch_sizes[stage],
                self.strides[stage],
                norm_cfg=self.norm_cfg,
                kernel_init=kaiming_normal(),
                name=f"patch_embeds_{stage}",
            )
            x = Dropout(self.drop_rate, name=f"position_encoding_drops_{stage}")(embed(x, train), train)
            for i in range(depth):
                x = Block(
                    self.num_heads[stage],
                    self.mlp_ratios[stage] * channels,
                    self.sr_ratios[stage],
                    self.window_size(stage, i),
                    self.qkv_bias,
                    self.drop_rate,
                    self.attn_drop_rate,
                    next(rates),
                    name=f"layers_{stage}_{i}",
                )(x, train)
                if i == 0:
                    x = PositionEncoding(name=f"position_encodings_{stage}")(x)
            if self.norm_after_stage:
                x = build_norm(self.norm_cfg, name=f"norm_list_{stage}")(x, train)
            if stage in self.out_indices:
                outputs.append(x)
        return tuple(outputs)

    def window_size(self, stage: int, block: int) -> int:
        """Side of the windows of a block; 0, where its attention is global, as all are here."""
        return 0


class SVT(PCPVT):
    """PCPVT whose even blocks look at windows only (Chu et al. 2021, "Twins").

    Attributes:
        windiow_sizes: Side of each stage's windows (the reference spells it so).
    """

    embed_dims: Sequence[int] = (64, 128, 256)
    num_heads: Sequence[int] = (1, 2, 4)
    mlp_ratios: Sequence[int] = (4, 4, 4)
    drop_path_rate: float = 0.2
    depths: Sequence[int] = (4, 4, 4)
    sr_ratios: Sequence[int] = (4, 2, 1)
    norm_after_stage: bool = True
    windiow_sizes: Sequence[int] = (7, 7, 7)

    sources: ClassVar[Mapping[str, Source]] = {"converted": CONVERTED, "authors": authors(r"\d*[13579]")}
    per_stage = (*PCPVT.per_stage, "windiow_sizes")

    def window_size(self, stage: int, block: int) -> int:
        """Side of the windows of a block; 0, where its attention is global."""
        return 0 if block % 2 else self.windiow_sizes[stage]
