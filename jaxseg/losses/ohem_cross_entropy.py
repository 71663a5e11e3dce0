"""Cross entropy of hard pixels."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Integer

from jaxseg.losses.common import refuse_pixel_weight
from jaxseg.losses.cross_entropy import cross_entropy_loss


def ohem_cross_entropy(
    logits: Float[Array, "b h w c"],
    labels: Integer[Array, "b h w"],
    weight: Float[Array, "b h w"] | None = None,
    *,
    ignore_index: int | None = 255,
    ignore_label: int = 255,
    thres: float = 0.7,
    min_kept: int = 100000,
    class_weight: Sequence[float] | None = None,
) -> Float[Array, ""]:
    """Mean cross entropy over the pixels that are hard (Shrivastava et al. 2016, as PIDNet has it).

    Args:
        logits: Scores before softmax.
        labels: Class indices.
        weight: Not supported: this loss chooses the pixels itself.
        ignore_index: The head's; nothing depends on it.
        ignore_label: Label of pixels that don't count.
        thres: A pixel is hard if its class has a probability below this.
        min_kept: At least about so many pixels of the batch are kept, the hardest.
        class_weight: One weight a class; the mean is over the pixels, whatever they weigh.

    Returns:
        The mean; 0 where no pixel is kept.

    Raises:
        ConfigError: class_weight has another length than there are classes, or there are weights of pixels.
    """
    refuse_pixel_weight("OhemCrossEntropy", weight)
    labels = labels.astype(jnp.int32)
    losses = cross_entropy_loss(logits, labels, ignore_index=ignore_label, class_weight=class_weight, reduction="none")
    valid = labels != ignore_label
    target = labels[..., None] == jnp.arange(logits.shape[-1])
    probability = jnp.sum(jnp.where(target, jax.nn.softmax(jax.lax.stop_gradient(logits)), 0), axis=-1)
    ascending = jnp.sort(jnp.where(valid, probability, jnp.inf).ravel())
    rank = jnp.clip(jnp.minimum(max(1, min_kept), jnp.sum(valid) - 1), 0)
    hard = valid & (probability < jnp.maximum(ascending[rank], thres))
    return jnp.sum(jnp.where(hard, losses, 0)) / jnp.maximum(jnp.sum(hard), 1)
