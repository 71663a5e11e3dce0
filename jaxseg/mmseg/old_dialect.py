"""MMSegmentation 0.x configs, brought into the shape of 1.x ones."""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxseg.errors import ConfigError, did_you_mean
from jaxseg.mmseg.fields import Fields, tuples

OURS = "every run does what this does"
MACHINE = "the machine's business"
AUGMENTED = "test-time augmentation is asked for when a model is used"
WARMUP_FIELDS = ("warmup", "warmup_iters", "warmup_ratio", "warmup_by_epoch")


def is_old(config: Mapping[str, Any]) -> bool:
    """Whether a resolved config is of 0.x: the data are described in one field `data`."""
    return "data" in config and "train_dataloader" not in config


def modernised(config: Mapping[str, Any], ignored: dict[str, str]) -> dict[str, Any]:
    """The config in the shape of 1.x.

    Args:
        config: A resolved config of 0.x.
        ignored: Gets what is left out, with the reasons.

    Raises:
        ConfigError: A field has no counterpart; names it.
    """
    fields = Fields(config, "", ignored)
    model = dict(fields.take("model"))
    for name in ("train_cfg", "test_cfg"):  # beside the model, before 0.10
        if name in fields:
            model[name] = fields.take(name)
    steps = _steps(fields)
    new: dict[str, Any] = {
        "model": model,
        "param_scheduler": _schedule(fields.section("lr_config"), steps),
        "optim_wrapper": _optimizer(fields),
        "load_from": fields.take("load_from", None),
        "custom_hooks": fields.take("custom_hooks", ()),
    }
    evaluation, saving = fields.section("evaluation", {}), fields.section("checkpoint_config", {})
    new["train_cfg"] = {"max_iters": steps, "val_interval": evaluation.take("interval", steps)}
    new["val_evaluator"] = {"type": "IoUMetric", "iou_metrics": _list(evaluation.take("metric", "mIoU"))}
    evaluation.expect("by_epoch", False)
    evaluation.ignore(OURS, "pre_eval", "efficient_test", "gpu_collect", "rule", "start")
    best = evaluation.take("save_best", None)
    evaluation.done()
    saving.ignore(OURS, "meta", "save_optimizer", "create_symlink", "out_dir", "save_last")
    logging = fields.section("log_config", {})
    logging.ignore("logs and curves of every run are written alike", "hooks")
    new["default_hooks"] = {
        "checkpoint": {**saving.rest(), "save_best": best},
        "logger": {"interval": logging.take("interval", 50)},
    }
    logging.done()
    if "seed" in fields:
        new["randomness"] = {"seed": fields.take("seed")}
    if (momentum := fields.take("momentum_config", None)) is not None:
        raise ConfigError(f"momentum_config={momentum!r} has no counterpart here")

    data = fields.section("data")
    images = data.section("train_dataloader", {}).take("samples_per_gpu", data.take("samples_per_gpu", 1))
    data.ignore(MACHINE, "workers_per_gpu", "persistent_workers", "pin_memory")
    data.ignore("scores are the same however many images are evaluated at a time", "val_dataloader", "test_dataloader")
    normalisations, sizes = [], []
    for part in ("train", "val", "test"):
        if part in data:
            dataset = _dataset(data.section(part), part == "train", normalisations, sizes)
            new[f"{part}_dataloader"] = {"dataset": dataset} | ({"batch_size": images} if part == "train" else {})
    data.done()
    if not normalisations:
        raise ConfigError("data.train.pipeline has no Normalize, so there is no mean and std")
    if any(other != normalisations[0] for other in normalisations):
        raise ConfigError(f"the Normalize of data.train and of another part differ: {normalisations}")
    size = {"size": sizes[0]} if sizes else {}
    new["data_preprocessor"] = {"type": "SegDataPreProcessor", **normalisations[0], **size}
    fields.ignore(MACHINE, "dist_params", "cudnn_benchmark", "gpu_ids", "gpus", "work_dir", "find_unused_parameters")
    fields.ignore("a run continues by itself in its folder", "resume_from", "auto_resume")
    fields.ignore(OURS, "workflow", "log_level", "opencv_num_threads", "mp_start_method", "device")
    fields.ignore("a variable of the file, which nothing reads", *config)
    return new


