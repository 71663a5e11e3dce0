"""PNG files: what their headers say, and a decoder for plain ones that is quicker than OpenCV's and Pillow's.

The decoder is Rust's, of the package kornia-rs. It is used where it works on this machine and where a
file leaves no room for a difference, so that the result is the same without it.
"""

import functools
import struct
import zlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

_START = b"\x89PNG\r\n\x1a\n"
_CHUNK = struct.Struct(">I4s").unpack_from  # length, kind; then the data, and a checksum
_AROUND = 12  # bytes of a chunk without data
_GREY, _RGB = 0, 2
# The quick decoder keeps the other threads of a process waiting, OpenCV doesn't: with more threads than this OpenCV,
# which takes two and a half times as long, has more done in all. Processes (`num_workers`) don't wait for each other.
_MOST_THREADS = 3
_threads = 1
_CHANNELS = {_GREY: 1, _RGB: 3}
_MODES = {1: "mono", 3: "rgb"}
# Chunks that change no pixel, for any decoder. Others do: transparency, orientation, frames of an animation.
_HARMLESS = frozenset(
    (b"IHDR", b"IEND", b"pHYs", b"tIME", b"tEXt", b"zTXt", b"iTXt", b"gAMA", b"sRGB", b"cHRM", b"iCCP")
)


class PngHeader(NamedTuple):
    """What is known of a PNG without decoding it."""

    height: int
    width: int
    channels: int | None
    """1 of grey and 3 of RGB, both with 8 bits, not interlaced, without transparency, orientation or frames; else
    None."""


def read_png_header(content: bytes) -> PngHeader | None:
    """The header of a PNG that has all its chunks, up to the last; None of anything else."""
    if not content.startswith(_START) or content[12:16] != b"IHDR":
        return None
    at, end, kinds, kind = len(_START), len(content), set(), b""
    while kind != b"IEND":
        if at + _AROUND > end:
            return None
        length, kind = _CHUNK(content, at)
        at += _AROUND + length
        if kind != b"IDAT":  # hundreds of them
            kinds.add(kind)
    if at > end:
        return None
    width, height = int.from_bytes(content[16:20], "big"), int.from_bytes(content[20:24], "big")
    depth, colour, interlaced = content[24], content[25], content[28]
    plain = depth == 8 and not interlaced and kinds <= _HARMLESS
    return PngHeader(height, width, _CHANNELS.get(colour) if plain else None)


def decode_plain_png(
    content: bytes, channels: int, rows: int | None = None, header: PngHeader | None = None
) -> UInt8[np.ndarray, "h w *c"] | None:
    """Decodes a plain PNG of 8 bits: RGB [h w 3], or grey [h w].

    Args:
        content: the file's bytes.
        channels: 3 for RGB, 1 for grey; a file of another kind is not for this function.
        rows: how many rows are wanted, from the top; the rest is not decoded. None for all.
        header: the file's, where it has been read.

    Returns:
        The pixels; None where the decoder is not installed, or the file not plain, or damaged: then it takes
        another decoder, which may say what is wrong.
    """
    decode = _decoder()
    header = header or (read_png_header(content) if decode else None)
    if decode is None or header is None or header.channels != channels:
        return None
    height = header.height
    if rows is not None and rows < height:
        content, height = _cut(content, rows), rows
    try:
        pixels = decode(content, (height, header.width), _MODES[channels])
    except Exception:  # whatever it finds wrong, the other decoder has the say
        return None
    return pixels[..., 0] if channels == 1 else pixels


def can_decode_rows() -> bool:
    """Whether a PNG's first rows can be decoded without the rest."""
    return _decoder() is not None


def expect_threads(count: int) -> None:
    """Says how many threads of this process decode at the same time; with many the quick decoder is left out."""
    global _threads
    _threads = count


def _cut(content: bytes, rows: int) -> bytes:
    """The same file with another height in its header: decoders stop after these rows."""
    header = content[12:20] + rows.to_bytes(4, "big") + content[24:29]
    return b"".join((content[:12], header, zlib.crc32(header).to_bytes(4, "big"), memoryview(content)[33:]))


def _decoder() -> Callable[..., np.ndarray] | None:
    """The decoder, if it is installed and does what it should, and makes no one wait."""
    return _installed() if _threads <= _MOST_THREADS else None


@functools.cache
def _installed() -> Callable[..., np.ndarray] | None:
    try:
        from kornia_rs.io import decode_image_png_u8
    except Exception:  # not there, or not for this machine
        return None
    import cv2

    rng = np.random.default_rng(0)
    try:
        for channels, shape in ((1, (5, 7)), (3, (5, 7, 3))):
            picture = rng.integers(0, 256, shape, dtype=np.uint8)
            content = cv2.imencode(".png", picture[..., ::-1] if channels == 3 else picture)[1].tobytes()
            for rows in (5, 2):
                found = decode_image_png_u8(_cut(content, rows), (rows, 7), _MODES[channels])
                if not np.array_equal(np.asarray(found).reshape(-1), picture[:rows].reshape(-1)):
                    return None
    except Exception:  # another version
        return None
    return decode_image_png_u8
