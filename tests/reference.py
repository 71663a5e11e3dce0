"""Figures of the reference: where they are, and the weights and models that they were computed with."""

import contextlib
import functools
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from ml_collections import ConfigDict

from jaxseg.config import load_recipe
from jaxseg.mmseg.convert import to_ours
from jaxseg.models.names import reference_name

TESTS = Path(__file__).parent
FIXTURES = TESTS / "fixtures"
GOLDEN = TESTS / "golden"


def load_npz(path: Path) -> tuple[Any, Mapping[str, np.ndarray]]:
    """The description and the arrays of a file of figures."""
    with np.load(path) as arrays:
        return json.loads(bytes(arrays["meta"])), {name: arrays[name] for name in arrays if name != "meta"}


def load_json(path: Path) -> Any:
    return json.loads(path.read_text())


def fill(key: str, shape: Sequence[int]) -> np.ndarray:
    """A weight as a function of its own name and shape, as the reference had it when the figures were computed."""
    rng = np.random.default_rng(zlib.crc32(key.encode()))
    leaf = key.rsplit(".", 1)[-1]
    if leaf == "running_var":
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    if leaf == "weight" and len(shape) == 1:
        return rng.uniform(0.8, 1.2, shape).astype(np.float32)
    if len(shape) >= 2 and (leaf == "weight" or leaf.endswith("_weight")):
        return rng.normal(0, (2.0 / np.prod(shape[1:])) ** 0.5, shape).astype(np.float32)
    return rng.normal(0, 0.1, shape).astype(np.float32)


def state_dict(keys: Sequence[Sequence]) -> dict[str, np.ndarray]:
    """The filled state dict of `meta["keys"]`: [name, shape, ...], without the counters of batches."""
    return {key: fill(key, shape) for key, shape, *_ in keys if not key.endswith("num_batches_tracked")}


def filled_variables(module: nn.Module, keys: Sequence[Sequence], *inputs: Any) -> dict[str, Any]:
    """Filled variables of a part of a model; every key must have its place."""
    tensors = {key.replace(".", "_"): value for key, value in state_dict(keys).items()}
    shapes = flatten_dict(jax.eval_shape(module.init, jax.random.key(0), *inputs))
    variables = {path: to_ours(tensors.pop(reference_name(path[1:]).replace(".", "_")), path) for path in shapes}
    assert tensors.keys() == {name.replace(".", "_") for name in getattr(module, "reference_constants", ())}
    assert {path: leaf.shape for path, leaf in variables.items()} == {p: leaf.shape for p, leaf in shapes.items()}
    return unflatten_dict(variables)


@contextlib.contextmanager
def precision(dtype: type) -> Iterator[None]:
    """Computes in float64 where `dtype` is that; models follow the dtype of their input and variables."""
    with jax.enable_x64(dtype == np.float64):
        yield


def as_dtype(tree: Any, dtype: type) -> Any:
    return jax.tree.map(lambda leaf: np.asarray(leaf, dtype), tree)


def nhwc(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array.transpose(0, 2, 3, 1))


def nchw(array: Any) -> np.ndarray:
    return np.asarray(array).transpose(0, 3, 1, 2)


@functools.cache
def structure(name: str) -> ConfigDict:
    """`config.model` of the recipe whose figures are in golden/NAME.npz, in full precision and with its overrides."""
    method, recipe = name.split("__")
    model = load_recipe(f"configs/{method}.py:{recipe}").model.copy_and_resolve_references()
    changes = load_npz(GOLDEN / f"{name}.npz")[0].get("overrides", {})
    with model.unlocked():
        model.dtype = None
        model.update_from_flattened_dict({key: tuple(value) for key, value in changes.items()})
        model.dtype = None
    return model.lock()
