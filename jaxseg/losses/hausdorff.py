"""Hausdorff distance loss."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Integer

from jaxseg.losses.common import check_reduction, class_weights, refuse_pixel_weight


def hausdorff_distance_loss(
    logits: Float[Array, "b h w c"],
    labels: Integer[Array, "b h w"],
    weight: Float[Array, "b h w"] | None = None,
    *,
    ignore_index: int | None = 255,
    class_weight: Sequence[float] | None = None,
    reduction: str = "mean",
) -> Float[Array, ""]:
    """Squared errors times squared distances to the background (Karimi & Salcudean 2019; form of Ma et al. 2020).

    sum over the classes c > 0 of mean((p_c - y)^2 (d_p^2 + d_y^2)) / classes, where y is the label, d_y the distance
    of a pixel from the nearest one of label 0 (0 there), and d_p the same of the predicted classes. The foreground is
    one for all classes, and y is the label's number, as in MMSegmentation: it is a loss for two classes.

    The distances are computed where the model is, with no call to the host; their squares are whole numbers.

    Args:
        logits: Scores before softmax.
        labels: Class indices; 0 is the background.
        weight: Not supported.
        ignore_index: Label that counts as background, or None; a class of this index is left out of the sum. It is
            this loss's own, whatever the head's is.
        class_weight: One weight a class.
        reduction: Accepted; the loss is a scalar.

    Raises:
        ConfigError: The reduction is unknown, class_weight has another length, or there are weights of pixels.
    """
    refuse_pixel_weight("HuasdorffDisstanceLoss", weight)
    check_reduction(reduction)
    classes = logits.shape[-1]
    probability = jax.nn.softmax(logits)
    labels = labels.astype(jnp.int32)
    if ignore_index is not None:
        labels = jnp.where(labels == ignore_index, 0, labels)
    predicted = jnp.argmax(logits, axis=-1)
    distances = (squared_distances(labels != 0) + squared_distances(predicted != 0)).astype(logits.dtype)
    errors = (probability - labels[..., None].astype(logits.dtype)) ** 2
    by_class = jnp.mean(errors * distances[..., None], axis=(0, 1, 2)) * class_weights(class_weight, logits)
    return sum((by_class[c] for c in range(1, classes) if c != ignore_index), jnp.zeros((), logits.dtype)) / classes


def squared_distances(mask: Bool[Array, "b h w"]) -> Integer[Array, "b h w"]:
    """Squared Euclidean distance, in pixels, of every pixel of the mask from the nearest one outside it.

    0 outside the mask. Exact (Felzenszwalb & Huttenlocher 2012: columns first, then rows). Where nothing is outside
    the mask, distances are those from a pixel just above the upper left corner, as SciPy has it; but 0 for a mask
    that is nothing at all.
    """
    height, width = mask.shape[1:]
    far = 2 * (height + width)  # no distance in the image is as large, and its square is a small whole number
    rows, columns = jnp.arange(height)[:, None], jnp.arange(width)
    above = jax.lax.cummax(jnp.where(mask, -far, rows), axis=1)
    below = jax.lax.cummin(jnp.where(mask, far + height, rows), axis=1, reverse=True)
    in_column = jnp.minimum(jnp.minimum(rows - above, below - rows), far) ** 2

    def nearer(column, nearest):
        there = jax.lax.dynamic_index_in_dim(in_column, column, 2)
        return jnp.minimum(nearest, there + (columns - column) ** 2)

    nearest = jax.lax.fori_loop(0, width, nearer, jnp.full_like(in_column, 2 * far**2))
    return jnp.where(jnp.all(mask, axis=(1, 2), keepdims=True), (rows + 1) ** 2 + columns**2, nearest)
