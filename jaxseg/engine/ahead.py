"""The train step of a recipe compiled ahead of time, for devices that need not be here, and what it would take."""

import collections
import math
import re
import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding

from jaxseg.engine.mesh import by_batch, by_size, check_batch_size, make_mesh, replicated
from jaxseg.engine.optim import build_optimizer
from jaxseg.engine.state import TrainState, parameter_count
from jaxseg.engine.step import make_train_step
from jaxseg.errors import ConfigError
from jaxseg.models import build_model
from jaxseg.models.layers.platform import jit, target_platform
from jaxseg.models.names import sample_shape
from jaxseg.models.registry import Config

COLLECTIVES = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
_BYTES = {"pred": 1, "s8": 1, "u8": 1, "s16": 2, "u16": 2, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "f32": 4}


def topology_devices(name: str, platform: str = "tpu") -> Sequence[Any]:
    """Devices that are not here, such as those of "v5e:4x4"; of TPUs they need the package libtpu.

    Raises:
        ConfigError: There is no such topology, or no libtpu.
    """
    from jax.experimental import topologies

    try:
        return topologies.get_topology_desc(platform=platform, topology_name=name).devices
    except Exception as error:  # whatever the plugin says
        raise ConfigError(f"the topology {name!r} can't be used: {str(error).splitlines()[0][:300]}") from error


def abstract_state(config: Config, model: Any, mesh: Mesh) -> tuple[TrainState, Any]:
    """Shapes of a run's state, with where they lie on the mesh; and the optimizer."""
    images = jax.ShapeDtypeStruct((*sample_shape(model)[:3], len(config["preprocess"]["mean"])), jnp.float32)
    variables = {"batch_stats": {}, **jax.eval_shape(model.init, jax.eval_shape(jax.random.key, 0), images)}
    optimizer = build_optimizer(config, variables["params"])
    opt_state = jax.eval_shape(optimizer.init, variables["params"])
    state = TrainState(jax.ShapeDtypeStruct((), jnp.int32), variables["params"], variables["batch_stats"], opt_state)
    return jax.tree.map(_placed, state, by_size(state, mesh)), optimizer


def _placed(leaf: Any, sharding: NamedSharding) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def compile_train_step(config: Config, devices: Sequence[Any], size: tuple[int, int]) -> tuple[Any, dict[str, Any]]:
    """Compiles the train step of a recipe for devices.

    Args:
        config: A recipe whose heads know their number of classes.
        devices: As many as `config.mesh` has.
        size: Height and width of the images that are trained on.

    Returns:
        The compiled program, and figures of it: "parameters", "compile_seconds", bytes a device in "memory" by kind,
        "flops" a device and step, "collectives" ({kind: {"count", "bytes"}} of their results on a device).

    Raises:
        ConfigError: `config.mesh` or `config.batch_size` don't fit the devices.
    """
    mesh = make_mesh(config["mesh"], devices)
    check_batch_size(config["batch_size"], mesh.size)
    with target_platform(devices[0].platform):
        model = build_model(config["model"])
        state, optimizer = abstract_state(config, model, mesh)
        shape = (config["batch_size"], *size)
        channels = len(config["preprocess"]["mean"])
        batch = {
            "image": jax.ShapeDtypeStruct((*shape, channels), jnp.uint8, sharding=by_batch(mesh)),
            "label": jax.ShapeDtypeStruct(shape, jnp.uint8, sharding=by_batch(mesh)),
        }
        step = make_train_step(model, optimizer, config["preprocess"], config["seed"])
        step = jit(step, donate_argnums=0, out_shardings=(by_size(state, mesh), replicated(mesh)))
        began = time.time()
        compiled = step.lower(state, batch).compile()
    seconds = time.time() - began
    memory = compiled.memory_analysis()
    held = {
        "parameters": state.params,
        "optimizer state": state.opt_state,
        "statistics": state.batch_stats,
        "batch": batch,
    }
    used = {name: sum(_bytes_of_shard(leaf) for leaf in jax.tree.leaves(tree)) for name, tree in held.items()}
    used["activations and gradients"] = memory.temp_size_in_bytes
    used["program"] = memory.generated_code_size_in_bytes
    arguments, results = memory.argument_size_in_bytes, memory.output_size_in_bytes - memory.alias_size_in_bytes
    used["total"] = arguments + results + used["activations and gradients"] + used["program"]
    cost = compiled.cost_analysis() or {}
    figures = {
        "devices": f"{mesh.size} x {devices[0].device_kind}",
        "mesh": dict(mesh.shape),
        "parameters": parameter_count(state.params),
        "compile_seconds": seconds,
        "memory": used,
        "flops": cost.get("flops"),
        "bytes_accessed": cost.get("bytes accessed"),
        "collectives": count_collectives(compiled.as_text()),
    }
    return compiled, figures


def _bytes_of_shard(leaf: jax.ShapeDtypeStruct) -> int:
    return math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize


def count_collectives(program: str) -> dict[str, dict[str, int]]:
    """How many collectives of each kind a program's text has, and the bytes of their results.

    Those in loops count once, however often the loop runs.
    """
    found: dict[str, dict[str, int]] = collections.defaultdict(lambda: {"count": 0, "bytes": 0})
    for line in program.splitlines():
        match = re.search(rf"= (.*?) ({'|'.join(COLLECTIVES)})(-start)?\(", line)
        if match:
            shapes = re.findall(r"(\w+)\[([\d,]*)\]", match[1])
            sizes = [_BYTES.get(kind, 4) * math.prod(map(int, filter(None, dims.split(",")))) for kind, dims in shapes]
            # What is started has its operand in the tuple, too, and what keeps track of it.
            found[match[2]]["bytes"] += max(sizes, default=0) if match[3] else sum(sizes)
            found[match[2]]["count"] += 1
    return dict(found)
