"""Checkpoints: what PyTorch wrote is read to the bit, and no file does harm."""

import io
import json
import os
import pickle
import struct
import subprocess
import sys
import time
import zipfile
import zlib
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from jaxseg.configs import cgnet
from jaxseg.errors import CheckpointError
from jaxseg.mmseg import convert, load_checkpoint, read_checkpoint
from jaxseg.mmseg.unpickle import Record
from jaxseg.models import build_model
from pytorch_files import FLOATS, call, name, op, pickled, storage, tensor, zip_bytes

FIXTURES = Path(__file__).parent / "fixtures_checkpoint"
EVERYTHING = ("everything_zip.pth", "everything_protocol5.pth", "everything_legacy.pth")
REAL_DATA = Path(os.environ.get("JAXSEG_DATA", Path(__file__).parents[2] / ".." / "shared" / "data"))
WEIGHTS = REAL_DATA.parent / "weights"


def legacy_bytes(content: bytes, storages=(("0", 4, FLOATS),)) -> bytes:
    head = [pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})]
    keys = pickle.dumps([key for key, _, _ in storages], 2)
    return b"".join([*head, content, keys, *(struct.pack("<q", numel) + data for _, numel, data in storages)])


def safetensors_bytes(header: dict | bytes, data=b"") -> bytes:
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(header)) + header + data


def expected() -> dict[str, np.ndarray]:
    with np.load(FIXTURES / "expected.npz") as file:
        about = json.loads(str(file["about"]))
        dtypes = {name: np.dtype(getattr(ml_dtypes, dtype, None) or dtype) for name, (dtype, _) in about.items()}
        return {name: file[name].view(dtypes[name]).reshape(shape) for name, (_, shape) in about.items()}


@pytest.fixture
def read(tmp_path):
    """Reads bytes as a file."""

    def read_bytes(data: bytes, reader=load_checkpoint):
        # A new file each time: arrays of the last one may still be views into it.
        path = tmp_path / f"{time.monotonic_ns()}.pth"
        path.write_bytes(data)
        try:
            return reader(path)
        finally:
            path.unlink()

    return read_bytes


def assert_same(found, wanted):
    assert list(found) == list(wanted)
    for key, value in wanted.items():
        assert (found[key].dtype, found[key].shape) == (value.dtype, value.shape), key
        assert found[key].tobytes() == value.tobytes(), key


# What PyTorch wrote.


@pytest.mark.parametrize("file", EVERYTHING)
def test_tensors_equal_pytorchs(file):
    assert_same(load_checkpoint(FIXTURES / file), expected())


@pytest.mark.parametrize("file", EVERYTHING)
def test_tensors_are_views_of_the_file(file):
    state = load_checkpoint(FIXTURES / file)
    assert np.shares_memory(state["base"], state["shared"])
    assert np.shares_memory(state["base"], state["transposed"])
    assert not any(array.flags.owndata for key, array in state.items() if key not in ("empty", "conjugated"))
    with pytest.raises(ValueError, match="read-only"):
        state["base"][:] = 0


@pytest.mark.parametrize("file", EVERYTHING)
def test_what_lies_beside_the_tensors(file):
    checkpoint = read_checkpoint(FIXTURES / file)
    meta = checkpoint.meta
    assert checkpoint.format == ("legacy" if "legacy" in file else "zip")
    assert checkpoint.classes == ("road", "sky")
    assert checkpoint.palette == ((128, 64, 128), (70, 130, 180))
    assert checkpoint.content["optimizer"]["state"][0]["step"] == 5
    plain = {
        "epoch": 3, "iter": 160_000, "best": 0.5, "counts": {"a": [1]}, "recent": [1, 2], "set": {1, 2},
        "frozen": frozenset([3]), "bytes": b"\x00\xff", "complex": 1 + 2j, "large": 2**100, "none": None,
        "size": (2, 3), "keys": {(1, 2): "tuple", None: "none", 1.5: "float", 7: "scalar"},
    }  # fmt: skip
    assert {key: meta[key] for key in plain} == plain
    assert (type(meta["iter"]), type(meta["best"])) == (int, float)
    np.testing.assert_array_equal(meta["array"], np.arange(6).reshape(2, 3))
    np.testing.assert_array_equal(meta["fortran"], np.arange(6.0).reshape(2, 3))
    assert meta["shared"][0] is meta["shared"][1]
    assert meta["endless"][1] is meta["endless"]

    records = {
        "time": "datetime", "history": "HistoryBuffer", "config": "ConfigDict", "args": "Namespace",
        "function": "print", "objects": "_reconstruct", "path": "PosixPath", "device": "device",
    }  # fmt: skip
    assert {key: meta[key].name for key in records} == records
    assert all(type(meta[key]) is Record for key in records)
    np.testing.assert_array_equal(meta["history"].state["_log_history"], [0.5, 0.25])
    assert meta["args"].state == {"lr": 0.1, "layers": [1, 2]}
    assert meta["config"].args[0]["model"].args == ({"type": "EncoderDecoder"},)
    assert meta["function"].args is None


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("refused_sparse.pth", "sparse"),
        ("refused_quantised.pth", "quantised"),
        ("refused_module.pth", r"whole object of torch.nn.modules.linear.Linear.*state_dict\(\)"),
        ("refused_script.pth", "TorchScript"),
    ],
)
def test_what_is_refused(file, message):
    with pytest.raises(CheckpointError, match=message) as error:
        load_checkpoint(FIXTURES / file)
    assert file in str(error.value)


