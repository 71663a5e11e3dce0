"""Decoding images and masks, with every check that one file allows."""

import functools
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
from jaxtyping import Int, Integer, UInt8
from PIL import Image, UnidentifiedImageError

from jaxseg.data.masks import binary_numbers, from_colors, several_labels
from jaxseg.data.rasters import NPY_START, check_eight_bit, decode_raster, read_header
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


def _check_whole(content: bytes, path: str) -> None:
    if _is_cut_short(content):
        raise DataError(
            f"{path} is cut short: its end is missing after {len(content)} bytes. Copy or download it again."
        )


def decode_image(content: bytes, path: str, color_type: str = "color") -> UInt8[np.ndarray, "h w 3"]:
    """Decodes an image file to RGB; grey becomes three equal channels, an alpha channel is dropped.

    Args:
        content: the file's bytes.
        path: its name, for errors.
        color_type: "color" turns a photo as its EXIF orientation says, as the reference does;
            "color_ignore_orientation" leaves it as it is stored.

    Raises:
        DataError: not an image, damaged, cut short, or of more channels or bits than that.
    """
    plain = decode_plain_png(content, 3)
    if plain is not None:
        return plain
    _check_whole(content, path)
    check_eight_bit(content, path)
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
    if path.lower().endswith((".npy", ".tif", ".tiff")):
        header = read_header(read_bytes(path), path)
        if header is not None:
            return header.height, header.width
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
    """Reads `meta["image_path"]` into `image` and notes `meta["original_size"]` (h, w).

    The image is uint8 [h w 3], RGB. Where `meta["channels"]` (`data.channels`) says how many it has, it is [h w c] as
    it is stored: uint8, uint16 or float32, all its channels. A record that has an image already is left as it is.

    Attributes:
        color_type: "color" obeys EXIF orientation, "color_ignore_orientation" does not; "unchanged" is as stored,
            with any number of channels.
    """

    loads: ClassVar[str] = "image"

    color_type: str = "color"

    def __post_init__(self) -> None:
        allowed = (*_COLOR_TYPES, "unchanged")
        if self.color_type not in allowed:
            raise ConfigError(f"LoadImage.color_type is {self.color_type!r}. {did_you_mean(self.color_type, allowed)}")

    def __call__(self, record: Record, rng: np.random.Generator | None = None) -> Record:
        """Decodes the image.

        Raises:
            DataError: the file is missing, empty, damaged, cut short, no image, or has other channels.
        """
        image = record.get("image")
        if image is None:
            path = record["meta"]["image_path"]
            content, channels = read_bytes(path), record["meta"].get("channels")
            if channels is None and self.color_type != "unchanged":
                image = decode_image(content, path, self.color_type)
            else:
                _check_whole(content, path)
                image = decode_raster(content, path, channels)
        meta = {**record["meta"], "original_size": tuple(image.shape[:2])}
        return {**record, "image": image, "meta": meta}


def decode_mask(content: bytes, path: str) -> Integer[np.ndarray, "h w"]:
    """Decodes a mask to the numbers stored in it: grey levels, or palette indices, of 1, 8, 16 or 32 bits.

    Raises:
        DataError: damaged, cut short, no image, or a colour picture.
    """
    plain = decode_plain_png(content, 1)
    if plain is not None:
        return plain
    header = read_header(content, path)
    if header is not None and header.channels == 1 and (content.startswith(NPY_START) or header.dtype == "uint32"):
        return _whole_numbers(decode_raster(content, path, 1)[..., 0], path)
    mask = _open_mask(content, path, _MASK_MODES)
    if header is not None and header.channels > 1:  # of which Pillow reads one
        raise DataError(f"{path} holds {header.channels} numbers a pixel; a mask has one, the index of a class.")
    return mask


def _whole_numbers(mask: np.ndarray, path: str) -> Integer[np.ndarray, "h w"]:
    if mask.dtype.kind != "f":
        return mask
    whole = mask.astype(np.int32)
    if (whole != mask).any():
        raise DataError(f"{path} holds numbers such as {mask[whole != mask][0]}; a mask has indices of classes.")
    return whole


