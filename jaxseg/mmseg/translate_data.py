"""Data sets and transforms of an MMSegmentation config, as `config.data`."""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxseg.data.datasets import DATASETS, REFERENCE_NAMES, WITHOUT_ROW, DatasetInfo
from jaxseg.data.files import as_tuple
from jaxseg.errors import ConfigError, did_you_mean
from jaxseg.mmseg.fields import Fields, tuples
from jaxseg.mmseg.translate_transforms import READING, mixing_fields, translate_transforms

PARTS = ("train", "val", "test")
LOADING = ("num_workers", "persistent_workers", "pin_memory", "prefetch_factor", "drop_last", "collate_fn")
DATASET_FIELDS = (
    "type", "data_root", "data_prefix", "ann_file", "pipeline", "metainfo", "img_suffix", "seg_map_suffix",
    "ignore_index", "reduce_zero_label", "img_suffix2", "depth_map_suffix",
)  # fmt: skip


class Files(NamedTuple):
    """Where the files of one data set of the reference's are; folders and the split file are below the root."""

    image_dir: str
    label_dir: str
    split_file: str
    image_dir2: str = ""


class Dataset(NamedTuple):
    """One data set as the reference describes it: its fields, and where its files are."""

    kind: str
    root: str
    files: Files
    fields: dict[str, Any]  # other fields of `config.data` that are given
    transforms: tuple[dict[str, Any], ...]
    where: str
    split: str = ""  # where the files do not say it
    times: int = 1  # how often it comes in one pass


def translate_data(config: Fields, pad: Mapping[str, Any], ignore_index: int = 255) -> tuple[dict[str, Any], int]:
    """`config.data`, and how many images each device takes in a step.

    Args:
        config: The whole config; its three dataloaders are taken.
        pad: The transform that ends those of training; without a size it pads crops to their own.
        ignore_index: The label that neither loss nor metrics count.

    Raises:
        ConfigError: A field has no counterpart; names it.
    """
    from jaxseg.configs import common

    images, datasets = 1, {}
    for part in PARTS:
        loader = config.section(f"{part}_dataloader", None)
        if not loader:
            continue
        if part == "train":
            images = loader.whole("batch_size", 1)
        loader.ignore("scores are the same however many images are evaluated at a time", "batch_size")
        loader.ignore(READING, *LOADING)
        sampler = loader.section("sampler", None)
        sampler.expect("type", "InfiniteSampler", "DefaultSampler")
        if part == "train":
            sampler.expect("shuffle", True)
        sampler.ignore("the order is of config.seed in training; scores do not depend on it", "shuffle", "seed")
        sampler.ignore("no image is evaluated twice", "round_up")
        sampler.done(("type", "shuffle"))
        datasets[part] = _datasets(loader.section("dataset"), pad if part == "train" else None, ignore_index)
        loader.done(("batch_size", "dataset", "sampler", *LOADING))
    for part in ("train", "val"):
        if part not in datasets and (part == "train" or "test" not in datasets):
            raise ConfigError(f"{part}_dataloader.dataset is missing: a run here trains and evaluates")
    # Who gives one set to evaluate on means it for both.
    datasets = {
        "train": datasets["train"],
        "val": datasets.get("val", datasets.get("test")),
        "test": datasets.get("test", datasets.get("val")),
    }

    row, root, parts = _common_row(datasets), datasets["train"][0].root, {}
    for part, members in datasets.items():
        parts[part] = _together(members, row, root) or _sources(members, row, root)
    # What holds for all parts is said once.
    shared = {
        name: value
        for name, value in parts["train"].items()
        if name not in ("split", "split_file", "sources")
        and all(name in parts[part] and parts[part][name] == value for part in PARTS)
    }
    for part, fields in parts.items():
        own = {name: value for name, value in fields.items() if name not in shared}
        transforms = datasets[part][0].transforms
        parts[part] = {"split": part, "split_file": None, "sources": (), **own, "transforms": transforms}
    return common.data(row, root, **shared, **parts), images


