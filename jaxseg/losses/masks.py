"""Losses of queries with a class and a mask each, as MaskFormer and Mask2Former have them.

The targets of an image are the classes that it has, each with the mask of its pixels. Of every layer's queries, one is
matched with each target, by costs; it learns the class and the mask, the others that there is no object.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, Integer, PRNGKeyArray

from jaxseg.errors import ConfigError, did_you_mean
from jaxseg.losses.assignment import assign
from jaxseg.losses.cross_entropy import EPS
from jaxseg.losses.presence import present_classes
from jaxseg.models.layers.platform import on_cpu
from jaxseg.models.layers.points import sample_points, sample_shares
from jaxseg.models.layers.resize import resize
from jaxseg.models.registry import unknown_type

TINY = 1e-12  # what the reference adds to probabilities before their logarithm
CHUNK = 8  # targets of an image that are compared at a time
POINTS = {"num_points": 12544, "oversample_ratio": 3.0, "importance_sample_ratio": 0.75}


class Targets(NamedTuple):
    """What there is in each image.

    Attributes:
        classes: Classes that it has, in their order; after them, others.
        count: How many it has.
    """

    classes: Int[Array, "b targets"]
    count: Int[Array, " b"]


def find_targets(head: Any, labels: Integer[Array, "b h w"]) -> Targets:
    """The classes of each image; the first ones, where it has more than the head has queries."""
    present = present_classes(labels, head.num_classes)
    if head.ignore_index is not None:
        present &= jnp.arange(head.num_classes) != head.ignore_index
    most = min(head.num_classes, head.num_queries)
    classes = jnp.argsort(~present, axis=-1, stable=True)[:, :most]
    return Targets(classes, jnp.minimum(jnp.sum(present, axis=-1), most))


# What a cost is computed of: logits of classes [b q c], of masks [b n q], how much of each pixel or point is each
# target's [b n t], and the targets' classes [b t]. It is [b t q].


def classification_cost(classes, masks, shares, labels, *, weight: float = 1.0) -> Float[Array, "b t q"]:
    """Less the probability of the target's class."""
    probabilities = jax.nn.softmax(classes, axis=-1)
    return -weight * jnp.take_along_axis(probabilities, labels[:, None], axis=-1).swapaxes(1, 2)


def dice_cost(
    classes, masks, shares, labels, *, weight=1.0, pred_act=False, eps=1e-3, naive_dice=True
) -> Float[Array, "b t q"]:
    """One minus the Dice coefficient of mask and target."""
    masks = jax.nn.sigmoid(masks) if pred_act else masks
    power = 1 if naive_dice else 2
    sizes = jnp.sum(masks**power, axis=1)[:, None] + jnp.sum(shares**power, axis=1)[..., None]
    return weight * (1 - (2 * _overlaps(shares, masks) + eps) / (sizes + eps))


def cross_entropy_cost(classes, masks, shares, labels, *, weight=1.0, use_sigmoid=True) -> Float[Array, "b t q"]:
    """Mean binary cross entropy of mask and target."""
    if not use_sigmoid:
        raise ConfigError("train_cfg.assigner: CrossEntropyLossCost has its sigmoid form only")
    return weight * _mean_cost(jax.nn.softplus(-masks), jax.nn.softplus(masks), shares)


def focal_cost(
    classes, masks, shares, labels, *, weight=1.0, alpha=0.25, gamma=2, eps=TINY, binary_input=False
) -> Float[Array, "b t q"]:
    """Mean focal loss of mask and target."""
    if not binary_input:
        raise ConfigError("train_cfg.assigner: FocalLossCost needs binary_input=True, it is one of masks")
    inside = jax.nn.sigmoid(masks)
    positive = -jnp.log(inside + eps) * alpha * (1 - inside) ** gamma
    negative = -jnp.log(1 - inside + eps) * (1 - alpha) * inside**gamma
    return weight * _mean_cost(positive, negative, shares)


def _mean_cost(positive: Array, negative: Array, shares: Array) -> Float[Array, "b t q"]:
    """Of costs of every pixel if it is the target's, and if it is not."""
    total = _overlaps(shares, positive - negative) + jnp.sum(negative, axis=1)[:, None]
    return total / shares.shape[1]


def _overlaps(shares: Float[Array, "b n t"], masks: Float[Array, "b n q"]) -> Float[Array, "b t q"]:
    return jnp.einsum("bnt,bnq->btq", shares, masks, precision=lax.Precision.HIGHEST)


