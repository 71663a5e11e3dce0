"""Trains a small model on one device and on meshes of 8: `meshes.py FOLDER NAME...`, the names of MESHES.

The last line that it prints is a JSON of the losses, and of what the devices held.
"""

import json
import sys
from pathlib import Path

import jax
import numpy as np

from jaxseg import config as run_config
from jaxseg.configs import common
from jaxseg.engine.checkpoint import Checkpointer
from jaxseg.engine.mesh import by_size, make_mesh, replicated, to_devices, to_hosts
from jaxseg.engine.state import TrainState
from jaxseg.engine.step import make_train_step
from jaxseg.models import build_model
from jaxseg.train import initial_state

STEPS = 20
MESHES = {"data": {"data": 8}, "both": {"data": -1, "fsdp": 4}, "fsdp": {"fsdp": 8, "data": 1}}
RECIPE = "swin.py:swin-tiny-patch4-window7-in1k-pre_upernet_8xb2-160k_ade20k-512x512"


def small_recipe():
    """The recipe with little depth and width, and a learning rate that moves it from the first step on."""
    config = run_config.load_recipe(RECIPE)
    with config.unlocked():
        config.init_from, config.seed = None, 3
        backbone = config.model.backbone
        backbone.embed_dims, backbone.depths, backbone.num_heads, backbone.window_size = 32, (1, 1), (2, 4), 4
        backbone.strides, backbone.out_indices, config.model.remat = (4, 2), (0, 1), True
        config.model.decode_head = common.head("FCNHead", 64, 64, 7, in_index=1, num_convs=1)
        config.model.auxiliary_head = None
        config.schedule = ()
        config.optimizer.lr = 3e-4
    return config


def run(mesh, folder: Path) -> tuple[list[dict], dict, TrainState]:
    """Logs of the steps, bytes of parameters and the optimizer's state on a device and in all, and the last state.

    That state is saved in the folder, too.
    """
    config = small_recipe()
    model = build_model(config.model)
    state, optimizer = initial_state(config, model)
    state = jax.device_put(state, by_size(state, mesh))
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (8, 64, 64, 3), np.uint8)
    labels = rng.integers(0, 7, (8, 8, 8), np.uint8).repeat(8, 1).repeat(8, 2)
    batch = to_devices({"image": images, "label": labels}, mesh)
    step = make_train_step(model, optimizer, config.preprocess, config.seed)
    out = by_size(state, mesh), replicated(mesh)
    quick = {"xla_backend_optimization_level": 0}
    step = jax.jit(step, donate_argnums=0, out_shardings=out, compiler_options=quick)
    losses = []
    for _ in range(STEPS):
        state, logs = step(state, batch)
        losses.append({name: float(value) for name, value in logs.items()})
    held = [sum(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(tree)) for tree in parts(state)]
    whole = [sum(leaf.nbytes for leaf in jax.tree.leaves(tree)) for tree in parts(state)]
    checkpoints = Checkpointer(folder)
    checkpoints.save(state)
    checkpoints.close()
    return losses, {"held": held, "whole": whole, "compiled": step._cache_size()}, state


def parts(state) -> tuple:
    """What is split."""
    return state.params, state.opt_state


def restores(state, mesh, folder: Path) -> bool:
    """Whether the checkpoint in a folder gives the state's arrays on another mesh, laid out as there."""
    there = jax.tree.map(np.zeros_like, to_hosts(state))
    there = jax.device_put(there, by_size(there, mesh))
    checkpoints = Checkpointer(folder)
    found = checkpoints.restore(there)
    checkpoints.close()
    laid = [leaf.sharding for leaf in jax.tree.leaves(found)] == jax.tree.leaves(by_size(there, mesh))
    same = jax.tree.map(np.array_equal, to_hosts(found), to_hosts(state))
    return laid and all(jax.tree.leaves(same))


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    meshes = {"one": make_mesh(devices=jax.devices()[:1])} | {name: make_mesh(MESHES[name]) for name in sys.argv[2:]}
    found, states = {"losses": {}}, {}
    for name, mesh in meshes.items():
        found["losses"][name], found[name], states[name] = run(mesh, folder / name)
    pairs = [(a, b) for a in meshes for b in meshes if (a == "one") != (b == "one")]
    found["restored"] = {f"{a} on {b}": restores(states[a], meshes[b], folder / a) for a, b in pairs}
    print(json.dumps(found), flush=True)
