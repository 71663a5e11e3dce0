"""Reads checkpoints of PyTorch's (.pth), .safetensors and .npz, without PyTorch and without running anything in them.

`unpickle.py` reads the pickle in a checkpoint as inert records, `tensors.py` gives those of tensors their values,
and here are the files around them: where a pickle lies, and where the bytes of its storages do.
"""

import dataclasses
import io
import json
import math
import mmap
import os
import stat
import struct
import tokenize
import zipfile
import zlib
from os import PathLike
from pathlib import Path
from typing import IO, Any

import ml_dtypes
import numpy as np
from jaxtyping import Shaped, UInt8

from jaxseg.errors import CheckpointError
from jaxseg.mmseg.tensors import Builder, StorageId, persistent_load
from jaxseg.mmseg.unpickle import Damage, Record, unpickle

# Where a state dict lies in what surrounds it, the likeliest first.
STATE_DICT_KEYS = ("state_dict", "model", "module", "model_state_dict", "model_state", "network", "net")
# State that is no tensor: PyTorch's, of modules that add their own.
IGNORED = ("_extra_state",)

MAGIC = 0x1950A86A20F9469CFC6C
LOOKS_LIKE = (
    (b"version https://git-lfs", "a Git LFS pointer, which stands for the file; fetch it with `git lfs pull`"),
    (b"<", "a web page; the download gave a page in place of the file"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"\x1f\x8b", "gzip data; unpack it first"),
    (b"BZh", "bzip2 data; unpack it first"),
    (b"\xfd7zXZ", "xz data; unpack it first"),
    (b"\x89HDF", "an HDF5 file"),
    (b"%PDF", "a PDF document"),
    (b"{", "JSON text"),
)
SAFETENSORS_DTYPES = {
    **{code: np.dtype(name) for code, name in (("F64", "f8"), ("F32", "f4"), ("F16", "f2"), ("C64", "c8"))},
    **{f"{kind}{8 * size}": np.dtype(f"{kind.lower()}{size}") for kind in "IU" for size in (1, 2, 4, 8)},
    "BOOL": np.dtype(bool),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
}
# A header of ten thousand tensors has a megabyte; the format's own limit of 100 takes gigabytes to parse.
MAX_SAFETENSORS_HEADER = 25_000_000

