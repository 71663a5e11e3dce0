"""Resizing of feature maps, equal to PyTorch's `interpolate`."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from jaxseg.models.layers.platform import on_cpu


def resize(
    x: Float[Array, "b h w c"],
    size: Sequence[int],
    mode: str = "bilinear",
    align_corners: bool = False,
    scale: Sequence[float] | None = None,
) -> Float[Array, "b h2 w2 c"]:
    """Resizes feature maps to `size` = (height, width).

    Args:
        x: Feature maps.
        size: Height and width of the result.
        mode: "bilinear", "bicubic" (a = -0.75) or "nearest". No antialiasing.
        align_corners: Whether the centres of the corner pixels (True) or their outer corners (False) coincide.
        scale: Height and width factors, where the caller asked for a factor: PyTorch then maps coordinates
            with 1 / factor instead of with the ratio of the sizes. Not used with `align_corners`.

    Raises:
        ValueError: The mode is unknown.
    """
    if mode not in ("bilinear", "bicubic", "nearest"):
        raise ValueError(f"mode={mode!r} is not one of bilinear, bicubic, nearest")
    size = (int(size[0]), int(size[1]))
    if size == x.shape[1:3] and scale is None:
        return x
    for axis in range(2):
        factor = None if scale is None else float(scale[axis])
        if x.shape[1 + axis] == size[axis] and factor in (None, 1.0):
            continue
        x = _resize_axis(x, 1 + axis, size[axis], mode, align_corners, factor)
    return x


def resize_rows(
    x: Float[Array, "b h w c"], height: int, first: Array, count: int, align_corners: bool = False
) -> Float[Array, "b count w c"]:
    """Some rows of x resized to another height, bilinearly: `count` of them from `first` on, after the last it again.

    Args:
        x: Feature maps.
        height: Of the whole result.
        first: Index of a row; may be traced.
        count: Number of rows.
        align_corners: As in `resize`.
    """
    rows = jnp.minimum(first + jnp.arange(count), height - 1)
    if height == x.shape[1]:
        return jnp.take(x, rows, axis=1)
    real = np.float64 if x.dtype == np.float64 else np.float32
    matrix = jnp.asarray(_matrix(x.shape[1], height, "bilinear", align_corners, None, real))
    return _multiply(x, matrix[rows], 1)


def _resize_axis(x: Array, axis: int, size: int, mode: str, align_corners: bool, factor: float | None) -> Array:
    # Coordinates are computed in float32 as PyTorch has them, and in float64 only for float64 maps.
    real = np.float64 if x.dtype == np.float64 else np.float32
    if mode == "nearest":
        return jnp.take(x, _nearest_index(x.shape[axis], size, factor, real), axis=axis)
    if on_cpu() and mode == "bilinear":
        return _lerp(x, axis, size, align_corners, factor, real)
    return _multiply(x, _matrix(x.shape[axis], size, mode, align_corners, factor, real), axis)


def _multiply(x: Array, matrix: np.ndarray | Array, axis: int) -> Array:
    """Applies an [out, in] matrix along the rows (axis 1) or columns (axis 2)."""
    spec = "bhwc,oh->bowc" if axis == 1 else "bhwc,ow->bhoc"
    return jnp.einsum(spec, x, jnp.asarray(matrix, x.dtype), precision=lax.Precision.HIGHEST)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3, 4, 5))
def _lerp(x: Array, axis: int, size: int, align_corners: bool, factor: float | None, real: type) -> Array:
    """Bilinear along one axis as two gathers and a blend; the gradient is a product with the transpose."""
    low, high, weight = _linear_taps(x.shape[axis], size, align_corners, factor, real)
    shape = [1, 1, 1, 1]
    shape[axis] = size
    weight = jnp.asarray(weight, x.dtype).reshape(shape)
    below, above = jnp.take(x, low, axis=axis), jnp.take(x, high, axis=axis)
    return below * (1 - weight) + above * weight


def _lerp_forward(x, axis, size, align_corners, factor, real):
    return _lerp(x, axis, size, align_corners, factor, real), x.shape[axis]


def _lerp_backward(axis, size, align_corners, factor, real, length, g):
    return (_multiply(g, _matrix(length, size, "bilinear", align_corners, factor, real).T, axis),)


_lerp.defvjp(_lerp_forward, _lerp_backward)


def _source_coordinates(length, size, align_corners, factor, real) -> np.ndarray:
    """Where each output pixel's centre lies among the input pixels' centres."""
    i = np.arange(size, dtype=real)
    if align_corners:
        return i * real((length - 1) / (size - 1) if size > 1 else 0)
    step = real(1 / factor if factor else length / size)
    return (i + real(0.5)) * step - real(0.5)


def _linear_taps(length, size, align_corners, factor, real) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    coordinate = np.maximum(_source_coordinates(length, size, align_corners, factor, real), 0)
    low = np.minimum(coordinate.astype(np.int32), length - 1)
    high = np.minimum(low + 1, length - 1)
    return low, high, np.clip(coordinate - low, 0, 1).astype(real)


def _nearest_index(length: int, size: int, factor: float | None, real: type) -> np.ndarray:
    step = real(1 / factor if factor else length / size)
    return np.minimum(np.floor(np.arange(size, dtype=real) * step).astype(np.int32), length - 1)


@functools.lru_cache(maxsize=256)
def _matrix(length: int, size: int, mode: str, align_corners: bool, factor: float | None, real: type) -> np.ndarray:
    """[size, length] interpolation weights."""
    matrix = np.zeros((size, length), real)
    rows = np.arange(size)
    if mode == "bilinear":
        low, high, weight = _linear_taps(length, size, align_corners, factor, real)
        np.add.at(matrix, (rows, low), 1 - weight)
        np.add.at(matrix, (rows, high), weight)
    else:
        coordinate = _source_coordinates(length, size, align_corners, factor, real)
        low = np.floor(coordinate).astype(np.int32)
        for tap, weight in enumerate(_cubic_weights(coordinate - low)):
            np.add.at(matrix, (rows, np.clip(low + tap - 1, 0, length - 1)), weight)
    return matrix


def _cubic_weights(t: np.ndarray, a: float = -0.75) -> list[np.ndarray]:
    """Keys' cubic convolution kernel at distances 1 + t, t, 1 - t, 2 - t."""

    def near(x):
        return ((a + 2) * x - (a + 3)) * x * x + 1

    def far(x):
        return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a

    return [far(1 + t), near(t), near(1 - t), far(2 - t)]
