"""Losses of a whole model: what is summed, what is logged, under which names."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg import losses
from jaxseg.errors import ConfigError
from jaxseg.losses import LOSSES, head_losses, model_losses
from jaxseg.losses.cross_entropy import cross_entropy_loss
from jaxseg.losses.dice import dice_loss
from jaxseg.losses.samplers import ohem_pixel_weights
from jaxseg.models import register
from jaxseg.models.layers.resize import resize

CE = {"type": "CrossEntropyLoss"}


def head(**fields):
    """What the losses read of a head."""
    defaults = {"loss_decode": CE, "sampler": None, "ignore_index": 255, "align_corners": False}
    return types.SimpleNamespace(**(defaults | fields))


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    labels = np.where(rng.random((2, 9, 12)) < 0.1, 255, rng.integers(0, 4, (2, 9, 12)))
    return jnp.asarray(rng.normal(0, 1, (2, 5, 6, 4)), jnp.float32), jnp.asarray(labels, jnp.uint8)


@pytest.mark.parametrize("align_corners", [False, True])
def test_logits_are_resized_to_the_labels(batch, align_corners):
    logits, labels = batch
    logs = head_losses(head(align_corners=align_corners), logits, labels)
    resized = resize(logits, (9, 12), align_corners=align_corners)
    assert logs.keys() == {"loss_ce", "acc_seg"}
    np.testing.assert_allclose(logs["loss_ce"], cross_entropy_loss(resized, labels), rtol=1e-6)
    correct = (np.argmax(resized, -1) == np.asarray(labels)).sum()
    np.testing.assert_allclose(logs["acc_seg"], 100 * correct / (np.asarray(labels) != 255).sum(), rtol=1e-5)


def test_several_losses(batch):
    logits, labels = batch
    several = [
        CE,
        {**CE, "loss_weight": 0.5, "loss_name": "loss_weighted", "class_weight": (1.0, 2.0, 0.5, 1.0)},
        {**CE, "loss_weight": 0.25, "use_sigmoid": True},
        {**CE, "loss_name": "watched"},
    ]
    logs = head_losses(head(loss_decode=several), logits, labels)
    assert logs.keys() == {"loss_ce", "loss_weighted", "watched", "acc_seg"}
    resized = resize(logits, labels.shape[1:])
    plain = cross_entropy_loss(resized, labels)
    weighted = cross_entropy_loss(resized, labels, class_weight=(1.0, 2.0, 0.5, 1.0))
    sigmoid = cross_entropy_loss(resized, labels, use_sigmoid=True)
    np.testing.assert_allclose(logs["loss_ce"], plain + 0.25 * sigmoid, rtol=1e-6)
    np.testing.assert_allclose(logs["loss_weighted"], 0.5 * weighted, rtol=1e-6)
    np.testing.assert_allclose(logs["watched"], plain, rtol=1e-6)


def test_total_is_the_sum_of_what_is_called_loss(batch):
    logits, labels = batch
    heads = {
        "decode": head(loss_decode=(CE, {**CE, "loss_name": "watched"})),
        "aux_0": head(loss_decode={**CE, "loss_weight": 0.4}),
        "aux_1": head(ignore_index=0),
    }
    model = types.SimpleNamespace(heads=lambda: heads)
    total, logs = model_losses(model, {name: logits * (i + 1) for i, name in enumerate(heads)}, labels)
    assert set(logs) == {
        "decode.loss_ce", "decode.watched", "decode.acc_seg",
        "aux_0.loss_ce", "aux_0.acc_seg", "aux_1.loss_ce", "aux_1.acc_seg",
    }  # fmt: skip
    np.testing.assert_allclose(total, logs["decode.loss_ce"] + logs["aux_0.loss_ce"] + logs["aux_1.loss_ce"], rtol=1e-6)


def test_a_head_made_of_another_has_its_losses(batch):
    """A class of one's own need not say again what its base's outputs are for."""

    class DAHead(types.SimpleNamespace):
        pass

    class MyHead(DAHead):
        pass

    logits, labels = batch
    model = types.SimpleNamespace(heads=lambda: {"decode": MyHead(**vars(head()))})
    _, logs = model_losses(model, {"decode": {"sum": logits, "part": logits}}, labels)
    assert set(logs) == {f"decode.{map_}.{name}" for map_ in ("sum", "part") for name in ("loss_ce", "acc_seg")}


def test_a_loss_of_your_own(batch, monkeypatch):
    """It is registered under a name; what it returns is averaged."""

    def squared(logits, labels, weight=None, *, ignore_index=255, power=2):
        return jnp.mean(logits, axis=-1) ** power

    logits, labels = batch
    with pytest.raises(ConfigError, match=r"loss_decode.type=<function .* is not known"):
        head_losses(head(loss_decode={"type": squared}), logits, labels)
    monkeypatch.setattr("jaxseg.losses.LOSSES", dict(LOSSES))
    register(losses.LOSSES, "Squared", squared)
    assert losses.loss_defaults({"type": "Squared"}) == {"power": 2, "loss_weight": 1.0, "loss_name": "loss"}
    logs = head_losses(head(loss_decode={"type": "Squared", "power": 4}), logits, labels)
    resized = resize(logits, labels.shape[1:])
    np.testing.assert_allclose(logs["loss"], np.mean(np.mean(resized, -1) ** 4), rtol=1e-5)
    with pytest.raises(ConfigError, match=r"Squared has no field 'pwer'. Did you mean power"):
        head_losses(head(loss_decode={"type": "Squared", "pwer": 4}), logits, labels)


def test_a_loss_with_an_ignore_index_of_its_own(batch):
    """The head's is that of labels; Dice loss leaves out a class."""
    logits, labels = batch
    resized = resize(logits, labels.shape[1:])
    for config, wanted in (({}, 255), ({"ignore_index": 1}, 1)):
        logs = head_losses(head(loss_decode={"type": "DiceLoss", **config}, ignore_index=2), logits, labels)
        np.testing.assert_allclose(logs["loss_dice"], dice_loss(resized, labels, ignore_index=wanted), rtol=1e-6)


