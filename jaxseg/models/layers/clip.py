"""The transformer layer of CLIP's two encoders."""

from collections.abc import Mapping

import flax.linen as nn
from jaxtyping import Array, Float

from jaxseg.models.layers.norm import build_norm
from jaxseg.models.layers.transformer import FFN, MultiheadAttention

QUICK_GELU = nn.FrozenDict(type="QuickGELU")
# The reference's names of what a `CLIPLayer` has, see `jaxseg.models.names`.
CLIP_NAMES = ((r"^attentions_0_attn$", "attentions.0.attn"),)


class CLIPLayer(nn.Module):
    """Attention and a feed-forward network, each behind a norm and beside a shortcut (Radford et al. 2021).

    Attributes:
        num_heads, qkv_bias: Of the attention.
        mlp_ratio: Width of the feed-forward network, in widths of a token.
        act_cfg: Its activation.
    """

    num_heads: int
    mlp_ratio: int = 4
    qkv_bias: bool = True
    act_cfg: Mapping = QUICK_GELU

    @nn.compact
    def __call__(self, x: Float[Array, "b n c"], bias: Float[Array, "..."] | None = None) -> Float[Array, "b n c"]:
        """Applies the layer; `bias` [... heads n n] is added to the products of queries and keys."""
        channels = x.shape[-1]
        attention = MultiheadAttention(channels, self.num_heads, qkv_bias=self.qkv_bias, name="attentions_0_attn")
        ffn = FFN(self.mlp_ratio * channels, act_cfg=self.act_cfg, kernel_init=None, bias_init=None, name="ffns_0")
        norms = [build_norm({"type": "LN"}, name=f"norms_{i}") for i in range(2)]
        x = x + attention(norms[0](x), bias=bias)
        return x + ffn(norms[1](x))
