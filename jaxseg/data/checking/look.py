"""One look at one record: both files are read and decoded once, and all that rules need to know is noted."""

import hashlib
import io
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from jaxtyping import Num, UInt8
from PIL import Image

from jaxseg.data import rasters
from jaxseg.data.masks import count_classes
from jaxseg.data.sources import Source
from jaxseg.data.transforms import Pipeline, Transform
from jaxseg.data.transforms.base import Record, Size
from jaxseg.data.transforms.loading import LoadAnnotations, LoadImage, read_bytes
from jaxseg.errors import DataError

THUMB = 16  # pixels of a side of the small picture that near copies are found by
_SAMPLES = 64  # rows and columns of an image that its mean is taken of
_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_EXIF = (b"eXIf", b"Raw profile type exif")
_PNG_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}
_ORIENTATION = 0x0112  # a tag of EXIF
_LOSSY = ("JPEG", "MPO", "JPEG2000")
_UNREADABLE = ("Cannot read", "cannot be read", "cannot be decoded", "cut short", "is empty (0 bytes)")
_SHOWN = 8  # how many numbers a finding lists


@dataclass(frozen=True, slots=True)
class Header:
    """What a picture file says of itself.

    Attributes:
        format: "PNG", "JPEG", ...
        size: height and width as stored.
        channels: 1, 2 (grey and alpha), 3, 4; a palette counts as colour.
        bits: of a channel.
        orientation: of EXIF, 1..8; 1 is upright.
    """

    format: str
    size: Size
    channels: int
    bits: int
    orientation: int

    @property
    def form(self) -> str:
        """Channels and bits in words."""
        return f"{self.channels} channel{'s' if self.channels > 1 else ''} of {self.bits} bits"


@dataclass(frozen=True, eq=False, slots=True)
class Look:
    """What one record showed. Fields are None or empty where it did not come that far.

    Attributes:
        name: of the record.
        index: of the record in its source.
        image_path: the image's file, if it has one.
        label_path: the mask's file, if it has one.
        problem: key of `KINDS` of what kept it from being loaded.
        file: where that is.
        value: what was found there.
        error: the whole error, a message for the user.
        header: of the image's file.
        lossy: the mask's format where it is a lossy one.
        digest: hash of the image.
        label_digest: hash of the mask's file.
        size: height and width of the image as it was loaded.
        channels: of the image as it was loaded.
        sums: of each channel over `samples` pixels.
        squares: sums of squares.
        samples: how many pixels.
        thumb: the image in little.
        counts: pixels of each class.
        pixels: of the mask.
        numbers: stored number -> pixels of it, where they were asked for or are no classes.
    """

    name: str
    index: int = 0
    image_path: str | None = None
    label_path: str | None = None
    problem: str | None = None
    file: str | None = None
    value: str = ""
    error: str = ""
    header: Header | None = None
    lossy: str = ""
    digest: bytes = b""
    label_digest: bytes = b""
    size: Size | None = None
    channels: int = 0
    sums: np.ndarray | None = None
    squares: np.ndarray | None = None
    samples: int = 0
    thumb: np.ndarray | None = None
    counts: np.ndarray | None = None
    pixels: int = 0
    numbers: dict[int, int] | None = None


def loading_steps(pipeline: Pipeline) -> tuple[Transform, ...]:
    """The steps that read files, those of images first: masks are compared with the image as it was read."""
    steps = [step for step in pipeline.steps if isinstance(step, LoadImage | LoadAnnotations) or step.loads]
    return tuple(sorted(steps, key=_is_of_masks))


def _is_of_masks(step: Transform) -> bool:
    return isinstance(step, LoadAnnotations) or step.loads == "label"


def look_at(source: Source, index: int, steps: Sequence[Transform], numbers: bool = False) -> Look:
    """Reads a record, as training would.

    Args:
        source: where it is.
        index: its number.
        steps: those that load; see `loading_steps`.
        numbers: whether to note the numbers stored in the mask.
    """
    seen: dict[str, Any] = {"name": str(index), "index": index}
    record, rng = None, np.random.default_rng(0)
    try:
        record = source[index]
        meta = record["meta"]
        seen |= {"name": str(meta.get("name", index)), "image_path": meta.get("image_path")}
        seen |= {"label_path": next(iter(mask_paths(meta)), None), "file": seen["image_path"]}
        given = record.get("image") is not None
        if seen["image_path"] is not None and not given:
            content = read_bytes(seen["image_path"])
            seen["header"], seen["digest"] = file_header(content), _digest(content)
        for step in steps:
            if not _is_of_masks(step):
                record = step(record, rng)
        if record.get("image") is not None:
            seen |= _of_image(record["image"], own_digest=given or seen.get("header") is None)
    except Exception as error:  # decoders fail in many ways, and a check goes on
        return _failed(seen, error, [seen.get("file"), (record or {}).get("meta", {}).get("image_path2")])
    return _look_at_mask(source, record, [step for step in steps if _is_of_masks(step)], numbers, seen)


