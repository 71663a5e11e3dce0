"""What all converters share: jobs, several processes, files that are whole or not there, going on after a stop.

A converter is a description of what its archive holds: `plan` says which file becomes which.
"""

import contextlib
import json
import multiprocessing
import os
import signal
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np

from jaxseg.data.converters.archives import File, Files, close_archives, open_inputs
from jaxseg.errors import DataError, did_you_mean

STAMP = "conversion.json"
_SHOWN = 5  # how many names or problems one message lists
_CHUNK = 4  # at most this many jobs go to a process at once
_PNG_START, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"
_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"

Content = np.ndarray | bytes


class ConversionNote(UserWarning):
    """Something about the data that is no error; the report has it."""


@dataclass(frozen=True)
class Output:
    """A file to be written.

    Attributes:
        path: below the output folder.
        make: its content: bytes, or an array [h w] or [h w 3] (RGB) that is written as PNG.
        size: its bytes, if they are known before.
    """

    path: str
    make: Callable[[], Content]
    size: int | None = None


@dataclass(frozen=True)
class Job:
    """One file of an input, and what becomes of it.

    Attributes:
        file: the input; None: `how` needs none.
        key: the path of the file that is made; of several, what their paths begin with.
        how: takes the content and the name of the input. Gives the content of the one output, or, with `several`,
            the outputs, one after another, whose content is made only when it is asked for. None: a copy.
            It goes to other processes, so it is a function of a module, or a `functools.partial` of one.
        several: whether there are several outputs.
    """

    file: File | None
    key: str
    how: Callable[[bytes, str], Any] | None = None
    several: bool = False

    @property
    def name(self) -> str:
        """What an error names."""
        return self.file.path if self.file else self.key

    def outputs(self) -> Iterator[Output]:
        """The files it makes."""
        if self.several:
            yield from self.how(self._read(), self.name)
        elif self.how is None:
            yield Output(self.key, self._read, self.file.size)
        else:
            yield Output(self.key, lambda: self.how(self._read(), self.name))

    def _read(self) -> bytes:
        return self.file.read() if self.file else b""


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


@dataclass(frozen=True)
class Report:
    """What a conversion, or a job of it, did.

    Attributes:
        written: how many files.
        kept: how many were there already.
        notes: about the data.
        problem: why a job could not be done; "" if it was.
    """

    written: int = 0
    kept: int = 0
    notes: tuple[str, ...] = ()
    problem: str = ""


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
        jobs = _plan(converter, open_inputs(inputs), SimpleNamespace(**chosen), others or {})
        if not partial:
            _check_complete(converter, jobs)
        _check_stamp(converter, out, chosen)
        stamp = {"dataset": converter.dataset, "options": chosen, "complete": False}
        write(out / STAMP, _json(stamp))
        for leftover in out.rglob(".*.part"):  # of a run that was killed
            leftover.unlink(missing_ok=True)
        reports = []
        for report in _run_all(jobs, out, workers, overwrite):
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


def _plan(converter: Converter, files: Files, options: SimpleNamespace, others: Mapping[str, Converter]) -> list[Job]:
    """The jobs by their keys, in the order of the archives.

    Raises:
        DataError: there is nothing to do, or two inputs make one file.
    """
    jobs: dict[str, Job] = {}
    try:
        for job in converter.plan(files, options):
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


def _run_all(jobs: Sequence[Job], out: Path, workers: int, overwrite: bool) -> Iterator[Report]:
    """The reports of all jobs, in their order."""
    if workers <= 1 or len(jobs) == 1:
        for job in jobs:
            yield _run(job, out, overwrite)
        return
    # Of a new interpreter: a fork of one with threads can hang.
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _begin_worker)
    try:
        chunk = max(1, min(_CHUNK, len(jobs) // (4 * workers)))
        parts = [jobs[start : start + chunk] for start in range(0, len(jobs), chunk)]
        with _interrupts_ignored():  # by the processes that this starts: Ctrl-C is the parent's to handle
            results = pool.map(_run_part, parts, [out] * len(parts), [overwrite] * len(parts))
        for reports in results:
            yield from reports
    except BrokenProcessPool as error:
        raise DataError(
            "A worker process died, perhaps for want of memory: use fewer --workers. Run again, it goes on."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def _interrupts_ignored() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _begin_worker() -> None:
    """Ends this process with the one that started it, which may be killed."""

    def wait() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _run_part(jobs: Sequence[Job], out: Path, overwrite: bool) -> list[Report]:
    return [_run(job, out, overwrite) for job in jobs]


def _run(job: Job, out: Path, overwrite: bool) -> Report:
    counts: Counter[str] = Counter()
    problem = ""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConversionNote)
        try:
            for output in job.outputs():
                path = out / _safe(output.path)
                itself = job.file is not None and job.file.plain and path.exists() and path.samefile(job.file.store)
                kept = itself or (not overwrite and is_whole(path, output.size))
                if not kept:
                    write(path, encode(output.make()))
                counts["kept" if kept else "written"] += 1
        except DataError as error:
            problem = str(error)
    notes = tuple(str(one.message) for one in caught if one.category is ConversionNote)
    return Report(**counts, notes=notes, problem=problem)


def _safe(path: str) -> str:
    """The path, if it stays in its folder."""
    parts = PurePosixPath(path).parts
    if not parts or parts[0] == "/" or ".." in parts or "\\" in path:
        raise DataError(
            f"A file of the archive would be written to {path!r}, out of the folder. Don't use this archive."
        )
    return path


def is_whole(path: Path, size: int | None = None) -> bool:
    """Whether a file is there, and neither cut short nor of another kind than its suffix says.

    Args:
        path: the file.
        size: its bytes, if they are known; otherwise the beginning and the end are looked at.
    """
    try:
        with path.open("rb") as file:
            length = os.fstat(file.fileno()).st_size
            if size is not None:
                return length == size
            start = file.read(8)
            file.seek(max(0, length - 8))
            end = file.read()
    except OSError:
        return False
    if path.suffix == ".png":
        return start == _PNG_START and end == _PNG_END
    if path.suffix == ".jpg":
        return start.startswith(_JPEG_START) and end.endswith(_JPEG_END)
    return False  # lists are small: they are written anew


def encode(content: Content) -> bytes:
    """The bytes of a file: an array becomes a PNG, of RGB where it has three channels."""
    if isinstance(content, bytes):
        return content
    picture = cv2.cvtColor(content, cv2.COLOR_RGB2BGR) if content.ndim == 3 else content
    return cv2.imencode(".png", np.ascontiguousarray(picture))[1].tobytes()


def write(path: Path, content: bytes) -> None:
    """Writes a file that is there whole or not at all.

    Raises:
        DataError: the disk is full, or writing is not allowed.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise DataError(f"Cannot write {path}: {error.strerror or error}.") from error


def note(message: str) -> None:
    """Tells the report about something in the data that is no error."""
    warnings.warn(message, ConversionNote, stacklevel=2)


def text_job(key: str, lines: Iterable[str]) -> Job:
    """A job that writes a list."""
    return Job(None, key, _Text("".join(f"{line}\n" for line in lines)))


@dataclass(frozen=True)
class _Text:
    """What is written, as a function of nothing."""

    text: str

    def __call__(self, content: bytes, name: str) -> bytes:
        return self.text.encode()
