"""Which classes an image has, as labels of their own."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Integer


def present_classes(labels: Integer[Array, "b h w"], num_classes: int) -> Bool[Array, "b classes"]:
    """Whether any pixel of an image has a class; labels that are no class, such as the ignored ones, say nothing."""
    return jnp.any(labels.astype(jnp.int32)[..., None] == jnp.arange(num_classes), axis=(1, 2))
