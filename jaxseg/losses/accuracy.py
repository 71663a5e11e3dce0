"""Pixel accuracy."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Integer

from jaxseg.losses.cross_entropy import EPS


def pixel_accuracy(
    logits: Float[Array, "b h w c"], labels: Integer[Array, "b h w *k"], ignore_index: int | None = 255
) -> Float[Array, ""]:
    """Percentage of the pixels that count whose largest logit is the labelled class (0 to 100).

    Where labels are of several classes a pixel: of pixels and classes, those whose probability is on the right side of
    one half.
    """
    labels = labels.astype(jnp.int32)
    valid = jnp.ones(labels.shape, bool) if ignore_index is None else labels != ignore_index
    found = jnp.argmax(logits, axis=-1) if labels.ndim == 3 else jax.nn.sigmoid(logits) > 0.5
    correct = jnp.sum((found == labels) & valid)
    return 100.0 * (correct + EPS) / (jnp.sum(valid) + EPS)
