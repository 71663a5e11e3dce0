"""Losses of heads with several branches, or with labels of their own."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Integer

from jaxseg import losses  # whose functions are defined by the time that these here run
from jaxseg.losses.detail import detail_labels
from jaxseg.models.layers.resize import resize

SURE = 0.8  # probability above which PIDNet takes a pixel for one of a boundary


def stdc_losses(
    head: Any, output: Mapping[str, Array], labels: Integer[Array, "b h w"], extras: Mapping[str, Array]
) -> Mapping[str, Array]:
    """Losses of a head with one map of logits, of where the classes meet."""
    kernels = (head.reference_constants[name] for name in ("laplacian_kernel", "fusion_kernel"))
    return losses.head_losses(head, output["detail"], detail_labels(labels, *kernels, head.boundary_threshold))


def ddr_losses(
    head: Any, output: Mapping[str, Array], labels: Integer[Array, "b h w"], extras: Mapping[str, Array]
) -> Mapping[str, Array]:
    """One loss of the result, and one of the finer branch half-way."""
    context, accuracy = _loss(head, 0, output["context"], labels)
    spatial, _ = _loss(head, 1, output["spatial"], labels)
    return {"loss_context": context, "loss_spatial": spatial, "acc_seg": accuracy}


def pid_losses(
    head: Any, output: Mapping[str, Array], labels: Integer[Array, "b h w"], extras: Mapping[str, Array]
) -> Mapping[str, Array]:
    """Losses of two branches' classes, of the boundaries, and of the classes where the boundaries are sure.

    The boundaries are the batch's "edge" (1, 0, or 255 for neither); where it has none, every pixel whose label is not
    that of the pixel above it.
    """
    edges = extras.get("edge")
    if edges is None:
        above = jnp.pad(labels[:, :-1], ((0, 0), (1, 0), (0, 0)))
        edges = (labels != above).astype(jnp.int32)
    boundary = resize(output["d"], labels.shape[1:3], align_corners=head.align_corners)
    sure = jax.nn.sigmoid(boundary[..., 0]) > SURE
    final, accuracy = _loss(head, 1, output["i"], labels)
    return {
        "loss_sem_p": _loss(head, 0, output["p"], labels)[0],
        "loss_sem_i": final,
        "loss_bd": _loss(head, 2, boundary, edges)[0],
        "loss_sem_bd": _loss(head, 3, output["i"], jnp.where(sure, labels, head.ignore_index))[0],
        "acc_seg": accuracy,
    }


def _loss(
    head: Any, index: int, logits: Float[Array, "b _ _ c"], labels: Integer[Array, "b h w"]
) -> tuple[Array, Array]:
    """One of a head's losses, whatever its name is, and the accuracy."""
    logs = dict(losses.head_losses(head.clone(loss_decode=head.loss_decode[index]), logits, labels))
    accuracy = logs.pop("acc_seg")
    (loss,) = logs.values()
    return loss, accuracy
