"""Boundary loss, and the labels and losses of heads with several branches."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.errors import ConfigError
from jaxseg.losses.boundary import boundary_loss
from jaxseg.losses.branches import pid_losses
from jaxseg.losses.detail import detail_labels
from jaxseg.models.heads.stdc import FUSION, LAPLACIAN


def test_both_kinds_of_pixels_weigh_the_same():
    """One boundary pixel of four weighs 3/4, the others 1/4 each; a fifth does not count, but in the mean."""
    logits, labels = jnp.array([0.3, -1.0, 2.0, 0.5, 9.0]), jnp.array([1, 0, 0, 0, 255])
    loss = boundary_loss(logits.reshape(1, 1, 5, 1), labels.reshape(1, 1, 5))
    terms = [0.75 * jax.nn.softplus(-logits[0]), *(0.25 * jax.nn.softplus(logits[i]) for i in (1, 2, 3))]
    np.testing.assert_allclose(loss, sum(terms) / 5, rtol=1e-6)


@pytest.mark.parametrize("label", [0, 1, 255])
def test_one_kind_alone_costs_nothing(label):
    loss, gradient = jax.value_and_grad(boundary_loss)(jnp.ones((1, 2, 2, 1)), jnp.full((1, 2, 2), label))
    assert loss == 0
    assert not np.any(gradient)


def test_errors():
    with pytest.raises(ConfigError, match="needs one logit a pixel; there are 2"):
        boundary_loss(jnp.zeros((1, 2, 2, 2)), jnp.zeros((1, 2, 2), int))


def test_detail_labels():
    """A step of the labels is a boundary on its upper side, at all three resolutions."""
    labels = jnp.zeros((1, 8, 8), jnp.uint8).at[:, :, 4:].set(3)
    found = detail_labels(labels, LAPLACIAN, FUSION)
    assert found.shape == labels.shape
    assert np.asarray(found)[0, 1:-1, 4].all()
    assert not np.asarray(found)[0, :, :3].any()


def test_edges_of_the_batch_are_used():
    """Else they are where a label is not that of the pixel above."""
    rng = np.random.default_rng(0)
    losses = ({"type": "CrossEntropyLoss"},) * 2 + ({"type": "BoundaryLoss"}, {"type": "CrossEntropyLoss"})
    head = types.SimpleNamespace(loss_decode=losses, align_corners=True, ignore_index=255, sampler=None)
    head.clone = lambda loss_decode: types.SimpleNamespace(**{**vars(head), "loss_decode": loss_decode})
    labels = jnp.asarray(np.kron(rng.integers(1, 3, (2, 3, 3)), np.ones((1, 4, 4), int)))
    output = {
        name: jnp.asarray(rng.normal(0, 1, (2, 6, 6, c)), jnp.float32) for name, c in (("p", 3), ("i", 3), ("d", 1))
    }
    above = jnp.concatenate([jnp.zeros_like(labels[:, :1]), labels[:, :-1]], axis=1)
    derived = pid_losses(head, output, labels, {})
    given = pid_losses(head, output, labels, {"edge": (labels != above).astype(jnp.uint8)})
    other = pid_losses(head, output, labels, {"edge": jnp.zeros_like(labels)})
    assert list(derived) == ["loss_sem_p", "loss_sem_i", "loss_bd", "loss_sem_bd", "acc_seg"]
    assert derived["loss_bd"] == given["loss_bd"] > 0
    assert other["loss_bd"] == 0
