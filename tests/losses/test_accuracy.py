"""Pixel accuracy against the reference."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.losses.accuracy import pixel_accuracy
from reference import FIXTURES, load_npz, nhwc

META, ARRAYS = load_npz(FIXTURES / "losses.npz")


# Heads log the share of pixels whose best class is right; the reference could count the best few, too.
@pytest.mark.parametrize(
    "case", [c for c in META["accuracy"] if c["topk"] == 1], ids=lambda c: f"{c['label']}-{c['ignore_index']}"
)
def test_equals_the_reference(case):
    logits = jnp.asarray(nhwc(ARRAYS["logits"]), jnp.float32)
    value = pixel_accuracy(logits, jnp.asarray(ARRAYS[case["label"]]), case["ignore_index"])
    np.testing.assert_allclose(value, case["value"], rtol=1e-6)


def test_nothing_to_judge_is_all_right():
    assert pixel_accuracy(jnp.zeros((1, 2, 2, 3)), jnp.full((1, 2, 2), 255, jnp.uint8)) == 100
