"""Between the reference's state dicts and jaxseg's variables.

What arrays are called, here and there, is told in `jaxseg.models.names`; nearly everything follows one rule.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from jaxseg.errors import CheckpointError, ConfigError, did_you_mean
from jaxseg.models.layers.platform import jit
from jaxseg.models.names import (
    Path,
    Source,
    dotted_name,
    encoder,
    of_classes,
    reference_constants,
    reference_name,
    sample_shape,
    second_names,
    sources,
    variable_shapes,
)  # fmt: skip

COUNTER = "num_batches_tracked"
IGNORED = (COUNTER,)  # nothing is computed with them
SHOWN = 40  # problems that an error lists


class Match(NamedTuple):
    """What a state dict holds for a model.

    Attributes:
        variables: Arrays by path, collection first.
        names: Paths by the name of the tensor that fills them.
        unfilled: Paths of what stays as it is initialised: classifiers that it has no fitting array for, and what such
            files may lack.
        ignored: Names of its tensors that nothing is computed with.
    """

    variables: dict[Path, np.ndarray]
    names: dict[str, Path]
    unfilled: list[Path]
    ignored: list[str]


def convert(
    model: nn.Module,
    state_dict: Mapping[str, np.ndarray],
    *,
    source: str = "mmseg",
    new_classes: bool = False,
    seed: int = 0,
) -> dict[str, Any]:
    """Variables of `model` from a state dict.

    Args:
        model: The segmentor.
        state_dict: Arrays in PyTorch's layouts, by the names that `source` gives them.
        source: Whose names: "mmseg", the reference's, or one of the backbone's `sources`.
        new_classes: Whether classifiers of another number of classes may stay as they are initialised.
        seed: Of those initial values.

    Returns:
        {"params": ..., "batch_stats": ...} of float32 arrays; of the backbone alone where the source has no more. They
        are views of the tensors where those are float32.

    Raises:
        CheckpointError: A tensor is left over, a variable is not filled, or shapes differ; lists both sides.
        ConfigError: The backbone has no such source.
    """
    match = match_state_dict(model, state_dict, source, new_classes)
    initial = initial_values(model, match.unfilled, seed) if match.unfilled else {}
    return {"params": {}, "batch_stats": {}} | unflatten_dict({**match.variables, **initial})


def match_state_dict(
    model: nn.Module, state_dict: Mapping[str, np.ndarray], source: str = "mmseg", new_classes: bool = False
) -> Match:
    """Finds the variable of every tensor, strictly both ways; arguments and errors as in `convert`."""
    known = sources(model)
    if source not in known:
        kind = type(encoder(model)).__name__
        raise ConfigError(f"{kind} has no source {source!r}. {did_you_mean(source, known)}")
    rules, constants = known[source], reference_constants(model)
    state_dict = rules.prepared(state_dict)
    shapes = {path: shape for path, shape in variable_shapes(model).items() if _belongs(path, rules)}
    ours = _by_reference_name(shapes)
    there = {_normalised(rules.rename(name) or "") for name in state_dict}
    overwritten = set()
    for path, name in second_names(model, shapes).items():
        if _normalised(name) in there:
            ours[_normalised(name)] = path
            overwritten.add(_normalised(reference_name(path[1:])))

    variables: dict[Path, np.ndarray] = {}
    names: dict[str, Path] = {}
    unused, problems, ignored, other_classes = [], [], [], []
    only_classes = True
    for name, tensor in state_dict.items():
        arrays = {} if name.endswith(IGNORED) else rules.arrays(name, np.asarray(tensor))
        arrays = {
            key: array for key, array in arrays.items() if key not in constants and _normalised(key) not in overwritten
        }
        if not arrays:
            ignored.append(name)
        for renamed, array in arrays.items():
            path = ours.get(_normalised(renamed))
            if path is None:
                unused.append(name)
                continue
            array, shape = to_ours(array, path), shapes[path].shape
            if array.shape != shape and rules.fit is not None:
                array = rules.fit(renamed, array, shape)
            if path in variables:
                only_classes = False
                problems.append(f"twice in the checkpoint: {'/'.join(path)}, the second time as {name}")
            elif array.shape == shape:
                variables[path], names[name if len(arrays) == 1 else f"{name}: {renamed}"] = array, path
            elif of_classes(path) and new_classes:
                other_classes.append(path)
            else:
                only_classes = only_classes and of_classes(path)
                problems.append(f"{name}: {array.shape} does not fit {'/'.join(path)} {shape}")
                variables[path] = array
    for name in rules.zeros:
        path = ours[_normalised(name)]
        variables.setdefault(path, np.zeros(shapes[path].shape, np.float32))

    unfilled = [path for path in shapes if path not in variables]
    missing = [path for path in unfilled if path not in other_classes and not rules.may_lack(path)]
    problems += [f"not in the checkpoint: {'/'.join(path)}. {_nearest(path, unused)}" for path in missing]
    problems += [f"not in the model: {name}. {_nearest_path(name, missing)}" for name in unused]
    if problems:
        lines = "\n  ".join(problem.strip() for problem in problems[:SHOWN])
        more = f"\n  and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        if not missing and not unused and only_classes:
            more += "\nIt is of other classes; new_classes=True (--new_classes) leaves classifiers as initialised."
        raise CheckpointError(f"The checkpoint does not fit the model ({len(problems)} problems):\n  {lines}{more}")
    return Match(variables, names, unfilled, ignored)


def likeliest_source(model: nn.Module, state_dict: Mapping[str, np.ndarray]) -> str:
    """The source under whose names fewest tensors are left over and fewest variables not filled."""
    shapes, known, constants = variable_shapes(model), sources(model), reference_constants(model).keys()

    def problems(rules: Source) -> int:
        ours = _by_reference_name({path: shape for path, shape in shapes.items() if _belongs(path, rules)})
        arrays = rules.prepared(state_dict)
        names = {key for name in arrays if not name.endswith(IGNORED) for key in rules.arrays(name, arrays[name])}
        there = {_normalised(name) for name in names - constants}
        return len(there - ours.keys()) + sum(not rules.may_lack(ours[name]) for name in ours.keys() - there)

    return min(known, key=lambda name: problems(known[name]))


def initial_values(model: nn.Module, paths: list[Path], seed: int) -> dict[Path, np.ndarray]:
    """What the model initialises some variables to."""
    images = jnp.zeros(sample_shape(model))

    def init(key):
        variables = flatten_dict(model.init(key, images))
        return [variables[path] for path in paths]

    return dict(zip(paths, map(np.asarray, jit(init, once=True)(jax.random.key(seed))), strict=True))


def to_state_dict(model: nn.Module, variables: Mapping[str, Any], counter: int = 0) -> dict[str, np.ndarray]:
    """The reference's state dict of a segmentor: the inverse of `convert`.

    Args:
        model: The segmentor.
        variables: {"params": ..., "batch_stats": ...}.
        counter: Training steps, which PyTorch's batch norms count.

    Returns:
        Arrays in PyTorch's layouts by the reference's names, norms' counters among them.
    """
    state_dict = {}
    flat = flatten_dict(dict(variables))
    seconds = second_names(model, flat)
    for path, array in sorted(flat.items(), key=lambda item: item[0][1:]):
        for name in filter(None, (dotted_name(model, path[1:]), seconds.get(path))):
            state_dict[name] = to_reference(np.asarray(array), path)
            if path[-1] == "var":
                state_dict[name.removesuffix("running_var") + COUNTER] = np.asarray(counter, np.int64)
    return state_dict | reference_constants(model)


def to_ours(array: np.ndarray, path: Path) -> np.ndarray:
    """An array in our layout: kernels [h w in out] or [in out], everything else as it is.

    What is float32 already is not copied: a checkpoint that is mapped into memory stays where it is until it is used.
    """
    if path[-1] == "kernel":
        array = array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T
    return array.astype(np.float32, copy=False)


def to_reference(array: np.ndarray, path: Path) -> np.ndarray:
    """An array in PyTorch's layout: the inverse of `to_ours`."""
    if path[-1] == "kernel":
        array = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T
    return array


def reference_names(model: nn.Module, names: list[str]) -> dict[str, Path]:
    """The path of our variable for every name of the reference's that has one."""
    ours = _by_reference_name(variable_shapes(model))
    return {name: ours[_normalised(name)] for name in names if _normalised(name) in ours}


def _belongs(path: Path, rules: Source) -> bool:
    """Whether files of a source hold this variable."""
    return rules.whole or path[1] == "backbone"


def _by_reference_name(shapes: Mapping[Path, Any]) -> dict[str, Path]:
    """Paths by the reference's names, with "_" for "."."""
    ours = {}
    for path in shapes:
        key = _normalised(reference_name(path[1:]))
        if key in ours:
            raise CheckpointError(f"{'/'.join(path)} and {'/'.join(ours[key])} have one name in the reference")
        ours[key] = path
    return ours


def _nearest(path: Path, names: list[str]) -> str:
    hint = did_you_mean(reference_name(path[1:]), names)
    return hint if hint.startswith("Did") else ""


def _nearest_path(name: str, paths: list[Path]) -> str:
    hint = did_you_mean(name, [reference_name(path[1:]) for path in paths])
    return hint if hint.startswith("Did") else ""


def _normalised(name: str) -> str:
    return name.replace(".", "_")