# What Python's and NumPy's own readers raise at bytes that make no sense; warnings, where those are errors.
MALFORMED = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    NotImplementedError,
    OSError,
    RecursionError,
    SyntaxError,
    TypeError,
    ValueError,
    Warning,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """All that a checkpoint file holds.

    Attributes:
        path: The file.
        format: "zip" (PyTorch 1.6 and later), "legacy" (before), "safetensors" or "npz".
        content: What was saved: dicts, lists, tuples, sets, numbers, strings and arrays; a `Record` for every
            object of a class that is not read. Tensors are read-only views into the file where its bytes allow it.
            NumPy's scalars are Python numbers, an OrderedDict is a dict.
    """

    path: Path
    format: str
    content: Any

    @property
    def meta(self) -> dict:
        """What the reference's runner writes beside the weights; empty without."""
        meta = self.content.get("meta") if isinstance(self.content, dict) else None
        return meta if isinstance(meta, dict) else {}

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The names of the classes it was trained for, where the file has them."""
        names = self._of_dataset("classes")
        return tuple(names) if names and all(isinstance(name, str) for name in names) else None

    @property
    def palette(self) -> tuple[tuple[int, int, int], ...] | None:
        """The colours of the classes (red, green, blue; 0 to 255), where the file has them."""
        colours = self._of_dataset("palette")
        if not colours or not all(_is_colour(colour) for colour in colours):
            return None
        return tuple(tuple(colour) for colour in colours)

    def _of_dataset(self, field: str) -> list | tuple | None:
        # MMSegmentation 1.x, then 0.x.
        dataset = self.meta.get("dataset_meta")
        value = dataset.get(field) if isinstance(dataset, dict) else self.meta.get(field.upper())
        return value if isinstance(value, (list, tuple)) else None

    def state_dict(self) -> dict[str, Shaped[np.ndarray, "..."]]:
        """The tensors by name; see `load_checkpoint`.

        Raises:
            CheckpointError: There is no state dict, or there is something in it that is no tensor.
        """
        found, where = self.content, "the file"
        for _ in range(len(STATE_DICT_KEYS)):
            if not isinstance(found, dict) or _is_state_dict(found):
                break
            key = next((key for key in STATE_DICT_KEYS if isinstance(found.get(key), (dict, Record))), None)
            if key is None:
                break
            found, where = found[key], f"`{key}`"
        if isinstance(found, Record):
            raise CheckpointError(
                f"{self.path}: {where} is a whole object of {found.module}.{found.name}. Save its state_dict() instead."
            )
        if not isinstance(found, dict):
            raise CheckpointError(f"{self.path}: {where} holds a {type(found).__name__}, not tensors by name.")
        tensors = {key: value for key, value in found.items() if not str(key).endswith(IGNORED)}
        for key, value in tensors.items():
            if not (isinstance(key, str) and isinstance(value, (np.ndarray, bool, int, float, complex))):
                keys = ", ".join(f"{key!s:.40}" for key in list(found)[:10])
                raise CheckpointError(
                    f"{self.path}: no state dict found. In {where}, {key!s:.40} is a {type(value).__name__}, "
                    f"not a tensor. It has: {keys}."
                )
        if not tensors:
            raise CheckpointError(f"{self.path}: {where} holds no tensors.")
        while all(name.startswith("module.") for name in tensors):
            tensors = {name.removeprefix("module."): value for name, value in tensors.items()}
        return {name: np.asarray(value) for name, value in tensors.items()}


def _is_colour(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == 3 and all(type(channel) is int for channel in value)


def _is_state_dict(found: dict) -> bool:
    """Tensors by name: at least one, and no containers."""
    values = found.values()
    return any(isinstance(v, np.ndarray) for v in values) and not any(isinstance(v, (dict, Record)) for v in values)


def load_checkpoint(path: str | PathLike[str]) -> dict[str, Shaped[np.ndarray, "..."]]:
    """The state dict in a checkpoint: arrays by PyTorch's names, in PyTorch's layouts.

    It is the file's content itself, or what lies under the first of `STATE_DICT_KEYS` that there is (`state_dict`,
    `model`, `module`, ...), also several levels down. A prefix `module.` that all names share is stripped. What
    modules save as `_extra_state` is left out; numbers become arrays without dimensions.

    Args:
        path: A .pth file, also of old versions of PyTorch, or a .safetensors or .npz file.

    Returns:
        Read-only views into the file, which is mapped into memory: nothing is read before it is used, and the file
        must not be changed meanwhile. Tensors that share memory share it here.

    Raises:
        CheckpointError: The file is none, is damaged, or holds no state dict; the message names it.
    """
    return read_checkpoint(path).state_dict()


def read_checkpoint(path: str | PathLike[str]) -> Checkpoint:
    """All that a checkpoint holds, with classes, palette and whatever else was saved with the weights.

    No class that the file names is imported and nothing in it is called, so a file from anywhere can be read.
    Compressed and big-endian files are read too (into memory). The bytes of tensors are not checked against a
    checksum: PyTorch does not either, and may write none.

    Args:
        path: As for `load_checkpoint`.

    Raises:
        CheckpointError: The file is none or is damaged, or has quantised, sparse or other special tensors.
    """
    path = Path(path)
    try:
        return Checkpoint(path, *_read(path))
    except FileNotFoundError:
        raise CheckpointError(f"{path}: there is no such file.") from None
    except Damage as error:
        raise CheckpointError(f"{path}: {error}.") from None
    except MALFORMED as error:
        raise CheckpointError(f"{path} is damaged or cut off ({type(error).__name__}: {error!s:.200}).") from error


def _read(path: Path) -> tuple[str, Any]:
    with open(path, "rb", opener=_open_regular) as file:
        if not file.seek(0, io.SEEK_END):
            raise Damage("the file is empty")
        # The arrays keep the map alive, beyond the file.
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        start = mapped[:512]
        if start.startswith(b"PK\x03\x04"):
            archive = _Zip(mapped, file)
            if archive.entries and all(name.endswith(".npy") for name in archive.entries):
                return "npz", _read_npz(archive)
            return "zip", _read_zip(mapped, archive)
    if start.startswith(b"\x80"):
        return "legacy", _read_legacy(mapped)
    header = int.from_bytes(start[:8], "little")
    if start[8:9] == b"{" and header < len(mapped):
        return "safetensors", _read_safetensors(mapped, header)
    if start[257:262] == b"ustar":
        raise Damage("a checkpoint in the tar format of PyTorch's first versions; save it again with a later one")
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n")
    looks = next((looks for prefix, looks in LOOKS_LIKE if text.startswith(prefix)), "something else")
    raise Damage(f"no checkpoint of PyTorch's and no safetensors file. It looks like {looks}")


def _open_regular(name: str, flags: int) -> int:
    # Opening a pipe would wait for its writer.
    if not stat.S_ISREG(os.stat(name).st_mode):
        raise Damage("not a file")
    return os.open(name, flags)


def _allowance(mapped: mmap.mmap) -> int:
    return 2 * len(mapped) + (64 << 20)


class _Zip:
    """The entries of a zip archive as bytes, checked to lie in the file and apart from each other."""

    def __init__(self, mapped: mmap.mmap, file: IO[bytes]):
        self.raw = np.frombuffer(mapped, np.uint8)
        with zipfile.ZipFile(file) as archive:
            infos = archive.infolist()
        self.entries: dict[str, tuple[zipfile.ZipInfo, int]] = {}
        inflated, end = 0, 0
        for info in sorted(infos, key=lambda info: info.header_offset):
            start = self._data_start(info)
            if info.header_offset < end or start + info.compress_size > len(mapped):
                raise Damage(f"its entry {info.filename[:80]} is cut off or overlaps another")
            end = start + info.compress_size
            if info.filename in self.entries:
                raise Damage(f"it has two entries {info.filename[:80]}")
            if info.flag_bits & 1:
                raise Damage("it is encrypted")
            if info.compress_type == zipfile.ZIP_STORED:
                if info.file_size != info.compress_size:
                    raise Damage(f"its entry {info.filename[:80]} has two sizes")
            elif info.compress_type == zipfile.ZIP_DEFLATED:
                inflated += info.file_size
            else:
                raise Damage(f"its entry {info.filename[:80]} is compressed in a way that PyTorch does not use")
            self.entries[info.filename] = (info, start)
        # Weights compress little. What claims to unpack to far more is made to fill the memory.
        if inflated > 16 * len(mapped) + (1 << 20):
            raise Damage(f"it claims to unpack to {inflated} bytes from {len(mapped)}")

    def _data_start(self, info: zipfile.ZipInfo) -> int:
        header = self.raw[info.header_offset : info.header_offset + 30].tobytes()
        if len(header) < 30 or not header.startswith(b"PK\x03\x04"):
            raise Damage(f"its entry {info.filename[:80]} is not where the archive's directory says")
        name, extra = struct.unpack("<HH", header[26:])
        return info.header_offset + 30 + name + extra

    def read(self, name: str) -> UInt8[np.ndarray, " bytes"]:
        if name not in self.entries:
            raise Damage(f"its entry {name[:80]} is missing")
        info, start = self.entries[name]
        data = self.raw[start : start + info.compress_size]
        if info.compress_type == zipfile.ZIP_STORED:
            return data
        inflated = zlib.decompressobj(-15).decompress(data, info.file_size + 1)
        if len(inflated) != info.file_size:
            raise Damage(f"its entry {name[:80]} does not unpack to the size that it claims")
        return np.frombuffer(inflated, np.uint8)


def _read_npz(archive: _Zip) -> dict[str, Shaped[np.ndarray, "..."]]:
    """NumPy's format, which weights from JAX are in: an array in every entry NAME.npy."""
    arrays = {}
    for name in archive.entries:
        array = np.lib.format.read_array(io.BytesIO(archive.read(name).tobytes()), allow_pickle=False)
        if array.dtype.kind not in "biuf":
            raise Damage(f"its array {name[:80]} has the dtype {array.dtype!s:.40}, which is not supported")
        arrays[name.removesuffix(".npy")] = array
    return arrays


