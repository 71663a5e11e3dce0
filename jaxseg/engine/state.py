"""What a training run carries from step to step."""

from collections.abc import Callable, Mapping
from typing import Any

import flax.struct
import jax
from flax.traverse_util import flatten_dict, unflatten_dict

from jaxseg.errors import ConfigError
from jaxseg.models.names import of_classes


@flax.struct.dataclass
class TrainState:
    """State of a run after `step` optimizer steps.

    Attributes:
        step: Number of steps taken.
        params: Parameters, float32.
        batch_stats: Running statistics of the norm layers.
        opt_state: State of the optimizer.
        ema_params: Moving average of the parameters, or None.
    """

    step: Any  # no array in trees of shardings or shapes
    params: Any
    batch_stats: Any
    opt_state: Any
    ema_params: Any = None

    @property
    def variables(self) -> dict[str, Any]:
        """What `model.apply` takes."""
        return {"params": self.params, "batch_stats": self.batch_stats}


def parameter_count(params: Any) -> int:
    """Number of trained numbers."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def take_over(
    variables: Mapping[str, Any], others: Mapping[str, Any], where: str, say: Callable[[str], None]
) -> dict[str, Any]:
    """Other variables to start from.

    Args:
        variables: Those of this model, at its own start.
        others: Those of another run, or of a part of it such as the backbone. Where the classes' layer has another
            shape, this model's stays.
        where: Where they are from, for messages.
        say: Told what stays.

    Raises:
        ConfigError: It is another model; names parameters that differ.
    """
    ours, theirs = flatten_dict(variables, sep="/"), flatten_dict(others, sep="/")
    stay = [name for name in ours if name not in theirs or theirs[name].shape != ours[name].shape]
    parts = {name.split("/")[1] for name in theirs}
    absent = sorted({name.split("/")[1] for name in stay} - parts)  # such as the heads, where there is a backbone only
    classes = [name for name in stay if of_classes(name.split("/")) and name.split("/")[1] in parts]
    wrong = [name for name in stay if name.split("/")[1] in parts and name not in classes]
    wrong += sorted(theirs.keys() - ours.keys())
    if wrong:
        shapes = [tuple(tree[wrong[0]].shape) if wrong[0] in tree else "missing" for tree in (theirs, ours)]
        raise ConfigError(
            f"init_from={where} is of another model: {len(wrong)} parameters differ, such as {wrong[0]} "
            f"({shapes[0]} there, {shapes[1]} here)"
        )
    if absent:
        say(f"{where} has no {', '.join(absent)}: they start anew")
    if classes:
        say(f"{where} has other classes: {', '.join(classes)} start anew")
    return unflatten_dict({name: ours[name] if name in stay else theirs[name] for name in ours}, sep="/")
