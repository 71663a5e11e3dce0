"""Tversky loss against the reference."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.errors import ConfigError
from jaxseg.losses.dice import dice_loss
from jaxseg.losses.tversky import tversky_loss
from one_loss import LossCases, label_of

TVERSKY = LossCases("tversky", tversky_loss)


@pytest.mark.parametrize("case", TVERSKY.cases, ids=label_of)
def test_equals_the_reference(case):
    TVERSKY.assert_equals_the_reference(case)


@pytest.mark.parametrize("case", TVERSKY.cases[4:6], ids=label_of)
def test_gradient_is_the_slope(case):
    TVERSKY.assert_is_the_slope(case)


def test_every_pixel_counts_where_no_label_is_ignored():
    """With equal costs the index of a class is the Dice coefficient; those of all classes are averaged."""
    rng = np.random.default_rng(0)
    logits, labels = jnp.asarray(rng.normal(0, 1, (1, 6, 7, 2))), jnp.asarray(rng.integers(0, 2, (1, 6, 7)))
    fields = {"naive_dice": True, "use_sigmoid": False, "eps": 2.0}
    by_class = [dice_loss(logits, labels, ignore_index=other, **fields) for other in (1, 0)]
    loss = tversky_loss(logits, labels, ignore_index=None, alpha=0.5, beta=0.5, smooth=1.0)
    np.testing.assert_allclose(loss, np.mean(by_class), rtol=1e-5)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"alpha": 0.5}, "must add up to 1"),
        ({"weight": jnp.ones((1, 2, 2))}, "TverskyLoss.*has no loss of each pixel"),
        ({"class_weight": [1.0, 2.0]}, "class_weight has 2 entries for 3 classes"),
    ],
)
def test_errors(fields, message):
    with pytest.raises(ConfigError, match=message):
        tversky_loss(jnp.zeros((1, 2, 2, 3)), jnp.zeros((1, 2, 2), jnp.uint8), **fields)