def _read_zip(mapped: mmap.mmap, archive: _Zip) -> Any:
    """PyTorch's format since 1.6: PREFIX/data.pkl, PREFIX/data/KEY for every storage, PREFIX/byteorder."""
    pickles = [name for name in archive.entries if name.rpartition("/")[2] == "data.pkl"]
    if len(pickles) != 1:
        raise Damage("a zip archive, but no checkpoint of PyTorch's (it has no data.pkl)")
    prefix = pickles[0].removesuffix("data.pkl")
    if f"{prefix}constants.pkl" in archive.entries:
        raise Damage("a TorchScript program. Save the state_dict() of the model it was made of instead")
    order = archive.read(f"{prefix}byteorder").tobytes() if f"{prefix}byteorder" in archive.entries else b"little"
    if order not in (b"little", b"big"):
        raise Damage("its byte order is neither little nor big")
    # Inflated storages are kept, for tensors that share one.
    storages: dict[str, np.ndarray] = {}

    def read_storage(storage: StorageId) -> UInt8[np.ndarray, " bytes"]:
        if storage.key not in storages:
            storages[storage.key] = archive.read(f"{prefix}data/{storage.key}")
        return _checked(storages[storage.key], storage)

    tree = unpickle(io.BytesIO(archive.read(pickles[0]).tobytes()), persistent_load)
    return Builder(read_storage, _allowance(mapped), swap=order == b"big").build(tree)


