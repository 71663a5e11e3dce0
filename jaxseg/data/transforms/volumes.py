"""Transforms of medical volumes: images [z y x channels], labels [z y x].

The schemes are those of batchgenerators (Isensee et al., 2020).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32, Shaped
from scipy.ndimage import gaussian_filter

from jaxseg.data.transforms.base import (
    RandomTransform,
    Record,
    Size,
    Transform,
    as_fill,
    check_probability,
    is_number,
    map_arrays,
    map_images,
    name_of,
    number_pair,
    set_fields,
)
from jaxseg.data.transforms.color import check_image
from jaxseg.errors import ConfigError, DataError


def _three(owner: Any, name: str, value: Any) -> tuple[int, int, int]:
    """A field that is three positive whole numbers (z, y, x), or one for all."""
    sides = (value,) * 3 if type(value) is int else tuple(value) if isinstance(value, Sequence) else ()
    if len(sides) != 3 or not all(type(side) is int and side > 0 for side in sides):
        raise ConfigError(
            f"{type(owner).__name__}.{name} is {value!r}; it must be three positive whole numbers, (z, y, x)."
        )
    return sides


def _check_volume(owner: Any, record: Record) -> None:
    shape = record["image"].shape
    if len(shape) != 4:
        raise DataError(
            f"{type(owner).__name__} works on volumes [z y x channels], but {name_of(record)} is {list(shape)}: load "
            "it with LoadBiomedicalImageFromFile."
        )


class Box(NamedTuple):
    """A part of a volume: where it begins, and its sides, each (z, y, x)."""

    start: tuple[int, int, int]
    shape: tuple[int, int, int]

    def of(self, array: np.ndarray) -> np.ndarray:
        """The box's voxels; fewer where it reaches over the end."""
        return array[tuple(slice(at, at + side) for at, side in zip(self.start, self.shape, strict=True))]


