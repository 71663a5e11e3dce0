"""Transforms that change colours and leave the label as it is."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import UInt8

from jaxseg.data.transforms.base import RandomTransform, Record, set_fields
from jaxseg.errors import ConfigError


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
            values = tuple(getattr(self, name))
            if len(values) != 2 or not 0 <= values[0] <= values[1]:
                raise ConfigError(
                    f"PhotoMetricDistortion.{name} is {values}; it must be (lowest, highest), not negative."
                )
            set_fields(self, **{name: values})
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
        image = record["image"]
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
        return {**record, "image": image}


def _linear(alpha: float, beta: float) -> UInt8[np.ndarray, "256"]:
    """What becomes of each grey level: a pixel-wise function of bytes is a table of 256."""
    levels = np.arange(256, dtype=np.float32) * np.float32(alpha) + np.float32(beta)
    return np.clip(levels, 0, 255).astype(np.uint8)


def _in_hsv(image: np.ndarray, channel: int, table: np.ndarray) -> np.ndarray:
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    hsv[..., channel] = cv2.LUT(hsv[..., channel], table)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
