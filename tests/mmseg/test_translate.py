"""MMSegmentation configs become recipes: each field is translated, listed as ignored, or refused by name."""

import copy
import json
import os
import re
import warnings
from pathlib import Path

import jax
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from dialects import DIALECTS, NEW, OLD
from jaxseg import config as run_config
from jaxseg.data import build_transforms
from jaxseg.engine.optim import build_optimizer, parameter_settings
from jaxseg.engine.schedules import build_schedule
from jaxseg.errors import ConfigError, JaxsegError
from jaxseg.losses import check_losses
from jaxseg.mmseg import load_config, read_config, translate, translate_file
from jaxseg.models import build_model
from jaxseg.models.layers.norm import build_norm
from jaxseg.models.names import variable_shapes

WHEEL = os.environ.get("JAXSEG_MMSEG_CONFIGS", "")


def plain(recipe):
    return json.loads(run_config.to_json(recipe))


def nodes(value, path=()):
    """The places of all values below one, its keys and indices."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    for key, item in items:
        yield (*path, key)
        yield from nodes(item, (*path, key))


def at(config, path):
    for key in path:
        config = config[key]
    return config


def replaced(config, path, value):
    """A copy with another value at a place."""
    if not path:
        return value
    key, *rest = path
    copied = dict(config) if isinstance(config, dict) else list(config)
    copied[key] = replaced(config[key], rest, value)
    return tuple(copied) if isinstance(config, tuple) else copied


def dotted(path):
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path)[1:]


def changed(config, **values):
    """The recipe of a config with other values, `section__field=value`; lists have numbers."""
    for name, value in values.items():
        *parents, last = (int(part) if part.isdigit() else part for part in name.split("__"))
        at(config, parents)[last] = value
    return translate(config)


def test_whole_recipe(tmp_path):
    path = tmp_path / "net_4xb2.py"
    path.write_text(NEW)
    recipe, ignored = translate_file(path)
    assert plain(load_config(path)) == plain(recipe)
    assert recipe.is_locked
    assert (recipe.name, recipe.total_steps, recipe.batch_size, recipe.seed) == ("net_4xb2", 100, 8, 7)
    assert (recipe.evaluate_every, recipe.checkpoint_every, recipe.log_every) == (20, 50, 10)
    assert recipe.checkpoint.to_dict() == {"keep": 3, "keep_best": 1, "metric": "mIoU"}
    assert recipe.preprocess.mean == (123.675, 116.28, 103.53)
    assert recipe.model.test_cfg.to_dict() == {"mode": "slide", "crop_size": (32, 32), "stride": (20, 20)}
    assert recipe.model.decode_head.loss_decode[0]["class_weight"] == (1.0, 2.0, 0.5)
    data = recipe.data
    assert (data.dataset, data.root, data.classes) == ("FolderDataset", "data/streets", ("sky", "road", "car"))
    assert (data.image_suffix, data.label_suffix) == ((".png",), (".png",))
    assert (data.train.image_dir, data.train.label_dir, data.train.split_file) == ("img/train", "ann/train", "")
    assert (data.val.image_dir, data.val.label_dir, data.val.split_file) == ("img/val", "ann/val", "val.txt")
    assert [transform["type"] for transform in data.train.transforms] == [
        "LoadImage", "LoadAnnotations", "RandomResize", "RandomCrop", "RandomFlip", "PhotoMetricDistortion", "Pad",
    ]  # fmt: skip
    assert data.train.transforms[-1]["size"] == (32, 64)
    assert data.train.transforms[-1]["pad_val"] == recipe.preprocess.mean  # zeros, once it is normalised
    assert [transform["type"] for transform in data.val.transforms] == ["LoadImage", "Resize", "LoadAnnotations"]
    optimizer = recipe.optimizer.to_dict()
    assert optimizer["paramwise_cfg"]["custom_keys"] == {"backbone_layer1": {"lr_mult": 0.1, "decay_mult": 0.0}}
    assert optimizer["clip_grad"] == {"max_norm": 1, "norm_type": 2}
    schedule = build_schedule(recipe.schedule, recipe.total_steps)
    assert schedule.rate(0, 0.01) == pytest.approx(0.01)
    assert schedule.rate(99, 0.01) == pytest.approx(1e-4)
    assert {"env_cfg", "visualizer", "norm_cfg", "resume", "model.pretrained", "model.backbone.init_cfg"} <= set(
        ignored
    )


def test_both_dialects_mean_the_same(configs):
    new = plain(translate(configs["new"], "net_4xb2").config)
    old = plain(translate(configs["old"], "net_4x2_32x64").config)
    new_schedule, old_schedule = new.pop("schedule"), old.pop("schedule")
    assert new.pop("name") == "net_4xb2"
    assert old.pop("name") == "net_4x2_32x64"
    assert new == old
    # A curve of 0.x would end after the last step, and not at it.
    assert old_schedule == [{**new_schedule[0], "end": 101}]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_recipe_builds(configs, dialect):
    recipe = translate(configs[dialect]).config
    run_config.check(recipe)
    model = build_model(recipe.model)
    params = unflatten_dict(variable_shapes(model))["params"]
    state = jax.eval_shape(build_optimizer(recipe, params).init, params)
    assert jax.tree.leaves(state)
    settings = flatten_dict(parameter_settings(recipe, params))
    assert {round(setting.lr, 6) for setting in settings.values()} == {0.01, 0.001}
    for part in ("train", "val", "test"):
        assert build_transforms(recipe.data[part].transforms).random == (part == "train")


@pytest.mark.parametrize("dialect", DIALECTS)
def test_an_unknown_field_is_refused_and_named_everywhere(configs, dialect):
    config, silent = configs[dialect], []
    sections = [path for path in nodes(config) if isinstance(at(config, path), dict)]
    assert len(sections) > 40
    for path in [(), *sections]:
        try:
            recipe, ignored = translate(replaced(config, path, {**at(config, path), "surprise": 0}))
            if any(
                name.endswith("surprise") or re.match(re.escape(name) + r"[.[]", f"{dotted(path)}.") for name in ignored
            ):
                continue
            model = build_model(recipe.model)
            for head in model.heads().values():
                check_losses(head)
                build_norm(head.norm_cfg)
            build_norm(model.backbone.norm_cfg)
        except ConfigError as error:
            if "surprise" in str(error) or path == ("model", "train_cfg"):  # which is refused as a whole
                continue
            silent.append(f"{dotted(path)}: {error}")
        else:
            silent.append(dotted(path))
    assert not silent


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_ignored_field_is_one_of_the_config_and_has_a_reason(configs, dialect):
    ignored = dict(translate(configs[dialect], "net").ignored)
    ignored.pop("(number of devices)", None)
    assert len(ignored) > 20
    places = {dotted(path) for path in nodes(configs[dialect])}
    assert not set(ignored) - places
    assert all(len(reason.split()) > 2 for reason in ignored.values())


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("wrong", [None, "x", 3, -1.5, True, [], [None], {}, {"type": 1}], ids=repr)
def test_wrong_values_are_refused_or_make_a_recipe(configs, dialect, wrong):
    config = configs[dialect]
    for path in nodes(config):
        try:
            plain(translate(replaced(config, path, wrong)).config)
        except ConfigError:
            continue
        except Exception as error:
            pytest.fail(f"{dotted(path)}={wrong!r}: {type(error).__name__}: {error}")


@pytest.mark.parametrize(("text", "name"), [(NEW, "train_cfg"), (OLD, "runner")])
def test_errors_name_the_file(tmp_path, text, name):
    path = tmp_path / "net.py"
    path.write_text(text)
    with pytest.raises(ConfigError, match=rf"net\.py: {name}\.max_iters=0 must be a whole number"):
        load_config(path, {f"{name}.max_iters": 0})


def test_clipping_by_value_and_one_cycle(tmp_path):
    path = tmp_path / "net.py"
    path.write_text(NEW)
    cycle = {"type": "OneCycleLR", "eta_max": 0.1, "by_epoch": False, "three_phase": True, "anneal_strategy": "linear"}
    momentum = {"type": "CosineAnnealingMomentum", "eta_min": 0.8, "T_max": 50, "by_epoch": False}
    clip = {"type": "value", "clip_value": 0.5}
    fields = {"optim_wrapper.clip_grad": {"_delete_": True, **clip}, "param_scheduler": [cycle, momentum]}
    recipe = load_config(path, fields)
    assert recipe.optimizer.clip_grad.to_dict() == clip
    for piece, expected in zip(recipe.schedule, (cycle, momentum), strict=True):
        assert {name: piece[name] for name in expected} == expected


def test_decay_by_layers_and_accumulation(tmp_path):
    path = tmp_path / "net.py"
    path.write_text(NEW)
    fields = {
        "optim_wrapper.accumulative_counts": 2,
        "optim_wrapper.constructor": "LayerDecayOptimizerConstructor",
        "optim_wrapper.paramwise_cfg": {"_delete_": True, "num_layers": 12, "layer_decay_rate": 0.9},
        "model.backbone.norm_cfg.requires_grad": False,
    }
    recipe = load_config(path, fields)
    assert recipe.optimizer.accumulative_counts == 2
    rules = {"num_layers": 12, "decay_rate": 0.9, "decay_type": "layer_wise"}
    assert plain(recipe.optimizer.paramwise_cfg) == rules
    assert recipe.model.backbone.norm_cfg.requires_grad is False


# What a 1.x config says, and what the error says.
REFUSED = {
    "epochs": ({"train_cfg": {"type": "EpochBasedTrainLoop", "max_epochs": 9}}, "train_cfg is by epochs"),
    "epochs without type": ({"train_cfg": {"by_epoch": True, "max_epochs": 9}}, "train_cfg is by epochs"),
    "schedule by epoch": ({"param_scheduler__0__by_epoch": True}, r"param_scheduler\[0\].by_epoch=True"),
    "resumed schedule": ({"param_scheduler__0__last_step": 9}, r"param_scheduler\[0\].last_step=9"),
    "epochs in steps": ({"param_scheduler__0__convert_to_iter_based": True}, "convert_to_iter_based=True"),
    "start": (
        {"param_scheduler": [{"type": "LinearLR", "by_epoch": False, "start_factor": 0}]},
        r"param_scheduler\[0\].start_factor=0 must be above 0",
    ),
    "power": ({"param_scheduler__0__power": "x"}, r"param_scheduler\[0\].power='x' must be a number"),
    "hook": ({"custom_hooks": [{"type": "EMAHook"}]}, r"custom_hooks\[0\]=.*EMAHook"),
    "default hook": ({"default_hooks__ema": {"type": "EMAHook"}}, "default_hooks.ema=.*EMAHook"),
    "no schedule": ({"default_hooks__param_scheduler": None}, "default_hooks.param_scheduler=None"),
    "rule": ({"default_hooks__checkpoint__rule": "less"}, "checkpoint.rule='less'"),
    "best": ({"default_hooks__checkpoint__save_best": ["mIoU", "mAcc"]}, "save_best="),
    "accumulation": ({"optim_wrapper__accumulative_counts": 0}, "optim_wrapper.accumulative_counts=0"),
    "wrapper": ({"optim_wrapper__type": "ApexOptimWrapper"}, "optim_wrapper.type='ApexOptimWrapper'"),
    "constructor": ({"optim_wrapper__constructor": "LayerDecay"}, "optim_wrapper.constructor='LayerDecay'"),
    "optimizer": ({"optim_wrapper__optimizer__type": "Lion"}, "optim_wrapper.optimizer.type='Lion'"),
    "no rate": ({"optim_wrapper__optimizer": {"type": "SGD"}}, "optim_wrapper.optimizer.lr is missing"),
    "decay": ({"optim_wrapper__optimizer": {"type": "AdamW", "lr": 1}}, "optimizer.weight_decay is missing"),
    "clipping": ({"optim_wrapper__clip_grad": {"type": "values", "clip_value": 1}}, "clip_grad.type='values'"),
    "sampler": ({"train_dataloader__sampler__type": "ClassAware"}, "train_dataloader.sampler.type='ClassAware'"),
    "no shuffle": ({"train_dataloader__sampler__shuffle": False}, "train_dataloader.sampler.shuffle=False"),
    "batches": ({"train_dataloader__num_batch_per_epoch": 9}, "train_dataloader.num_batch_per_epoch=9"),
    "no data": ({"train_dataloader": None}, "train_dataloader.dataset is missing"),
    "no evaluation": ({"val_dataloader": None, "test_dataloader": None}, "val_dataloader.dataset is missing"),
    "subset": ({"train_dataloader__dataset__indices": 10}, "train_dataloader.dataset.indices=10"),
    "brackets": ({"train_dataloader__dataset__data_prefix__img_path": "{x}"}, "brackets in their names.*{x}"),
    "data set": ({"train_dataloader__dataset__type": "MyDataset"}, "BaseSegDataset"),
    "colours": ({"train_dataloader__dataset__metainfo__palette": [[1, 2]]}, "metainfo.palette has"),
    "flip": ({"train_dataloader__dataset__pipeline__4": {"type": "RandomFlip"}}, r"pipeline\[4\].prob is missing"),
    "crop": ({"train_dataloader__dataset__pipeline__3__crop_size": 0}, r"pipeline\[3\]: RandomCrop.crop_size is 0"),
    "metric": ({"val_evaluator": {"type": "CityscapesMetric"}}, "val_evaluator.type='CityscapesMetric'"),
    "second metric": ({"val_evaluator": [{"type": "IoUMetric"}, {"type": "X"}]}, r"val_evaluator\[1\].type='X'"),
    "score": ({"val_evaluator__iou_metrics": ["mPrecision"]}, "val_evaluator.iou_metrics has 'mPrecision'"),
    "labels": ({"val_evaluator__ignore_index": 0}, "test_evaluator have several values"),
    "head's label": ({"model__decode_head__ignore_index": 0}, "model.decode_head.ignore_index=0"),
    "data's label": ({"train_dataloader__dataset__ignore_index": 0}, "train_dataloader.dataset.ignore_index=0"),
    "BGR": ({"model__data_preprocessor__bgr_to_rgb": False}, "bgr_to_rgb=False"),
    "fill": ({"model__data_preprocessor__pad_val": 1}, "model.data_preprocessor.pad_val=1"),
    "two sizes": ({"model__data_preprocessor__size_divisor": 32}, "exclude each other"),
    "stride": ({"model__test_cfg": {"mode": "slide", "crop_size": 9}}, "model.test_cfg.stride is missing"),
    "resume": ({"resume": True, "load_from": "a.pth"}, "resume=True"),
    "scaled rate": ({"auto_scale_lr__enable": True, "auto_scale_lr__base_batch_size": None}, "auto_scale_lr"),
    "frozen norms": (
        {"model__decode_head__sub": {"norm_cfg": {"type": "BN", "requires_grad": False}}},
        "model.decode_head.sub.norm_cfg.requires_grad=False",
    ),
    "left over": ({"model__backbone___delete_": True}, "_delete_"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(new, name):
    values, message = REFUSED[name]
    with pytest.raises(ConfigError, match=message):
        build_model(changed(new, **values).config.model)


def test_reference_defaults_where_fields_are_missing(new):
    del new["train_cfg"]["val_interval"], new["default_hooks"], new["randomness"]
    new["optim_wrapper"] = {"optimizer": {"type": "AdamW", "lr": 0.01}}
    recipe = translate(new).config
    assert (recipe.evaluate_every, recipe.checkpoint_every, recipe.seed) == (1000, 1000, 0)
    assert recipe.optimizer.weight_decay == 0.01  # PyTorch's of AdamW
    # A decay without end is one over 1e9 steps, which is none.
    del new["param_scheduler"][0]["end"]
    schedule = build_schedule(translate(new).config.schedule, 100)
    assert schedule.rate(99, 0.01) == pytest.approx(0.01, rel=1e-6)
    new["param_scheduler"] = None
    assert translate(new).config.schedule == ()


def test_best_checkpoint(new):
    assert changed(new, default_hooks__checkpoint__save_best="auto").config.checkpoint.metric == "aAcc"
    del new["default_hooks"]["checkpoint"]["save_best"]
    new["test_evaluator"] = None
    assert changed(new, val_evaluator__iou_metrics="mDice").config.checkpoint.metric == "mDice"
    recipe, ignored = changed(new, val_evaluator=[{"type": "IoUMetric", "iou_metrics": ["mIoU", "mFscore"]}])
    assert recipe.checkpoint.metric == "mIoU"
    assert "val_evaluator[0].iou_metrics.mFscore" in ignored


def test_interval_in_epochs_is_ignored(new):
    del new["default_hooks"]["checkpoint"]["by_epoch"]
    recipe, ignored = translate(new)
    assert recipe.checkpoint_every == 20
    assert "default_hooks.checkpoint.interval" in ignored


def test_ignored_label(new):
    labels = dict.fromkeys(("val_evaluator__ignore_index", "test_evaluator__ignore_index"), 0)
    heads = dict.fromkeys(("model__decode_head__ignore_index", "model__auxiliary_head__ignore_index"), 0)
    assert changed(new, **labels, **heads).config.data.ignore_index == 0


def test_mixed_precision(new):
    recipe, ignored = changed(new, optim_wrapper__type="AmpOptimWrapper", optim_wrapper__dtype="float16")
    assert recipe.model.dtype == "bfloat16"
    assert "bfloat16" in ignored["optim_wrapper.dtype"]


def test_padding(new):
    preprocessor = new["model"]["data_preprocessor"]
    preprocessor |= {"size": None, "size_divisor": 32, "test_cfg": {"size_divisor": 16}}
    pads = {"type": "Pad", "size": (64, 32), "pad_val": {"img": (1, 2, 3), "seg": 9}}
    new["train_dataloader"]["dataset"]["pipeline"].insert(4, pads)
    recipe = translate(new).config
    first, *_, last = (item for item in recipe.data.train.transforms if item["type"] == "Pad")
    # From (width, height) and blue, green, red.
    assert (first["size"], first["pad_val"], first["seg_pad_val"]) == ((32, 64), (3, 2, 1), 9)
    assert (last["size"], last["size_divisor"]) == (None, 32)
    assert recipe.model.test_cfg.size_divisor == 16


def test_padding_twice_is_padding_once(new):
    pipeline = new["train_dataloader"]["dataset"]["pipeline"]
    pipeline.insert(4, {"type": "Pad", "size": (64, 32)})
    assert [item["type"] for item in translate(new).config.data.train.transforms].count("Pad") == 1
    pipeline.insert(2, pipeline.pop(4))  # before a resize and a crop
    assert [item["type"] for item in translate(new).config.data.train.transforms].count("Pad") == 2


def train_transform(config, **fields):
    """What becomes of a transform in the place of the random resize."""
    config = copy.deepcopy(config)
    config["train_dataloader"]["dataset"]["pipeline"][2] = fields
    return translate(config).config.data.train.transforms[2]


def test_choice_of_scales(new):
    choice = {"type": "RandomChoiceResize", "max_size": 99, "resize_type": "ResizeShortestEdge"}
    for given, scales in (([16, 40], (16, 40)), ((16, 40), ((16, 40),)), (16, (16,)), ([(9, 8), 7], ((9, 8), 7))):
        assert train_transform(new, **choice, scales=given) == {**choice, "scales": scales, "keep_ratio": False}
    plain = {
        "type": "RandomChoiceResize",
        "scales": [(64, 32), (32, 16)],
        "keep_ratio": True,
        "interpolation": "bilinear",
    }
    translated = train_transform(new, **plain)
    assert (translated["scales"], translated["resize_type"]) == (((64, 32), (32, 16)), "Resize")
    for wrong, message in (
        ({"scales": [16, 40]}, r"pipeline\[2\]: RandomChoiceResize.scales is \(16, 40\)"),
        ({"scales": [(64, 32)], "interpolation": "area"}, r"pipeline\[2\].interpolation='area' has no counterpart"),
        ({"scales": [(64, 32)], "resize_type": "SegRescale"}, "resize_type is 'SegRescale'"),
        ({}, r"pipeline\[2\].scales is missing"),
    ):
        with pytest.raises(ConfigError, match=message):
            train_transform(new, type="RandomChoiceResize", **wrong)


def test_other_resizes(new):
    shortest = {"type": "ResizeShortestEdge", "scale": (40, 30), "max_size": 99}
    assert train_transform(new, **shortest) == shortest
    multiple = {"type": "ResizeToMultiple", "size_divisor": 16}
    assert train_transform(new, **multiple, interpolation=None) == multiple
    with pytest.raises(ConfigError, match="interpolation='area' has no counterpart"):
        train_transform(new, **multiple, interpolation="area")


@pytest.mark.parametrize(
    ("name", "base", "batch"),
    [
        ("net_4xb2-40k_streets-512x512", None, 8),
        ("net_r50-d8_512x1024_40k_streets", None, 2),
        ("net_8x2_512x1024_40k_streets", None, 16),
        ("net_4xb4-40k_streets-512x512", None, 8),  # the name says how many devices, the loader how many images
        ("net", 16, 16),
        ("net", None, 2),
    ],
)
def test_batch_size(new, name, base, batch):
    new["auto_scale_lr"]["base_batch_size"] = base
    recipe, ignored = translate(new, name)
    assert recipe.batch_size == batch
    assert ("(number of devices)" in ignored) == (batch == 2)


def test_scaled_rate(new):
    new["auto_scale_lr"]["enable"] = True
    assert translate(new, "net_4xb2").config.batch_size == 8
    with pytest.raises(ConfigError, match="auto_scale_lr scales the rate from batches of 8 to those of 4"):
        translate(new, "net_2xb2")


def test_evaluation_on_the_test_set_alone(new):
    new["val_dataloader"] = None
    data = translate(new).config.data
    assert data.val.to_dict() == data.test.to_dict() | {"split": "val"}


@pytest.mark.skipif(not WHEEL, reason="JAXSEG_MMSEG_CONFIGS is not the folder of the reference's configs")
def test_configs_of_the_reference():
    paths = [path for path in sorted(Path(WHEEL).rglob("*.py")) if "_base_" not in path.parts]
    assert len(paths) == 681
    translated, built, unclear = 0, 0, []
    for path in paths:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            config = read_config(path)
        try:
            recipe = translate(config, path.stem).config
            translated += 1
            run_config.check(recipe)
            json.loads(run_config.to_json(recipe))
            model = build_model(recipe.model)
            for head in model.heads().values():
                check_losses(head)
            built += 1
        except JaxsegError as error:
            # Names a field and its value, or a part that there is not.
            if not any(words in str(error) for words in ("no counterpart", "is not known", "is not a", "has no field")):
                unclear.append(f"{path.name}: {error}")
    assert not unclear
    assert translated == built == 677
