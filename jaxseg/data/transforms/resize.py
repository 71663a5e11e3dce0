"""Resizing to a fixed or a random size, and the random one fused with the crop after it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from jaxseg.data.transforms.base import (
    RandomTransform,
    Record,
    Size,
    Transform,
    map_arrays,
    set_fields,
    whole_pair,
)
from jaxseg.data.transforms.geometric import RandomCrop
from jaxseg.data.transforms.resample import (
    Window,
    resize_image,
    resize_image_window,
    resize_label,
    resize_label_window,
)
from jaxseg.errors import ConfigError


def fit_size(size: Size, scale: tuple[int, int], keep_ratio: bool) -> Size:
    """The (h, w) an image of `size` (h, w) gets from a `scale` (w, h).

    Without `keep_ratio` the scale itself. With it the largest size of the same shape whose long side fits the
    larger number and whose short side fits the smaller one, rounded half up.
    """
    if not keep_ratio:
        return scale[1], scale[0]
    factor = min(max(scale) / max(size), min(scale) / min(size))
    return scaled_size(size, (factor, factor))


def scaled_size(size: Size, factors: tuple[float, float]) -> Size:
    """An (h, w) times (width factor, height factor), rounded half up, as (h, w)."""
    return int(size[0] * float(factors[1]) + 0.5), int(size[1] * float(factors[0]) + 0.5)


@dataclass(frozen=True)
class Resize(Transform):
    """Resizes the image (bilinear) and the label (nearest) to a size or by a factor.

    Attributes:
        scale: (width, height), or one number for both; note the order, which is the reference's.
        scale_factor: instead of a scale, the factor, or (width factor, height factor).
        keep_ratio: treat `scale` as a box to fit the image into, its long side along the box's, unstretched.
    """

    scale: int | tuple[int, int] | None = None
    scale_factor: float | tuple[float, float] | None = None
    keep_ratio: bool = False

    def __post_init__(self) -> None:
        if self.scale is None and self.scale_factor is None:
            raise ConfigError("Resize needs scale (width, height) or scale_factor.")
        if self.scale is not None:
            set_fields(self, scale=whole_pair(self, "scale", self.scale, "(width, height)"))
        if self.scale_factor is not None:
            one = isinstance(self.scale_factor, int | float)
            factors = (self.scale_factor,) * 2 if one else tuple(self.scale_factor)
            if len(factors) != 2 or min(factors) <= 0:
                raise ConfigError(f"Resize.scale_factor is {self.scale_factor!r}; it must be positive.")
            set_fields(self, scale_factor=factors)

    def _target(self, size: Size) -> Size:
        if self.scale is not None:
            return fit_size(size, self.scale, self.keep_ratio)
        target = scaled_size(size, self.scale_factor)
        # Fitting what is already scaled into its own box can still move a side by a pixel, as in the
        # reference.
        return fit_size(size, (target[1], target[0]), self.keep_ratio)

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        """Resizes the record."""
        return _resize(record, self._target(record["image"].shape[:2]))

    def sizes(self, size: Size) -> tuple[Size, Size]:
        """The size resized to."""
        target = self._target(size)
        return target, target


def _resize(record: Record, size: Size) -> Record:
    if min(size) < 1:
        name = record.get("meta", {}).get("image_path", "an image")
        raise ConfigError(f"Resizing {name} of {record['image'].shape[:2]} (h, w) to {size} leaves nothing of it.")
    return map_arrays(record, lambda x: resize_image(x, size), lambda x: resize_label(x, size))


@dataclass(frozen=True)
class RandomResize(RandomTransform):
    """Resizes image and label to a random size.

    Attributes:
        scale: (width, height), multiplied with a ratio; or two such pairs, between which width and height are
            drawn each for itself.
        ratio_range: (smallest, largest) ratio; needed with one pair, not used with two.
        keep_ratio: fit the image into the drawn size instead of stretching it.
    """

    scale: tuple[int, int] | Sequence[tuple[int, int]]
    ratio_range: tuple[float, float] | None = None
    keep_ratio: bool = False

    def __post_init__(self) -> None:
        scale = tuple(self.scale) if isinstance(self.scale, Sequence) else self.scale
        if isinstance(scale, tuple) and scale and isinstance(scale[0], Sequence):
            if len(scale) != 2:
                raise ConfigError(f"RandomResize.scale is {self.scale!r}; give one (width, height) or two.")
            pairs = tuple(whole_pair(self, "scale", pair, "(width, height)") for pair in scale)
            set_fields(self, scale=pairs, ratio_range=None)
            return
        set_fields(self, scale=whole_pair(self, "scale", scale, "(width, height)"))
        ratio = tuple(self.ratio_range or ())
        if len(ratio) != 2 or not 0 < ratio[0] <= ratio[1]:
            raise ConfigError(
                f"RandomResize.ratio_range is {self.ratio_range!r}; it must be (smallest, largest), both positive."
            )
        set_fields(self, ratio_range=ratio)

    def draw(self, record: Record, rng: np.random.Generator) -> tuple[int, int]:
        """The scale (width, height) to resize to, or to fit into."""
        if self.ratio_range is None:
            (low, high) = zip(*self._bounds(), strict=True)
            return tuple(int(rng.integers(a, b + 1)) for a, b in zip(low, high, strict=True))
        low, high = self.ratio_range
        ratio = rng.random() * (high - low) + low
        return int(self.scale[0] * ratio), int(self.scale[1] * ratio)

    def _bounds(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Smallest and largest width, smallest and largest height."""
        first, second = self.scale
        return tuple((min(a, b), max(a, b)) for a, b in zip(first, second, strict=True))

    def apply(self, record: Record, params: tuple[int, int]) -> Record:
        """Resizes to the scale `params` (width, height)."""
        return _resize(record, fit_size(record["image"].shape[:2], params, self.keep_ratio))

    def sizes(self, size: Size) -> tuple[Size, Size]:
        """The sizes at both ends of the range."""
        if self.ratio_range is None:
            low, high = zip(*self._bounds(), strict=True)
        else:
            low, high = (tuple(int(side * ratio) for side in self.scale) for ratio in self.ratio_range)
        return fit_size(size, low, self.keep_ratio), fit_size(size, high, self.keep_ratio)


@dataclass(frozen=True)
class RandomResizeCrop(RandomTransform):
    """A RandomResize and the RandomCrop after it in one: only the window is resampled.

    Same draws and the same result, bit for bit, as the two in turn (see `resize_image_window`). A 512x1024
    crop of a 1024x2048 image scaled by up to two takes a third of the time, and no memory for the rest.
    """

    resize: RandomResize
    crop: RandomCrop

    def draw(self, record: Record, rng: np.random.Generator) -> tuple[Size, Window]:
        """The size (h, w) of the whole resized image, and the window of it to compute."""
        scale = self.resize.draw(record, rng)
        size = fit_size(record["image"].shape[:2], scale, self.resize.keep_ratio)
        label = record.get("label")
        label_window = None if label is None else lambda window: resize_label_window(label, size, window)
        return size, self.crop.draw_window(size, label_window, rng)

    def apply(self, record: Record, params: tuple[Size, Window]) -> Record:
        """Computes the window of the resized image and label."""
        size, window = params
        return map_arrays(
            record,
            lambda image: resize_image_window(image, size, window),
            lambda label: resize_label_window(label, size, window),
        )

    def sizes(self, size: Size) -> tuple[Size, Size]:
        """The crop, or less where the resized image is smaller."""
        low, high = self.resize.sizes(size)
        return self.crop.sizes(low)[0], self.crop.sizes(high)[1]
