"""Losses of large logits: by rows, equal to all at once."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.losses import head_losses, rows

CE = {"type": "CrossEntropyLoss"}
CONFIGS = {
    "plain": CE,
    "of those that count": CE | {"avg_non_ignore": True, "loss_weight": 0.4},
    "class weights": CE | {"class_weight": (0.5, 1.0, 2.0, 0.0, 3.0)},
    "both": CE | {"class_weight": (0.5, 1.0, 2.0, 0.0, 3.0), "avg_non_ignore": True},
    "sum": CE | {"reduction": "sum"},
    "several": (CE, CE | {"loss_name": "loss_other", "class_weight": (1.0, 2.0, 3.0, 4.0, 5.0)}, CE),
}


def losses_and_gradient(monkeypatch, head, logits, labels, block):
    monkeypatch.setattr(rows, "BLOCK", block)

    def total(logits):
        logs = head_losses(head, logits, labels)
        return sum(value for name, value in logs.items() if "loss" in name), logs

    return jax.value_and_grad(total, has_aux=True)(logits)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("size", [(5, 6), (17, 12)], ids=["resized", "as they are"])
@pytest.mark.parametrize("losses", CONFIGS.values(), ids=CONFIGS.keys())
def test_rows_equal_all_at_once(monkeypatch, losses, size, align_corners):
    rng = np.random.default_rng(0)
    labels = np.where(rng.random((2, 17, 12)) < 0.1, 255, rng.integers(0, 5, (2, 17, 12))).astype(np.uint8)
    logits = jnp.asarray(rng.normal(0, 2, (2, *size, 5)), jnp.float32)
    head = types.SimpleNamespace(loss_decode=losses, sampler=None, ignore_index=255, align_corners=align_corners)
    monkeypatch.setattr(rows, "BLOCK", 1000)
    assert rows.row_blocks(logits, jnp.asarray(labels)) == 5  # of 4 rows, the last of which has one only
    arguments = (monkeypatch, head, logits, jnp.asarray(labels))
    (total, logs), gradient = losses_and_gradient(*arguments, block=1000)
    (whole, whole_logs), whole_gradient = losses_and_gradient(*arguments, block=2**30)
    assert logs.keys() == whole_logs.keys()
    np.testing.assert_allclose(total, whole, rtol=1e-6)
    for name in logs:
        np.testing.assert_allclose(logs[name], whole_logs[name], rtol=1e-6)
    np.testing.assert_allclose(gradient, whole_gradient, rtol=1e-5, atol=1e-6 * np.abs(whole_gradient).max())


@pytest.mark.parametrize("losses", [{"type": "DiceLoss"}, (CE, {"type": "LovaszLoss", "reduction": "none"})])
def test_losses_that_need_all_pixels_get_them(monkeypatch, losses):
    rng = np.random.default_rng(0)
    labels = jnp.asarray(rng.integers(0, 5, (2, 17, 12)), jnp.uint8)
    logits = jnp.asarray(rng.normal(0, 2, (2, 5, 6, 5)), jnp.float32)
    head = types.SimpleNamespace(loss_decode=losses, sampler=None, ignore_index=255, align_corners=False)
    few, _ = losses_and_gradient(monkeypatch, head, logits, labels, block=1000)
    whole, _ = losses_and_gradient(monkeypatch, head, logits, labels, block=2**30)
    assert few == whole


def test_memory_is_that_of_some_rows():
    labels = jax.ShapeDtypeStruct((1, 512, 512), jnp.uint8)
    logits = jax.ShapeDtypeStruct((1, 128, 128, 150), jnp.float32)
    head = types.SimpleNamespace(loss_decode=CE, sampler=None, ignore_index=255, align_corners=False)
    gradient = jax.jit(jax.grad(lambda logits, labels: head_losses(head, logits, labels)["loss_ce"]))
    used = gradient.lower(logits, labels).compile().memory_analysis().temp_size_in_bytes
    assert (
        used < 512 * 512 * 150 * 4
    )  # all logits at once are 157 MB, of which the gradient needs several times as much
