"""A look at the data before the first step: what would fail at step 4,000 fails here, all of it at once."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxseg.data.checking.dataset import spread
from jaxseg.data.checking.findings import groups
from jaxseg.data.checking.labels import binary_problem, label_findings
from jaxseg.data.checking.look import Look, loading_steps
from jaxseg.data.checking.pictures import batching_problem, picture_findings
from jaxseg.data.checking.reading import Task, read_all
from jaxseg.data.sources import Source
from jaxseg.data.transforms import build_transforms
from jaxseg.data.transforms.base import Size, Transform
from jaxseg.errors import DataError

_SHOWN = 10  # how many problems one error lists
_THREADS = 4
# What the notes say in their own words, or an error has said.
_TOLD = ("absent_class", "binary_255", "batch")


def check_source(
    source: Source, transform_configs: Iterable[Mapping[str, Any] | Transform], *, limit: int = 1000
) -> list[str]:
    """Reads a sample of a source and works out whether the transforms can make batches of it.

    Evenly spread over the source, up to `limit` images and masks are decoded and checked: unreadable, cut
    short, of unequal sizes, a colour picture for a mask, numbers that are no class. From their sizes follows
    whether every image fills the crop of a training pipeline after its smallest possible resize, or is
    padded. `jaxseg.data.checking` looks at all files in the same way, and at more than one part.

    Returns:
        Notes that are no errors, a sentence each: what was looked at, classes that were not seen, and what
        else a check warns of.

    Raises:
        DataError: one message with all problems, up to ten, each with its file, value and remedy.
        ConfigError: transforms that cannot be built.
    """
    pipeline = build_transforms(transform_configs)
    if len(source) == 0:
        raise DataError(f"{source.name} is empty.")
    task = Task(source, loading_steps(pipeline), tuple(spread(len(source), limit)))
    # Threads, as this may be a process that has started JAX.
    (looks,) = read_all([task], workers=0, threads=_THREADS)
    sizes = Counter(look.size for look in looks if look.size)
    problems = [look.error for look in looks if look.problem]
    binary, batching = binary_problem(source, looks), batching_problem(pipeline, sizes)
    problems += [binary] if binary else []
    problems += [f"{batching[0]}: {batching[1]}"] if batching else []
    if problems:
        shown = "\n".join(f"  - {problem}" for problem in problems[:_SHOWN])
        more = f"\n  and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise DataError(
            f"{source.name}: {len(problems)} problem(s) in {len(looks)} of {len(source)} files looked "
            f"at:\n{shown}{more}\npython -m jaxseg.check, with the same --config flags, looks at all files and shows "
            "what is wrong."
        )
    findings = label_findings("", source, looks) + picture_findings("", pipeline, looks)
    warnings = [group for group in groups(findings) if group[0].severity != "note" and group[0].kind not in _TOLD]
    return _notes(source, looks, sizes) + [
        f"{source.name}: {group[0].title}{f', {len(group)} files' if len(group) > 1 else ''}: "
        f"{group[0].file or ''} ({group[0].value}). {group[0].fix}"
        for group in warnings
    ]


def _notes(source: Source, looks: Sequence[Look], sizes: Counter[Size]) -> list[str]:
    shown = ", ".join(f"{h}x{w}" for (h, w), _ in sizes.most_common(3)) + (", ..." if len(sizes) > 3 else "")
    notes = [f"{source.name}: {len(looks)} of {len(source)} files read, images of {shown} (height x width)."]
    counted = [look for look in looks if look.counts is not None]
    if counted:
        total = np.sum([look.counts for look in counted], axis=0)
        absent = [name for name, seen in zip(source.classes, total, strict=True) if seen == 0]
        if absent:
            notes.append(f"{source.name}: no pixel of {', '.join(absent)} in the files read.")
        pixels = sum(look.pixels for look in counted)
        if total.sum() < pixels / 2 and getattr(source, "masks", None) != "multi-label":
            notes.append(f"{source.name}: {1 - total.sum() / pixels:.0%} of the pixels are ignored.")
    return notes
