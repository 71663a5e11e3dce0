"""Cross entropy, softmax and sigmoid."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Integer

from jaxseg.errors import ConfigError
from jaxseg.losses.common import check_reduction, class_targets, class_weights

EPS = 1.1920929e-07  # float32's epsilon, which the reference adds to the averaging factor


def cross_entropy_loss(
    logits: Float[Array, "b h w c"],
    labels: Integer[Array, "b h w *k"],
    weight: Float[Array, "b h w"] | None = None,
    *,
    ignore_index: int | None = 255,
    use_sigmoid: bool = False,
    class_weight: Sequence[float] | None = None,
    reduction: str = "mean",
    avg_non_ignore: bool = False,
) -> Float[Array, "..."]:
    """Cross entropy between logits and labels.

    Softmax: -w[y] log(exp(z[y]) / sum_c exp(z[c])) at every pixel with label y. Sigmoid: one binary problem for
    every class, with the one-hot label as its target (or the label itself where there is one logit) and
    `class_weight` as the weight of the positive.

    Args:
        logits: Scores before softmax or sigmoid.
        labels: Class indices; pixels of `ignore_index` have loss 0. With sigmoid, also several classes a pixel,
            [b h w c] of 0 and 1.
        weight: Factor of every pixel's loss, such as a sampler's.
        ignore_index: Label that does not count, or None.
        use_sigmoid: Sigmoid instead of softmax.
        class_weight: One weight a class.
        reduction: "mean", "sum" or "none".
        avg_non_ignore: Whether the mean is over the pixels that count, instead of over all. With softmax and
            `class_weight`, it is over the class weights of those pixels; a label that is no class weighs nothing.

    Returns:
        A scalar; with "none" the loss of every pixel, [b h w] (of every pixel and class with sigmoid).

    Raises:
        ConfigError: The reduction is unknown, class_weight has another length than there are classes, or labels are of
            several classes a pixel without sigmoid.
    """
    if not use_sigmoid:
        if labels.ndim == 4:
            raise ConfigError("loss_decode: several classes a pixel need use_sigmoid=True")
        losses = softmax_losses(logits, labels, ignore_index=ignore_index, class_weight=class_weight)
        fields = {"ignore_index": ignore_index, "class_weight": class_weight, "classes": logits.shape[-1]}
        return reduce_losses(losses, labels, weight, reduction=reduction, avg_non_ignore=avg_non_ignore, **fields)
    check_reduction(reduction)
    if class_weight is not None:
        class_weight = class_weights(class_weight, logits)
    labels = labels.astype(jnp.int32)
    loss, factor = _sigmoid(logits, labels, ignore_index, class_weight, avg_non_ignore)
    return _reduce(loss, weight, reduction, factor)


def softmax_losses(
    logits: Float[Array, "b h w c"],
    labels: Integer[Array, "b h w"],
    *,
    ignore_index: int | None = 255,
    class_weight: Sequence[float] | None = None,
) -> Float[Array, "b h w"]:
    """The loss of every pixel, times its class's weight."""
    labels = labels.astype(jnp.int32)
    target = labels[..., None] == jnp.arange(logits.shape[-1])
    picked = jnp.sum(jnp.where(target, logits, 0), axis=-1)
    loss = jnp.where(_counts(labels, ignore_index), jax.nn.logsumexp(logits, axis=-1) - picked, 0)
    if class_weight is not None:
        loss = loss * jnp.sum(jnp.where(target, class_weights(class_weight, logits), 0), axis=-1)
    return loss


def reduce_losses(
    losses: Float[Array, "b h w"],
    labels: Integer[Array, "b h w"],
    weight: Float[Array, "b h w"] | None = None,
    *,
    classes: int,
    ignore_index: int | None = 255,
    class_weight: Sequence[float] | None = None,
    reduction: str = "mean",
    avg_non_ignore: bool = False,
) -> Float[Array, "..."]:
    """The mean or the sum of what `softmax_losses` gave for so many classes, or the losses themselves."""
    check_reduction(reduction)
    labels = labels.astype(jnp.int32)
    valid = _counts(labels, ignore_index)
    factor: Array | int = jnp.sum(valid) if avg_non_ignore else labels.size
    if class_weight is not None:
        weights = class_weights(class_weight, jnp.zeros(classes, losses.dtype))
        pixel_weight = jnp.where((labels >= 0) & (labels < classes), weights[jnp.clip(labels, 0, classes - 1)], 0)
        factor = jnp.sum(jnp.where(valid, pixel_weight, 0) if avg_non_ignore else pixel_weight)
    return _reduce(losses, weight, reduction, factor)


def _counts(labels: Array, ignore_index: int | None) -> Array:
    return jnp.ones(labels.shape, bool) if ignore_index is None else labels != ignore_index


def _reduce(loss: Array, weight: Array | None, reduction: str, factor: Array | int | None) -> Array:
    if weight is not None:
        loss = loss * (weight if loss.ndim == weight.ndim else weight[..., None])
    if reduction == "none":
        return loss
    total = jnp.sum(loss)
    if reduction == "sum":
        return total
    return total / loss.size if factor is None else total / (factor + EPS)


def _sigmoid(logits, labels, ignore_index, class_weight, avg_non_ignore) -> tuple[Array, Array | None]:
    target, valid = class_targets(labels, logits.shape[-1], ignore_index)
    valid &= (labels if labels.ndim == 4 else labels[..., None]) >= 0
    target = (target & valid).astype(logits.dtype)
    positive = 1.0 if class_weight is None else class_weight
    loss = positive * target * jax.nn.softplus(-logits) + (1 - target) * jax.nn.softplus(logits)
    loss = jnp.where(valid, loss, 0)
    return loss, jnp.sum(valid) * (logits.shape[-1] // valid.shape[-1]) if avg_non_ignore else None
