"""Resampling images (bilinear) and labels (nearest): resized, whole or only a window of the result, and rotated."""

import functools
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Int16, Int32, Shaped, UInt8

from jaxseg.data.transforms.base import Size

_ROWS_AT_ONCE = 16  # keeps the intermediate integers of a window in the processor's cache
_WINDOW_COST = 6.5  # time for one pixel of `_bilinear_window`, over that of cv2.resize


class Window(NamedTuple):
    """The part `[top : top + height, left : left + width]` of an image, in pixels."""

    top: int
    left: int
    height: int
    width: int

    def clipped(self, size: Size) -> "Window":
        """The part of the window that lies inside an image of `size`."""
        return Window(self.top, self.left, min(self.height, size[0] - self.top), min(self.width, size[1] - self.left))

    def of(self, array: np.ndarray) -> np.ndarray:
        """The window's pixels; smaller than the window where it reaches over the edge."""
        return array[self.top : self.top + self.height, self.left : self.left + self.width]


def resize_image(image: Shaped[np.ndarray, "h w c"], size: Size) -> Shaped[np.ndarray, "h2 w2 c"]:
    """Bilinear, as `cv2.resize` does it: pixel centres at half coordinates, no antialiasing."""
    return with_channels(cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_LINEAR), image)


def resize_label(label: np.ndarray, size: Size) -> np.ndarray:
    """Nearest, as `cv2.resize` does it: output pixel i takes input pixel `floor(i * old / new)`."""
    return with_channels(cv2.resize(label, (size[1], size[0]), interpolation=cv2.INTER_NEAREST), label)


def with_channels(result: np.ndarray, like: np.ndarray) -> np.ndarray:
    """What OpenCV made of `like`, with the axis of one channel that it drops."""
    return result[..., None] if result.ndim < like.ndim else result


def warp(
    array: Shaped[np.ndarray, "h w ..."], matrix: np.ndarray, size: Size, fill: np.ndarray, nearest: bool
) -> Shaped[np.ndarray, "h2 w2 ..."]:
    """An affine map of an image or a label, as `cv2.warpAffine` does it.

    Args:
        array: any number of channels.
        matrix: 2x3, from the array's (x, y) to the result's.
        size: (height, width) of the result.
        fill: what is outside, one value or one a channel.
        nearest: take the nearest pixel, else bilinear.
    """
    # OpenCV 4 has no whole numbers of 32 bits here; float64 holds them all.
    wide = array.astype(np.float64) if array.dtype == np.int32 else array
    planes = wide.reshape(*wide.shape[:2], -1)
    fill = np.broadcast_to(np.asarray(fill, np.float64), planes.shape[2:])
    parts = []
    for start in range(0, planes.shape[2], 4):  # a border has four values at most
        part = slice(start, start + 4)
        warped = cv2.warpAffine(
            np.ascontiguousarray(planes[..., part]), matrix, (size[1], size[0]),
            flags=cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_CONSTANT, borderValue=tuple(float(value) for value in fill[part]),
        )  # fmt: skip
        parts.append(with_channels(warped, planes))
    out = (parts[0] if len(parts) == 1 else np.concatenate(parts, axis=2)).reshape(*size, *array.shape[2:])
    return np.rint(out).astype(array.dtype) if wide is not array else out


def resize_image_window(
    image: Shaped[np.ndarray, "h w c"], size: Size, window: Window, height: int | None = None
) -> Shaped[np.ndarray, "h2 w2 c"]:
    """`resize_image(image, size)` cut to `window`, bit for bit, without computing the rest.

    What is below and right of the window is left out. For small windows of large results the sum is done here, in
    OpenCV's own fixed-point arithmetic (11-bit weights; horizontally exact, vertically 16-bit products that are
    shifted and rounded). Where OpenCV on this machine computes otherwise (a vendor's routine), which is tried out
    once, the window is cut out of the whole.

    Args:
        image: the image, or its first rows (`rows_needed`).
        size: (height, width) of the whole result.
        window: the part that is wanted.
        height: of the whole image, where only its first rows are given.
    """
    window = window.clipped(size)
    height, width = height or image.shape[0], image.shape[1]
    if (height, width) == tuple(size):
        return window.of(image)
    halved = (height, width) == (2 * size[0], 2 * size[1])  # cv2.resize averages 2x2 pixels then
    photo = image.dtype == np.uint8 and image.shape[2:] == (3,)  # what the arithmetic has been tried out with
    before = _up_to(window) if photo and _corner_agrees() else size
    small = _WINDOW_COST * window.height * window.width < before[0] * before[1]
    if photo and small and not halved and _arithmetic_agrees():
        return _bilinear_window(image, height, size, window)
    if photo and _corner_agrees():
        return np.ascontiguousarray(window.of(_resize_corner(image, height, size, before)))
    return np.ascontiguousarray(window.of(resize_image(image, size)))


def rows_needed(height: int, size: Size, window: Window) -> int:
    """How many rows, from the top, of an image of `height` `resize_image_window` needs."""
    window = window.clipped(size)
    return _needed(height, size[0], window.top + window.height) if _corner_agrees() else height


def _up_to(window: Window) -> Size:
    """Height and width of what is above and left of the window's end."""
    return window.top + window.height, window.left + window.width


