"""Images as they are stored: any number of channels, 8 or 16 bits or floating point; PNG, TIFF, NumPy arrays.

OpenCV and Pillow read one band of many TIFFs of several, or eight of their bits, and say nothing; so TIFFs are read by
tifffile, an optional dependency, and their headers here.
"""

import io
import struct
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Shaped
from numpy.lib import format as npy

from jaxseg.errors import DataError

NPY_START = b"\x93NUMPY"
_TIFF_STARTS = {b"II*\0": ("<", 4), b"MM\0*": (">", 4), b"II+\0": ("<", 8), b"MM\0+": (">", 8)}
_TIFF_NUMBERS = {1: "B", 3: "H", 4: "I", 16: "Q"}  # types of a field's values that matter here
_WIDE = ("16", "32", "64")
# What an image is on its way to the device; a wider one is an error, not a cut.
DTYPES = (np.uint8, np.uint16, np.float32)


class Header(NamedTuple):
    """What the head of a TIFF or a NumPy file says of the image in it.

    Attributes:
        height, width: in pixels.
        channels: values a pixel.
        dtype: of these, as NumPy calls it.
    """

    height: int
    width: int
    channels: int
    dtype: str


def read_header(content: bytes, path: str) -> Header | None:
    """The head of a TIFF or NumPy file; None for other formats.

    Raises:
        DataError: it is damaged, or holds no image [h w] or [h w c].
    """
    try:
        if content.startswith(NPY_START):
            return _npy_header(content, path)
        return _tiff_header(content) if content[:4] in _TIFF_STARTS else None
    except (struct.error, KeyError, IndexError, ValueError, EOFError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} cannot be decoded: its header is damaged ({error}).") from error


def _npy_header(content: bytes, path: str) -> Header:
    file = io.BytesIO(content)
    version = npy.read_magic(file)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, _, dtype = read(file)
    if len(shape) not in (2, 3) or 0 in shape:
        raise DataError(f"{path} holds an array of shape {shape}; an image is [height width] or [height width bands].")
    return Header(*shape[:2], shape[2] if len(shape) == 3 else 1, dtype.name)


def _tiff_header(content: bytes) -> Header:
    """The size, the bands and their type of the first image of a TIFF."""
    order, wide = _TIFF_STARTS[content[:4]]
    offset_of, count_of = ("Q", "Q") if wide == 8 else ("I", "H")
    start = struct.unpack_from(order + offset_of, content, 8 if wide == 8 else 4)[0]
    count = struct.unpack_from(order + count_of, content, start)[0]
    entry = 20 if wide == 8 else 12
    fields = {277: 1, 258: 1, 339: 1}  # bands, bits, and what they are, where the file says nothing
    for i in range(count):
        at = start + struct.calcsize(count_of) + i * entry
        tag, kind = struct.unpack_from(order + "HH", content, at)
        if tag not in (256, 257, *fields) or kind not in _TIFF_NUMBERS:
            continue
        number = _TIFF_NUMBERS[kind]
        values = struct.unpack_from(order + offset_of, content, at + 4)[0]
        place = at + 4 + wide
        if values * struct.calcsize(number) > wide:
            place = struct.unpack_from(order + offset_of, content, place)[0]
        fields[tag] = struct.unpack_from(order + number, content, place)[0]
    kind = {1: "uint", 2: "int", 3: "float"}.get(fields[339], "unknown")
    return Header(fields[257], fields[256], fields[277], f"{kind}{fields[258]}")


def check_eight_bit(content: bytes, path: str) -> None:
    """Refuses an image that RGB of 8 bits would be less than, or other than.

    Raises:
        DataError: it is a NumPy array or a TIFF with more than four channels, or of more than 8 bits; or a PNG of 16.
    """
    header = read_header(content, path)
    if header is not None and (content.startswith(NPY_START) or header.channels > 4 or header.dtype[-2:] in _WIDE):
        what = f"{header.channels} channel{'s' * (header.channels > 1)} of {header.dtype}"
        channels = header.channels
    elif content.startswith(b"\x89PNG") and len(content) > 25 and content[24] == 16:
        channels = {0: 1, 2: 3, 4: 2, 6: 4}.get(content[25], 3)
        what = f"{channels} channel{'s' * (channels > 1)} of uint16"
    else:
        return
    raise DataError(
        f"{path} has {what}, which RGB of 8 bits can't hold. To use images as they are stored, say how many channels "
        f"they have: data.channels={channels}."
    )


