"""Examples in array_record files, as TensorFlow Datasets prepares them; read without TensorFlow.

`root` is the folder of a version, with features.json, dataset_info.json and files such as
`NAME-train.array_record-00000-of-00008`.
"""

import functools
import io
import json
import math
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from jaxseg.data.datasets import LABEL_KEYS, Color
from jaxseg.data.tf_example import Feature, parse_example
from jaxseg.data.transforms.base import Record, Size
from jaxseg.data.transforms.loading import decode_image, decode_mask, to_classes
from jaxseg.errors import ConfigError, DataError, did_you_mean

_NAMES = ("file_name", "filename", "image/filename", "image_name", "image_id", "id")  # of what an example is called
_SPLIT = re.compile(r"(\w+)(?:\[(-?\d+%?)?:(-?\d+%?)?\])?")
_ORIENTATION, _TURNED = 0x0112, 5  # of EXIF: from 5 on, height and width change places


class Shard(NamedTuple):
    """Some examples of one file, as array_record's reader takes it."""

    filename: str
    skip: int
    take: int
    examples_in_shard: int


@dataclass(frozen=True)
class Features:
    """What the two JSON files say.

    Attributes:
        root: the folder.
        image: the name of the image, and how it is stored.
        label: the same of the mask; None where there is none.
        classes: the names that come along with the mask; () where there are none.
        splits: the files of each split, in order, with the number of examples in each.
    """

    root: Path
    image: tuple[str, Mapping[str, Any]]
    label: tuple[str, Mapping[str, Any]] | None
    classes: tuple[str, ...]
    splits: Mapping[str, Sequence[tuple[str, int]]] = field(repr=False)

    def files(self, splits: Sequence[str]) -> tuple[Shard, ...]:
        """The files of splits, each a name such as "train", or a part of one: "train[:80%]", "test[100:200]".

        Raises:
            DataError: no such split, a file that is missing, nothing selected.
        """
        return tuple(shard for split in splits for shard in self._files_of(split))

    def _files_of(self, split: str) -> list[Shard]:
        match = _SPLIT.fullmatch(split)
        if match is None or match[1] not in self.splits:
            raise DataError(f"{self.root} has no split {split!r}. {did_you_mean(split, self.splits)}")
        files = self.splits[match[1]]
        missing = [name for name, _ in files if not (self.root / name).is_file()]
        if missing:
            raise DataError(f"{self.root} lacks {len(missing)} of {len(files)} files of {split!r}: {missing[0]}, ...")
        total = sum(count for _, count in files)
        start, stop = _place(match[2], total, 0), _place(match[3], total, total)
        if start >= stop:
            raise DataError(f"{self.root}: the split {split!r} selects nothing of its {total} examples.")
        shards, before = [], 0
        for name, count in files:
            first, last = max(start - before, 0), min(stop - before, count)
            if first < last:
                shards.append(Shard(str(self.root / name), first, last - first, count))
            before += count
        return shards


def _place(text: str | None, total: int, default: int) -> int:
    """The number of an example that a bound of a slice means."""
    if text is None:
        return default
    number = int(text.removesuffix("%"))
    place = math.floor(total * number / 100 + 0.5) if text.endswith("%") else number
    return min(max(place + total if place < 0 else place, 0), total)