def _needed(old: int, new: int, end: int) -> int:
    """How many of `old` pixels the first `end` of `new` need, with some to spare: the end must not be an edge."""
    return min(old, -(-(end + 1) * old // new) + 2)


def _resize_corner(image: np.ndarray, height: int, size: Size, end: Size) -> np.ndarray:
    """The first rows and columns, at least up to `end`, of an image of `height` that is resized to `size`."""
    rows, columns = _needed(height, size[0], end[0]), _needed(image.shape[1], size[1], end[1])
    scale = {"fx": size[1] / image.shape[1], "fy": size[0] / height}
    return cv2.resize(image[:rows, :columns], None, **scale, interpolation=cv2.INTER_LINEAR)


def resize_label_window(label: np.ndarray, size: Size, window: Window) -> np.ndarray:
    """`resize_label(label, size)` cut to `window`, exactly, without computing the rest."""
    window = window.clipped(size)
    rows = _nearest(size[0], label.shape[0], window.top, window.height)
    columns = _nearest(size[1], label.shape[1], window.left, window.width)
    return np.take(label[rows], columns, axis=1)


def _nearest(new: int, old: int, start: int, count: int) -> np.ndarray:
    positions = np.arange(start, start + count) * (1.0 / (new / old))
    return np.minimum(np.floor(positions).astype(np.int64), old - 1)


def _neighbours(
    new: int, old: int, start: int, count: int
) -> tuple[np.ndarray, Int32[np.ndarray, " n"], Int32[np.ndarray, " n"]]:
    """Index of the first of the two source pixels of each output pixel, and the weights of both, of 2048."""
    positions = ((np.arange(start, start + count) + 0.5) * (1.0 / (new / old)) - 0.5).astype(np.float32)
    first = np.floor(positions)
    fraction = positions - first
    weights = np.rint((np.float32(1) - fraction) * np.float32(2048)), np.rint(fraction * np.float32(2048))
    return first.astype(np.int64), weights[0].astype(np.int32), weights[1].astype(np.int32)


def _bilinear_window(image: np.ndarray, height: int, size: Size, window: Window) -> np.ndarray:
    width, channels = image.shape[1:]
    rows, row_weights0, row_weights1 = _neighbours(size[0], height, window.top, window.height)
    columns, weights0, weights1 = _neighbours(size[1], width, window.left, window.width)
    # At the sides the weight moves to the pixel at the edge; above and below only the index is held, so that
    # both rounded products remain. That is how OpenCV does it, and it shows in the last bit.
    outside = (columns < 0) | (columns >= width - 1)
    weights0, weights1 = np.where(outside, 2048, weights0), np.where(outside, 0, weights1)
    columns0, columns1 = np.clip(columns, 0, width - 1), np.clip(columns + 1, 0, width - 1)
    rows0, rows1 = np.clip(rows, 0, height - 1), np.clip(rows + 1, 0, height - 1)

    top, left = rows0[0], columns0[0]
    source = image[top : rows1[-1] + 1, left : columns1[-1] + 1]
    # Transposed, a column is contiguous: gathering is a copy and its weight is one number a row.
    turned = cv2.transpose(source).reshape(source.shape[1], -1)
    across = _blend_columns(turned, columns0 - left, columns1 - left, weights0, weights1)
    across = cv2.transpose(across.reshape(window.width, source.shape[0], channels))
    across = across.reshape(source.shape[0], -1)
    out = _blend_rows(across, rows0 - top, rows1 - top, row_weights0, row_weights1)
    return out.reshape(window.height, window.width, channels)


def _blend_columns(
    turned: UInt8[np.ndarray, "w n"],
    first: np.ndarray,
    second: np.ndarray,
    weights0: np.ndarray,
    weights1: np.ndarray,
) -> Int16[np.ndarray, "m n"]:
    out = np.empty((len(first), turned.shape[1]), np.int16)
    for start in range(0, len(first), _ROWS_AT_ONCE):
        part = slice(start, start + _ROWS_AT_ONCE)
        total = np.multiply(turned[first[part]], weights0[part, None], dtype=np.int32)
        total += np.multiply(turned[second[part]], weights1[part, None], dtype=np.int32)
        total >>= 4
        out[part] = total
    return out


def _blend_rows(
    across: Int16[np.ndarray, "h n"],
    first: np.ndarray,
    second: np.ndarray,
    weights0: np.ndarray,
    weights1: np.ndarray,
) -> UInt8[np.ndarray, "m n"]:
    out = np.empty((len(first), across.shape[1]), np.uint8)
    for start in range(0, len(first), _ROWS_AT_ONCE):
        part = slice(start, start + _ROWS_AT_ONCE)
        total = np.multiply(across[first[part]], weights0[part, None], dtype=np.int32)
        other = np.multiply(across[second[part]], weights1[part, None], dtype=np.int32)
        total >>= 16
        other >>= 16
        total += other
        total += 2
        total >>= 2
        out[part] = total
    return out


@functools.cache
def _arithmetic_agrees() -> bool:
    image = np.random.default_rng(0).integers(0, 256, (40, 37, 3), dtype=np.uint8)
    sizes = ((97, 80), (31, 55), (80, 74), (40, 37))
    whole = [(size, Window(0, 0, *size)) for size in sizes]
    return all(np.array_equal(_bilinear_window(image, 40, size, w), resize_image(image, size)) for size, w in whole)


@functools.cache
def _corner_agrees() -> bool:
    image = np.random.default_rng(1).integers(0, 256, (90, 70, 3), dtype=np.uint8)
    for size in ((211, 170), (61, 55), (45, 35), (90, 141)):
        end = size[0] // 2, size[1] // 3
        corner = _resize_corner(image[: _needed(90, size[0], end[0])], 90, size, end)
        if not np.array_equal(corner[: end[0], : end[1]], resize_image(image, size)[: end[0], : end[1]]):
            return False
    return True
