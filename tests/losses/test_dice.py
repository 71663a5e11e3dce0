"""Dice loss against the reference."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.errors import ConfigError
from jaxseg.losses.dice import dice_loss
from one_loss import LossCases, label_of

DICE = LossCases("dice", dice_loss)


@pytest.mark.parametrize("case", DICE.cases, ids=label_of)
def test_equals_the_reference(case):
    DICE.assert_equals_the_reference(case)


@pytest.mark.parametrize("case", DICE.cases[1::7], ids=label_of)
def test_gradient_is_the_slope(case):
    DICE.assert_is_the_slope(case)


def test_a_perfect_prediction_costs_nothing():
    labels = jnp.array([[[0, 1], [2, 1]]])
    logits = 100.0 * (jax.nn.one_hot(labels, 3) - 0.5)
    for fields in ({"use_sigmoid": False}, {"naive_dice": True}):
        np.testing.assert_allclose(dice_loss(logits, labels, **fields), 0, atol=1e-3)


def test_every_case_has_figures():
    assert len(DICE.cases) == 23
    assert not DICE.refused


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"reduction": "avg"}, "reduction='avg' is not one of mean, sum, none"),
        ({"weight": jnp.ones((1, 2, 2))}, "DiceLoss.*has no loss of each pixel"),
        ({"ignore_index": 0}, "leaves no class"),
    ],
)
def test_errors(fields, message):
    with pytest.raises(ConfigError, match=message):
        dice_loss(jnp.zeros((1, 2, 2, 1)), jnp.zeros((1, 2, 2), jnp.uint8), **fields)
