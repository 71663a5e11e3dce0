"""Pixel accuracy."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Integer

from jaxseg.losses.cross_entropy import EPS


def pixel_accuracy(
    logits: Float[Array, "b h w c"], labels: Integer[Array, "b h w *k"], ignore_index: int | None = 255
) -> Float[Array, ""]:
    """Percentage of the pixels that count whose largest logit is the labelled class (0 to 100).

    Where labels are of several classes a pixel: of pixels and classes, those whose probability is on the right side of
    one half.
    """
    return share_of_hits(hits(logits, labels), labels, ignore_index)


def hits(logits: Float[Array, "b h w c"], labels: Integer[Array, "b h w *k"]) -> Bool[Array, "b h w *k"]:
    """Where the largest logit is the labelled class; of several classes a pixel, where the logit has the right sign."""
    found = jnp.argmax(logits, axis=-1) if labels.ndim == 3 else logits > 0
    return found == labels.astype(jnp.int32)


def share_of_hits(
    found: Bool[Array, "b h w *k"], labels: Integer[Array, "b h w *k"], ignore_index: int | None = 255
) -> Float[Array, ""]:
    """Percentage of the pixels that count which are hits (0 to 100)."""
    labels = labels.astype(jnp.int32)
    valid = jnp.ones(labels.shape, bool) if ignore_index is None else labels != ignore_index
    return 100.0 * (jnp.sum(found & valid) + EPS) / (jnp.sum(valid) + EPS)