def _look_at_mask(
    source: Source, record: Record, steps: Sequence[Transform], numbers: bool, seen: dict[str, Any]
) -> Look:
    paths, contents = mask_paths(record["meta"]), []
    seen["file"] = seen.get("label_path") or seen["file"]
    try:
        if steps and record.get("label") is None:
            contents = [read_bytes(path) for path in paths]
            headers = [file_header(content) for content in contents]
            seen["label_digest"] = _digest(b"".join(contents)) if contents else b""
            seen["lossy"] = next((header.format for header in headers if header and header.format in _LOSSY), "")
        for step in steps:
            record = step(record, np.random.default_rng(0))
    except Exception as error:
        failed = _failed(seen, error, paths)
        why = _why(contents[0], record["meta"], seen.get("size"), failed.value) if len(contents) == 1 else {}
        return replace(failed, **why)
    label = record.get("label")
    if label is not None and label.ndim <= 3 and np.issubdtype(label.dtype, np.integer):
        if record.get("image") is not None and record["image"].ndim == 4:
            label = label.reshape(-1, label.shape[-1])  # of a volume
        seen |= {"counts": count_classes(label, len(source.classes), source.ignore_index)}
        seen |= {"pixels": int(np.prod(label.shape[:2]))}
        if numbers and len(contents) == 1 and file_header(contents[0]) is not None:
            seen["numbers"] = _count_numbers(_stored(contents[0]))
    return Look(**seen)


def mask_paths(meta: Mapping[str, Any]) -> tuple[str, ...]:
    """The files of a record's mask: none, one, or one a class."""
    path = meta.get("label_path")
    return tuple(meta.get("label_paths") or (() if path is None else (path,)))


def _failed(seen: Mapping[str, Any], error: Exception, paths: Sequence[str | None]) -> Look:
    """A record that can't be loaded: which of its files the error names, and whether that can be read at all."""
    text = str(error) if isinstance(error, DataError) else f"{type(error).__name__}: {error}"
    file = next((path for path in reversed(paths) if path and path in text), seen.get("file"))
    problem = "unreadable" if any(words in text for words in _UNREADABLE) else "loading"
    if not isinstance(error, DataError):
        text = f"{file} cannot be loaded: {text}"
    return Look(**{**seen, "file": file, "problem": problem, "value": _reason(text, file), "error": text})


def file_header(content: bytes) -> Header | None:
    """What an image file says of itself; None where it is none.

    Pillow does not tell 16 bits of a colour PNG from 8, nor knows arrays and TIFFs of any number of bands.
    """
    try:
        stored = rasters.read_header(content, "")
    except DataError:
        return None
    kind = "NumPy" if stored is not None and content.startswith(rasters.NPY_START) else "TIFF"
    orientation = 1
    try:
        with Image.open(io.BytesIO(content)) as picture:
            kind, mode = picture.format or "", picture.mode
            size, channels = picture.size[::-1], 3 if mode == "P" else len(picture.getbands())
            bits = {"1": 1, "I": 32, "F": 32}.get(mode, 16 if mode.startswith("I;16") else 8)
            # Pillow decodes a whole PNG to look for this.
            has_exif = kind != "PNG" or any(mark in content for mark in _PNG_EXIF)
            orientation = picture.getexif().get(_ORIENTATION, 1) if has_exif else 1
    except (OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError):
        if stored is None:
            return None
    if stored is not None:
        size, channels = (stored.height, stored.width), stored.channels
        bits = int("".join(filter(str.isdigit, stored.dtype)) or 1)
    elif content.startswith(_PNG) and len(content) > 25:
        bits, channels = max(content[24], 8), _PNG_CHANNELS.get(content[25], channels)
    return Header(kind, size, channels, bits, orientation if orientation in range(1, 9) else 1)


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=16).digest()


