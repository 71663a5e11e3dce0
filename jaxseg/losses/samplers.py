"""Samplers: which pixels count in a loss."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Integer


def ohem_pixel_weights(
    logits: Float[Array, "b h w c"],
    labels: Integer[Array, "b h w"],
    pixel_losses: Callable[[], Float[Array, "b h w"]],
    *,
    ignore_index: int | None = 255,
    thresh: float | None = None,
    min_kept: int = 100000,
) -> Float[Array, "b h w"]:
    """Online hard example mining (Shrivastava et al. 2016) over the pixels of a batch.

    Args:
        logits: Scores before softmax.
        labels: Class indices.
        pixel_losses: Gives the loss of every pixel; only called where there is no threshold.
        ignore_index: Label of pixels that are never kept.
        thresh: Keep pixels whose true class has a probability below this, and at least about `min_kept * b` of
            the least probable. None: keep the `min_kept * b` pixels of the largest loss.
        min_kept: Pixels to keep, on average for an image.

    Returns:
        1 for every pixel that is kept, else 0. No gradient flows through it.
    """
    logits = jax.lax.stop_gradient(logits)
    labels = labels.astype(jnp.int32)
    valid = jnp.ones(labels.shape, bool) if ignore_index is None else labels != ignore_index
    kept = min_kept * labels.shape[0]
    if thresh is None:
        losses = jnp.where(valid, jax.lax.stop_gradient(pixel_losses()), -jnp.inf).ravel()
        hardest = jnp.argsort(-losses)[: min(kept, losses.size)]
        weights = jnp.zeros(losses.shape, logits.dtype).at[hardest].set(1).reshape(labels.shape)
        return weights * valid
    target = labels[..., None] == jnp.arange(logits.shape[-1])
    probability = jnp.sum(jnp.where(target, jax.nn.softmax(logits), 0), axis=-1)
    ascending = jnp.sort(jnp.where(valid, probability, jnp.inf).ravel())
    count = jnp.sum(valid)
    rank = jnp.clip(jnp.minimum(kept, count - 1), 0)
    least = jnp.where(count > 0, ascending[rank], 0)
    return ((probability < jnp.maximum(least, thresh)) & valid).astype(logits.dtype)


SAMPLERS: dict[str, Callable] = {"OHEMPixelSampler": ohem_pixel_weights}
