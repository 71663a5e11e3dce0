"""Writes .safetensors files: a length, a JSON header, and the tensors' bytes one after the other."""

import json
import mmap
import os
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

CODES = {"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "int64": "I64", "int32": "I32"}
ALIGNMENT = 8  # of the bytes behind the header


def write_safetensors(
    path: str | Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]
) -> dict[str, int]:
    """Writes arrays by name, whole or not at all.

    Args:
        path: The file.
        tensors: Arrays of the dtypes in CODES, in any memory layout. One at a time is copied, so that views into
            mapped files take hardly any memory.
        metadata: Texts about them, which PyTorch's users find under `__metadata__`.

    Returns:
        The CRC-32 of each array's bytes.
    """
    header: dict = {"__metadata__": dict(metadata)}
    end = 0
    for name, array in tensors.items():
        start, end = end, end + array.nbytes
        header[name] = {"dtype": CODES[array.dtype.name], "shape": list(array.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    path = Path(path)
    part = path.with_name(f".{path.name}.part")
    checksums = {}
    with part.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, array in tensors.items():
            raw = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(-1).view(np.uint8)
            checksums[name] = zlib.crc32(raw)
            file.write(raw)
            _release(array)
    os.replace(part, path)
    return checksums


def _release(array: np.ndarray) -> None:
    """Lets go of the pages of a mapped file that were read for an array; they come again when they are needed."""
    base = array
    while isinstance(base, np.ndarray | memoryview):
        base = base.obj if isinstance(base, memoryview) else base.base
    if isinstance(base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        base.madvise(mmap.MADV_DONTNEED)
