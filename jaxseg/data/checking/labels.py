"""Rules of masks: what their numbers give away, class by class and file by file."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from jaxseg.data.checking.findings import Finding
from jaxseg.data.checking.look import Look, is_class
from jaxseg.data.sources import Source

DOMINANT = 0.9  # share of the labelled pixels
_RARELY = 0.1  # of masks that hold ignored pixels, where these are not the habit
_SHOWN = 8  # how many names a finding lists
_LOADED = ("unreadable", "size_mismatch", "colour_mask", "values", "loading")


def label_findings(part: str, source: Source, looks: Sequence[Look]) -> list[Finding]:
    """All that is wrong with the masks of one part."""
    found = _mask_problems(part, source, looks)
    counted = [look for look in looks if look.counts is not None]
    if not counted:
        return found
    counts = np.stack([look.counts for look in counted])
    ignored = np.array([look.pixels for look in counted]) - counts.sum(axis=1)
    several = counts.sum() > sum(look.pixels for look in counted)  # labels a pixel, so none is ignored
    if not several and _of_indices(source):
        found += _binary(part, source, counted, counts, ignored)
        found += _off_by_one(part, source, looks, counted, counts)
    if not several:
        found += _empty(part, source, counted, counts, ignored, {finding.file for finding in found})
    found += _classes(part, source, counts, several, off=any(finding.kind == "off_by_one" for finding in found))
    return found + _shared(part, counted, counts)


def binary_problem(source: Source, looks: Sequence[Look]) -> str | None:
    """Masks of 0 and 255 with two classes, where 255 is ignored: nothing could be learned, without an error."""
    counted = [look for look in looks if look.counts is not None]
    if len(source.classes) != 2 or not counted or not _of_indices(source) or sum(look.counts[1] for look in counted):
        return None
    if not any(look.counts.sum() < look.pixels for look in counted):
        return None
    return (
        f"the masks hold no pixel of {source.classes[1]!r}, only {source.classes[0]!r} and the ignored label "
        f"{source.ignore_index}: if 255 stands for {source.classes[1]!r} in them, set data.masks=binary, or "
        "label_map {255: 1}."
    )


def _mask_problems(part: str, source: Source, looks: Sequence[Look]) -> list[Finding]:
    """Files that could not be loaded, and lossy formats, which explain the rest of what is wrong with a file."""
    found = []
    failed = [look for look in looks if look.problem == "values" and not look.lossy]
    names, indices = len(source.classes), _of_indices(source)
    fix = _numbers_fix(source, looks, failed) if indices else ""
    for look in looks:
        if look.lossy:
            value = f"{look.lossy}, {look.value or 'no odd number yet'}"
            found.append(Finding("lossy_mask", part, look.label_path, value))
        elif look.problem in _LOADED:
            own_fix = {"values": fix, "unreadable": _unreadable_fix(look), "loading": look.error}.get(look.problem, "")
            own_fix = look.error if look.problem == "values" and not indices else own_fix
            found.append(Finding(look.problem, part, look.file, look.value, own_fix))
    if not indices:
        return found
    bad = {n for look in failed for n in look.numbers or {} if not is_class(n, _meta(source))}
    first = 1 if source.reduce_zero_label else 0
    if len(bad) > 1 and not source.label_map and bad == set(range(names + first, max(bad) + 1)):
        found.append(
            Finding(
                "class_count", part, None, f"{names} names, numbers up to {max(bad)}",
                f"Give {max(bad) + 1 - first} names in data.classes, or map the rest to {source.ignore_index} "
                "with data.label_map.",
            )
        )  # fmt: skip
    return found


def _unreadable_fix(look: Look) -> str:
    if not look.value.startswith("No such file"):
        return ""
    return "Add the file, or remove its partner."


def _of_indices(source: Source) -> bool:
    """Whether masks hold numbers that are classes, and not colours or bits."""
    return getattr(source, "masks", "indices") == "indices"


def _meta(source: Source) -> dict[str, object]:
    return {
        "num_classes": len(source.classes),
        "ignore_index": source.ignore_index,
        "reduce_zero_label": source.reduce_zero_label,
        "label_map": source.label_map,
    }


def _numbers_fix(source: Source, looks: Sequence[Look], failed: Sequence[Look]) -> str:
    """The remedy for numbers that are no class, from all masks together."""
    numbers = Counter()
    for look in failed:
        numbers.update(look.numbers or {})
    bad = sorted(n for n in numbers if not is_class(n, _meta(source)))
    names, ignore = len(source.classes), source.ignore_index
    if not bad or source.reduce_zero_label or source.label_map:
        return ""
    zero = 0 in numbers or any(look.counts is not None and look.counts[0] for look in looks)
    every = sorted(n for n in numbers if n != ignore)
    if names == 2 and set(bad) <= {254, 255}:
        return "Set data.masks=binary (or data.label_map = {255: 1}): the masks hold 0 and 255."
    if bad == [names] and not zero:
        return f"Set data.reduce_zero_label=True: the masks count from 1 to {names}."
    if bad == [names]:
        return (
            f"Set data.reduce_zero_label=True if 0 means nothing, data.label_map = {{{names}: {ignore}}} if {names} "
            "means nothing; else the list of classes is one too short."
        )
    if 2 < len(every) == names and len(failed) > 1:
        pairs = ", ".join(f"{number}: {index}" for index, number in enumerate(every))
        return f"If these are the classes in their order, set data.label_map = {{{pairs}}}."
    return (
        f"Allowed are 0..{names - 1} and {ignore}: give every stored number its class with data.label_map, add "
        "missing classes, or correct the file."
    )


def _binary(
    part: str, source: Source, looks: Sequence[Look], counts: np.ndarray, ignored: np.ndarray
) -> Iterable[Finding]:
    """Masks of 0 and 255, where 255 is ignored: all of them, or some among others that are right."""
    if source.ignore_index != 255 or len(source.classes) < 2 or source.reduce_zero_label or 255 in source.label_map:
        return []
    suspects = (counts[:, 1:].sum(axis=1) == 0) & (counts[:, 0] > 0) & (ignored > 0)
    others = counts[:, 1:].sum(axis=1) > 0
    if not suspects.any():
        return []
    if not others.any():
        if len(source.classes) > 2:
            return []
        value = f"{suspects.sum()} of {len(looks)} masks hold 0 and 255, none holds 1"
        fix = f"Set data.masks=binary (or data.label_map = {{255: 1}}) if 255 stands for {source.classes[1]!r}."
        return [Finding("binary_255", part, looks[int(suspects.argmax())].label_path, value, fix)]
    if (ignored[others] > 0).mean() > _RARELY:
        return []
    return [
        Finding(
            "binary_255", part, looks[i].label_path, f"0 and 255 only, 255 in {ignored[i] / looks[i].pixels:.0%} of it",
            "Store the class instead of 255, as the other masks do; 255 is ignored.", "warning",
        )
        for i in np.flatnonzero(suspects)
    ]  # fmt: skip


def _off_by_one(
    part: str, source: Source, looks: Sequence[Look], counted: Sequence[Look], counts: np.ndarray
) -> Iterable[Finding]:
    """Whether masks that count from 1 are read as if from 0, or the other way round."""
    present = counts.sum(axis=0) > 0
    if len(present) < 3 or source.label_map:
        return []
    if not source.reduce_zero_label:
        if present[0] or present[1:].sum() < 2 or any(0 in (look.numbers or {}) for look in looks):
            return []
        value = f"no mask holds 0 ({source.classes[0]!r}), others are there"
        fix = "If the masks count from 1, set data.reduce_zero_label=True and leave out the name for 0."
        return [Finding("off_by_one", part, counted[0].label_path, value, fix)]
    stored = Counter()
    for look in looks:
        stored.update(look.numbers or {})
    highest = max((n for n in stored if n != source.ignore_index), default=0)
    if present[-1] or highest != len(present) - 1 or not stored.get(0):
        return []
    share = stored[0] / sum(stored.values())
    value = f"reduce_zero_label is on, 0 is ignored ({share:.0%} of the pixels), {len(present)} never occurs"
    fix = f"If 0 is a class ({source.classes[0]!r}), set data.reduce_zero_label=False."
    return [Finding("off_by_one", part, counted[0].label_path, value, fix)]


def _classes(part: str, source: Source, counts: np.ndarray, several: bool, off: bool) -> Iterable[Finding]:
    """Classes that never occur, or nearly alone."""
    total = counts.sum(axis=0)
    if not total.sum():
        return []
    milder = "" if part == "train" else "note"
    absent = [index for index in np.flatnonzero(total == 0).tolist() if not (off and index in (0, len(total) - 1))]
    found = []
    if absent:
        names = ", ".join(f"{source.classes[index]!r} ({index})" for index in absent[:_SHOWN])
        more = f" and {len(absent) - _SHOWN} more" if len(absent) > _SHOWN else ""
        value = f"{len(absent)} of {len(total)} classes in none of {len(counts)} masks: {names}{more}"
        found.append(Finding("absent_class", part, None, value, severity=milder))
    share = total / total.sum()
    top = int(share.argmax())
    if not several and len(total) > 1 and DOMINANT < share[top] < 1:
        value = f"{source.classes[top]!r} has {share[top]:.1%} of the labelled pixels"
        found.append(Finding("dominant_class", part, None, value))
    return found


def _empty(
    part: str, source: Source, looks: Sequence[Look], counts: np.ndarray, ignored: np.ndarray, known: set[str | None]
) -> Iterable[Finding]:
    """Masks that hold no class, or the first one alone where that is the background."""
    found = []
    background = len(source.classes) == 2 or any(w in source.classes[0].casefold() for w in ("background", "nothing"))
    for look, count, left_out in zip(looks, counts, ignored, strict=True):
        file = look.label_path or look.name
        if file in known:
            continue
        if not count.any():
            found.append(Finding("empty_mask", part, file, f"only {source.ignore_index} (ignored)"))
        elif background and len(count) > 1 and not count[1:].any():
            more = f" and {source.ignore_index}" if left_out else ""
            found.append(Finding("background_only", part, file, f"only {source.classes[0]!r}{more}"))
    return found


def _shared(part: str, looks: Sequence[Look], counts: np.ndarray) -> Iterable[Finding]:
    """One mask for several images, where it has two classes or more."""
    owners: dict[bytes, list[Look]] = defaultdict(list)
    for look, count in zip(looks, counts, strict=True):
        if look.label_digest and (count > 0).sum() > 1:
            owners[look.label_digest].append(look)
    return [
        Finding("shared_mask", part, look.label_path, f"the same mask as {same[0].label_path}")
        for same in owners.values()
        for look in same[1:]
        if look.digest != same[0].digest and look.label_path != same[0].label_path
    ]
