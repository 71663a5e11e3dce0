"""Data sets and transforms of an MMSegmentation config, as `config.data`."""

import dataclasses
import os
import posixpath
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxseg.data.datasets import DATASETS, REFERENCE_NAMES, DatasetInfo
from jaxseg.data.transforms import TRANSFORMS, build_transforms
from jaxseg.errors import ConfigError, did_you_mean
from jaxseg.mmseg.fields import Fields, tuples

PARTS = ("train", "val", "test")
READING = "how files are read is the machine's business"
LOADING = ("num_workers", "persistent_workers", "pin_memory", "prefetch_factor", "drop_last", "collate_fn")
DATASET_FIELDS = (
    "type", "data_root", "data_prefix", "ann_file", "pipeline", "metainfo", "img_suffix", "seg_map_suffix",
    "ignore_index", "reduce_zero_label",
)  # fmt: skip
# What the loader does without a transform.
PACKING = ("PackSegInputs", "DefaultFormatBundle", "ImageToTensor", "ToTensor", "Collect")


class Files(NamedTuple):
    """Where the files of one data set of the reference's are; folders and the split file are below the root."""

    image_dir: str
    label_dir: str
    split_file: str


class Dataset(NamedTuple):
    """A part of the data as the reference describes it: the fields of a data set, and where its files are."""

    kind: str
    root: str
    files: tuple[Files, ...]
    fields: dict[str, Any]  # other fields of `config.data` that are given
    transforms: tuple[dict[str, Any], ...]
    where: str


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
        datasets[part] = _dataset(loader.section("dataset"), pad if part == "train" else None, ignore_index)
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

    rows = {part: _rows(dataset) for part, dataset in datasets.items()}
    row = next((row for row in rows["train"] if all(row in rows[part] for part in PARTS)), next(iter(rows["train"])))
    root, parts = datasets["train"].root, {}
    for part, dataset in datasets.items():
        own = row if row in rows[part] else next(iter(rows[part]))
        place = {} if own == row else {"dataset": own}
        place |= {} if dataset.root == root else {"root": dataset.root}
        given = {name: value for name, value in dataset.fields.items() if value != getattr(DATASETS[own], name)}
        parts[part] = {**place, **rows[part][own], **given}
    # What holds for all parts is said once.
    shared = {
        name: value
        for name, value in parts["train"].items()
        if not name.startswith("split") and all(name in parts[part] and parts[part][name] == value for part in PARTS)
    }
    for part, fields in parts.items():
        own = {name: value for name, value in fields.items() if name not in shared}
        parts[part] = {"split": part, "split_file": None, **own, "transforms": datasets[part].transforms}
    return common.data(row, root, **shared, **parts), images


def _dataset(fields: Fields, pad: Mapping[str, Any] | None, ignore_index: int) -> Dataset:
    """Reads one part: a data set, repeated or not, or several that follow one another."""
    kind = fields.text("type")
    while kind == "RepeatDataset":
        fields.ignore("training never runs out of passes", "times", "lazy_init")
        inner = fields.section("dataset")
        fields.done()
        fields, kind = inner, inner.text("type")
    if kind == "ConcatDataset":
        fields.ignore(READING, "lazy_init", "ignore_keys", "separate_eval")
        leaves = [_leaf(leaf.text("type"), leaf, pad, ignore_index) for leaf in fields.sections("datasets")]
        fields.done()
        if not leaves:
            raise ConfigError(f"{fields.name('datasets')} is empty")
        first, *more = leaves
        for leaf in more:
            if leaf._replace(root=first.root, files=first.files, where=first.where) != first:
                raise ConfigError(f"{leaf.where} differs from {first.where} in more than where its files are")
        if any(leaf.root != first.root for leaf in more):
            leaves = [_below_here(leaf) for leaf in leaves]
        return leaves[0]._replace(files=tuple(files for leaf in leaves for files in leaf.files))
    return _leaf(kind, fields, pad, ignore_index)


def _below_here(dataset: Dataset) -> Dataset:
    """The same data set with its root in the folders of its files; no folder remains none."""
    root = dataset.root
    files = tuple(
        Files(posixpath.join(root, image_dir), *(posixpath.join(root, path) if path else "" for path in others))
        for image_dir, *others in dataset.files
    )
    return dataset._replace(root=".", files=files)


