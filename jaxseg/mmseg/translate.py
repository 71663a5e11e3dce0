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
from jaxseg.errors import ConfigError, did_you_mean
from jaxseg.mmseg.config import read_config
from jaxseg.mmseg.fields import Fields, is_number
from jaxseg.mmseg.old_dialect import is_old, modernised
from jaxseg.mmseg.translate_data import translate_data
from jaxseg.mmseg.translate_optimizer import translate_optimizer, translate_schedule
from jaxseg.models import PARTS

# Top-level fields with a meaning; whatever else a file defines are its own variables.
FIELDS = (
    "model", "data_preprocessor", "train_dataloader", "val_dataloader", "test_dataloader", "optim_wrapper",
    "param_scheduler", "train_cfg", "val_cfg", "test_cfg", "val_evaluator", "test_evaluator", "default_hooks",
    "custom_hooks", "randomness", "load_from", "resume", "auto_scale_lr",
)  # fmt: skip
IGNORED = {
    "the machine's business": (
        "env_cfg", "launcher", "default_scope", "custom_imports", "work_dir", "experiment_name", "model_wrapper_cfg",
        "find_unused_parameters", "compile",
    ),
    "logs, curves and pictures of every run are written alike": (
        "vis_backends", "visualizer", "log_processor", "log_level",
    ),
    "asked for when a model is used, not when it is trained": ("tta_model", "tta_pipeline"),
    "norms always use the statistics of the whole batch": ("sync_bn",),
}  # fmt: skip
VARIABLE = "a variable of the file, which nothing reads"
PRETRAINED = "weights to start from are given by path, as config.init_from"
INITIAL = "initial weights are drawn as the module here does it"
# Hooks that change nothing, or that every run has.
HOOKS = (
    "IterTimerHook", "ParamSchedulerHook", "DistSamplerSeedHook", "SegVisualizationHook", "RuntimeInfoHook",
    "SyncBuffersHook", "EmptyCacheHook",
)  # fmt: skip
# The last three are PointRend's.
TEST_FIELDS = ("mode", "crop_size", "stride", "subdivision_steps", "subdivision_num_points", "scale_factor")
# Norm layers that may be frozen: those of a whole part.
FREEZABLE = re.compile(r"model\.(backbone|decode_head|auxiliary_head)(\[\d+\])?\.norm_cfg")
HEAD_FIELDS = ("decode_head", "auxiliary_head")


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
        name: Of the recipe. "4xb2" in it, or in 0.x "4x2", are four devices; otherwise the batch is
            `auto_scale_lr.base_batch_size`, or that of one device.

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
    _runtime(fields, recipe)
    ignore_index = _metric(fields, recipe)
    recipe.model = _model(model, ignore_index)
    if divisor is not None:
        recipe.model.test_cfg["size_divisor"] = divisor
    recipe.optimizer, mixed = translate_optimizer(fields.section("optim_wrapper"))
    if mixed:
        recipe.model.dtype = "bfloat16"
    recipe.schedule = translate_schedule(fields.sections("param_scheduler", None), recipe.total_steps)
    recipe.data, images = translate_data(fields, pad, ignore_index)
    recipe.batch_size = _batch_size(images, name, fields.section("auto_scale_lr", None))
    fields.done(FIELDS)
    return Translation(complete(recipe).lock(), ignored)


def _preprocess(fields: Fields) -> tuple[dict[str, Any], dict[str, Any], int | None]:
    """Mean and std; the padding that ends the training transforms; the divisor of the sizes tested at."""
    fields.expect("type", "SegDataPreProcessor")
    if not fields.flag("bgr_to_rgb", False):
        raise ConfigError(f"{fields.name('bgr_to_rgb')}=False has no counterpart here: images are RGB, not BGR")
    fields.expect("rgb_to_bgr", False)
    normalisation = {}
    for name in ("mean", "std"):
        normalisation[name] = fields.items(name)
        if not normalisation[name] or not all(map(is_number, normalisation[name])):
            raise ConfigError(f"{fields.name(name)}={normalisation[name]!r} must be a number for each channel")
        normalisation[name] = tuple(map(float, normalisation[name]))
    size, divisor = fields.pair("size", None), fields.whole("size_divisor", None)
    label_fill = fields.whole("seg_pad_val", 255, least=0)
    fields.expect("pad_val", 0)
    fields.expect("batch_augments", None)
    test = fields.section("test_cfg", None)
    test_divisor = test.whole("size_divisor", None)
    test.done()
    fields.done()
    if size is not None and divisor is not None:
        raise ConfigError(f"{fields.where}: size={size} and size_divisor={divisor} exclude each other")
    target = {name: value for name, value in (("size", size), ("size_divisor", divisor)) if value is not None}
    # Padding comes before the normalisation here, so zeros after it are the mean.
    pad = {"type": "Pad", **target, "pad_val": normalisation["mean"], "seg_pad_val": label_fill}
    return normalisation, pad, test_divisor


