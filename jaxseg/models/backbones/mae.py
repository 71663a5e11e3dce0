"""The vision transformer of MAE."""

from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxseg.models.backbones.beit import RelativeTransformer
from jaxseg.models.layers.transformer import resize_positions


class MAE(RelativeTransformer):
    """A vision transformer with positions both absolute and relative (He et al. 2022, "Masked Autoencoders")."""

    # Trained without relative positions and scales.
    may_lack: ClassVar[str] = r"|\.gamma_[12]$|\.relative_position_bias_table$"

    def with_positions(self, x: Float[Array, "b n c"]) -> Float[Array, "b n c"]:
        """The tokens, positions added."""
        return x + self.param("pos_embed", nn.initializers.zeros, (1, *x.shape[1:]), jnp.float32).astype(x.dtype)

    @nn.nowrap
    def fit(self, name: str, array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """A table for this transformer's images."""
        if name == "backbone.pos_embed" and array.shape[-1] == shape[-1]:
            side = int((array.shape[1] - 1) ** 0.5)
            return np.asarray(resize_positions(jnp.asarray(array), (side, side), self.grid))
        return super().fit(name, array, shape)
