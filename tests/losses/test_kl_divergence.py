"""Kullback-Leibler divergence against the reference."""

import jax.numpy as jnp
import pytest

from jaxseg.errors import ConfigError
from jaxseg.losses.kl_divergence import kl_divergence_loss
from one_loss import LossCases, label_of

KL_DIVERGENCE = LossCases("kl_divergence", kl_divergence_loss)


@pytest.mark.parametrize("case", KL_DIVERGENCE.cases, ids=label_of)
def test_equals_the_reference(case):
    KL_DIVERGENCE.assert_equals_the_reference(case)


@pytest.mark.parametrize("case", KL_DIVERGENCE.cases[::3], ids=label_of)
def test_gradient_is_the_slope(case):
    KL_DIVERGENCE.assert_is_the_slope(case)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"reduction": "avg"}, "reduction='avg' is not one of mean, sum, none"),
        ({"temperature": 0.0}, "temperature of KLDivLoss must not be 0"),
        ({"weight": jnp.ones((1, 2, 2))}, "KLDivLoss.*has no loss of each pixel"),
    ],
)
def test_errors(fields, message):
    with pytest.raises(ConfigError, match=message):
        kl_divergence_loss(jnp.zeros((1, 2, 2, 3)), jnp.zeros((1, 2, 2, 3)), **fields)


def test_labels_that_are_classes_are_refused():
    with pytest.raises(ConfigError, match="compares scores with scores"):
        kl_divergence_loss(jnp.zeros((1, 2, 2, 3)), jnp.zeros((1, 2, 2)))
