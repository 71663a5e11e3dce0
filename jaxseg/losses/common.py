"""What losses share: the checks of their fields, and the reduction to a scalar."""

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Integer

from jaxseg.errors import ConfigError


def check_reduction(reduction: str) -> None:
    """Raises ConfigError unless it is mean, sum or none."""
    if reduction not in ("mean", "sum", "none"):
        raise ConfigError(f"loss_decode.reduction={reduction!r} is not one of mean, sum, none")


def reduce(loss: Float[Array, "..."], reduction: str) -> Float[Array, "..."]:
    """The mean or the sum of all entries, or the entries themselves."""
    check_reduction(reduction)
    if reduction == "none":
        return loss
    return jnp.mean(loss) if reduction == "mean" else jnp.sum(loss)


def class_weights(class_weight: Sequence[float] | None, logits: Float[Array, "... c"]) -> Float[Array, " c"]:
    """One weight a class, in the dtype of the logits; ones for None.

    Raises:
        ConfigError: There are not as many weights as classes.
    """
    classes = logits.shape[-1]
    if class_weight is None:
        return jnp.ones(classes, logits.dtype)
    if isinstance(class_weight, str) or len(class_weight) != classes:
        found = repr(class_weight) if isinstance(class_weight, str) else f"{len(class_weight)} entries"
        raise ConfigError(f"loss_decode.class_weight has {found} for {classes} classes")
    return jnp.asarray(class_weight, logits.dtype)


def class_targets(
    labels: Integer[Array, "b h w *k"], classes: int, ignore_index: int | None
) -> tuple[Bool[Array, "b h w c"], Bool[Array, "b h w c"] | Bool[Array, "b h w 1"]]:
    """Of every class whether it is there, and whether that counts.

    Args:
        labels: Class indices; or several classes a pixel, [b h w classes] of 0 and 1.
        classes: How many logits there are; of one, label 1 is the positive.
        ignore_index: Label that does not count, or None.
    """
    labels = labels.astype(jnp.int32)
    if labels.ndim == 3:
        labels = labels[..., None]
        wanted = 1 if classes == 1 else jnp.arange(classes)
    elif labels.shape[-1] != classes:
        raise ConfigError(f"labels are of {labels.shape[-1]} classes at every pixel, but there are {classes} logits")
    else:
        wanted = 1
    return labels == wanted, jnp.ones(labels.shape, bool) if ignore_index is None else labels != ignore_index


def refuse_pixel_weight(kind: str, weight: Array | None) -> None:
    """Raises ConfigError where a loss that is no sum over pixels gets weights of pixels."""
    if weight is not None:
        raise ConfigError(f"loss_decode.type={kind!r} has no loss of each pixel, which weights (a sampler's) need")
