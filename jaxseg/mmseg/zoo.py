"""The published checkpoints of MMSegmentation: which there are, and downloading them.

`zoo.json` lists them; `tools/make_zoo.py` writes it. A file is named by the recipe it was trained with, and its own
name ends in the first digits of its SHA-256, so what arrives can be checked, wherever it is from. Nothing in a file
is run or unpickled here.
"""

import contextlib
import dataclasses
import fcntl
import fnmatch
import functools
import hashlib
import http.client
import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from io import FileIO
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

from jaxseg import __version__
from jaxseg.errors import CheckpointError, ConfigError, did_you_mean

BASE_URL = "https://download.openmmlab.com/mmsegmentation"
CACHE = "~/.cache/jaxseg/checkpoints"
CHUNK = 1 << 20
TIMEOUT = 30.0  # seconds without a byte
# A download gives up when this many tries in a row brought nothing new; it waits twice as long before each.
TRIES = 4
WAIT = 0.5  # seconds
TEMPORARY = (408, 425, 429, 500, 502, 503, 504)
NOT_THERE = (403, 404, 410)  # stores of objects answer 403 for one that they do not have


@dataclasses.dataclass(frozen=True)
class ZooEntry:
    """One published checkpoint.

    Attributes:
        name: The recipe it was trained with.
        method: The folder of that recipe among MMSegmentation's configs.
        collection: The name of the method, or of the head, as published.
        dataset: The data set it was trained on, as published.
        metrics: Published scores: "mIoU" and "mIoU(ms+flip)" (with test-time augmentation), "mDice" and "Dice" (of
            the foreground), all in percent; "RMSE" in metres.
        url: Where the file lies.
        batch_size: Images a step, over all GPUs.
        memory_gb: What training took on each GPU; None: not published.
        paper: Address of the paper.
    """

    name: str
    method: str
    collection: str
    dataset: str
    metrics: dict[str, float] = dataclasses.field(hash=False)
    url: str
    batch_size: int
    memory_gb: float | None
    paper: str

    @property
    def file_name(self) -> str:
        """The name of the file, also in the cache."""
        return self.url.rpartition("/")[2]

    @property
    def sha256_prefix(self) -> str:
        """The first 8 hexadecimal digits of the file's SHA-256."""
        return self.file_name.removesuffix(".pth")[-8:]


@functools.cache
def entries() -> Mapping[str, ZooEntry]:
    """All published checkpoints by name."""
    found = {}
    table = json.loads(Path(__file__).with_name("zoo.json").read_text())
    for family in table["families"]:
        shared = {key: family[key] for key in ("method", "collection", "paper")}
        for group in family["groups"]:
            for name, address, scores, batch_size, *memory in group["checkpoints"]:
                folder, _, file = address.rpartition("/")
                path = "/".join(filter(None, (family["folder"], folder, file.replace("*", folder) + ".pth")))
                found[name] = ZooEntry(
                    name=name,
                    dataset=group["dataset"],
                    metrics=dict(zip(group["metrics"], scores, strict=True)),
                    url=f"{table['base']}/{path}",
                    batch_size=batch_size,
                    memory_gb=memory[0] if memory else None,
                    **shared,
                )
    return MappingProxyType(found)


def names(pattern: str = "*") -> list[str]:
    """Names of the checkpoints that match a pattern such as "pspnet*", sorted."""
    return sorted(fnmatch.filter(entries(), pattern))


def find(name: str) -> ZooEntry:
    """The checkpoint of a recipe.

    Args:
        name: A recipe's name, or the name of a checkpoint's file.

    Raises:
        ConfigError: No checkpoint of that name was published; names the nearest.
    """
    by_file = {entry.file_name: entry for entry in entries().values()}
    if entry := entries().get(name) or by_file.get(name):
        return entry
    hint = did_you_mean(name, by_file if name.endswith(".pth") else entries())
    raise ConfigError(f"{name}: MMSegmentation published no checkpoint of this name. {hint}")