def weights(file: str) -> Path:
    if not (WEIGHTS / file).exists():
        pytest.skip(f"needs {file} in {WEIGHTS} (set JAXSEG_DATA)")
    return WEIGHTS / file


@pytest.mark.parametrize(("file", "crc"), json.loads((FIXTURES / "weights_crc.json").read_text()).items())
def test_real_weights_equal_pytorchs(file, crc):
    found = 0
    for key, array in sorted(load_checkpoint(weights(file)).items()):
        found = zlib.crc32(array.tobytes(), zlib.crc32(f"{key} {array.dtype} {array.shape}".encode(), found))
    assert found == crc


def test_real_weights_fit_their_recipe():
    state = load_checkpoint(weights("cgnet_camvid_mmseg_format.pth"))
    variables = convert(build_model(cgnet.get_config("cgnet_camvid").model), state)
    kernel = variables["params"]["decode_head"]["conv_seg"]["kernel"]
    np.testing.assert_array_equal(kernel.reshape(256, 11), state["decode_head.conv_seg.weight"][:, :, 0, 0].T)


# Forms that PyTorch writes rarely.


def test_protocol_0_and_legacy_views(read):
    data = np.arange(8, dtype="f4")
    view = op(("storage", name("torch.cuda", "FloatStorage"), "7", "cuda:0", 8, ("9", 2, 4))) + b"Q"
    content = pickled(op({"a": tensor(1, (3,), (1,), view), "b": tensor(of=view, function="_rebuild_tensor")}))
    state = read(legacy_bytes(content, [("7", 8, data.tobytes())]))
    assert_same(state, {"a": data[3:6], "b": data[2:6]})


def test_compressed_and_big_endian(read):
    wanted = np.arange(4, dtype="f4")
    content = pickled(op({"a": tensor(), "b": tensor(2, (2,), (1,))}))
    big = [("0", wanted.byteswap().tobytes())]
    for data in (
        zip_bytes(content, compress=zipfile.ZIP_DEFLATED),
        zip_bytes(content, big, byteorder=b"big"),
        zip_bytes(content, big, zipfile.ZIP_DEFLATED, byteorder=b"big"),
    ):
        assert_same(read(data), {"a": wanted, "b": wanted[2:]})
    with pytest.raises(CheckpointError, match="byte order"):
        read(zip_bytes(content, byteorder=b"middle"))


def test_big_endian_bfloat16(read):
    wanted = np.arange(4).astype(ml_dtypes.bfloat16)
    content = pickled(op({"a": tensor(of=storage(kind="BFloat16Storage"))}))
    raw = wanted.view(np.uint16).byteswap().tobytes()
    assert_same(read(zip_bytes(content, [("0", raw)], byteorder=b"big")), {"a": wanted})


def test_tensors_of_other_devices(read):
    dtype = call("numpy", "dtype", "f4", b"\x89", b"\x88")
    raw = call("_codecs", "encode", np.arange(2, dtype="f4").tobytes().decode("latin1"), "latin1")
    array = call("numpy.core.multiarray", "_reconstruct", name("numpy", "ndarray"), (0,), raw)
    array += op((1, (2,), dtype, b"\x89", raw)) + b"b"
    content = pickled(
        op({"a": call("torch._utils", "_rebuild_xla_tensor", array, name("torch", "float16"), "xla:0", b"\x89")})
    )
    assert_same(read(zip_bytes(content)), {"a": np.arange(2, dtype="f2")})


def test_safetensors(read):
    header = {
        "__metadata__": {"format": "pt"},
        "b": {"dtype": "BF16", "shape": [2], "data_offsets": [8, 12]},
        "a": {"dtype": "I32", "shape": [1, 2], "data_offsets": [0, 8]},
        "empty": {"dtype": "F32", "shape": [0, 3], "data_offsets": [12, 12]},
    }
    a, b = np.array([[1, 2]], "i4"), np.array([1, 2], ml_dtypes.bfloat16)
    state = read(safetensors_bytes(header, a.tobytes() + b.tobytes()))
    assert_same(state, {"b": b, "a": a, "empty": np.empty((0, 3), "f4")})


