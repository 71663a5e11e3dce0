"""Boundary loss."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Integer

from jaxseg.errors import ConfigError
from jaxseg.losses.common import refuse_pixel_weight


def boundary_loss(
    logits: Float[Array, "b h w c"],
    labels: Integer[Array, "b h w"],
    weight: Float[Array, "b h w"] | None = None,
    *,
    ignore_index: int | None = 255,
) -> Float[Array, ""]:
    """Binary cross entropy in which boundaries and all else count the same (Xu et al. 2023, "PIDNet").

    A pixel of either kind weighs the other kind's share of the batch; the mean is over all pixels.

    Args:
        logits: Of a boundary, one a pixel.
        labels: 1 at boundaries, 0 elsewhere; other values don't count.
        weight: Not supported.
        ignore_index: The head's, of the classes; nothing depends on it.

    Raises:
        ConfigError: There is more than one logit a pixel, or there are weights of pixels.
    """
    refuse_pixel_weight("BoundaryLoss", weight)
    if logits.shape[-1] != 1:
        raise ConfigError(f"loss_decode.type='BoundaryLoss' needs one logit a pixel; there are {logits.shape[-1]}")
    scores = logits[..., 0]
    edge, other = labels == 1, labels == 0
    edges, others = jnp.sum(edge), jnp.sum(other)
    count = jnp.maximum(edges + others, 1).astype(scores.dtype)
    loss = jnp.where(edge, others / count * jax.nn.softplus(-scores), 0)
    return jnp.mean(jnp.where(other, edges / count * jax.nn.softplus(scores), loss))
