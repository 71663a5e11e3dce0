"""The vision transformer of MAE."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxseg.models.backbones.beit import RelativeTransformer


class MAE(RelativeTransformer):
    """A vision transformer with positions both absolute and relative (He et al. 2022, "Masked Autoencoders")."""

    def with_positions(self, x: Float[Array, "b n c"]) -> Float[Array, "b n c"]:
        """The tokens, positions added."""
        return x + self.param("pos_embed", nn.initializers.zeros, (1, *x.shape[1:]), jnp.float32).astype(x.dtype)