# The state dict in what surrounds it.


@pytest.mark.parametrize(
    "content",
    [
        {"x": tensor()},
        {"module.x": tensor()},
        {"state_dict": op({"x": tensor()})},
        {"epoch": 1, "model": op({"module.module.x": tensor()})},
        {"model": op({"state_dict": op({"x": tensor()}), "epoch": 1})},
        {"meta": op({}), "module": op({"x": tensor(), "bn_extra_state": op({})})},
        {"model_state_dict": op({"x": call("torch._utils", "_rebuild_parameter", tensor(), b"\x88", op({}))})},
    ],
)
def test_finds_the_state_dict(read, content):
    assert_same(read(zip_bytes(pickled(op(content)))), {"x": np.arange(4, dtype="f4")})


def test_keeps_a_prefix_that_not_all_share_and_takes_numbers(read):
    state = read(zip_bytes(pickled(op({"module.x": tensor(), "y": 3}))))
    assert list(state) == ["module.x", "y"]
    assert (state["y"].shape, state["y"]) == ((), 3)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (op({}), "no tensors"),
        (op({"state_dict": op({})}), "`state_dict` holds no tensors"),
        (op({"weights": op({"x": tensor()}), "epoch": 1}), "weights is a dict, not a tensor. It has: weights, epoch"),
        (op({"x": tensor(), "y": "text"}), "y is a str"),
        (op({1: tensor()}), "no state dict"),
        (op({"model": call("my.module", "Net")}), "`model` is a whole object of my.module.Net"),
        (tensor(), "a ndarray, not tensors by name"),
    ],
)
def test_no_state_dict(read, content, message):
    with pytest.raises(CheckpointError, match=message):
        read(zip_bytes(pickled(content)))


# Files that are no checkpoints.


def npz_bytes(save=np.savez, **arrays) -> bytes:
    file = io.BytesIO()
    save(file, **arrays)
    return file.getvalue()


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz(read, save):
    kernel = np.asfortranarray(np.random.default_rng(0).normal(0, 1, (2, 3, 4)).astype(np.float32))
    arrays = {"block_0/kernel": kernel, "count": np.array(7), "half": np.arange(3, dtype=np.float16)}
    found = read(npz_bytes(save, **arrays))
    assert list(found) == list(arrays)
    for key, array in arrays.items():
        np.testing.assert_array_equal(found[key], array)
        assert found[key].dtype == array.dtype
    assert read(npz_bytes(save, **arrays), read_checkpoint).format == "npz"


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.array([{}, None], object), "damaged or cut off .*allow_pickle"),
        (np.array(["text"]), "its array a.npy has the dtype <U4, which is not supported"),
        (np.zeros(2, ml_dtypes.bfloat16), r"its array a.npy has the dtype \|V2"),
    ],
)
def test_npz_without_numbers(read, array, message):
    with pytest.raises(CheckpointError, match=message):
        read(npz_bytes(a=array))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html>404</html>", "web page"),
        (b"\n <html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "Git LFS pointer.*git lfs pull"),
        (b"\x89PNG\r\n\x1a\n" + bytes(99), "PNG"),
        (b"\x1f\x8b" + bytes(99), "gzip"),
        (b'{"a": 1}', "JSON"),
        (b"\x00" * 600, "something else"),
        (b"\x00" * 257 + b"ustar" + bytes(300), "tar format"),
        (pickle.dumps({"a": 1}), "a pickle, but no checkpoint"),
        (zip_bytes(b"")[:50], "damaged or cut off"),
        (b"PK\x03\x04", "damaged or cut off"),
        (b"\x80", "damaged or cut off"),
    ],
)
def test_other_files(read, data, message):
    with pytest.raises(CheckpointError, match=message) as error:
        read(data)
    assert ".pth" in str(error.value)


def test_other_paths(tmp_path):
    other = tmp_path / "other.zip"
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("word/document.xml", "")
    os.mkfifo(tmp_path / "pipe")
    for path, message in (
        (other, "no data.pkl"),
        (tmp_path / "absent.pth", "no such file"),
        (tmp_path, "not a file"),
        (tmp_path / "pipe", "not a file"),
    ):
        with pytest.raises(CheckpointError, match=f"{path.name}.*{message}"):
            load_checkpoint(path)


# Files that lie.


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
        return (FIXTURES / file).read_bytes()
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
