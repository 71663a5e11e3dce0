"""A look at the data before the first step: what would fail at step 4,000 fails here, all of it at once."""

from collections import Counter
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxseg.data.sources import Source
from jaxseg.data.transforms import Pipeline, build_transforms
from jaxseg.data.transforms.base import Size, Transform
from jaxseg.data.transforms.geometric import RandomCrop
from jaxseg.data.transforms.loading import LoadAnnotations, LoadImage
from jaxseg.data.transforms.resize import RandomResizeCrop
from jaxseg.errors import DataError

_SHOWN = 10  # how many problems one error lists
_THREADS = 4


@dataclass(frozen=True)
class _Finding:
    """What one file showed: its size and its count of pixels a class, or the problem."""

    size: Size | None = None
    counts: np.ndarray | None = None
    problem: str | None = None


def check_source(
    source: Source, transform_configs: Iterable[Mapping[str, Any] | Transform], *, limit: int = 1000
) -> list[str]:
    """Reads a sample of a source and works out whether the transforms can make batches of it.

    Evenly spread over the source, up to `limit` images and masks are decoded and checked: unreadable, cut
    short, of unequal sizes, a colour picture for a mask, numbers that are no class. From their sizes follows
    whether every image fills the crop of a training pipeline after its smallest possible resize, or is
    padded.

    Returns:
        Notes that are no errors, a sentence each: what was looked at, classes that were not seen.

    Raises:
        DataError: one message with all problems, up to ten, each with its file, value and remedy.
        ConfigError: transforms that cannot be built.
    """
    pipeline = build_transforms(transform_configs)
    if len(source) == 0:
        raise DataError(f"{source.name} is empty.")
    count = min(limit, len(source))
    indices = [int(i) for i in np.unique(np.linspace(0, len(source) - 1, count).round())]
    loading = tuple(step for step in pipeline.steps if isinstance(step, LoadImage | LoadAnnotations))
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="check_source") as pool:
        findings = list(pool.map(lambda index: _look_at(source, index, loading), indices))

    problems = [finding.problem for finding in findings if finding.problem]
    sizes = Counter(finding.size for finding in findings if finding.size)
    problems += _binary_problem(source, findings)
    if pipeline.random and sizes:
        problems += _batching_problems(pipeline, sizes)
    if problems:
        shown = "\n".join(f"  - {problem}" for problem in problems[:_SHOWN])
        more = f"\n  and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise DataError(
            f"{source.name}: {len(problems)} problem(s) in {len(indices)} of {len(source)} files looked "
            f"at:\n{shown}{more}"
        )
    return _notes(source, findings, sizes)


def _look_at(source: Source, index: int, loading: tuple[Transform, ...]) -> _Finding:
    rng = np.random.default_rng(0)
    try:
        record = source[index]
        # Masks are compared with the image as it was read, so the image always comes first here.
        for step in sorted(loading, key=lambda step: isinstance(step, LoadAnnotations)):
            record = step(record, rng)
    except DataError as error:
        return _Finding(problem=str(error))
    label = record.get("label")
    counts = None
    if label is not None:
        counts = np.bincount(label[label != source.ignore_index].ravel(), minlength=len(source.classes))
    image = record.get("image")
    return _Finding(size=None if image is None else tuple(image.shape[:2]), counts=counts)


def _batching_problems(pipeline: Pipeline, sizes: Counter[Size]) -> list[str]:
    """Whether a training pipeline gives images of more than one size, or less than its crop."""
    ends = {end for size in sizes for end in pipeline.sizes(size)}
    crop = next((c for c in map(_crop_size, pipeline.steps) if c is not None), None)
    if len(ends) == 1 and (crop is None or not _less(min(ends), crop)):
        return []
    low = min(ends, key=lambda end: end[0] * end[1])
    high = max(ends, key=lambda end: end[0] * end[1])
    pad = "{'type': 'Pad', 'size': " + f"{crop or high}" + "}"
    if crop is None:
        return [
            f"after the transforms images are between {low} and {high} (h, w), but a batch needs one size: "
            f"add a RandomCrop, a Resize without keep_ratio, or {pad} at the end."
        ]
    before = _before_crop(pipeline)
    small = [size for size in sizes if _less(before.sizes(size)[0], crop)]
    never = all(_less(before.sizes(size)[1], crop) for size in sizes)
    which = "every image" if never else f"{sum(sizes[s] for s in small)} of {sum(sizes.values())} images"
    example = small[0] if small else next(iter(sizes))
    smallest, largest = before.sizes(example)
    reach = "is resized to" if smallest == largest else f"is resized to between {smallest} and"
    return [
        f"crop_size {crop} (h, w) is larger than {which}{'' if never else ' can be'} after resizing: one of "
        f"{example} {reach} {largest}. Add {pad} after the crop (with pad_val = the mean colour), or reduce "
        "crop_size."
    ]


def _less(size: Size, crop: Size) -> bool:
    return size[0] < crop[0] or size[1] < crop[1]


def _crop_size(step: Transform) -> Size | None:
    if isinstance(step, RandomResizeCrop):
        return step.crop.crop_size
    return step.crop_size if isinstance(step, RandomCrop) else None


def _before_crop(pipeline: Pipeline) -> Pipeline:
    steps: list[Transform] = []
    for step in pipeline.steps:
        if isinstance(step, RandomCrop):
            break
        steps.append(step.resize if isinstance(step, RandomResizeCrop) else step)
        if isinstance(step, RandomResizeCrop):
            break
    return Pipeline(tuple(steps))


def _binary_problem(source: Source, findings: list[_Finding]) -> list[str]:
    """Masks of 0 and 255 with two classes, where 255 is ignored: nothing could be learned, without an error."""
    counts = [finding.counts for finding in findings if finding.counts is not None]
    if len(source.classes) != 2 or not counts or np.sum(counts, axis=0)[1]:
        return []
    if not any(finding.size and finding.counts.sum() < np.prod(finding.size) for finding in findings):
        return []
    return [
        f"the masks hold no pixel of {source.classes[1]!r}, only {source.classes[0]!r} and the ignored label "
        f"{source.ignore_index}: if 255 stands for {source.classes[1]!r} in them, set label_map {{255: 1}}."
    ]


def _notes(source: Source, findings: list[_Finding], sizes: Counter[Size]) -> list[str]:
    shown = ", ".join(f"{h}x{w}" for (h, w), _ in sizes.most_common(3)) + (", ..." if len(sizes) > 3 else "")
    notes = [f"{source.name}: {len(findings)} of {len(source)} files read, images of {shown} (height x width)."]
    counts = [finding.counts for finding in findings if finding.counts is not None]
    if counts:
        total = np.sum(counts, axis=0)
        absent = [name for name, seen in zip(source.classes, total, strict=True) if seen == 0]
        if absent:
            notes.append(f"{source.name}: no pixel of {', '.join(absent)} in the files read.")
        pixels = sum(size[0] * size[1] for size in sizes.elements())
        if total.sum() < pixels / 2:
            notes.append(f"{source.name}: {1 - total.sum() / pixels:.0%} of the pixels are ignored.")
    return notes
