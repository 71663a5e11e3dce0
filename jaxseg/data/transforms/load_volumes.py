"""Loading medical volumes: images [z y x channels], float32, and labels [z y x]."""

import io
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Integer, Shaped

from jaxseg.data.nifti import decode_nifti
from jaxseg.data.transforms.base import Record, Transform
from jaxseg.data.transforms.loading import read_bytes, to_classes
from jaxseg.errors import ConfigError, DataError, did_you_mean

_FORMATS = ("nifti", "numpy")


def decode_array(content: bytes, path: str) -> Shaped[np.ndarray, "..."]:
    """Decodes a NumPy file (`.npy`) of numbers.

    Raises:
        DataError: damaged, cut short, or none of numbers.
    """
    try:
        array = np.load(io.BytesIO(content), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise DataError(f"{path} cannot be read as a NumPy file: {error}. Copy or download it again.") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf":
        raise DataError(f"{path} is not one array of numbers: save it with numpy.save.")
    return array


def _decode(content: bytes, path: str, decode_backend: str) -> Shaped[np.ndarray, "..."]:
    """The array of a file, in the order of its axes in the file."""
    if decode_backend == "numpy":
        return decode_array(content, path)
    return decode_nifti(content, path)


def _check_backend(owner: Any) -> None:
    if owner.decode_backend not in _FORMATS:
        hint = did_you_mean(str(owner.decode_backend), _FORMATS)
        raise ConfigError(f"{type(owner).__name__}.decode_backend is {owner.decode_backend!r}. {hint}")


def to_labels(volume: Shaped[np.ndarray, "..."], record: Record, path: str) -> Integer[np.ndarray, "..."]:
    """Turns stored numbers, which may be floating point, into class indices; see LoadAnnotations.

    Raises:
        DataError: numbers that are not whole, or neither a class nor the ignored index.
    """
    whole = volume.astype(np.int32)
    if (whole != volume).any():
        odd = volume[whole != volume].ravel()[0]
        raise DataError(f"{path} holds {odd:g}, but labels are whole numbers: is it an image?")
    if whole.size and whole.min() >= 0 and whole.max() < 256:
        whole = whole.astype(np.uint8)
    return to_classes(whole.reshape(whole.shape[0], -1), path, record["meta"]).reshape(whole.shape)


@dataclass(frozen=True)
class _LoadVolume(Transform):
    """What readers of volumes have in common."""

    decode_backend: str = "nifti"
    to_xyz: bool = False

    def __post_init__(self) -> None:
        _check_backend(self)


@dataclass(frozen=True)
class LoadBiomedicalImageFromFile(_LoadVolume):
    """Reads the volume `meta["image_path"]` into `image`, float32 [z y x channels].

    NIfTI files hold [x y z], or [x y z channels]; NumPy files hold [z y x], or [channels z y x]. A record that has
    an image already is left as it is.

    Attributes:
        decode_backend: "nifti" (`.nii`, `.nii.gz`) or "numpy" (`.npy`).
        to_xyz: turn the axes round: [x y z channels].
    """

    loads: ClassVar[str] = "image"

    def __call__(self, record: Record, rng: np.random.Generator | None = None) -> Record:
        """Decodes the volume.

        Raises:
            DataError: the file is missing, empty, damaged, cut short, or no volume.
        """
        if record.get("image") is not None:
            return record
        path = record["meta"]["image_path"]
        volume = _decode(read_bytes(path), path, self.decode_backend)
        if volume.ndim not in (3, 4):
            raise DataError(f"{path} has the shape {volume.shape}; a volume has three axes, or four with channels.")
        nifti = self.decode_backend == "nifti"
        if volume.ndim == 3:
            volume = volume[..., None]
        elif not nifti:
            volume = np.moveaxis(volume, 0, -1)
        if nifti != self.to_xyz:
            volume = volume.transpose(2, 1, 0, 3)
        return _with_image(record, volume)


def _with_image(record: Record, volume: np.ndarray) -> Record:
    image = np.ascontiguousarray(volume, np.float32)
    return {**record, "image": image, "meta": {**record["meta"], "original_size": image.shape[:3]}}


@dataclass(frozen=True)
class LoadBiomedicalAnnotation(_LoadVolume):
    """Reads the volume `meta["label_path"]` into `label`, [z y x]: class indices, checked as LoadAnnotations does.

    NIfTI files hold [x y z], NumPy files [z y x]. A record that has a label already is left as it is.

    Attributes:
        decode_backend: "nifti" (`.nii`, `.nii.gz`) or "numpy" (`.npy`).
        to_xyz: turn the axes round: [x y z].
    """

    loads: ClassVar[str] = "label"

    def __call__(self, record: Record, rng: np.random.Generator | None = None) -> Record:
        """Decodes the volume.

        Raises:
            DataError: no label, a damaged one, a size other than the image's, or a number that is neither a class
                nor the ignored index.
        """
        if record.get("label") is not None:
            return record
        path = label_path(record)
        volume = _decode(read_bytes(path), path, self.decode_backend)
        if volume.ndim != 3:
            raise DataError(f"{path} has the shape {volume.shape}; a label has three axes.")
        if (self.decode_backend == "nifti") != self.to_xyz:
            volume = volume.transpose(2, 1, 0)
        check_label_size(record, volume.shape, path)
        return {**record, "label": np.ascontiguousarray(to_labels(volume, record, path))}


def label_path(record: Record) -> str:
    """The file of a record's label.

    Raises:
        DataError: it has none.
    """
    meta = record["meta"]
    if meta.get("label_path") is None:
        raise DataError(
            f"{meta.get('image_path', meta.get('name'))} has no label; leave its loading out of the transforms for "
            "images without labels."
        )
    return meta["label_path"]


def check_label_size(record: Record, shape: tuple[int, ...], path: str) -> None:
    """Checks that a label has the size of the image as it was read.

    Raises:
        DataError: it has not; names both.
    """
    expected = record["meta"].get("original_size")
    if expected is not None and tuple(shape) != tuple(expected):
        raise DataError(
            f"{path} is {'x'.join(map(str, shape))}, but its image {record['meta'].get('image_path')} is "
            f"{'x'.join(map(str, expected))}. They must be equal: is it the label of another image?"
        )


@dataclass(frozen=True)
class LoadBiomedicalData(Transform):
    """Reads one file, `meta["image_path"]`, that holds channels and, as the last of them, the label.

    The channels come first in the file: [n z y x] in NumPy files, [n x y z] in NIfTI. The image is float32
    [z y x n-1], the label [z y x] class indices, checked as LoadAnnotations does.

    Attributes:
        with_seg: whether to load the label.
        decode_backend: "numpy" (`.npy`) or "nifti" (`.nii`, `.nii.gz`).
        to_xyz: turn the axes round.
    """

    loads: ClassVar[str] = "image"

    with_seg: bool = False
    decode_backend: str = "numpy"
    to_xyz: bool = False

    def __post_init__(self) -> None:
        _check_backend(self)

    def __call__(self, record: Record, rng: np.random.Generator | None = None) -> Record:
        """Decodes the volume.

        Raises:
            DataError: the file is missing, empty, damaged, cut short, has fewer than two channels, or has labels
                that are no classes.
        """
        if record.get("image") is not None:
            return record
        path = record["meta"]["image_path"]
        data = _decode(read_bytes(path), path, self.decode_backend)
        if data.ndim != 4 or data.shape[0] < 2:
            raise DataError(f"{path} has the shape {data.shape}; it must hold channels of volumes, the last the label.")
        data = np.moveaxis(data, 0, -1)
        if (self.decode_backend == "nifti") != self.to_xyz:
            data = data.transpose(2, 1, 0, 3)
        out = _with_image(record, data[..., :-1])
        if self.with_seg:
            out["label"] = np.ascontiguousarray(to_labels(data[..., -1], record, path))
        return out
