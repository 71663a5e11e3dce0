"""Lovász loss, softmax and hinge."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Integer

from jaxseg.errors import ConfigError
from jaxseg.losses.common import class_weights, reduce, refuse_pixel_weight


def lovasz_loss(
    logits: Float[Array, "b h w c"],
    labels: Integer[Array, "b h w"],
    weight: Float[Array, "b h w"] | None = None,
    *,
    ignore_index: int | None = 255,
    loss_type: str = "multi_class",
    classes: str | Sequence[int] = "present",
    per_image: bool = False,
    class_weight: Sequence[float] | None = None,
    reduction: str = "mean",
) -> Float[Array, "..."]:
    """A convex stand-in for one minus the IoU (Berman et al. 2018, "The Lovász-Softmax loss").

    The Lovász extension of the Jaccard loss of a class: with the pixels in the order of their errors e, the largest
    first, sum_i e_i (J_i - J_(i-1)), where J_i is one minus the IoU if the first i pixels are wrong. Errors are
    |t - p| of the softmax, or max(0, 1 - z (2 t - 1)) of the one logit z.

    Args:
        logits: Scores before softmax; of the binary form one logit.
        labels: Class indices; in the binary form 1 is the positive.
        weight: Not supported: there is no loss of each pixel.
        ignore_index: Label that does not count, or None.
        loss_type: "multi_class" (softmax) or "binary" (hinge).
        classes: Which the mean is over: "present" (those that have labels), "all", or their indices. Softmax only.
        per_image: Whether the loss is of each image, instead of the batch as a whole.
        class_weight: One weight a class; the mean is over the number of classes all the same. Softmax only.
        reduction: "mean" or "sum" over the images, or "none"; must be "none" unless `per_image`.

    Returns:
        A scalar, 0 where no pixel counts; with `per_image` and "none" the loss of every image, [b].

    Raises:
        ConfigError: A field is not as above, or the logits don't fit the form.
    """
    refuse_pixel_weight("LovaszLoss", weight)
    number = logits.shape[-1]
    chosen = range(number) if classes in ("all", "present") else classes
    if loss_type not in ("multi_class", "binary"):
        raise ConfigError(f"loss_decode.loss_type={loss_type!r} is not one of multi_class, binary")
    if isinstance(chosen, str) or not chosen or not all(isinstance(c, int) and 0 <= c < number for c in chosen):
        raise ConfigError(f"loss_decode.classes={classes!r} is not all, present, or indices of {number} classes")
    if not per_image and reduction != "none":
        raise ConfigError(f"loss_decode.reduction={reduction!r} must be 'none' where per_image is False")
    if (number == 1) != (loss_type == "binary"):
        raise ConfigError(f"loss_decode.loss_type={loss_type!r} does not fit {number} logits: binary is for one")
    labels = labels.astype(jnp.int32)
    valid = jnp.ones(labels.shape, bool) if ignore_index is None else labels != ignore_index
    if loss_type == "binary":
        target = labels == 1
        errors = jax.nn.relu(1 - logits[..., 0] * jnp.where(target, 1, -1))[..., None]
        target = target[..., None]
        weights, only_present = jnp.ones(1, logits.dtype), False
    else:
        index = jnp.array(chosen)
        target = labels[..., None] == index
        errors = jnp.abs(target - jax.nn.softmax(logits)[..., index])
        weights, only_present = class_weights(class_weight, logits)[index], classes == "present"

    def of_pixels(errors, target, valid):
        losses = weights * jax.vmap(_extension, in_axes=(1, 1, None))(errors, target, valid)
        if not only_present:
            return jnp.mean(losses)
        present = jnp.any(target & valid[:, None], axis=0)
        return jnp.sum(jnp.where(present, losses, 0)) / jnp.maximum(jnp.sum(present), 1)

    images = len(labels) if per_image else 1
    errors, target = (array.reshape(images, -1, array.shape[-1]) for array in (errors, target))
    losses = jax.vmap(of_pixels)(errors, target, valid.reshape(images, -1))
    return reduce(losses, reduction) if per_image else losses[0]


def _extension(errors: Float[Array, " n"], target: Bool[Array, " n"], valid: Bool[Array, " n"]) -> Float[Array, ""]:
    """The Lovász extension of the Jaccard loss at `errors`, of the pixels that are valid."""
    order = jnp.argsort(jnp.where(valid, -jax.lax.stop_gradient(errors), jnp.inf))
    sorted_target = (target & valid)[order].astype(errors.dtype)
    positives = jnp.sum(sorted_target)
    intersection = positives - jnp.cumsum(sorted_target)
    union = positives + jnp.cumsum(1 - sorted_target)
    jaccard = 1 - intersection / union
    slopes = jnp.diff(jaccard, prepend=0)
    # Those that don't count come last, where they change nothing that comes before.
    return jnp.sum(jnp.where(valid, errors, 0)[order] * slopes)
