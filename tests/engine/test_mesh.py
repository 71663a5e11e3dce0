"""The mesh on one device; tests/end_to_end/test_parallel.py has more of them."""

import jax
import numpy as np
import pytest
from jax.sharding import AbstractMesh

from jaxseg.engine.mesh import (
    by_batch,
    by_size,
    check_batch_size,
    make_mesh,
    mesh_shape,
    replicated,
    to_devices,
    to_hosts,
)
from jaxseg.errors import ConfigError


def test_batch_to_devices_and_back():
    mesh = make_mesh()
    rng = np.random.default_rng(0)
    batch = {"image": rng.integers(0, 256, (4, 5, 6, 3), np.uint8), "label": np.zeros((4, 5, 6), np.uint8)}
    arrays = to_devices(batch | {"meta": [{}] * 4}, mesh)
    assert set(arrays) == {"image", "label"}
    assert arrays["image"].sharding == by_batch(mesh)
    assert arrays["image"].dtype == np.uint8
    for name, array in to_hosts(arrays).items():
        assert isinstance(array, np.ndarray)
        np.testing.assert_array_equal(array, batch[name])
    assert to_hosts({"a": 1.5, "b": jax.device_put(np.arange(3), replicated(mesh))})["b"].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("size", "advice"), [(0, "8 or 16"), (-8, "8 or 16"), (4, "8 or 16"), (12, "8 or 16"), (17, "16 or 24")]
)
def test_a_batch_that_devices_cannot_share(size, advice):
    with pytest.raises(ConfigError, match=f"batch_size={size} must be a multiple of the 8 devices .* such as {advice}"):
        check_batch_size(size, 8)


def test_a_batch_that_devices_can_share():
    check_batch_size(16, 8)
    check_batch_size(1, 1)


@pytest.mark.parametrize(
    ("axes", "sizes"),
    [
        ({}, (8, 1)),
        ({"data": -1, "fsdp": 1}, (8, 1)),
        ({"data": -1, "fsdp": 4}, (2, 4)),
        ({"data": 2, "fsdp": -1}, (2, 4)),
        ({"data": 1, "fsdp": 8}, (1, 8)),
    ],
)
def test_axes_of_the_mesh(axes, sizes):
    assert mesh_shape(axes, 8) == sizes


@pytest.mark.parametrize("axes", [{"fsdp": 3}, {"data": 4}, {"data": -1, "fsdp": -1}, {"fsdp": 0}, {"data": -2}])
def test_axes_that_do_not_fit(axes):
    with pytest.raises(ConfigError, match="is no mesh of 8 devices"):
        mesh_shape(axes, 8)


def test_an_axis_that_is_not_known():
    with pytest.raises(ConfigError, match=r"config.mesh.fdsp is not known.*fsdp"):
        make_mesh({"fdsp": 2})


def test_large_arrays_are_split_along_their_longest_axis():
    mesh = AbstractMesh((2, 4), ("data", "fsdp"))
    shapes = {"kernel": (3, 3, 64, 256), "odd": (1001, 63, 8), "square": (512, 512), "bias": (256,), "prime": (257, 65)}
    found = by_size({name: np.zeros(shape, np.float32) for name, shape in shapes.items()}, mesh)
    assert {name: tuple(sharding.spec) for name, sharding in found.items()} == {
        "kernel": (None, None, None, "fsdp"),
        "odd": (None, None, "fsdp"),
        "square": (None, "fsdp"),
        "bias": (),
        "prime": (),
    }
    assert by_size(np.zeros((512, 512)), make_mesh()) == replicated(make_mesh())
