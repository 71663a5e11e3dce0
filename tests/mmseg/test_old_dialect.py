"""MMSegmentation 0.x configs: what they say otherwise than 1.x."""

import copy
import math

import numpy as np
import pytest

from dialects import OLD
from jaxseg.engine.schedules import build_schedule
from jaxseg.errors import ConfigError
from jaxseg.mmseg import read_config, translate

STEPS = 100


@pytest.fixture(scope="module")
def resolved(tmp_path_factory):
    path = tmp_path_factory.mktemp("configs") / "old.py"
    path.write_text(OLD)
    return read_config(path)


@pytest.fixture
def old(resolved):
    return copy.deepcopy(resolved)


def train_transforms(config, *pipeline):
    """The recipe's training transforms, where the config has these before Normalize and Pad."""
    whole = config["data"]["train"]["pipeline"]
    whole[2:6] = pipeline
    return translate(config).config.data.train.transforms[2:-1]


# mmcv 1.x's formulas: the rate of a step from the base rate.
CURVES = {
    "poly": ({"power": 0.9, "min_lr": 1e-4}, lambda lr, t: (lr - 1e-4) * (1 - t / STEPS) ** 0.9 + 1e-4),
    "poly of defaults": ({"policy": "poly"}, lambda lr, t: lr * (1 - t / STEPS)),
    "Poly": ({"power": 2.0}, lambda lr, t: lr * (1 - t / STEPS) ** 2),
    "CosineAnnealing": (
        {"min_lr": 1e-5},
        lambda lr, t: 1e-5 + 0.5 * (lr - 1e-5) * (math.cos(math.pi * t / STEPS) + 1),
    ),
    "step": ({"step": 30}, lambda lr, t: lr * 0.1 ** (t // 30)),
    "steps": ({"policy": "step", "step": [20, 70], "gamma": 0.5}, lambda lr, t: lr * 0.5 ** ((t >= 20) + (t >= 70))),
    "exp": ({"gamma": 0.97}, lambda lr, t: lr * 0.97**t),
    "fixed": ({}, lambda lr, t: lr),
}
WARMUPS = {
    None: lambda t, n, ratio: 1.0,
    "constant": lambda t, n, ratio: ratio,
    "linear": lambda t, n, ratio: 1 - (1 - t / n) * (1 - ratio),
    "exp": lambda t, n, ratio: ratio ** (1 - t / n),
}


@pytest.mark.parametrize("warmup", WARMUPS)
@pytest.mark.parametrize("curve", CURVES)
def test_rates_are_those_of_mmcv_at_every_step(old, curve, warmup):
    fields, regular = CURVES[curve]
    length, ratio = 15, 1e-3
    warm = {} if warmup is None else {"warmup": warmup, "warmup_iters": length, "warmup_ratio": ratio}
    old["lr_config"] = {"policy": curve, **fields, **warm}
    schedule = build_schedule(translate(old).config.schedule, STEPS)
    for base in (0.01, 0.1):
        expected = [regular(base, t) * (WARMUPS[warmup](t, length, ratio) if t < length else 1.0) for t in range(STEPS)]
        found = [schedule.rate(t, base) for t in range(STEPS)]
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-15)


def test_warmup_of_defaults(old):
    old["lr_config"] |= {"warmup": "linear", "warmup_iters": 10}
    schedule = build_schedule(translate(old).config.schedule, STEPS)
    assert schedule.rate(0, 0.01) == pytest.approx(0.001)


def test_no_schedule(old):
    old["lr_config"] = None
    assert translate(old).config.schedule == ()


REFUSED = {
    "policy": ({"lr_config": {"policy": "OneCycle"}}, "lr_config.policy='OneCycle'"),
    "epochs": ({"lr_config": {"policy": "poly", "by_epoch": True}}, "lr_config.by_epoch=True"),
    "ratio": ({"lr_config": {"policy": "CosineAnnealing", "min_lr_ratio": 0.1}}, "lr_config.min_lr_ratio=0.1"),
    "warm-up": ({"lr_config": {"policy": "poly", "warmup": "cosine", "warmup_iters": 5}}, "lr_config: .*mode='cosine'"),
    "no length": ({"lr_config": {"policy": "poly", "warmup": "linear"}}, "lr_config: .*end=0"),
    "warm-up by epoch": ({"lr_config": {"policy": "poly", "warmup_by_epoch": True}}, "lr_config.warmup_by_epoch"),
    "runner": ({"runner": {"type": "EpochBasedRunner", "max_epochs": 9}}, "runner.type='EpochBasedRunner'"),
    "no steps": ({"runner": {"type": "IterBasedRunner"}}, "runner.max_iters is missing"),
    "momentum": ({"momentum_config": {"policy": "cyclic"}}, "momentum_config="),
    "resume": ({"resume_from": "a.pth"}, "resume_from='a.pth'"),
    "hook": ({"custom_hooks": [{"type": "EMAHook"}]}, "EMAHook"),
    "optimizer hook": ({"optimizer_config": {"type": "MyHook"}}, "optimizer_config.type='MyHook'"),
    "accumulation": (
        {"optimizer_config": {"type": "GradientCumulativeOptimizerHook", "cumulative_iters": 0}},
        "optimizer_config.cumulative_iters=0",
    ),
    "constructor": ({"optimizer": {"type": "SGD", "lr": 1, "constructor": "X"}}, "constructor='X'"),
    "clipping": ({"optimizer_config": {"grad_clip": {"clip": 1}}}, "optimizer_config.grad_clip"),
    "rule": ({"evaluation": {"interval": 20, "rule": "less"}}, "checkpoint_config.rule='less'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(old, name):
    values, message = REFUSED[name]
    with pytest.raises(ConfigError, match=message):
        translate(old | values)


@pytest.mark.parametrize(("kind", "dtype"), [("", None), ("Fp16", "bfloat16")])
def test_accumulation(old, kind, dtype):
    old["optimizer_config"] = {"type": f"GradientCumulative{kind}OptimizerHook", "cumulative_iters": 4}
    recipe = translate(old).config
    assert recipe.optimizer.accumulative_counts == 4
    assert recipe.model.get("dtype") == dtype


def test_errors_name_the_fields_of_0x(old):
    old["data"]["train"]["img_sufix"] = ".jpg"
    with pytest.raises(ConfigError, match=r"^data.train.img_sufix='.jpg' has no counterpart"):
        translate(old)
    del old["data"]["train"]["img_sufix"]
    old["data"]["val"]["pipeline"][1]["transforms"].append({"type": "Tile"})
    with pytest.raises(ConfigError, match=r"^data.val.pipeline\[1\].transforms\[5\].type='Tile'"):
        translate(old)


def test_steps_and_test_cfg_in_their_old_places(old):
    del old["runner"]
    old["total_iters"] = 60
    old["test_cfg"] = old["model"].pop("test_cfg")
    old["train_cfg"] = old["model"].pop("train_cfg")
    recipe = translate(old).config
    assert recipe.total_steps == 60
    assert recipe.model.test_cfg.mode == "slide"


@pytest.mark.parametrize(("name", "batch"), [("net_512x1024_40k", 2), ("net_8x2_512x1024_40k", 16), ("net", 2)])
def test_sizes_of_images_are_no_batch_sizes(old, name, batch):
    assert translate(old, name).config.batch_size == batch


def test_images_of_the_loader_itself(old):
    old["data"]["train_dataloader"] = {"samples_per_gpu": 6, "workers_per_gpu": 2}
    old["data"]["val_dataloader"] = {"samples_per_gpu": 1}
    assert translate(old).config.batch_size == 6
    old["data"]["train_dataloader"]["shuffle"] = False
    with pytest.raises(ConfigError, match=r"data.train_dataloader.shuffle=False"):
        translate(old)


def test_mixed_precision_is_what_the_optimizer_does(old):
    old["fp16"] = {}
    assert translate(old).config.model.dtype is None
    old["optimizer_config"] = {"type": "Fp16OptimizerHook", "loss_scale": 512.0}
    recipe, ignored = translate(old)
    assert recipe.model.dtype == "bfloat16"
    assert {"fp16", "optimizer_config.loss_scale"} <= set(ignored)


def test_intervals_and_scores(old):
    old["checkpoint_config"] = {"interval": 30}
    old["evaluation"] = {"interval": 10, "metric": ["mDice", "mFscore"], "save_best": "auto", "by_epoch": True}
    recipe, ignored = translate(old)
    assert (recipe.evaluate_every, recipe.checkpoint_every, recipe.checkpoint.metric) == (10, 30, "aAcc")
    assert {"evaluation.by_epoch", "evaluation.iou_metrics.mFscore"} <= set(ignored)
    del old["evaluation"]["save_best"]
    assert translate(old).config.checkpoint.metric == "mDice"


def test_resize(old):
    def resized(**fields):
        return dict(train_transforms(copy.deepcopy(old), {"type": "Resize", **fields})[0])

    assert resized(img_scale=[(64, 32)]) == {
        "type": "Resize", "scale": (64, 32), "keep_ratio": True, "scale_factor": None,
    }  # fmt: skip
    ranged = {"type": "RandomResize", "keep_ratio": False}
    assert resized(img_scale=(64, 32), ratio_range=(0.5, 2.0), keep_ratio=False) == {
        **ranged, "scale": (64, 32), "ratio_range": (0.5, 2.0),
    }  # fmt: skip
    assert resized(img_scale=[(64, 32), (96, 48)], keep_ratio=False) == {
        **ranged, "scale": ((64, 32), (96, 48)), "ratio_range": None,
    }  # fmt: skip
    chosen = resized(img_scale=[(64, 32), (96, 48)], multiscale_mode="value")
    assert (chosen["type"], chosen["scales"], chosen["keep_ratio"]) == (
        "RandomChoiceResize",
        ((64, 32), (96, 48)),
        True,
    )
    for least, short in ((30, 32), (40, 40)):
        assert resized(img_scale=(64, 32), min_size=least) == {
            "type": "ResizeShortestEdge", "scale": short, "max_size": None,
        }  # fmt: skip
    assert resized(img_scale=(64, 32), min_size=40, keep_ratio=False)["type"] == "Resize"  # which min_size leaves alone
    for wrong in (
        {"ratio_range": (0.5, 2.0)},  # of the image's own size
        {"img_scale": [(64, 32), (96, 48)], "ratio_range": (0.5, 2.0)},
        {"img_scale": [(32, 64), (48, 96)]},  # its long side is drawn as the width
        {"img_scale": (64, 32), "ratio_range": (0.5, 2.0), "min_size": 30},
        {"img_scale": 64, "min_size": 30},
        {},
    ):
        with pytest.raises(ConfigError, match=r"data.train.pipeline\[2\]"):
            resized(**wrong)


def test_flip_and_pad_before_normalising(old):
    flip, pad = train_transforms(
        old,
        {"type": "RandomFlip", "flip_ratio": 0.25, "direction": "vertical"},
        {"type": "Pad", "size": (48, 64), "pad_val": (1, 2, 3)},
    )
    assert (flip["prob"], flip["direction"]) == (0.25, "vertical")
    # Height and width in 0.x; colours blue, green, red.
    assert (pad["size"], pad["pad_val"], pad["seg_pad_val"]) == ((48, 64), (3, 2, 1), 255)


def test_mixing_and_what_is_of_colours(old):
    mosaic = {"type": "RandomMosaic", "prob": 1.0, "img_scale": (32, 64), "pad_val": (1, 2, 3)}
    train = old["data"]["train"]
    inner = train | {"pipeline": train["pipeline"][:2]}
    mixing = {"type": "MultiImageMixDataset", "dataset": inner, "pipeline": [mosaic, *train["pipeline"][2:]]}
    old["data"]["train"] = mixing | {"skip_type_keys": ["RandomFlip"]}
    kinds = [transform["type"] for transform in translate(old).config.data.train.transforms]
    assert kinds[:3] == ["LoadImage", "LoadAnnotations", "RandomMosaic"]
    assert "RandomFlip" not in kinds
    assert translate(old).config.data.train.transforms[2]["pad_val"] == (3, 2, 1)
    old["data"]["train"] = train
    (rotate,) = train_transforms(old, {"type": "RandomRotate", "prob": 0.5, "degree": 10, "pad_val": 9})
    assert rotate["pad_val"] == (0, 0, 9)
    place = next(i for i, item in enumerate(train["pipeline"]) if item["type"] == "Normalize")
    train["pipeline"].insert(place + 1, {"type": "RandomRotate", "prob": 0.5, "degree": 10})
    with pytest.raises(ConfigError, match="RandomRotate after Normalize has no counterpart here; put it before"):
        translate(old)


def test_test_time_augmentation(old):
    augmented = old["data"]["val"]["pipeline"][1]
    augmented |= {"flip": True, "img_ratios": [0.5, 1.0, 1.5]}
    recipe, ignored = translate(old)
    assert recipe.data.val.transforms[1]["scale"] == (64, 32)
    assert {"data.val.pipeline[1].flip", "data.val.pipeline[1].img_ratios"} <= set(ignored)
    augmented["img_scale"] = None
    recipe, ignored = translate(old)
    assert [transform["type"] for transform in recipe.data.val.transforms] == ["LoadImage", "LoadAnnotations"]
    assert "data.val.pipeline[1].transforms[0].keep_ratio" in ignored
    for wrong in ({"img_ratios": [0.5]}, {"img_ratios": None}, {"img_scale": [(64, 32), (32, 16)]}):
        with pytest.raises(ConfigError, match=r"data.val.pipeline\[1\].img_"):
            translate(old | {"data": old["data"] | {"val": with_augmentation(old["data"]["val"], wrong)}})


def with_augmentation(dataset, fields):
    image, augmented = dataset["pipeline"]
    return dataset | {"pipeline": [image, augmented | fields]}


def test_normalising_must_agree(old):
    old["data"]["val"]["pipeline"][1]["transforms"][2]["mean"] = [0, 0, 0]
    with pytest.raises(ConfigError, match="the Normalize of the parts of data differ"):
        translate(old)
    old["data"]["val"]["pipeline"][1]["transforms"][2]["to_rgb"] = False
    with pytest.raises(ConfigError, match=r"data.val.pipeline\[1\].transforms\[2\].to_rgb=False"):
        translate(old)


def test_lists_of_data_sets(old):
    train, val = old["data"]["train"], old["data"]["val"]
    for part in ("train", "val", "test"):
        old["data"][part] |= {"type": "PascalVOCDataset", "data_root": "data/voc", "classes": None, "palette": None}
        del old["data"][part]["img_suffix"]
    train |= {"img_dir": "JPEGImages", "ann_dir": "SegmentationClass"}
    names = [f"ImageSets/Segmentation/{name}.txt" for name in ("train", "val")]
    val |= train | {"pipeline": val["pipeline"], "split": names[1]}
    old["data"]["test"] = val
    old["data"]["train"] = [train | {"split": name} for name in names]
    several = translate(old).config.data
    assert (several.dataset, several.train.split, several.val.split) == ("PascalVOC12", ("train", "val"), "val")
    old["data"]["train"] = {
        "type": "RepeatDataset", "times": 9, "dataset": train | {"split": names, "separate_eval": False},
    }  # fmt: skip
    recipe, ignored = translate(old)
    assert recipe.data.to_dict() == several.to_dict()
    assert "data.train.times" in ignored
    old["data"]["val"] = val | {"split": names}
    assert "data.val.separate_eval" in translate(old).ignored
    old["data"]["train"] = train | {"split": names, "img_dir": ["JPEGImages"] * 3}
    with pytest.raises(ConfigError, match=r"data.train.*: img_dir, ann_dir and split must have one entry or 3 each"):
        translate(old)


def test_masks_count_from_one(old):
    for part in ("train", "val", "test"):
        old["data"][part]["reduce_zero_label"] = True
    recipe = translate(old).config
    assert recipe.data.reduce_zero_label is True
    # In training LoadAnnotations does not ask the data set; evaluation does.
    assert recipe.data.train.transforms[1]["reduce_zero_label"] is False
    assert recipe.data.val.transforms[-1]["reduce_zero_label"] is None
    old["data"]["train"]["pipeline"][1]["reduce_zero_label"] = True
    assert translate(old).config.data.train.transforms[1]["reduce_zero_label"] is None


def test_selected_classes_of_masks_that_count_from_one(old):
    for part in ("train", "val", "test"):
        old["data"][part] |= {"type": "ADE20KDataset", "classes": ("wall", "sky"), "palette": None}
        del old["data"][part]["img_suffix"]
    with pytest.raises(ConfigError, match=r"data.train.classes with reduce_zero_label=True"):
        translate(old)


def test_reader_of_masks_for_scores(old):
    old["data"]["val"]["gt_seg_map_loader_cfg"] = {"imdecode_backend": "pillow"}
    translate(old)
    old["data"]["val"]["gt_seg_map_loader_cfg"]["reduce_zero_label"] = True
    with pytest.raises(ConfigError, match=r"data.val.gt_seg_map_loader_cfg.reduce_zero_label=True"):
        translate(old)


def test_label_that_does_not_count(old):
    for part in ("train", "val", "test"):
        old["data"][part]["ignore_index"] = 2
    with pytest.raises(ConfigError, match=r"model.decode_head.ignore_index=255 and the evaluator's, 2, must be equal"):
        translate(old)
    for head in ("decode_head", "auxiliary_head"):
        old["model"][head]["ignore_index"] = 2
    assert translate(old).config.data.ignore_index == 2
