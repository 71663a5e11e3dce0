"""What converters do to one file: decode, look up, threshold, cut into tiles."""

import functools
import io
from collections.abc import Callable, Iterator, Mapping

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from jaxseg.data.converters.archives import gunzip
from jaxseg.data.converters.jobs import Output, note
from jaxseg.data.transforms.loading import decode_image
from jaxseg.errors import DataError

RGB = UInt8[np.ndarray, "h w 3"]
Labels = UInt8[np.ndarray, "h w"]
Window = tuple[int, int, int, int]  # left, top, right, bottom
_TOP = 128  # masks of vessels hold 0 and 255, some of them with grey seams


def photo(content: bytes, name: str) -> RGB:
    """An image of any format."""
    return decode_image(content, name)


def binary(content: bytes, name: str) -> Labels:
    """A mask of two levels: 1 where its (blue) channel is 128 or more."""
    return decode_image(content, name)[:, :, 2] // _TOP


def gif_binary(content: bytes, name: str) -> Labels:
    """The first frame of a GIF as `binary`; not all builds of OpenCV read this format."""
    return np.array(open_picture(content, name).convert("RGB"))[:, :, 2] // _TOP


def gzipped(content: bytes, name: str, how: Callable[[bytes, str], np.ndarray]) -> np.ndarray:
    """`how` of an unpacked .gz file."""
    return how(gunzip(content, name), name)


def looked_up(content: bytes, name: str, table: Labels) -> Labels:
    """A mask of one channel whose numbers are replaced by those of a table of 256."""
    mask = np.array(open_picture(content, name))
    if mask.ndim != 2 or mask.dtype != np.uint8:
        raise DataError(f"{name} is not a mask of one channel with 8 bits.")
    return table[mask]


def blue_looked_up(content: bytes, name: str, table: Labels) -> Labels:
    """`looked_up` of the last channel of a mask, which may be grey or coloured."""
    return table[decode_image(content, name)[:, :, 2]]


def table(changes: Mapping[int, int]) -> Labels:
    """A table of 256 for `looked_up`; other numbers stay."""
    numbers = np.arange(256, dtype=np.uint8)
    numbers[list(changes)] = list(changes.values())
    return numbers


def open_picture(content: bytes, name: str) -> Image.Image:
    """Opens an image with Pillow and decodes it.

    Raises:
        DataError: damaged, cut short, or no image.
    """
    try:
        picture = Image.open(io.BytesIO(content))
        picture.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{name} cannot be decoded ({len(content)} bytes): {error}.") from error
    return picture


def color_labels(content: bytes, name: str, colors: Mapping[tuple[int, int, int], int]) -> Labels:
    """The labels of a mask of colours; pixels of any other colour are 0, and a note counts them."""
    picture = decode_image(content, name)
    codes = picture[..., 0].astype(np.uint32)  # one number a colour; in place, for some masks have 36 million pixels
    for channel in (1, 2):
        codes <<= 8
        codes |= picture[..., channel]
    labels = np.zeros(codes.shape, np.uint8)
    strange = np.ones(codes.shape, bool)
    for (red, green, blue), label in colors.items():
        found = codes == (red << 16 | green << 8 | blue)
        labels[found] = label
        strange[found] = False
    if strange.any():
        color = tuple(int(part) for part in picture[np.unravel_index(strange.argmax(), strange.shape)])
        note(f"{name}: {strange.sum()} pixels have no colour of a class, such as {color}; they are 0 now.")
    return labels


def picture_size(content: bytes, name: str) -> tuple[int, int]:
    """Height and width, of the header."""
    try:
        with Image.open(io.BytesIO(content)) as picture:
            return picture.height, picture.width
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{name} cannot be decoded ({len(content)} bytes): {error}.") from error


def windows(height: int, width: int, size: tuple[int, int], stride: tuple[int, int]) -> list[Window]:
    """Windows of one size that cover an image, row after row; the last ones are moved back inside.

    Args:
        height: of the image.
        width: of the image.
        size: height and width of the windows, not more than the image's.
        stride: the distance from one to the next, down and to the right.
    """
    tops, lefts = (
        sorted({min(start, length - window) for start in range(0, length, step)})
        for length, window, step in zip((height, width), size, stride, strict=True)
    )
    return [(left, top, left + size[1], top + size[0]) for top in tops for left in lefts]


def tiles(
    content: bytes,
    name: str,
    *,
    decode: Callable[[bytes, str], np.ndarray],
    size: tuple[int, int],
    stride: tuple[int, int],
    path: Callable[[Window], str],
    pad: int | None = None,
) -> Iterator[Output]:
    """Cuts an image into tiles.

    Args:
        content: the file.
        name: its name.
        decode: image or labels of the content.
        size: height and width of a tile.
        stride: the distance of tiles, down and to the right.
        path: where a tile goes.
        pad: what fills images that are smaller than a tile; None: there are none.

    Raises:
        DataError: an image that can't be decoded, or is smaller than a tile.
    """
    height, width = picture_size(content, name)
    if pad is None and (height < size[0] or width < size[1]):
        raise DataError(f"{name} is {width}x{height}, smaller than a tile of {size[1]}x{size[0]}.")
    below, right = max(0, size[0] - height), max(0, size[1] - width)

    @functools.cache
    def whole() -> np.ndarray:
        image = decode(content, name)
        if not (below or right):
            return image
        return cv2.copyMakeBorder(image, 0, below, 0, right, cv2.BORDER_CONSTANT, value=(pad,) * 4)

    for window in windows(height + below, width + right, size, stride):
        left, top, after, under = window
        yield Output(path(window), lambda t=top, u=under, a=left, b=after: whole()[t:u, a:b])
