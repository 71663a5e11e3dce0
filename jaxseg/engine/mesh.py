"""The device mesh, and how arrays lie on it."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

from jaxseg.errors import ConfigError, did_you_mean
from jaxseg.models.registry import Config

# Axes of the mesh. Images are split over both; "fsdp" also splits parameters and the optimizer's state, so that a
# device holds a part of each only (Rajbhandari et al. 2020, "ZeRO").
AXES = ("data", "fsdp")
# Parameters with fewer entries are on every device: gathering them would take longer than they are worth.
SMALL = 2**14


def make_mesh(axes: Config | None = None, devices: Sequence[Any] | None = None) -> Mesh:
    """A mesh of devices.

    Args:
        axes: How many devices each axis has, of AXES; -1, of one of them: all that the other leaves.
            By default all are along "data".
        devices: Which; by default all devices of all processes.

    Raises:
        ConfigError: An axis is not known, or there are not as many devices.
    """
    devices = jax.devices() if devices is None else devices
    sizes = mesh_shape(axes or {}, len(devices))
    return jax.make_mesh(sizes, AXES, axis_types=(AxisType.Auto,) * len(AXES), devices=devices)


def mesh_shape(axes: Config, count: int) -> tuple[int, ...]:
    """Sizes of AXES with so many devices; see `make_mesh`."""
    for name in axes:
        if name not in AXES:
            raise ConfigError(f"config.mesh.{name} is not known. {did_you_mean(name, AXES)}")
    sizes = given = (axes.get("data", -1), axes.get("fsdp", 1))
    if sizes.count(-1) == 1:
        sizes = tuple(count // max(*given, 1) if size == -1 else size for size in given)
    if min(sizes) < 1 or math.prod(sizes) != count:
        raise ConfigError(
            f"config.mesh={dict(zip(AXES, given, strict=True))} is no mesh of {count} devices: data times fsdp must be "
            "as many; one of them may be -1, for what the other leaves"
        )
    return sizes


def replicated(mesh: Mesh | AbstractMesh) -> NamedSharding:
    """Every device holds the whole array."""
    return NamedSharding(mesh, PartitionSpec())


def by_batch(mesh: Mesh) -> NamedSharding:
    """The first axis is split over the devices."""
    return NamedSharding(mesh, PartitionSpec(AXES))


def by_size(tree: Any, mesh: Mesh | AbstractMesh) -> Any:
    """How arrays such as a whole state lie on the mesh: large ones are split over "fsdp", others are everywhere.

    An array is split along its longest axis that the devices divide, the last of those of one length. What has
    the shape of a parameter, such as its moments, so lies as the parameter does.
    """
    parts = mesh.shape["fsdp"]

    def place(leaf: Any) -> NamedSharding:
        shape = np.shape(leaf)
        fitting = [(length, axis) for axis, length in enumerate(shape) if length % parts == 0]
        if parts == 1 or math.prod(shape) < SMALL or not fitting:
            return replicated(mesh)
        _, axis = max(fitting)
        return NamedSharding(mesh, PartitionSpec(*[None] * axis, "fsdp"))

    return jax.tree.map(place, tree)


def to_devices(batch: Mapping[str, Any], mesh: Mesh) -> dict[str, jax.Array]:
    """Global arrays from this process's part of a batch, its arrays only.

    Every process gives an equal part: rows [p * b / P, (p + 1) * b / P) of the batch are process p's.
    """
    return {
        name: jax.make_array_from_process_local_data(by_batch(mesh), value)
        for name, value in batch.items()
        if isinstance(value, np.ndarray)
    }


def to_hosts(tree: Any) -> Any:
    """Arrays as numpy arrays on every process."""

    def fetch(leaf):
        if not isinstance(leaf, jax.Array) or leaf.is_fully_addressable:
            return np.asarray(leaf)
        if leaf.is_fully_replicated:
            return np.asarray(leaf.addressable_data(0))
        from jax.experimental import multihost_utils

        return np.asarray(multihost_utils.process_allgather(leaf, tiled=True))

    return jax.tree.map(fetch, tree)


def check_batch_size(batch_size: int, devices: int) -> None:
    """Raises ConfigError where a batch can't be split evenly over so many devices."""
    if batch_size < 1 or batch_size % devices:
        near = max(batch_size // devices, 1) * devices
        raise ConfigError(
            f"batch_size={batch_size} must be a multiple of the {devices} devices it is split over, "
            f"such as {near} or {near + devices}"
        )
