"""What recipes share: the base config, backbones, heads, data sets, transforms and schedules.

`base()` has every field of a recipe, with its default. The other functions return parts of it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from jaxseg.errors import ConfigError, did_you_mean

IMAGENET = {"mean": (123.675, 116.28, 103.53), "std": (58.395, 57.12, 57.375)}
BN = {"type": "SyncBN"}


def base() -> ConfigDict:
    """A recipe with every field, but for the model and the data, at its default."""
    return ConfigDict(
        {
            "name": "",  # shown in logs and reports
            "seed": 0,  # of initial weights, order, augmentation and dropout
            "total_steps": 80000,
            "batch_size": 8,  # images a step, over all devices and processes
            "eval_batch_size": 8,
            "log_every": 50,
            "evaluate_every": 8000,
            "checkpoint_every": 8000,
            "checkpoint": {"keep": 2, "keep_best": 1, "metric": "mIoU"},
            "init_from": placeholder(str),  # a run folder whose weights to start from
            "compilation_cache": "~/.cache/jaxseg/xla",  # "" for none
            "preprocess": dict(IMAGENET),  # on the device: (image - mean) / std, RGB, 0..255
            "model": {},
            "data": data(),
            "optimizer": {},
            "schedule": (),
        }
    )


def data(dataset: str = "FolderDataset", root: str = "", **fields: Any) -> dict[str, Any]:
    """`config.data`; None means the data set's own."""
    return {
        "dataset": dataset,
        "root": root,
        "classes": fields.pop("classes", placeholder(tuple)),
        "palette": fields.pop("palette", placeholder(tuple)),
        "image_dir": placeholder(str),
        "label_dir": placeholder(str),
        "image_suffix": placeholder(tuple),
        "label_suffix": placeholder(tuple),
        "ignore_index": placeholder(int),
        "reduce_zero_label": placeholder(bool),
        "label_map": placeholder(dict),
        "demo": {},  # of the generated set: size, train, val, test, seed
        "check": 1000,  # files of each part to look at before training
        "read_threads": 2,
        "num_workers": 0,  # 0: threads only, which is faster on few cores
        "train": {"split": "train", "split_file": placeholder(str), "transforms": ()},
        "val": {"split": "val", "split_file": placeholder(str), "transforms": ()},
        "test": {"split": "test", "split_file": placeholder(str), "transforms": ()},
    } | fields


def training_transforms(
    scale: Sequence[int] | None,
    crop_size: Sequence[int],
    pad_val: float | Sequence[float] = 0,
    cat_max_ratio: float = 0.75,
    photometric: bool = True,
) -> tuple[dict[str, Any], ...]:
    """Random resize (0.5 to 2 times `scale`, (width, height)), crop, flip and colours, padded to the crop."""
    transforms = [{"type": "LoadImage"}, {"type": "LoadAnnotations"}]
    if scale is not None:
        transforms.append({"type": "RandomResize", "scale": scale, "ratio_range": (0.5, 2.0), "keep_ratio": True})
    transforms += [
        {"type": "RandomCrop", "crop_size": crop_size, "cat_max_ratio": cat_max_ratio},
        {"type": "RandomFlip", "prob": 0.5},
        *([{"type": "PhotoMetricDistortion"}] if photometric else []),
        {"type": "Pad", "size": crop_size, "pad_val": pad_val, "seg_pad_val": 255},
    ]
    return tuple(transforms)


def evaluation_transforms(scale: Sequence[int] | None = None) -> tuple[dict[str, Any], ...]:
    """Resize the image only, if at all: scores are taken at the size of the labels."""
    resize = ({"type": "Resize", "scale": scale, "keep_ratio": True},) if scale is not None else ()
    return ({"type": "LoadImage"}, *resize, {"type": "LoadAnnotations"})


def sgd(lr: float = 0.01) -> dict[str, Any]:
    """SGD with momentum, as most convolutional recipes have it."""
    return optimizer("SGD", lr=lr, momentum=0.9, nesterov=False, weight_decay=0.0005)


def optimizer(kind: str, **fields: Any) -> dict[str, Any]:
    """`config.optimizer` of any type, with the fields all types have."""
    return {"type": kind, "clip_grad": placeholder(dict), "paramwise_cfg": placeholder(dict), **fields}


def poly(eta_min: float = 1e-4, power: float = 0.9, warmup_steps: int = 0) -> tuple[dict[str, Any], ...]:
    """Polynomial decay over the run, after a linear warm-up from 1e-6 if there is one."""
    warmup = ({"type": "LinearLR", "start_factor": 1e-6, "begin": 0, "end": warmup_steps},) if warmup_steps else ()
    return (*warmup, {"type": "PolyLR", "eta_min": eta_min, "power": power, "begin": warmup_steps})


