"""Pixel accuracy."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Integer

from jaxseg.losses.cross_entropy import EPS


def pixel_accuracy(
    logits: Float[Array, "b h w c"], labels: Integer[Array, "b h w"], ignore_index: int | None = 255
) -> Float[Array, ""]:
    """Percentage of the pixels that count whose largest logit is the labelled class (0 to 100)."""
    labels = labels.astype(jnp.int32)
    valid = jnp.ones(labels.shape, bool) if ignore_index is None else labels != ignore_index
    correct = jnp.sum((jnp.argmax(logits, axis=-1) == labels) & valid)
    return 100.0 * (correct + EPS) / (jnp.sum(valid) + EPS)
