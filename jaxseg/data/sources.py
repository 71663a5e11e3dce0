"""Sources: the records of a data set's part, by number, and where they come from on disk."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from jaxseg.data.datasets import DATASETS, Color, DatasetInfo
from jaxseg.data.meanings import understood
from jaxseg.data.transforms.base import Record, Size
from jaxseg.data.transforms.loading import image_size
from jaxseg.errors import ConfigError, DataError, did_you_mean
from jaxseg.visualize.palettes import default_palette

_SHOWN = 5  # how many names of files an error lists


@runtime_checkable
class Source(Protocol):
    """Random access to the records of one part (train, val, test) of a data set.

    Records have at least `meta`: `name`, `image_path`, `label_path` (None without labels), and what
    LoadAnnotations needs: `num_classes`, `ignore_index`, `reduce_zero_label`, `label_map`.
    """

    name: str
    classes: tuple[str, ...]
    palette: tuple[Color, ...]
    ignore_index: int
    reduce_zero_label: bool
    label_map: dict[int, int]

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Record: ...

    def size(self, index: int) -> Size:
        """Height and width of an image, without decoding it."""
        ...


@dataclass(frozen=True)
class FolderSource:
    """Pairs of image and mask files, in the order of the images' paths.

    Attributes:
        name: the data set's and the part's, for messages.
        stems: names of the pairs, relative to the folders, without suffix.
        image_paths: a path for each.
        label_paths: a path for each, or None for images without masks.
    """

    name: str
    classes: tuple[str, ...]
    palette: tuple[Color, ...]
    ignore_index: int
    reduce_zero_label: bool
    label_map: dict[int, int]
    stems: Sequence[str] = field(repr=False)
    image_paths: Sequence[str] = field(repr=False)
    label_paths: Sequence[str] | None = field(repr=False)

    def __len__(self) -> int:
        return len(self.image_paths)

    def __getitem__(self, index: int) -> Record:
        meta = {
            "name": self.stems[index],
            "image_path": self.image_paths[index],
            "label_path": None if self.label_paths is None else self.label_paths[index],
            "num_classes": len(self.classes),
            "ignore_index": self.ignore_index,
            "reduce_zero_label": self.reduce_zero_label,
            "label_map": self.label_map,
        }
        return {"meta": meta}

    def size(self, index: int) -> Size:
        """Height and width of an image, of its header."""
        return image_size(self.image_paths[index])


@understood
def build_source(data: Mapping[str, Any], part: str) -> Source:
    """Makes the source of one part, "train", "val" or "test", of `config.data`.

    `data.dataset` names a row of `DATASETS`; every other field that is not None overrides that row:
    `classes`, `palette`, `image_dir`, `label_dir`, `image_suffix`, `label_suffix`, `ignore_index`,
    `reduce_zero_label`, `label_map`. Classes that are a selection of the row's own, in any order, select: the
    rest is ignored. `data[part]` may have any of these fields too, `dataset` and `root` among them; they hold
    for that part.

    `data[part]` has `split`, the name to fill into the folders (the row may call "train", "val" and "test"
    otherwise: `DatasetInfo.splits`), and `split_file`, a text file with one name a line, which then are the
    records, in that order. Of several splits and of several files the records follow one another.

    Raises:
        DataError: an unknown data set, a missing root or folder, nothing in it, images without masks, a split
            file that names files that do not exist.
        ConfigError: classes, palette or label map that do not fit.
    """
    if data.get(part) is None:
        raise ConfigError(f"data.{part} is not set, so the data set {data.get('dataset')} has no such part.")
    data = {**data, **{name: value for name, value in data[part].items() if value is not None}}
    key = data.get("dataset")
    if key not in DATASETS:
        raise DataError(f"data.dataset is {key!r}. {did_you_mean(str(key), DATASETS)}")
    info = DATASETS[key]
    if info.generated:
        from jaxseg.data.demo import DemoSource  # it imports this module's neighbours

        return DemoSource.from_config(data, part)

    labels = _labels(data, key, info)
    named = data.get("split") or part
    splits = [own for name in _tuple(named) for own in _tuple(info.splits.get(name, name))]
    root = Path(os.path.expanduser(data.get("root") or ""))
    if not data.get("root") or not root.is_dir():
        raise DataError(
            f"data.root is {data.get('root')!r}, which is not a folder. Give the folder that holds the data "
            f"set {key}: it has {info.image_dir.format(split=splits[0])} and "
            f"{info.label_dir.format(split=splits[0])} in it."
        )
    stems, images, masks = [], [], []
    for split in splits:
        found = _find_pairs(data, info, root, part, split)
        stems, images = stems + found[0], images + found[1]
        masks = None if found[2] is None else masks + found[2]
    name = f"{key} {'+'.join(splits)}"
    return FolderSource(name, **labels, stems=stems, image_paths=images, label_paths=masks)


def _own(data: Mapping[str, Any], info: DatasetInfo, name: str) -> Any:
    value = data.get(name)
    return getattr(info, name) if value is None else value


def _labels(data: Mapping[str, Any], key: str, info: DatasetInfo) -> dict[str, Any]:
    """What labels mean: classes, palette, ignore_index, reduce_zero_label, label_map."""
    ignore = int(_own(data, info, "ignore_index"))
    palette = tuple(tuple(int(part) for part in color) for color in _own(data, info, "palette"))
    try:
        label_map = {int(raw): int(new) for raw, new in dict(_own(data, info, "label_map")).items()}
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"data.label_map is {data.get('label_map')!r}; it must be {{number: class index}}."
        ) from error
    if ignore != info.ignore_index and data.get("label_map") is None:
        label_map = {raw: ignore if new == info.ignore_index else new for raw, new in label_map.items()}

    classes = _class_names(data.get("classes"))
    if not classes and not info.classes:
        raise ConfigError(
            f"data.classes is not set, and {key} has none of its own. Give the names of the classes in the "
            "order of their labels, or the path of a text file with one name a line."
        )
    if classes and info.classes and classes != info.classes:
        # "SignSymbol" is the row's "sign symbol".
        row = {_spelling(name): index for index, name in enumerate(info.classes)}
        unknown = [name for name in classes if _spelling(name) not in row]
        if unknown:
            raise ConfigError(
                f"data.classes has {unknown[0]!r}, which is not a class of {key}. "
                f"{did_you_mean(unknown[0], info.classes)} For other classes use the data set FolderDataset."
            )
        places = [row[_spelling(name)] for name in classes]
        if data.get("palette") is None:
            palette = tuple(info.palette[place] for place in places)
        selected = {old: places.index(old) if old in places else ignore for old in range(len(info.classes))}
        if places == list(range(len(info.classes))):
            selected = {}
        label_map = {**selected, **{raw: selected.get(new, new) for raw, new in label_map.items()}}
    classes = classes or info.classes
    palette = palette or default_palette(len(classes))
    if len(palette) != len(classes):
        raise ConfigError(f"data.palette has {len(palette)} colours for {len(classes)} classes; one each is needed.")
    wrong = [new for new in label_map.values() if new != ignore and not 0 <= new < len(classes)]
    if wrong:
        raise ConfigError(
            f"data.label_map maps to {wrong[0]}; allowed are the classes 0..{len(classes) - 1} and {ignore} "
            "(ignore_index)."
        )
    return {
        "classes": classes,
        "palette": palette,
        "ignore_index": ignore,
        "reduce_zero_label": bool(_own(data, info, "reduce_zero_label")),
        "label_map": label_map,
    }


def _spelling(name: str) -> str:
    """What two spellings of a name have in common."""
    return "".join(character for character in name.casefold() if character.isalnum()) or name


def _class_names(value: str | Sequence[str] | None) -> tuple[str, ...]:
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


def _tuple(value: str | Sequence[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def _find_pairs(
    data: Mapping[str, Any], info: DatasetInfo, root: Path, part: str, split: str
) -> tuple[list[str], list[str], list[str] | None]:
    """Names, images and masks of one split."""
    image_suffix = _tuple(_own(data, info, "image_suffix"))
    label_suffix = _tuple(_own(data, info, "label_suffix"))
    split_files = [name for name in _tuple(_own(data, info, "split_file")) if name]
    image_dir = _folder(root, _own(data, info, "image_dir"), split, bool(split_files), "image_dir")
    label_template = data.get("label_dir")
    if label_template is None:
        label_template = info.label_dirs.get(split, info.label_dir)
    label_dir = _folder(root, label_template, split, bool(split_files), "label_dir") if label_template else None

    images = _scan(image_dir, image_suffix)
    masks = _scan(label_dir, label_suffix) if label_dir else None
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
    if masks is not None:
        missing = [stem for stem in stems if stem not in masks]
        if missing:
            listed = ", ".join(images[stem] for stem in missing[:_SHOWN]) + (", ..." if len(missing) > _SHOWN else "")
            raise DataError(
                f"{len(missing)} of {len(stems)} images in {image_dir} have no mask in {label_dir}: "
                f"{listed}. A mask has the image's name and ends in {' or '.join(label_suffix)} "
                f"(data.label_suffix); add them, or list the images to use in data.{part}.split_file."
            )
    image_paths = [os.path.join(image_dir, images[stem]) for stem in stems]
    label_paths = None if masks is None else [os.path.join(label_dir, masks[stem]) for stem in stems]
    return stems, image_paths, label_paths


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
    name = split_file.format(split=split)
    path = next((place for place in (root / name, Path(name)) if place.is_file()), None)
    if path is None:
        raise DataError(f"data.{part}.split_file is {split_file!r}: no such file in {root} or the current folder.")
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    lines = [line for line in lines if line]
    if not lines:
        raise DataError(f"{path} (data.{part}.split_file) is empty; it needs one name a line.")
    stems, missing = [], []
    for line in lines:
        suffix = next((end for end in suffixes if line.lower().endswith(end.lower())), "")
        stem = line[: len(line) - len(suffix)]
        (stems if stem in images else missing).append(stem)
    if missing:
        listed = ", ".join(missing[:_SHOWN]) + (", ..." if len(missing) > _SHOWN else "")
        raise DataError(
            f"{path} (data.{part}.split_file) names {len(missing)} of {len(lines)} images that are not in "
            f"{image_dir} with the suffix {' or '.join(suffixes)}: {listed}. For the first: "
            f"{did_you_mean(missing[0], images)}"
        )
    return stems
