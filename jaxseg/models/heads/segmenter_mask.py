"""Segmenter head."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jaxseg.models.heads.decode_head import DecodeHead
from jaxseg.models.layers.attention import flatten_pixels
from jaxseg.models.layers.initializers import trunc_normal
from jaxseg.models.layers.norm import at_least_float32, build_norm
from jaxseg.models.layers.transformer import (
    ATTENTION_NAMES,
    Linear,
    TransformerEncoderLayer,
    drop_path_rates,
)


class SegmenterMaskTransformerHead(DecodeHead):
    """Layers of a transformer on pixels and classes, whose products are the logits (Strudel et al. 2021, "Segmenter").

    `channels` and the fields of the classifier mean nothing here: there is none.

    Attributes:
        num_layers, num_heads, mlp_ratio, drop_path_rate, drop_rate, attn_drop_rate, num_fcs, qkv_bias: Of the layers,
            as in `VisionTransformer`.
        embed_dims: Channels of pixels and classes.
        init_std: Standard deviation of the kernels and classes at the start.
    """

    num_layers: int = 2
    num_heads: int = 12
    embed_dims: int = 768
    mlp_ratio: int = 4
    drop_path_rate: float = 0.1
    drop_rate: float = 0.0
    attn_drop_rate: float = 0.0
    num_fcs: int = 2
    qkv_bias: bool = True
    act_cfg: Mapping | None = nn.FrozenDict(type="GELU")
    norm_cfg: Mapping | None = nn.FrozenDict(type="LN")
    init_std: float = 0.02

    dotted_names: ClassVar[Sequence[tuple[str, str]]] = ATTENTION_NAMES

    def decode(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b h w classes"]:
        """The cosines between every pixel and every class, normalised over the classes."""
        if self.embed_dims % self.num_heads:
            raise self.error("num_heads", f"must divide embed_dims={self.embed_dims}")
        if self.logit_channels != self.num_classes:
            raise self.error("out_channels", f"must be num_classes={self.num_classes}")
        dims, init = self.embed_dims, trunc_normal(self.init_std)
        size = x.shape[:3]
        x = Linear(dims, kernel_init=init, name="dec_proj")(flatten_pixels(x))
        classes = self.param("cls_emb", init, (1, self.num_classes, dims), jnp.float32)
        classes = jnp.broadcast_to(classes.astype(x.dtype), (x.shape[0], self.num_classes, dims))
        x = jnp.concatenate([x, classes], axis=1)
        for i, drop_path_rate in enumerate(drop_path_rates(self.drop_path_rate, self.num_layers)):
            x = TransformerEncoderLayer(
                self.num_heads,
                self.mlp_ratio * dims,
                self.num_fcs,
                self.qkv_bias,
                self.drop_rate,
                self.attn_drop_rate,
                drop_path_rate,
                self.act_cfg,
                self.norm_cfg,
                ffn_bias_init=nn.initializers.zeros,
                init_std=self.init_std,
                name=f"layers_{i}",
            )(x, train)
        x = build_norm(self.norm_cfg, name="decoder_norm")(x, train)
        pixels, classes = x[:, : -self.num_classes], x[:, -self.num_classes :]
        pixels = unit(Linear(dims, use_bias=False, kernel_init=init, name="patch_proj")(pixels))
        classes = unit(Linear(dims, use_bias=False, kernel_init=init, name="classes_proj")(classes))
        masks = jnp.einsum("bnd,bkd->bnk", pixels, classes)
        return build_norm(self.norm_cfg, name="mask_norm")(masks, train).reshape(*size, self.num_classes)

    def classify(self, x: Float[Array, "b h w classes"], train: bool) -> Float[Array, "b h w classes"]:
        """They are the logits."""
        return x.astype(at_least_float32(x.dtype))


def unit(x: Float[Array, "*b c"]) -> Float[Array, "*b c"]:
    """Vectors of length 1, in float32 or more; of those that are shorter than 1e-12, shorter ones."""
    x = x.astype(at_least_float32(x.dtype))
    return x * lax.rsqrt(jnp.maximum(jnp.sum(jnp.square(x), axis=-1, keepdims=True), 1e-24))