def _leaf(kind: str, fields: Fields, pad: Mapping[str, Any] | None, ignore_index: int) -> Dataset:
    """Reads one data set of a type."""
    if kind not in REFERENCE_NAMES:
        hint = did_you_mean(str(kind), REFERENCE_NAMES)
        raise ConfigError(
            f"{fields.name('type')}={kind!r} is not a data set that is known here. {hint} "
            "A class of your own can be read as a BaseSegDataset, with its classes as metainfo.classes."
        )
    info = DATASETS[REFERENCE_NAMES[kind][0]]
    prefix = fields.section("data_prefix", {"img_path": "", "seg_map_path": ""})
    image_dir, label_dir = (prefix.text(name, None) for name in ("img_path", "seg_map_path"))
    prefix.done(("img_path", "seg_map_path"))
    # No folder is the root itself; but without a folder of masks there are none, which is "" here.
    label_dir = "" if label_dir is None else label_dir.rstrip("/") or "."
    files = Files((image_dir or "").rstrip("/"), label_dir, fields.text("ann_file", None) or "")
    given = {
        name: value
        for name, value in _meta(fields.section("metainfo", None)).items()
        if value is not None and value != getattr(info, name)
    }
    # The reference's defaults of a plain data set are one suffix each.
    plain = {"image_suffix": (".jpg",), "label_suffix": (".png",)} if kind in _PLAIN else {}
    for name, field in (("img_suffix", "image_suffix"), ("seg_map_suffix", "label_suffix")):
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
    sizing = [transform for transform in transforms if transform["type"] in _SIZING]
    last = sizing[-1] if sizing else {"type": None}
    if pad is not None and not pad.keys() & {"size", "size_divisor"} and last["type"] == "RandomCrop":
        # Without a size the reference stops at the first batch; the crop's is what its other configs give.
        pad = {**pad, "size": last["crop_size"]}
    if pad is not None and pad.keys() & {"size", "size_divisor"} and not _same_padding(pad, last):
        transforms = (*transforms, dict(pad))
    fields.ignore(READING, "lazy_init", "serialize_data", "max_refetch", "backend_args", "file_client_args")
    fields.ignore("the part of the data says it", "test_mode")
    for name in ("indices", "filter_cfg"):
        fields.expect(name, None)
    root = fields.text("data_root", None) or "."
    root = root.rstrip("/") or "/"
    fields.done(DATASET_FIELDS)
    return Dataset(kind, root, (files,), given, transforms, fields.where)


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
)  # fmt: skip
_PLAIN = tuple(kind for kind, rows in REFERENCE_NAMES.items() if rows == ("FolderDataset",))


def _same_padding(pad: Mapping[str, Any], transform: Mapping[str, Any]) -> bool:
    return transform["type"] == "Pad" and all(transform.get(name) == pad.get(name) for name in ("size", "size_divisor"))


def _rows(dataset: Dataset) -> dict[str, dict[str, Any]]:
    """The rows of our table that the data set can be, each with what says where its files are.

    A row whose folders fit needs no more than a split; else the first row is taken, with the folders as they are.
    """
    found = {}
    for row in REFERENCE_NAMES[dataset.kind]:
        info = DATASETS[row]
        own = [_split(info, files) for files in dataset.files]
        default = DATASETS[REFERENCE_NAMES[dataset.kind][0]].reduce_zero_label
        fits = dataset.fields.get("reduce_zero_label", default) == info.reduce_zero_label
        if fits and None not in own:
            part = next((name for name in PARTS if _as_tuple(info.splits.get(name, name)) == tuple(own)), None)
            found[row] = {"split": part or (own[0] if len(own) == 1 else tuple(own))}
    if found:
        return found
    row = REFERENCE_NAMES[dataset.kind][0]
    return {row: _folders(dataset, DATASETS[row])}


def _folders(dataset: Dataset, info: DatasetInfo) -> dict[str, Any]:
    """Folders as they are; of several data sets with "{split}" for the text in which their folders differ."""
    for path in (path for files in dataset.files for path in files):
        if "{" in path or "}" in path:
            raise ConfigError(f"{dataset.where}: folders with brackets in their names can't be read: {path}")
    if len(dataset.files) == 1:
        return dataset.files[0]._asdict()
    splits = tuple(f"part {i}" for i in range(len(dataset.files)))  # where no folder differs
    fields: dict[str, Any] = {}
    for name, paths in zip(Files._fields, zip(*dataset.files, strict=True), strict=True):
        template, middles = _template(paths)
        if "{split}" in template:
            if any("{split}" in other for other in fields.values()) and middles != splits:
                raise ConfigError(
                    f"{dataset.where}: folders that differ otherwise for images than for masks (or names) can't be "
                    f"concatenated: {', '.join(paths)}"
                )
            splits = middles
        fields[name] = template
    if any(split in info.splits for split in splits):
        raise ConfigError(f"{dataset.where}: data sets of other folders than usual can't be concatenated")
    return {"split": splits, **fields}


