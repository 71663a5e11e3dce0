"""What of a recipe follows from its data: channels, mean and deviation, class weights, losses of several classes."""

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from jaxseg import config as run_config
from jaxseg.config import AUTO
from jaxseg.configs.common import IMAGENET
from jaxseg.data.masks import describe
from jaxseg.data.statistics import channel_statistics, class_weights
from jaxseg.data.transforms.loading import LoadImage
from jaxseg.engine.stems import image_part
from jaxseg.errors import ConfigError
from jaxseg.losses import MULTI_LABEL_LOSSES

_COLOURS = "PhotoMetricDistortion"
_HEADS = ("decode_head", "auxiliary_head")
_PARTS_OF_HEADS = ("loss_decode", "loss_se_decode", "loss_cls")


def follow_data(
    config: ConfigDict, source: Any, workdir: Path | None = None, say: Callable[[str], Any] = lambda text: None
) -> ConfigDict:
    """A copy of a recipe with what it leaves to the data.

    - `data.channels` becomes `in_channels` of the backbone.
    - `preprocess.mean` and `.std` of "auto", or ImageNet's, which is for RGB of 8 bits, where `data.channels` is set:
      those of the training images, also as `pad_val` of transforms that pad with the mean.
    - `class_weight` of "auto" in losses: weights of the training masks. In `loss_cls` one number alone is that of
      queries that find nothing, and the classes weigh 1.
    - With masks of several classes a pixel, cross entropy is the sigmoid one.

    Args:
        config: A recipe.
        source: The training data.
        workdir: The run folder: a run that is there has what was counted, and it is not counted again.
        say: Told what was filled in, a sentence each, and what masks hold.

    Raises:
        ConfigError: Fields that contradict the data.
        DataError: A file that can't be used.
    """
    there = run_config.load(workdir) if workdir and (Path(workdir) / run_config.CONFIG_FILE).is_file() else None
    config = config.copy_and_resolve_references()
    with config.unlocked():
        notes = [
            describe(source),
            *_follow_channels(config, source, there),
            *_follow_weights(config, source, there),
            *_follow_labels(config),
        ]
    for note in filter(None, notes):
        say(note)
    return config


def _follow_channels(config: ConfigDict, source: Any, there: ConfigDict | None) -> list[str]:
    channels, notes = config.data.get("channels"), []
    inner = image_part(config.model)
    if channels is not None and inner is not None:
        found = inner.get("in_channels", 3)
        if found not in (3, channels):
            raise ConfigError(
                f"model.backbone.in_channels is {found}, but data.channels is {channels}: leave the first one out."
            )
        if channels != 3 and "in_channels" not in inner:
            raise ConfigError(f"{run_config.type_name(inner['type'])} takes 3 channels only; data.channels={channels}.")
        if "in_channels" in inner:
            inner["in_channels"] = channels
        notes += _leave_out_photometric(config, source, channels)
    preprocess = config.preprocess
    asked = AUTO in (*preprocess.mean, *preprocess.std)
    imagenet = tuple(preprocess.mean) == IMAGENET["mean"] and tuple(preprocess.std) == IMAGENET["std"]
    if not asked and not (channels is not None and imagenet):
        if channels is not None and len(preprocess.mean) != channels:
            raise ConfigError(
                f"preprocess.mean has {len(preprocess.mean)} numbers, but data.channels is {channels}; give one a "
                "channel, or --config.preprocess.mean=auto"
            )
        return notes
    old = tuple(preprocess.mean)
    if there is not None and AUTO not in (*there.preprocess.mean, *there.preprocess.std):
        mean, std = tuple(there.preprocess.mean), tuple(there.preprocess.std)
    else:
        mean, std = channel_statistics(source)
    for name, value in (("mean", mean), ("std", std)):
        if AUTO in preprocess[name] or tuple(preprocess[name]) == IMAGENET[name]:  # else it is given
            preprocess[name] = value
    for part in ("train", "val", "test"):
        config.data[part].transforms = tuple(_padded(step, old, mean) for step in config.data[part].transforms)
    shown = (", ".join(f"{value:g}" for value in preprocess[name]) for name in ("mean", "std"))
    return [*notes, "images: mean {}; deviation {}, of the training images".format(*shown)]


