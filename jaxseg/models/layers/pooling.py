"""Pooling with PyTorch's edge rules, in forms that are quick on the platform at hand."""

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from jaxseg.models.layers.conv import Pair, pair, shifted_windows
from jaxseg.models.layers.platform import on_cpu


def max_pool(
    x: Float[Array, "b h w c"],
    size: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
    ceil_mode: bool = False,
) -> Float[Array, "b h2 w2 c"]:
    """Maximum over sliding windows; the padding never wins.

    Where a window holds its maximum several times, the gradient goes to the first of them, as in PyTorch.
    """
    size, padding = pair(size), pair(padding)
    stride = size if stride is None else pair(stride)
    edges = _edges(x.shape, size, stride, padding, ceil_mode)
    if on_cpu():
        return _max_of_shifts(x, size, stride, edges)
    return lax.reduce_window(
        x, np.array(-np.inf, x.dtype), lax.max, (1, *size, 1), (1, *stride, 1), ((0, 0), *edges, (0, 0))
    )


def avg_pool(
    x: Float[Array, "b h w c"],
    size: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Float[Array, "b h2 w2 c"]:
    """Mean over sliding windows.

    With `count_include_pad` the padding counts as zeros. What `ceil_mode` adds beyond the padding never counts.
    """
    size, padding = pair(size), pair(padding)
    stride = size if stride is None else pair(stride)
    edges = _edges(x.shape, size, stride, padding, ceil_mode)
    if on_cpu():
        padded = jnp.pad(x, ((0, 0), *edges, (0, 0)))
        total = sum(window for _, window in shifted_windows(padded, size, stride))
    else:
        total = lax.reduce_window(
            x, np.zeros((), x.dtype), lax.add, (1, *size, 1), (1, *stride, 1), ((0, 0), *edges, (0, 0))
        )
    counts = [
        _window_counts(x.shape[1 + axis], size[axis], stride[axis], padding[axis], total.shape[1 + axis],
                       count_include_pad)
        for axis in range(2)
    ]  # fmt: skip
    return total / jnp.asarray(np.multiply.outer(*counts)[None, :, :, None], x.dtype)


def adaptive_avg_pool(x: Float[Array, "b h w c"], size: int | Sequence[int]) -> Float[Array, "b h2 w2 c"]:
    """Mean over a grid of `size` cells; neighbouring cells overlap where the map does not divide evenly."""
    rows, columns = (jnp.asarray(_cells(x.shape[1 + axis], pair(size)[axis]), x.dtype) for axis in range(2))
    x = jnp.einsum("bhwc,oh->bowc", x, rows, precision=lax.Precision.HIGHEST)
    return jnp.einsum("bowc,pw->bopc", x, columns, precision=lax.Precision.HIGHEST)


def adaptive_max_pool(x: Float[Array, "b h w c"], size: int | Sequence[int]) -> Float[Array, "b h2 w2 c"]:
    """Maximum over the cells of a grid of `size`, which are those of `adaptive_avg_pool`."""
    for axis, cells in zip((1, 2), pair(size), strict=True):
        length, i = x.shape[axis], np.arange(cells)
        start, end = i * length // cells, -(-(i + 1) * length // cells)
        longest = int(np.max(end - start))
        if length % cells:  # the last place of a shorter cell is taken again, which changes no maximum
            index = np.minimum(start[:, None] + np.arange(longest), end[:, None] - 1)
            x = jnp.take(x, index.ravel(), axis=axis)
        x = x.reshape(*x.shape[:axis], cells, longest, *x.shape[axis + 1 :])
        # Chosen by its place, as in `max_pool`: the gradient of jnp.max looks for the value again.
        winner = jnp.argmax(x, axis=axis + 1, keepdims=True)
        places = lax.broadcasted_iota(winner.dtype, x.shape, axis + 1)
        x = jnp.sum(jnp.where(places == winner, x, 0), axis=axis + 1)
    return x


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def _max_of_shifts(x: Array, size: Pair, stride: Pair, edges: tuple[Pair, Pair]) -> Array:
    padded = _pad_low(x, edges)
    return functools.reduce(jnp.maximum, (window for _, window in shifted_windows(padded, size, stride)))


def _max_forward(x, size, stride, edges):
    windows = shifted_windows(_pad_low(x, edges), size, stride)
    _, y = next(windows)
    # Which offset has the maximum is kept, not found again by comparing values: compiled anew, they may round anew.
    winner = jnp.zeros(y.shape, jnp.uint8 if size[0] * size[1] <= 256 else jnp.int32)
    for k, (_, window) in enumerate(windows, start=1):
        winner = jnp.where(window > y, jnp.array(k, winner.dtype), winner)
        y = jnp.maximum(y, window)
    return y, (x, winner)


def _max_backward(size, stride, edges, residuals, g):
    x, winner = residuals  # of x, the shape alone is used
    padded = _pad_low(x, edges)
    gradient = jnp.zeros(padded.shape, g.dtype)
    for k, ((i, j), _) in enumerate(shifted_windows(padded, size, stride)):
        spread = [
            (offset, padded.shape[axis] - offset - (g.shape[axis] - 1) * step - 1, step - 1)
            for axis, offset, step in ((1, i, stride[0]), (2, j, stride[1]))
        ]
        part = lax.pad(jnp.where(winner == k, g, 0), jnp.zeros((), g.dtype), [(0, 0, 0), *spread, (0, 0, 0)])
        gradient = gradient + part
    (top, _), (left, _) = edges
    return (gradient[:, top : top + x.shape[1], left : left + x.shape[2]],)


_max_of_shifts.defvjp(_max_forward, _max_backward)


def _pad_low(x: Array, edges: tuple[Pair, Pair]) -> Array:
    return jnp.pad(x, ((0, 0), *edges, (0, 0)), constant_values=-jnp.inf)


def _edges(shape, size: Pair, stride: Pair, padding: Pair, ceil_mode: bool) -> tuple[Pair, Pair]:
    """Padding before and after, by axis; `ceil_mode` adds what an incomplete last window lacks."""
    edges = []
    for axis in range(2):
        length, window, step, pad = shape[1 + axis], size[axis], stride[axis], padding[axis]
        extra = 0
        if ceil_mode:
            outputs = math.ceil((length + 2 * pad - window) / step) + 1
            if (outputs - 1) * step >= length + pad:  # a window that starts in the padding is left out
                outputs -= 1
            extra = max(0, (outputs - 1) * step + window - length - 2 * pad)
        edges.append((pad, pad + extra))
    return tuple(edges)


def _window_counts(length: int, size: int, stride: int, pad: int, outputs: int, count_pad: bool) -> np.ndarray:
    start = np.arange(outputs) * stride - pad
    end = np.minimum(start + size, length + pad)
    if not count_pad:
        start, end = np.maximum(start, 0), np.minimum(end, length)
    return (end - start).astype(np.float64)


def _cells(length: int, cells: int) -> np.ndarray:
    """[cells, length] matrix whose row i averages positions floor(i n / o) to ceil((i + 1) n / o)."""
    matrix = np.zeros((cells, length))
    for i in range(cells):
        start, end = i * length // cells, -(-(i + 1) * length // cells)
        matrix[i, start:end] = 1.0 / (end - start)
    return matrix