def binary_cross_entropy(logits: Array, shares: Array, *, use_sigmoid: bool = False) -> Array:
    """Of every pixel or point."""
    if not use_sigmoid:
        raise ConfigError("loss_mask.use_sigmoid=False: masks have the sigmoid form only")
    return shares * jax.nn.softplus(-logits) + (1 - shares) * jax.nn.softplus(logits)


def binary_focal(
    logits: Array, shares: Array, *, use_sigmoid: bool = True, gamma: float = 2.0, alpha: float = 0.25
) -> Array:
    """Of every pixel or point, less for what is right already (Lin et al. 2017)."""
    inside = jax.nn.sigmoid(logits)
    wrong = (1 - inside) * shares + inside * (1 - shares)
    weight = (alpha * shares + (1 - alpha) * (1 - shares)) * wrong**gamma
    return weight * binary_cross_entropy(logits, shares, use_sigmoid=use_sigmoid)


def overlap_loss(
    logits: Float[Array, "b n k"],
    shares: Float[Array, "b n k"],
    *,
    use_sigmoid: bool = True,
    activate: bool = True,
    naive_dice: bool = False,
    eps: float = 1e-3,
) -> Float[Array, "b k"]:
    """One minus the Dice coefficient of each mask and its target."""
    if not use_sigmoid:
        raise ConfigError("loss_dice.use_sigmoid=False: masks have the sigmoid form only")
    masks = jax.nn.sigmoid(logits) if activate else logits
    overlap = 2 * jnp.sum(masks * shares, axis=1)
    if naive_dice:
        return 1 - (overlap + eps) / (jnp.sum(masks, axis=1) + jnp.sum(shares, axis=1) + eps)
    return 1 - overlap / (jnp.sum(masks**2, axis=1) + eps + jnp.sum(shares**2, axis=1) + eps)


# By the reference's `type`.
MATCH_COSTS: dict[str, Callable[..., Array]] = {
    "mmdet.ClassificationCost": classification_cost,
    "mmdet.CrossEntropyLossCost": cross_entropy_cost,
    "mmdet.DiceCost": dice_cost,
    "mmdet.FocalLossCost": focal_cost,
}
MASK_LOSSES = {"mmdet.CrossEntropyLoss": binary_cross_entropy, "mmdet.FocalLoss": binary_focal}


def maskformer_losses(
    head: Any, output: Mapping[str, Array], labels: Integer[Array, "b h w"], extras: Mapping[str, Array]
) -> dict[str, Float[Array, ""]]:
    """Of a MaskFormerHead: masks are compared at every pixel of the labels, and matched at every pixel of the masks."""
    size = output["masks"].shape[2:4]

    def match(layer: Mapping[str, Array], targets: Targets) -> Array:
        small = resize(labels[..., None].astype(jnp.float32), size, "nearest")
        shares = (small == targets.classes[:, None, None]).astype(layer["masks"].dtype)
        pixels = [x.reshape(len(x), -1, x.shape[-1]) for x in (layer["masks"], shares)]
        return match_cost(head, layer["classes"], *pixels, targets.classes)

    def compare(key: PRNGKeyArray, masks: Array, classes: Array) -> tuple[Array, Array]:
        shares = (labels[..., None] == classes[:, None, None]).astype(masks.dtype)
        masks = resize(masks, labels.shape[1:3])
        return tuple(x.reshape(len(x), -1, x.shape[-1]) for x in (masks, shares))

    return _losses(head, output, labels, match, compare)


def mask2former_losses(
    head: Any, output: Mapping[str, Array], labels: Integer[Array, "b h w"], extras: Mapping[str, Array]
) -> dict[str, Float[Array, ""]]:
    """Of a Mask2FormerHead: masks are matched and compared at random points, which differ from layer to layer.

    Points to match at are the same for all masks of an image. Of those to compare at, a share is where a mask's edge
    is; see `edge_points`.
    """
    settings = POINTS | {name: head.train_cfg[name] for name in POINTS if name in head.train_cfg}
    count = settings["num_points"]

    def match(layer: Mapping[str, Array], targets: Targets) -> Array:
        masks = layer["masks"]
        points = draw(layer["key"], (len(masks), count, 2), masks.dtype)
        shares = sample_shares(labels, points, targets.classes[:, None]).astype(masks.dtype)
        return match_cost(head, layer["classes"], sample_points(masks, points), shares, targets.classes)

    def compare(key: PRNGKeyArray, masks: Array, classes: Array) -> tuple[Array, Array]:
        batch, height, width, chunk = masks.shape
        apart = masks.transpose(0, 3, 1, 2).reshape(batch * chunk, height, width, 1)
        points = edge_points(key, lax.stop_gradient(apart), **settings)
        logits = sample_points(apart, points).reshape(batch, chunk, count)
        of_image = points.reshape(batch, chunk * count, 2)
        shares = sample_shares(labels, of_image, jnp.repeat(classes, count, axis=1)[..., None])
        return logits.swapaxes(1, 2), shares.reshape(batch, chunk, count).swapaxes(1, 2).astype(masks.dtype)

    return _losses(head, output, labels, match, compare)


