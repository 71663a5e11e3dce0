"""Finding the files of a data set: the images of a split, and what belongs to each."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxseg.data.datasets import DatasetInfo
from jaxseg.errors import ConfigError, DataError, did_you_mean

_SHOWN = 5  # how many names of files an error lists


class Files(NamedTuple):
    """Files of one split, in order; None where the data set has none of a kind.

    Attributes:
        stems: paths relative to the folder of images, without suffix.
        images: a path for each.
        images2: a path for each, of the second date.
        labels: a path for each, of the masks.
    """

    stems: list[str]
    images: list[str]
    images2: list[str] | None
    labels: list[str] | None


def own(data: Mapping[str, Any], info: DatasetInfo, name: str) -> Any:
    """A field of `config.data`, or the row's where it is None."""
    value = data.get(name)
    return getattr(info, name) if value is None else value


def as_tuple(value: str | Sequence[str]) -> tuple[str, ...]:
    """One text, or several."""
    return (value,) if isinstance(value, str) else tuple(value)


def find_root(data: Mapping[str, Any], key: str, holds: str) -> Path:
    """The folder `data.root`.

    Args:
        data: `config.data`.
        key: the data set's name, for messages.
        holds: what should be in it, for messages.

    Raises:
        DataError: it is no folder.
    """
    root = Path(os.path.expanduser(data.get("root") or ""))
    if not data.get("root") or not root.is_dir():
        raise DataError(
            f"data.root is {data.get('root')!r}, which is not a folder. Give the folder that holds the data "
            f"set {key}: it has {holds} in it."
        )
    return root


def class_names(value: str | Sequence[str] | None) -> tuple[str, ...]:
    """Names of classes as `data.classes` has them, or the lines of the text file that it names.

    Raises:
        ConfigError: there is no such file, or a name is there twice.
    """
    if not isinstance(value, str):
        names = tuple(value or ())
    else:
        if not Path(value).is_file():
            raise ConfigError(f"data.classes is {value!r}: no such file. Give names, or a text file with one a line.")
        lines = Path(value).read_text(encoding="utf-8").splitlines()
        names = tuple(line.strip() for line in lines if line.strip())
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(f"data.classes has {twice!r} twice.")
    return names


def split_names(data: Mapping[str, Any], info: DatasetInfo, part: str) -> list[str]:
    """The data set's own names of the part's splits: of one, of "train+val", or of a tuple."""
    named = data.get("split") or part
    splits = named.split("+") if isinstance(named, str) else named
    return [name for split in splits for name in as_tuple(info.splits.get(split, split))]


def find_files(data: Mapping[str, Any], info: DatasetInfo, root: Path, part: str, split: str) -> Files:
    """The files of one split.

    Raises:
        DataError: a missing folder, nothing in it, images without a mask or a second image, a split file that names
            files that do not exist.
    """
    image_suffix, label_suffix = (as_tuple(own(data, info, name)) for name in ("image_suffix", "label_suffix"))
    image_suffix2 = as_tuple(own(data, info, "image_suffix2")) or image_suffix
    split_files = [name for name in as_tuple(own(data, info, "split_file")) if name]
    image_dir = _folder(root, own(data, info, "image_dir"), split, bool(split_files), "image_dir")
    label_template = data.get("label_dir")
    if label_template is None:
        label_template = info.label_dirs.get(split, info.label_dir)

    images = _scan(image_dir, image_suffix)
    stems = []
    for name in split_files:
        stems += _read_split(root, name, split, part, images, image_dir, image_suffix)
    if not split_files:
        stems = sorted(images, key=lambda stem: images[stem])
        if not stems:
            raise DataError(
                f"{image_dir} has no images that end in {', '.join(image_suffix)}, so data.{part} is empty. "
                "Set data.image_suffix if they end otherwise."
            )

    def belonging(
        template: str, suffixes: tuple[str, ...], fields: tuple[str, str], what: str
    ) -> dict[str, str] | None:
        nonlocal stems
        if not template:
            return None
        folder = _folder(root, template, split, bool(split_files), fields[0])
        found = _scan(folder, suffixes)
        missing = [stem for stem in stems if stem not in found]
        if missing and data.get("unpaired") is not None and len(missing) < len(stems):
            data["unpaired"].extend(os.path.join(image_dir, images[stem]) for stem in missing)
            stems, missing = [stem for stem in stems if stem in found], []
        if missing:
            raise DataError(
                f"{len(missing)} of {len(stems)} images in {image_dir} have no {what} in {folder}: "
                f"{listed([images[stem] for stem in missing])}. A {what} has the image's name and ends in "
                f"{' or '.join(suffixes)} (data.{fields[1]}); add them, or list the images to use in "
                f"data.{part}.split_file."
            )
        return {stem: os.path.join(folder, file) for stem, file in found.items()}

    second = belonging(own(data, info, "image_dir2"), image_suffix2, ("image_dir2", "image_suffix2"), "second image")
    labels = belonging(label_template, label_suffix, ("label_dir", "label_suffix"), "mask")
    return Files(
        stems,
        [os.path.join(image_dir, images[stem]) for stem in stems],
        None if second is None else [second[stem] for stem in stems],
        None if labels is None else [labels[stem] for stem in stems],
    )


