"""Cross entropy of hard pixels against the reference."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.errors import ConfigError
from jaxseg.losses.ohem_cross_entropy import ohem_cross_entropy
from one_loss import LossCases, label_of

OHEM = LossCases("ohem_cross_entropy", ohem_cross_entropy)


@pytest.mark.parametrize("case", OHEM.cases, ids=label_of)
def test_equals_the_reference(case):
    OHEM.assert_equals_the_reference(case)


def test_every_case_has_figures():
    assert len(OHEM.cases) == 6
    assert not OHEM.refused


@pytest.mark.parametrize("labels", [np.full((1, 2, 3), 255), np.zeros((1, 2, 3), int)])
def test_no_hard_pixel_costs_nothing(labels):
    """None is labelled; or all are as sure as the least sure one."""
    loss, gradient = jax.value_and_grad(ohem_cross_entropy)(jnp.full((1, 2, 3, 1), 2.0), jnp.asarray(labels))
    assert loss == 0
    assert not np.any(gradient)


def test_weights_of_pixels_are_refused():
    with pytest.raises(ConfigError, match=r"OhemCrossEntropy.*has no loss of each pixel"):
        ohem_cross_entropy(jnp.zeros((1, 2, 2, 3)), jnp.zeros((1, 2, 2), int), jnp.ones((1, 2, 2)))
