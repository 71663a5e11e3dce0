"""Losses: pure functions of (logits, labels), and their sum over the heads of a model.

LOSSES is keyed by the names that the reference's configs use as `type`. A loss is a function
`loss(logits [b h w c], labels [b h w], weight [b h w] or None, *, ignore_index, ...fields)`; the fields
`loss_weight` and `loss_name` of its config belong to this module.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, Integer

from jaxseg.errors import ConfigError, did_you_mean
from jaxseg.losses.accuracy import hits, pixel_accuracy, share_of_hits
from jaxseg.losses.boundary import boundary_loss
from jaxseg.losses.branches import ddr_losses, pid_losses, stdc_losses
from jaxseg.losses.cross_entropy import cross_entropy_loss, reduce_losses, softmax_losses
from jaxseg.losses.dice import dice_loss
from jaxseg.losses.focal import focal_loss
from jaxseg.losses.hausdorff import hausdorff_distance_loss
from jaxseg.losses.kl_divergence import kl_divergence_loss
from jaxseg.losses.lovasz import lovasz_loss
from jaxseg.losses.masks import check as check_mask_losses
from jaxseg.losses.masks import mask2former_losses, maskformer_losses
from jaxseg.losses.ohem_cross_entropy import ohem_cross_entropy
from jaxseg.losses.presence import present_classes
from jaxseg.losses.rows import by_rows, row_blocks
from jaxseg.losses.samplers import SAMPLERS
from jaxseg.losses.side_adapter import as_mask2former, side_adapter_losses
from jaxseg.losses.silog import silog_loss
from jaxseg.losses.tversky import tversky_loss
from jaxseg.models.layers.points import nearest_points
from jaxseg.models.layers.resize import resize
from jaxseg.models.registry import unknown_type

LOSSES: dict[str, Callable[..., Array]] = {
    "BoundaryLoss": boundary_loss,
    "CrossEntropyLoss": cross_entropy_loss,
    "DiceLoss": dice_loss,
    "FocalLoss": focal_loss,
    "HuasdorffDisstanceLoss": hausdorff_distance_loss,
    "KLDivLoss": kl_divergence_loss,
    "LovaszLoss": lovasz_loss,
    "OhemCrossEntropy": ohem_cross_entropy,
    "SiLogLoss": silog_loss,
    "TverskyLoss": tversky_loss,
}

# What a loss is logged as, where its config does not say.
DEFAULT_NAMES = {
    "BoundaryLoss": "loss_boundary",
    "CrossEntropyLoss": "loss_ce",
    "DiceLoss": "loss_dice",
    "FocalLoss": "loss_focal",
    "HuasdorffDisstanceLoss": "loss_huasdorff_disstance",
    "KLDivLoss": "loss_kld",
    "LovaszLoss": "loss_lovasz",
    "OhemCrossEntropy": "loss_ohem",
    "SiLogLoss": "loss_silog",
    "TverskyLoss": "loss_tversky",
}

# Losses whose `ignore_index` is a field of their own: the head's does not reach them.
OWN_IGNORE_INDEX = {
    "DiceLoss",
    "HuasdorffDisstanceLoss",
    "TverskyLoss",
}

# Losses that know labels of several classes a pixel, all with `use_sigmoid`.
MULTI_LABEL_LOSSES = {
    "CrossEntropyLoss",
    "DiceLoss",
    "FocalLoss",
}

# Losses that are sums over pixels: the only ones that a sampler can choose pixels of.
PIXEL_LOSSES = {
    "CrossEntropyLoss",
    "FocalLoss",
}

Logs = dict[str, Float[Array, ""]]
# A head's type -> its losses, where they are not those of one map of logits:
# `losses(head, output, labels, extras) -> Logs`, of what the head returns while training.
HEAD_LOSSES: dict[str, Callable[[Any, Any, Array, Mapping[str, Array]], Logs]] = {
    "DDRHead": ddr_losses,
    "Mask2FormerHead": mask2former_losses,
    "MaskFormerHead": maskformer_losses,
    "PIDHead": pid_losses,
    "SideAdapterCLIPHead": side_adapter_losses,
    "STDCHead": stdc_losses,
}


def model_losses(
    model: Any,
    outputs: Mapping[str, Any],
    labels: Integer[Array, "b h w *k"],
    extras: Mapping[str, Array] | None = None,
) -> tuple[Float[Array, ""], Logs]:
    """Losses of every head of a segmentor that ran.

    Args:
        model: The segmentor that made the outputs; its heads say which losses they have.
        outputs: What the heads returned, by the head's name; auxiliary heads run in training only.
        labels: Class indices; or several classes a pixel, [b h w classes] of 0 and 1.
        extras: What else a batch has for losses, such as an edge map.

    Returns:
        The sum of the losses, and the logs: "decode.loss_ce", "decode.acc_seg" (percent), "aux.loss_ce", ...
    """
    logs: Logs = {}
    heads = model.heads()
    for name, output in outputs.items():
        head = heads.get(name) or model.final_head  # the one that runs when nothing is trained
        losses = _of_class(HEAD_LOSSES, head)
        if losses is None or not isinstance(output, Mapping):
            found = head_losses(head, output, labels)
        else:
            found = losses(head, output, labels, extras or {})
        logs |= {f"{name}.{key}": value for key, value in found.items()}
    return sum(value for key, value in logs.items() if "loss" in key), logs


def head_losses(head: Any, logits: Float[Array, "b _ _ c"], labels: Integer[Array, "b h w *k"]) -> Logs:
    """Losses of a head with one map of logits, by their names, and its pixel accuracy "acc_seg" in percent.

    Logits are resized to the labels first. Losses of one name are summed; one whose name lacks "loss" is logged
    but not trained.
    """
    configs = loss_configs(head)
    blocks = row_blocks(logits, labels) if labels.ndim == 3 else 1
    if blocks > 1 and head.sampler is None and all(_is_of_pixels(config) for config in configs):
        return _losses_by_rows(head, configs, logits, labels, blocks)
    logits = resize(logits, labels.shape[1:3], align_corners=head.align_corners)
    weight = None
    if head.sampler is not None:
        weight = _sample(head, configs, logits, labels)
    logs: Logs = {}
    for config in configs:
        loss = jnp.mean(_evaluate(config, logits, labels, weight, head.ignore_index))  # of those not reduced
        _add(logs, config, loss)
    logs["acc_seg"] = pixel_accuracy(logits, labels, head.ignore_index)
    return logs


def _add(logs: Logs, config: Mapping, loss: Float[Array, ""]) -> None:
    name = config.get("loss_name", DEFAULT_NAMES.get(config["type"], "loss"))
    logs[name] = logs.get(name, 0.0) + loss


def _is_of_pixels(config: Mapping) -> bool:
    """Whether it is a function of the losses of every pixel."""
    return config["type"] == "CrossEntropyLoss" and not config.get("use_sigmoid")


def _losses_by_rows(head: Any, configs: Sequence[Mapping], logits: Array, labels: Array, blocks: int) -> Logs:
    """What `head_losses` gives, of logits that are large at the size of the labels."""

    def of_block(logits: Array, labels: Array) -> tuple[list[Array], Array]:
        fields = [{"class_weight": config.get("class_weight"), "ignore_index": head.ignore_index} for config in configs]
        return [softmax_losses(logits, labels, **own) for own in fields], hits(logits, labels)

    losses, found = by_rows(of_block, logits, labels, head.align_corners, blocks)
    logs: Logs = {}
    for config, loss in zip(configs, losses, strict=True):
        own = ("type", "loss_weight", "loss_name", "use_sigmoid")
        fields = {key: value for key, value in config.items() if key not in own}
        fields |= {"ignore_index": head.ignore_index, "classes": logits.shape[-1]}
        _add(logs, config, config.get("loss_weight", 1.0) * jnp.mean(reduce_losses(loss, labels, **fields)))
    logs["acc_seg"] = share_of_hits(found, labels, head.ignore_index)
    return logs


def losses_of_each(head: Any, outputs: Mapping[str, Array], labels: Array, extras: Mapping[str, Array]) -> Logs:
    """Of a head that returns several maps of logits: its losses for each of them, by the map's name."""
    return {
        f"{name}.{key}": value
        for name, logits in outputs.items()
        for key, value in head_losses(head, logits, labels).items()
    }


