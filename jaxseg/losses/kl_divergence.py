"""Kullback-Leibler divergence."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxseg.errors import ConfigError
from jaxseg.losses.common import check_reduction, refuse_pixel_weight


def kl_divergence_loss(
    logits: Float[Array, "b *size c"],
    labels: Float[Array, "..."],
    weight: Array | None = None,
    *,
    ignore_index: int | None = None,
    temperature: float = 1.0,
    reduction: str = "mean",
) -> Float[Array, "..."]:
    """How far a model's scores are from another's (Hinton et al. 2015, "Distilling the Knowledge").

    T^2 q (log q - p) at every entry, with p and q the softmax of logits / T and of the target's / T. As in
    MMSegmentation, p itself stands where the divergence has log p.

    Args:
        logits: Scores before softmax.
        labels: *Scores* of the other model, of the same shape; a head whose labels are classes can't have this loss.
        weight: Not supported.
        ignore_index: Not used: no pixel is left out.
        temperature: T above, not 0.
        reduction: "mean" or "sum" over the entries of each image, or "none".

    Returns:
        The loss of every image, [b]; with "none" that of every entry.

    Raises:
        ConfigError: A field is not as above, or the shapes differ.
    """
    refuse_pixel_weight("KLDivLoss", weight)
    check_reduction(reduction)
    if temperature == 0:
        raise ConfigError("loss_decode.temperature of KLDivLoss must not be 0")
    if labels.shape != logits.shape:
        raise ConfigError(f"KLDivLoss compares scores with scores: {logits.shape} with {labels.shape} it can't")
    p = jax.nn.softmax(logits / temperature)
    log_q = jax.nn.log_softmax(labels / temperature)
    loss = temperature**2 * jnp.exp(log_q) * (log_q - p)
    if reduction == "none":
        return loss
    by_image = loss.reshape(len(loss), -1)
    return jnp.mean(by_image, axis=1) if reduction == "mean" else jnp.sum(by_image, axis=1)
