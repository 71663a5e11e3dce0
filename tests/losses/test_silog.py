"""Scale-invariant logarithmic loss against the reference."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.errors import ConfigError
from jaxseg.losses.silog import silog_loss
from one_loss import LossCases, label_of


def of_maps(depths, labels, **fields):
    """The reference's labels have an axis of one channel."""
    return silog_loss(depths, labels[..., 0], **fields)


SILOG = LossCases("silog", of_maps)


@pytest.mark.parametrize("case", SILOG.cases, ids=label_of)
def test_equals_the_reference(case):
    SILOG.assert_equals_the_reference(case)


@pytest.mark.parametrize("case", SILOG.cases[:2], ids=label_of)
def test_gradient_is_the_slope(case):
    SILOG.assert_is_the_slope(case)


def test_scale_costs_half_and_a_perfect_prediction_nothing():
    depths = jnp.asarray(np.random.default_rng(0).uniform(1, 5, (2, 3, 4)))
    np.testing.assert_allclose(silog_loss(2 * depths[..., None], depths), np.log(2) / np.sqrt(2), rtol=1e-5)
    loss, gradient = jax.value_and_grad(silog_loss)(depths[..., None], depths)
    assert loss == 0
    assert (gradient == 0).all()


def test_weights_of_images():
    depths = jnp.asarray(np.random.default_rng(0).uniform(1, 5, (2, 3, 4)))
    by_image = silog_loss(depths[..., None] + 1, depths, reduction="none")
    weighted = silog_loss(depths[..., None] + 1, depths, jnp.array([0.0, 2.0]))
    np.testing.assert_allclose(weighted, by_image[1], rtol=1e-6)


def test_errors():
    with pytest.raises(ConfigError, match="reduction='avg' is not one of mean, sum, none"):
        silog_loss(jnp.ones((1, 2, 2, 1)), jnp.ones((1, 2, 2)), reduction="avg")
    with pytest.raises(ConfigError, match="SiLogLoss is of one map of depths"):
        silog_loss(jnp.ones((1, 2, 4, 1)), jnp.ones((1, 2, 2)))
