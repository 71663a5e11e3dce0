"""Depth: labels that are distances, and mixing them into the image."""

from dataclasses import dataclass
from typing import Any, ClassVar

import cv2
import numpy as np

from jaxseg.data.nifti import decode_nifti
from jaxseg.data.transforms.base import (
    RandomTransform,
    Record,
    Transform,
    check_probability,
    is_number,
    map_images,
)
from jaxseg.data.transforms.load_volumes import check_label_size, decode_array, label_path
from jaxseg.data.transforms.loading import read_bytes
from jaxseg.errors import ConfigError, DataError, did_you_mean

_FORMATS = ("cv2", "numpy", "nifti")


@dataclass(frozen=True)
class LoadDepthAnnotation(Transform):
    """Reads the depth `meta["label_path"]` into `label`, float32 [h w], and notes `meta["depth_rescale_factor"]`.

    A record that has a label already is left as it is.

    Attributes:
        decode_backend: "cv2" for pictures (PNG of 16 bits, as depths in millimetres are), "numpy" or "nifti".
        depth_rescale_factor: what the stored numbers are multiplied with (0.001 makes metres of millimetres).
    """

    loads: ClassVar[str] = "label"

    decode_backend: str = "cv2"
    depth_rescale_factor: float = 1.0

    def __post_init__(self) -> None:
        if self.decode_backend not in _FORMATS:
            hint = did_you_mean(str(self.decode_backend), _FORMATS)
            raise ConfigError(f"LoadDepthAnnotation.decode_backend is {self.decode_backend!r}. {hint}")
        if not is_number(self.depth_rescale_factor) or self.depth_rescale_factor <= 0:
            raise ConfigError(
                f"LoadDepthAnnotation.depth_rescale_factor is {self.depth_rescale_factor!r}; it must be a positive "
                "number."
            )

    def __call__(self, record: Record, rng: np.random.Generator | None = None) -> Record:
        """Decodes the depth.

        Raises:
            DataError: no depth, a damaged one, one with several channels, or a size other than the image's.
        """
        if record.get("label") is not None:
            return record
        path = label_path(record)
        depth = _decode(read_bytes(path), path, self.decode_backend)
        if depth.ndim == 3 and 1 in (depth.shape[0], depth.shape[2]):
            depth = depth.reshape(depth.shape[1:] if depth.shape[0] == 1 else depth.shape[:2])
        if depth.ndim != 2:
            raise DataError(f"{path} has the shape {depth.shape}; a depth has one number a pixel.")
        check_label_size(record, depth.shape, path)
        depth = depth.astype(np.float32)
        depth *= self.depth_rescale_factor
        meta = {**record["meta"], "depth_rescale_factor": self.depth_rescale_factor}
        return {**record, "label": depth, "meta": meta}


def _decode(content: bytes, path: str, backend: str) -> np.ndarray:
    if backend == "numpy":
        return decode_array(content, path)
    if backend == "nifti":
        return decode_nifti(content, path)
    picture = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if picture is None:
        raise DataError(f"{path} cannot be decoded as a depth ({len(content)} bytes): copy or download it again.")
    return picture


@dataclass(frozen=True)
class RandomDepthMix(RandomTransform):
    """Puts the depth, as it was stored, into all channels of an upright strip of the image; or leaves it.

    In images of 8 bits the numbers are cut to their whole part and, as the reference does, taken modulo 256.
    (The scheme is that of Kim et al., 2022.)

    Attributes:
        prob: probability of a strip.
        mix_scale_ratio: its width is drawn from none to this share of the image right of where it begins.
    """

    prob: float = 0.25
    mix_scale_ratio: float = 0.75

    def __post_init__(self) -> None:
        check_probability(self, "prob", "mix_scale_ratio")

    def draw(self, record: Record, rng: np.random.Generator) -> tuple[int, int] | None:
        """Where the strip begins, and its width, in pixels; None for no strip."""
        if rng.random() > self.prob:
            return None
        width = record["image"].shape[1]
        left = int(width * rng.random())
        return left, int(max(1, (width - left) * (self.mix_scale_ratio * rng.random())))

    def apply(self, record: Record, params: tuple[int, int] | None) -> Record:
        """Puts the depth into the strip `params`."""
        if params is None:
            return record
        label: Any = record.get("label")
        if label is None or label.dtype != np.float32:
            raise DataError("RandomDepthMix needs a depth: put LoadDepthAnnotation before it.")
        strip = slice(params[0], params[0] + params[1])
        stored = label[:, strip] / record["meta"].get("depth_rescale_factor", 1)

        def mix(image: np.ndarray) -> np.ndarray:
            mixed = image.copy()
            whole = np.issubdtype(image.dtype, np.integer)
            values = np.trunc(stored) % (np.iinfo(image.dtype).max + 1) if whole else stored
            mixed[:, strip] = values.astype(image.dtype)[..., None]
            return mixed

        return map_images(record, mix)
