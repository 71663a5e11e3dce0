"""Files as PyTorch writes them, made without PyTorch: operation by operation."""

import io
import json
import pickle
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

CHECKPOINTS = Path(__file__).parent / "mmseg" / "fixtures_checkpoint"
EVERYTHING = ("everything_zip.pth", "everything_protocol5.pth", "everything_legacy.pth")


def op(value) -> bytes:
    """The operations of a pickle that push a value; bytes are operations already."""
    match value:
        case bytes():
            return value
        case None:
            return b"N"
        case int():
            return b"I%d\n" % value
        case str():
            return b"X" + struct.pack("<I", len(value.encode())) + value.encode()
        case tuple():
            return b"(" + b"".join(map(op, value)) + b"t"
        case dict():
            return b"}(" + b"".join(op(part) for item in value.items() for part in item) + b"u"
    raise TypeError(value)


def name(module: str, function: str) -> bytes:
    return f"c{module}\n{function}\n".encode()


def call(module: str, function: str, *args) -> bytes:
    return name(module, function) + op(args) + b"R"


def storage(numel=4, key="0", kind="FloatStorage") -> bytes:
    return op(("storage", name("torch", kind), key, "cpu", numel)) + b"Q"


def tensor(offset=0, size=(4,), stride=(1,), of=None, function="_rebuild_tensor_v2") -> bytes:
    return call("torch._utils", function, of or storage(), offset, size, stride, b"\x89", None)


def pickled(operations: bytes, protocol=2) -> bytes:
    return b"\x80" + bytes([protocol]) + operations + b"."


FLOATS = np.arange(4, dtype="f4").tobytes()


def zip_bytes(content: bytes, storages=(("0", FLOATS),), compress=0, **more) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compress) as archive:
        archive.writestr("archive/data.pkl", content)
        for key, data in (*((f"data/{key}", data) for key, data in storages), *more.items()):
            archive.writestr(f"archive/{key}", data)
    return file.getvalue()


def write_pth(path: Path, tensors: Mapping[str, np.ndarray], meta: Mapping) -> Path:
    """A checkpoint as MMSegmentation saves it: float32 and int64 tensors by name, and `meta`."""
    state, storages = {}, []
    for i, (key, array) in enumerate(tensors.items()):
        kind = {"f": "FloatStorage", "i": "LongStorage"}[array.dtype.kind]
        strides = tuple(stride // array.itemsize for stride in np.ascontiguousarray(array).strides[: array.ndim])
        of = storage(array.size, str(i), kind)
        state[key] = tensor(size=array.shape, stride=strides, of=of)
        storages.append((str(i), array.tobytes()))
    path.write_bytes(zip_bytes(pickled(op({"meta": dict(meta), "state_dict": state})), storages))
    return path


def legacy_bytes(content: bytes, storages=(("0", 4, FLOATS),)) -> bytes:
    head = [pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})]
    keys = pickle.dumps([key for key, _, _ in storages], 2)
    return b"".join([*head, content, keys, *(struct.pack("<q", numel) + data for _, numel, data in storages)])


def safetensors_bytes(header: dict | bytes, data=b"") -> bytes:
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(header)) + header + data


def npz_bytes(save=np.savez, **arrays) -> bytes:
    file = io.BytesIO()
    save(file, **arrays)
    return file.getvalue()
