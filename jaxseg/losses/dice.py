"""Dice loss."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Integer

from jaxseg.errors import ConfigError
from jaxseg.losses.common import reduce, refuse_pixel_weight


def dice_loss(
    logits: Float[Array, "b h w c"],
    labels: Integer[Array, "b h w *k"],
    weight: Float[Array, "b h w"] | None = None,
    *,
    ignore_index: int | None = 255,
    use_sigmoid: bool = True,
    activate: bool = True,
    naive_dice: bool = False,
    eps: float = 1e-3,
    reduction: str = "mean",
) -> Float[Array, "..."]:
    """One minus the Dice coefficient of each image (Milletari et al. 2016, "V-Net").

    With p the probabilities and t the one-hot labels, summed over the pixels *and classes* of an image:
    1 - 2 sum(p t) / (sum(p^2) + eps + sum(t^2) + eps); naive: 1 - (2 sum(p t) + eps) / (sum(p) + sum(t) + eps).

    Args:
        logits: Scores before sigmoid or softmax.
        labels: Class indices. A label that is no class, such as 255, is a target of zeros: its pixels count, as
            pixels where no class is right. With one logit the target is class 0. Or several classes a pixel, [b h w c]
            of 0 and 1.
        weight: Not supported: there is no loss of each pixel.
        ignore_index: *Class* that is left out, or None. It is this loss's own, whatever the head's is.
        use_sigmoid: Sigmoid instead of softmax. Softmax leaves a single logit as it is.
        activate: Whether the logits are scores at all; False: they are probabilities.
        naive_dice: First instead of second powers in the denominator.
        eps: Keeps the quotient finite.
        reduction: "mean" or "sum" over the images, or "none".

    Returns:
        A scalar; with "none" the loss of every image, [b].

    Raises:
        ConfigError: The reduction is unknown, there are weights of pixels, or no class is left.
    """
    refuse_pixel_weight("DiceLoss", weight)
    classes = [c for c in range(logits.shape[-1]) if c != ignore_index]
    if not classes:
        raise ConfigError(f"loss_decode.ignore_index={ignore_index} of DiceLoss leaves no class")
    if activate and use_sigmoid:
        logits = jax.nn.sigmoid(logits)
    elif activate and logits.shape[-1] != 1:
        logits = jax.nn.softmax(logits)
    labels = jnp.maximum(labels.astype(jnp.int32), 0)
    kept = jnp.array(classes)
    target = (labels[..., kept] == 1) if labels.ndim == 4 else (labels[..., None] == kept)
    target = target.astype(logits.dtype)
    probability = logits[..., kept] if len(classes) < logits.shape[-1] else logits
    axes = (1, 2, 3)
    both = jnp.sum(probability * target, axes)
    if naive_dice:
        sizes = jnp.sum(probability, axes) + jnp.sum(target, axes)
        coefficient = (2 * both + eps) / (sizes + eps)
    else:
        sizes = (jnp.sum(probability**2, axes) + eps) + (jnp.sum(target, axes) + eps)
        coefficient = 2 * both / sizes
    return reduce(1 - coefficient, reduction)
