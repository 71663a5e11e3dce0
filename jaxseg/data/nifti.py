"""Medical volumes: the NIfTI-1 format (`.nii`, `.nii.gz`), read and written.

A file has its numbers in the order x, y, z (x runs fastest), with a factor and an offset that turn stored numbers
into measured ones. Of what else the format can say (orientation, units, time) only the size of a voxel is read.
"""

import gzip
import math
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Shaped

from jaxseg.errors import DataError

_HEADER_SIZE = 348
_DIMENSIONS, _KIND, _VOXELS, _OFFSET, _SCALE, _MAGIC = 40, 70, 76, 108, 112, 344  # bytes from the start
_KINDS = {
    2: np.uint8, 4: np.int16, 8: np.int32, 16: np.float32, 64: np.float64,
    256: np.int8, 512: np.uint16, 768: np.uint32, 1024: np.int64, 1280: np.uint64,
}  # fmt: skip
_GZIP_START = b"\x1f\x8b"


class NiftiHeader(NamedTuple):
    """What a file's header says.

    Attributes:
        shape: (x, y, z), or (x, y, z, channels).
        dtype: of the stored numbers, with their byte order.
        voxel: the size of a voxel along x, y and z, mostly in millimetres.
        offset: where the numbers begin, in bytes.
        slope: measured = slope * stored + intercept.
        intercept: see slope.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    voxel: tuple[float, float, float]
    offset: int
    slope: float
    intercept: float


def read_nifti_header(path: str | Path) -> NiftiHeader:
    """The header of a file, without its numbers.

    Raises:
        DataError: it is missing, cut short or no NIfTI-1 file of numbers.
    """
    try:
        with Path(path).open("rb") as file:
            start = file.read(len(_GZIP_START))
            file.seek(0)
            content = (
                gzip.GzipFile(fileobj=file).read(_HEADER_SIZE) if start == _GZIP_START else file.read(_HEADER_SIZE)
            )
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"Cannot read {path}: {getattr(error, 'strerror', None) or error}.") from error
    return _header(content, str(path))


def read_nifti(path: str | Path) -> Shaped[np.ndarray, "x y z ..."]:
    """The measured numbers of a file; see `decode_nifti`.

    Raises:
        DataError: it is missing, or `decode_nifti` raises it.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror or error}.") from error
    return decode_nifti(content, str(path))


def decode_nifti(content: bytes, path: str) -> Shaped[np.ndarray, "x y z ..."]:
    """Decodes a file, packed or not: measured numbers [x y z] or [x y z channels].

    Their type is that of the file, or float64 where it has a factor or an offset.

    Raises:
        DataError: cut short, damaged, or no NIfTI-1 file of numbers.
    """
    if content.startswith(_GZIP_START):
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"{path} is damaged or cut short: {error}. Copy or download it again.") from error
    header = _header(content, path)
    count = math.prod(header.shape)
    if len(content) < header.offset + count * header.dtype.itemsize:
        raise DataError(
            f"{path} is cut short: {len(content)} bytes, but {'x'.join(map(str, header.shape))} numbers of "
            f"{header.dtype.itemsize} bytes begin at byte {header.offset}. Copy or download it again."
        )
    stored = np.frombuffer(content, header.dtype, count, header.offset).reshape(header.shape, order="F")
    if (header.slope, header.intercept) == (1, 0):
        return stored.astype(header.dtype.newbyteorder("="))
    return stored.astype(np.float64) * header.slope + header.intercept


def _header(content: bytes, path: str) -> NiftiHeader:
    order = next(
        (o for o in "<>" if len(content) >= 4 and np.frombuffer(content, f"{o}i4", 1)[0] == _HEADER_SIZE), None
    )
    if len(content) < _HEADER_SIZE or order is None:
        raise DataError(f"{path} is no NIfTI-1 file: its header of {_HEADER_SIZE} bytes is missing.")
    magic = content[_MAGIC : _MAGIC + 4]
    if magic != b"n+1\0":
        pair = magic == b"ni1\0"
        raise DataError(
            f"{path} is {'half of a pair of files (.hdr, .img)' if pair else 'no NIfTI-1 file'}: save the volume as "
            "one .nii or .nii.gz file."
        )

    def numbers(at: int, kind: str, count: int) -> np.ndarray:
        return np.frombuffer(content, f"{order}{kind}", count, at)

    rank, *sides = (int(side) for side in numbers(_DIMENSIONS, "i2", 8))
    sides = sides[:rank] if 1 <= rank <= 7 else []
    while len(sides) > 3 and sides[-1] == 1:
        sides.pop()
    if len(sides) == 5 and sides[3] == 1:  # vectors are stored behind an axis of time
        del sides[3]
    if len(sides) not in (3, 4) or min(sides) < 1:
        raise DataError(f"{path} has the shape {tuple(sides)}; it must be (x, y, z), or (x, y, z, channels).")
    code = int(numbers(_KIND, "i2", 1)[0])
    if code not in _KINDS:
        raise DataError(f"{path} has numbers of NIfTI's type {code}; known are {', '.join(map(str, _KINDS))}.")
    slope, intercept = (float(value) for value in numbers(_SCALE, "f4", 2))
    if slope == 0 or not math.isfinite(slope):
        slope, intercept = 1.0, 0.0
    intercept = intercept if math.isfinite(intercept) else 0.0
    offset = max(int(numbers(_OFFSET, "f4", 1)[0]), _HEADER_SIZE)
    voxel = tuple(float(side) for side in numbers(_VOXELS, "f4", 4)[1:])
    return NiftiHeader(tuple(sides), np.dtype(_KINDS[code]).newbyteorder(order), voxel, offset, slope, intercept)


def write_nifti(
    path: str | Path, volume: Shaped[np.ndarray, "x y z ..."], voxel: tuple[float, float, float] = (1, 1, 1)
) -> None:
    """Writes a volume [x y z] or [x y z channels]; packed where the name ends in `.gz`.

    Raises:
        DataError: numbers of a type that the format does not have, or another number of axes.
    """
    code = next((code for code, kind in _KINDS.items() if kind == volume.dtype.type), None)
    if code is None or volume.ndim not in (3, 4):
        raise DataError(f"{path}: a NIfTI volume of {volume.dtype} {volume.shape} cannot be written.")
    header = bytearray(_HEADER_SIZE + 4)  # the last four say that no extension follows

    def put(at: int, kind: str, *values: float) -> None:
        data = np.array(values, f"<{kind}").tobytes()
        header[at : at + len(data)] = data

    put(0, "i4", _HEADER_SIZE)
    put(_DIMENSIONS, "i2", volume.ndim, *volume.shape, *[1] * (7 - volume.ndim))
    put(_KIND, "i2", code, volume.dtype.itemsize * 8)
    put(_VOXELS, "f4", 1, *voxel)
    put(_OFFSET, "f4", len(header), 1, 0)
    header[_MAGIC : _MAGIC + 4] = b"n+1\0"
    content = bytes(header) + volume.astype(volume.dtype.newbyteorder("<")).tobytes(order="F")
    # Without a time and a name in the packed file, the same volume is the same file.
    Path(path).write_bytes(gzip.compress(content, mtime=0) if str(path).endswith(".gz") else content)
