"""Write the checkpoints beside this file, and expected.npz with what is in their tensors.

Runs in an environment of its own that has PyTorch 2.13 and mmengine:
`python tests/mmseg/fixtures_checkpoint/make_checkpoints.py`. With the folder of CGNet's published weights as its
argument it also writes weights_crc.json: one CRC-32 a file, of names, dtypes, shapes and bytes of all tensors.

everything_*.pth hold every kind of tensor and of object; small_*.pth are for damaging them; the others are refused.
`expected.npz` has the bytes of every tensor of everything_*.pth, C-contiguous, and `about` its dtype and shape.
"""

import argparse
import collections
import datetime
import json
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
import torch
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer
from torch import nn

HERE = Path(__file__).parent
DTYPES = [
    *("float16", "float32", "float64", "bfloat16", "float8_e4m3fn", "float8_e5m2", "complex64", "complex128", "bool"),
    *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
]


class Tagged(torch.Tensor):
    """A subclass, which is saved by `_rebuild_from_type_v2`."""


def tensors() -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(0)
    state = collections.OrderedDict()
    for name in DTYPES:
        values = torch.from_numpy(rng.integers(0, 100, (2, 3)))
        state[f"dtype.{name}"] = (values % 2 if name == "bool" else values).to(getattr(torch, name))
    base = torch.from_numpy(rng.standard_normal((4, 6)).astype(np.float32))
    state["base"] = base
    state["shared"] = base
    state["row"] = base[2]
    state["transposed"] = base.t()
    state["strided"] = base[1::2, ::3]
    state["channels_last"] = torch.from_numpy(rng.standard_normal((2, 3, 2, 2))).to(memory_format=torch.channels_last)
    state["expanded"] = base[0].expand(3, 6)
    state["windows"] = base.flatten().unfold(0, 3, 1)
    state["zero_dim"] = torch.tensor(2.5)
    state["empty"] = torch.empty(0, 3)
    state["parameter"] = nn.Parameter(base[:2].clone())
    state["buffer"] = nn.Buffer(base[2:].clone())
    state["subclass"] = base[:1].clone().as_subclass(Tagged)
    state["conjugated"] = torch.tensor([1 + 2j, 3 - 4j]).conj()
    return state


def meta() -> dict:
    """What runners write beside weights, and worse."""
    history = HistoryBuffer()
    history.update(0.5)
    history.update(0.25)
    shared = [1, 2]
    endless = [3]
    endless.append(endless)
    return {
        "dataset_meta": {"classes": ("road", "sky"), "palette": [[128, 64, 128], [70, 130, 180]]},
        "epoch": 3,
        "iter": np.int64(160_000),
        "best": np.float32(0.5),
        "time": datetime.datetime(2020, 1, 2),
        "history": history,
        "config": ConfigDict(model=ConfigDict(type="EncoderDecoder")),
        "args": argparse.Namespace(lr=0.1, layers=[1, 2]),
        "function": print,
        "array": np.arange(6, dtype=">i2").reshape(2, 3),
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "objects": np.array([None, "a"], dtype=object),
        "counts": collections.defaultdict(list, a=[1]),
        "recent": collections.deque([1, 2], maxlen=2),
        "set": {1, 2},
        "frozen": frozenset([3]),
        "bytes": b"\x00\xff",
        "complex": 1 + 2j,
        "path": Path("a/b"),
        "large": 2**100,
        "none": None,
        "size": torch.Size([2, 3]),
        "device": torch.device("cpu"),
        "keys": {(1, 2): "tuple", None: "none", 1.5: "float", np.int64(7): "scalar"},
        "shared": [shared, shared],
        "endless": endless,
    }


def save(name: str, content: object, new: bool = True, **options: int) -> None:
    torch.save(content, HERE / name, _use_new_zipfile_serialization=new, **options)


def main() -> None:
    warnings.simplefilter("ignore")
    state = tensors()
    content = {"meta": meta(), "state_dict": state, "optimizer": {"state": {0: {"step": torch.tensor(5.0)}}}}
    save("everything_zip.pth", content)
    save("everything_protocol5.pth", content, pickle_protocol=5)
    save("everything_legacy.pth", content, new=False)

    small = {
        "a.weight": torch.arange(6.0).reshape(2, 3),
        "a.bias": torch.arange(2),
        "n": torch.tensor(1, dtype=torch.int8),
    }
    save("small_zip.pth", {"state_dict": small, "meta": {"epoch": 1}})
    save("small_legacy.pth", {"state_dict": small, "meta": {"epoch": 1}}, new=False)

    save("refused_sparse.pth", {"a": torch.eye(2).to_sparse()})
    save("refused_quantised.pth", {"a": torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)})
    save("refused_module.pth", nn.Linear(1, 1))
    torch.jit.script(nn.Linear(1, 1)).save(HERE / "refused_script.pth")

    about, values = {}, {}
    for name, tensor in state.items():
        tensor = tensor.detach().as_subclass(torch.Tensor).resolve_conj().contiguous()
        about[name] = [str(tensor.dtype).removeprefix("torch."), list(tensor.shape)]
        raw = bytes(tensor.flatten().view(torch.uint8).tolist()) if tensor.numel() else b""
        values[name] = np.frombuffer(raw, np.uint8)
    np.savez_compressed(HERE / "expected.npz", about=json.dumps(about), **values)

    if len(sys.argv) > 1:
        sums = {path.name: checksum(path) for path in sorted(Path(sys.argv[1]).glob("*.pth"))}
        (HERE / "weights_crc.json").write_text(json.dumps(sums, indent=2) + "\n")


def checksum(path: Path) -> int:
    content = torch.load(path, map_location="cpu", weights_only=False)
    state = content.get("state_dict") or content.get("model") or content
    crc = 0
    for name, tensor in sorted(state.items()):
        array = np.ascontiguousarray(tensor.numpy())
        crc = zlib.crc32(array.tobytes(), zlib.crc32(f"{name} {array.dtype} {tensor.numpy().shape}".encode(), crc))
    return crc


if __name__ == "__main__":
    main()