def draw(key: PRNGKeyArray, shape: tuple[int, ...], dtype: Any) -> Float[Array, "..."]:
    """Random points, as (x, y) in 0..1."""
    return jax.random.uniform(key, shape, dtype)


def edge_points(
    key: PRNGKeyArray,
    masks: Float[Array, "b h w 1"],
    num_points: int,
    oversample_ratio: float,
    importance_sample_ratio: float,
) -> Float[Array, "b n 2"]:
    """Random points, a share of which are those of many whose logits are nearest to 0."""
    of_many, of_any = jax.random.split(key)
    many = draw(of_many, (len(masks), int(num_points * oversample_ratio), 2), masks.dtype)
    count = int(importance_sample_ratio * num_points)
    chosen = _smallest(jnp.abs(sample_points(masks, many)[..., 0]), count)
    rest = draw(of_any, (len(masks), num_points - count, 2), masks.dtype)
    return jnp.concatenate([jnp.take_along_axis(many, chosen[..., None], axis=1), rest], axis=1)


def _smallest(values: Float[Array, "b n"], count: int) -> Int[Array, "b count"]:
    """Indices of the smallest values."""
    if on_cpu():
        return lax.top_k(-values, count)[1]
    # So many are sorted in any case, and unlike `top_k` this leaves a batch on the devices that have it.
    return lax.sort_key_val(values, lax.broadcasted_iota(jnp.int32, values.shape, 1))[1][:, :count]


def _losses(head: Any, output: Mapping[str, Array], labels: Array, match: Callable, compare: Callable) -> dict:
    """Losses of all layers: those of the last by their names, those of the others after "d0.", "d1.", ..."""
    check(head)
    layers = {"classes": output["classes"], "masks": output["masks"]}
    count = len(layers["masks"])
    layers["key"] = jax.random.split(output["key"], count)
    targets = find_targets(head, labels)
    # One layer at a time: what is computed of masks is larger than the masks.
    costs = lax.map(lambda layer: match(layer, targets), lax.stop_gradient(layers) | {"key": layers["key"]})
    # All layers at once; the images in front, which may be on several devices.
    flat = assign(costs.swapaxes(0, 1).reshape(-1, *costs.shape[2:]), jnp.repeat(targets.count, count))
    layers["queries"] = flat.reshape(-1, count, flat.shape[-1]).swapaxes(0, 1)
    found = lax.map(jax.checkpoint(lambda layer: layer_losses(head, layer, targets, compare)), layers)
    names = [*(f"d{i}." for i in range(count - 1)), ""]
    return {f"{names[i]}{name}": loss[i] for i in reversed(range(count)) for name, loss in found.items()}


def match_cost(head: Any, classes: Array, masks: Array, shares: Array, labels: Array) -> Float[Array, "b t q"]:
    """The sum of the costs of the head's assigner."""
    total = 0.0
    for config in head.train_cfg["assigner"]["match_costs"]:
        total += MATCH_COSTS[config["type"]](classes, masks, shares, labels, **_fields(config))
    return total