def _steps(fields: Fields) -> int:
    """The length of the run."""
    runner = fields.section("runner", {})
    if (kind := runner.take("type", "IterBasedRunner")) != "IterBasedRunner":
        raise ConfigError(f"runner.type={kind!r} has no counterpart here: runs are counted in steps")
    steps = runner.take("max_iters", fields.take("total_iters", None))
    runner.done()
    if steps is None:
        raise ConfigError("runner.max_iters is missing")
    return int(steps)


def _optimizer(fields: Fields) -> dict[str, Any]:
    """`optim_wrapper`."""
    optimizer = dict(fields.take("optimizer"))
    paramwise = optimizer.pop("paramwise_cfg", None)
    wrapper: dict[str, Any] = {"type": "OptimWrapper", "optimizer": optimizer, "paramwise_cfg": paramwise}
    if "constructor" in optimizer:
        wrapper["constructor"] = optimizer.pop("constructor")
    hook = fields.section("optimizer_config", {})
    kind = hook.take("type", "OptimizerHook")
    half = "Fp16OptimizerHook" in kind or fields.take("fp16", None) is not None
    if kind not in ("OptimizerHook", "Fp16OptimizerHook", "GradientCumulativeOptimizerHook"):
        raise ConfigError(f"optimizer_config.type={kind!r} has no counterpart here")
    if half:
        wrapper["type"] = "AmpOptimWrapper"
        hook.ignore("mixed precision is bfloat16 here, which needs no loss scale", "loss_scale", "distributed")
    wrapper["clip_grad"] = hook.take("grad_clip", None)
    wrapper["accumulative_counts"] = hook.take("cumulative_iters", 1)
    hook.done()
    return wrapper


def _schedule(fields: Fields, steps: int) -> list[dict[str, Any]]:
    """`param_scheduler` of the curve that `lr_config` means: a decay that would end after the last step, warmed up."""
    kind = fields.take("policy")
    if fields.take("by_epoch", True) and kind != "fixed":
        raise ConfigError("lr_config.by_epoch=True has no counterpart here: runs are counted in steps")
    whole = {"begin": 0, "end": steps + 1, "by_epoch": False}
    pieces: list[dict[str, Any]] = []
    if kind in ("poly", "Poly"):
        power, least = fields.take("power", 1.0), fields.take("min_lr", 0.0)
        pieces.append({"type": "PolyLR", "power": power, "eta_min": least, **whole})
    elif kind in ("CosineAnnealing", "cosine"):
        fields.expect("min_lr_ratio", None, 0)
        least = fields.take("min_lr", None) or 0.0
        pieces.append({"type": "CosineAnnealingLR", "T_max": steps, "eta_min": least, **whole})
    elif kind in ("step", "Step"):
        milestones, gamma = fields.take("step"), fields.take("gamma", 0.1)
        fields.expect("min_lr", None)
        kinds = {"type": "StepLR", "step_size": milestones}
        if not isinstance(milestones, int):
            kinds = {"type": "MultiStepLR", "milestones": milestones}
        pieces.append({**kinds, "gamma": gamma, **whole})
    elif kind in ("exp", "Exp"):
        pieces.append({"type": "ExponentialLR", "gamma": fields.take("gamma"), **whole})
    elif kind not in ("fixed", "Fixed"):
        known = ("poly", "CosineAnnealing", "step", "exp", "fixed")
        raise ConfigError(f"lr_config.policy={kind!r} has no counterpart here. {did_you_mean(str(kind), known)}")
    warmup, length = fields.take("warmup", None), fields.take("warmup_iters", 0)
    ratio = fields.take("warmup_ratio", 0.1)
    fields.expect("warmup_by_epoch", False)
    fields.done(("policy", "by_epoch", "power", "min_lr", "step", "gamma", *WARMUP_FIELDS))
    if warmup is not None:
        pieces.append({"type": "WarmupLR", "mode": warmup, "factor": ratio, "end": length, "by_epoch": False})
    return pieces


