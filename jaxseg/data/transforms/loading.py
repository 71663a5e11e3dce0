"""Decoding images and masks, with every check that one file allows."""

import functools
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image, UnidentifiedImageError

from jaxseg.data.transforms.base import Record, Transform
from jaxseg.data.transforms.png import decode_plain_png
from jaxseg.errors import ConfigError, DataError, did_you_mean

_COLOR_TYPES = {
    "color": cv2.IMREAD_COLOR,
    "color_ignore_orientation": cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION,
}
_JPEG_START, _JPEG_END, _JPEG_SCAN = b"\xff\xd8", b"\xff\xd9", 0xDA
_PNG_START, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND"
_MASK_MODES = ("1", "L", "P", "I", "I;16", "I;16B", "I;16L", "I;16N")
_INVALID = -(2**31)  # what the label tables hold for a value that is not allowed


def read_bytes(path: str) -> bytes:
    """The content of a file.

    Raises:
        DataError: it is missing, unreadable or empty.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror or error}.") from error
    if not content:
        raise DataError(f"{path} is empty (0 bytes): copy or download it again.")
    return content


def _is_cut_short(content: bytes) -> bool:
    """Whether a JPEG or PNG lacks its end mark; OpenCV fills what is missing with grey and says nothing."""
    if content.startswith(_PNG_START):
        return content.rfind(_PNG_END) < 0
    if not content.startswith(_JPEG_START):
        return False
    # The end mark must come after the scan begins: an embedded thumbnail has one of its own before that.
    at = 2
    while at + 4 <= len(content) and content[at] == 0xFF:
        if content[at + 1] == _JPEG_SCAN:
            return content.rfind(_JPEG_END, at) < 0
        if content[at + 1] == 0xFF:  # a fill byte
            at += 1
        else:
            at += 2 + int.from_bytes(content[at + 2 : at + 4], "big")
    return True


def decode_image(content: bytes, path: str, color_type: str = "color") -> UInt8[np.ndarray, "h w 3"]:
    """Decodes an image file to RGB; grey becomes three equal channels, an alpha channel is dropped.

    Args:
        content: the file's bytes.
        path: its name, for errors.
        color_type: "color" turns a photo as its EXIF orientation says, as the reference does;
            "color_ignore_orientation" leaves it as it is stored.

    Raises:
        DataError: not an image, damaged, or cut short.
    """
    plain = decode_plain_png(content, 3)
    if plain is not None:
        return plain
    if _is_cut_short(content):
        raise DataError(
            f"{path} is cut short: its end is missing after {len(content)} bytes. Copy or download it again."
        )
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), _COLOR_TYPES[color_type])
    except cv2.error as error:
        raise DataError(f"{path} cannot be decoded: {error.err or error}.") from error
    if image is None:
        raise DataError(
            f"{path} cannot be decoded ({len(content)} bytes): it is damaged, or not an image (JPEG, PNG, "
            "TIFF, BMP, WebP, ...)."
        )
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)


def image_size(path: str) -> tuple[int, int]:
    """Height and width of an image, of its header only, after turning it as its EXIF orientation says.

    Raises:
        DataError: no readable header.
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
            turned = image.getexif().get(0x0112, 1) >= 5
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        content = read_bytes(path)
        if isinstance(error, UnidentifiedImageError):  # a format that OpenCV alone may know
            return decode_image(content, path).shape[:2]
        raise DataError(f"{path} cannot be decoded: {error}.") from error
    return (width, height) if turned else (height, width)


@dataclass(frozen=True)
class LoadImage(Transform):
    """Reads `meta["image_path"]` into `image` (uint8 [h w 3], RGB) and notes `meta["original_size"]` (h, w).

    A record that has an image already is left as it is.

    Attributes:
        color_type: "color" obeys EXIF orientation, "color_ignore_orientation" does not.
    """

    color_type: str = "color"

    def __post_init__(self) -> None:
        if self.color_type not in _COLOR_TYPES:
            raise ConfigError(
                f"LoadImage.color_type is {self.color_type!r}. {did_you_mean(self.color_type, _COLOR_TYPES)}"
            )

    def __call__(self, record: Record, rng: np.random.Generator | None = None) -> Record:
        """Decodes the image.

        Raises:
            DataError: the file is missing, empty, damaged, cut short, or no image.
        """
        image = record.get("image")
        if image is None:
            path = record["meta"]["image_path"]
            image = decode_image(read_bytes(path), path, self.color_type)
        meta = {**record["meta"], "original_size": tuple(image.shape[:2])}
        return {**record, "image": image, "meta": meta}