def _model(fields: Fields, ignore_index: int) -> dict[str, Any]:
    model: dict[str, Any] = {"type": fields.text("type")}
    test = fields.section("test_cfg", None)
    model["test_cfg"] = {"mode": test.text("mode", "whole")}
    for name in ("crop_size", "stride"):
        if (size := test.pair(name, None)) is not None:
            model["test_cfg"][name] = size
        elif model["test_cfg"]["mode"] != "whole":
            raise ConfigError(f"{test.name(name)} is missing")
    model["test_cfg"] |= {name: test.number(name) for name in TEST_FIELDS if name in test}
    test.done(TEST_FIELDS)
    train = fields.section("train_cfg", None).rest()
    if any(value is not None for value in train.values()):
        model["train_cfg"] = train
    model |= _part(fields)
    for name in PARTS:
        part = model.get(name)
        if not all(isinstance(item, Mapping) for item in (part if isinstance(part, tuple) else (part or {},))):
            raise ConfigError(f"{fields.name(name)}={part!r} must be a dict, or a list of them")
    for name in HEAD_FIELDS:
        part = model.get(name) or {}
        for head in part if isinstance(part, tuple) else (part,):
            if (label := head.get("ignore_index", 255)) != ignore_index:
                raise ConfigError(
                    f"{fields.name(name)}.ignore_index={label} and the evaluator's, {ignore_index}, must be equal here"
                )
    return model


def _part(fields: Fields) -> dict[str, Any]:
    """A part of the model, without what says how its weights begin."""
    start, pretrained = fields.take("init_cfg", None), fields.take("pretrained", None)
    if start:
        loaded = isinstance(start, Mapping) and start.get("type") == "Pretrained"
        fields.ignored[fields.name("init_cfg")] = PRETRAINED if loaded else INITIAL
    if pretrained:
        fields.ignored[fields.name("pretrained")] = PRETRAINED
    kind = {"type": fields.text("type")} if "type" in fields else {}
    part = kind | {name: _value(value, fields.name(name), fields.ignored) for name, value in fields.rest().items()}
    for name in part:
        if "." in name:
            raise ConfigError(f"{fields.name(name)}: names of fields have no dots")
    return part


def _value(value: Any, where: str, ignored: dict[str, str]) -> Any:
    if isinstance(value, Mapping):
        part = _part(Fields(value, where, ignored))
        if where.endswith("norm_cfg") and part.get("requires_grad", True):
            part.pop("requires_grad", None)
        elif where.endswith("norm_cfg") and not FREEZABLE.fullmatch(where):
            raise ConfigError(f"{where}.requires_grad=False has no counterpart here: norms are frozen by part")
        return part
    if isinstance(value, tuple):
        return tuple(_value(item, f"{where}[{i}]", ignored) for i, item in enumerate(value))
    return value


def _runtime(fields: Fields, recipe: ConfigDict) -> None:
    """Steps, intervals, the seed, and where the weights come from."""
    loop = fields.section("train_cfg")
    if loop.text("type", "IterBasedTrainLoop") != "IterBasedTrainLoop" or loop.flag("by_epoch", False):
        raise ConfigError(
            f"{loop.where} is by epochs, which has no counterpart here: runs are counted in steps. "
            "Give type='IterBasedTrainLoop' and max_iters, and by_epoch=False in param_scheduler."
        )
    recipe.total_steps = loop.whole("max_iters")
    recipe.evaluate_every = recipe.checkpoint_every = loop.whole("val_interval", 1000)
    loop.ignore("evaluation begins with the first interval", "val_begin")
    loop.expect("dynamic_intervals", None)
    loop.done(("type", "max_iters", "val_interval"))
    for name, kind in (("val_cfg", "ValLoop"), ("test_cfg", "TestLoop")):
        section = fields.section(name, None)
        section.expect("type", kind)
        section.expect("fp16", False)
        section.done(("type", "fp16"))
    _hooks(fields, recipe)

    randomness = fields.section("randomness", None)
    recipe.seed = randomness.whole("seed", None, least=0) or 0
    randomness.ignore("every run is deterministic", "deterministic", "diff_rank_seed")
    randomness.done(("seed",))
    recipe.init_from = fields.text("load_from", None)
    if recipe.init_from:
        fields.expect("resume", False, None)
    fields.ignore("a run continues by itself in its folder", "resume")


