"""Sources: the records of a data set's part, by number, and where they come from on disk."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

from jaxseg.data.datasets import DATASETS, Color, DatasetInfo
from jaxseg.data.files import class_names, find_files, find_root, own, split_names
from jaxseg.data.meanings import understood
from jaxseg.data.transforms.base import Record, Size
from jaxseg.data.transforms.loading import image_size
from jaxseg.errors import ConfigError, DataError, did_you_mean
from jaxseg.visualize.palettes import default_palette


@runtime_checkable
class Source(Protocol):
    """Random access to the records of one part (train, val, test) of a data set.

    Records have at least `meta`: `name`, `image_path`, `label_path` (None without labels), and what
    LoadAnnotations needs: `num_classes`, `ignore_index`, `reduce_zero_label`, `label_map`. Sets with two images have
    `image_path2` there, and those whose classes are kinds of scenes `category_id`.
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
    """Image files with their masks, in the order of the images' paths.

    Attributes:
        name: the data set's and the part's, for messages.
        stems: names of the records: relative to the folder of images, without suffix.
        image_paths: a path for each.
        label_paths: a path for each, or None for images without masks.
        more_meta: further fields of the records' `meta`, a value for each record.
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
    more_meta: Mapping[str, Sequence[Any]] = field(default_factory=dict, repr=False)

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
        return {"meta": meta | {name: values[index] for name, values in self.more_meta.items()}}

    def size(self, index: int) -> Size:
        """Height and width of an image, of its header."""
        return image_size(self.image_paths[index])


@understood
def build_source(data: Mapping[str, Any], part: str) -> Source:
    """Makes the source of one part, "train", "val" or "test", of `config.data`.

    `data.dataset` names a row of `DATASETS`; every other field that is not None overrides that row:
    `classes`, `palette`, `image_dir`, `image_dir2`, `label_dir`, `image_suffix`, `image_suffix2`, `label_suffix`,
    `ignore_index`, `reduce_zero_label`, `label_map`, `image_key`, `label_key`. Classes that are a selection of the
    row's own, in any order, select: the rest is ignored. `data[part]` may have any of these fields too, `dataset` and
    `root` among them; they hold for that part.

    `data[part]` has `split`, the name to fill into the folders (the row may call "train", "val" and "test"
    otherwise: `DatasetInfo.splits`; several are "train+val", or a tuple), and `split_file`, a text file with one name
    a line, which then are the records, in that order. Of several splits and of several files the records follow one
    another. With `sources` the part is made of several data sets: see `jaxseg.data.mixture.build_mixture`.

    Where `data` has a list `unpaired`, images without a mask are left out and their paths appended to it, unless none
    has one; the check of a data set wants to see the rest.

    Raises:
        DataError: an unknown data set, a missing root or folder, nothing in it, images without masks, a split
            file that names files that do not exist.
        ConfigError: classes, palette or label map that do not fit.
    """
    if data.get(part) is None:
        raise ConfigError(f"data.{part} is not set, so the data set {data.get('dataset')} has no such part.")
    if data[part].get("sources"):
        from jaxseg.data.mixture import build_mixture  # it builds its parts with this function

        return build_mixture(data, part)
    data = {**data, **{name: value for name, value in data[part].items() if value is not None}}
    key = data.get("dataset")
    if key not in DATASETS:
        raise DataError(f"data.dataset is {key!r}. {did_you_mean(str(key), DATASETS)}")
    return _KINDS[DATASETS[key].kind](data, key, DATASETS[key], part)


def _folder_source(data: Mapping[str, Any], key: str, info: DatasetInfo, part: str) -> FolderSource:
    """Images and masks in folders."""
    labels = label_fields(data, key, info)
    splits = split_names(data, info, part)
    folders = [folder.format(split=splits[0]) for folder in (info.image_dir, info.image_dir2, info.label_dir) if folder]
    root = find_root(data, key, ", ".join(folders[:-1]) + f" and {folders[-1]}")
    stems, images, seconds, masks = [], [], [], []
    for split in splits:
        files = find_files(data, info, root, part, split)
        stems, images = stems + files.stems, images + files.images
        seconds = None if files.images2 is None else seconds + files.images2
        masks = None if files.labels is None else masks + files.labels
    more = {} if seconds is None else {"image_path2": seconds}
    if info.depth:
        more["category_id"] = [_scene(stem, labels["classes"]) for stem in stems]
    name = f"{key} {'+'.join(splits)}"
    return FolderSource(name, **labels, stems=stems, image_paths=images, label_paths=masks, more_meta=more)


def _scene(stem: str, scenes: Sequence[str]) -> int:
    """The number of the kind of scene that a name begins with, before "_" and a number; -1 where it is none."""
    name = stem.rpartition("/")[2]
    start = next((place for place, character in enumerate(name) if character.isdigit()), len(name) + 1)
    return scenes.index(name[: start - 1]) if name[: start - 1] in scenes else -1


def _demo_source(data: Mapping[str, Any], key: str, info: DatasetInfo, part: str) -> Source:
    """Generated pictures."""
    from jaxseg.data.demo import DemoSource  # it imports this module's neighbours

    return DemoSource.from_config(data, part)


def _volume_source(data: Mapping[str, Any], key: str, info: DatasetInfo, part: str) -> Source:
    """Volumes that a dataset.json lists, which has the names of the classes, too."""
    from jaxseg.data.volumes import VolumeSource, find_volumes, read_listing

    listing = read_listing(find_root(data, key, "dataset.json"))
    info = replace(info, classes=listing.classes, label_map=listing.label_map)
    splits = split_names(data, info, part)
    files = [find_volumes(data, listing, split, part) for split in splits]
    stems, images = ([path for one in files for path in one[place]] for place in (0, 1))
    labels = None if any(one[2] is None for one in files) else [path for one in files for path in one[2]]
    return VolumeSource(
        f"{key} {'+'.join(splits)}", **label_fields(data, key, info), stems=stems, image_paths=images,
        label_paths=labels,
    )  # fmt: skip


def _record_source(data: Mapping[str, Any], key: str, info: DatasetInfo, part: str) -> Source:
    """Examples in array_record files, with the names of the classes if they are there."""
    from jaxseg.data.array_records import RecordSource, read_features

    for name, only in (("masks", "indices"), ("channels", None)):
        if data.get(name) not in (None, only):
            raise ConfigError(f"data.{name} is {data[name]!r}; {key} has RGB images and masks of indices only.")
    root = find_root(data, key, "features.json, dataset_info.json and files whose names have .array_record")
    features = read_features(root, own(data, info, "image_key"), own(data, info, "label_key"))
    info = replace(info, classes=features.classes)
    splits = split_names(data, info, part)
    return RecordSource(
        f"{key} {'+'.join(splits)}", **label_fields(data, key, info), features=features, shards=features.files(splits)
    )


# By `DatasetInfo.kind`.
_KINDS: dict[str, Callable[[Mapping[str, Any], str, DatasetInfo, str], Source]] = {
    "demo": _demo_source,
    "folder": _folder_source,
    "records": _record_source,
    "volumes": _volume_source,
}


def label_fields(data: Mapping[str, Any], key: str, info: DatasetInfo) -> dict[str, Any]:
    """What labels mean: classes, palette, ignore_index, reduce_zero_label, label_map."""
    ignore = int(own(data, info, "ignore_index"))
    palette = tuple(tuple(int(part) for part in color) for color in own(data, info, "palette"))
    try:
        label_map = {int(raw): int(new) for raw, new in dict(own(data, info, "label_map")).items()}
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"data.label_map is {data.get('label_map')!r}; it must be {{number: class index}}."
        ) from error
    if ignore != info.ignore_index and data.get("label_map") is None:
        label_map = {raw: ignore if new == info.ignore_index else new for raw, new in label_map.items()}

    classes = class_names(data.get("classes"))
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
        "reduce_zero_label": bool(own(data, info, "reduce_zero_label")),
        "label_map": label_map,
    }


def _spelling(name: str) -> str:
    """What two spellings of a name have in common."""
    return "".join(character for character in name.casefold() if character.isalnum()) or name
