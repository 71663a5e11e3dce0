"""Checkpoints that lie, attack or are damaged: an error that says so, no harm, and no more memory than tensors take."""

import os
import pickle
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from jaxseg.errors import CheckpointError
from jaxseg.mmseg import load_checkpoint, read_checkpoint
from pytorch_files import (
    CHECKPOINTS,
    EVERYTHING,
    FLOATS,
    call,
    legacy_bytes,
    name,
    npz_bytes,
    op,
    pickled,
    safetensors_bytes,
    storage,
    tensor,
    zip_bytes,
)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (tensor(size=(5,)), "needs 20 bytes of it, which has 16"),
        (tensor(offset=1), "needs 20 bytes"),
        (tensor(offset=2**61), "needs"),
        (tensor(offset=-1), "impossible"),
        (tensor(size=(-1,)), "impossible"),
        (tensor(stride=(-1,)), "impossible"),
        (tensor(size=(2, 2), stride=(2**62, 1)), "needs"),
        (tensor(size=(2**40, 2**40), stride=(0, 0)), "impossible size"),
        (tensor(size=(0, 2**70), stride=(0, 0)), "impossible size"),
        (tensor(size=(2**50,), stride=(0,)), "far larger than the file"),
        (tensor(size=(1,) * 65, stride=(1,) * 65), "impossible"),
        (tensor(size=(2, 2)), "impossible"),
        (tensor(size="4"), "wrong type"),
        (tensor(size=4), "damaged"),
        (tensor(size=(b"G" + bytes(8),)), "wrong type"),
        (tensor(offset=None), "wrong type"),
        (tensor(of=op("storage")), "wrong type"),
        (tensor(of=storage(5)), "has 16 bytes, not the 20"),
        (tensor(of=storage(2**60)), "impossible size"),
        (tensor(of=storage(-1)), "impossible size"),
        (tensor(of=storage(key="../data.pkl")), "missing"),
        (tensor(of=storage(kind="QInt8Storage")), "quantised"),
        (tensor(of=storage(kind="Storage")), "not supported"),
        (tensor(of=op(3) + b"Q"), "not PyTorch's"),
        (tensor(of=op(("storage",)) + b"Q"), "not PyTorch's"),
        (tensor(of=b"]Q"), "not PyTorch's"),
        (b"Pstorage\n", "not PyTorch's"),
        (tensor(function="_rebuild_qtensor"), "kind that is not supported.*qtensor"),
        (tensor(function="_rebuild_tensor_v3"), "damaged"),
        (call("torch._utils", "_rebuild_tensor_v3", *[None] * 6, b")" + b"2\x86" * 100), "dtype"),
        (call("torch._utils", "_rebuild_tensor_v3", *[None] * 6, name("torch", "float3")), "dtype.*float3"),
        (call("torch._utils", "_rebuild_tensor_v2"), "damaged"),
        (call("torch._utils", "_rebuild_parameter", 3), "not a tensor"),
        (call("torch._tensor", "_rebuild_from_type_v2", 3, 3, 3, 3), "subclass"),
    ],
)
def test_tensors_that_lie(read, bad, message):
    content = pickled(op({"a": bad}))
    with pytest.raises(CheckpointError, match=message):
        read(zip_bytes(content))
    with pytest.raises(CheckpointError):
        read(legacy_bytes(content))


@pytest.mark.parametrize(
    ("storages", "message"),
    [
        ([], "storage 0 is missing"),
        ([("0", 5, bytes(16))], "cut off"),
        ([("0", -1, bytes(16))], "cut off"),
        ([("0", 3, bytes(12))], "has 12 bytes, not the 16"),
        ([("0", 4, bytes(16))] * 2, "list of storages"),
        ([("1", 4, bytes(16))], "list of storages"),
    ],
)
def test_legacy_storages_that_lie(read, storages, message):
    with pytest.raises(CheckpointError, match=message):
        read(legacy_bytes(pickled(op({"a": tensor()})), storages))


def test_legacy_storage_key_that_has_no_end(read):
    key = ()
    for _ in range(100):
        key = (key, key)
    with pytest.raises(CheckpointError, match="list of storages"):
        read(legacy_bytes(pickled(op({"a": tensor()})), [(key, 4, FLOATS)]))


