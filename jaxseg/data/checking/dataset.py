"""The check of all parts of a recipe's data set."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from jaxseg.data.checking.findings import Finding, worst_first
from jaxseg.data.checking.folders import file_records, folder_findings
from jaxseg.data.checking.labels import label_findings
from jaxseg.data.checking.look import Look, loading_steps
from jaxseg.data.checking.pictures import copy_findings, picture_findings
from jaxseg.data.checking.reading import Task, read_all
from jaxseg.data.checking.statistics import part_statistics
from jaxseg.data.sources import Source, build_source
from jaxseg.data.transforms import Pipeline, Transform, build_transforms
from jaxseg.data.transforms.loading import LoadAnnotations, LoadImage
from jaxseg.errors import ConfigError, DataError

PARTS = ("train", "val", "test")
_NUMBERS = 100  # masks of a part whose stored numbers are noted, besides those that can't be used


@dataclass(frozen=True)
class CheckedPart:
    """One part that was read.

    Attributes:
        source: its records.
        steps: the transforms that loaded them.
        looks: what the records that were read showed.
        statistics: see `part_statistics`.
    """

    source: Source
    steps: tuple[Transform, ...]
    looks: Sequence[Look] = field(repr=False)
    statistics: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True)
class CheckedData:
    """What a check found.

    Attributes:
        parts: those that were read, by name.
        findings: worst first.
        skipped: parts that were not read, and why.
        seconds: that reading took.
    """

    parts: Mapping[str, CheckedPart]
    findings: Sequence[Finding]
    skipped: Mapping[str, str]
    seconds: float

    @property
    def histograms(self) -> dict[str, list[dict[str, Any]]]:
        """Of each part with masks, and with the classes of the first, its pixels, share and images by class."""
        classes = next(iter(self.parts.values())).source.classes
        found = {part: one.statistics.get("classes") for part, one in self.parts.items()}
        return {part: rows for part, rows in found.items() if rows and self.parts[part].source.classes == classes}

    def count(self, severity: str) -> int:
        """How many findings of a severity there are."""
        return sum(finding.severity == severity for finding in self.findings)


def check_dataset(
    config: Mapping[str, Any],
    parts: Sequence[str] = (),
    *,
    limit: int | None = None,
    workers: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> CheckedData:
    """Reads the data set of a recipe and finds what is wrong with it.

    Args:
        config: the recipe: `config.data`, and `config.model` for the number of classes of its heads.
        parts: of "train", "val", "test"; none: all that there are.
        limit: how many records of each part to read, evenly spread; None: all.
        workers: processes; None: one a core, 0: none but this one.
        progress: called with the number of records read and of all, as they are read.

    Raises:
        ConfigError: classes, palette, label map or transforms that do not fit.
        DataError: no part can be read.
    """
    sources, unpaired, skipped, findings = _build(config["data"], parts)
    pipelines = {part: build_transforms(config["data"][part]["transforms"]) for part in sources}
    tasks = [_task(source, pipelines[part], limit) for part, source in sources.items()]
    total, done, began = sum(len(task.indices) for task in tasks), 0, time.monotonic()

    def advance() -> None:
        nonlocal done
        done += 1
        progress(done, total)

    looks = dict(zip(sources, read_all(tasks, workers, advance), strict=True))
    seconds = time.monotonic() - began
    for part, source in sources.items():
        findings += label_findings(part, source, looks[part])
        findings += picture_findings(part, pipelines[part], looks[part])
    findings += copy_findings(looks)
    records = {
        part: file_records(source) or [(look.name, look.image_path, look.label_path) for look in looks[part]]
        for part, source in sources.items()
    }
    findings += folder_findings(records, unpaired)
    findings += _heads(config.get("model") or {}, sources)
    checked = {
        part: CheckedPart(source, task.steps, looks[part], part_statistics(source, looks[part]))
        for (part, source), task in zip(sources.items(), tasks, strict=True)
    }
    return CheckedData(checked, worst_first(findings), skipped, seconds)


def spread(length: int, limit: int | None) -> list[int]:
    """Up to `limit` of the numbers below `length`, evenly spread."""
    count = length if limit is None else min(limit, length)
    return [int(place) for place in np.unique(np.linspace(0, length - 1, count).round())]


def _build(
    data: Mapping[str, Any], parts: Sequence[str]
) -> tuple[dict[str, Source], dict[str, list[str]], dict[str, str], list[Finding]]:
    """Sources, images without masks, parts that are left out and why, and those that can't be read as findings."""
    sources: dict[str, Source] = {}
    unpaired: dict[str, list[str]] = {}
    skipped, findings, errors = {}, [], []
    for part in parts or PARTS:
        alone: list[str] = []
        try:
            source = build_source({**data, "unpaired": alone}, part)
            if len(source) == 0:
                raise DataError(f"{source.name} is empty.")
        except ConfigError:
            if data.get(part) is not None or parts:
                raise
            skipped[part] = f"data.{part} is not set"
            continue
        except DataError as error:
            errors.append(error)
            if part == "test" and not parts:
                skipped[part] = str(error)
            else:
                findings.append(Finding("part", part, None, str(error)))
            continue
        same = next(
            (other for other, known in sources.items() if _paths(known) and _paths(known) == _paths(source)), None
        )
        if same is not None:
            skipped[part] = f"it has the records of {same}"
            continue
        sources[part], unpaired[part] = source, alone
    if not sources:
        raise errors[0] if errors else DataError("No part of the data is set.")
    return sources, unpaired, skipped, findings


def _paths(source: Source) -> list[str | None] | None:
    records = file_records(source)
    return None if records is None else [image for _, image, _ in records]


def _task(source: Source, pipeline: Pipeline, limit: int | None) -> Task:
    """Which records of a source to look at, and how; one that is there several times, to count more, is read once.

    Where the transforms load nothing, files are read as most recipes read them.
    """
    records = file_records(source)
    indices = range(len(source))
    if records is not None and len(set(records)) < len(records):
        indices = sorted({record: index for index, record in reversed(list(enumerate(records)))}.values())
    steps = loading_steps(pipeline)
    if not steps and records:
        steps = (LoadImage(), LoadAnnotations()) if records[0][2] is not None else (LoadImage(),)
    chosen = tuple(indices[place] for place in spread(len(indices), limit))
    return Task(source, steps, chosen, frozenset(chosen[:: max(1, len(chosen) // _NUMBERS)]))


def _heads(model: Mapping[str, Any], sources: Mapping[str, Source]) -> list[Finding]:
    """Heads that have another number of classes than the data."""
    part, source = next(iter(sources.items()))
    found = []
    for name in ("decode_head", "auxiliary_head"):
        heads = model.get(name) or ()
        for head in heads if isinstance(heads, tuple | list) else (heads,):
            count = head.get("num_classes")
            if count is not None and count != len(source.classes):
                value = f"model.{name}.num_classes is {count}, {source.name} has {len(source.classes)} classes"
                fix = f"Set --config.model.{name}.num_classes={len(source.classes)}, or correct data.classes."
                found.append(Finding("class_count", part, None, value, fix))
    return found
