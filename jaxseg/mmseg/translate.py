"""From a resolved MMSegmentation config to a jaxseg recipe.

Every field is translated, ignored for a stated reason, or refused. Both dialects are read: a config of 0.x is first
brought into the shape of 1.x (`old_dialect`).
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from jaxseg.config import METRICS, complete
from jaxseg.engine.optim import OPTIMIZERS
from jaxseg.engine.schedules import PIECES, WARMUP
from jaxseg.errors import ConfigError, did_you_mean
from jaxseg.mmseg.config import read_config
from jaxseg.mmseg.fields import Fields, tuples
from jaxseg.mmseg.old_dialect import is_old, modernised
from jaxseg.mmseg.translate_data import translate_data

# Top-level fields with a meaning; whatever else a file defines are its own variables.
FIELDS = (
    "model", "data_preprocessor", "train_dataloader", "val_dataloader", "test_dataloader", "optim_wrapper",
    "param_scheduler", "train_cfg", "val_cfg", "test_cfg", "val_evaluator", "test_evaluator", "default_hooks",
    "custom_hooks", "randomness", "load_from", "auto_scale_lr",
)  # fmt: skip
IGNORED = {
    "the machine's business": ("env_cfg", "launcher", "default_scope", "custom_imports", "work_dir", "experiment_name"),
    "logs, curves and pictures of every run are written alike": (
        "vis_backends", "visualizer", "log_processor", "log_level",
    ),
    "a run continues by itself in its folder": ("resume",),
    "asked for when a model is used, not when it is trained": ("tta_model", "tta_pipeline"),
}  # fmt: skip
VARIABLE = "a variable of the file, which nothing reads"
PRETRAINED = "weights to start from are given by path, as config.init_from"
INITIAL = "initial weights are drawn as the module here does it"


class Translation(NamedTuple):
    """A recipe, and the fields of the config that have no part in it: their names, each with the reason."""

    config: ConfigDict
    ignored: dict[str, str]


def load_config(path: str | Path, overrides: Mapping[str, Any] | None = None) -> ConfigDict:
    """A whole jaxseg recipe from an MMSegmentation config of either dialect.

    Args:
        path: The .py file; it is read, never run.
        overrides: Values by dotted name, as `parse_overrides` makes them of `--cfg-options`.

    Returns:
        The recipe: model, preprocessing, data, transforms, optimizer, schedule, evaluation.

    Raises:
        ConfigError: The config can't be read, or a field of it has no counterpart; names the field.
    """
    return translate_file(path, overrides).config


def translate_file(path: str | Path, overrides: Mapping[str, Any] | None = None) -> Translation:
    """Like `load_config`; also tells which fields were ignored."""
    config = read_config(path, overrides)
    try:
        return translate(config, Path(path).stem)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def translate(config: Mapping[str, Any], name: str = "") -> Translation:
    """Translates a resolved config, such as `read_config` returns.

    Args:
        config: The config, of either dialect.
        name: Of the recipe. "4xb2" in it are four devices; otherwise `auto_scale_lr.base_batch_size` is the batch,
            or that of one device.

    Raises:
        ConfigError: A field has no counterpart; names it.
    """
    from jaxseg.configs import common

    ignored: dict[str, str] = {}
    fields = Fields(modernised(config, ignored) if is_old(config) else config, "", ignored)
    for reason, names in IGNORED.items():
        fields.ignore(reason, *names)
    fields.ignore_all_but(FIELDS, VARIABLE)

    recipe = common.base()
    recipe.name = name
    model, preprocessor = fields.section("model"), fields.take("data_preprocessor", None)
    preprocessor = Fields(model.take("data_preprocessor", preprocessor), "model.data_preprocessor", ignored)
    recipe.preprocess, pad, divisor = _preprocess(preprocessor)
    recipe.model = _model(model)
    if divisor is not None:
        recipe.model.test_cfg["size_divisor"] = divisor
    _runtime(fields, recipe)
    recipe.optimizer = _optimizer(fields.section("optim_wrapper"), recipe)
    recipe.schedule = _schedule(fields.take("param_scheduler", ()), recipe.total_steps, ignored)
    recipe.data, images = translate_data(fields, pad)
    recipe.batch_size = _batch_size(images, name, fields.section("auto_scale_lr", {}))
    _metric(fields, recipe)
    fields.done(FIELDS)
    return Translation(complete(recipe).lock(), ignored)


def _preprocess(fields: Fields) -> tuple[dict[str, Any], dict[str, Any] | None, int | None]:
    """Mean and std; the padding that ends the training transforms; the divisor of the sizes tested at."""
    fields.expect("type", "SegDataPreProcessor")
    if not fields.take("bgr_to_rgb", False):
        raise ConfigError(f"{fields.name('bgr_to_rgb')}=False has no counterpart here: images are RGB, not BGR")
    fields.expect("rgb_to_bgr", False)
    mean, std = (tuple(float(value) for value in fields.take(name)) for name in ("mean", "std"))
    size, divisor = fields.take("size", None), fields.take("size_divisor", None)
    label_fill = fields.take("seg_pad_val", 255)
    fields.expect("pad_val", 0)
    fields.expect("batch_augments", None)
    test = fields.section("test_cfg", None)
    test_divisor = test.take("size_divisor", None)
    test.done()
    fields.done()
    pad = None
    if size is not None or divisor is not None:
        field = {"size_divisor": divisor} if size is None else {"size": (size, size) if isinstance(size, int) else size}
        # Padding comes before the normalisation here, so zeros after it are the mean.
        pad = {"type": "Pad", **tuples(field), "pad_val": mean, "seg_pad_val": label_fill}
    return {"mean": mean, "std": std}, pad, test_divisor


def _model(fields: Fields) -> dict[str, Any]:
    fields.ignore(PRETRAINED, "pretrained")
    model = {"type": fields.take("type"), "test_cfg": tuples(fields.take("test_cfg", None) or {"mode": "whole"})}
    train_cfg = fields.take("train_cfg", None) or {}
    if any(value is not None for value in train_cfg.values()):
        model["train_cfg"] = tuples(train_cfg)
    return model | _part(fields)


def _part(fields: Fields) -> dict[str, Any]:
    """A part of the model, without what says how its weights begin."""
    start = fields.take("init_cfg", None)
    if start:
        loaded = isinstance(start, Mapping) and start.get("type") == "Pretrained"
        fields.ignored[fields.name("init_cfg")] = PRETRAINED if loaded else INITIAL
    return {name: _value(value, fields.name(name), fields.ignored) for name, value in fields.rest().items()}


def _value(value: Any, where: str, ignored: dict[str, str]) -> Any:
    if isinstance(value, Mapping):
        if where.endswith("norm_cfg"):  # trained is what norms are
            return {key: item for key, item in value.items() if (key, item) != ("requires_grad", True)}
        return _part(Fields(value, where, ignored)) if all(isinstance(key, str) for key in value) else dict(value)
    if isinstance(value, tuple):
        return tuple(_value(item, f"{where}[{i}]", ignored) for i, item in enumerate(value))
    return value


def _runtime(fields: Fields, recipe: ConfigDict) -> None:
    """Steps, intervals and the seed."""
    loop = fields.section("train_cfg")
    if (kind := loop.take("type", "IterBasedTrainLoop")) != "IterBasedTrainLoop":
        raise ConfigError(f"{loop.name('type')}={kind!r} has no counterpart here: runs are counted in steps")
    recipe.total_steps = int(loop.take("max_iters"))
    recipe.evaluate_every = recipe.checkpoint_every = int(loop.take("val_interval", recipe.total_steps))
    loop.ignore("evaluation begins with the first interval", "val_begin")
    loop.done()
    for name, kind in (("val_cfg", "ValLoop"), ("test_cfg", "TestLoop")):
        section = fields.section(name, {})
        section.expect("type", kind)
        section.expect("fp16", False)
        section.done()

    hooks = fields.section("default_hooks", {})
    checkpoint, logger = hooks.section("checkpoint", {}), hooks.section("logger", {})
    recipe.checkpoint_every = int(checkpoint.take("interval", recipe.checkpoint_every))
    checkpoint.expect("by_epoch", False)
    if (best := checkpoint.take("save_best", None)) not in (None, "auto"):
        recipe.checkpoint.metric = best
    if (kept := checkpoint.take("max_keep_ckpts", -1)) > 0:
        recipe.checkpoint.keep = kept
    checkpoint.ignore("the larger score is the better", "rule")
    checkpoint.ignore("a checkpoint always holds all of a run", "save_optimizer", "save_last", "meta")
    recipe.log_every = int(logger.take("interval", recipe.log_every))
    logger.ignore("logs are by step", "log_metric_by_epoch", "by_epoch", "ignore_last")
    for section, kind in ((checkpoint, "CheckpointHook"), (logger, "LoggerHook")):
        section.expect("type", kind)
        section.done()
    hooks.ignore_all_but((), "every run does what this hook does")
    for i, hook in enumerate(fields.take("custom_hooks", None) or ()):
        raise ConfigError(
            f"custom_hooks[{i}]={hook!r} has no counterpart here. If it may be left out: override custom_hooks=[]"
        )

    randomness = fields.section("randomness", {})
    recipe.seed = randomness.take("seed", None) or 0
    randomness.ignore("every run is deterministic", "deterministic", "diff_rank_seed")
    randomness.done()
    recipe.init_from = fields.take("load_from", None)


def _optimizer(fields: Fields, recipe: ConfigDict) -> dict[str, Any]:
    kind = fields.take("type", "OptimWrapper")
    if kind == "AmpOptimWrapper":
        recipe.model.dtype = "bfloat16"
        fields.ignore("mixed precision is bfloat16 here, which needs no loss scale", "loss_scale", "dtype")
    elif kind != "OptimWrapper":
        raise ConfigError(
            f"{fields.name('type')}={kind!r} has no counterpart here; OptimWrapper and AmpOptimWrapper have"
        )
    fields.expect("accumulative_counts", 1)
    fields.expect("constructor", None, "DefaultOptimWrapperConstructor")
    optimizer = {
        **tuples(fields.take("optimizer")),
        "paramwise_cfg": tuples(fields.take("paramwise_cfg", None)),
        "clip_grad": tuples(fields.take("clip_grad", None)),
    }
    fields.done()
    if custom := (optimizer["paramwise_cfg"] or {}).get("custom_keys"):  # in names, "_" stands for "." here
        for key, value in custom.items():
            if isinstance(value, dict) and value.pop("wd_mult", None) is not None:
                fields.ignored[fields.name(f"paramwise_cfg.custom_keys[{key!r}].wd_mult")] = "nothing reads it"
        optimizer["paramwise_cfg"]["custom_keys"] = {key.replace(".", "_"): value for key, value in custom.items()}
    if optimizer.get("type") not in OPTIMIZERS:
        wrong = optimizer.get("type")
        raise ConfigError(
            f"{fields.name('optimizer.type')}={wrong!r} is not known. {did_you_mean(str(wrong), OPTIMIZERS)}"
        )
    return optimizer


def _schedule(pieces: Any, total_steps: int, ignored: dict[str, str]) -> tuple[dict[str, Any], ...]:
    translated = []
    for i, piece in enumerate([pieces] if isinstance(pieces, Mapping) else pieces or ()):
        fields = Fields(piece, f"param_scheduler[{i}]", ignored)
        kind = fields.take("type")
        if kind not in (*PIECES, WARMUP):
            raise ConfigError(f"{fields.name('type')}={kind!r} is not known. {did_you_mean(str(kind), PIECES)}")
        if fields.take("by_epoch", True):
            raise ConfigError(f"{fields.name('by_epoch')}=True has no counterpart here: runs are counted in steps")
        end = fields.take("end", None)
        # Up to the end of the run, however long that is made.
        end = {} if end is None or end in (total_steps, float("inf")) else {"end": int(end)}
        translated.append({"type": kind, **fields.rest(), **end})
    return tuple(translated)


def _batch_size(images: int, name: str, auto_scale: Fields) -> int:
    """Images a step over all devices."""
    auto_scale.ignore("the rate is that of the recipe's batch", "enable")
    base = auto_scale.take("base_batch_size", None)
    auto_scale.done()
    devices = re.search(r"(?:^|_)(\d+)x(?:b\d+)?\d*(?:[-_]|$)", name)
    if devices:
        return images * int(devices[1])
    if base is not None:
        return base
    auto_scale.ignored["(number of devices)"] = f"the config does not say it; batch_size={images} is that of one"
    return images


def _metric(fields: Fields, recipe: ConfigDict) -> None:
    """What tells which checkpoint is the best."""
    metrics = []
    for part in ("val", "test"):
        found = fields.take(f"{part}_evaluator", None) or {}
        for i, evaluator in enumerate([found] if isinstance(found, Mapping) else found):
            where = f"{part}_evaluator" if isinstance(found, Mapping) else f"{part}_evaluator[{i}]"
            metric = Fields(evaluator, where, fields.ignored)
            metric.expect("type", "IoUMetric")
            metrics += metric.take("iou_metrics", ["mIoU"])
            metric.expect("nan_to_num", None)
            metric.expect("beta", 1)
            metric.ignore("evaluation writes what its flags say", "format_only", "output_dir", "keep_results")
            metric.ignore("the data set's own is used", "ignore_index")
            metric.ignore("scores are counted on the devices", "collect_device", "prefix", "collect_dir")
            metric.done()
    for name in metrics:
        if name not in METRICS:
            raise ConfigError(f"val_evaluator.iou_metrics has {name!r}. {did_you_mean(name, METRICS)}")
    if metrics and recipe.checkpoint.metric == "mIoU" and "mIoU" not in metrics:
        recipe.checkpoint.metric = metrics[0]