@dataclass(frozen=True)
class BioMedical3DRandomCrop(RandomTransform):
    """Cuts a box of a fixed size out of a volume; a volume that is smaller stays smaller.

    Attributes:
        crop_shape: (z, y, x), or one number for all.
        keep_foreground: choose a class other than 0 that the volume has, one of its voxels, and put the box around
            that as far as the volume's ends allow; else the box is anywhere.
        ignore_index: the label that is no foreground either.
    """

    crop_shape: int | tuple[int, int, int]
    keep_foreground: bool = True
    ignore_index: int = 255

    def __post_init__(self) -> None:
        set_fields(self, crop_shape=_three(self, "crop_shape", self.crop_shape))

    def draw(self, record: Record, rng: np.random.Generator) -> Box:
        """The box to cut out."""
        _check_volume(self, record)
        room = [max(side - own, 0) for side, own in zip(record["image"].shape, self.crop_shape, strict=False)]
        voxel = self._foreground(record.get("label"), rng) if self.keep_foreground else None
        if voxel is None:
            start = tuple(int(rng.integers(0, space + 1)) for space in room)
        else:
            at = zip(voxel, self.crop_shape, room, strict=True)
            start = tuple(min(max(int(place) - side // 2, 0), space) for place, side, space in at)
        return Box(start, self.crop_shape)

    def _foreground(self, label: np.ndarray | None, rng: np.random.Generator) -> np.ndarray | None:
        """A voxel (z, y, x) of a class that is drawn among those that are there; None where there is none."""
        if label is None:
            return None
        classes = [value for value in np.unique(label) if value not in (0, self.ignore_index)]
        if not classes:
            return None
        places = np.flatnonzero(label == classes[int(rng.integers(len(classes)))])
        return np.array(np.unravel_index(places[int(rng.integers(len(places)))], label.shape))

    def apply(self, record: Record, params: Box) -> Record:
        """Cuts out the box `params`."""
        return map_arrays(record, params.of, params.of)

    def sizes(self, size: Size) -> tuple[Size, Size]:
        """The box's last sides, or less where the volume is smaller."""
        cut = tuple(min(side, own) for side, own in zip(size, self.crop_shape[-len(size) :], strict=True))
        return cut, cut


@dataclass(frozen=True)
class BioMedical3DPad(Transform):
    """Adds a border around a volume, half of it before and half behind, up to a size; what is larger stays.

    Attributes:
        pad_shape: (z, y, x) to reach.
        pad_val: the image's border.
        seg_pad_val: the label's border.
    """

    pad_shape: int | tuple[int, int, int]
    pad_val: float = 0.0
    seg_pad_val: int = 0

    def __post_init__(self) -> None:
        set_fields(self, pad_shape=_three(self, "pad_shape", self.pad_shape))
        if not is_number(self.pad_val) or not isinstance(self.seg_pad_val, int):
            raise ConfigError(
                f"BioMedical3DPad has pad_val={self.pad_val!r} and seg_pad_val={self.seg_pad_val!r}; they must be "
                "numbers, the second a label."
            )

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        """Pads image and label."""
        _check_volume(self, record)

        def pad(array: np.ndarray, value: Any) -> np.ndarray:
            room = [max(own - side, 0) for side, own in zip(array.shape, self.pad_shape, strict=False)]
            widths = [(space // 2, space - space // 2) for space in room] + [(0, 0)] * (array.ndim - 3)
            return np.pad(array, widths, constant_values=value) if any(room) else array

        return map_arrays(
            record,
            lambda image: pad(image, as_fill(self, "pad_val", (self.pad_val,), image)[0]),
            lambda label: pad(label, self.seg_pad_val),
        )

    def sizes(self, size: Size) -> tuple[Size, Size]:
        """The size padded to."""
        target = tuple(max(side, own) for side, own in zip(size, self.pad_shape[-len(size) :], strict=True))
        return target, target


@dataclass(frozen=True)
class BioMedical3DRandomFlip(RandomTransform):
    """Mirrors a volume and its label along axes, each by itself.

    Attributes:
        prob: probability of each axis.
        axes: which of 0 (z), 1 (y) and 2 (x) may be mirrored.
        swap_label_pairs: pairs of classes that change places in a label that is mirrored (left and right kidney).
    """

    prob: float
    axes: Sequence[int]
    swap_label_pairs: Sequence[tuple[int, int]] | None = None

    def __post_init__(self) -> None:
        check_probability(self, "prob")
        axes = (self.axes,) if type(self.axes) is int else tuple(self.axes or ())
        if not all(type(axis) is int and 0 <= axis <= 2 for axis in axes) or len(set(axes)) < len(axes):
            raise ConfigError(
                f"BioMedical3DRandomFlip.axes is {self.axes!r}; each must be 0 (z), 1 (y) or 2 (x), once."
            )
        pairs = tuple(tuple(pair) for pair in self.swap_label_pairs or ())
        if not all(len(pair) == 2 for pair in pairs):
            raise ConfigError(f"BioMedical3DRandomFlip.swap_label_pairs is {self.swap_label_pairs!r}; give pairs.")
        set_fields(self, axes=axes, swap_label_pairs=pairs)

    def draw(self, record: Record, rng: np.random.Generator) -> tuple[int, ...]:
        """The axes to mirror."""
        return tuple(axis for axis in self.axes if rng.random() < self.prob)

    def apply(self, record: Record, params: Sequence[int]) -> Record:
        """Mirrors along the axes `params`."""
        _check_volume(self, record)
        if not params:
            return record

        def flip_label(label: np.ndarray) -> np.ndarray:
            flipped = np.flip(label, params)
            swapped = flipped.copy() if self.swap_label_pairs else flipped
            for first, second in self.swap_label_pairs:
                swapped[flipped == first] = second
                swapped[flipped == second] = first
            return swapped

        return map_arrays(record, lambda image: np.flip(image, params), flip_label)


@dataclass(frozen=True)
class BioMedicalGaussianNoise(RandomTransform):
    """Adds noise of a normal distribution, or leaves the image.

    Attributes:
        prob: probability of noise.
        mean: of the noise.
        std: its standard deviation is drawn from 0..std.
    """

    prob: float = 0.1
    mean: float = 0.0
    std: float = 0.1

    def __post_init__(self) -> None:
        check_probability(self, "prob")
        if not is_number(self.mean) or not is_number(self.std) or self.std < 0:
            raise ConfigError(
                f"BioMedicalGaussianNoise has mean={self.mean!r} and std={self.std!r}; they must be numbers, the "
                "second not negative."
            )

    def draw(self, record: Record, rng: np.random.Generator) -> Shaped[np.ndarray, "..."] | None:
        """The noise, of the image's shape, or None for none."""
        if rng.random() >= self.prob:
            return None
        return rng.normal(self.mean, rng.uniform(0, self.std), record["image"].shape)

    def apply(self, record: Record, params: Shaped[np.ndarray, "..."] | None) -> Record:
        """Adds the noise `params`."""
        if params is None:
            return record
        check_image(self, record, np.float32)
        return map_images(record, lambda image: image + params.astype(np.float32))


@dataclass(frozen=True)
class BioMedicalGaussianBlur(RandomTransform):
    """Blurs channels of a volume with a Gaussian, or leaves them.

    Attributes:
        sigma_range: (lowest, highest) width of the Gaussian, in voxels; drawn from whole numbers where both are.
        prob: probability that there is any blur.
        prob_per_channel: probability of each channel then.
        different_sigma_per_channel: draw for each channel, else once.
        different_sigma_per_axis: draw for z, y and x, else once for all three.
    """

    sigma_range: tuple[float, float] = (0.5, 1.0)
    prob: float = 0.2
    prob_per_channel: float = 0.5
    different_sigma_per_channel: bool = True
    different_sigma_per_axis: bool = True

    def __post_init__(self) -> None:
        check_probability(self, "prob", "prob_per_channel")
        set_fields(self, sigma_range=number_pair(self, "sigma_range", self.sigma_range, least=0))

    def draw(self, record: Record, rng: np.random.Generator) -> tuple[tuple[float, ...] | None, ...]:
        """For each channel the widths along (z, y, x), or None for no blur; nothing at all for no change."""
        if rng.random() >= self.prob:
            return ()
        _check_volume(self, record)
        sigmas, sigma = [], None
        for _ in range(record["image"].shape[-1]):
            if rng.random() >= self.prob_per_channel:
                sigmas.append(None)
                continue
            if sigma is None or self.different_sigma_per_channel:
                sigma = self._draw_sigma(rng)
            sigmas.append(sigma)
        return tuple(sigmas)

    def _draw_sigma(self, rng: np.random.Generator) -> tuple[float, ...]:
        kind = type(self.sigma_range[0])
        if self.different_sigma_per_axis:
            return tuple(kind(rng.uniform(*self.sigma_range)) for _ in range(3))
        return (kind(rng.uniform(*self.sigma_range)),) * 3

    def apply(self, record: Record, params: Sequence[tuple[float, ...] | None]) -> Record:
        """Blurs each channel by its widths in `params`."""
        if all(sigma is None for sigma in params):
            return record
        check_image(self, record, np.float32)

        def blur(image: Float32[np.ndarray, "z y x c"]) -> Float32[np.ndarray, "z y x c"]:
            planes = np.moveaxis(image, -1, 0)
            blurred = [
                plane if sigma is None else gaussian_filter(plane, sigma)
                for plane, sigma in zip(planes, params, strict=True)
            ]
            return np.stack(blurred, axis=-1)

        return map_images(record, blur)


@dataclass(frozen=True)
class BioMedicalRandomGamma(RandomTransform):
    """Raises the image's values, as shares of their range, to a random power; or leaves them.

    Powers below 1 and above 1 are as likely, where the range has both.

    Attributes:
        prob: probability of a change.
        gamma_range: (lowest, highest) power.
        invert_image: do it with the negative.
        per_channel: draw a power for each channel, and take each one's own range; else one for all.
        retain_stats: scale and move the result so that mean and standard deviation are what they were (not with
            per_channel).
    """

    prob: float = 0.5
    gamma_range: tuple[float, float] = (0.5, 2)
    invert_image: bool = False
    per_channel: bool = False
    retain_stats: bool = False

    def __post_init__(self) -> None:
        check_probability(self, "prob")
        set_fields(self, gamma_range=number_pair(self, "gamma_range", self.gamma_range, least=0))
        if self.per_channel and self.retain_stats:
            raise ConfigError("BioMedicalRandomGamma.retain_stats has no meaning with per_channel; leave one out.")

    def draw(self, record: Record, rng: np.random.Generator) -> tuple[float, ...]:
        """One power, or one for each channel; none at all for no change."""
        if rng.random() >= self.prob:
            return ()
        return tuple(self._draw_gamma(rng) for _ in range(record["image"].shape[-1] if self.per_channel else 1))

    def _draw_gamma(self, rng: np.random.Generator) -> float:
        low, high = self.gamma_range
        if rng.random() < 0.5 and low < 1:
            return float(rng.uniform(low, 1))
        return float(rng.uniform(max(low, 1), max(high, 1)))

    def apply(self, record: Record, params: Sequence[float]) -> Record:
        """Raises to the powers `params`."""
        if not params:
            return record
        check_image(self, record, np.float32)

        def change(image: Float32[np.ndarray, "z y x c"]) -> Float32[np.ndarray, "z y x c"]:
            # Channels first in memory: the sums over all voxels depend on their order in the last bit.
            planes = np.ascontiguousarray(np.moveaxis(image, -1, 0))
            planes = -planes if self.invert_image else planes
            if self.per_channel:
                planes = np.stack([_to_power(p, gamma) for p, gamma in zip(planes, params, strict=True)])
            else:
                before = planes
                planes = _to_power(planes, params[0])
                planes = _with_statistics_of(planes, before) if self.retain_stats else planes
            return np.moveaxis(-planes if self.invert_image else planes, 0, -1)

        return map_images(record, change)


def _to_power(values: Float32[np.ndarray, "..."], gamma: float) -> Float32[np.ndarray, "..."]:
    low = values.min()
    extent = values.max() - low
    return np.power((values - low) / float(extent + 1e-7), gamma) * extent + low


def _with_statistics_of(
    values: Float32[np.ndarray, "..."], other: Float32[np.ndarray, "..."]
) -> Float32[np.ndarray, "..."]:
    values = values - values.mean()
    return values / (values.std() + 1e-8) * other.std() + other.mean()
