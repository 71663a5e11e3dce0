"""MMSegmentation 0.x configs, brought into the shape of 1.x ones."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jaxseg.data.datasets import DATASETS, REFERENCE_NAMES
from jaxseg.errors import ConfigError, did_you_mean
from jaxseg.mmseg.fields import Fields, Placed, tuples

OURS = "every run does what this does"
MACHINE = "the machine's business"
AUGMENTED = "test-time augmentation is asked for when a model is used"
# What is of colours, and not of what Normalize makes of them.
COLOURED = (
    "AdjustGamma", "CLAHE", "PhotoMetricDistortion", "RGB2Gray", "RandomCutOut", "RandomMosaic", "RandomRotate",
    "Rerange",
)  # fmt: skip
LOADING = ("workers_per_gpu", "persistent_workers", "pin_memory", "prefetch_factor", "drop_last", "seed")
WARMUP_FIELDS = ("warmup", "warmup_iters", "warmup_ratio", "warmup_by_epoch")
POLICIES = ("poly", "CosineAnnealing", "step", "exp", "fixed")


class Pipelines(NamedTuple):
    """What the pipelines say that the preprocessor of 1.x says: of each part that was read, in their order."""

    normalisations: list[dict[str, Any]]
    sizes: list[Any]  # that training images are padded to


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
    model = fields.section("model").rest()
    for name in ("train_cfg", "test_cfg"):  # beside the model, before 0.10
        if name in fields:
            model[name] = fields.take(name)
    steps = _steps(fields)
    new: dict[str, Any] = {
        "model": model,
        "param_scheduler": _schedule(fields.section("lr_config", None), steps),
        "optim_wrapper": _optimizer(fields),
        "load_from": fields.take("load_from", None),
        "custom_hooks": fields.take("custom_hooks", None),
        "randomness": {"seed": fields.whole("seed", None, least=0)},
    }
    evaluation, saving = fields.section("evaluation", None), fields.section("checkpoint_config", None)
    # Who says nothing of it has the last step evaluated, not every one.
    new["train_cfg"] = {"max_iters": steps, "val_interval": evaluation.whole("interval", steps)}
    metrics = evaluation.take("metric", "mIoU")
    new["val_evaluator"] = Placed({"type": "IoUMetric", "iou_metrics": metrics}, "evaluation")
    evaluation.ignore("steps are counted whatever it says", "by_epoch")
    evaluation.ignore(OURS, "pre_eval", "efficient_test", "gpu_collect")
    evaluation.ignore("evaluation begins with the first interval", "start")
    best = {name: evaluation.take(name) for name in ("save_best", "rule") if name in evaluation}
    evaluation.done()
    logging = fields.section("log_config", None)
    logging.ignore("logs and curves of every run are written alike", "hooks")
    new["default_hooks"] = {
        "checkpoint": Placed({"by_epoch": False, **saving.rest(), **best}, "checkpoint_config"),
        "logger": {"interval": logging.whole("interval", 50)},
    }
    logging.done()
    fields.expect("momentum_config", None)
    fields.expect("resume_from", None)
    _data(fields, new)
    fields.ignore("optimizer_config says whether precision is mixed in training", "fp16")
    fields.ignore(MACHINE, "dist_params", "cudnn_benchmark", "gpu_ids", "gpus", "work_dir", "find_unused_parameters")
    fields.ignore("a run continues by itself in its folder", "auto_resume")
    fields.ignore(OURS, "workflow", "log_level", "opencv_num_threads", "mp_start_method", "device")
    fields.ignore("a variable of the file, which nothing reads", *config)
    return new


def _steps(fields: Fields) -> int:
    """The length of the run."""
    runner = fields.section("runner", None)
    if (kind := runner.take("type", "IterBasedRunner")) != "IterBasedRunner":
        raise ConfigError(
            f"runner.type={kind!r} has no counterpart here: runs are counted in steps. "
            "Give type='IterBasedRunner' and max_iters."
        )
    total = fields.whole("total_iters", None)
    steps = runner.whole("max_iters", total)
    runner.done(("type", "max_iters"))
    if steps is None:
        raise ConfigError("runner.max_iters is missing")
    return steps


def _optimizer(fields: Fields) -> dict[str, Any]:
    """`optim_wrapper`."""
    optimizer = fields.section("optimizer")
    wrapper = {
        "type": "OptimWrapper",
        "paramwise_cfg": _placed(optimizer, "paramwise_cfg"),
        "constructor": optimizer.take("constructor", None),
    }
    if wrapper["constructor"] == "DefaultOptimizerConstructor":
        wrapper["constructor"] = None
    wrapper["optimizer"] = Placed(optimizer.rest(), "optimizer")
    hook = fields.section("optimizer_config", None)
    kind = hook.take("type", "OptimizerHook")
    if kind in ("Fp16OptimizerHook", "GradientCumulativeFp16OptimizerHook"):
        wrapper["type"] = "AmpOptimWrapper"
        hook.ignore("mixed precision is bfloat16 here, which needs no loss scale", "loss_scale", "distributed")
    elif kind not in ("OptimizerHook", "GradientCumulativeOptimizerHook"):
        raise ConfigError(f"optimizer_config.type={kind!r} has no counterpart here")
    hook.ignore(MACHINE, "coalesce", "bucket_size_mb", "detect_anomalous_params")
    wrapper["clip_grad"] = _placed(hook, "grad_clip")
    wrapper["accumulative_counts"] = hook.whole("cumulative_iters", 1, least=1)
    hook.done(("type", "grad_clip", "cumulative_iters"))
    return wrapper


def _placed(fields: Fields, name: str) -> Placed | None:
    """A section that is read somewhere else."""
    section = fields.section(name, None)
    return Placed(section.rest(), section.where) if section else None


def _schedule(fields: Fields, steps: int) -> list[dict[str, Any]]:
    """`param_scheduler` of the curve that `lr_config` means: a decay that would end after the last step, warmed up."""
    if not fields:
        return []
    kind = fields.text("policy")
    if fields.flag("by_epoch", False) and kind not in ("fixed", "Fixed"):
        raise ConfigError("lr_config.by_epoch=True has no counterpart here: runs are counted in steps")
    pieces: list[dict[str, Any]] = []
    if kind in ("poly", "Poly"):
        power, least = fields.number("power", 1.0), fields.number("min_lr", 0.0)
        pieces.append({"type": "PolyLR", "power": power, "eta_min": least, "begin": 0, "end": steps + 1})
    elif kind == "CosineAnnealing":
        fields.expect("min_lr_ratio", None, 0)
        least = fields.number("min_lr", None) or 0.0
        pieces.append({"type": "CosineAnnealingLR", "T_max": steps, "eta_min": least})
    elif kind in ("step", "Step"):
        at, gamma = tuples(fields.take("step")), fields.number("gamma", 0.1)
        fields.expect("min_lr", None)
        kinds = {"type": "MultiStepLR", "milestones": at}
        if not isinstance(at, tuple):
            kinds = {"type": "StepLR", "step_size": at}
        pieces.append({**kinds, "gamma": gamma})
    elif kind in ("exp", "Exp"):
        pieces.append({"type": "ExponentialLR", "gamma": fields.number("gamma")})
    elif kind not in ("fixed", "Fixed"):
        raise ConfigError(f"lr_config.policy={kind!r} has no counterpart here. {did_you_mean(kind, POLICIES)}")
    warmup, length = fields.text("warmup", None), fields.whole("warmup_iters", 0, least=0)
    ratio = fields.number("warmup_ratio", 0.1)
    fields.expect("warmup_by_epoch", False)
    fields.done(("policy", "by_epoch", "power", "min_lr", "step", "gamma", *WARMUP_FIELDS))
    if warmup is not None:
        pieces.append({"type": "WarmupLR", "mode": warmup, "factor": ratio, "end": length})
    return [Placed({**piece, "by_epoch": False}, "lr_config") for piece in pieces]


def _data(fields: Fields, new: dict[str, Any]) -> None:
    """The three dataloaders and the preprocessor."""
    data = fields.section("data")
    loader = data.section("train_dataloader", None)
    shared = data.whole("samples_per_gpu", 1)
    images = loader.whole("samples_per_gpu", shared)
    for section in (loader, data):
        section.ignore(MACHINE, *LOADING)
        section.expect("shuffle", True)
    loader.done(("samples_per_gpu",))
    data.ignore("scores are the same however many images are evaluated at a time", "val_dataloader", "test_dataloader")
    found = Pipelines([], [])
    for part in ("train", "val", "test"):
        if part not in data:
            continue
        datasets = [_dataset(dataset, part == "train", found) for dataset in data.sections(part)]
        if not datasets:
            continue
        if len(datasets) > 1:
            _note_separate_scores(data.name(part), part == "train", data.ignored)
        dataset = datasets[0] if len(datasets) == 1 else _several(datasets, data.name(part))
        new[f"{part}_dataloader"] = {"dataset": dataset} | ({"batch_size": images} if part == "train" else {})
        if part == "val" and "ignore_index" in datasets[0]:  # which scores the data set there
            new["val_evaluator"]["ignore_index"] = datasets[0]["ignore_index"]
    data.done(("train", "val", "test", "samples_per_gpu"))
    if not found.normalisations:
        raise ConfigError("data.train.pipeline has no Normalize, so there is no mean and std")
    for name, values in zip(("Normalize", "size of Pad"), found, strict=True):
        if any(other != values[0] for other in values):
            raise ConfigError(f"the {name} of the parts of data differ: {values}")
    new["data_preprocessor"] = preprocessor = found.normalisations[0]
    if found.sizes:
        preprocessor["size"] = found.sizes[0]


def _several(datasets: list[dict[str, Any]], where: str) -> dict[str, Any]:
    """Data sets that follow one another."""
    return Placed({"type": "ConcatDataset", "datasets": datasets}, where)


def _note_separate_scores(where: str, training: bool, ignored: dict[str, str]) -> None:
    if not training:
        ignored[f"{where}.separate_eval"] = "scores are of all images together"


def _dataset(fields: Fields, training: bool, found: Pipelines) -> dict[str, Any]:
    """A data set in the shape of 1.x; collects what its pipeline says about normalising and padding."""
    kind = fields.text("type")
    if kind == "RepeatDataset":
        fields.ignore("training never runs out of passes", "times")
        inner = fields.section("dataset")
        fields.done(("times", "dataset"))
        return _dataset(inner, training, found)
    if kind == "MultiImageMixDataset":
        inner = _dataset(fields.section("dataset"), training, found)
        mixing = {"pipeline": _pipeline(fields.sections("pipeline"), training, found)}
        mixing["skip_type_keys"] = fields.take("skip_type_keys", None)
        fields.done(("dataset", "pipeline", "skip_type_keys"))
        return Placed({"type": kind, "dataset": inner, **mixing}, fields.where)
    if kind == "ConcatDataset":
        inner = [_dataset(item, training, found) for item in fields.sections("datasets")]
        fields.take("separate_eval", None)
        _note_separate_scores(fields.where, training, fields.ignored)
        fields.done(("datasets", "separate_eval"))
        return _several(inner, fields.where)
    if kind in REFERENCE_NAMES:
        _check_classes(fields, kind)
    _check_loader(fields.section("gt_seg_map_loader_cfg", None))
    pipeline = _pipeline(fields.sections("pipeline"), training, found)
    if not training and not any(item["type"] == "LoadAnnotations" for item in pipeline):
        pipeline.append({"type": "LoadAnnotations"})
    meta = Placed({name: fields.take(name) for name in ("classes", "palette") if name in fields}, fields.where)
    places = []
    for name in ("img_dir", "ann_dir", "split"):
        places.append(_list(fields.take(name, None)))
        if not all(place is None or isinstance(place, str) for place in places[-1]):
            raise ConfigError(f"{fields.name(name)}={places[-1]!r} must be a path, or a list of them")
    separate = fields.take("separate_eval", None)
    new = {"type": kind, **fields.rest(), "metainfo": meta, "pipeline": pipeline}
    count = max(map(len, places))
    if any(len(values) not in (1, count) for values in places):
        raise ConfigError(f"{fields.where}: img_dir, ann_dir and split must have one entry or {count} each")
    several = [
        Placed({**new, "data_prefix": {"img_path": image, "seg_map_path": label}, "ann_file": split}, fields.where)
        for image, label, split in zip(*(values * (count // len(values)) for values in places), strict=True)
    ]
    if count > 1 or separate is not None:
        _note_separate_scores(fields.where, training, fields.ignored)
    return several[0] if count == 1 else _several(several, fields.where)


def _check_classes(fields: Fields, kind: str) -> None:
    """Refuses a selection of classes of labels that count from 1, which 0.x selects before it counts them from 0."""
    info = DATASETS[REFERENCE_NAMES[kind][0]]
    classes, reduced = fields.peek("classes"), fields.peek("reduce_zero_label", info.reduce_zero_label)
    if classes is not None and info.classes and tuples(classes) != info.classes and reduced:
        raise ConfigError(f"{fields.name('classes')} with reduce_zero_label=True has no counterpart here")


def _check_loader(fields: Fields) -> None:
    """Of how the masks are read for scores, only what changes nothing has a counterpart."""
    fields.expect("imdecode_backend", "pillow", "cv2")
    fields.expect("reduce_zero_label", False)
    fields.ignore(MACHINE, "file_client_args")
    fields.done(("imdecode_backend",))


def _pipeline(
    pipeline: Sequence[Fields], training: bool, found: Pipelines, scale: Any = None, inside: bool = False
) -> list[dict[str, Any]]:
    """Transforms in the shape of 1.x. `inside` a MultiScaleFlipAug the scale is that which it says."""
    new: list[dict[str, Any]] = []
    normalised = False
    for fields in pipeline:
        kind = fields.text("type")
        if kind == "MultiScaleFlipAug":
            fields.ignore(AUGMENTED, "flip", "flip_direction")
            new += _pipeline(fields.sections("transforms"), training, found, _only_scale(fields), inside=True)
            fields.done(("img_scale", "img_ratios", "flip", "transforms"))
        elif kind == "Normalize":
            fields.expect("to_rgb", True)
            normalisation = {name: fields.items(name) for name in ("mean", "std")} | {"bgr_to_rgb": True}
            found.normalisations.append(Placed(normalisation, fields.where))
            fields.done(("mean", "std", "to_rgb"))
            normalised = True
        elif kind == "Pad" and normalised:
            if not training or fields.peek("size") is None:
                raise ConfigError(f"{fields.where}: Pad after Normalize is known in training, to a size, only")
            found.sizes.append(fields.pair("size"))
            for name, allowed in (("size_divisor", None), ("pad_val", 0), ("seg_pad_val", 255)):
                fields.expect(name, allowed)
            fields.done(("size",))
        elif kind in COLOURED and normalised:
            raise ConfigError(f"{fields.where}: {kind} after Normalize has no counterpart here; put it before")
        elif kind == "Resize" and inside and scale is None:
            fields.expect("min_size", None)
            fields.ignore_all_but((), "it keeps the size at a ratio of 1")
        elif kind == "RandomFlip" and not training:
            fields.ignore_all_but((), AUGMENTED)
            fields.ignored[fields.where] = AUGMENTED
        else:
            new.append(Placed(_transform(kind, fields, training, scale), fields.where))
    return new


def _transform(kind: str, fields: Fields, training: bool, scale: Any) -> dict[str, Any]:
    """One transform that 1.x has, too."""
    if kind == "Resize":
        return _resize(fields, scale)
    own: dict[str, Any] = {}
    if kind == "RandomFlip":
        old = fields.take("flip_ratio", None)
        own["prob"] = fields.take("prob", old)
    elif kind == "Pad":
        own["pad_val"] = {"img": fields.take("pad_val", 0), "seg": fields.take("seg_pad_val", 255)}
        if (size := fields.pair("size", None)) is not None:
            own["size"] = size[::-1]
    elif kind == "LoadAnnotations" and training:  # which does not ask the data set there
        own["reduce_zero_label"] = fields.flag("reduce_zero_label", False)
    return {"type": kind, **own, **fields.rest()}


def _only_scale(fields: Fields) -> tuple[int, int] | None:
    """The scale that a MultiScaleFlipAug tests at, before augmentation; None: that of the image."""
    scale, ratios = tuples(fields.take("img_scale", None)), tuples(fields.take("img_ratios", None))
    if isinstance(scale, tuple) and len(scale) == 1:
        scale = scale[0]
    if ratios is not None:
        if 1 not in _list(ratios):
            raise ConfigError(f"{fields.name('img_ratios')}={ratios!r} without 1 has no counterpart here")
        fields.ignored[fields.name("img_ratios")] = AUGMENTED
    elif scale is None:
        raise ConfigError(f"{fields.name('img_scale')} is missing")
    if isinstance(scale, tuple) and scale and isinstance(scale[0], tuple):
        raise ConfigError(f"{fields.name('img_scale')}={scale!r}: {AUGMENTED}; give one scale")
    return scale


def _resize(fields: Fields, given: Any) -> dict[str, Any]:
    """Resize chose at random by its fields; 1.x has a name for each choice. `given` is a scale that goes before."""
    scale, ratios = tuples(fields.take("img_scale", None)), fields.items("ratio_range", None)
    keep, mode = fields.flag("keep_ratio", True), fields.take("multiscale_mode", "range")
    if not keep:
        fields.ignore("it counts with keep_ratio only", "min_size")
    least = fields.whole("min_size", None)
    fields.done(("img_scale", "multiscale_mode", "ratio_range", "keep_ratio", "min_size"))
    if given is not None:
        return _resize_once(given, keep, least, fields.where)
    if isinstance(scale, tuple) and len(scale) == 1:
        scale = scale[0]
    several = isinstance(scale, tuple) and all(isinstance(one, tuple) for one in scale)
    if scale is None or (several and ratios is not None) or mode not in ("range", "value"):
        raise ConfigError(
            f"{fields.where}: Resize with img_scale={scale!r}, ratio_range={ratios!r} and multiscale_mode={mode!r} has "
            "no counterpart here"
        )
    if least is not None and (several or ratios is not None):
        raise ConfigError(f"{fields.name('min_size')}={least!r} with a random scale has no counterpart here")
    if ratios is not None:
        return {"type": "RandomResize", "scale": scale, "ratio_range": ratios, "keep_ratio": keep}
    if not several:
        return _resize_once(scale, keep, least, fields.where)
    if mode == "value":
        return {"type": "RandomChoiceResize", "scales": list(scale), "keep_ratio": keep}
    if any(len(one) == 2 and one[0] < one[1] for one in scale):  # it draws a long and a short side
        raise ConfigError(f"{fields.name('img_scale')}={scale!r}: give the longer side first")
    return {"type": "RandomResize", "scale": scale, "keep_ratio": keep}


def _resize_once(scale: Any, keep: bool, least: int | None, where: str) -> dict[str, Any]:
    """Resize to one scale; where there is a `least` size, to the shorter side, whatever the longer one becomes."""
    if least is None:
        return {"type": "Resize", "scale": scale, "keep_ratio": keep}
    if not (isinstance(scale, tuple) and scale and all(type(side) is int for side in scale)):
        raise ConfigError(f"{where}: with min_size={least} the scale must be (width, height), not {scale!r}")
    return {"type": "ResizeShortestEdge", "scale": max(least, min(scale)), "max_size": None}


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) and value else [value]