def _template(paths: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """What paths have in common, with "{split}" for the rest; and the rest of each."""
    if len(set(paths)) == 1:
        return paths[0], ()
    start = os.path.commonprefix(paths)  # noqa: RUF071, letters are what is compared
    rests = [path[len(start) :] for path in paths]
    end = os.path.commonprefix([rest[::-1] for rest in rests])[::-1]  # noqa: RUF071
    return f"{start}{{split}}{end}", tuple(rest[: len(rest) - len(end)] for rest in rests)


def _split(info: DatasetInfo, files: Files) -> str | None:
    """The row's own name of the split that has these files; None where no split has them."""
    names = set()
    for template, path in ((info.image_dir, files.image_dir), (info.split_file, files.split_file)):
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


def _as_tuple(value: str | Sequence[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def translate_transforms(pipeline: Sequence[Fields], reduce_zero_label: bool) -> tuple[dict[str, Any], ...]:
    """Transforms of the reference's, as ours.

    Args:
        pipeline: `type` and fields of each.
        reduce_zero_label: The data set's; a LoadAnnotations that says the same says nothing.

    Raises:
        ConfigError: A transform or a field of one has no counterpart here, or a value can't be.
    """
    translated = []
    for fields in pipeline:
        kind = fields.text("type")
        if kind in PACKING:
            fields.ignore_all_but((), "records carry what they need")
            fields.ignored[fields.where] = f"batches are put together without {kind}"
            continue
        if kind not in TRANSFORMS:
            raise ConfigError(
                f"{fields.name('type')}={kind!r} is not a transform of this version. {did_you_mean(kind, TRANSFORMS)}"
            )
        transform = _transform(kind, fields, reduce_zero_label)
        try:
            build_transforms([transform])
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{fields.where}: {error}") from error
        translated.append(transform)
    return tuple(translated)


def _transform(kind: str, fields: Fields, reduce_zero_label: bool) -> dict[str, Any]:
    """One transform of a known type."""
    fields.ignore(READING, "backend_args", "file_client_args", "ignore_empty")
    module = TRANSFORMS[kind]
    if module.__name__ in ("LoadImage", "LoadAnnotations"):
        fields.expect("imdecode_backend", "cv2", "pillow")
        fields.expect("to_float32", False)
    if module.__name__ == "LoadAnnotations":
        given = fields.flag("reduce_zero_label", None)
        out = {} if given in (None, reduce_zero_label) else {"reduce_zero_label": given}
        fields.done(("reduce_zero_label",))
        return {"type": "LoadAnnotations", **out}
    if kind in ("Resize", "RandomResize", "RandomChoiceResize"):
        fields.expect("backend", "cv2")
        fields.expect("interpolation", "bilinear")
        fields.ignore("there are no boxes to clip", "clip_object_border")
    if kind == "RandomResize":
        fields.expect("resize_type", "Resize")
    if kind == "ResizeToMultiple":
        fields.expect("interpolation", None, "bilinear")
    if kind == "Pad":
        return _pad(fields)
    if kind == "RandomFlip" and "prob" not in fields:
        raise ConfigError(f"{fields.name('prob')} is missing")
    out = _choices(fields) if kind == "RandomChoiceResize" else {}
    out |= fields.rest()
    known = [field.name for field in dataclasses.fields(module) if field.init]
    for name in out:
        if name not in known:
            raise ConfigError(f"{fields.name(name)}={out[name]!r} has no counterpart here. {did_you_mean(name, known)}")
    return {"type": module.__name__, **out}


def _choices(fields: Fields) -> dict[str, Any]:
    """The scales of a RandomChoiceResize: a list has several, and anything else is one."""
    scales = fields.take("scales")
    return {"scales": tuples(scales) if isinstance(scales, list) else (scales,)}


def _pad(fields: Fields) -> dict[str, Any]:
    """Pad: its size is (width, height) in the reference and (height, width) here; its colours are BGR there."""
    fields.expect("padding_mode", "constant")
    fields.expect("pad_to_square", False)
    size, divisor = fields.pair("size", None), fields.whole("size_divisor", None)
    value = fields.take("pad_val", 0)
    values = Fields(value if isinstance(value, Mapping) else {"img": value}, fields.name("pad_val"), fields.ignored)
    image, label = tuples(values.take("img", 0)), values.whole("seg", 255, least=0)
    image = image[::-1] if isinstance(image, tuple) else image
    values.done(("img", "seg"))
    fields.done(("size", "size_divisor", "pad_val"))
    target = {} if size is None else {"size": size[::-1]}
    target |= {} if divisor is None else {"size_divisor": divisor}
    return {"type": "Pad", **target, "pad_val": image, "seg_pad_val": label}
