"""Heads with attention: which fields they refuse, and what they return while training."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compiling import quick_jit
from jaxseg.engine.step import compute_losses
from jaxseg.errors import ConfigError
from jaxseg.losses import head_losses
from jaxseg.models import build_model
from small_models import head_config, model_config, random_batch, random_variables

IMAGE = np.zeros((1, 64, 64, 3), np.float32)
DANET = {"kind": "DAHead", "pam_channels": 4}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": "ANNHead"}, "in_channels=32: input_transform='multiple_select' needs a sequence"),
        ({"kind": "ANNHead", "in_channels": (8, 16, 32), "in_index": (1, 2, 3)}, "in_channels=.*needs two maps"),
        (
            {"kind": "ANNHead", "in_channels": (16, 32), "in_index": (2, 3), "query_scales": (1, 2)},
            r"query_scales=\(1, 2\): all must be 1",
        ),
        ({"kind": "CCHead", "num_convs": 1}, "num_convs=1: the attention is between two convolutions"),
        ({"kind": "CCHead", "recurrence": 0}, "recurrence=0: must be at least 1"),
        ({"kind": "CCHead", "channels": 7}, "channels=7: must be at least 8"),
    ],
)
def test_fields_that_do_not_fit(fields, message):
    model = build_model(model_config(head_config(**fields)))
    with pytest.raises(ConfigError, match=message):
        jax.eval_shape(model.init, jax.random.key(0), IMAGE)


def test_danet_has_losses_of_three_maps():
    """Each as if it were the only one; the first is the result."""
    model = build_model(model_config(head_config(**DANET)))
    variables = random_variables(model, IMAGE)
    images, labels = map(jnp.asarray, random_batch((2, 64, 96)))

    @quick_jit
    def run(variables):
        outputs, _ = model.apply(variables, images, True, mutable=["batch_stats"])
        _, logs, _ = compute_losses(model, variables, images, labels)
        expected = {name: head_losses(model.decode_head, maps, labels) for name, maps in outputs["decode"].items()}
        return logs, expected

    logs, expected = run(variables)
    assert sorted(expected) == ["cam", "pam", "pam_cam"]
    assert len(logs) == 6
    for name, losses in expected.items():
        assert losses.keys() == {"loss_ce", "acc_seg"}
        for key, value in losses.items():
            np.testing.assert_allclose(logs[f"decode.{name}.{key}"], value, rtol=1e-5)
    assert len({float(losses["loss_ce"]) for losses in expected.values()}) == 3


def test_dropout_of_danet():
    """The three classifiers drop channels of their own."""
    head = head_config(**DANET, dropout_ratio=0.5)
    model = build_model(model_config(head))
    variables = random_variables(model, IMAGE)
    images = jnp.asarray(random_batch((2, 64, 64))[0])

    @quick_jit
    def run(key):
        outputs, _ = model.apply(variables, images, True, rngs={"dropout": key}, mutable=["batch_stats"])
        return outputs["decode"]

    one, again, other = (run(jax.random.key(seed)) for seed in (0, 0, 1))
    for name in ("pam_cam", "pam", "cam"):
        np.testing.assert_array_equal(one[name], again[name])
        assert not np.allclose(one[name], other[name])
