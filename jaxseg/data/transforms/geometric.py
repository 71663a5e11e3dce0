"""Transforms that move pixels: flip, crop, pad. Resizing is in `resize.py`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import UInt8

from jaxseg.data.transforms.base import (
    RandomTransform,
    Record,
    Size,
    Transform,
    as_fill,
    colour_tuple,
    map_arrays,
    set_fields,
    whole_pair,
)
from jaxseg.data.transforms.resample import Window
from jaxseg.errors import ConfigError, did_you_mean

_FLIP_AXES = {"horizontal": (1,), "vertical": (0,), "diagonal": (0, 1)}
_FLIP_CODES = {"horizontal": 1, "vertical": 0, "diagonal": -1}  # of cv2.flip
_CROP_TRIES = 10


@dataclass(frozen=True)
class RandomFlip(RandomTransform):
    """Mirrors image and label, or leaves them.

    Attributes:
        prob: probability of a flip, in 0..1; shared equally where there are several directions. Or one
            probability for each direction, together at most 1.
        direction: "horizontal" (left becomes right), "vertical", "diagonal" (both), or several of these.
        swap_seg_labels: pairs of classes that change places in a flipped label (left arm and right arm).
    """

    prob: float | Sequence[float] = 0.5
    direction: str | Sequence[str] = "horizontal"
    swap_seg_labels: Sequence[tuple[int, int]] = ()

    def __post_init__(self) -> None:
        directions = (self.direction,) if isinstance(self.direction, str) else tuple(self.direction)
        for direction in directions:
            if direction not in _FLIP_AXES:
                raise ConfigError(f"RandomFlip.direction is {direction!r}. {did_you_mean(direction, _FLIP_AXES)}")
        several = isinstance(self.prob, Sequence | np.ndarray)
        prob = tuple(self.prob) if several else (self.prob / max(len(directions), 1),) * len(directions)
        if len(prob) != len(directions) or min(prob, default=-1) < 0 or sum(prob) > 1 + 1e-9:
            raise ConfigError(
                f"RandomFlip.prob is {self.prob!r} for the directions {directions}; it must be a number in "
                "0..1, or one for each direction, together at most 1."
            )
        pairs = tuple(tuple(pair) for pair in self.swap_seg_labels or ())
        set_fields(self, direction=directions, prob=prob, swap_seg_labels=pairs)

    def draw(self, record: Record, rng: np.random.Generator) -> str | None:
        """The direction to flip in, or None for no flip."""
        at = rng.random()
        for direction, bound in zip(self.direction, np.cumsum(self.prob), strict=True):
            if at < bound:
                return direction
        return None

    def apply(self, record: Record, params: str | None) -> Record:
        """Flips in the direction `params`; None leaves the record as it is."""
        if params is None:
            return record

        def flip(array: np.ndarray) -> np.ndarray:
            if array.dtype == np.uint8 and (array.ndim == 2 or array.shape[2:] == (3,)):
                return cv2.flip(array, _FLIP_CODES[params])  # a copy, which takes less than working on a view
            return np.flip(array, _FLIP_AXES[params])

        flipped = map_arrays(record, flip, flip)
        if self.swap_seg_labels and flipped.get("label") is not None:
            flipped["label"] = _swapped(flipped["label"], self.swap_seg_labels)
        return flipped


def _swapped(label: np.ndarray, pairs: Sequence[tuple[int, int]]) -> np.ndarray:
    """The label with the classes of each pair in each other's place."""
    swapped = label.copy()
    for first, second in pairs:
        if label.ndim == 3:  # of several classes a pixel: their layers
            swapped[..., first], swapped[..., second] = label[..., second], label[..., first]
        else:
            swapped[label == first] = second
            swapped[label == second] = first
    return swapped


@dataclass(frozen=True)
class RandomCrop(RandomTransform):
    """Cuts a window of a fixed size at a random place; an image smaller than it stays smaller.

    Attributes:
        crop_size: (height, width), or one number for both.
        cat_max_ratio: a window where one class has this share of the labelled pixels or more, or that has no
            more than one class, is drawn again, ten times at most. 1 turns it off.
        ignore_index: the label that does not count for the share.
    """

    crop_size: int | Size
    cat_max_ratio: float = 1.0
    ignore_index: int = 255

    def __post_init__(self) -> None:
        set_fields(self, crop_size=whole_pair(self, "crop_size", self.crop_size, "(height, width)"))
        if not 0 < self.cat_max_ratio <= 1:
            raise ConfigError(f"RandomCrop.cat_max_ratio is {self.cat_max_ratio!r}; it must be above 0, at most 1.")

    def draw(self, record: Record, rng: np.random.Generator) -> Window:
        """The window to cut out."""
        label = record.get("label")
        label_window = None if label is None else lambda window: window.of(label)
        return self.draw_window(record["image"].shape[:2], label_window, rng)

    def draw_window(
        self, size: Size, label_window: Callable[[Window], np.ndarray] | None, rng: np.random.Generator
    ) -> Window:
        """The window to cut out of an image of `size`; `label_window` gives the label inside a window."""
        window = self._place(size, rng)
        if self.cat_max_ratio >= 1 or label_window is None:
            return window
        for _ in range(_CROP_TRIES):
            if self._is_mixed(label_window(window)):
                break
            window = self._place(size, rng)
        return window

    def _place(self, size: Size, rng: np.random.Generator) -> Window:
        height, width = self.crop_size
        top = int(rng.integers(0, max(size[0] - height, 0) + 1))
        left = int(rng.integers(0, max(size[1] - width, 0) + 1))
        return Window(top, left, height, width)

    def _is_mixed(self, label: np.ndarray) -> bool:
        if label.ndim == 3:  # of several classes a pixel: how many pixels each has
            counts = (label == 1).sum(axis=(0, 1))
            counts = counts[counts > 0]
        elif label.dtype == np.uint8:
            counts = _histogram(label)
            if 0 <= self.ignore_index < len(counts):
                counts[self.ignore_index] = 0
            counts = counts[counts > 0]
        else:
            values, counts = np.unique(label, return_counts=True)
            counts = counts[values != self.ignore_index]
        return len(counts) > 1 and counts.max() / counts.sum() < self.cat_max_ratio

    def apply(self, record: Record, params: Window) -> Record:
        """Cuts the window `params` out of image and label."""
        return map_arrays(record, params.of, params.of)

    def sizes(self, size: Size) -> tuple[Size, Size]:
        """The crop, or less where the image is smaller."""
        cut = min(size[0], self.crop_size[0]), min(size[1], self.crop_size[1])
        return cut, cut


