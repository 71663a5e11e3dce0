"""Rotations: by any angle, and by quarter turns with a mirror."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np

from jaxseg.data.transforms.base import (
    RandomTransform,
    Record,
    Size,
    as_fill,
    check_probability,
    colour_tuple,
    is_number,
    map_arrays,
    number_pair,
    set_fields,
)
from jaxseg.data.transforms.resample import warp
from jaxseg.errors import ConfigError, did_you_mean

_INTERPOLATIONS = ("nearest", "bilinear")


def _degrees(owner: Any, value: Any) -> tuple[float, float]:
    """The field `degree`: (lowest, highest), or one number for both signs of it."""
    if is_number(value):
        if value <= 0:
            raise ConfigError(f"{type(owner).__name__}.degree is {value!r}; one number must be positive, or give two.")
        return -value, value
    return number_pair(owner, "degree", value)


@dataclass(frozen=True)
class RandomRotate(RandomTransform):
    """Rotates image and label by a random angle, or leaves them.

    Attributes:
        prob: probability of a rotation.
        degree: angles are drawn from (lowest, highest), in degrees, clockwise; one number for -number..number.
        pad_val: the image outside its corners, in 0..255: one number or one a channel.
        seg_pad_val: the label outside.
        center: (x, y) that stays where it is; None for the middle.
        auto_bound: make the result as large as it must be to hold the whole rotated image.
    """

    prob: float
    degree: float | tuple[float, float]
    pad_val: float | Sequence[float] = 0
    seg_pad_val: int = 255
    center: tuple[float, float] | None = None
    auto_bound: bool = False

    def __post_init__(self) -> None:
        check_probability(self, "prob")
        set_fields(self, degree=_degrees(self, self.degree), pad_val=colour_tuple(self, "pad_val", self.pad_val))
        if self.center is None:
            return
        center = tuple(self.center) if isinstance(self.center, Sequence) else ()
        if len(center) != 2 or not all(is_number(at) for at in center):
            raise ConfigError(f"RandomRotate.center is {self.center!r}; it must be (x, y) in pixels, or None.")
        if self.auto_bound:
            raise ConfigError("RandomRotate.center has no meaning with auto_bound, which shows the whole image.")
        set_fields(self, center=center)

    def draw(self, record: Record, rng: np.random.Generator) -> float | None:
        """The angle in degrees, or None for no rotation."""
        return float(rng.uniform(*self.degree)) if rng.random() < self.prob else None

    def apply(self, record: Record, params: float | None) -> Record:
        """Rotates by `params` degrees, clockwise; images bilinearly, labels by the nearest pixel."""
        if params is None:
            return record
        matrix, size = rotation(record["image"].shape[:2], params, self.center, self.auto_bound)
        return map_arrays(
            record,
            lambda image: warp(image, matrix, size, as_fill(self, "pad_val", self.pad_val, image), nearest=False),
            lambda label: warp(label, matrix, size, self.seg_pad_val, nearest=True),
        )

    def sizes(self, size: Size) -> tuple[Size, Size]:
        """The same size, or with auto_bound up to that of the most outward angle."""
        if not self.auto_bound or self.prob == 0:
            return size, size
        low, high = self.degree
        turns = np.deg2rad(np.append(np.linspace(low, high, 721), _extremes(size, low, high)))
        sides = np.abs(np.array([[np.cos(turns), np.sin(turns)], [np.sin(turns), np.cos(turns)]]))
        heights, widths = np.rint(np.einsum("ijk,j->ik", sides, size)).astype(int)
        least, most = (int(heights.min()), int(widths.min())), (int(heights.max()), int(widths.max()))
        if self.prob < 1:
            least = min(least[0], size[0]), min(least[1], size[1])
            most = max(most[0], size[0]), max(most[1], size[1])
        return least, most


def _extremes(size: Size, low: float, high: float) -> list[float]:
    """Angles in low..high, in degrees, where a rotated image is largest: its diagonal upright or level."""
    height, width = size
    diagonals = np.rad2deg([np.arctan2(width, height), np.arctan2(height, width)])
    found = [sign * angle + 180 * k for angle in diagonals for sign in (1, -1) for k in range(-3, 4)]
    return [angle for angle in found if low <= angle <= high]


def rotation(
    size: Size, degrees: float, center: tuple[float, float] | None = None, auto_bound: bool = False
) -> tuple[np.ndarray, Size]:
    """The 2x3 matrix that rotates an image of `size` (h, w) clockwise, and the (h, w) of the result."""
    height, width = size
    if center is None:
        center = ((width - 1) * 0.5, (height - 1) * 0.5)
    matrix = cv2.getRotationMatrix2D(center, -degrees, 1.0)
    if not auto_bound:
        return matrix, (height, width)
    cos, sin = abs(matrix[0, 0]), abs(matrix[0, 1])
    new_width, new_height = height * sin + width * cos, height * cos + width * sin
    matrix[0, 2] += (new_width - width) * 0.5
    matrix[1, 2] += (new_height - height) * 0.5
    return matrix, (int(np.round(new_height)), int(np.round(new_width)))


class RotFlipParams(NamedTuple):
    """What a RandomRotFlip does: rotate by an angle in degrees, or turn by quarters and mirror an axis."""

    degrees: float | None = None
    quarters: int = 0
    axis: int | None = None


@dataclass(frozen=True)
class RandomRotFlip(RandomTransform):
    """Rotates image and label by an angle; else turns them by quarters and mirrors them; or leaves them.

    What rotates into the picture is black, and class 0.

    Attributes:
        rotate_prob: probability of a rotation.
        flip_prob: probability of a turn with a mirror where there is no rotation.
        degree: angles are drawn from (lowest, highest), in degrees; one number for -number..number.
        seg_interpolation: "nearest", or "bilinear" as the reference rotates labels: numbers between those of
            two classes appear where these meet, which are other classes.
    """

    rotate_prob: float = 0.5
    flip_prob: float = 0.5
    degree: float | tuple[float, float] = (-20, 20)
    seg_interpolation: str = "nearest"

    def __post_init__(self) -> None:
        check_probability(self, "rotate_prob", "flip_prob")
        set_fields(self, degree=_degrees(self, self.degree))
        if self.seg_interpolation not in _INTERPOLATIONS:
            hint = did_you_mean(str(self.seg_interpolation), _INTERPOLATIONS)
            raise ConfigError(f"RandomRotFlip.seg_interpolation is {self.seg_interpolation!r}. {hint}")

    def draw(self, record: Record, rng: np.random.Generator) -> RotFlipParams | None:
        """The angle, or the quarter turns (0..3) and the axis to mirror (0: up and down), or None for neither."""
        if rng.random() < self.rotate_prob:
            return RotFlipParams(degrees=float(rng.uniform(*self.degree)))
        if rng.random() < self.flip_prob:
            return RotFlipParams(quarters=int(rng.integers(4)), axis=int(rng.integers(2)))
        return None

    def apply(self, record: Record, params: RotFlipParams | None) -> Record:
        """Rotates, or turns and mirrors, as `params` says."""
        if params is None:
            return record
        if params.degrees is None:

            def turn(array: np.ndarray) -> np.ndarray:
                return np.ascontiguousarray(np.flip(np.rot90(array, params.quarters), params.axis))

            return map_arrays(record, turn, turn)
        matrix, size = rotation(record["image"].shape[:2], params.degrees)
        nearest = self.seg_interpolation == "nearest"
        return map_arrays(
            record,
            lambda image: warp(image, matrix, size, 0, nearest=False),
            lambda label: warp(label, matrix, size, 0, nearest=nearest),
        )

    def sizes(self, size: Size) -> tuple[Size, Size]:
        """The same size, and with quarter turns both ways round."""
        if self.flip_prob == 0 or self.rotate_prob == 1:
            return size, size
        return (min(size), min(size)), (max(size), max(size))
