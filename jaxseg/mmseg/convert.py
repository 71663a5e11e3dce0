"""Between the reference's state dicts and jaxseg's variables.

One rule renames nearly everything: a parameter's path, its parts joined by "_", equals the reference's name with
"_" for ".", and the last part says what it is (`weight` is a kernel, a scale or a slope by what ours is called).
So the names of submodules mirror the reference's, and no table is needed.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import numpy as np
from flax.traverse_util import unflatten_dict

from jaxseg.errors import CheckpointError, did_you_mean
from jaxseg.models.names import Path, reference_name, variable_shapes

IGNORED = ("num_batches_tracked",)


def reference_names(model: nn.Module, names: list[str]) -> dict[str, Path]:
    """The path of our variable for every name of the reference's that has one."""
    ours = {}
    for path in variable_shapes(model):
        key = _normalised(reference_name(path[1:]))
        if key in ours:
            raise CheckpointError(f"{'/'.join(path)} and {'/'.join(ours[key])} have one name in the reference")
        ours[key] = path
    return {name: ours[_normalised(name)] for name in names if _normalised(name) in ours}


def convert(model: nn.Module, state_dict: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Variables of `model` from a state dict of the reference's.

    Args:
        model: The segmentor.
        state_dict: Arrays by the reference's names, in PyTorch's layouts.

    Returns:
        {"params": ..., "batch_stats": ...} of float32 arrays.

    Raises:
        CheckpointError: A tensor is left over, a variable is not filled, or shapes differ; all are listed.
    """
    shapes = variable_shapes(model)
    names = [name for name in state_dict if not name.endswith(IGNORED)]
    paths = reference_names(model, names)
    variables, problems = {}, []
    for name, path in paths.items():
        array = to_ours(np.asarray(state_dict[name]), path)
        if array.shape != shapes[path].shape:
            problems.append(f"{name}: {array.shape} does not fit {'/'.join(path)} {shapes[path].shape}")
        variables[path] = array
    unfilled = ["/".join(path) for path in shapes if path not in variables]
    unused = [name for name in names if name not in paths]
    problems += [f"not in the checkpoint: {path}. {did_you_mean(path, unused)}" for path in unfilled]
    problems += [f"not in the model: {name}" for name in unused]
    if problems:
        shown = "\n  ".join(problems[:40])
        raise CheckpointError(f"The checkpoint does not fit the model ({len(problems)} problems):\n  {shown}")
    return unflatten_dict(variables)


def to_ours(array: np.ndarray, path: Path) -> np.ndarray:
    """An array in our layout: kernels [h w in out] or [in out], everything else as it is."""
    if path[-1] == "kernel":
        array = array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T
    return np.ascontiguousarray(array, dtype=np.float32)


def _normalised(name: str) -> str:
    return name.replace(".", "_")
