"""Focal loss."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Integer

from jaxseg.errors import ConfigError
from jaxseg.losses.common import class_targets, class_weights, reduce


def focal_loss(
    logits: Float[Array, "b h w c"],
    labels: Integer[Array, "b h w *k"],
    weight: Float[Array, "b h w"] | None = None,
    *,
    ignore_index: int | None = 255,
    use_sigmoid: bool = True,
    gamma: float = 2.0,
    alpha: float | Sequence[float] = 0.5,
    class_weight: Sequence[float] | None = None,
    reduction: str = "mean",
) -> Float[Array, "..."]:
    """Binary cross entropy of every class, less for what is right already (Lin et al. 2017, "Focal Loss").

    With p the sigmoid of a logit: -alpha (1 - p)^gamma log(p) where the label is this class, and
    -(1 - alpha) p^gamma log(1 - p) where it is another.

    Args:
        logits: Scores before sigmoid.
        labels: Class indices; pixels of `ignore_index` have loss 0. With one logit, label 1 is the positive. Or several
            classes a pixel, [b h w c] of 0 and 1.
        weight: Factor of every pixel's loss, such as a sampler's.
        ignore_index: Label that does not count, or None.
        use_sigmoid: Must be True: there is no other form.
        gamma: How much less easy pixels count; 0 for all the same.
        alpha: Share of the positives, in 0..1; one for all classes, or one a class.
        class_weight: One weight a class, for its positives and negatives.
        reduction: "mean" (over all pixels and classes, ignored ones too), "sum" or "none".

    Returns:
        A scalar; with "none" the loss of every pixel and class, [b h w c].

    Raises:
        ConfigError: A field is not as above, or `alpha` or `class_weight` has another length than there are classes.
    """
    if use_sigmoid is not True:
        raise ConfigError(f"loss_decode.use_sigmoid={use_sigmoid!r}: FocalLoss has its sigmoid form only")
    classes = logits.shape[-1]
    if not isinstance(alpha, int | float):
        if len(alpha) != classes:
            raise ConfigError(f"loss_decode.alpha has {len(alpha)} entries for {classes} classes")
        alpha = jnp.asarray(alpha, logits.dtype)
    target, valid = class_targets(labels, classes, ignore_index)
    # Of what the logit says against the truth: log(1 + e^z) is the cross entropy, and its share of wrong is sigmoid(z).
    against = jnp.where(target, -logits, logits)
    wrong = jnp.exp(gamma * jax.nn.log_sigmoid(against))
    loss = jnp.where(target, alpha, 1 - jnp.asarray(alpha)) * wrong * jax.nn.softplus(against)
    loss = jnp.where(valid, loss * class_weights(class_weight, logits), 0)
    if weight is not None:
        loss = loss * weight[..., None]
    return reduce(loss, reduction)
