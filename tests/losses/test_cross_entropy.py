"""Cross entropy against the reference, in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.errors import ConfigError
from jaxseg.losses.cross_entropy import EPS, cross_entropy_loss
from reference import FIXTURES, load_npz, nchw, nhwc, precision

META, ARRAYS = load_npz(FIXTURES / "losses.npz")
# Nothing in a recipe sets the averaging factor from outside.
CASES = [case for case in META["cross_entropy"] if "avg_factor" not in case["call"]]
ON_WIDTH = "class_weight_on_width"


def evaluate(case):
    """Our loss of a case, and its gradient by the logits, both N C H W where they have these axes."""
    fields = dict(case["kwargs"])
    loss_weight = fields.pop("loss_weight", 1.0)

    @functools.partial(jax.value_and_grad, has_aux=True)
    def loss_of(logits, labels, weight):
        loss = loss_weight * cross_entropy_loss(logits, labels, weight, **case["call"], **fields)
        return jnp.sum(loss), loss

    with precision(np.float64):
        weight = jnp.asarray(ARRAYS[case["weight"]]) if case["weight"] else None
        logits, labels = jnp.asarray(nhwc(ARRAYS[case["logits"]])), jnp.asarray(ARRAYS[case["label"]])
        (_, loss), gradient = loss_of(logits, labels, weight)
    loss = np.asarray(loss)
    return nchw(loss) if loss.ndim == 4 else loss, nchw(gradient)


def expected_where_the_reference_is_no_guide(case):
    """What the loss must be in cases that the reference refuses or gets wrong, by the definition."""
    logits, labels = ARRAYS[case["logits"]], ARRAYS[case["label"]]
    fields, classes = case["kwargs"], logits.shape[1]
    valid = labels != case["call"]["ignore_index"]
    class_weight = np.asarray(fields.get("class_weight", np.ones(classes)))
    if fields["use_sigmoid"]:
        target = (labels[:, None] == (1 if classes == 1 else np.arange(classes)[:, None, None])) & valid[:, None]
        by_class = class_weight[:, None, None] * target * np.log1p(np.exp(-logits)) + ~target * np.log1p(np.exp(logits))
        factor = valid.sum() * classes + EPS if fields["avg_non_ignore"] else logits.size
        return np.where(valid[:, None], by_class, 0).sum() / factor
    log_probability = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    picked = np.take_along_axis(log_probability, np.where(valid, labels, 0)[:, None], 1)[:, 0]
    pixel_weight = np.where(valid, class_weight[np.where(valid, labels, 0)], 0)
    return -(pixel_weight * picked).sum() / (pixel_weight.sum() + EPS)


@pytest.mark.parametrize(
    "case", [c for c in CASES if "error" not in c and ON_WIDTH not in c["name"]], ids=lambda c: c["name"]
)
def test_equals_the_reference(case):
    loss, gradient = evaluate(case)
    expected = ARRAYS[f"{case['name']}/loss"]
    # Ours keeps the axis of the one logit.
    np.testing.assert_allclose(loss.reshape(expected.shape), expected, atol=1e-12)
    np.testing.assert_allclose(gradient, ARRAYS[f"{case['name']}/grad"], atol=1e-12)


@pytest.mark.parametrize("case", [c for c in CASES if "error" in c or ON_WIDTH in c["name"]], ids=lambda c: c["name"])
def test_where_the_reference_is_no_guide(case):
    """Class weights with ignored pixels, sigmoid's class weights, and one logit with nothing to judge.

    With class weights the reference looks up the weight of label 255, and fails. Its sigmoid loss broadcasts them
    over the width of the image instead of over the classes, and fails unless there are as many columns as classes.
    With one logit it looks for the largest label among none, and refuses labels above 1; ours, which is traced,
    takes every label but 1 for a zero, and leaves it to the check of the data to complain.
    """
    loss, gradient = evaluate(case)
    np.testing.assert_allclose(loss, expected_where_the_reference_is_no_guide(case), atol=1e-12)
    assert np.isfinite(gradient).all()


def test_ignored_pixels_get_no_gradient_even_where_logits_are_infinite():
    logits = jnp.zeros((1, 1, 2, 3)).at[0, 0, 1].set(jnp.array([1e30, -1e30, 0.0]))
    labels = jnp.array([[[0, 255]]], jnp.uint8)
    loss, gradient = jax.value_and_grad(cross_entropy_loss)(logits, labels)
    assert loss == pytest.approx(np.log(3) / 2)
    assert (gradient[0, 0, 1] == 0).all()


@pytest.mark.parametrize("use_sigmoid", [False, True])
def test_large_logits(use_sigmoid):
    logits = jnp.array([[[[1e4, -1e4, 0.0], [-1e4, 1e4, 0.0]]]])
    labels = jnp.array([[[0, 0]]])
    loss, gradient = jax.value_and_grad(functools.partial(cross_entropy_loss, use_sigmoid=use_sigmoid))(logits, labels)
    # Right at the first pixel, wrong by 2e4 at the second (by 1e4 for each of two classes with sigmoid).
    assert loss == pytest.approx((2e4 + 2 * np.log(2)) / 6 if use_sigmoid else 1e4, rel=1e-6)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"reduction": "avg"}, "reduction='avg' is not one of mean, sum, none"),
        ({"class_weight": [1.0, 2.0]}, "class_weight has 2 entries for 3 classes"),
    ],
)
def test_errors(fields, message):
    with pytest.raises(ConfigError, match=message):
        cross_entropy_loss(jnp.zeros((1, 2, 2, 3)), jnp.zeros((1, 2, 2), jnp.uint8), **fields)
