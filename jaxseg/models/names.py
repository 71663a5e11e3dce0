"""Names of variables: paths here, and the dotted names that the reference gives the same arrays.

A parameter's path, its parts joined by "_", equals the reference's name with "_" for ".", and the last part says what
it is (`weight` is a kernel, a scale or a slope by what ours is called). So the names of submodules mirror the
reference's, and no table is needed.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict

Path = tuple[str, ...]

# Our leaf -> the reference's.
LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "negative_slope": "weight",
    "mean": "running_mean",
    "var": "running_var",
}


def variable_shapes(model: nn.Module, size: tuple[int, int] = (64, 64)) -> dict[Path, jax.ShapeDtypeStruct]:
    """Shapes of all variables by path (collection first), without computing any."""
    channels = getattr(model.backbone, "in_channels", 3)
    images = jax.ShapeDtypeStruct((1, *size, channels), jnp.float32)
    return flatten_dict(jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), images))


def reference_name(path: Path) -> str:
    """The reference's name of a variable, with "_" where it may have "." (see the rule above)."""
    return ".".join((*path[:-1], LEAVES.get(path[-1], path[-1])))
