"""Transforms that change colours and leave the label as it is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np
from jaxtyping import Float32, Shaped, UInt8

from jaxseg.data.transforms.base import (
    RandomTransform,
    Record,
    Transform,
    check_probability,
    is_number,
    map_images,
    name_of,
    number_pair,
    set_fields,
    whole_pair,
)
from jaxseg.data.transforms.resample import with_channels
from jaxseg.errors import ConfigError, DataError

LUMA = (0.299, 0.587, 0.114)
"""How bright red, green and blue look (ITU-R BT.601)."""


def check_image(owner: Any, record: Record, *kinds: type, channels: int | None = None) -> None:
    """Checks that a record's images are of a type, and have a number of channels, that a transform can work on.

    Raises:
        DataError: they are not; names the file.
    """
    for name in ("image", "image2"):
        image = record.get(name)
        if image is None:
            continue
        if image.dtype.type not in kinds or (channels is not None and image.shape[-1] != channels):
            wanted = f"{channels} channels of " if channels else ""
            raise DataError(
                f"{type(owner).__name__} works on images with {wanted}{' or '.join(kind.__name__ for kind in kinds)}, "
                f"but the {name} of {name_of(record)} is {image.dtype} {list(image.shape)} by then. Leave the "
                "transform out, or put it before those that change the type."
            )


class PhotoMetricParams(NamedTuple):
    """What a PhotoMetricDistortion does to one image; None leaves a step out."""

    brightness: float | None = None
    contrast: float | None = None
    contrast_first: bool = False
    saturation: float | None = None
    hue: int | None = None


@dataclass(frozen=True)
class PhotoMetricDistortion(RandomTransform):
    """Random brightness, contrast, saturation and hue, each with probability one half.

    In this order, except that contrast comes second or last with equal chance. Brightness adds, contrast and
    saturation multiply, hue turns. The image is uint8 after every step, values cut off rather than rounded.
    (The scheme is that of SSD: Liu et al., 2016.)

    Attributes:
        brightness_delta: added grey levels are drawn from -delta..delta.
        contrast_range: (lowest, highest) factor.
        saturation_range: (lowest, highest) factor.
        hue_delta: turns are drawn from -delta..delta-1, in steps of 2 degrees (OpenCV's hue has 180 values).
    """

    brightness_delta: float = 32
    contrast_range: tuple[float, float] = (0.5, 1.5)
    saturation_range: tuple[float, float] = (0.5, 1.5)
    hue_delta: int = 18

    def __post_init__(self) -> None:
        for name in ("contrast_range", "saturation_range"):
            set_fields(self, **{name: number_pair(self, name, getattr(self, name), least=0)})
        if self.brightness_delta < 0 or self.hue_delta < 1:
            raise ConfigError("PhotoMetricDistortion needs brightness_delta >= 0 and hue_delta >= 1.")

    def draw(self, record: Record, rng: np.random.Generator) -> PhotoMetricParams:
        """Chooses the steps and their strengths."""

        def maybe(choose: Callable[[], float]) -> float | None:
            return choose() if rng.integers(2) else None

        delta = self.brightness_delta
        brightness = maybe(lambda: rng.uniform(-delta, delta))
        contrast_first = bool(rng.integers(2))
        contrast = maybe(lambda: rng.uniform(*self.contrast_range))
        saturation = maybe(lambda: rng.uniform(*self.saturation_range))
        hue = maybe(lambda: int(rng.integers(-self.hue_delta, self.hue_delta)))
        return PhotoMetricParams(brightness, contrast, contrast_first, saturation, hue)

    def apply(self, record: Record, params: PhotoMetricParams) -> Record:
        """Changes the image's colours as `params` says."""
        check_image(self, record, np.uint8, channels=3)
        return map_images(record, lambda image: self._distort(image, params))

    @staticmethod
    def _distort(image: UInt8[np.ndarray, "h w 3"], params: PhotoMetricParams) -> UInt8[np.ndarray, "h w 3"]:
        if params.brightness is not None:
            image = cv2.LUT(image, _linear(1, params.brightness))
        if params.contrast is not None and params.contrast_first:
            image = cv2.LUT(image, _linear(params.contrast, 0))
        if params.saturation is not None:
            image = _in_hsv(image, 1, _linear(params.saturation, 0))
        if params.hue is not None:
            image = _in_hsv(image, 0, ((np.arange(256) + params.hue) % 180).astype(np.uint8))
        if params.contrast is not None and not params.contrast_first:
            image = cv2.LUT(image, _linear(params.contrast, 0))
        return image


def _linear(alpha: float, beta: float) -> UInt8[np.ndarray, "256"]:
    """What becomes of each grey level: a pixel-wise function of bytes is a table of 256."""
    levels = np.arange(256, dtype=np.float32) * np.float32(alpha) + np.float32(beta)
    return np.clip(levels, 0, 255).astype(np.uint8)


def _in_hsv(image: np.ndarray, channel: int, table: np.ndarray) -> np.ndarray:
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    hsv[..., channel] = cv2.LUT(hsv[..., channel], table)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)


@dataclass(frozen=True)
class AdjustGamma(Transform):
    """Gamma correction: `255 * (image / 255) ** (1 / gamma)`, cut off rather than rounded.

    Attributes:
        gamma: above 1 makes the image brighter, below 1 darker.
    """

    gamma: float = 1.0

    def __post_init__(self) -> None:
        if not is_number(self.gamma) or self.gamma <= 0:
            raise ConfigError(f"AdjustGamma.gamma is {self.gamma!r}; it must be a positive number.")

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        """Corrects the image."""
        check_image(self, record, np.uint8)
        inverse = 1.0 / self.gamma
        table = np.array([(level / 255.0) ** inverse * 255 for level in range(256)]).astype(np.uint8)
        return map_images(record, lambda image: with_channels(cv2.LUT(image, table), image))


