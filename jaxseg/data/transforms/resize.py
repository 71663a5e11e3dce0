"""Resizing to a fixed or a random size, and the random one fused with the crop after it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxseg.data.transforms.base import (
    RandomTransform,
    Record,
    Size,
    Transform,
    is_number,
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
from jaxseg.errors import ConfigError, did_you_mean


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


@dataclass(frozen=True)
class ResizeShortestEdge(Transform):
    """Resizes the image (bilinear) and the label (nearest), unstretched, by the length of the shorter side.

    Attributes:
        scale: the length; of two the smaller.
        max_size: what the longer side may not exceed: the shorter is less than `scale` then. None for no bound.
    """

    scale: int | tuple[int, int]
    max_size: int | None = None

    def __post_init__(self) -> None:
        whole_pair(self, "scale", self.scale, "of which the smaller counts, or one")
        _check_max_size(self, self.max_size)

    def _target(self, size: Size) -> Size:
        return shortest_edge_size(size, self.scale, self.max_size)

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        """Resizes the record."""
        return _resize(record, self._target(record["image"].shape[:2]))

    def sizes(self, size: Size) -> tuple[Size, Size]:
        """The size resized to."""
        target = self._target(size)
        return target, target


def shortest_edge_size(size: Size, scale: int | tuple[int, int], max_size: int | None) -> Size:
    """The (h, w) an image of `size` (h, w) gets where its shorter side is to be `scale`, its longer one at most
    `max_size`; of two scales the smaller counts.
    """
    short = float(min(scale) if isinstance(scale, Sequence) else scale)
    factor = short / min(size)
    target = (short, factor * size[1]) if size[0] < size[1] else (factor * size[0], short)
    if max_size is not None and max(target) > max_size:
        factor = max_size / max(target)
        target = target[0] * factor, target[1] * factor
    height, width = (int(side + 0.5) for side in target)
    # The reference fits the image into this size, which can still move a side by a pixel.
    return fit_size(size, (width, height), keep_ratio=True)


def _check_max_size(owner: Transform, max_size: Any) -> None:
    if max_size is not None and not (type(max_size) is int and max_size > 0):
        raise ConfigError(f"{type(owner).__name__}.max_size is {max_size!r}; it must be a positive whole number.")


@dataclass(frozen=True)
class ResizeToMultiple(Transform):
    """Resizes the image (bilinear) and the label (nearest) so that height and width are multiples of a number.

    Each side for itself grows to the next multiple, so the image is stretched a little. Where the label is loaded
    after it, as for evaluation, only the image is resized.

    Attributes:
        size_divisor: the number.
    """

    size_divisor: int = 32

    def __post_init__(self) -> None:
        if type(self.size_divisor) is not int or self.size_divisor < 1:
            raise ConfigError(
                f"ResizeToMultiple.size_divisor is {self.size_divisor!r}; it must be a positive whole number."
            )

    def _target(self, size: Size) -> Size:
        height, width = (-(-side // self.size_divisor) * self.size_divisor for side in size)
        return height, width

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        """Resizes the record."""
        return _resize(record, self._target(record["image"].shape[:2]))

    def sizes(self, size: Size) -> tuple[Size, Size]:
        """The size resized to."""
        target = self._target(size)
        return target, target


@dataclass(frozen=True)
class SegRescale(Transform):
    """Resizes the label (nearest) by a factor, and leaves the image.

    Attributes:
        scale_factor: the factor.
    """

    scale_factor: float = 1

    def __post_init__(self) -> None:
        if not is_number(self.scale_factor) or self.scale_factor <= 0:
            raise ConfigError(f"SegRescale.scale_factor is {self.scale_factor!r}; it must be a positive number.")

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        """Resizes the label."""

        def rescale(label: np.ndarray) -> np.ndarray:
            size = scaled_size(label.shape[:2], (self.scale_factor, self.scale_factor))
            if min(size) < 1:
                raise ConfigError(f"SegRescale by {self.scale_factor} leaves nothing of a label of {label.shape[:2]}.")
            return resize_label(label, size)

        return map_arrays(record, lambda image: image, rescale)


def _resize(record: Record, size: Size) -> Record:
    if min(size) < 1:
        name = record.get("meta", {}).get("image_path", "an image")
        raise ConfigError(f"Resizing {name} of {record['image'].shape[:2]} (h, w) to {size} leaves nothing of it.")
    return map_arrays(record, lambda x: resize_image(x, size), lambda x: resize_label(x, size))


class RandomSize(RandomTransform):
    """Resizes image and label; what is drawn says to which size."""

    def target(self, size: Size, params: Any) -> Size:
        """The (h, w) an image of `size` (h, w) gets where `params` was drawn."""
        raise NotImplementedError

    def apply(self, record: Record, params: Any) -> Record:
        """Resizes to what `params` means for this image."""
        return _resize(record, self.target(record["image"].shape[:2], params))


@dataclass(frozen=True)
class RandomResize(RandomSize):
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

    def target(self, size: Size, params: tuple[int, int]) -> Size:
        """The size for the scale `params` (width, height)."""
        return fit_size(size, params, self.keep_ratio)

    def sizes(self, size: Size) -> tuple[Size, Size]:
        """The sizes at both ends of the range."""
        if self.ratio_range is None:
            low, high = zip(*self._bounds(), strict=True)
        else:
            low, high = (tuple(int(side * ratio) for side in self.scale) for ratio in self.ratio_range)
        return fit_size(size, low, self.keep_ratio), fit_size(size, high, self.keep_ratio)


@dataclass(frozen=True)
class RandomChoiceResize(RandomSize):
    """Resizes image and label by one of several scales, each as likely.

    Attributes:
        scales: what to choose from: scales of a Resize, (width, height), or of a ResizeShortestEdge, lengths.
        resize_type: "Resize" or "ResizeShortestEdge", which says what the scales mean.
        keep_ratio: of Resize.
        max_size: of ResizeShortestEdge.
    """

    scales: Sequence[int | tuple[int, int]]
    resize_type: str = "Resize"
    keep_ratio: bool = False
    max_size: int | None = None

    def __post_init__(self) -> None:
        if self.resize_type not in _OTHERS_FIELD:
            hint = did_you_mean(str(self.resize_type), _OTHERS_FIELD)
            raise ConfigError(f"RandomChoiceResize.resize_type is {self.resize_type!r}. {hint}")
        other = _OTHERS_FIELD[self.resize_type]
        if getattr(self, other):
            raise ConfigError(f"RandomChoiceResize.{other} has no meaning for resize_type={self.resize_type!r}.")
        _check_max_size(self, self.max_size)
        scales = tuple(self.scales) if isinstance(self.scales, Sequence) else ()
        if not scales or (self.resize_type == "Resize" and any(not isinstance(scale, Sequence) for scale in scales)):
            wanted = "pairs (width, height)" if self.resize_type == "Resize" else "lengths"
            raise ConfigError(f"RandomChoiceResize.scales is {self.scales!r}; it must be a list of {wanted}.")
        for scale in scales:
            whole_pair(self, "scales", scale, "(width, height)")
        set_fields(self, scales=scales)

    def draw(self, record: Record, rng: np.random.Generator) -> int | tuple[int, int]:
        """The scale."""
        return self.scales[int(rng.integers(0, len(self.scales)))]

    def target(self, size: Size, params: int | tuple[int, int]) -> Size:
        """The size for the scale `params`."""
        if self.resize_type == "Resize":
            return fit_size(size, params, self.keep_ratio)
        return shortest_edge_size(size, params, self.max_size)

    def sizes(self, size: Size) -> tuple[Size, Size]:
        """The smallest and the largest sides over the scales."""
        heights, widths = zip(*(self.target(size, scale) for scale in self.scales), strict=True)
        return (min(heights), min(widths)), (max(heights), max(widths))


# What only the other of the two resizes has.
_OTHERS_FIELD = {"Resize": "max_size", "ResizeShortestEdge": "keep_ratio"}


@dataclass(frozen=True)
class RandomResizeCrop(RandomTransform):
    """A RandomResize or RandomChoiceResize and the RandomCrop after it in one: only the window is resampled.

    Same draws and the same result, bit for bit, as the two in turn (see `resize_image_window`). A 512x1024
    crop of a 1024x2048 image scaled by up to two takes a third of the time, and no memory for the rest.
    """

    resize: RandomSize
    crop: RandomCrop

    def draw(self, record: Record, rng: np.random.Generator) -> tuple[Size, Window]:
        """The size (h, w) of the whole resized image, and the window of it to compute."""
        size = self.resize.target(record["image"].shape[:2], self.resize.draw(record, rng))
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