@pytest.mark.parametrize(
    ("operations", "message"),
    [
        (b"0", "damaged"),
        (b"1", "damaged"),
        (b"t", "damaged"),
        (b"h\x09", "BINGET"),
        (b"NNb", "sets the state of a NoneType"),
        (b"]}b", "sets the state of a list"),
        (b"N(NNu", "sets items of a NoneType"),
        (b"}(Nu", "without a value"),
        (b"}Na", "appends to a dict"),
        (op(1) + op(2) + b"\x93", "not a string"),
        (name("a", "b") + b"]R", "not a tuple"),
        (b"\x82\x01", "not in the file"),
        (b"\x84\xff\xff\xff\x7f", "not in the file"),
        (b"\x97", "not in the file"),
        (b"p-1\n", "damaged"),
        (b"Np99999999999\n", "memo index"),
        (b"\x8b\xff\xff\xff\x7f", "damaged"),
        (b"\x8b\xff\xff\xff\xff", "damaged"),
        (b"\x8b" + struct.pack("<I", 10_000) + b"\x01" * 10_000, "integer that no"),
        (b"I" + b"9" * 5000 + b"\n", "damaged"),
        (b"X\xff\xff\xff\xff", "damaged"),
        (b"\x8d" + struct.pack("<Q", 2**62), "damaged"),
        (b"\x8e" + struct.pack("<Q", 2**64 - 1), "damaged"),
        (b"\x96" + struct.pack("<Q", 2**62), "damaged"),
        (b"\xff", "damaged"),
        (b"}]Ns", "a list as a key"),
        (b"}" + op(2**61 - 1) + b"Ns", "a int as a key"),
        (b"}" + op("k" * 70_000) + b"Ns", "a str as a key"),
        (b"]" * 100_000 + b"a" * 99_999, "nested more than"),
        (b")" + b"\x85" * 100_000, "nested more than"),
        (b")" + b"2\x86" * 100, "a tuple, not tensors"),
        (b"}" + b")" + b"2\x86" * 60 + b"Ns", "a tuple as a key"),
        (b"}" + b")" + b"\x85" * 100_000 + b"Ns", "a tuple as a key"),
        (b"(" * 100_000, "damaged"),
        (call("collections", "OrderedDict", b"]]a"), "OrderedDict"),
        (call("builtins", "set", b"](]e"), "a list as a key"),
        (b"\x95" + struct.pack("<Q", 2**62) + b"N", "not tensors"),
        (b"Nr\xff\xff\xff\xff", "not tensors"),
    ],
)
def test_pickles_that_lie(read, operations, message):
    start = time.monotonic()
    for data in (zip_bytes(pickled(operations, 5)), legacy_bytes(pickled(operations, 5), [])):
        with pytest.raises(CheckpointError, match=message):
            read(data)
    assert time.monotonic() - start < 10


def test_endless_copies_of_one_list(read):
    shared = b"](" + b"N" * 100_000 + b"eq\x00"
    copies = (name("collections", "deque") + b"h\x00\x85R") * 1000
    with pytest.raises(CheckpointError, match="elements"):
        read(zip_bytes(pickled(shared + b"](" + copies + b"e")))


def test_zips_that_lie(read):
    content = pickled(op({"a": tensor()}))
    good = zip_bytes(content)
    directory = good.index(b"PK\x01\x02")
    second = good.index(b"PK\x01\x02", directory + 1)

    def patched(position: int, code: str, value: int) -> bytes:
        data = bytearray(good)
        struct.pack_into(code, data, position, value)
        return bytes(data)

    bomb = zip_bytes(pickled(op({"a": tensor(size=(2**23,), of=storage(2**23))})), [("0", bytes(2**25))], 8)
    for data, message in (
        (patched(second + 42, "<I", 0), "overlaps"),
        (patched(second + 42, "<I", 7), "not where"),
        (patched(second + 20, "<I", 2**31), "cut off or overlaps"),
        (patched(second + 24, "<I", 2**31), "two sizes"),
        (patched(second + 10, "<H", 12), "compressed in a way"),
        (patched(second + 8, "<H", 1), "encrypted"),
        (patched(second + 10, "<H", 8), "damaged"),
        (bomb, "claims to unpack"),
    ):
        with pytest.raises(CheckpointError, match=message):
            read(data)
    # PyTorch's own packer never gives two entries one name; Python's warns.
    with pytest.warns(UserWarning, match="Duplicate"):
        twice = zip_bytes(content, [("0", bytes(16))] * 2)
    with pytest.raises(CheckpointError, match="two entries"):
        read(twice)