def decode_raster(content: bytes, path: str, channels: int | None = None) -> Shaped[np.ndarray, "h w c"]:
    """Decodes an image with all its channels, in the type that they are stored in: uint8, uint16 or float32.

    Args:
        content: the file's bytes.
        path: its name, for errors.
        channels: how many it must have; None: as many as it has.

    Raises:
        DataError: not an image, damaged, of another number of channels, of a type that is none of the three, or with
            values that are no finite numbers.
    """
    if content.startswith(NPY_START):
        image = _decode_npy(content, path)
    elif content[:4] in _TIFF_STARTS:
        image = _decode_tiff(content, path)
    else:
        image = _decode_picture(content, path)
    image = image[..., None] if image.ndim == 2 else image
    if image.ndim != 3:
        raise DataError(f"{path} holds an array of shape {image.shape}; an image is [height width bands].")
    if channels is not None and image.shape[2] != channels:
        turned = image.shape[0] == channels
        hint = f"Its first axis has {channels}: save it as [height width bands]." if turned else ""
        raise DataError(
            f"{path} has {image.shape[2]} channels ({image.shape[0]}x{image.shape[1]} pixels, {image.dtype}), but "
            f"data.channels is {channels}. {hint}".strip()
        )
    return _in_our_dtype(image, path)


def _decode_npy(content: bytes, path: str) -> np.ndarray:
    try:
        return npy.read_array(io.BytesIO(content), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise DataError(f"{path} cannot be decoded: {error}. It is damaged or cut short.") from error


def _decode_tiff(content: bytes, path: str) -> np.ndarray:
    header = read_header(content, path)
    try:
        import tifffile
    except ImportError as error:
        raise DataError(
            f"{path} is a TIFF ({header.channels} channels of {header.dtype}); reading it as it is stored needs the "
            "package tifffile: pip install 'jaxseg[tiff]'"
        ) from error
    try:
        with tifffile.TiffFile(io.BytesIO(content)) as file:
            page = file.pages[0]
            image = page.asarray()
            planar = page.axes.startswith("S")
    except Exception as error:  # a damaged file can raise anything there
        hint = "" if "imagecodecs" not in str(error) else " (pip install 'jaxseg[tiff]')"
        raise DataError(f"{path} cannot be decoded: {str(error).strip()}{hint}.") from error
    return np.moveaxis(image, 0, -1) if planar else image


def _decode_picture(content: bytes, path: str) -> np.ndarray:
    """A PNG, JPEG, BMP or WebP; colours in the order red, green, blue, and then alpha."""
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise DataError(f"{path} cannot be decoded: {error.err or error}.") from error
    if image is None:
        raise DataError(f"{path} cannot be decoded ({len(content)} bytes): it is damaged, or not an image.")
    if image.ndim == 3 and image.shape[2] in (3, 4):
        image = image[..., (2, 1, 0, 3)[: image.shape[2]]]
    return image


def _in_our_dtype(image: np.ndarray, path: str) -> np.ndarray:
    """The image as uint8, uint16 or float32, if none of its values changes by that."""
    image = image.astype(np.uint8 if image.dtype == bool else image.dtype.newbyteorder("="), copy=False)
    if image.dtype.kind in "iu" and image.dtype not in DTYPES:
        low, high = int(image.min()), int(image.max())
        if max(abs(low), abs(high)) > 2**24:  # up to there float32 holds every whole number
            raise DataError(
                f"{path} holds {image.dtype} values from {low} to {high}, which float32 can't hold: scale them."
            )
        return np.ascontiguousarray(image.astype(np.float32))
    if image.dtype.kind == "f":
        image = image.astype(np.float32)
        bad = int(image.size - np.isfinite(image).sum())
        if bad:
            raise DataError(
                f"{path} holds {bad} values that are no numbers (NaN or infinite, of {image.size}): fill them in, or "
                "leave the file out."
            )
    elif image.dtype not in DTYPES:
        raise DataError(f"{path} holds values of type {image.dtype}; use uint8, uint16 or float32.")
    return np.ascontiguousarray(image)