def _open_mask(content: bytes, path: str, modes: tuple[str, ...] | None) -> np.ndarray:
    """The numbers of a picture of one of these modes; for None its colours, [h w 3]."""
    if content.startswith(NPY_START):
        raise DataError(f"{path} is an array of another shape than a mask's, [height width].")
    try:
        with Image.open(io.BytesIO(content)) as picture:
            if modes is None:
                return np.array(picture.convert("RGB"))
            if picture.mode not in modes:
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
    if picture.mode == "F":
        return f"{path} holds floating-point numbers, not class indices: save them as whole numbers."
    channels = np.array(picture)
    grey = channels.ndim == 3 and channels.shape[2] >= 3 and (channels[..., :1] == channels[..., 1:3]).all()
    hint = (
        "Its colour channels are all equal: save one of them."
        if grey
        else "Say which class each colour is with data.mask_colors, or replace each colour by its class index (a "
        "palette conversion) and save that with one channel."
    )
    return (
        f"{path} is a colour picture (mode {picture.mode}), not a mask: a mask has one channel, whose "
        f"numbers are class indices. {hint}"
    )


def _read_indices(paths: tuple[str, ...], meta: Mapping[str, Any]) -> np.ndarray:
    return to_classes(decode_mask(read_bytes(paths[0]), paths[0]), paths[0], meta)


def _read_binary(paths: tuple[str, ...], meta: Mapping[str, Any]) -> np.ndarray:
    return binary_numbers(_decode_grey(paths[0]), paths[0])


def _read_several(paths: tuple[str, ...], meta: Mapping[str, Any]) -> np.ndarray:
    if len(paths) > 1:
        layers = [_decode_grey(path) for path in paths]
    else:
        content = read_bytes(paths[0])
        header = read_header(content, paths[0])
        several = header is not None and header.channels > 1
        layers = [decode_raster(content, paths[0]) if several else _decode_grey(paths[0])]
    return several_labels(layers, paths, meta["num_classes"])


def _read_colors(paths: tuple[str, ...], meta: Mapping[str, Any]) -> np.ndarray:
    picture = _open_mask(read_bytes(paths[0]), paths[0], None)
    ignore = meta.get("ignore_index", 255)
    names = {**dict(enumerate(meta.get("class_names", ()))), ignore: "ignored"}
    label = from_colors(picture, paths[0], meta["mask_colors"], names)
    return label.astype(np.uint8 if 0 <= ignore <= 255 and label.max() <= 255 else np.int32)


def _decode_grey(path: str) -> Integer[np.ndarray, "h w"]:
    """The numbers in a mask of two; a picture in black and white has them three times."""
    content = read_bytes(path)
    if content.startswith(NPY_START):
        return decode_mask(content, path)
    mask = _open_mask(content, path, (*_MASK_MODES, "RGB", "RGBA", "LA"))
    if mask.ndim == 2:
        return mask
    if mask.shape[2] >= 3 and not (mask[..., :1] == mask[..., 1:3]).all():
        raise DataError(f"{path} is a colour picture, not a mask of two numbers: set data.mask_colors for colours.")
    return mask[..., 0]


# What `data.masks` says that masks hold -> how they become labels.
_READERS = {
    "indices": _read_indices,
    "binary": _read_binary,
    "multi-label": _read_several,
    "colors": _read_colors,
}


@dataclass(frozen=True)
class LoadAnnotations(Transform):
    """Reads `meta["label_path"]` into `label`: class indices, uint8 [h w], or int32 where 8 bits do not do.

    What the stored numbers mean stands in the meta data, which the source fills: `reduce_zero_label` (0 is
    ignored, every other number counts one less), then `label_map` (all replacements at once), `num_classes`,
    `ignore_index`. Without `num_classes` the numbers are taken as they are. `masks` says what else masks can hold
    (see `jaxseg.data.masks`): "binary" (0 and 1, or 0 and 255), "colors", or "multi-label", where `label_paths` may
    have one path a class and the label is uint8 [h w k] of 0 and 1. The mask must have the size of the image as
    it was read, whatever has been done to the image since. A record that has a label already is left as it is.

    Attributes:
        reduce_zero_label: overrides the source's where it is not None.
    """

    loads: ClassVar[str] = "label"

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
        paths = meta.get("label_paths") or (path,)
        reduce = meta.get("reduce_zero_label", False) if self.reduce_zero_label is None else self.reduce_zero_label
        label = _READERS[meta.get("masks", "indices")](paths, {**meta, "reduce_zero_label": reduce})
        expected = meta.get("original_size")
        if expected is not None and label.shape[:2] != tuple(expected):
            raise DataError(_size_message(paths[0], label.shape[:2], meta))
        return {**record, "label": label}


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
        hint = "Masks of 0 and 255 need data.masks=binary, or label_map {255: 1}."
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
