"""Positions of pixels, as sines."""

import math

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxseg.models.layers.conv import Pair


class SinePositions(nn.Module):
    """Sines and cosines of a pixel's row and column (Carion et al. 2020, "DETR").

    Attributes:
        num_feats: Channels for the row, and as many for the column.
        temperature: The longest wave over the shortest.
        normalize: Whether rows and columns are counted in shares of the map, up to `scale`.
        scale: What the last row or column is counted as then.
        eps: Keeps the shares finite.
        offset: Added to the count before it becomes a share.
    """

    num_feats: int
    temperature: float = 10000
    normalize: bool = False
    scale: float = 2 * math.pi
    eps: float = 1e-6
    offset: float = 0.0

    def __call__(self, size: Pair) -> Float[Array, "h w c"]:
        """Those of a map of that height and width, rows first; float32."""
        rows, columns = (self.waves(length) for length in size)
        shape = (*size, 2 * self.num_feats)
        parts = [np.broadcast_to(part, (*size, part.shape[-1])) for part in (rows[:, None], columns[None])]
        return jnp.concatenate([jnp.asarray(part) for part in parts], axis=-1).reshape(shape)

    def waves(self, length: int) -> np.ndarray:
        """[length, num_feats]: a sine and a cosine in turn."""
        place = np.arange(1, length + 1, dtype=np.float32)
        if self.normalize:
            place = (place + np.float32(self.offset)) / (place[-1] + np.float32(self.eps)) * np.float32(self.scale)
        exponent = np.float32(2) * (np.arange(self.num_feats) // 2).astype(np.float32) / np.float32(self.num_feats)
        angle = place[:, None] / np.float32(self.temperature) ** exponent
        return np.where(np.arange(self.num_feats) % 2 == 0, np.sin(angle), np.cos(angle))
