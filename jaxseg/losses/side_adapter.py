"""Losses of SAN's head."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, Integer

from jaxseg.errors import ConfigError
from jaxseg.losses.cross_entropy import EPS
from jaxseg.losses.masks import POINTS, find_targets, mask2former_losses
from jaxseg.models.registry import unknown_type

# What its losses are called -> Mask2Former's, and the only type that each can have.
NAMES = {
    "loss_cls_ce": ("loss_cls", "CrossEntropyLoss"),
    "loss_mask_ce": ("loss_mask", "CrossEntropyLoss"),
    "loss_mask_dice": ("loss_dice", "DiceLoss"),
}


@dataclasses.dataclass(frozen=True)
class AsMask2Former:
    """What `mask2former_losses` asks a head for."""

    num_classes: int
    num_queries: int
    ignore_index: int | None
    train_cfg: Mapping
    loss_cls: Mapping
    loss_mask: Mapping
    loss_dice: Mapping

    def error(self, field: str, reason: str) -> ConfigError:
        """A ConfigError about one of the head's fields."""
        return ConfigError(f"decode_head.{field}: {reason}")


def side_adapter_losses(
    head: Any, output: Mapping[str, Array], labels: Integer[Array, "b h w"], extras: Mapping[str, Array]
) -> dict[str, Float[Array, ""]]:
    """Mask2Former's, of the layers `deep_supervision_idxs`, after whose numbers they are named, and of the last.

    They are averaged over the targets that there are, where those of Mask2Former count an image without any as one.
    """
    like = as_mask2former(head)
    found = mask2former_losses(like, output, labels, extras)
    count = find_targets(like, labels).count
    counted, there = jnp.sum(jnp.maximum(count, 1)) + EPS, jnp.maximum(jnp.sum(count), 1)
    points = like.train_cfg.get("num_points", POINTS["num_points"])
    factors = {"loss_cls": 1.0, "loss_mask": counted / (there + EPS / points), "loss_dice": counted / (there + EPS)}
    depths = sorted(set(head.deep_supervision_idxs))
    losses = {}
    for i, depth in enumerate((*depths[: len(output["masks"]) - 1], None)):
        ours, theirs = ("", "") if depth is None else (f"d{depth}.", f"d{i}.")
        for name, (other, _) in NAMES.items():
            losses[f"{ours}{name}"] = factors[other] * found[f"{theirs}{other}"]
    return losses


def as_mask2former(head: Any) -> AsMask2Former:
    """The head's losses in Mask2Former's words.

    Raises:
        ConfigError: One is missing, or is none of these.
    """
    configs = [head.loss_decode] if isinstance(head.loss_decode, Mapping) else head.loss_decode
    named = {config.get("loss_name"): config for config in configs}
    if set(named) != set(NAMES) or len(configs) != len(NAMES):
        raise ConfigError(f"decode_head.loss_decode: to train, give losses of the names {', '.join(NAMES)}")
    losses = {}
    for name, (other, kind) in NAMES.items():
        if named[name]["type"] != kind:
            raise unknown_type(f"decode_head.loss_decode ({name})", named[name]["type"], (kind,))
        dropped = ("loss_name", "ignore_index", "avg_non_ignore")
        fields = {field: value for field, value in named[name].items() if field not in dropped}
        losses[other] = {**fields, "type": f"mmdet.{kind}"}
    train_cfg = dict(head.train_cfg or {})
    if "assigner" in train_cfg:
        costs = train_cfg["assigner"].get("match_costs", ())
        costs = tuple({**cost, "type": f"mmdet.{cost['type']}"} for cost in costs)
        train_cfg["assigner"] = {**train_cfg["assigner"], "match_costs": costs}
    num_queries = head.san_cfg.get("num_queries", 100)
    return AsMask2Former(head.num_classes, num_queries, head.ignore_index, train_cfg, **losses)