def read_features(root: Path, image_key: str, label_key: str) -> Features:
    """Reads the two JSON files of a prepared data set.

    Args:
        root: the folder of a version.
        image_key: the name of the image in an example.
        label_key: the same of the mask; "" for the first of `LABEL_KEYS` that there is.

    Raises:
        DataError: a file is missing or says something else; files in another format.
        ConfigError: no feature of that name, or one that is no picture.
    """
    info, content = _read(root, "dataset_info.json"), _read(root, "features.json")
    if info.get("fileFormat") != "array_record":
        raise DataError(
            f"{root} holds files of the format {info.get('fileFormat', 'tfrecord')!r}; prepare it with "
            "builder.download_and_prepare(file_format='array_record')."
        )
    features = content.get("featuresDict", {}).get("features", {})
    pictures = {name: stored for name, value in features.items() if (stored := _stored(value)) is not None}
    if image_key not in pictures:
        raise ConfigError(f"data.image_key is {image_key!r}. {root} has {_listed(image_key, features, pictures)}")
    if label_key and label_key not in pictures:
        raise ConfigError(f"data.label_key is {label_key!r}. {root} has {_listed(label_key, features, pictures)}")
    label_key = label_key or next((name for name in LABEL_KEYS if name in pictures and name != image_key), "")
    names = root / f"{label_key.replace('/', '-')}.labels.txt"
    lines = names.read_text(encoding="utf-8").splitlines() if label_key and names.is_file() else ()
    splits = {split["name"]: _split_files(info, split) for split in info.get("splits", ())}
    return Features(
        root,
        (image_key, pictures[image_key]),
        (label_key, pictures[label_key]) if label_key else None,
        tuple(line.strip() for line in lines if line.strip()),
        splits,
    )


def _read(root: Path, name: str) -> dict[str, Any]:
    path = root / name
    if not path.is_file():
        below = sorted(inner.parent.relative_to(root).as_posix() for inner in root.glob(f"*/**/{name}"))
        hint = f" Give one of the folders below it: {', '.join(below[:5])}." if below else ""
        raise DataError(f"{root} (data.root) has no {name}: it is no data set of TensorFlow Datasets.{hint}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path} is not valid JSON: {error}.") from error
    if not isinstance(content, dict):
        raise DataError(f"{path} holds no description of a data set.")
    return content


def _stored(feature: Mapping[str, Any]) -> dict[str, Any] | None:
    """How a feature that can be a picture is stored; None for one that can't."""
    if "image" in feature:
        return {"kind": "image"}
    tensor = feature.get("tensor")
    sides = [int(side) for side in (tensor or {}).get("shape", {}).get("dimensions", ())]
    if len(sides) not in (2, 3):
        return None
    return {"kind": tensor.get("encoding", "none"), "dtype": tensor["dtype"], "shape": tuple(sides)}


def _listed(name: str, features: Mapping[str, Any], pictures: Mapping[str, Any]) -> str:
    known = f"no feature {name!r}" if name not in features else f"no picture {name!r}"
    return f"{known}. {did_you_mean(name, pictures)}"


def _split_files(info: Mapping[str, Any], split: Mapping[str, Any]) -> list[tuple[str, int]]:
    lengths = [int(length) for length in split.get("shardLengths", ())]
    template = split.get("filepathTemplate", "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}")
    said = {"{DATASET}": info["name"], "{SPLIT}": split["name"], "{FILEFORMAT}": "array_record"}
    files = []
    for number, length in enumerate(lengths):
        shard = {
            "{SHARD_X_OF_Y}": f"{number:05d}-of-{len(lengths):05d}",
            "{SHARD_INDEX}": f"{number:05d}",
            "{NUM_SHARDS}": f"{len(lengths):05d}",
        }
        name = functools.reduce(lambda text, pair: text.replace(*pair), (said | shard).items(), template)
        files.append((name, length))
    return files


