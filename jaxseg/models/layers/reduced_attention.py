"""Attention from all pixels of a map to a coarser version of it."""

from collections.abc import Mapping

import flax.linen as nn
import numpy as np
from jaxtyping import Array, Float

from jaxseg.models.layers.attention import flatten_pixels
from jaxseg.models.layers.conv import Conv
from jaxseg.models.layers.drop import Dropout
from jaxseg.models.layers.initializers import trunc_normal
from jaxseg.models.layers.norm import build_norm
from jaxseg.models.layers.transformer import MultiheadAttention


class ReducedAttention(nn.Module):
    """Attention whose keys and values are patches of the map (Wang et al. 2021, "Pyramid Vision Transformer").

    Attributes:
        num_heads, attn_drop, qkv_bias: Of the attention.
        sr_ratio: Side of the patches; 1 for the pixels themselves.
        proj_drop: Dropout of the result.
        norm_cfg: Norm of the patches.
    """

    num_heads: int
    sr_ratio: int = 1
    qkv_bias: bool = True
    attn_drop: float = 0.0
    proj_drop: float = 0.0
    norm_cfg: Mapping = nn.FrozenDict(type="LN")

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool = False) -> Float[Array, "b h w c"]:
        """What every pixel finds in the patches."""
        channels, patches = x.shape[-1], x
        if self.sr_ratio > 1:
            patches = Conv(channels, self.sr_ratio, self.sr_ratio, name="sr")(x)
            patches = build_norm(self.norm_cfg, name="norm")(patches, train)
        attention = MultiheadAttention(
            channels, self.num_heads, self.attn_drop, self.qkv_bias, trunc_normal(0.02), name="attn"
        )
        pixels = flatten_pixels(x)
        y = attention(pixels, flatten_pixels(patches) if self.sr_ratio > 1 else None, train=train)
        return Dropout(self.proj_drop, name="proj_drop")(y.reshape(x.shape), train)


def joined_projections(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Of authors' files, in which `q` and `kv` are two layers: one, under the first's name."""
    joined = dict(arrays)
    for name in arrays:
        keys_values = name.replace(".attn.q.", ".attn.kv.")
        if keys_values != name and keys_values in arrays:
            joined[name] = np.concatenate([arrays[name], joined.pop(keys_values)])
    return joined
