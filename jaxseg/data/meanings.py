"""What `config.data` says of stored numbers, put around the source of any data set.

`masks`, `mask_colors`, `label_map` and `channels` are understood here: names of classes become labels before the files
are looked for, and the records of the source are told what LoadImage and LoadAnnotations should read.
"""

import dataclasses
import functools
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxseg.data.datasets import DATASETS, DatasetInfo
from jaxseg.data.files import class_names, split_names
from jaxseg.data.masks import color_code, mask_kind, named_classes, parse_colors, parse_label_map, stored_number
from jaxseg.errors import ConfigError, DataError

_SHOWN = 5
_PLACE = "{class}"  # in label_dir or label_suffix: a file a class
_BINARY_CLASSES = ("background", "foreground")


@dataclasses.dataclass(frozen=True)
class MeaningSource:
    """A source whose records say what is stored in their files.

    Attributes:
        source: the data set's part.
        masks: what masks hold, see `jaxseg.data.masks.KINDS`.
        meta: what is added to the meta data of every record.
        class_paths: the masks of every record, one a class, where each class has a file of its own.
    """

    source: Any
    masks: str
    meta: Mapping[str, Any]
    class_paths: Sequence[tuple[str, ...]] | None = dataclasses.field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> dict[str, Any]:
        record = self.source[index]
        meta = {**record["meta"], **self.meta}
        if self.class_paths is not None:
            meta["label_paths"] = self.class_paths[index]
            meta["label_path"] = meta["label_paths"][0]
        return {**record, "meta": meta}

    def __getattr__(self, name: str) -> Any:
        if name == "source":  # while it is unpickled
            raise AttributeError(name)
        return getattr(self.source, name)

    @property
    def mask_colors(self) -> Mapping[int, int]:
        """Label by colour; nothing where masks have none."""
        return self.meta.get("mask_colors", {})


def understood(build: Callable[..., Any]) -> Callable[..., Any]:
    """Makes of a function `build_source(data, part)` one that understands what the fields of this module mean."""

    @functools.wraps(build)
    def build_source(data: Mapping[str, Any], part: str) -> Any:
        fields = {**data, **{name: value for name, value in (data.get(part) or {}).items() if value is not None}}
        info = DATASETS.get(fields.get("dataset"))
        if info is None or not data.get(part) or fields.get("sources"):
            return build(data, part)  # which says what is wrong, or builds each of several
        kind, fixed = _fixed(fields, info)
        per_class = kind == "multi-label" and any(_PLACE in text for text in _label_places(fields, info))
        if per_class:
            fixed["label_dir"] = ""  # those files are found here
        if fixed:
            data = {**data, part: {**dict(data[part]), **fixed}}
        source = build(data, part)
        channels = fields.get("channels")
        if kind == "indices" and channels is None:
            return source
        meta: dict[str, Any] = {"masks": kind, "channels": _checked_channels(channels)}
        if kind == "colors":
            if not fields.get("mask_colors") and not (fields.get("palette") or info.palette):
                raise ConfigError("data.masks is 'colors': set data.mask_colors, {colour: class}, or a file of them.")
            meta["mask_colors"] = parse_colors(
                fields.get("mask_colors"), source.classes, source.palette, source.ignore_index
            )
            meta["class_names"] = source.classes
        paths = _class_paths(source, fields, info, part) if per_class else None
        return MeaningSource(source, kind, meta, paths)

    return build_source


def _checked_channels(channels: Any) -> int | None:
    if channels is not None and (not isinstance(channels, int) or channels < 1):
        raise ConfigError(f"data.channels is {channels!r}; it must be how many channels images have, at least 1.")
    return channels


def _fixed(fields: Mapping[str, Any], info: DatasetInfo) -> tuple[str, dict[str, Any]]:
    """What masks hold; `classes` and `label_map`, where names in them, or none, mean something.

    Raises:
        ConfigError: fields that contradict one another, or names that are no class.
    """
    colors = fields.get("mask_colors")
    kind = mask_kind(fields.get("masks"), colors)
    if kind != "indices":
        for name in ("label_map", "reduce_zero_label"):
            if fields.get(name):
                raise ConfigError(f"data.{name} is for masks of indices, but data.masks is {kind!r}; leave one out.")
    fixed: dict[str, Any] = {}
    classes = class_names(fields.get("classes"))
    known = classes or info.classes
    if not known:
        tables = {"colors": (colors, color_code), "indices": (fields.get("label_map"), stored_number)}
        known = named_classes(*tables[kind]) if kind in tables else ()
        known = known or (_BINARY_CLASSES if kind == "binary" else ())
        if known:
            fixed["classes"] = known
    if kind == "binary" and len(known) != 2:
        if len(known) != 1:
            raise ConfigError(f"data.masks is 'binary', but there are {len(known)} classes; give two, or the second.")
        fixed["classes"] = known = (_BINARY_CLASSES[0], *known)
    if fields.get("label_map"):
        ignore = fields.get("ignore_index")
        fixed["label_map"] = parse_label_map(
            fields["label_map"], info.classes or known, info.ignore_index if ignore is None else ignore
        )
    return kind, fixed


def _label_places(fields: Mapping[str, Any], info: DatasetInfo) -> tuple[str, ...]:
    folder = info.label_dir if fields.get("label_dir") is None else fields["label_dir"]
    suffix = info.label_suffix if fields.get("label_suffix") is None else fields["label_suffix"]
    return (folder, *((suffix,) if isinstance(suffix, str) else suffix))


def _class_paths(source: Any, fields: Mapping[str, Any], info: DatasetInfo, part: str) -> list[tuple[str, ...]]:
    """The masks of every record, one a class: `label_dir/STEM` + `label_suffix` with the class's name filled in.

    Raises:
        DataError: one is missing.
    """
    folder, *suffixes = _label_places(fields, info)
    root = Path(os.path.expanduser(fields.get("root") or ""))
    own = split_names(fields, info, part)
    there: dict[str, set[str]] = {}

    def find(stem: str, name: str) -> str | None:
        for split in own:
            for suffix in suffixes:
                place = folder.replace("{split}", split).replace(_PLACE, name)
                path = root / place / f"{stem}{suffix.replace(_PLACE, name)}"
                parent = str(path.parent)
                if parent not in there:  # one look at a folder instead of one at every file
                    there[parent] = set(os.listdir(parent)) if os.path.isdir(parent) else set()
                if path.name in there[parent]:
                    return str(path)
        return None

    paths, missing = [], []
    for stem in source.stems:
        found = tuple(find(stem, name) for name in source.classes)
        missing += [f"{stem} ({name})" for name, path in zip(source.classes, found, strict=True) if path is None]
        paths.append(found)
    if missing:
        listed = ", ".join(missing[:_SHOWN]) + (", ..." if len(missing) > _SHOWN else "")
        raise DataError(
            f"{source.name}: {len(missing)} of {len(paths) * len(source.classes)} masks are missing: {listed}. With "
            f"{_PLACE} in data.label_dir ({folder!r}) or data.label_suffix ({', '.join(suffixes)}) every image has a "
            "mask for every class; write an empty one where a class is not there."
        )
    return paths
