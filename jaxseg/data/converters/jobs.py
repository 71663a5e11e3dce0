"""Jobs: one file of an archive, what becomes of it, written whole or not at all, by several processes."""

import contextlib
import multiprocessing
import os
import signal
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import numpy as np

from jaxseg.data.converters.archives import File
from jaxseg.errors import DataError

_CHUNK = 4  # at most this many jobs go to a process at once
_PNG_START, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"
_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"

Content = np.ndarray | bytes


class ConversionNote(UserWarning):
    """Something about the data that is no error; the report has it."""


class WriteError(DataError):
    """The disk is full, or writing is not allowed: nothing else will work either."""


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


def run_all(jobs: Sequence[Job], out: Path, workers: int, overwrite: bool) -> Iterator[Report]:
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
        except WriteError:
            raise
        except DataError as error:
            problem = str(error)
        except Exception as error:  # damaged files can surprise any library; one of many must not end the others
            problem = f"{job.name} cannot be converted: {error!r}."
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
        WriteError: the disk is full, or writing is not allowed.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise WriteError(f"Cannot write {path}: {error.strerror or error}.") from error


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