def test_what_is_not_reduced_is_averaged(batch):
    logits, labels = batch
    logs = head_losses(head(loss_decode={"type": "DiceLoss", "reduction": "none"}), logits, labels)
    np.testing.assert_allclose(logs["loss_dice"], dice_loss(resize(logits, (9, 12)), labels), rtol=1e-6)


@pytest.mark.parametrize("loss_decode", [CE, (CE, {**CE, "loss_weight": 2.0}), {**CE, "use_sigmoid": True}])
@pytest.mark.parametrize("thresh", [None, 0.3])
def test_sampler(batch, loss_decode, thresh):
    logits, labels = batch
    configs = [loss_decode] if isinstance(loss_decode, dict) else loss_decode
    sampler = {"type": "OHEMPixelSampler", "thresh": thresh, "min_kept": 10}
    logs = head_losses(head(loss_decode=loss_decode, sampler=sampler), logits, labels)

    resized = resize(logits, labels.shape[1:])

    def losses(weight=None, **more):
        for config in configs:
            loss = cross_entropy_loss(resized, labels, weight, use_sigmoid=config.get("use_sigmoid", False), **more)
            yield config.get("loss_weight", 1.0) * loss

    def pixel_losses():
        return sum(loss if loss.ndim == 3 else loss.sum(-1) for loss in losses(reduction="none"))

    weight = ohem_pixel_weights(resized, labels, pixel_losses, thresh=thresh, min_kept=10)
    assert weight.sum() == 20 if thresh is None else weight.sum() > 20
    np.testing.assert_allclose(logs["loss_ce"], sum(losses(weight)), rtol=1e-6)


def test_no_gradient_flows_through_the_sampler(batch):
    """Pixels that are not kept have no gradient, and those that are the plain one."""
    logits, labels = batch
    logits = resize(logits, labels.shape[1:])
    sampler = {"type": "OHEMPixelSampler", "min_kept": 10}
    gradient = jax.grad(lambda z: head_losses(head(sampler=sampler), z, labels)["loss_ce"])(logits)
    plain = jax.grad(lambda z: head_losses(head(), z, labels)["loss_ce"])(logits)
    kept = np.any(np.asarray(gradient) != 0, axis=-1)
    assert kept.sum() == 20
    np.testing.assert_allclose(gradient[kept], plain[kept], rtol=1e-5)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"loss_decode": {"type": "CrossEntropyLos"}}, "Did you mean CrossEntropyLoss"),
        ({"loss_decode": {**CE, "class_weigth": (1.0,)}}, "'class_weigth'.*Did you mean class_weight"),
        ({"loss_decode": {**CE, "ignore_index": 0}}, "'ignore_index'"),
        (
            {"loss_decode": [CE, {"type": "DiceLoss"}], "sampler": {"type": "OHEMPixelSampler"}},
            "sampler: DiceLoss has no loss of each pixel",
        ),
        ({"sampler": {"type": "OHEMSampler"}}, "Did you mean OHEMPixelSampler"),
        ({"sampler": {"type": "OHEMPixelSampler", "treshold": 0.7}}, "'treshold'.*Did you mean thresh"),
    ],
)
def test_unknown_fields(batch, fields, message):
    with pytest.raises(ConfigError, match=message):
        head_losses(head(**fields), *batch)
