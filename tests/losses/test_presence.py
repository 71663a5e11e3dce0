"""Which classes an image has, and the loss of telling them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.errors import ConfigError
from jaxseg.losses import model_losses
from jaxseg.losses.presence import present_classes
from jaxseg.models import build_model
from small_models import CLASSES, head_config, model_config

ENC = {"in_channels": (16, 32), "in_index": (2, 3), "num_codes": 4}


def test_present_classes():
    labels = np.array([[[0, 0, 255], [3, 3, 3]], [[255, 255, 255], [255, 7, 4]]], np.uint8)
    found = np.asarray(present_classes(jnp.asarray(labels), CLASSES))
    assert found.tolist() == [[True, False, False, True, False], [False, False, False, False, True]]


def test_loss():
    """A binary cross entropy, the mean over images and classes."""
    loss = {"type": "CrossEntropyLoss", "use_sigmoid": True, "loss_weight": 0.5}
    model = build_model(model_config(head_config("EncHead", **ENC, loss_se_decode=loss)))
    rng = np.random.default_rng(0)
    logits, presence = rng.normal(0, 1, (2, 4, 5, CLASSES)), rng.normal(0, 2, (2, CLASSES))
    labels = np.where(rng.random((2, 4, 5)) < 0.7, 255, rng.integers(0, CLASSES, (2, 4, 5)))
    output = {"logits": jnp.asarray(logits), "presence": jnp.asarray(presence)}
    _, logs = model_losses(model, {"decode": output}, jnp.asarray(labels))
    there = np.array([[(image == i).any() for i in range(CLASSES)] for image in labels])
    expected = np.where(there, np.log1p(np.exp(-presence)), np.log1p(np.exp(presence))).mean()
    assert float(logs["decode.loss_se"]) == pytest.approx(0.5 * expected, rel=1e-5)
    assert set(logs) == {"decode.loss_ce", "decode.acc_seg", "decode.loss_se"}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"loss_se_decode": {"type": "CrossEntropyLoss"}}, "(?s)loss_se_decode=.*needs use_sigmoid=True"),
        ({"input_transform": "resize_concat"}, "input_transform='resize_concat': this head takes 'multiple_select'"),
    ],
)
def test_fields_that_do_not_fit(fields, message):
    model = build_model(model_config(head_config("EncHead", **ENC, **fields)))
    with pytest.raises(ConfigError, match=message):
        jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, 64, 64, 3), np.float32))


def test_without_the_loss():
    """There is no layer for it then, and the losses are those of any head."""
    model = build_model(model_config(head_config("EncHead", **ENC, use_se_loss=False)))
    images = np.zeros((2, 64, 64, 3), np.float32)
    output, variables = jax.eval_shape(lambda x: model.init_with_output(jax.random.key(0), x, True), images)
    assert "se_layer" not in variables["params"]["decode_head"]
    assert output["decode"].shape == (2, 2, 2, CLASSES)
