"""Scale-invariant logarithmic loss."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxseg.errors import ConfigError
from jaxseg.losses.common import reduce


def silog_loss(
    logits: Float[Array, "b h w 1"],
    labels: Float[Array, "..."],
    weight: Float[Array, " b"] | None = None,
    *,
    ignore_index: int | None = None,
    eps: float = 1e-6,
    reduction: str = "mean",
) -> Float[Array, "..."]:
    """Error of depths, whatever their scale (Eigen et al. 2014, "Depth Map Prediction").

    With d = log(label) - log(prediction) over an image's pixels that have a depth: sqrt(mean(d^2) - mean(d)^2 / 2).

    Args:
        logits: Predicted depths; what is below `eps` counts as that.
        labels: Depths, in the same unit; a pixel of `eps` or less has none.
        weight: Factor of every image's loss.
        ignore_index: Not used: pixels that don't count have depth 0.
        eps: Smallest depth.
        reduction: "mean" or "sum" over the images, or "none".

    Returns:
        A scalar; with "none" the loss of every image, [b]. An image with no depths has loss 0.

    Raises:
        ConfigError: The reduction is unknown, or there is not one map of predictions.
    """
    if logits.shape != (*labels.shape, 1):
        raise ConfigError(f"SiLogLoss is of one map of depths: {logits.shape} does not fit labels {labels.shape}")
    prediction, labels = logits.reshape(len(logits), -1), labels.reshape(len(labels), -1).astype(logits.dtype)
    difference = jnp.log(jnp.maximum(labels, eps)) - jnp.log(jnp.maximum(prediction, eps))
    valid = (labels > eps) & ~jnp.isnan(difference)
    difference = jnp.where(valid, difference, 0)
    count = jnp.maximum(jnp.sum(valid, axis=1), eps)
    square = jnp.sum(difference**2, axis=1) / count - 0.5 * (jnp.sum(difference, axis=1) / count) ** 2
    # The slope of the root is infinite at 0: where nothing is wrong, or nothing counts, it is 0 here.
    wrong = square > 0
    loss = jnp.where(wrong, jnp.sqrt(jnp.where(wrong, square, 1)), 0)
    return reduce(loss if weight is None else loss * weight, reduction)