def decode_mask(content: bytes, path: str) -> Int[np.ndarray, "h w"]:
    """Decodes a mask to the numbers stored in it: grey levels, or palette indices, of 1, 8, 16 or 32 bits.

    Raises:
        DataError: damaged, cut short, no image, or a colour picture.
    """
    plain = decode_plain_png(content, 1)
    if plain is not None:
        return plain
    try:
        with Image.open(io.BytesIO(content)) as picture:
            if picture.mode not in _MASK_MODES:
                raise DataError(_not_a_mask(picture, path))
            mask = np.array(picture)
    except DataError:
        raise
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(
            f"{path} cannot be decoded as a mask ({len(content)} bytes): {error}. It is damaged or cut "
            "short; copy or download it again."
        ) from error
    return mask.astype(np.uint8) if mask.dtype == bool else mask


def _not_a_mask(picture: Image.Image, path: str) -> str:
    channels = np.array(picture)
    grey = channels.ndim == 3 and channels.shape[2] >= 3 and (channels[..., :1] == channels[..., 1:3]).all()
    hint = (
        "Its colour channels are all equal: save one of them."
        if grey
        else "Replace each colour by its class index (a palette conversion) and save that with one channel."
    )
    return (
        f"{path} is a colour picture (mode {picture.mode}), not a mask: a mask has one channel, whose "
        f"numbers are class indices. {hint}"
    )


@dataclass(frozen=True)
class LoadAnnotations(Transform):
    """Reads `meta["label_path"]` into `label`: class indices, uint8 [h w], or int32 where 8 bits do not do.

    What the stored numbers mean stands in the meta data, which the source fills: `reduce_zero_label` (0 is
    ignored, every other number counts one less), then `label_map` (all replacements at once), `num_classes`,
    `ignore_index`. Without `num_classes` the numbers are taken as they are. The mask must have the size of
    the image as it was read, whatever has been done to the image since. A record that has a label already is
    left as it is.

    Attributes:
        reduce_zero_label: overrides the source's where it is not None.
    """

    reduce_zero_label: bool | None = None

    def __call__(self, record: Record, rng: np.random.Generator | None = None) -> Record:
        """Decodes the mask.

        Raises:
            DataError: no mask, a damaged one, a colour picture, a size other than the image's, or a number
                that is neither a class nor the ignored index.
        """
        if record.get("label") is not None:
            return record
        meta = record["meta"]
        path = meta.get("label_path")
        if path is None:
            raise DataError(
                f"{meta.get('image_path', meta.get('name'))} has no mask; leave LoadAnnotations out of the "
                "transforms for images without labels."
            )
        mask = decode_mask(read_bytes(path), path)
        expected = meta.get("original_size")
        if expected is not None and mask.shape != tuple(expected):
            raise DataError(_size_message(path, mask.shape, meta))
        reduce = meta.get("reduce_zero_label", False) if self.reduce_zero_label is None else self.reduce_zero_label
        return {**record, "label": to_classes(mask, path, {**meta, "reduce_zero_label": reduce})}


def _size_message(path: str, found: tuple[int, ...], meta: Mapping[str, Any]) -> str:
    height, width = meta["original_size"]
    turned = found == (width, height)
    hint = (
        "One of them is turned by 90 degrees, perhaps by the photo's EXIF orientation (see LoadImage.color_type)."
        if turned
        else "They must be equal: is it the mask of another image, or has one of them been resized?"
    )
    return (
        f"{path} is {found[0]}x{found[1]} (height x width), but its image {meta.get('image_path')} is "
        f"{height}x{width}. {hint}"
    )