HEAD_LOSSES["DAHead"] = losses_of_each


def losses_of_stages(head: Any, outputs: Mapping[str, Array], labels: Array, extras: Mapping[str, Array]) -> Logs:
    """Of an IterativeDecodeHead: its losses for the logits of every stage, by the stage's name behind their own."""
    return {
        f"{key}.{name}": value
        for name, logits in outputs.items()
        for key, value in head_losses(head, logits, labels).items()
    }


HEAD_LOSSES["IterativeDecodeHead"] = losses_of_stages


def enc_head_losses(head: Any, output: Mapping[str, Array], labels: Array, extras: Mapping[str, Array]) -> Logs:
    """Of an EncHead: those of its logits, and how well it tells which classes an image has, "loss_se"."""
    _check(head.loss_se_decode, LOSSES, "loss_se_decode", ("loss_weight", "loss_name"))
    # One binary problem for each image and class.
    presence = present_classes(labels, head.num_classes).astype(jnp.int32)
    loss = _evaluate(head.loss_se_decode, output["presence"][:, None, :, None], presence[:, None], None, None)
    return head_losses(head, output["logits"], labels) | {"loss_se": loss}


HEAD_LOSSES["EncHead"] = enc_head_losses


def point_losses(head: Any, output: Mapping[str, Array], labels: Array, extras: Mapping[str, Array]) -> Logs:
    """Losses of the points of a PointHead, by the labels of the nearest pixels, and their accuracy "acc_point"."""
    labels = nearest_points(labels, output["points"], head.align_corners)
    # A column of pixels is a map.
    found = head_losses(head, output["logits"][:, :, None], labels[:, :, None])
    accuracy = found.pop("acc_seg")
    return {f"point{name}": value for name, value in found.items()} | {"acc_point": accuracy}