def _of_image(image: Num[np.ndarray, "*sides c"], own_digest: bool) -> dict[str, Any]:
    """What is noted of the decoded image."""
    channels = image.shape[-1] if image.ndim > 2 else 1
    sides = image.shape[: max(image.ndim - 1, 2)]  # of a volume three
    sample = image[tuple(slice(None, None, max(1, side // _SAMPLES)) for side in sides)]
    sample = sample.reshape(-1, channels).astype(np.float64)
    image = image[len(image) // 2] if len(sides) == 3 else image
    facts = {
        "size": sides if len(sides) == 2 else None,
        "channels": channels,
        "sums": sample.sum(axis=0),
        "squares": np.square(sample).sum(axis=0),
        "samples": len(sample),
        "thumb": _thumb(image),
    }
    return facts | ({"digest": _digest(np.ascontiguousarray(image).tobytes())} if own_digest else {})  # of the middle


def _thumb(image: Num[np.ndarray, "h w c"]) -> UInt8[np.ndarray, "s s"]:
    """The image in grey, `THUMB` pixels a side; other than 8 bits are stretched to them."""
    planes = image.reshape(*image.shape[:2], -1)
    planes = planes if planes.dtype in (np.uint8, np.uint16, np.float32) else planes.astype(np.float32)
    # OpenCV resizes up to four channels at once.
    small = cv2.resize(planes[..., :3], (THUMB, THUMB), interpolation=cv2.INTER_AREA).reshape(THUMB, THUMB, -1)
    grey = small.mean(axis=2, dtype=np.float32)
    if image.dtype != np.uint8:
        low, high = float(grey.min()), float(grey.max())
        grey = (grey - low) * (255 / (high - low)) if high > low else grey * 0
    return np.nan_to_num(np.rint(grey)).astype(np.uint8)


def _why(content: bytes, meta: Mapping[str, Any], image_size: Size | None, reason: str) -> dict[str, Any]:
    """The kind of a mask that can't be loaded, and what was found; nothing where it can't even be decoded."""
    kind = meta.get("masks", "indices")
    try:
        stored = _stored(content)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return {}
    if stored.ndim == 3 and kind == "indices":
        colours = len(np.unique(stored.reshape(-1, stored.shape[2]), axis=0))
        return {"problem": "colour_mask", "value": f"{stored.shape[2]} channels, {colours} colours"}
    if image_size is not None and stored.shape[:2] != image_size:
        turned = " (turned by 90 degrees)" if stored.shape[1::-1] == image_size else ""
        shown = [f"{height}x{width}" for height, width in (stored.shape[:2], image_size)]
        return {"problem": "size_mismatch", "value": f"mask {shown[0]}, image {shown[1]}{turned}"}
    if kind != "indices":
        return {"problem": "values", "value": reason}
    numbers = _count_numbers(stored)
    bad = {number: pixels for number, pixels in numbers.items() if not is_class(number, meta)}
    if not bad:
        return {"problem": "loading", "numbers": numbers}
    return {"problem": "values", "value": shown_numbers(bad), "numbers": numbers}


def is_class(number: int, meta: Mapping[str, Any]) -> bool:
    """Whether a stored number becomes a class or the ignored index."""
    ignore, classes = meta.get("ignore_index", 255), meta.get("num_classes")
    if meta.get("reduce_zero_label"):
        number = ignore if number in (0, ignore) else number - 1
    number = {int(raw): int(new) for raw, new in (meta.get("label_map") or {}).items()}.get(number, number)
    return number == ignore or classes is None or 0 <= number < classes


def shown_numbers(numbers: Mapping[int, int]) -> str:
    """The first few numbers, each with its pixels."""
    shown = ", ".join(f"{number} ({pixels:,} px)" for number, pixels in sorted(numbers.items())[:_SHOWN])
    return shown + (f" and {len(numbers) - _SHOWN} more" if len(numbers) > _SHOWN else "")


def _stored(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as picture:
        return np.array(picture)


def _count_numbers(stored: np.ndarray) -> dict[int, int]:
    values, pixels = np.unique(stored, return_counts=True)
    return dict(zip(values.astype(int).tolist(), pixels.tolist(), strict=True))


def _reason(error: str, path: str | None) -> str:
    """The error without the name of its file, and without its remedy."""
    reason = error.replace(f"Cannot read {path}: ", "").replace(f"{path} is ", "").replace(f"{path} ", "")
    return reason.split(": copy")[0].split(". Copy")[0].split("; copy")[0].split(". It is")[0].rstrip(".")
