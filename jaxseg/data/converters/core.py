"""What all converters share: jobs, several processes, files that are whole or not there, going on after a stop.

A converter is a description of what its archive holds: `plan` says which file becomes which.
"""

import contextlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from jaxseg.data.converters.archives import Files, close_archives, open_inputs
from jaxseg.data.converters.jobs import Job, Report, run_all, write
from jaxseg.errors import DataError, did_you_mean

STAMP = "conversion.json"
_SHOWN = 5  # how many names or problems one message lists


@dataclass(frozen=True)
class Option:
    """A whole number that a converter can be given.

    Attributes:
        name: its name.
        default: its value otherwise; None: what `usage` says.
        usage: what it does.
    """

    name: str
    default: int | None
    usage: str


@dataclass(frozen=True)
class Converter:
    """The description of one archive.

    Attributes:
        dataset: the row of `DATASETS` that reads the result.
        title: the data set, with its paper.
        download: where it is to be had, and which archives or files.
        example: inputs, as in a command.
        out: the folder that recipes look in.
        layout: what lies there afterwards.
        plan: the jobs, of the files and the options.
        options: what can be chosen.
        expected: keys that a whole archive gives.
        counts: how many keys it gives below a folder.
        together: folders whose files have the same names.
        marker: a folder that tells that a folder is already laid out like the result, which is then made in place.
    """

    dataset: str
    title: str
    download: str
    example: tuple[str, ...]
    out: str
    layout: str
    plan: Callable[[Files, SimpleNamespace], Iterable[Job]]
    options: tuple[Option, ...] = ()
    expected: tuple[str, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    together: tuple[tuple[str, ...], ...] = ()
    marker: str = ""


def convert(
    converter: Converter,
    inputs: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    workers: int = 1,
    options: Mapping[str, int | None] | None = None,
    partial: bool = False,
    overwrite: bool = False,
    others: Mapping[str, Converter] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Converts a data set. Run again, it goes on: files that are there and whole are kept.

    Files are written under another name first, so that none is ever there by half. `conversion.json` in the folder
    says how it was made, and whether it is complete.

    Args:
        converter: what the archives hold.
        inputs: folders and archives.
        out: the folder of the result.
        workers: processes.
        options: values of the converter's options; the rest have their defaults.
        partial: take what is there, though files are missing.
        overwrite: write files anew that are there.
        others: converters by name, for the message when the archive is that of another one.
        on_progress: is told how many of all inputs are done.

    Raises:
        DataError: inputs that don't exist, are damaged or of another data set, or lack files; a folder that was made
            otherwise. Damaged files are reported together, after all others are done.
    """
    names = {option.name for option in converter.options}
    wrong = next((name for name in options or {} if name not in names), None)
    if wrong is not None:
        raise DataError(f"{converter.dataset} has no option {wrong!r}. {did_you_mean(wrong, names)}")
    chosen = {option.name: option.default for option in converter.options} | dict(options or {})
    low = next((name for name, value in chosen.items() if value is not None and value < 1), None)
    if low is not None:
        raise DataError(f"{low} is {chosen[low]}; it must be 1 or more.")

    out = Path(out).expanduser()
    try:
        jobs = _plan(converter, open_inputs(inputs), SimpleNamespace(**chosen), out, others or {})
        if not partial:
            _check_complete(converter, jobs)
        _check_stamp(converter, out, chosen)
        stamp = {"dataset": converter.dataset, "options": chosen, "complete": False}
        write(out / STAMP, _json(stamp))
        for leftover in out.rglob(".*.part"):  # of a run that was killed
            leftover.unlink(missing_ok=True)
        reports = []
        for report in run_all(jobs, out, workers, overwrite):
            reports.append(report)
            if on_progress:
                on_progress(len(reports), len(jobs))
    finally:
        close_archives()

    problems = [report.problem for report in reports if report.problem]
    if problems:
        listed = _some([f"\n  - {problem}" for problem in problems], between="")
        raise DataError(
            f"{len(problems)} of {len(jobs)} files could not be converted; run it again when they are whole, "
            f"the others are done:{listed}"
        )
    written, kept = (sum(getattr(report, name) for report in reports) for name in ("written", "kept"))
    write(out / STAMP, _json({**stamp, "complete": not partial, "files": written + kept}))
    return Report(written, kept, tuple(message for report in reports for message in report.notes))


def _some(names: Sequence[str], between: str = ", ") -> str:
    """The first few of the names, and how many more there are."""
    more = f", and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return between.join(names[:_SHOWN]) + more


def default_out(converter: Converter, inputs: Sequence[str | os.PathLike[str]]) -> Path:
    """Where the result goes if nothing else is said: beside the files it adds to, or where recipes look."""
    for given in inputs:
        folder = Path(given).expanduser()
        for root in (folder, folder / Path(converter.out).name):
            if converter.marker and (root / converter.marker).is_dir():
                return root
    return Path(converter.out)


def _plan(
    converter: Converter, files: Files, options: SimpleNamespace, out: Path, others: Mapping[str, Converter]
) -> list[Job]:
    """The jobs by their keys, in the order of the archives.

    Raises:
        DataError: there is nothing to do, or two inputs make one file.
    """
    jobs: dict[str, Job] = {}
    try:
        planned = list(converter.plan(files, options))
        if not converter.marker:  # what an earlier run made is no input, though it may lie among them
            made = tuple({os.path.abspath(out / job.key.split("/")[0]) + os.sep for job in planned})
            planned = [job for job in planned if not (job.file and job.file.plain and _is_below(job.file.store, made))]
        for job in planned:
            first = jobs.setdefault(job.key, job)
            if first is not job and not _same(first, job):
                raise DataError(f"{first.name} and {job.name} would both become {job.key}. Give one of them.")
    except DataError as error:
        if name := _looks_like(files, converter, others):
            raise DataError(f"{error} The files look like {name}: convert them with that.") from error
        raise
    if jobs:
        return list(jobs.values())
    shown = _some([file.path for file in files]) or "nothing"
    name = _looks_like(files, converter, others)
    hint = f"They look like {name}: convert them with that." if name else f"Needed: {converter.download}"
    raise DataError(f"None of these files is one of {converter.dataset}: {shown}. {hint}")


def _is_below(path: str, folders: tuple[str, ...]) -> bool:
    return os.path.abspath(path).startswith(folders)


def _same(first: Job, other: Job) -> bool:
    """Whether two jobs of one key have the same input: a file and its copy in an archive beside it."""
    if first.file is None or other.file is None:
        return False
    return (first.file.name, first.file.size) == (other.file.name, other.file.size)


def _looks_like(files: Files, converter: Converter, others: Mapping[str, Converter]) -> str | None:
    """The name of another converter that finds its files among these."""
    for name, other in others.items():
        defaults = SimpleNamespace(**{option.name: option.default for option in other.options})
        with contextlib.suppress(DataError):
            if other is not converter and next(iter(other.plan(files, defaults)), None):
                return name
    return None


def _check_complete(converter: Converter, jobs: Sequence[Job]) -> None:
    keys = {job.key for job in jobs}
    hint = "Add the archive that is missing, or take what is there with --partial."
    missing = [key for key in converter.expected if key not in keys]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(converter.expected)} files of {converter.dataset} can't be made: "
            f"{_some(missing)}. {hint}"
        )
    for folder, wanted in converter.counts.items():
        found = sum(key.startswith(f"{folder}/") for key in keys)
        if found != wanted:
            raise DataError(f"There are {found} files for {folder} of {converter.dataset}, it has {wanted}. {hint}")
    for folders in converter.together:
        names = [{key.rpartition("/")[2] for key in keys if key.rpartition("/")[0] == folder} for folder in folders]
        for folder, own in zip(folders, names, strict=True):
            lacking = sorted(set().union(*names) - own)
            if lacking:
                raise DataError(f"{folder} of {converter.dataset} lacks {len(lacking)} files: {_some(lacking)}. {hint}")


def _check_stamp(converter: Converter, out: Path, options: Mapping[str, Any]) -> None:
    try:
        stamp = json.loads((out / STAMP).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return
    except ValueError:
        stamp = {}
    stamp = stamp if isinstance(stamp, dict) else {}
    if stamp.get("dataset", converter.dataset) != converter.dataset:
        raise DataError(f"{out} holds {stamp['dataset']}, not {converter.dataset}. Give another folder with --out.")
    before = stamp.get("options", options)
    if before != options:
        name = next(name for name in {**before, **options} if before.get(name) != options.get(name))
        raise DataError(
            f"{out} was made with {name}={before.get(name)}, now it is {options.get(name)}; the files of both would "
            "mix. Give another folder with --out, or remove this one."
        )


def _json(stamp: Mapping[str, Any]) -> bytes:
    return (json.dumps(stamp, indent=1) + "\n").encode()