def _dataset(fields: Fields, training: bool, normalisations: list, sizes: list) -> dict[str, Any]:
    """A data set in the shape of 1.x; collects what its pipeline says about normalising and padding."""
    kind = fields.take("type")
    if kind == "RepeatDataset":
        times, inner = fields.take("times", 1), fields.section("dataset")
        fields.done()
        return {"type": kind, "times": times, "dataset": _dataset(inner, training, normalisations, sizes)}
    if kind == "ConcatDataset":
        inner = [
            Fields(item, f"{fields.where}.datasets[{i}]", fields.ignored)
            for i, item in enumerate(fields.take("datasets"))
        ]
        fields.ignore("scores are of all images", "separate_eval")
        fields.done()
        return {"type": kind, "datasets": [_dataset(item, training, normalisations, sizes) for item in inner]}
    pipeline = _pipeline(
        fields.take("pipeline"), fields.name("pipeline"), training, normalisations, sizes, fields.ignored
    )
    meta = {name: fields.take(name) for name in ("classes", "palette") if name in fields}
    places = [_list(fields.take(name, None)) for name in ("img_dir", "ann_dir", "split")]
    new = {"type": kind, **fields.rest(), "metainfo": meta, "pipeline": pipeline}
    count = max(map(len, places))
    if any(len(values) not in (1, count) for values in places):
        raise ConfigError(f"{fields.where}: img_dir, ann_dir and split must have one entry or {count} each")
    several = [
        {**new, "data_prefix": {"img_path": image, "seg_map_path": label}, "ann_file": split}
        for image, label, split in zip(*(values * (count // len(values)) for values in places), strict=True)
    ]
    return several[0] if count == 1 else {"type": "ConcatDataset", "datasets": several}


def _pipeline(
    pipeline: Sequence[Mapping[str, Any]],
    where: str,
    training: bool,
    normalisations: list,
    sizes: list,
    ignored: dict[str, str],
    scale: Any = None,
) -> list[dict[str, Any]]:
    """Transforms in the shape of 1.x. `scale` is what a MultiScaleFlipAug around them says."""
    new, normalised = [], False
    for i, transform in enumerate(pipeline):
        fields = Fields(transform, f"{where}[{i}]", ignored)
        kind = fields.take("type")
        if kind == "MultiScaleFlipAug":
            fields.ignore(AUGMENTED, "flip", "img_ratios", "flip_direction")
            inner = fields.take("transforms")
            new += _pipeline(
                inner, fields.name("transforms"), False, normalisations, sizes, ignored, fields.take("img_scale", None)
            )
            fields.done()
        elif kind == "Normalize":
            rgb = fields.take("to_rgb", True)
            normalisations.append({"mean": fields.take("mean"), "std": fields.take("std"), "bgr_to_rgb": rgb})
            fields.done()
            normalised = True
        elif kind == "Resize":
            new.append(_resize(fields, scale))
        elif kind == "RandomFlip" and not training:
            fields.ignore_all_but((), AUGMENTED)
            ignored[fields.where] = AUGMENTED
        elif kind == "RandomFlip":
            prob = fields.take("prob", fields.take("flip_ratio", None))
            new.append({"type": kind, "prob": prob, **fields.rest()})
        elif kind == "Pad":
            size, rest = fields.take("size", None), fields.rest()
            fill = {"img": rest.pop("pad_val", 0), "seg": rest.pop("seg_pad_val", 255)}
            if training and normalised and size is not None and fill == {"img": 0, "seg": 255} and not rest:
                sizes.append(tuples(size))
            elif normalised:
                raise ConfigError(f"{fields.where}: Pad after Normalize is known in training, with zeros and 255, only")
            else:
                size = {} if size is None else {"size": tuple(reversed(size))}
                new.append({"type": kind, **size, "pad_val": fill, **rest})
        else:
            new.append({"type": kind, **fields.rest()})
    if not training and scale is None and not any(item["type"] == "LoadAnnotations" for item in new):
        new.append({"type": "LoadAnnotations"})
    return new


def _resize(fields: Fields, scale: Any) -> dict[str, Any]:
    """Resize chose at random by its fields; 1.x has a name for each choice."""
    scale = tuples(fields.take("img_scale", None) or scale)
    ratios, keep = fields.take("ratio_range", None), fields.take("keep_ratio", True)
    mode = fields.take("multiscale_mode", "range")
    fields.expect("min_size", None)
    rest = fields.rest()
    several = isinstance(scale, tuple) and scale and isinstance(scale[0], tuple)
    if several and len(scale) == 1:
        scale, several = scale[0], False
    if several and mode == "value":
        return {"type": "RandomChoiceResize", "scales": scale, "keep_ratio": keep, **rest}
    if several or ratios is not None:
        ratio = {} if ratios is None else {"ratio_range": tuples(ratios)}
        return {"type": "RandomResize", "scale": scale, **ratio, "keep_ratio": keep, **rest}
    if scale is None:
        raise ConfigError(f"{fields.where}: Resize needs img_scale here")
    return {"type": "Resize", "scale": scale, "keep_ratio": keep, **rest}


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]
