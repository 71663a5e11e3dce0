"""Hausdorff distance loss against the reference, its distances against SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

from jaxseg.errors import ConfigError
from jaxseg.losses.hausdorff import hausdorff_distance_loss, squared_distances
from one_loss import LossCases, label_of

HAUSDORFF = LossCases("hausdorff", hausdorff_distance_loss)


@pytest.mark.parametrize("case", HAUSDORFF.cases, ids=label_of)
def test_equals_the_reference(case):
    HAUSDORFF.assert_equals_the_reference(case)


@pytest.mark.parametrize("case", HAUSDORFF.cases[::6], ids=label_of)
def test_gradient_is_the_slope(case):
    HAUSDORFF.assert_is_the_slope(case)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (23, 1), (31, 64)])
def test_distances_equal_scipys(size):
    rng = np.random.default_rng(0)
    shares = (0, 0.01, 0.1, 0.9, 1)
    masks = np.stack([rng.random(size) >= share for share in shares])
    expected = [np.square(distance_transform_edt(mask)) for mask in masks]
    np.testing.assert_allclose(jax.jit(squared_distances)(masks), expected, atol=1e-6)


def test_class_weights():
    """The reference takes the number of dimensions of its weights for their number, and fails."""
    (case,) = HAUSDORFF.refused
    assert case["kwargs"].keys() == {"class_weight"}
    _, gradient = HAUSDORFF.evaluate(case)
    assert np.isfinite(gradient).all()
    logits, labels = jnp.zeros((1, 2, 3, 3)), jnp.array([[[0, 1, 1], [1, 0, 1]]])
    plain = [hausdorff_distance_loss(logits, labels, ignore_index=c) for c in (2, 1)]
    weighted = hausdorff_distance_loss(logits, labels, ignore_index=None, class_weight=(9.0, 2.0, 3.0))
    assert plain[0] > 0
    np.testing.assert_allclose(weighted, 2 * plain[0] + 3 * hausdorff_distance_loss(logits, labels) / 2, rtol=1e-6)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"reduction": "avg"}, "reduction='avg' is not one of mean, sum, none"),
        ({"weight": jnp.ones((1, 2, 2))}, "has no loss of each pixel"),
        ({"class_weight": [1.0, 2.0]}, "class_weight has 2 entries for 3 classes"),
    ],
)
def test_errors(fields, message):
    with pytest.raises(ConfigError, match=message):
        hausdorff_distance_loss(jnp.zeros((1, 2, 2, 3)), jnp.zeros((1, 2, 2), jnp.uint8), **fields)