def _histogram(label: UInt8[np.ndarray, "h w"]) -> np.ndarray:
    """How often each of the 256 numbers occurs."""
    if label.size < 2**24:  # float32 counts up to there
        return cv2.calcHist([label], [0], None, [256], [0, 256]).ravel().astype(np.int64)
    return np.bincount(label.ravel(), minlength=256)


@dataclass(frozen=True)
class CenterCrop(Transform):
    """Cuts a window of a fixed size out of the middle; an image smaller than it stays smaller.

    Attributes:
        crop_size: (height, width), or one number for both.
    """

    crop_size: int | Size

    def __post_init__(self) -> None:
        set_fields(self, crop_size=whole_pair(self, "crop_size", self.crop_size, "(height, width)"))

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        """Cuts the window out of image and label."""
        sides = zip(record["image"].shape[:2], self.crop_size, strict=True)
        top, left = (round(max(side - own, 0) / 2) for side, own in sides)
        window = Window(top, left, *self.crop_size)
        return map_arrays(record, window.of, window.of)

    def sizes(self, size: Size) -> tuple[Size, Size]:
        """The crop, or less where the image is smaller."""
        cut = min(size[0], self.crop_size[0]), min(size[1], self.crop_size[1])
        return cut, cut


@dataclass(frozen=True)
class Pad(Transform):
    """Adds a border at the bottom and at the right, up to a size; what is larger stays as it is.

    Attributes:
        size: (height, width) to reach, or one number for both.
        size_divisor: instead of a size, the number that height and width must be multiples of.
        pad_val: the image's border, in 0..255: one number or one a channel, rounded. Images are normalised
            later, so the mean colour here is a border of zeros there.
        seg_pad_val: the label's border; the ignored index keeps it out of the loss.
    """

    size: int | Size | None = None
    size_divisor: int | None = None
    pad_val: float | Sequence[float] = 0
    seg_pad_val: int = 255

    def __post_init__(self) -> None:
        if (self.size is None) == (self.size_divisor is None):
            raise ConfigError(
                f"Pad needs either size or size_divisor; got size={self.size!r}, size_divisor={self.size_divisor!r}."
            )
        if self.size is not None:
            set_fields(self, size=whole_pair(self, "size", self.size, "(height, width)"))
        elif self.size_divisor < 1:
            raise ConfigError(f"Pad.size_divisor is {self.size_divisor!r}; it must be at least 1.")
        set_fields(self, pad_val=colour_tuple(self, "pad_val", self.pad_val))

    def _target(self, size: Size) -> Size:
        if self.size is not None:
            return max(size[0], self.size[0]), max(size[1], self.size[1])
        divisor = self.size_divisor
        return -(-size[0] // divisor) * divisor, -(-size[1] // divisor) * divisor

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        """Pads image and label."""
        height, width = self._target(record["image"].shape[:2])

        def pad(array: np.ndarray, value: int | np.ndarray) -> np.ndarray:
            if array.shape[:2] == (height, width):
                return array
            end = (0, height - array.shape[0], 0, width - array.shape[1])
            if array.dtype == np.uint8 and array.shape[2:] in ((), (3,)):  # a tenth of the time
                fill = np.broadcast_to(value, array.shape[2:] or 1).tolist()
                return cv2.copyMakeBorder(array, *end, cv2.BORDER_CONSTANT, value=fill)
            padded = np.empty((height, width, *array.shape[2:]), array.dtype)
            padded[:] = value
            padded[: array.shape[0], : array.shape[1]] = array
            return padded

        return map_arrays(
            record,
            lambda image: pad(image, as_fill(self, "pad_val", self.pad_val, image)),
            lambda label: pad(label, self.seg_pad_val),
        )

    def sizes(self, size: Size) -> tuple[Size, Size]:
        """The size padded to."""
        target = self._target(size)
        return target, target
