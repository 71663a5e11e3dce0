"""Slices of volumes of computed tomography."""

import io
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image

from jaxseg.data.converters.archives import gunzip
from jaxseg.data.converters.contents import table
from jaxseg.data.converters.jobs import Content, Output
from jaxseg.data.nifti import decode_nifti
from jaxseg.errors import DataError

_LOW, _HIGH = -125, 275  # Hounsfield units that become black and white, as in TransUNet (Chen et al., 2021)
# The annotated organ -> aorta, gallbladder, left kidney, right kidney, liver, pancreas, spleen, stomach; other organs
# are background.
_ORGANS = table(dict.fromkeys(range(256), 0) | {8: 1, 4: 2, 3: 3, 2: 4, 6: 5, 11: 6, 1: 7, 7: 8})


def photos(content: bytes, name: str, *, begin: str) -> Iterator[Output]:
    """The slices as JPEG files: the window from `_LOW` to `_HIGH` stretched to grey levels 0..255, rounded down."""

    def encoded(numbers: np.ndarray) -> bytes:
        grey = (np.clip(numbers.astype(np.float64), _LOW, _HIGH) - _LOW) / (_HIGH - _LOW) * 255
        file = io.BytesIO()
        # Through float32, whose rounding up to a whole number comes before the rounding down.
        Image.fromarray(grey.astype(np.float32).astype(np.uint8)).convert("RGB").save(file, "JPEG")
        return file.getvalue()

    return _slices(content, name, f"{begin}_slice{{:03}}.jpg", encoded)


def masks(content: bytes, name: str, *, begin: str) -> Iterator[Output]:
    """The slices as label maps of nine classes."""

    def labels(numbers: np.ndarray) -> np.ndarray:
        whole = (numbers == np.floor(numbers)) & (numbers >= 0) & (numbers < len(_ORGANS))
        return _ORGANS[np.where(whole, numbers, 0).astype(np.uint8)]

    return _slices(content, name, f"{begin}_slice{{:03}}.png", labels)


def _slices(content: bytes, name: str, path: str, make: Callable[[np.ndarray], Content]) -> Iterator[Output]:
    """The slices along the last axis: rows are the first axis, columns the second one backwards."""
    volume = decode_nifti(gunzip(content, name) if name.endswith(".gz") else content, name)
    if volume.ndim != 3:
        raise DataError(f"{name} has the shape {volume.shape}; it must be (x, y, z).")
    for index in range(volume.shape[2]):
        yield Output(path.format(index), lambda index=index: make(volume[:, ::-1, index]))