@dataclass(frozen=True)
class CLAHE(Transform):
    """Equalises the histogram in tiles, with bounded contrast, each channel for itself (Zuiderveld, 1994).

    Attributes:
        clip_limit: bound of the contrast.
        tile_grid_size: (tiles across, tiles down).
    """

    clip_limit: float = 40.0
    tile_grid_size: tuple[int, int] = (8, 8)

    def __post_init__(self) -> None:
        if not is_number(self.clip_limit):
            raise ConfigError(f"CLAHE.clip_limit is {self.clip_limit!r}; it must be a number.")
        grid = whole_pair(self, "tile_grid_size", self.tile_grid_size, "(tiles across, tiles down)")
        set_fields(self, tile_grid_size=grid)

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        """Equalises the image."""
        check_image(self, record, np.uint8, np.uint16)
        # Made anew for each record: one that is shared between threads would mix their tables.
        equaliser = cv2.createCLAHE(self.clip_limit, self.tile_grid_size)

        def equalise(image: Shaped[np.ndarray, "h w c"]) -> Shaped[np.ndarray, "h w c"]:
            return np.stack([equaliser.apply(np.ascontiguousarray(plane)) for plane in np.moveaxis(image, -1, 0)], -1)

        return map_images(record, equalise)


@dataclass(frozen=True)
class Rerange(Transform):
    """Stretches the image's numbers, so that its lowest and its highest are what is asked for; it is float32 then.

    An image of one value only becomes the lowest.

    Attributes:
        min_value: the lowest.
        max_value: the highest.
    """

    min_value: float = 0
    max_value: float = 255

    def __post_init__(self) -> None:
        if not (is_number(self.min_value) and is_number(self.max_value) and self.min_value < self.max_value):
            raise ConfigError(
                f"Rerange has min_value={self.min_value!r} and max_value={self.max_value!r}; they must be numbers, "
                "the first below the second."
            )

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        """Stretches the image."""

        def stretch(image: Shaped[np.ndarray, "..."]) -> Float32[np.ndarray, "..."]:
            low, high = image.min(), image.max()
            if low == high:
                return np.full(image.shape, self.min_value, np.float32)
            share = (image - low) / (high - low)
            return (share * (self.max_value - self.min_value) + self.min_value).astype(np.float32)

        return map_images(record, stretch)


@dataclass(frozen=True)
class RGB2Gray(Transform):
    """Makes the image grey: the weighted sum of its channels, in each channel; it is float32 then.

    Attributes:
        out_channels: how many channels the result has; None for as many as there were.
        weights: one a channel, in the image's order: red, green, blue.
    """

    out_channels: int | None = None
    weights: tuple[float, ...] = LUMA

    def __post_init__(self) -> None:
        if self.out_channels is not None and (type(self.out_channels) is not int or self.out_channels < 1):
            raise ConfigError(f"RGB2Gray.out_channels is {self.out_channels!r}; it must be a positive whole number.")
        set_fields(self, weights=_weights(self, "weights", self.weights))

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        """Makes the image grey."""
        check_image(self, record, np.uint8, np.uint16, np.float32, channels=len(self.weights))
        count = self.out_channels or len(self.weights)

        def grey(image: Shaped[np.ndarray, "h w c"]) -> Float32[np.ndarray, "h w d"]:
            mean = (image * np.array(self.weights)).sum(2, keepdims=True)
            return np.repeat(mean.astype(np.float32), count, axis=2)

        return map_images(record, grey)


@dataclass(frozen=True)
class RandomGrayscale(RandomTransform):
    """Makes the image grey, of as many channels as before and uint8, or leaves it.

    Attributes:
        prob: probability that it becomes grey.
        channel_weights: one a channel, red, green, blue; divided by their sum.
    """

    prob: float = 0.1
    channel_weights: tuple[float, ...] = (1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        check_probability(self, "prob")
        weights = _weights(self, "channel_weights", self.channel_weights)
        if sum(weights) <= 0:
            raise ConfigError(f"RandomGrayscale.channel_weights is {weights}; their sum must be positive.")
        set_fields(self, channel_weights=weights)

    def draw(self, record: Record, rng: np.random.Generator) -> bool:
        """Whether the image becomes grey."""
        return bool(rng.random() < self.prob)

    def apply(self, record: Record, params: bool) -> Record:
        """Makes the image grey if `params` is true."""
        if not params:
            return record
        check_image(self, record, np.uint8, channels=len(self.channel_weights))
        weights = np.array(self.channel_weights) / sum(self.channel_weights)

        def grey(image: UInt8[np.ndarray, "h w c"]) -> UInt8[np.ndarray, "h w c"]:
            # Summed from blue to red, as the reference does: a mean that is cut off shows its last bit.
            mean = (weights * image)[..., ::-1].sum(axis=2, keepdims=True).astype(np.uint8)
            return np.repeat(mean, image.shape[2], axis=2)

        return map_images(record, grey)


def _weights(owner: Any, name: str, value: Any) -> tuple[float, ...]:
    weights = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else ()
    if not weights or not all(is_number(weight) for weight in weights):
        raise ConfigError(f"{type(owner).__name__}.{name} is {value!r}; it must be a number for each channel.")
    return weights
