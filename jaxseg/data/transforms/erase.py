"""Transforms that put something else into a part of the picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxseg.data.transforms.base import (
    RandomTransform,
    Record,
    as_fill,
    check_probability,
    colour_tuple,
    is_number,
    map_arrays,
    set_fields,
    whole_pair,
)
from jaxseg.data.transforms.resample import Window
from jaxseg.errors import ConfigError


@dataclass(frozen=True)
class RandomCutOut(RandomTransform):
    """Fills rectangles of the image, and of the label if asked to (DeVries and Taylor, 2017).

    The upper left corner of each is anywhere in the image, so what reaches over the edge is cut off.

    Attributes:
        prob: probability that there are any.
        n_holes: how many, or (fewest, most).
        cutout_shape: (width, height) in pixels, or several such, of which each rectangle takes one.
        cutout_ratio: instead of shapes, (width, height) as shares of the image's; or several.
        fill_in: their colour, in 0..255: one number or one a channel.
        seg_fill_in: their label, or None to leave the label as it is.
    """

    prob: float
    n_holes: int | tuple[int, int]
    cutout_shape: Sequence[Any] | None = None
    cutout_ratio: Sequence[Any] | None = None
    fill_in: float | Sequence[float] = 0
    seg_fill_in: int | None = None

    def __post_init__(self) -> None:
        check_probability(self, "prob")
        holes = (self.n_holes,) * 2 if type(self.n_holes) is int else tuple(self.n_holes or ())
        if len(holes) != 2 or not all(type(count) is int for count in holes) or not 0 <= holes[0] <= holes[1]:
            raise ConfigError(
                f"RandomCutOut.n_holes is {self.n_holes!r}; it must be a whole number, or (fewest, most)."
            )
        if (self.cutout_shape is None) == (self.cutout_ratio is None):
            raise ConfigError(
                "RandomCutOut needs either cutout_shape or cutout_ratio; got "
                f"cutout_shape={self.cutout_shape!r}, cutout_ratio={self.cutout_ratio!r}."
            )
        if self.cutout_shape is not None:
            shapes = _several(self.cutout_shape)
            shapes = tuple(whole_pair(self, "cutout_shape", shape, "(width, height)") for shape in shapes)
            set_fields(self, cutout_shape=shapes)
        else:
            ratios = tuple(_ratio(ratio) for ratio in _several(self.cutout_ratio))
            set_fields(self, cutout_ratio=ratios)
        set_fields(self, n_holes=holes, fill_in=colour_tuple(self, "fill_in", self.fill_in))
        if self.seg_fill_in is not None and (type(self.seg_fill_in) is not int or self.seg_fill_in < 0):
            raise ConfigError(f"RandomCutOut.seg_fill_in is {self.seg_fill_in!r}; it must be a label, or None.")

    def draw(self, record: Record, rng: np.random.Generator) -> tuple[Window, ...]:
        """The rectangles, cut off at the image's edges; none of them for no change."""
        if rng.random() >= self.prob:
            return ()
        height, width = record["image"].shape[:2]
        holes = []
        for _ in range(int(rng.integers(self.n_holes[0], self.n_holes[1] + 1))):
            left, top = int(rng.integers(width)), int(rng.integers(height))
            hole_height, hole_width = self._hole((height, width), int(rng.integers(self._choices)))
            holes.append(Window(top, left, hole_height, hole_width).clipped((height, width)))
        return tuple(holes)

    @property
    def _choices(self) -> int:
        return len(self.cutout_shape if self.cutout_shape is not None else self.cutout_ratio)

    def _hole(self, size: tuple[int, int], choice: int) -> tuple[int, int]:
        """Height and width of the hole of a number, in an image of `size` (h, w)."""
        if self.cutout_shape is not None:
            width, height = self.cutout_shape[choice]
            return height, width
        width, height = self.cutout_ratio[choice]
        return int(height * size[0]), int(width * size[1])

    def apply(self, record: Record, params: Sequence[Window]) -> Record:
        """Fills the rectangles `params`."""
        if not params:
            return record

        def fill(array: np.ndarray, value: Any) -> np.ndarray:
            filled = array.copy()
            for window in params:
                window.of(filled)[:] = value
            return filled

        return map_arrays(
            record,
            lambda image: fill(image, as_fill(self, "fill_in", self.fill_in, image)),
            lambda label: label if self.seg_fill_in is None else fill(label, self.seg_fill_in),
        )


def _several(value: Any) -> tuple[Any, ...]:
    """One pair or several, as several."""
    items = tuple(value) if isinstance(value, Sequence) else (value,)
    return items if items and isinstance(items[0], Sequence) else (items,)


def _ratio(value: Any) -> tuple[float, float]:
    pair = tuple(value) if isinstance(value, Sequence) else ()
    if len(pair) != 2 or not all(is_number(share) and 0 < share <= 1 for share in pair):
        raise ConfigError(
            f"RandomCutOut.cutout_ratio has {value!r}; it must be (width, height) as shares of the image's, in 0..1."
        )
    return pair
