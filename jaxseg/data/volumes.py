"""Volumes as the Medical Segmentation Decathlon lays them out: a dataset.json that lists files and names classes."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jaxseg.data.files import as_tuple, listed, read_names
from jaxseg.data.nifti import read_nifti_header
from jaxseg.data.sources import FolderSource
from jaxseg.errors import DataError, did_you_mean

LISTING = "dataset.json"
_SUFFIXES = (".nii.gz", ".nii")
_SPLITS = ("training", "test")


@dataclass(frozen=True)
class Listing:
    """What a dataset.json says.

    Attributes:
        root: the folder that it is in.
        classes: in the order of the numbers in the masks.
        label_map: number in the masks -> class, where they are not the same.
        files: of every split, (image, mask or None), relative to the root.
    """

    root: Path
    classes: tuple[str, ...]
    label_map: dict[int, int]
    files: dict[str, Sequence[tuple[str, str | None]]] = field(repr=False)


class VolumeSource(FolderSource):
    """Volumes with their masks, in the order of the list."""

    def size(self, index: int) -> tuple[int, ...]:
        """Sides of a volume, (z, y, x), of its header."""
        return read_nifti_header(self.image_paths[index]).shape[2::-1]


def read_listing(root: Path) -> Listing:
    """Reads a dataset.json.

    Raises:
        DataError: it is missing, no JSON, or lacks the names of the classes or the lists of files.
    """
    path = root / LISTING
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"Cannot read {path}, which lists the volumes: {error.strerror or error}.") from error
    except ValueError as error:
        raise DataError(f"{path} is not valid JSON: {error}.") from error
    labels = content.get("labels") if isinstance(content, dict) else None
    try:
        numbers = dict(_number_and_name(str(key), value) for key, value in labels.items())
    except (AttributeError, TypeError, ValueError) as error:
        raise DataError(
            f"{path} has labels {labels!r}; they must be numbers with names, as in {{'0': 'background', '1': 'liver'}}."
        ) from error
    if not numbers or len(numbers) != len(labels):
        raise DataError(f"{path} has labels {labels!r}; every number must have a name of its own.")
    files = {split: [_pair(item, path, split) for item in content.get(split) or ()] for split in _SPLITS}
    order = sorted(numbers)
    label_map = {raw: place for place, raw in enumerate(order)}
    return Listing(
        root,
        tuple(numbers[raw] for raw in order),
        {} if order == list(range(len(order))) else label_map,
        files,
    )


def _number_and_name(key: str, value: Any) -> tuple[int, str]:
    """Of `{"0": "background"}` and of `{"background": 0}`, which is written, too."""
    return (int(key), str(value)) if key.strip().isdigit() else (int(value), key)


def _pair(item: Any, path: Path, split: str) -> tuple[str, str | None]:
    image, label = (item.get("image"), item.get("label")) if isinstance(item, dict) else (item, None)
    if not isinstance(image, str) or not isinstance(label, str | None):
        raise DataError(f"{path}: {split} has {item!r}; it must be the path of an image, or an image and a label.")
    return image, label


def find_volumes(
    data: Mapping[str, Any], listing: Listing, split: str, part: str
) -> tuple[list[str], list[str], list[str] | None]:
    """Names, images and masks of a split: all that is listed, or what `data.split_file` names of it.

    A name is that of the image's file without folder and suffix.

    Raises:
        DataError: no such split, nothing listed, files that do not exist, names that are not listed.
    """
    path = listing.root / LISTING
    names = [name for name in as_tuple(data.get("split_file") or ()) if name]
    if split == "val":  # there is none: what it is must be said
        if not names:
            raise DataError(
                f"{path} has no part to validate on. List names of the training part, one a line, in "
                f"data.{part}.split_file, and the others in data.train.split_file; or set data.{part}.split."
            )
        split = "training"
    if split not in _SPLITS:
        raise DataError(f"data.{part}.split is {split!r}. {did_you_mean(split, _SPLITS)}")
    found = {_stem(image): (image, label) for image, label in listing.files[split]}
    if not found:
        raise DataError(f"{path} lists nothing as {split!r}, so data.{part} is empty.")
    stems = list(found)
    if names:
        where, stems = zip(*(read_names(listing.root, name, split, part) for name in names), strict=True)
        stems = [_stem(line) for lines in stems for line in lines]
        missing = [stem for stem in stems if stem not in found]
        if missing:
            raise DataError(
                f"{where[0]} (data.{part}.split_file) names {len(missing)} of {len(stems)} volumes that {path} does "
                f"not list as {split!r}: {listed(missing)}. For the first: {did_you_mean(missing[0], found)}"
            )
    images, labels = ([found[stem][place] for stem in stems] for place in (0, 1))
    files = [name for name in (*images, *labels) if name is not None]
    absent = [name for name in files if not (listing.root / name).is_file()]
    if absent:
        raise DataError(f"{path} lists {len(absent)} of {len(files)} files that are not there: {listed(absent)}.")
    with_labels = None not in labels
    return (
        stems,
        [str(listing.root / name) for name in images],
        [str(listing.root / name) for name in labels] if with_labels else None,
    )


def _stem(name: str) -> str:
    base = name.rpartition("/")[2]
    return next((base.removesuffix(suffix) for suffix in _SUFFIXES if base.endswith(suffix)), base)