def resnet(depth: int, stride: int = 8, variant: str = "ResNetV1c", **fields: Any) -> dict[str, Any]:
    """A ResNet of output stride 8, 16 or 32."""
    strides, dilations = {
        8: ((1, 2, 1, 1), (1, 1, 2, 4)),
        16: ((1, 2, 2, 1), (1, 1, 1, 2)),
        32: ((1, 2, 2, 2), (1, 1, 1, 1)),
    }[stride]
    return {
        "type": variant,
        "depth": depth,
        "num_stages": 4,
        "out_indices": (0, 1, 2, 3),
        "dilations": dilations,
        "strides": strides,
        "norm_cfg": dict(BN),
        "norm_eval": False,
        "style": "pytorch",
        "contract_dilation": True,
        "frozen_stages": -1,
        "with_cp": False,
    } | fields


def resnet_channels(depth: int) -> tuple[int, ...]:
    """Channels of the four stages."""
    return tuple((64 if depth < 50 else 256) * 2**i for i in range(4))


def head(kind: str, in_channels: Any, channels: int, num_classes: int | None, **fields: Any) -> dict[str, Any]:
    """A decode head with the fields that all heads have; `num_classes` None: as many as the data has."""
    return {
        "type": kind,
        "in_channels": in_channels,
        "in_index": 3,
        "channels": channels,
        "num_classes": placeholder(int) if num_classes is None else num_classes,
        "dropout_ratio": 0.1,
        "norm_cfg": dict(BN),
        "align_corners": False,
        "loss_decode": cross_entropy(),
        "ignore_index": 255,
        "sampler": None,
    } | fields


def auxiliary_fcn(in_channels: int, channels: int, num_classes: int | None, **fields: Any) -> dict[str, Any]:
    """The auxiliary head of most recipes: one convolution on the third stage, its loss times 0.4."""
    extra = {"in_index": 2, "num_convs": 1, "concat_input": False, "loss_decode": cross_entropy(0.4)}
    return head("FCNHead", in_channels, channels, num_classes, **(extra | fields))


def cross_entropy(loss_weight: float = 1.0, **fields: Any) -> dict[str, Any]:
    """Softmax cross entropy."""
    return {"type": "CrossEntropyLoss", "use_sigmoid": False, "loss_weight": loss_weight} | fields


def encoder_decoder(backbone: Mapping, decode_head: Mapping, auxiliary_head: Any = None, **fields: Any) -> dict:
    """`config.model`."""
    return {
        "type": "EncoderDecoder",
        "backbone": backbone,
        "decode_head": decode_head,
        "auxiliary_head": auxiliary_head,
        "test_cfg": {"mode": "whole"},
        "dtype": placeholder(str),
    } | fields


def no_recipe(name: str | None, known: Sequence[str]) -> ConfigError:
    """The error of a recipe file that has no recipe of this name."""
    if not known:
        return ConfigError(f"This recipe takes no name after the colon; got {name!r}.")
    if not name:
        return ConfigError("Give the name of a recipe after a colon: --config=FILE.py:NAME. " + did_you_mean("", known))
    return ConfigError(f"There is no recipe {name!r} in this file. {did_you_mean(name, known)}")


# Backbone (b: the plain ResNet, otherwise V1c) and thousands of steps of the usual Cityscapes runs.
CITYSCAPES_RUNS = (
    ("r18", 80), ("r50", 40), ("r50", 80), ("r101", 40), ("r101", 80), ("r18b", 80), ("r50b", 80), ("r101b", 80),
)  # fmt: skip


def cityscapes_recipes(
    name: str, model: Callable[..., dict], runs: Sequence[tuple[str, int]] = CITYSCAPES_RUNS
) -> dict[str, Callable[[], ConfigDict]]:
    """Recipes on Cityscapes with crops of 512x1024, by name.

    Args:
        name: Pattern of the names, with {backbone} and {thousands} of steps.
        model: `model(depth, variant, num_classes)`.
        runs: Pairs of backbone and thousands of steps.
    """

    def recipe(backbone: str, thousands: int) -> Callable[[], ConfigDict]:
        variant = "ResNet" if backbone.endswith("b") else "ResNetV1c"
        return lambda: cityscapes(model(int(backbone.strip("rb")), variant, 19), thousands)

    return {name.format(backbone=run[0], thousands=run[1]): recipe(*run) for run in runs}


def cityscapes(model: Mapping[str, Any], thousands: int) -> ConfigDict:
    """A model on Cityscapes: crops of 512x1024, SGD, polynomial decay; two images on each of four devices."""
    config = base()
    config.total_steps = 1000 * thousands
    config.evaluate_every = config.checkpoint_every = config.total_steps // 10
    config.data = data("Cityscapes", "data/cityscapes")
    config.data.train.transforms = training_transforms((2048, 1024), (512, 1024), pad_val=IMAGENET["mean"])
    config.data.val.transforms = config.data.test.transforms = evaluation_transforms((2048, 1024))
    config.data.test.split = "val"
    config.model = model
    config.optimizer = sgd()
    config.schedule = poly()
    return config


def named(recipes: Mapping[str, Callable[[], ConfigDict]], name: str | None) -> ConfigDict:
    """The recipe of that name.

    Raises:
        ConfigError: There is none; lists the nearest.
    """
    if name not in recipes:
        raise no_recipe(name, tuple(recipes))
    config = recipes[name]()
    config.name = name
    return config