def _datasets(fields: Fields, pad: Mapping[str, Any] | None, ignore_index: int) -> tuple[Dataset, ...]:
    """Reads one part: a data set, or several that follow one another; `pad` if it is one to train on."""
    members = _members(fields, ignore_index)
    for each in members[1:]:
        if each.transforms != members[0].transforms:
            raise ConfigError(f"{each.where}.pipeline differs from {members[0].where}.pipeline; a part has one here")
    # Only how much more often than another one comes matters, and no image is evaluated twice.
    times = math.gcd(*(each.times for each in members))
    return tuple(
        each._replace(transforms=_padded(each.transforms, pad), times=1 if pad is None else each.times // times)
        for each in members
    )


def _members(fields: Fields, ignore_index: int, outside: bool = True) -> list[Dataset]:
    """The data sets within wrappers, in order; what repeats all of them is left out."""
    kind = fields.text("type")
    if kind == "RepeatDataset":
        if outside:
            fields.ignore("training never runs out of passes", "times")
        times = fields.whole("times", 1)
        fields.ignore(READING, "lazy_init")
        inner = fields.section("dataset")
        fields.done(("dataset", "times"))
        return [each._replace(times=each.times * times) for each in _members(inner, ignore_index, outside)]
    if kind == "MultiImageMixDataset":
        fields.ignore(READING, "lazy_init")
        more = translate_transforms(mixing_fields(fields), False)
        inner = fields.section("dataset")
        fields.done(("dataset", "pipeline", "skip_type_keys"))
        return [each._replace(transforms=(*each.transforms, *more)) for each in _members(inner, ignore_index, outside)]
    if kind == "ConcatDataset":
        fields.ignore(READING, "lazy_init", "ignore_keys", "separate_eval")
        inside = [each for item in fields.sections("datasets") for each in _members(item, ignore_index, False)]
        fields.done(("datasets",))
        if not inside:
            raise ConfigError(f"{fields.name('datasets')} is empty")
        return inside
    return [_leaf(kind, fields, ignore_index)]


def _leaf(kind: str, fields: Fields, ignore_index: int) -> Dataset:
    """Reads one data set of a type."""
    if kind in WITHOUT_ROW:
        raise ConfigError(f"{fields.name('type')}={kind!r} has no counterpart here. {WITHOUT_ROW[kind]}")
    if kind not in REFERENCE_NAMES:
        hint = did_you_mean(str(kind), REFERENCE_NAMES)
        raise ConfigError(
            f"{fields.name('type')}={kind!r} is not a data set that is known here. {hint} "
            "A class of your own can be read as a BaseSegDataset, with its classes as metainfo.classes."
        )
    info = DATASETS[REFERENCE_NAMES[kind][0]]
    label = "depth_map" if info.depth else "seg_map"
    files, split = _volumes(fields) if info.kind == "volumes" else (_files(fields, info, f"{label}_path"), "")
    given = {
        name: value
        for name, value in _meta(fields.section("metainfo", None)).items()
        if value is not None and value != getattr(info, name)
    }
    # The reference's defaults of a plain data set are one suffix each.
    plain = {"image_suffix": (".jpg",), "label_suffix": (".png",)} if kind in _PLAIN else {}
    plain |= {"image_suffix2": (".jpg",)} if kind in _PLAIN and info.image_dir2 else {}
    suffixes = {"img_suffix": "image_suffix", f"{label}_suffix": "label_suffix"}
    for name, field in (suffixes | ({"img_suffix2": "image_suffix2"} if info.image_dir2 else {})).items():
        value = fields.text(name, None)
        value = plain.get(field) if value is None else (value,)
        if value is not None and value != getattr(info, field):
            given[field] = value
    if (stated := fields.whole("ignore_index", ignore_index, least=0)) not in (None, ignore_index):
        raise ConfigError(
            f"{fields.name('ignore_index')}={stated} and the evaluator's, {ignore_index}, must be equal here"
        )
    if ignore_index != info.ignore_index:
        given["ignore_index"] = ignore_index
    if fields.flag("reduce_zero_label", info.reduce_zero_label) != info.reduce_zero_label:
        given["reduce_zero_label"] = not info.reduce_zero_label
    reduce = given.get("reduce_zero_label", info.reduce_zero_label)
    transforms = translate_transforms(fields.sections("pipeline", None), reduce)
    fields.ignore(READING, "lazy_init", "serialize_data", "max_refetch", "backend_args", "file_client_args")
    fields.ignore("the part of the data says it", "test_mode")
    for name in ("indices", "filter_cfg"):
        fields.expect(name, None)
    root = fields.text("data_root", None) or "."
    root = root.rstrip("/") or "/"
    fields.done(DATASET_FIELDS)
    return Dataset(kind, root, files, given, transforms, fields.where, split)


def _files(fields: Fields, info: DatasetInfo, label_path: str) -> Files:
    """Folders and the list of names of a data set; `label_path` is what the reference calls the folder of masks."""
    # Only depths have folders of their own without being given any.
    usual = {"img_path": "images", label_path: "annotations"} if info.depth else {"img_path": "", label_path: ""}
    names = ("img_path", label_path, *(("img_path2",) if info.image_dir2 else ()))
    prefix = fields.section("data_prefix", usual)
    image_dir, label_dir, *second = (prefix.text(name, None) for name in names)
    prefix.done(names)
    # No folder is the root itself; but without a folder of masks there are none, which is "" here.
    label_dir = "" if label_dir is None else label_dir.rstrip("/") or "."
    image_dir2 = ((second[0] or "").rstrip("/") or ".") if second else ""
    return Files((image_dir or "").rstrip("/"), label_dir, fields.text("ann_file", None) or "", image_dir2)


def _volumes(fields: Fields) -> tuple[Files, str]:
    """Files of volumes, which a dataset.json lists, and the name of its list."""
    fields.expect("ann_file", "dataset.json", "./dataset.json")
    fields.ignore("dataset.json says where files are", "data_prefix")
    return Files("", "", ""), "test" if fields.flag("test_mode", False) else "training"


def _padded(transforms: tuple[dict[str, Any], ...], pad: Mapping[str, Any] | None) -> tuple[dict[str, Any], ...]:
    """Transforms of training with the padding that the preprocessing of the reference does."""
    sizing = [transform for transform in transforms if transform["type"] in _SIZING]
    last = sizing[-1] if sizing else {"type": None}
    if pad is not None and not pad.keys() & {"size", "size_divisor"} and last["type"] == "RandomCrop":
        # Without a size the reference stops at the first batch; the crop's is what its other configs give.
        pad = {**pad, "size": last["crop_size"]}
    if pad is not None and pad.keys() & {"size", "size_divisor"} and not _same_padding(pad, last):
        return (*transforms, dict(pad))
    return transforms


def _meta(fields: Fields) -> dict[str, Any]:
    """Names of the classes, and colours; None where they are not given."""
    names, colours = fields.take("classes", None), fields.items("palette", None)
    if isinstance(names, str):  # of a file
        try:
            names = [line.strip() for line in Path(names).read_text(encoding="utf-8").splitlines() if line.strip()]
        except (OSError, ValueError) as error:
            raise ConfigError(f"{fields.name('classes')}={names!r} is no file that can be read: {error}") from error
    if names is not None and not (isinstance(names, list | tuple) and all(isinstance(name, str) for name in names)):
        raise ConfigError(f"{fields.name('classes')}={names!r} must be names, or the path of a file with one a line")
    for colour in colours or ():
        if not isinstance(colour, tuple) or len(colour) != 3 or not all(type(part) is int for part in colour):
            raise ConfigError(f"{fields.name('palette')} has {colour!r}, which must be a red, a green and a blue")
    fields.done(("classes", "palette"))
    return {"classes": tuples(names), "palette": colours or None}


_SIZING = (
    "Resize", "ResizeShortestEdge", "ResizeToMultiple", "RandomResize", "RandomChoiceResize", "RandomCrop", "Pad",
    "CenterCrop", "RandomMosaic",
)  # fmt: skip
_PLAIN = tuple(kind for kind, rows in REFERENCE_NAMES.items() if rows[0] in ("FolderDataset", "FolderCDDataset"))


def _same_padding(pad: Mapping[str, Any], transform: Mapping[str, Any]) -> bool:
    return transform["type"] == "Pad" and all(transform.get(name) == pad.get(name) for name in ("size", "size_divisor"))


def _common_row(parts: Mapping[str, Sequence[Dataset]]) -> str:
    """The row of our table that all parts can be, or one that those to train on can."""
    rows = {
        part: tuple(_rows(members) or _rows(members[:1]) or REFERENCE_NAMES[members[0].kind][:1])
        for part, members in parts.items()
    }
    return next((row for row in rows["train"] if all(row in rows[part] for part in PARTS)), rows["train"][0])


def _rows(members: Sequence[Dataset]) -> dict[str, str | tuple[str, ...]]:
    """The rows that have all these data sets as splits of their own, each with the names of the splits.

    There is none where more differs between them than where their files are, or a folder is none of the row's.
    """
    first, found = members[0], {}
    if any(each._replace(files=first.files, where=first.where, split=first.split) != first for each in members):
        return {}
    for row in REFERENCE_NAMES[first.kind]:
        info = DATASETS[row]
        own = [each.split or _split(info, each.files) for each in members]
        default = DATASETS[REFERENCE_NAMES[first.kind][0]].reduce_zero_label
        fits = first.fields.get("reduce_zero_label", default) == info.reduce_zero_label
        if fits and None not in own:
            part = next((name for name in PARTS if as_tuple(info.splits.get(name, name)) == tuple(own)), None)
            found[row] = part or (own[0] if len(own) == 1 else tuple(own))
    return found


def _place(dataset: Dataset, row: str, root: str) -> dict[str, Any]:
    """What a data set has otherwise than the row that is common, at that root, but for where its files are."""
    place = {} if dataset.root == root else {"root": dataset.root}
    return place | {name: value for name, value in dataset.fields.items() if value != getattr(DATASETS[row], name)}


def _together(members: Sequence[Dataset], row: str, root: str) -> dict[str, Any] | None:
    """Fields of a part that is one data set, or some splits of it; None where it is more than that."""
    first, rows = members[0], _rows(members)
    if not rows and len(members) > 1:
        return None
    own = row if row in rows else next(iter(rows or REFERENCE_NAMES[first.kind]))
    files = {"split": rows[own]} if rows else _folders(first)
    return ({} if own == row else {"dataset": own}) | files | _place(first, own, root)


def _sources(members: Sequence[Dataset], row: str, root: str) -> dict[str, Any]:
    """Fields of a part that is made of several data sets; what all of one row have in common is said once."""
    entries = [_together([each], row, root) for each in members]
    weights = [{} if each.times == 1 else {"weight": float(each.times)} for each in members]
    common = dict(entries[0]) if not any("dataset" in entry for entry in entries) else {}
    for entry in entries[1:]:
        common = {name: value for name, value in common.items() if name in entry and entry[name] == value}
    own = [{name: value for name, value in entry.items() if name not in common} for entry in entries]
    return common | {"sources": tuple(one | weight for one, weight in zip(own, weights, strict=True))}


def _folders(dataset: Dataset) -> dict[str, Any]:
    """Folders as they are."""
    for path in dataset.files:
        if "{" in path or "}" in path:
            raise ConfigError(f"{dataset.where}: folders with brackets in their names can't be read: {path}")
    return {name: path for name, path in dataset.files._asdict().items() if path or name != "image_dir2"}


def _split(info: DatasetInfo, files: Files) -> str | None:
    """The row's own name of the split that has these files; None where no split has them."""
    names = set()
    for name in ("image_dir", "image_dir2", "split_file"):
        template, path = getattr(info, name), getattr(files, name)
        match = re.fullmatch(re.escape(template).replace(r"\{split\}", "(.+)"), path)
        if not match:
            return None
        names.update(match.groups())
    if len(names) > 1:
        return None
    for name in names or PARTS:
        if info.label_dirs.get(name, info.label_dir).format(split=name) == files.label_dir:
            return name
    return None