def _hooks(fields: Fields, recipe: ConfigDict) -> None:
    """Intervals of checkpoints and logs, and the score that tells the best checkpoint."""
    hooks = fields.section("default_hooks", None)
    checkpoint, logger = hooks.section("checkpoint", None), hooks.section("logger", None)
    interval, by_epoch = checkpoint.whole("interval", -1, least=-1), checkpoint.flag("by_epoch", True)
    if interval > 0 and not by_epoch:
        recipe.checkpoint_every = interval
    elif interval > 0:
        fields.ignored[checkpoint.name("interval")] = "it counts epochs; a run keeps a checkpoint at every evaluation"
    best = checkpoint.take("save_best", None)
    best = best[0] if isinstance(best, list | tuple) and len(best) == 1 else best
    # The first of the reference's scores, which it takes, is this one.
    best = "aAcc" if best == "auto" else best
    if best is not None and best not in METRICS:
        raise ConfigError(f"{checkpoint.name('save_best')}={best!r} is not known. {did_you_mean(str(best), METRICS)}")
    recipe.checkpoint.metric = best or recipe.checkpoint.metric
    checkpoint.expect("rule", None, "greater")
    if (kept := checkpoint.whole("max_keep_ckpts", -1, least=-1)) > 0:
        recipe.checkpoint.keep = kept
    checkpoint.ignore(
        "a checkpoint always holds all of a run", "save_optimizer", "save_param_scheduler", "save_last", "meta",
        "create_symlink", "out_dir", "filename_tmpl", "backend_args", "file_client_args",
    )  # fmt: skip
    recipe.log_every = logger.whole("interval", recipe.log_every)
    logger.ignore("logs are by step", "log_metric_by_epoch", "by_epoch", "ignore_last", "interval_exp_name")
    for section, kind in ((checkpoint, "CheckpointHook"), (logger, "LoggerHook")):
        section.expect("type", kind)
        section.done()
    for name, hook in hooks.rest().items():
        kind = hook.get("type") if isinstance(hook, Mapping) else hook
        if kind not in HOOKS and (kind is not None or name == "param_scheduler"):
            raise ConfigError(f"{hooks.name(name)}={hook!r} has no counterpart here. {did_you_mean(str(kind), HOOKS)}")
        fields.ignored[hooks.name(name)] = "every run does what this hook does"
    for i, hook in enumerate(fields.items("custom_hooks", None) or ()):
        raise ConfigError(
            f"custom_hooks[{i}]={hook!r} has no counterpart here. If it may be left out: override custom_hooks=[]"
        )


def _batch_size(images: int, name: str, auto_scale: Fields) -> int:
    """Images a step over all devices."""
    scaled, base = auto_scale.flag("enable", False), auto_scale.whole("base_batch_size", None)
    auto_scale.done(("enable", "base_batch_size"))
    # "4xb2", and "4x2" in 0.x, where "512x512" is the size of the images.
    devices = re.search(rf"(?:^|_)(\d+)x(?:b\d+|{images})(?=[-_]|$)", name)
    batch = images * int(devices[1]) if devices else base
    if batch is None:
        batch = images
        auto_scale.ignored["(number of devices)"] = f"the config does not say it; batch_size={images} is that of one"
    if scaled and batch != base:
        raise ConfigError(
            f"{auto_scale.where} scales the rate from batches of {base} to those of {batch}, which has no counterpart "
            "here: give the rate, and enable=False"
        )
    return batch


def _metric(fields: Fields, recipe: ConfigDict) -> int:
    """What tells which checkpoint is the best; returns the label that does not count."""
    metrics, labels = [], set()
    for part in ("val", "test"):
        for metric in fields.sections(f"{part}_evaluator", None):
            metric.expect("type", "IoUMetric")
            names = metric.take("iou_metrics", ["mIoU"])
            for name in [names] if isinstance(names, str) else names if isinstance(names, list | tuple) else [names]:
                if name == "mFscore":
                    fields.ignored[metric.name("iou_metrics.mFscore")] = "with beta=1 it is the Dice score"
                elif name not in METRICS:
                    hint = did_you_mean(str(name), METRICS)
                    raise ConfigError(f"{metric.name('iou_metrics')} has {name!r}. {hint}")
                else:
                    metrics.append(name)
            metric.expect("nan_to_num", None)
            metric.expect("beta", 1)
            labels.add(metric.whole("ignore_index", 255, least=0))
            metric.ignore("evaluation writes what its flags say", "format_only", "output_dir", "keep_results")
            metric.ignore("scores are counted on the devices", "collect_device", "prefix", "collect_dir")
            metric.done()
    if metrics and recipe.checkpoint.metric == "mIoU" and "mIoU" not in metrics:
        recipe.checkpoint.metric = metrics[0]
    if len(labels) > 1:
        raise ConfigError(f"val_evaluator and test_evaluator have several values of ignore_index: {sorted(labels)}")
    return labels.pop() if labels else 255