def to_classes(mask: Int[np.ndarray, "h w"], path: str, meta: Mapping[str, Any]) -> Int[np.ndarray, "h w"]:
    """Turns stored numbers into class indices and checks them; see LoadAnnotations.

    Raises:
        DataError: numbers that are neither a class nor the ignored index.
    """
    classes, ignore = meta.get("num_classes"), meta.get("ignore_index", 255)
    pairs = tuple(sorted((int(raw), int(new)) for raw, new in (meta.get("label_map") or {}).items()))
    levels = 256 if mask.dtype == np.uint8 else 65536
    if mask.dtype != np.uint8 and (mask.min() < 0 or mask.max() >= levels):
        bad = np.unique(mask[(mask < 0) | (mask >= levels)])
        raise DataError(_range_message(path, bad, meta))
    table, all_valid = _label_table(levels, bool(meta.get("reduce_zero_label")), pairs, classes, ignore)
    small = 0 <= ignore <= 255 and (classes <= 255 if classes is not None else levels == 256)
    if small and levels == 256:  # the same, several times as quick
        table, spare = _byte_table(bool(meta.get("reduce_zero_label")), pairs, classes, ignore)
        label = cv2.LUT(mask, table)
        bad = None if spare is None else label == spare
        if bad is not None and bad.any():
            raise DataError(_range_message(path, np.unique(mask[bad]), meta))
        return label
    label = table[mask]
    if not all_valid and (label == _INVALID).any():
        raise DataError(_range_message(path, np.unique(mask[label == _INVALID]), meta))
    return label.astype(np.uint8 if small else np.int32)


@functools.lru_cache(maxsize=16)
def _label_table(
    levels: int, reduce: bool, pairs: tuple[tuple[int, int], ...], classes: int | None, ignore: int
) -> tuple[np.ndarray, bool]:
    """The class of every number that a mask can hold, `_INVALID` for none; and whether none is."""
    values = np.arange(levels, dtype=np.int32)
    if reduce:
        values = np.where((values == 0) | (values == ignore), ignore, values - 1)
    mapped = values.copy()
    for raw, new in pairs:
        mapped[values == raw] = new
    if classes is not None:
        mapped[((mapped < 0) | (mapped >= classes)) & (mapped != ignore)] = _INVALID
    return mapped.astype(np.int32), bool((mapped != _INVALID).all())


@functools.lru_cache(maxsize=16)
def _byte_table(
    reduce: bool, pairs: tuple[tuple[int, int], ...], classes: int | None, ignore: int
) -> tuple[UInt8[np.ndarray, "256"], int | None]:
    """`_label_table` where all classes are bytes, and the byte in it that stands for none; None where it has no such.

    Where some of the 256 numbers are no class, there is a byte that is the class of none.
    """
    table, all_valid = _label_table(256, reduce, pairs, classes, ignore)
    spare = None if all_valid else next(i for i in range(256) if i not in table)
    return np.where(table == _INVALID, spare or 0, table).astype(np.uint8), spare


def _range_message(path: str, bad: np.ndarray, meta: Mapping[str, Any]) -> str:
    classes, ignore = meta.get("num_classes"), meta.get("ignore_index", 255)
    shown = ", ".join(str(int(value)) for value in bad[:8]) + (", ..." if len(bad) > 8 else "")
    reduce = meta.get("reduce_zero_label")
    allowed = f"1..{classes} (0 is ignored, reduce_zero_label is on)" if reduce else f"0..{(classes or 0) - 1}"
    if not reduce and classes == 2 and set(bad.tolist()) <= {254, 255}:
        hint = "A mask of 0 and 255 needs label_map {255: 1}."
    elif not reduce and set(bad.tolist()) == {classes}:
        hint = (
            f"If classes count from 1 and 0 means nothing, set reduce_zero_label; if {classes} means "
            f"nothing, set label_map {{{classes}: {ignore}}}; else the list of classes is one too short."
        )
    else:
        hint = (
            "Give every stored number its class with label_map {number: class index}, add the missing "
            "classes, or set reduce_zero_label if classes count from 1."
        )
    return f"{path} holds {shown}, but labels must be {allowed} or {ignore} (ignore_index). {hint}"