def listed(names: Sequence[str]) -> str:
    """The first few names, for messages."""
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")


def read_names(root: Path, split_file: str, split: str, part: str) -> tuple[Path, list[str]]:
    """Where a split file is, below the root or the current folder, and the names in it, one a line.

    Raises:
        DataError: there is none, or it is empty.
    """
    name = split_file.format(split=split)
    path = next((place for place in (root / name, Path(name)) if place.is_file()), None)
    if path is None:
        raise DataError(f"data.{part}.split_file is {split_file!r}: no such file in {root} or the current folder.")
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    lines = [line for line in lines if line]
    if not lines:
        raise DataError(f"{path} (data.{part}.split_file) is empty; it needs one name a line.")
    return path, lines


def _folder(root: Path, template: str, split: str, listed: bool, name: str) -> Path:
    folder = root / template.format(split=split)
    if folder.is_dir():
        return folder
    if listed and "{split}" in template:
        whole = root / template.replace("{split}", "").rstrip("/")
        if whole.is_dir():
            return whole
    parent = folder.parent
    while not parent.is_dir():
        parent = parent.parent
    wanted = folder.relative_to(parent).parts[0]
    near = [entry.name for entry in parent.iterdir() if entry.is_dir()]
    raise DataError(
        f"{folder} does not exist. Set data.{name} (it is {template!r}) or the part's `split` ({split!r}). "
        f"In {parent}, for {wanted!r}: {did_you_mean(wanted, near)}"
    )


def _scan(folder: Path, suffixes: tuple[str, ...]) -> dict[str, str]:
    """Files below a folder by stem: path relative to the folder, without suffix -> with it."""
    found: dict[str, str] = {}
    longest_first = sorted(suffixes, key=len, reverse=True)
    for base, _, names in os.walk(folder, followlinks=True):
        for name in names:
            suffix = next((end for end in longest_first if name.lower().endswith(end.lower())), None)
            if suffix is None or name.startswith("."):
                continue
            path = Path(base, name).relative_to(folder).as_posix()
            stem = path[: len(path) - len(suffix)]
            if stem in found:
                raise DataError(f"{folder} has both {found[stem]} and {path}: remove one, or narrow the suffixes.")
            found[stem] = path
    return found


def _read_split(
    root: Path,
    split_file: str,
    split: str,
    part: str,
    images: dict[str, str],
    image_dir: Path,
    suffixes: tuple[str, ...],
) -> list[str]:
    path, lines = read_names(root, split_file, split, part)
    stems, missing = [], []
    for line in lines:
        suffix = next((end for end in suffixes if line.lower().endswith(end.lower())), "")
        stem = line[: len(line) - len(suffix)]
        (stems if stem in images else missing).append(stem)
    if missing:
        raise DataError(
            f"{path} (data.{part}.split_file) names {len(missing)} of {len(lines)} images that are not in "
            f"{image_dir} with the suffix {' or '.join(suffixes)}: {listed(missing)}. For the first: "
            f"{did_you_mean(missing[0], images)}"
        )
    return stems
