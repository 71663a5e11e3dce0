"""Files as they were downloaded: folders, zip and tar archives, read in place.

Nothing is extracted: a member is read when it is asked for, so what an archive calls its members never becomes a path
on this machine. Names that would lead out of a folder are refused all the same, with the archive.
"""

import bz2
import gzip
import lzma
import os
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from jaxseg.errors import DataError, did_you_mean

ARCHIVE_SUFFIXES = (".zip", ".tar", ".tgz", ".tar.gz", ".tbz2", ".tar.bz2", ".txz", ".tar.xz")
MAX_BYTES = 2 << 30  # of one file, unpacked; the largest that a converter reads is a few hundred megabytes
_MAX_OPEN = 8  # archives at a time
_BOMB_BYTES, _BOMB_RATIO = 256 << 20, 500  # label maps shrink a hundredfold; that much more is no data
_OPENERS = ((b"\x1f\x8b", gzip.open), (b"BZh", bz2.open), (b"\xfd7zXZ", lzma.open))
_OTHER_FORMATS = ((b"7z\xbc\xaf\x27\x1c", "a 7z archive"), (b"Rar!", "a RAR archive"))
_NOISE = re.compile(r"(^|/)(__MACOSX/|\.|Thumbs\.db$)")


@dataclass(frozen=True)
class File:
    """One file of an input.

    Attributes:
        path: where it lies, for people and for patterns: the name of the folder or archive that was given, then
            what follows below it, archives within folders being folders.
        size: its bytes, unpacked.
        store: the file on disk that holds it: itself, or an archive.
        member: its name within a zip archive; "" otherwise.
        offset: where it begins within an unpacked tar archive; -1 otherwise.
    """

    path: str
    size: int
    store: str
    member: str = ""
    offset: int = -1

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rsplit("/", 1)[-1]

    @property
    def plain(self) -> bool:
        """Whether it lies on disk as it is."""
        return not self.member and self.offset < 0

    def read(self) -> bytes:
        """The content, whole.

        Raises:
            DataError: it is damaged, cut short, or too large to be data.
        """
        if self.size > MAX_BYTES:
            raise DataError(f"{self.path} has {self.size} bytes, more than the {MAX_BYTES} that one file may have.")
        try:
            if self.member:
                content = _open_store(self.store, zipfile.ZipFile).read(self.member)
            elif self.offset >= 0:
                stream = _open_store(self.store, _open_tar)
                stream.seek(self.offset)
                content = stream.read(self.size)
            else:
                content = Path(self.store).read_bytes()
        except (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, NotImplementedError) as error:
            raise DataError(f"{self.path} cannot be read: {error}. Download {self.store} again.") from error
        if len(content) != self.size:
            raise DataError(f"{self.path} is cut short: {len(content)} of {self.size} bytes.")
        return content

    def words(self) -> list[str]:
        """The words of a text: of a list with one name a line, the names."""
        return self.read().decode(errors="replace").split()


class Files(Sequence[File]):
    """All files of the inputs of a conversion, those on disk first, then those in archives, in the archives' order."""

    def __init__(self, files: Iterable[File]):
        self._files = sorted(files, key=lambda file: not file.plain)  # keeps the order otherwise

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> File:
        return self._files[index]

    def find(self, pattern: str) -> Iterator[tuple[File, re.Match[str]]]:
        """Files whose path ends in the pattern, from the beginning of a folder's or the file's name on."""
        compiled = re.compile(rf"(?:^|.*/){pattern}$")
        for file in self._files:
            if match := compiled.match(file.path):
                yield file, match

    def one(self, pattern: str, what: str) -> tuple[File, re.Match[str]]:
        """The one file of a pattern; of several equally long ones the first.

        Raises:
            DataError: there is none, or several differ.
        """
        found = list(self.find(pattern))
        if not found:
            name = re.sub(r"\\(.)", r"\1", pattern)
            names = {file.name for file in self._files if file.name.endswith(PurePosixPath(name).suffix)}
            near = did_you_mean(name, names) if names else ""
            raise DataError(f"There is no {what} among the files. {near}".strip())
        if len({file.size for file, _ in found}) > 1:
            raise DataError(f"There are several {what}: {found[0][0].path} and {found[1][0].path}. Give one of them.")
        return found[0]


def open_inputs(paths: Sequence[str | os.PathLike[str]]) -> Files:
    """Lists the files of folders and archives. Archives within folders are opened too, archives in archives are not.

    What systems leave behind (`__MACOSX`, hidden files) is left out, as are links in archives.

    Raises:
        DataError: no such file, no archive, a damaged or encrypted one, names in it that lead out of a folder.
    """
    files: list[File] = []
    for given in paths:
        path = Path(given).expanduser()
        if path.is_dir():
            files += _folder(path)
        elif path.is_file():
            files += _file(path, path.name)
        else:
            parent = path.parent if path.parent.is_dir() else Path()
            near = [entry.name for entry in parent.iterdir()]
            raise DataError(f"{path} does not exist. In {parent.resolve()}: {did_you_mean(path.name, near)}")
    return Files(file for file in files if not _NOISE.search(file.path))