def download(
    what: ZooEntry | str,
    *,
    cache: str | os.PathLike[str] | None = None,
    mirror: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> Path:
    """The file of a published checkpoint, downloaded unless it is in the cache.

    Its SHA-256 is compared with the digits in its name, also when it was in the cache (about a second for 1 GB); a
    damaged file is downloaded again. A download that breaks off continues where it was, in the same call and in a
    later one. Processes that want the same file wait for the one that downloads it.

    Args:
        what: An entry, or a name as for `find`.
        cache: Folder for the files; None: the environment variable JAXSEG_CACHE, or else ~/.cache/jaxseg/checkpoints.
        mirror: What stands for https://download.openmmlab.com/mmsegmentation: an http, https or file URL, or a folder.
            Below it, the file lies where it lies there, or else directly. None: the environment variable
            JAXSEG_MIRROR, or else no mirror. From a folder the file is copied into the cache.
        progress: Whether to say on stderr what is going on; on a terminal, with a progress bar.

    Raises:
        ConfigError: There is no such checkpoint, or the mirror is none of these.
        CheckpointError: The file cannot be had or stored, or what came is not the published file. The message says
            what to fetch from where, and where to put it.
    """
    entry = find(what) if isinstance(what, str) else what
    folder = Path(cache or os.environ.get("JAXSEG_CACHE") or CACHE).expanduser().absolute()
    urls = _sources(entry, mirror or os.environ.get("JAXSEG_MIRROR"))
    console = Console(stderr=True, quiet=not progress, soft_wrap=True, highlight=False, markup=False)
    path = folder / entry.file_name
    try:
        if _is_published(path, entry):
            return path
        folder.mkdir(parents=True, exist_ok=True)
        part = path.with_name(path.name + ".part")
        with _locked(part, console) as file:
            # Another process may have finished while this one waited.
            if not _is_published(path, entry):
                _Download(entry, urls, path, part, file, console).run()
                os.replace(part, path)
    except OSError as error:
        where = error.filename or folder
        raise CheckpointError(
            f"{entry.name}: cannot use {where} ({_reason(error)}). Set JAXSEG_CACHE to a folder that can be written to."
        ) from error
    return path


def _sources(entry: ZooEntry, mirror: str | os.PathLike[str] | None) -> list[str]:
    """Where to look for a file, in this order."""
    if not mirror:
        return [entry.url]
    base = os.fspath(mirror)
    if "://" not in base:
        base = Path(base).expanduser().absolute().as_uri()
    if urllib.parse.urlsplit(base).scheme not in ("http", "https", "file"):
        raise ConfigError(f"mirror={base}: an http://, https:// or file:// address, or a folder, is needed.")
    base = base.rstrip("/")
    return [base + entry.url.removeprefix(BASE_URL), f"{base}/{entry.file_name}"]


def _reason(error: BaseException) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"HTTP {error.code} {error.reason}".rstrip()
    if isinstance(error, urllib.error.URLError) and isinstance(error.reason, BaseException):
        return _reason(error.reason)
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _is_published(path: Path, entry: ZooEntry) -> bool:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest().startswith(entry.sha256_prefix)
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def _locked(part: Path, console: Console) -> Iterator[FileIO]:
    """The partial file, which no other process has at the same time; it is removed where it is left empty.

    The file is its own lock: no other file is left over, and the system releases it however a process ends.
    """
    while True:
        # Unbuffered: what a write has taken is in the file, and its error is raised by the call itself.
        with part.open("a+b", buffering=0) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                console.print(f"another process is downloading {part.stem}; waiting for it")
                fcntl.flock(file, fcntl.LOCK_EX)
            # Whoever had it before may have renamed or removed it.
            if not _lies_at(file, part):
                continue
            try:
                yield file
            finally:
                if not os.fstat(file.fileno()).st_size:
                    part.unlink(missing_ok=True)
                # Closing is not enough where a child of this process has the file, too.
                fcntl.flock(file, fcntl.LOCK_UN)
            return


def _lies_at(file: FileIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


@dataclasses.dataclass
class _Download:
    """One call's download into the partial file."""

    entry: ZooEntry
    urls: list[str]
    path: Path
    part: Path
    file: FileIO
    console: Console
    answered: bool = False  # whether a server has been reached
    total: int | None = None

    def run(self) -> None:
        """Fills the file with what was published; what else comes is thrown away, and fetched once more."""
        if self.path.exists():
            self.console.print(f"{self.path} is damaged; downloading it again")
        self.console.print(f"downloading {self.urls[0]} to {self.path.parent}")
        for again in (True, False):
            self._fill()
            size = self._size()
            self.file.seek(0)
            found = hashlib.file_digest(self.file, "sha256").hexdigest()
            if found.startswith(self.entry.sha256_prefix):
                return
            self.file.truncate(0)
            if again:
                self.console.print(f"{self.entry.file_name}: wrong bytes came (sha256 {found[:8]}); once more")
        raise CheckpointError(
            f"{self.entry.name}: {' or '.join(self.urls)} gives a file of {size} bytes that is not the published one, "
            f"twice. Expected a sha256 that begins with {self.entry.sha256_prefix}, found {found}. Set "
            f"JAXSEG_MIRROR to a good copy of {BASE_URL}, or fetch the file yourself and load it by its path."
        )

    def _fill(self) -> None:
        """Tries until everything is there, or nothing new comes any more."""
        columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
        silent = self.console.quiet or not self.console.is_terminal
        most, failures = self._size(), 0
        with Progress(*columns, console=self.console, disable=silent, transient=True) as bar:
            task = bar.add_task("", total=None)
            while True:
                try:
                    return self._receive(lambda done: bar.update(task, completed=done, total=self.total))
                except (OSError, http.client.HTTPException) as error:
                    size = self._size()
                    failures = 0 if size > most else failures + 1
                    most = max(most, size)
                    refused = isinstance(error, urllib.error.HTTPError) and error.code not in TEMPORARY
                    if refused or not self.answered or (failures == TRIES and not size):
                        self._give_up(f"cannot be downloaded from {self.urls[0]} ({_reason(error)})", error)
                    if failures == TRIES:
                        of = f" of {self.total}" if self.total else ""
                        raise CheckpointError(
                            f"{self.entry.name}: the download of {self.urls[0]} broke off ({_reason(error)}). The next "
                            f"call continues from the {size}{of} bytes that are in {self.part}."
                        ) from error
                    self.console.print(f"{self.entry.file_name}: broke off ({_reason(error)}); trying again")
                    time.sleep(WAIT * 2**failures)

    def _receive(self, show: Callable[[int], None]) -> None:
        """One try: asks for what is missing and writes what comes."""
        size = self._size()
        answer = self._open(size)
        if answer is None:
            return
        with answer:
            # There is no need to ask whether the file is still the same (If-Range): its hash tells in the end.
            if size and not (answer.status == 206 and _starts_at(answer.headers, size)):
                self.file.truncate(0)
                if answer.status == 206:
                    raise ConnectionError("the server sent another part than the one asked for")
            length = answer.headers.get("Content-Length", "")
            self.total = self._size() + int(length) if length.isdecimal() else None
            # read1 gives what has come instead of waiting for a whole chunk, so nothing is lost when no more comes.
            while chunk := answer.read1(CHUNK):
                self._write(chunk)
                show(self._size())
        if self.total is not None and self._size() < self.total:
            raise ConnectionError("the server closed the connection early")

    def _open(self, start: int) -> Any:
        """The answer of the first address that has the file; None: it has nothing beyond `start`."""
        headers = {"User-Agent": f"jaxseg/{__version__}"} | ({"Range": f"bytes={start}-"} if start else {})
        for url in self.urls:
            try:
                answer = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
                self.answered = True
                return answer
            except urllib.error.HTTPError as error:
                error.close()
                self.answered = True
                if error.code == 416 and start:
                    return None
                if error.code not in NOT_THERE:
                    raise
                last = error
            except urllib.error.URLError as error:
                # Of a folder.
                if not isinstance(error.reason, FileNotFoundError | NotADirectoryError):
                    raise
                last = error
        self._give_up(f"is not at {' or '.join(self.urls)} ({_reason(last)})", last)

    def _write(self, data: bytes) -> None:
        try:
            while data:
                data = data[self.file.write(data) :]
        except OSError as error:
            of = f" of {self.total}" if self.total else ""
            raise CheckpointError(
                f"{self.entry.name}: cannot write to {self.part} ({_reason(error)}). The next call continues from the "
                f"{self._size()}{of} bytes that are there. Make room, or set JAXSEG_CACHE to a folder elsewhere."
            ) from error

    def _size(self) -> int:
        return os.fstat(self.file.fileno()).st_size

    def _give_up(self, problem: str, error: Exception) -> NoReturn:
        raise CheckpointError(f"{self.entry.name} {problem}. {self._help()}") from error

    def _help(self) -> str:
        return (
            f"Fetch {self.entry.url} elsewhere and put it at {self.path}, or set JAXSEG_MIRROR to the address or the "
            f"folder of a copy of {BASE_URL}."
        )


def _starts_at(headers: Mapping[str, str], start: int) -> bool:
    return headers.get("Content-Range", "").startswith(f"bytes {start}-")