def layer_losses(
    head: Any, layer: Mapping[str, Array], targets: Targets, compare: Callable
) -> dict[str, Float[Array, ""]]:
    """Losses of one layer's queries.

    Args:
        head: The head.
        layer: Logits of "classes" [b q c] and "masks" [b h w q], the targets' "queries" [b t], and a "key" of points.
        targets: What there is.
        compare: Of a key, some masks [b h w k] and classes [b k]: logits and shares [b n k] of pixels or points.
    """
    classes, masks, queries = layer["classes"], layer["masks"], layer["queries"]
    is_target = jnp.arange(queries.shape[1]) < targets.count[:, None]
    total = jnp.sum(jnp.maximum(targets.count, 1)) + EPS  # an image without targets counts as one, as in the reference

    def of_chunk(sums: tuple, chunk: tuple) -> tuple:
        index, queries, labels, counts = chunk

        def add(sums):
            # A product instead of a gather, whose gradient would be a scatter.
            choice = jax.nn.one_hot(queries, masks.shape[-1], axis=1, dtype=masks.dtype)
            chosen = jnp.einsum("bhwq,bqk->bhwk", masks, choice, precision=lax.Precision.HIGHEST)
            key = jax.random.fold_in(layer["key"], 1 + index)
            logits, shares = compare(key, chosen, labels)
            mask = jnp.mean(MASK_LOSSES[head.loss_mask["type"]](logits, shares, **_fields(head.loss_mask)), axis=1)
            dice = overlap_loss(logits, shares, **_fields(head.loss_dice))
            return tuple(s + jnp.sum(jnp.where(counts, x, 0)) for s, x in zip(sums, (mask, dice), strict=True))

        # Few images have many classes: what no image of the batch has is not computed.
        return lax.cond(index < jnp.max(targets.count), add, lambda sums: sums, sums), None

    chunks = [_chunks(x) for x in (queries, targets.classes, is_target)]
    starts = CHUNK * jnp.arange(len(chunks[0]))
    zeros = (jnp.zeros((), masks.dtype),) * 2
    mask, dice = lax.scan(jax.checkpoint(of_chunk), zeros, (starts, *chunks))[0]
    wanted = jnp.full(classes.shape[:2], head.num_classes)
    places = jnp.where(is_target, queries, classes.shape[1])
    wanted = jax.vmap(lambda row, at, what: row.at[at].set(what, mode="drop"))(wanted, places, targets.classes)
    return {
        "loss_cls": head.loss_cls.get("loss_weight", 1.0) * class_loss(head, classes, wanted),
        "loss_mask": head.loss_mask.get("loss_weight", 1.0) * mask / total,
        "loss_dice": head.loss_dice.get("loss_weight", 1.0) * dice / total,
    }


def _chunks(x: Array) -> Array:
    """[chunks b CHUNK] of [b t], filled up with zeros."""
    x = jnp.pad(x, ((0, 0), (0, -x.shape[1] % CHUNK)))
    return x.reshape(len(x), -1, CHUNK).swapaxes(0, 1)


def class_loss(head: Any, logits: Float[Array, "b q c"], wanted: Integer[Array, "b q"]) -> Float[Array, ""]:
    """Cross entropy of all queries, averaged by the weights of their classes."""
    weight = head.loss_cls.get("class_weight") or (1.0,) * logits.shape[-1]
    weights = jnp.asarray(weight, logits.dtype)[wanted]
    losses = -jnp.take_along_axis(jax.nn.log_softmax(logits, axis=-1), wanted[..., None], axis=-1)[..., 0]
    return jnp.sum(weights * losses) / (jnp.sum(weights) + EPS)


def check(head: Any) -> None:
    """Raises ConfigError where the head's losses or matching are not known, or incomplete."""
    costs = head.train_cfg.get("assigner", {}).get("match_costs", ())
    if not costs:
        raise head.error("train_cfg", "give assigner.match_costs, to train")
    for where, config, known in (
        ("loss_cls", head.loss_cls, ("mmdet.CrossEntropyLoss",)),
        ("loss_mask", head.loss_mask, MASK_LOSSES),
        ("loss_dice", head.loss_dice, ("mmdet.DiceLoss",)),
        *(("train_cfg.assigner.match_costs", config, MATCH_COSTS) for config in costs),
    ):
        if config["type"] not in known:
            raise unknown_type(where, config["type"], known)
        if config.get("reduction", "mean") != "mean":
            raise ConfigError(f"{where}.reduction={config['reduction']!r}: only 'mean' is supported")
    if head.loss_cls.get("use_sigmoid"):
        raise head.error("loss_cls", "classes have the softmax form only")
    weight, entries = head.loss_cls.get("class_weight"), head.num_classes + 1
    if weight is not None and len(weight) != entries:
        raise ConfigError(
            f"decode_head.loss_cls.class_weight has {len(weight)} entries; {head.num_classes} classes need {entries}, "
            "the last for no object"
        )
    for name in head.train_cfg:
        if name not in (*POINTS, "assigner", "sampler"):
            raise head.error("train_cfg", f"no field {name!r}. {did_you_mean(name, POINTS)}")


def _fields(config: Mapping) -> dict[str, Any]:
    """What a loss or cost takes of its config."""
    return {name: value for name, value in config.items() if name not in ("type", "loss_weight", "reduction")}
