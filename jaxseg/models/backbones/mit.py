"""MiT, the backbone of SegFormer."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

import flax.linen as nn
import numpy as np
from jaxtyping import Array, Float

from jaxseg.errors import ConfigError
from jaxseg.models.layers.activation import build_activation
from jaxseg.models.layers.conv import Conv
from jaxseg.models.layers.drop import Dropout, DropPath
from jaxseg.models.layers.initializers import kaiming_normal, normal
from jaxseg.models.layers.norm import build_norm
from jaxseg.models.layers.reduced_attention import ReducedAttention, joined_projections
from jaxseg.models.layers.transformer import PatchEmbed, drop_path_rates
from jaxseg.models.names import Source


def _of_stage(part: str) -> Callable[[re.Match], str]:
    """The authors count stages from 1, and have three lists of parts for what is one list of stages here."""
    return lambda found: f"layers.{int(found[1]) - 1}.{part}."


def _pointwise(name: str, array: np.ndarray) -> np.ndarray:
    """Linear layers of the authors are convolutions here."""
    return array[:, :, None, None] if re.search(r"\.ffn\.layers\.[04]\.weight$", name) else array


# The authors' own checkpoints (github.com/NVlabs/SegFormer).
AUTHORS = Source(
    rules=(
        (r"^patch_embed(\d)\.proj\.", _of_stage("0.projection")),
        (r"^patch_embed(\d)\.", _of_stage("0")),
        (r"^block(\d)\.", _of_stage("1")),
        (r"^norm(\d)\.", _of_stage("2")),
        (r"\.attn\.q\.", ".attn.attn.in_proj_"),
        (r"\.attn\.proj\.", ".attn.attn.out_proj."),
        (r"\.mlp\.fc1\.", ".ffn.layers.0."),
        (r"\.mlp\.dwconv\.dwconv\.", ".ffn.layers.1."),
        (r"\.mlp\.fc2\.", ".ffn.layers.4."),
    ),
    ignored=r"^head\.",
    prepare=joined_projections,
    transform=_pointwise,
)


class MixFFN(nn.Module):
    """A feed-forward network that also looks at the pixels around, and so learns where it is.

    Attributes:
        feedforward_channels: Width in between.
        act_cfg: Activation.
        ffn_drop: Dropout after both layers.
    """

    feedforward_channels: int
    act_cfg: Mapping = nn.FrozenDict(type="GELU")
    ffn_drop: float = 0.0

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool = False) -> Float[Array, "b h w c"]:
        """Applies the layers."""
        channels, width = x.shape[-1], self.feedforward_channels
        x = Conv(width, 1, name="layers_0")(x)
        x = Conv(width, 3, padding=1, groups=width, kernel_init=normal((2 / 9) ** 0.5), name="layers_1")(x)
        x = Dropout(self.ffn_drop, name="layers_3")(build_activation(self.act_cfg)(x), train)
        return Dropout(self.ffn_drop, name="layers_5")(Conv(channels, 1, name="layers_4")(x), train)


class Block(nn.Module):
    """Attention to a coarser map and a feed-forward network, each behind a norm and beside a shortcut.

    Attributes:
        num_heads, sr_ratio, qkv_bias: Of the attention.
        feedforward_channels, act_cfg: Of the feed-forward network.
        drop_rate: Dropout of both.
        attn_drop_rate: Dropout of the attention's weights.
        drop_path_rate: Stochastic depth of both.
        norm_cfg: Norm layers.
    """

    num_heads: int
    sr_ratio: int
    feedforward_channels: int
    qkv_bias: bool
    drop_rate: float
    attn_drop_rate: float
    drop_path_rate: float
    act_cfg: Mapping
    norm_cfg: Mapping

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool = False) -> Float[Array, "b h w c"]:
        """Applies the block."""
        attention = ReducedAttention(
            self.num_heads,
            self.sr_ratio,
            self.qkv_bias,
            self.attn_drop_rate,
            self.drop_rate,
            self.norm_cfg,
            name="attn",
        )
        y = attention(build_norm(self.norm_cfg, name="norm1")(x, train), train)
        x = x + DropPath(self.drop_path_rate, name="attn_drop_path")(y, train)
        ffn = MixFFN(self.feedforward_channels, self.act_cfg, self.drop_rate, name="ffn")
        y = ffn(build_norm(self.norm_cfg, name="norm2")(x, train), train)
        return x + DropPath(self.drop_path_rate, name="ffn_drop_path")(y, train)


class MixVisionTransformer(nn.Module):
    """A pyramid of transformers over overlapping patches (Xie et al. 2021, "SegFormer").

    Attributes:
        in_channels: Channels of the image.
        embed_dims: Channels of each head of the attention.
        num_stages: Number of stages.
        num_layers: Blocks of each stage.
        num_heads: Heads of each stage, which has as many times `embed_dims` channels.
        patch_sizes, strides: Of the patches that each stage begins with.
        sr_ratios: Side of the patches that each stage's attention looks at.
        out_indices: Stages whose outputs are returned.
        mlp_ratio: Width of the feed-forward networks, in channels of the stage.
        qkv_bias: Whether the attention's projections have biases.
        drop_rate, attn_drop_rate: Dropout, and that of the attention's weights.
        drop_path_rate: Stochastic depth of the last block; it grows from 0 in the first.
        act_cfg, norm_cfg: Activations and norm layers.
        with_cp: Recompute each block's activations in the backward pass, to save memory.
    """

    in_channels: int = 3
    embed_dims: int = 64
    num_stages: int = 4
    num_layers: Sequence[int] = (3, 4, 6, 3)
    num_heads: Sequence[int] = (1, 2, 4, 8)
    patch_sizes: Sequence[int] = (7, 3, 3, 3)
    strides: Sequence[int] = (4, 2, 2, 2)
    sr_ratios: Sequence[int] = (8, 4, 2, 1)
    out_indices: Sequence[int] = (0, 1, 2, 3)
    mlp_ratio: int = 4
    qkv_bias: bool = True
    drop_rate: float = 0.0
    attn_drop_rate: float = 0.0
    drop_path_rate: float = 0.0
    act_cfg: Mapping = nn.FrozenDict(type="GELU")
    norm_cfg: Mapping = nn.FrozenDict(type="LN", eps=1e-6)
    with_cp: bool = False

    # What the reference's tool makes of the authors' files has the reference's names.
    sources: ClassVar[Mapping[str, Source]] = {"converted": Source(), "authors": AUTHORS}

    def check(self) -> None:
        """Raises ConfigError where the fields don't fit each other."""
        for name in ("num_layers", "num_heads", "patch_sizes", "strides", "sr_ratios"):
            value = tuple(getattr(self, name))
            if len(value) != self.num_stages:
                raise ConfigError(f"backbone.{name}={value} needs num_stages={self.num_stages} entries")
        if max(self.out_indices) >= self.num_stages:
            raise ConfigError(
                f"backbone.out_indices={tuple(self.out_indices)} names a stage beyond num_stages={self.num_stages}"
            )

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool = False) -> tuple[Float[Array, "b _ _ _"], ...]:
        """Returns the outputs of the stages `out_indices`; their strides are the running product of `strides`."""
        self.check()
        block = nn.remat(Block, static_argnums=(2,)) if self.with_cp else Block
        rates = iter(drop_path_rates(self.drop_path_rate, sum(self.num_layers)))
        outputs = []
        for stage in range(self.num_stages):
            channels, size = self.embed_dims * self.num_heads[stage], self.patch_sizes[stage]
            embed = PatchEmbed(
                channels,
                size,
                self.strides[stage],
                size // 2,
                norm_cfg=self.norm_cfg,
                kernel_init=kaiming_normal(),
                name=f"layers_{stage}_0",
            )
            x = embed(x, train)
            for i in range(self.num_layers[stage]):
                x = block(
                    self.num_heads[stage],
                    self.sr_ratios[stage],
                    self.mlp_ratio * channels,
                    self.qkv_bias,
                    self.drop_rate,
                    self.attn_drop_rate,
                    next(rates),
                    self.act_cfg,
                    self.norm_cfg,
                    name=f"layers_{stage}_1_{i}",
                )(x, train)
            x = build_norm(self.norm_cfg, name=f"layers_{stage}_2")(x, train)
            if stage in self.out_indices:
                outputs.append(x)
        return tuple(outputs)