@pytest.mark.parametrize(
    ("header", "data"),
    [
        ({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, bytes(7)),
        ({"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}}, bytes(8)),
        ({"a": {"dtype": "F32", "shape": [-2], "data_offsets": [8, 0]}}, bytes(8)),
        ({"a": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]}}, bytes(12)),
        ({"a": {"dtype": "Q4", "shape": [2], "data_offsets": [0, 8]}}, bytes(8)),
        ({"a": {"dtype": "F32", "shape": [2.0], "data_offsets": [0, 8]}}, bytes(8)),
        ({"a": {"dtype": "F32", "shape": [0, 2**70], "data_offsets": [0, 0]}}, b""),
        ({"a": {"dtype": "F32", "shape": [0, 2**55, 2**55], "data_offsets": [0, 0]}}, b""),
        ({"a": {"dtype": "F32", "shape": [2]}}, bytes(8)),
        ({"a": {"dtype": [], "shape": [2], "data_offsets": [0, 8]}}, bytes(8)),
        ({key: {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} for key in "ab"}, bytes(8)),
        (b'{"a": 1, "a": 2}', b""),
        (b"{" + b" " * 26_000_000 + b"}", b""),
        (b'{"a": ' + b"[" * 100_000, b""),
        (b"{}", bytes(8)),
        (b'{"a"', b""),
    ],
)
def test_safetensors_that_lie(read, header, data):
    with pytest.raises(CheckpointError):
        read(safetensors_bytes(header, data))


# Files that attack.


def attacks(canary: Path) -> dict[str, bytes]:
    touch = f"touch {canary}"
    python = f"open({str(canary)!r}, 'w').close()"
    system = call("posix", "system", touch)
    return {
        "os.system": call("os", "system", touch),
        "posix.system": system,
        "eval": call("builtins", "eval", python),
        "Python 2's eval": call("__builtin__", "eval", python),
        "exec": call("builtins", "exec", python),
        "nested": op({"state_dict": op({"a": system})}),
        "argument": call("collections", "OrderedDict", system),
        "key": b"}" + system + b"Ns",
        "state": call("collections", "OrderedDict") + system + b"b",
        "stack global": op("posix") + op("system") + b"\x93" + op((touch,)) + b"R",
        "new object": name("subprocess", "Popen") + op((touch, -1, None, None, None, None, None, True, True)) + b"\x81",
        "new object with keywords": (name("subprocess", "Popen") + op((touch,)) + op({"shell": b"\x88"}) + b"\x92"),
        "instance": b"(" + op(touch) + b"iposix\nsystem\n",
        "instance on the stack": b"(" + name("posix", "system") + op(touch) + b"o",
        "getattr": call("builtins", "getattr", call("builtins", "__import__", "os"), "system") + op((touch,)) + b"R",
        "impostor": name("torch._utils", "posix.system") + op((touch,)) + b"R",
        "rebuilt type": call("torch._tensor", "_rebuild_from_type_v2", name("posix", "system"), None, (touch,), None),
        "rebuilt parameter": call("torch._utils", "_rebuild_parameter", system, None, None),
        "reconstructor": call("copyreg", "_reconstructor", name("posix", "system"), name("builtins", "object"), None),
        "setstate": call("builtins", "getattr", name("posix", "system"), "x") + op({"__setstate__": system}) + b"b",
        "map": call("builtins", "list", call("builtins", "map", name("posix", "system"), (touch,))),
        "default factory": call("collections", "defaultdict", name("posix", "system")) + op("k") + b"Ns",
        "numpy": call("numpy.core.multiarray", "_reconstruct", name("posix", "system"), (0,), "b") + system + b"b",
        "persistent id": op(("storage", system, "0", "cpu", 4)) + b"Q",
        "old module": op(("module", name("posix", "system"), "file", "source")) + b"Q" + op((touch,)) + b"R",
    }


def test_the_attacks_are_real(tmp_path):
    canary = tmp_path / "canary"
    for kind in ("os.system", "eval", "nested", "stack global", "instance", "getattr", "map"):
        pickle.loads(pickled(attacks(canary)[kind]))
        assert canary.exists(), kind
        canary.unlink()


@pytest.mark.parametrize("kind", attacks(Path("x")))
def test_attacks_do_nothing(read, tmp_path, kind):
    canary = tmp_path / "canary"
    modules = set(sys.modules)
    content = pickled(attacks(canary)[kind])
    for data in (zip_bytes(content), legacy_bytes(content, [])):
        for reader in (read_checkpoint, load_checkpoint):
            try:
                read(data, reader)
            except CheckpointError:
                continue
            assert reader is read_checkpoint
    assert not canary.exists()
    assert set(sys.modules) == modules


# Files that are damaged.

DAMAGED = ("small_zip.pth", "small_legacy.pth")


def sound_file(file: str) -> bytes:
    if file == "npz":
        return npz_bytes(a=np.zeros(2, np.float32), b=np.zeros((2, 2), np.int16))
    if file != "safetensors":
        return (CHECKPOINTS / file).read_bytes()
    fields = {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}
    fields |= {"b": {"dtype": "I16", "shape": [2, 2], "data_offsets": [8, 16]}}
    return safetensors_bytes(fields, bytes(16))


@pytest.mark.parametrize("file", [*EVERYTHING, *DAMAGED, "safetensors", "npz"])
def test_cut_off_anywhere(read, file):
    data = sound_file(file)
    for fraction in range(50):
        with pytest.raises(CheckpointError):
            read(data[: len(data) * fraction // 50])
    with pytest.raises(CheckpointError):
        read(data[:-1])


def flip_bytes(read, file: str, times: int) -> tuple[int, int]:
    """How many of the damaged files were refused, and how many read; any other outcome fails."""
    sound = sound_file(file)
    rng = np.random.default_rng(0)
    outcomes = [0, 0]
    for _ in range(times):
        data = bytearray(sound)
        for position in rng.integers(0, len(data), rng.integers(1, 4)):
            data[position] = rng.integers(256)
        try:
            state = read(bytes(data))
        except CheckpointError:
            outcomes[0] += 1
            continue
        outcomes[1] += 1
        # Reads every byte.
        assert sum(array.tobytes().count(0) for array in state.values()) >= 0
    return tuple(outcomes)


@pytest.mark.parametrize("file", [*DAMAGED, "safetensors", "npz"])
def test_flipped_bytes(read, file):
    start = time.monotonic()
    refused, loaded = flip_bytes(read, file, 2000)
    assert min(refused, loaded) > 0
    assert time.monotonic() - start < 20


@pytest.mark.slow
@pytest.mark.parametrize("file", [*DAMAGED, *EVERYTHING, "safetensors", "npz"])
def test_many_flipped_bytes(read, file):
    refused, loaded = flip_bytes(read, file, 10_000)
    print(file, "refused", refused, "loaded", loaded)
    assert min(refused, loaded) > 0


# Memory.

COPIES = """
import re, resource, sys, time
import numpy as np
from jaxseg.mmseg import load_checkpoint

used = 1024 * int(re.search(r"VmData:\\s+(\\d+)", open("/proc/self/status").read())[1])
resource.setrlimit(resource.RLIMIT_DATA, (used + int(sys.argv[2]), resource.RLIM_INFINITY))
start = time.monotonic()
state = load_checkpoint(sys.argv[1])
loaded = time.monotonic()
copies = [np.array(array) for array in state.values()]
print(f"load {loaded - start:.4f} s, copy {time.monotonic() - loaded:.4f} s,",
      f"peak resident {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} MiB with the file's pages")
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_memory_is_that_of_the_tensors(tmp_path, kind):
    count, numel = 25, int(os.environ.get("JAXSEG_TEST_MIB", "100")) << 18
    numel //= count
    array = np.ones(numel, "f4").tobytes()
    content = pickled(op({str(k): tensor(0, (numel,), (1,), storage(numel, str(k))) for k in range(count)}))
    nbytes = count * numel * 4
    offsets = {
        str(k): {"dtype": "F32", "shape": [numel], "data_offsets": [k * len(array), (k + 1) * len(array)]}
        for k in range(count)
    }
    make = {
        "zip": lambda: zip_bytes(content, [(str(k), array) for k in range(count)]),
        "legacy": lambda: legacy_bytes(content, [(str(k), numel, array) for k in range(count)]),
        "safetensors": lambda: safetensors_bytes(offsets, array * count),
    }
    path = tmp_path / "large.pth"
    path.write_bytes(make[kind]())

    def copy_within(limit: float) -> subprocess.CompletedProcess:
        command = [sys.executable, "-c", COPIES, str(path), str(int(limit * nbytes))]
        return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "JAX_PLATFORMS": "cpu"})

    run = copy_within(1.3)
    assert run.returncode == 0, run.stderr
    print(kind, run.stdout)
    # The limit bites.
    assert copy_within(0.9).returncode != 0