@dataclass(frozen=True)
class RecordSource:
    """Pictures and masks in array_record files; records come with image and label.

    Attributes:
        name: the data set's and the part's, for messages.
        features: what is in an example.
        shards: the files.
    """

    name: str
    classes: tuple[str, ...]
    palette: tuple[Color, ...]
    ignore_index: int
    reduce_zero_label: bool
    label_map: dict[int, int]
    features: Features = field(repr=False)
    shards: tuple[Shard, ...] = field(repr=False)

    def __len__(self) -> int:
        return sum(shard.take for shard in self.shards)

    def __getitem__(self, index: int) -> Record:
        example, where = self._example(index)
        meta = {
            "name": _name(example) or f"{index:06d}",
            "image_path": None,
            "label_path": None,
            "num_classes": len(self.classes),
            "ignore_index": self.ignore_index,
            "reduce_zero_label": self.reduce_zero_label,
            "label_map": self.label_map,
        }
        image = _picture(example, *self.features.image, where, decode_image)
        if image.dtype != np.uint8 or image.ndim != 3:
            raise DataError(f"{where}: the image is {image.dtype} {image.shape}; it must be uint8 [height width 3].")
        record = {"image": image, "meta": meta | {"original_size": image.shape[:2]}}
        if self.features.label is None:
            return record
        mask = _picture(example, *self.features.label, where, decode_mask)
        mask = mask[..., 0] if mask.ndim == 3 and mask.shape[2] == 1 else mask
        if mask.shape != image.shape[:2]:
            raise DataError(f"{where}: the mask is {mask.shape}, but its image {image.shape[:2]} (height, width).")
        return record | {"label": to_classes(mask, where, meta)}

    def size(self, index: int) -> Size:
        """Height and width of an image, of its header."""
        example, where = self._example(index)
        name, stored = self.features.image
        if stored["kind"] != "image":
            return _shape(example, name, stored)[:2]
        try:
            with Image.open(io.BytesIO(_bytes(example, name, where))) as picture:
                turned = picture.getexif().get(_ORIENTATION, 1) >= _TURNED
                return picture.size if turned else picture.size[::-1]
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise DataError(f"{where}: the image {name!r} cannot be decoded: {error}.") from error

    def _example(self, index: int) -> tuple[dict[str, Feature], str]:
        shard, inner = None, index
        for shard in self.shards if index >= 0 else ():
            if inner < shard.take:
                break
            inner -= shard.take
        else:
            raise IndexError(f"{self.name} has {len(self)} examples, asked for number {index}")
        where = f"{shard.filename}, example {shard.skip + inner}"
        try:
            content = self._reader[index]
        except (OSError, ValueError, RuntimeError, IndexError) as error:
            raise DataError(f"{where} cannot be read: {error}. Copy or prepare the file again.") from error
        return parse_example(content, where), where

    @functools.cached_property
    def _reader(self) -> Any:
        try:
            from array_record.python.array_record_data_source import ArrayRecordDataSource  # comes with Grain
        except ImportError as error:  # but not on every system
            raise DataError(f"{self.name} needs the package array_record to be read: {error}.") from error
        return ArrayRecordDataSource(self.shards)


def _name(example: Mapping[str, Feature]) -> str:
    values = next((example[name] for name in _NAMES if isinstance(example.get(name), list) and example[name]), [b""])
    return values[0].decode(errors="replace")


def _bytes(example: Mapping[str, Feature], name: str, where: str) -> bytes:
    values = example.get(name)
    if not isinstance(values, list) or len(values) != 1:
        raise DataError(f"{where}: {name!r} is not one picture.")
    return values[0]


def _shape(example: Mapping[str, Feature], name: str, stored: Mapping[str, Any]) -> tuple[int, ...]:
    """The sides of an array; those that differ are stored along with it."""
    given = example.get(f"{name}/shape")
    return stored["shape"] if given is None else tuple(int(side) for side in given)


def _picture(example: Mapping[str, Feature], name: str, stored: Mapping[str, Any], where: str, decode: Any) -> Any:
    """A picture that is stored as a file, or as an array, packed or not."""
    if stored["kind"] == "image":
        return decode(_bytes(example, name, where), f"{where}, {name!r}")
    key = name if name in example else f"{name}/value"
    try:
        if stored["kind"] == "none":
            numbers = np.asarray(example[key]).astype(stored["dtype"])
        else:
            content = _bytes(example, key, where)
            content = zlib.decompress(content) if stored["kind"] == "zlib" else content
            numbers = np.frombuffer(content, stored["dtype"])
        return numbers.reshape(_shape(example, name, stored))
    except (KeyError, TypeError, ValueError, zlib.error) as error:
        raise DataError(f"{where}: the array {name!r} cannot be read: {error}.") from error
