"""What the figures of all subjects share: weights, modules and files."""

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmseg.models.decode_heads import psa_head
from mmseg.registry import MODELS


class PSAMask(torch.nn.Module):
    """The compiled operator of PSANet's head, from its definition."""

    def __init__(self, psa_type: str, mask_size: tuple[int, int]):
        super().__init__()
        self.psa_type, self.mask_size = psa_type, mask_size

    def forward(self, masks: torch.Tensor) -> torch.Tensor:
        """From masks around each pixel to places in the map; 0 where a mask does not reach."""
        (n, _, h, w), (rows, columns) = masks.shape, self.mask_size
        masks, out = masks.reshape(n, rows, columns, h, w), masks.new_zeros(n, h, w, h, w)
        for y, x, row, column in np.ndindex(h, w, rows, columns):
            i, j = row + y - (rows - 1) // 2, column + x - (columns - 1) // 2
            if 0 <= i < h and 0 <= j < w:
                place = (i, j, y, x) if self.psa_type == "collect" else (y, x, i, j)
                out[:, *place] = masks[:, row, column, y, x]
        return out.reshape(n, h * w, h, w)


psa_head.PSAMask = PSAMask
IGNORE = 255
BN = {"type": "BN", "requires_grad": True}


def fill(key: str, shape: tuple[int, ...]) -> np.ndarray:
    """A weight as a function of its own name and shape, so that no weights file is needed."""
    rng = np.random.default_rng(zlib.crc32(key.encode()))
    leaf = key.rsplit(".", 1)[-1]
    if leaf == "running_mean":
        return rng.normal(0, 0.1, shape)
    if leaf == "running_var":
        return rng.uniform(0.5, 1.5, shape)
    if leaf == "bias" or leaf.endswith("_bias"):
        return rng.normal(0, 0.1, shape)
    if leaf == "weight" and len(shape) == 1:
        return rng.uniform(0.8, 1.2, shape)
    if len(shape) >= 2 and (leaf == "weight" or leaf.endswith("_weight")):
        return rng.normal(0, (2.0 / np.prod(shape[1:])) ** 0.5, shape)
    return rng.normal(0, 0.1, shape)


def entries(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The state dict; what it has twice, because a module is shared, by the first name only."""
    state, seen = module.state_dict(), set()
    return {key: value for key, value in state.items() if not (value.data_ptr() in seen or seen.add(value.data_ptr()))}


def fill_module(module: torch.nn.Module) -> torch.nn.Module:
    """Put `fill` into every floating point entry of the state dict, rounded to float32."""
    for key, value in entries(module).items():
        if value.is_floating_point():
            value.copy_(torch.from_numpy(fill(key, tuple(value.shape)).astype(np.float32)))
    return module


def build(config: dict[str, Any]) -> torch.nn.Module:
    """Build from a copy: the reference writes into the dicts that it is given (CGNet's `act_cfg`)."""
    if config["type"].startswith("mmpretrain."):
        import mmpretrain.models  # noqa: F401  (registers them)
    return MODELS.build(json.loads(json.dumps(config), object_hook=tuples))


def tuples(config: dict[str, Any]) -> dict[str, Any]:
    """JSON has lists only; CGNet insists on tuples and takes them everywhere."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in config.items()}


def save_npz(path: Path, meta: Any, arrays: dict[str, np.ndarray]) -> None:
    np.savez_compressed(path, meta=np.frombuffer(json.dumps(meta).encode(), np.uint8), **arrays)


def save_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, separators=(",", ":")) + "\n")