def _checked(raw: UInt8[np.ndarray, " bytes"], storage: StorageId) -> UInt8[np.ndarray, " bytes"]:
    if raw.size < storage.nbytes:
        raise Damage(f"its storage {storage.key[:40]} has {raw.size} bytes, not the {storage.nbytes} that it claims")
    return raw[: storage.nbytes]


def _read_legacy(mapped: mmap.mmap) -> Any:
    """PyTorch's format before 1.6.

    Pickles of a magic number, the version, facts of the system, the object, the keys of its storages; then for each
    key the number of elements and the elements, little-endian.
    """
    if unpickle(mapped, persistent_load) != MAGIC:
        raise Damage("a pickle, but no checkpoint of PyTorch's")
    if unpickle(mapped, persistent_load) != 1001:
        raise Damage("a checkpoint of an unknown version of PyTorch's format")
    unpickle(mapped, persistent_load)
    dtypes: dict[str, np.dtype] = {}

    def load_and_note(saved_id: Any) -> StorageId | Record:
        loaded = persistent_load(saved_id)
        if isinstance(loaded, StorageId):
            dtypes[loaded.key] = loaded.dtype
        return loaded

    tree = unpickle(mapped, load_and_note)
    keys = unpickle(mapped, persistent_load)
    # Only of these is str() sure to be short work.
    if not isinstance(keys, list) or not all(isinstance(key, (str, int)) for key in keys):
        raise Damage("its list of storages is damaged")
    whole = np.frombuffer(mapped, np.uint8)
    storages: dict[str, np.ndarray] = {}
    position = mapped.tell()
    for key in map(str, keys):
        if key not in dtypes or key in storages:
            raise Damage(f"its list of storages is damaged (key {key[:40]})")
        start = position + 8
        position = start + int.from_bytes(mapped[position:start], "little") * dtypes[key].itemsize
        if position > len(mapped):
            raise Damage(f"the file is cut off: its storage {key[:40]} ends at byte {position} of {len(mapped)}")
        storages[key] = whole[start:position]

    def read_storage(storage: StorageId) -> UInt8[np.ndarray, " bytes"]:
        if storage.key not in storages:
            raise Damage(f"its storage {storage.key[:40]} is missing")
        return _checked(storages[storage.key], storage)

    return Builder(read_storage, _allowance(mapped)).build(tree)


def _read_safetensors(mapped: mmap.mmap, header: int) -> dict[str, Shaped[np.ndarray, "..."]]:
    """The format's 8 bytes of length, its JSON header, and the tensors' bytes without gaps."""
    if header > MAX_SAFETENSORS_HEADER:
        raise Damage(f"its header of {header} bytes is larger than any that safetensors files have")
    fields = json.loads(mapped[8 : 8 + header], object_pairs_hook=_unique)
    data = np.frombuffer(mapped, np.uint8)[8 + header :]
    fields.pop("__metadata__", None)
    tensors, spans = {}, []
    for name, field in fields.items():
        if not isinstance(field, dict) or field.get("dtype") not in SAFETENSORS_DTYPES:
            raise Damage(f"its tensor {name[:80]} has no dtype that is supported")
        dtype, shape, span = SAFETENSORS_DTYPES[field["dtype"]], field["shape"], field["data_offsets"]
        if not all(type(number) is int and 0 <= number < 1 << 56 for number in (*shape, *span)):
            raise Damage(f"its tensor {name[:80]} has an impossible shape or place")
        start, end = span
        if end - start != math.prod(shape) * dtype.itemsize or end > data.size:
            raise Damage(f"its tensor {name[:80]} does not fit its place, or the file is cut off")
        spans.append((start, end))
        tensors[name] = np.ndarray(shape, dtype, data, start) if end > start else np.empty(shape, dtype)
    ends = [0] + [end for _, end in sorted(spans)]
    if [start for start, _ in sorted(spans)] != ends[:-1] or ends[-1] != data.size:
        raise Damage("its tensors overlap, or leave bytes without a name")
    return tensors


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise Damage("its header has a name twice")
    return fields
