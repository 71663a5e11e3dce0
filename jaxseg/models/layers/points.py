"""Values of maps at points that lie between the pixels."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Integer


def sample_points(
    x: Float[Array, "b h w c"], points: Float[Array, "b n 2"], align_corners: bool = False
) -> Float[Array, "b n c"]:
    """Bilinear interpolation at points, as (x, y) in 0..1 of the map's width and height.

    Beyond the map are zeros. 0 and 1 are the centres of the outermost pixels with `align_corners`, otherwise their
    outer edges.
    """
    total = 0.0
    for row, column, weight in _neighbours(points, *x.shape[1:3], align_corners):
        total += weight.astype(x.dtype)[..., None] * _pixels(x, row, column)
    return total


def sample_shares(
    labels: Integer[Array, "b h w"], points: Float[Array, "b n 2"], classes: Integer[Array, "b m k"]
) -> Float[Array, "b n k"]:
    """How much of each point is of each class: `sample_points` of maps that are 1 where a label is that class, else 0.

    Args:
        labels: Class indices.
        points: As in `sample_points`.
        classes: Those that are asked for, of each point or (m = 1) of all.
    """
    total = 0.0
    for row, column, weight in _neighbours(points, *labels.shape[1:3], align_corners=False):
        total += jnp.where(_pixels(labels[..., None], row, column) == classes, weight[..., None], 0)
    return total


def nearest_points(
    x: Integer[Array, "b h w"], points: Float[Array, "b n 2"], align_corners: bool = False
) -> Integer[Array, "b n"]:
    """The pixels that points, as (x, y) in 0..1 of the map's width and height, are nearest to."""
    column, row = _coordinates(points, *x.shape[1:3], align_corners)
    return _pixels(x[..., None], jnp.round(row), jnp.round(column))[..., 0]


def _coordinates(points: Array, height: int, width: int, align_corners: bool) -> tuple[Array, Array]:
    """Columns and rows among the centres of the pixels."""
    if align_corners:
        return points[..., 0] * (width - 1), points[..., 1] * (height - 1)
    return points[..., 0] * width - 0.5, points[..., 1] * height - 0.5


def _neighbours(points: Array, height: int, width: int, align_corners: bool) -> Iterator[tuple[Array, Array, Array]]:
    """Rows, columns and weights of the four pixels around each point; pixels beyond the map weigh nothing."""
    column, row = _coordinates(points, height, width, align_corners)
    left, top = jnp.floor(column), jnp.floor(row)
    for i, weight_y in ((top, 1 - (row - top)), (top + 1, row - top)):
        for j, weight_x in ((left, 1 - (column - left)), (left + 1, column - left)):
            inside = (i >= 0) & (i < height) & (j >= 0) & (j < width)
            yield i, j, jnp.where(inside, weight_y * weight_x, 0)


def _pixels(x: Array, row: Array, column: Array) -> Array:
    """[b n c] pixels of rows and columns, or the nearest ones where these are outside."""
    height, width = x.shape[1:3]
    row = jnp.clip(row, 0, height - 1).astype(jnp.int32)
    column = jnp.clip(column, 0, width - 1).astype(jnp.int32)
    # Image by image, so that a batch on several devices stays where it is.
    return jax.vmap(lambda image, i, j: image[i, j])(x, row, column)
