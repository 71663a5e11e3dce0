"""Attention to a few places of several maps."""

import math
from collections.abc import Callable, Mapping, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxseg.models.layers.conv import Pair
from jaxseg.models.layers.drop import Dropout
from jaxseg.models.layers.norm import at_least_float32
from jaxseg.models.layers.points import sample_points
from jaxseg.models.layers.transformer import Linear


def deformable_attention(
    values: Sequence[Float[Array, "b _ _ heads c"]],
    places: Float[Array, "b q heads levels points 2"],
    weights: Float[Array, "b q heads levels points"],
) -> Float[Array, "b q heads c"]:
    """Sums of the maps' values at places between their pixels; beyond a map they are zero.

    Args:
        values: A map for each level.
        places: As (x, y) in 0..1 of the map's width and height, from its outer edges.
        weights: Of the places.
    """
    total = 0.0
    for level, value in enumerate(values):
        batch, height, width, heads, channels = value.shape
        maps = value.transpose(0, 3, 1, 2, 4).reshape(batch * heads, height, width, channels)
        at = places[:, :, :, level].swapaxes(1, 2)
        found = sample_points(maps, at.reshape(batch * heads, -1, 2)).reshape(*at.shape[:-1], channels)
        weight = weights[:, :, :, level].swapaxes(1, 2).astype(found.dtype)
        total += jnp.sum(found * weight[..., None], axis=3)
    return total.swapaxes(1, 2)


class MultiScaleDeformableAttention(nn.Module):
    """Every token looks at a few places around its own, in all maps (Zhu et al. 2021, "Deformable DETR").

    Attributes:
        embed_dims: Channels.
        num_heads: Number of heads.
        num_levels: Number of maps.
        num_points: Places in each map, for each head.
        dropout: Of the result.
        value_proj_ratio: Channels of the values, as a share of `embed_dims`.
        im2col_step, batch_first, norm_cfg: Kept for configs that state them; they change nothing.
    """

    embed_dims: int = 256
    num_heads: int = 8
    num_levels: int = 4
    num_points: int = 4
    dropout: float = 0.1
    value_proj_ratio: float = 1.0
    im2col_step: int = 64
    batch_first: bool = True
    norm_cfg: Mapping | None = None

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b n c"],
        positions: Float[Array, "n c"],
        references: Float[Array, "n 2"],
        sizes: Sequence[Pair],
        train: bool = False,
    ) -> Float[Array, "b n c"]:
        """X plus what its tokens find.

        Args:
            x: Tokens of all maps, one map after the other, row by row.
            positions: Added to the tokens where these say where they look.
            references: The tokens' own places, as (x, y) in 0..1 of the width and height.
            sizes: Height and width of each map.
            train: Whether dropout drops.
        """
        shape = (*x.shape[:2], self.num_heads, self.num_levels, self.num_points)
        width = int(self.embed_dims * self.value_proj_ratio)
        spread = {"kernel_init": nn.initializers.zeros}
        mixed = {"kernel_init": nn.initializers.xavier_uniform()}
        query = x + positions.astype(x.dtype)
        count = math.prod(shape[2:])
        offsets = Linear(2 * count, bias_init=self.star(), name="sampling_offsets", **spread)(query)
        weights = Linear(count, name="attention_weights", **spread)(query)
        values = Linear(width, name="value_proj", **mixed)(x)

        wide = at_least_float32(x.dtype)  # of places between many pixels
        scale = np.asarray([(w, h) for h, w in sizes], np.float32)[:, None]
        places = references[:, None, None, None].astype(wide) + offsets.reshape(*shape, 2).astype(wide) / scale
        weights = jax.nn.softmax(weights.astype(wide).reshape(*shape[:3], -1)).reshape(shape)
        ends = np.cumsum([h * w for h, w in sizes])[:-1]
        maps = [
            part.reshape(part.shape[0], *size, self.num_heads, -1)
            for part, size in zip(jnp.split(values, ends, axis=1), sizes, strict=True)
        ]
        # What is found at each place is four pixels of each level: looked up again in the backward pass, not kept.
        found = jax.checkpoint(deformable_attention)(maps, places, weights).reshape(*x.shape[:2], width)
        y = Linear(self.embed_dims, name="output_proj", **mixed)(found)
        return x + Dropout(self.dropout, name="drop")(y, train)

    def star(self) -> Callable:
        """Where the heads look at first: each in a direction of its own, the points one after the other."""
        angles = 2 * np.pi * np.arange(self.num_heads) / self.num_heads
        directions = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
        directions /= np.abs(directions).max(-1, keepdims=True)
        distances = np.arange(1, self.num_points + 1)[:, None]
        star = np.broadcast_to(
            directions[:, None, None] * distances, (self.num_heads, self.num_levels, self.num_points, 2)
        )
        return lambda key, shape, dtype=jnp.float32: jnp.asarray(star.reshape(shape), dtype)
