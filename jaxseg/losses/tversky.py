"""Tversky loss."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Integer

from jaxseg.errors import ConfigError
from jaxseg.losses.common import class_weights, refuse_pixel_weight


def tversky_loss(
    logits: Float[Array, "b h w c"],
    labels: Integer[Array, "b h w"],
    weight: Float[Array, "b h w"] | None = None,
    *,
    ignore_index: int | None = 255,
    smooth: float = 1,
    class_weight: Sequence[float] | None = None,
    alpha: float = 0.3,
    beta: float = 0.7,
) -> Float[Array, ""]:
    """One minus the Tversky index of each class and image, averaged (Salehi et al. 2017, "Tversky loss function").

    With p the softmax and t the one-hot label, summed over an image's pixels:
    1 - (TP + s) / (TP + alpha FP + beta FN + s), TP = sum(p t), FP = sum(p (1 - t)), FN = sum((1 - p) t).

    Args:
        logits: Scores before softmax.
        labels: Class indices; a larger one counts as the last class.
        weight: Not supported: there is no loss of each pixel.
        ignore_index: Label of pixels that don't count, or None; a class of this index is left out of the sum. It is
            this loss's own, whatever the head's is.
        smooth: s above.
        class_weight: One weight a class; the mean is over the number of classes all the same.
        alpha, beta: What false positives and false negatives cost; they add up to 1.

    Raises:
        ConfigError: alpha + beta is not 1, class_weight has another length, or there are weights of pixels.
    """
    refuse_pixel_weight("TverskyLoss", weight)
    if abs(alpha + beta - 1) > 1e-9:
        raise ConfigError(f"loss_decode: alpha={alpha} and beta={beta} of TverskyLoss must add up to 1")
    classes = logits.shape[-1]
    probability = jax.nn.softmax(logits)
    labels = labels.astype(jnp.int32)
    valid = jnp.ones(labels.shape, bool) if ignore_index is None else labels != ignore_index
    valid = valid[..., None].astype(logits.dtype)
    target = jax.nn.one_hot(jnp.clip(labels, 0, classes - 1), classes, dtype=logits.dtype)
    axes = (1, 2)
    hits = jnp.sum(probability * target * valid, axes)
    false_positives = jnp.sum(probability * (1 - target) * valid, axes)
    misses = jnp.sum((1 - probability) * target * valid, axes)
    index = (hits + smooth) / (hits + alpha * false_positives + beta * misses + smooth)
    by_class = jnp.mean(1 - index, axis=0) * class_weights(class_weight, logits)
    return jnp.sum(by_class * (jnp.arange(classes) != (-1 if ignore_index is None else ignore_index))) / classes
