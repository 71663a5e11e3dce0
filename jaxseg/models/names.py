"""Names of variables: paths here, and the dotted names that the reference gives the same arrays.

A parameter's path, its parts joined by "_", equals the reference's name with "_" for ".", and the last part says what
it is (`weight` is a kernel, a scale or a slope by what ours is called). So the names of submodules mirror the
reference's, and the way in needs no table. On the way back, a number after "_" is one after "." there; a module for
which that is not so says it in its attribute `dotted_names`, pairs of a pattern and what it becomes.
"""

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict

Path = tuple[str, ...]

# Our leaf -> the reference's.
LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "negative_slope": "weight",
    "factor": "scale",  # what the reference itself calls a scale (DANet, CCNet, EncNet) is no norm's
    "mean": "running_mean",
    "var": "running_var",
}
# Layers of the heads whose shapes depend on the classes: classifiers, EncNet's presence, what PointRend refines,
# the classes of Segmenter, its norm of masks, and those of masks.
CLASS_LAYERS = re.compile(r"_seg$|^se_layer$|^fcs_\d+$|^cls_emb$|^cls_embed|^mask_norm$")


@dataclasses.dataclass(frozen=True)
class Source:
    """Checkpoints that name things otherwise: how to bring their names to the reference's.

    A module lists those it can be filled from in its attribute `sources`, by name.

    Attributes:
        rules: Patterns and what each becomes; all are applied to every name, in this order.
        ignored: Pattern of names, as they are in the file, that have no counterpart.
        zeros: Names, the reference's, of arrays of zeros that such a file leaves out.
        initial: Pattern of names, the reference's, of what such a file may lack: it stays as it is initialised.
        prepare: What one array cannot say: makes of all arrays of the file, by its names, those that the rules are for.
        transform: What a name cannot say: makes of the reference's name and the array the array, or several by name.
        fit: Makes of the reference's name, the array and the shape that it should have an array of that shape; what
            it does not know it returns as it is.
        whole: Whether the file is of a whole segmentor; otherwise of a backbone.
    """

    rules: tuple[tuple[str, str | Callable[[re.Match], str]], ...] = ()
    ignored: str = "(?!)"
    zeros: tuple[str, ...] = ()
    initial: str = "(?!)"
    prepare: Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]] | None = None
    transform: Callable[[str, np.ndarray], np.ndarray | Mapping[str, np.ndarray]] | None = None
    fit: Callable[[str, np.ndarray, tuple[int, ...]], np.ndarray] | None = None
    whole: bool = False

    def rename(self, name: str) -> str | None:
        """The reference's name; None for what is ignored."""
        if re.search(self.ignored, name):
            return None
        for pattern, replacement in self.rules:
            name = re.sub(pattern, replacement, name)
        return name if self.whole else f"backbone.{name}"

    def prepared(self, state_dict: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """The arrays that the rules are for."""
        return state_dict if self.prepare is None else self.prepare(state_dict)

    def arrays(self, name: str, array: np.ndarray) -> Mapping[str, np.ndarray]:
        """What an array of the file is, by the reference's names; nothing for what is ignored."""
        renamed = self.rename(name)
        if renamed is None:
            return {}
        made = array if self.transform is None else self.transform(renamed, array)
        return made if isinstance(made, Mapping) else {renamed: made}

    def may_lack(self, path: Path) -> bool:
        """Whether a variable may stay as it is initialised."""
        return re.search(self.initial, reference_name(path[1:])) is not None


REFERENCE = Source(whole=True)


def sources(model: nn.Module) -> Mapping[str, Source]:
    """The checkpoints that a segmentor, or its backbone alone, can be filled from, by name."""
    part = model if hasattr(model, "sources") else model.backbone
    return {"mmseg": REFERENCE} | dict(getattr(part, "sources", {}))


def encoder(model: nn.Module) -> nn.Module:
    """The part of a segmentor that sees the images first."""
    return model.image_encoder if hasattr(model, "image_encoder") else model.backbone


def reference_constants(model: nn.Module) -> dict[str, np.ndarray]:
    """Arrays in the reference's state dict that follow from the model's fields, and are no variables here.

    A backbone, neck or head has them in a property `reference_constants`, by the names that they have below it.
    """
    parts = {name: getattr(model, name, None) for name in ("backbone", "neck", "image_encoder", "text_encoder")}
    for name in ("decode_head", "auxiliary_head"):
        head = getattr(model, name, None)
        parts |= (
            {f"{name}.{i}": item for i, item in enumerate(head)} if isinstance(head, tuple | list) else {name: head}
        )
    return {
        f"{part}.{name}": np.asarray(array)
        for part, module in parts.items()
        for name, array in getattr(module, "reference_constants", {}).items()
    }


def second_names(model: nn.Module, paths: Iterable[Path]) -> dict[Path, str]:
    """The second names of those variables that the reference's state dict has twice, because it shares a module.

    A backbone, neck or head says which in its attribute `second_names`: pairs of a pattern of the first name, as it
    is below it, and what that becomes in the second. When both are loaded, the second counts, as in PyTorch.

    Args:
        model: The segmentor.
        paths: Of variables, collection first.
    """
    seconds = {}
    for path in paths:
        part, module = _part(model, path[1])
        first = dotted_name(model, path[1:]).removeprefix(f"{part}.")
        for pattern, replacement in getattr(module, "second_names", ()):
            second, found = re.subn(pattern, replacement, first)
            if found:
                seconds[path] = f"{part}.{second}"
    return seconds


def sample_shape(model: nn.Module) -> tuple[int, int, int, int]:
    """Of images to initialise a segmentor with.

    A backbone that takes no others has their size in `sample_size`; a head that needs larger ones than 64x64, too.
    """
    size = getattr(encoder(model), "sample_size", None)
    if size is None:
        size = map(max, getattr(model.final_head, "sample_size", (64, 64)), (64, 64))
    return 1, *size, getattr(encoder(model), "in_channels", 3)


def variable_shapes(model: nn.Module) -> dict[Path, jax.ShapeDtypeStruct]:
    """Shapes of all variables by path (collection first), without computing any."""
    images = jax.ShapeDtypeStruct(sample_shape(model), jnp.float32)
    return flatten_dict(jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), images))


def reference_name(path: Path) -> str:
    """The reference's name of a variable, with "_" where it may have "." (see the rule above)."""
    return ".".join((*path[:-1], LEAVES.get(path[-1], path[-1])))


def of_classes(path: Sequence[str]) -> bool:
    """Whether a parameter belongs to a layer whose shape depends on the classes."""
    return any(CLASS_LAYERS.search(part) for part in path)


def dotted_name(model: nn.Module, path: Path) -> str:
    """The reference's name of a variable of a segmentor; `path` begins after the collection."""
    part, *inner = path
    name, module = _part(model, part)
    for step in inner[:-1]:
        for pattern, dotted in getattr(module, "dotted_names", ()):
            step, found = re.subn(pattern, dotted, step)
            if found:
                break
        else:
            step = re.sub(r"_(?=\d+(?:_|$))", ".", step)
        name += f".{step}"
    return f"{name}.{LEAVES.get(path[-1], path[-1])}"


def _part(model: nn.Module, part: str) -> tuple[str, nn.Module]:
    """The reference's name of a backbone, neck or head, and the module."""
    name = re.sub(r"_(\d+)$", r".\1", part)
    module = getattr(model, name.split(".")[0])
    return name, module[int(name.split(".")[1])] if isinstance(module, tuple | list) else module
