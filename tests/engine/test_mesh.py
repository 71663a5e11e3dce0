"""The mesh on one device; tests/end_to_end/test_parallel.py has more of them."""

import jax
import numpy as np
import pytest

from jaxseg.engine.mesh import by_batch, check_batch_size, make_mesh, replicated, to_devices, to_hosts
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
