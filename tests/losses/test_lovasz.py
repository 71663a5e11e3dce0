"""Lovász loss against the reference."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.errors import ConfigError
from jaxseg.losses.lovasz import lovasz_loss
from one_loss import LossCases, label_of

LOVASZ = LossCases("lovasz", lovasz_loss)
BATCH = {"reduction": "none"}


def is_empty(case):
    """Nothing counts in the batch: the reference returns an array of no entries instead of a loss, or its mean."""
    loss = LOVASZ.arrays[f"{case['name']}/loss"]
    return loss.size == 0 or np.isnan(loss).any()


@pytest.mark.parametrize("case", [case for case in LOVASZ.cases if not is_empty(case)], ids=label_of)
def test_equals_the_reference(case):
    LOVASZ.assert_equals_the_reference(case)


@pytest.mark.parametrize(
    "case", [c for c in LOVASZ.cases if "few" in c["label"] or "clean" in c["label"]], ids=label_of
)
def test_gradient_is_the_slope(case):
    LOVASZ.assert_is_the_slope(case)


@pytest.mark.parametrize("case", LOVASZ.refused + [c for c in LOVASZ.cases if is_empty(c)], ids=label_of)
def test_images_in_which_nothing_counts(case):
    """They cost nothing; the reference can't put them beside others, or returns nothing at all."""
    assert "ignored" in case["label"]
    loss, gradient = LOVASZ.evaluate(case)
    labels = LOVASZ.arrays[case["label"]]
    assert (gradient[(labels == 255).all((1, 2))] == 0).all()
    assert np.isfinite(gradient).all()
    assert (loss == 0) == (labels == 255).all()


def test_it_is_one_minus_the_iou_of_hard_predictions():
    rng = np.random.default_rng(0)
    labels, predicted = rng.integers(0, 2, (2, 2, 6, 7))
    iou = [((labels == c) & (predicted == c)).sum() / ((labels == c) | (predicted == c)).sum() for c in (0, 1)]
    logits = 200.0 * jax.nn.one_hot(predicted, 2)
    np.testing.assert_allclose(lovasz_loss(logits, jnp.asarray(labels), **BATCH), 1 - np.mean(iou), rtol=1e-5)


@pytest.mark.parametrize(
    ("classes", "fields", "message"),
    [
        (3, {"reduction": "avg", "per_image": True}, "reduction='avg' is not one of mean, sum, none"),
        (3, {"reduction": "mean"}, "must be 'none' where per_image is False"),
        (3, {"loss_type": "hinge", **BATCH}, "'hinge' is not one of multi_class, binary"),
        (3, {"classes": "some", **BATCH}, "classes='some' is not all, present, or indices of 3 classes"),
        (3, {"classes": [0, 3], **BATCH}, "is not all, present, or indices of 3 classes"),
        (3, {"loss_type": "binary", **BATCH}, "does not fit 3 logits"),
        (1, BATCH, "does not fit 1 logits"),
        (3, {"class_weight": [1.0, 2.0], **BATCH}, "class_weight has 2 entries for 3 classes"),
        (3, {"weight": jnp.ones((1, 2, 2)), **BATCH}, "LovaszLoss.*has no loss of each pixel"),
    ],
)
def test_errors(classes, fields, message):
    with pytest.raises(ConfigError, match=message):
        lovasz_loss(jnp.zeros((1, 2, 2, classes)), jnp.zeros((1, 2, 2), jnp.uint8), **fields)