def _leave_out_photometric(config: ConfigDict, source: Any, channels: int) -> list[str]:
    """Takes the change of colours, which is for RGB of 8 bits, out of the transforms where images are no such."""
    steps = config.data.train.transforms
    kept = tuple(step for step in steps if not (isinstance(step, Mapping | ConfigDict) and step["type"] == _COLOURS))
    if len(kept) == len(steps) or (channels == 3 and LoadImage()(source[0])["image"].dtype == np.uint8):
        return []
    config.data.train.transforms = kept
    return [f"{_COLOURS} is for RGB of 8 bits and is left out"]


def _padded(step: Any, old: tuple[Any, ...], mean: tuple[float, ...]) -> Any:
    """The transform; where it pads with the mean, with the one of the data."""
    value = step.get("pad_val") if isinstance(step, Mapping | ConfigDict) else None
    if isinstance(value, tuple | list) and tuple(value) in (old, IMAGENET["mean"]):
        step = step.copy_and_resolve_references() if isinstance(step, ConfigDict) else dict(step)
        step["pad_val"] = mean
    return step


def _losses(config: ConfigDict) -> list[tuple[str, Any, Any]]:
    """Every loss of every head: its field, the head, and the loss itself, to be changed in place."""
    found = []
    for name in _HEADS:
        heads = config.model.get(name)
        several = isinstance(heads, tuple | list)
        for i, head in enumerate(heads if several else [heads]):
            for field in _PARTS_OF_HEADS:
                losses = (head or {}).get(field)
                for k, loss in enumerate(losses if isinstance(losses, tuple | list) else [losses]):
                    if loss:
                        where = f"model.{name}" + f"[{i}]" * several + f".{field}"
                        found.append((where + f"[{k}]" * isinstance(losses, tuple | list), head, loss))
    return found


def _follow_weights(config: ConfigDict, source: Any, there: ConfigDict | None) -> list[str]:
    weights, notes = None, []
    known = {where: loss.get("class_weight") for where, _, loss in _losses(there)} if there is not None else {}
    for where, _, loss in _losses(config):
        weight = loss.get("class_weight")
        if where.endswith("loss_cls") and isinstance(weight, tuple | list) and len(weight) == 1 and weight[0] != AUTO:
            _set(loss, "class_weight", (*[1.0] * len(source.classes), *weight))
            continue
        if not isinstance(weight, str) and weight != (AUTO,):
            continue
        if weight not in (AUTO, (AUTO,)):
            raise ConfigError(f"{where}.class_weight is {weight!r}; it must be a number a class, or 'auto'.")
        if isinstance(known.get(where), tuple | list):
            weights = tuple(known[where])
        elif weights is None:
            weights = class_weights(source)
        more = (0.1,) if where.endswith("loss_cls") else ()  # of queries that find nothing
        _set(loss, "class_weight", weights if len(weights) > len(source.classes) else (*weights, *more))
        shown = ", ".join(f"{name} {value:g}" for name, value in zip(source.classes, weights, strict=False))
        notes = [f"class weights of the training masks: {shown}"]
    return notes


def _set(part: Any, name: str, value: Any) -> None:
    """Sets a field of a part, which may have had a value of another type."""
    with part.ignore_type() if isinstance(part, ConfigDict) else contextlib.nullcontext():
        part[name] = value


def _follow_labels(config: ConfigDict) -> list[str]:
    if config.data.get("masks") != "multi-label":
        return []
    for where, _, loss in _losses(config):
        kind = loss.get("type")
        if kind not in MULTI_LABEL_LOSSES or where.endswith("loss_cls"):
            raise ConfigError(
                f"{where} is {run_config.type_name(kind)}, which has no meaning for several classes a pixel "
                f"(data.masks=multi-label); those that have are {', '.join(sorted(MULTI_LABEL_LOSSES))}."
            )
        _set(loss, "use_sigmoid", True)
    for name in _HEADS:
        heads = config.model.get(name)
        for head in heads if isinstance(heads, tuple | list) else [heads]:
            if head and head.get("sampler") is not None:
                raise ConfigError(f"model.{name}.sampler has no meaning for several classes a pixel; remove it.")
    return ["losses: a sigmoid for every class"]
