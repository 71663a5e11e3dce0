"""Samplers against the reference."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.losses.cross_entropy import cross_entropy_loss
from jaxseg.losses.samplers import ohem_pixel_weights
from reference import FIXTURES, load_npz, nhwc, precision

META, ARRAYS = load_npz(FIXTURES / "losses.npz")


@pytest.mark.parametrize("case", [c for c in META["ohem"] if "error" not in c], ids=lambda c: c["name"])
def test_ohem_equals_the_reference(case):
    with precision(np.float64):
        logits, labels = jnp.asarray(nhwc(ARRAYS["logits"])), jnp.asarray(ARRAYS[case["label"]])

        def pixel_losses():
            fields = [{k: v for k, v in config.items() if k != "type"} for config in case["loss_decode"]]
            return sum(cross_entropy_loss(logits, labels, reduction="none", **field) for field in fields)

        weights = ohem_pixel_weights(logits, labels, pixel_losses, **case["kwargs"])
    np.testing.assert_array_equal(weights, ARRAYS[case["name"]])


def test_ohem_asks_for_losses_only_without_a_threshold():
    logits, labels = jnp.zeros((1, 2, 2, 3)), jnp.zeros((1, 2, 2), jnp.uint8)

    def pixel_losses():
        raise AssertionError("not needed")

    weights = ohem_pixel_weights(logits, labels, pixel_losses, thresh=0.7, min_kept=1)
    assert weights.shape == labels.shape
    with pytest.raises(AssertionError, match="not needed"):
        ohem_pixel_weights(logits, labels, pixel_losses, min_kept=1)
