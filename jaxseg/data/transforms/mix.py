"""Transforms that make one record of several: mosaics, and blends of two."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
from jaxtyping import Bool

from jaxseg.data.transforms.base import (
    MixTransform,
    Record,
    Size,
    as_fill,
    check_probability,
    colour_tuple,
    is_number,
    join_arrays,
    number_pair,
    set_fields,
    whole_pair,
)
from jaxseg.data.transforms.resample import resize_image, resize_label
from jaxseg.errors import ConfigError, did_you_mean


class Center(NamedTuple):
    """Where the four pictures of a mosaic meet, in pixels."""

    x: int
    y: int


@dataclass(frozen=True)
class RandomMosaic(MixTransform):
    """Puts four pictures into one, around a random centre, or leaves the first (Bochkovskiy et al., 2020).

    Each is resized, unstretched, to fit `img_scale`, and put with a corner at the centre; the record itself is at
    the upper left. The result is twice `img_scale`: what reaches over its edge is cut off, what nothing covers is
    filled.

    Attributes:
        prob: probability of a mosaic; below 1, images of two sizes come out.
        img_scale: (height, width) of each picture, or one number for both.
        center_ratio_range: (lowest, highest) of the centre's place, in `img_scale`s.
        pad_val: the image where there is no picture, in 0..255: one number or one a channel.
        seg_pad_val: the label there.
    """

    mixes: ClassVar[int] = 3

    prob: float
    img_scale: int | Size = (640, 640)
    center_ratio_range: tuple[float, float] = (0.5, 1.5)
    pad_val: float | Sequence[float] = 0
    seg_pad_val: int = 255

    def __post_init__(self) -> None:
        check_probability(self, "prob")
        set_fields(
            self,
            img_scale=whole_pair(self, "img_scale", self.img_scale, "(height, width)"),
            center_ratio_range=number_pair(self, "center_ratio_range", self.center_ratio_range, least=0, most=2),
            pad_val=colour_tuple(self, "pad_val", self.pad_val),
        )

    def draw(self, record: Record, rng: np.random.Generator) -> Center | None:
        """The centre, or None for no mosaic."""
        if rng.random() >= self.prob:
            return None
        x, y = (int(rng.uniform(*self.center_ratio_range) * side) for side in reversed(self.img_scale))
        return Center(x, y)

    def apply(self, record: Record, params: Center | None, others: Sequence[Record] = ()) -> Record:
        """Puts the record and three others around the centre `params`: upper left and right, lower left and right."""
        if params is None:
            return record

        def join(arrays: Sequence[np.ndarray], resize: Any, fill: Any) -> np.ndarray:
            whole = np.empty((2 * self.img_scale[0], 2 * self.img_scale[1], *arrays[0].shape[2:]), arrays[0].dtype)
            whole[:] = fill
            for place, array in enumerate(arrays):
                picture = resize(array, self._fitted(array.shape[:2]))
                rows, own_rows = _span(params.y, picture.shape[0], whole.shape[0], before=place < 2)
                columns, own_columns = _span(params.x, picture.shape[1], whole.shape[1], before=place % 2 == 0)
                whole[rows, columns] = picture[own_rows, own_columns]
            return whole

        return join_arrays(
            (record, *others),
            lambda images: join(images, resize_image, as_fill(self, "pad_val", self.pad_val, images[0])),
            lambda labels: join(labels, resize_label, self.seg_pad_val),
        )

    def _fitted(self, size: Size) -> Size:
        """The (h, w) of a picture in the mosaic."""
        ratio = min(self.img_scale[0] / size[0], self.img_scale[1] / size[1])
        return max(int(size[0] * ratio), 1), max(int(size[1] * ratio), 1)

    def sizes(self, size: Size) -> tuple[Size, Size]:
        """Twice `img_scale`, and the size as it is where there is not always a mosaic."""
        whole = 2 * self.img_scale[0], 2 * self.img_scale[1]
        came = [whole] * (self.prob > 0) + [size] * (self.prob < 1)
        heights, widths = zip(*came, strict=True)
        return (min(heights), min(widths)), (max(heights), max(widths))


def _span(center: int, length: int, whole: int, before: bool) -> tuple[slice, slice]:
    """The part of an axis that a picture fills which ends (`before`) or begins at the centre, and what part of it."""
    if before:
        shown = min(length, center)
        return slice(center - shown, center), slice(length - shown, length)
    shown = max(min(length, whole - center), 0)
    return slice(center, center + shown), slice(0, shown)


class MixUpParams(NamedTuple):
    """The record's own weight, and which pixels take the other's label: random numbers' seed."""

    weight: float
    seed: int


_LABELS = ("mixed", "heavier")


@dataclass(frozen=True)
class MixUp(MixTransform):
    """Blends two pictures, `weight * own + (1 - weight) * other`, or leaves the first (Zhang et al., 2018).

    A label is one class a pixel and cannot be blended. With `label="mixed"` each pixel takes the label of one of
    the two, the record's own with the probability `weight`: the cross entropy of that is on average the weighted
    sum of both labels' cross entropies, which is what mix-up trains with. With "heavier" the whole label is that
    of the picture that weighs more. Another picture of another size is resized to the record's.

    Attributes:
        prob: probability of a blend.
        alpha: weights are drawn from the distribution Beta(alpha, alpha): small ones blend little.
        label: "mixed" or "heavier".
    """

    mixes: ClassVar[int] = 1

    prob: float = 0.5
    alpha: float = 0.2
    label: str = "mixed"

    def __post_init__(self) -> None:
        check_probability(self, "prob")
        if not is_number(self.alpha) or self.alpha <= 0:
            raise ConfigError(f"MixUp.alpha is {self.alpha!r}; it must be a positive number.")
        if self.label not in _LABELS:
            raise ConfigError(f"MixUp.label is {self.label!r}. {did_you_mean(str(self.label), _LABELS)}")

    def draw(self, record: Record, rng: np.random.Generator) -> MixUpParams | None:
        """The record's own weight in 0..1 and a seed for its pixels, or None for no blend."""
        if rng.random() >= self.prob:
            return None
        return MixUpParams(float(rng.beta(self.alpha, self.alpha)), int(rng.integers(2**32)))

    def apply(self, record: Record, params: MixUpParams | None, others: Sequence[Record] = ()) -> Record:
        """Blends the record with one other as `params` says."""
        if params is None:
            return record
        size = record["image"].shape[:2]

        def blend(images: Sequence[np.ndarray]) -> np.ndarray:
            own, other = images[0], resize_image(images[1], size) if images[1].shape[:2] != size else images[1]
            mixed = own * np.float32(params.weight) + other * np.float32(1 - params.weight)
            return (np.rint(mixed) if np.issubdtype(own.dtype, np.integer) else mixed).astype(own.dtype)

        # One choice of pixels for all there is of labels.
        takes_own = self._takes_own(size, params)

        def choose(labels: Sequence[np.ndarray]) -> np.ndarray:
            own, other = labels[0], resize_label(labels[1], size) if labels[1].shape[:2] != size else labels[1]
            return np.where(takes_own.reshape(*size, *[1] * (own.ndim - 2)), own, other)

        return join_arrays((record, *others), blend, choose)

    def _takes_own(self, size: Size, params: MixUpParams) -> Bool[np.ndarray, "h w"]:
        if self.label == "heavier":
            return np.full(size, params.weight >= 0.5)
        return np.random.default_rng(params.seed).random(size) < params.weight