HEAD_LOSSES["PointHead"] = point_losses


# What tells before a run what is wrong with a head's losses, where that is not `loss_configs`.
HEAD_CHECKS: dict[str, Callable[[Any], Any]] = {
    "Mask2FormerHead": check_mask_losses,
    "MaskFormerHead": check_mask_losses,
    "SideAdapterCLIPHead": as_mask2former,
}


def check_losses(head: Any) -> None:
    """Raises ConfigError where a head's losses are not known, or incomplete."""
    (_of_class(HEAD_CHECKS, head) or loss_configs)(head)


def _of_class(table: Mapping[str, Any], head: Any) -> Any:
    """The entry of the head's class, or of one that it is made of; or None."""
    return next((table[kind.__name__] for kind in type(head).__mro__ if kind.__name__ in table), None)


def loss_configs(head: Any) -> Sequence[Mapping]:
    """The configs of a head's losses, checked.

    Raises:
        ConfigError: An unknown loss or field, or a sampler with a loss that is no sum over pixels.
    """
    configs = [head.loss_decode] if isinstance(head.loss_decode, Mapping) else list(head.loss_decode)
    for config in configs:
        own = ("ignore_index",) if config.get("type") in OWN_IGNORE_INDEX else ()
        _check(config, LOSSES, "loss_decode", ("loss_weight", "loss_name", *own))
    if head.sampler is not None:
        _check(head.sampler, SAMPLERS, "sampler", ())
        for config in configs:
            if config["type"] not in PIXEL_LOSSES:
                raise ConfigError(f"sampler: {config['type']} has no loss of each pixel; remove one of the two")
    return configs


def loss_defaults(config: Mapping) -> dict[str, Any]:
    """The fields of the loss that `config` describes which have defaults; none where the type is not known."""
    kind = config.get("type")
    if kind not in LOSSES:
        return {}
    parameters = inspect.signature(LOSSES[kind]).parameters.values()
    own = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
    if kind not in OWN_IGNORE_INDEX:
        own.pop("ignore_index", None)
    return own | {"loss_weight": 1.0, "loss_name": DEFAULT_NAMES.get(kind, "loss")}


def _evaluate(config: Mapping, logits, labels, weight, ignore_index, **overrides) -> Array:
    fields = {key: value for key, value in config.items() if key not in ("type", "loss_weight", "loss_name")}
    if config["type"] not in OWN_IGNORE_INDEX:
        fields["ignore_index"] = ignore_index
    loss = LOSSES[config["type"]](logits, labels, weight, **(fields | overrides))
    return config.get("loss_weight", 1.0) * loss


def _sample(head, configs, logits, labels) -> Array:
    def pixel_losses():
        losses = [_evaluate(config, logits, labels, None, head.ignore_index, reduction="none") for config in configs]
        return sum(loss if loss.ndim == 3 else jnp.sum(loss, axis=-1) for loss in losses)

    fields = {key: value for key, value in head.sampler.items() if key != "type"}
    sampler = SAMPLERS[head.sampler["type"]]
    return sampler(logits, labels, pixel_losses, ignore_index=head.ignore_index, **fields)


def _check(config: Mapping, functions: Mapping[str, Callable], where: str, more: tuple[str, ...]) -> None:
    kind = config.get("type")
    if kind not in functions:
        raise unknown_type(where, kind, functions)
    parameters = inspect.signature(functions[kind]).parameters.values()
    allowed = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY} - {"ignore_index"} | set(more)
    for key in set(config) - {"type"} - allowed:
        raise ConfigError(f"{where}: {kind} has no field {key!r}. {did_you_mean(key, allowed)}")