def _folder(folder: Path) -> Iterator[File]:
    top = folder.resolve().name
    for base, folders, names in os.walk(folder, followlinks=True):
        folders.sort()
        below = PurePosixPath(top, Path(base).relative_to(folder).as_posix())
        for name in sorted(names):
            path = Path(base, name)
            if path.is_file() and not name.startswith("."):
                yield from _file(path, str(below / name), within=True)


def _file(path: Path, name: str, within: bool = False) -> Iterator[File]:
    """The file, or, if it is an archive, what is in it. Within folders archives are known by their suffix."""
    if path.name.lower().endswith(ARCHIVE_SUFFIXES):
        yield from _members(path, name)
        return
    if within:
        yield File(name, path.stat().st_size, str(path))
        return
    with path.open("rb") as file:
        start = file.read(8)
    other = next((kind for magic, kind in _OTHER_FORMATS if start.startswith(magic)), None)
    if other:
        raise DataError(f"{path} is {other}, which is not read here. Extract it and give the folder.")
    if zipfile.is_zipfile(path) or tarfile.is_tarfile(path):
        yield from _members(path, name)
    else:
        yield File(name, path.stat().st_size, str(path))


def _members(path: Path, name: str) -> Iterator[File]:
    try:
        if zipfile.is_zipfile(path):
            yield from _zip_members(path, name)
        else:
            yield from _tar_members(path, name)
    except (OSError, EOFError, tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError) as error:
        with path.open("rb") as file:
            start = file.read(64).lstrip().lower()
        if start.startswith((b"<!doctype", b"<html")):
            raise DataError(
                f"{path} is a web page, not an archive: perhaps the page to log in was saved. Download it again."
            ) from error
        raise DataError(
            f"{path} ({path.stat().st_size} bytes) is damaged, cut short, or no zip or tar archive: {error}. "
            "Download it again."
        ) from error


def _zip_members(path: Path, name: str) -> Iterator[File]:
    seen = set()
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            _check_name(path, info.filename)
            if info.is_dir() or stat.S_ISLNK(info.external_attr >> 16):
                continue
            if info.flag_bits & 1:
                raise DataError(f"{path}: {info.filename} is encrypted. Extract the archive and give the folder.")
            if info.filename in seen:
                raise DataError(f"{path} has {info.filename} twice.")
            if info.file_size > _BOMB_BYTES and info.file_size > _BOMB_RATIO * info.compress_size:
                raise DataError(
                    f"{path}: {info.filename} unpacks {info.compress_size} bytes to {info.file_size}: no data does."
                )
            seen.add(info.filename)
            yield File(f"{name}/{info.filename.replace(chr(92), '/')}", info.file_size, str(path), info.filename)


def _tar_members(path: Path, name: str) -> Iterator[File]:
    limit = max(_BOMB_BYTES, _BOMB_RATIO * path.stat().st_size)
    seen = set()
    with tarfile.open(path) as archive:
        for info in archive:
            _check_name(path, info.name)
            if info.offset_data + info.size > limit:
                raise DataError(f"{path}: {info.name} lies {info.offset_data + info.size} bytes deep: no data does.")
            if not info.isreg() or info.issparse():
                continue
            inner = info.name.removeprefix("./")
            if inner in seen:
                raise DataError(f"{path} has {inner} twice.")
            seen.add(inner)
            yield File(f"{name}/{inner}", info.size, str(path), offset=info.offset_data)


def _check_name(path: Path, name: str) -> None:
    parts = name.replace("\\", "/").split("/")
    if parts[0] == "" or ".." in parts or re.match(r"[A-Za-z]:", name) or "\0" in name:
        raise DataError(f"{path} has a member {name!r}, which leads out of its folder. Don't use this archive.")


_opened: dict[str, zipfile.ZipFile | IO[bytes]] = {}  # of this process, the one opened last at the end


def _open_store(path: str, opener: Callable[[str], zipfile.ZipFile | IO[bytes]]) -> Any:
    """An archive, opened once for all that is read from it; a few at a time."""
    if path not in _opened:
        while len(_opened) >= _MAX_OPEN:
            _opened.pop(next(iter(_opened))).close()
        _opened[path] = opener(path)
    return _opened[path]


def close_archives() -> None:
    """Closes what was opened for reading members."""
    while _opened:
        _opened.popitem()[1].close()


def _open_tar(path: str) -> IO[bytes]:
    """The unpacked tar archive. Members read in their order make one pass of a packed one."""
    with open(path, "rb") as file:
        start = file.read(8)
    return next((opener for magic, opener in _OPENERS if start.startswith(magic)), open)(path, "rb")


def gunzip(content: bytes, name: str) -> bytes:
    """Unpacks a .gz file.

    Raises:
        DataError: damaged, cut short, or too large to be data.
    """
    unpacker = zlib.decompressobj(wbits=31)
    try:
        unpacked = unpacker.decompress(content, MAX_BYTES)
    except zlib.error as error:
        raise DataError(f"{name} is damaged, or no .gz file: {error}.") from error
    if not unpacker.eof:
        problem = f"unpacks to more than {MAX_BYTES} bytes" if unpacker.unconsumed_tail else "is cut short"
        raise DataError(f"{name} {problem}.")
    return unpacked
