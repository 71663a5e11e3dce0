"""Checkpoints: what PyTorch wrote is read to the bit; what is none is refused."""

import json
import os
import pickle
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
from pytorch_files import (
    CHECKPOINTS,
    EVERYTHING,
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

REAL_DATA = Path(os.environ.get("JAXSEG_DATA", Path(__file__).parents[2] / ".." / "shared" / "data"))
WEIGHTS = REAL_DATA.parent / "weights"


def expected() -> dict[str, np.ndarray]:
    with np.load(CHECKPOINTS / "expected.npz") as file:
        about = json.loads(str(file["about"]))
        dtypes = {name: np.dtype(getattr(ml_dtypes, dtype, None) or dtype) for name, (dtype, _) in about.items()}
        return {name: file[name].view(dtypes[name]).reshape(shape) for name, (_, shape) in about.items()}


def assert_same(found, wanted):
    assert list(found) == list(wanted)
    for key, value in wanted.items():
        assert (found[key].dtype, found[key].shape) == (value.dtype, value.shape), key
        assert found[key].tobytes() == value.tobytes(), key


# What PyTorch wrote.


@pytest.mark.parametrize("file", EVERYTHING)
def test_tensors_equal_pytorchs(file):
    assert_same(load_checkpoint(CHECKPOINTS / file), expected())


@pytest.mark.parametrize("file", EVERYTHING)
def test_tensors_are_views_of_the_file(file):
    state = load_checkpoint(CHECKPOINTS / file)
    assert np.shares_memory(state["base"], state["shared"])
    assert np.shares_memory(state["base"], state["transposed"])
    assert not any(array.flags.owndata for key, array in state.items() if key not in ("empty", "conjugated"))
    with pytest.raises(ValueError, match="read-only"):
        state["base"][:] = 0


@pytest.mark.parametrize("file", EVERYTHING)
def test_what_lies_beside_the_tensors(file):
    checkpoint = read_checkpoint(CHECKPOINTS / file)
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
        load_checkpoint(CHECKPOINTS / file)
    assert file in str(error.value)


def weights(file: str) -> Path:
    if not (WEIGHTS / file).exists():
        pytest.skip(f"needs {file} in {WEIGHTS} (set JAXSEG_DATA)")
    return WEIGHTS / file


@pytest.mark.parametrize(("file", "crc"), json.loads((CHECKPOINTS / "weights_crc.json").read_text()).items())
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
