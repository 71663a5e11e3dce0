"""Focal loss against the reference."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.errors import ConfigError
from jaxseg.losses.cross_entropy import cross_entropy_loss
from jaxseg.losses.focal import focal_loss
from one_loss import LossCases, label_of

FOCAL = LossCases("focal", focal_loss)


@pytest.mark.parametrize("case", FOCAL.cases, ids=label_of)
def test_equals_the_reference(case):
    FOCAL.assert_equals_the_reference(case)


@pytest.mark.parametrize("case", FOCAL.cases[4:6], ids=label_of)
def test_gradient_is_the_slope(case):
    FOCAL.assert_is_the_slope(case)


def test_without_focus_it_is_half_of_cross_entropy():
    rng = np.random.default_rng(0)
    logits, labels = jnp.asarray(rng.normal(0, 1, (2, 3, 4, 5))), jnp.asarray(rng.integers(0, 5, (2, 3, 4)))
    weight = jnp.asarray(rng.uniform(0, 1, (2, 3, 4)))
    expected = cross_entropy_loss(logits, labels, weight, use_sigmoid=True) / 2
    np.testing.assert_allclose(focal_loss(logits, labels, weight, gamma=0.0), expected, rtol=1e-5)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_large_logits(gamma):
    logits = jnp.array([[[[1e4, -1e4], [-1e4, 1e4]]]])
    loss, gradient = jax.value_and_grad(focal_loss)(logits, jnp.array([[[0, 0]]]), gamma=gamma)
    # Right at the first pixel, wrong by 1e4 for each of two classes at the second.
    assert loss == pytest.approx(0.5 * 1e4 / 2)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"reduction": "avg"}, "reduction='avg' is not one of mean, sum, none"),
        ({"use_sigmoid": False}, "sigmoid form only"),
        ({"alpha": [0.5, 0.5]}, "alpha has 2 entries for 3 classes"),
        ({"class_weight": [1.0]}, "class_weight has 1 entries for 3 classes"),
    ],
)
def test_errors(fields, message):
    with pytest.raises(ConfigError, match=message):
        focal_loss(jnp.zeros((1, 2, 2, 3)), jnp.zeros((1, 2, 2), jnp.uint8), **fields)
