"""Labels of several classes a pixel: one binary problem a class, whichever loss it is."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.errors import ConfigError
from jaxseg.losses import LOSSES, MULTI_LABEL_LOSSES
from jaxseg.losses.accuracy import pixel_accuracy

RNG = np.random.default_rng(0)
LOGITS = jnp.asarray(RNG.normal(size=(2, 4, 5, 3)), jnp.float32)
LABELS = jnp.asarray(RNG.integers(0, 3, (2, 4, 5)), jnp.uint8)
ONE_HOT = (LABELS[..., None] == jnp.arange(3)).astype(jnp.uint8)


@pytest.mark.parametrize("kind", sorted(MULTI_LABEL_LOSSES))
def test_one_class_a_pixel_is_a_case_of_several(kind):
    own = {} if kind == "DiceLoss" else {"class_weight": (1.0, 2.0, 0.5)}
    expected = LOSSES[kind](LOGITS, LABELS, use_sigmoid=True, **own)
    np.testing.assert_array_equal(LOSSES[kind](LOGITS, ONE_HOT, use_sigmoid=True, **own), expected)


def test_cross_entropy_of_several_classes_and_of_none():
    labels = jnp.asarray(RNG.integers(0, 2, (2, 4, 5, 3)), jnp.uint8).at[0, 0].set(255)
    probability = 1 / (1 + np.exp(-np.asarray(LOGITS, np.float64)))
    there = np.asarray(labels) == 1
    losses = np.where(there, -np.log(probability), -np.log(1 - probability))
    losses[0, 0] = 0
    loss = LOSSES["CrossEntropyLoss"](LOGITS, labels, use_sigmoid=True)
    np.testing.assert_allclose(loss, losses.mean(), rtol=1e-5)
    counted = LOSSES["CrossEntropyLoss"](LOGITS, labels, use_sigmoid=True, avg_non_ignore=True)
    np.testing.assert_allclose(counted, losses.sum() / (losses.size - 15), rtol=1e-5)


def test_what_softmax_and_other_numbers_of_classes_say():
    with pytest.raises(ConfigError, match="several classes a pixel need use_sigmoid=True"):
        LOSSES["CrossEntropyLoss"](LOGITS, ONE_HOT)
    with pytest.raises(ConfigError, match="labels are of 2 classes at every pixel, but there are 3 logits"):
        LOSSES["FocalLoss"](LOGITS, ONE_HOT[..., :2])


def test_accuracy_is_of_pixels_and_classes():
    labels = (LOGITS > 0).astype(jnp.uint8).at[0, 0, 0].set(255)
    np.testing.assert_allclose(pixel_accuracy(LOGITS, labels), 100, rtol=1e-6)
    np.testing.assert_allclose(pixel_accuracy(-LOGITS, labels), 0, atol=1e-4)
