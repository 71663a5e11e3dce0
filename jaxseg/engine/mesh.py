"""The device mesh, and how arrays lie on it."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxseg.errors import ConfigError


def make_mesh() -> Mesh:
    """A mesh of all devices of all processes along the axis "data"."""
    return jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    """Every device holds the whole array."""
    return NamedSharding(mesh, PartitionSpec())


def by_batch(mesh: Mesh) -> NamedSharding:
    """The first axis is split over the devices."""
    return NamedSharding(mesh, PartitionSpec("data"))


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
