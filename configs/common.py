"""What recipes share: the base config, its parts, the data sets, and the reading of the reference's recipe names.

`base()` has every field of a recipe, with its default. Other functions return parts of it, with what differs from the
defaults of modules, losses, transforms and optimizers, which are filled in when a recipe is loaded. `recipes()` makes
the recipes of a method of their names.
"""

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

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
            "model_name": placeholder(str),  # of recipes with a choice of models
            "seed": 0,  # of initial weights, order, augmentation and dropout
            "total_steps": 80000,
            "epoch_steps": placeholder(int),  # of schedules by epoch; None: as many as the training images fill
            "batch_size": 8,  # images a step, over all devices and processes
            "eval_batch_size": 8,
            "log_every": 50,
            "evaluate_every": 8000,
            "checkpoint_every": 8000,
            "checkpoint": {"keep": 2, "keep_best": 1, "metric": "mIoU"},
            "mesh": {"data": -1, "fsdp": 1},  # devices a parameter is copied to, and split over; -1: all others
            "init_from": placeholder(str),  # weights to start from: a folder, a file, a published name
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
        "image_dir2": placeholder(str),  # of second images
        "label_dir": placeholder(str),
        "image_suffix": placeholder(tuple),
        "image_suffix2": placeholder(tuple),
        "label_suffix": placeholder(tuple),
        "ignore_index": placeholder(int),
        "reduce_zero_label": placeholder(bool),
        "label_map": placeholder(dict),
        "masks": placeholder(str),  # what they hold: indices, binary, multi-label, colors
        "mask_colors": placeholder(dict),  # {colour: class}
        "channels": placeholder(int),  # of images that are read as they are stored; None: RGB of 8 bits
        "image_key": placeholder(str),  # of examples in array_record files
        "label_key": placeholder(str),
        "demo": {},  # of the generated set: size, train, val, test, seed
        "check": 1000,  # files of each part to look at before training
        "read_threads": 2,
        "num_workers": 0,  # 0: threads only, which is faster on few cores
        "train": {"split": "train", "split_file": placeholder(str), "sources": (), "transforms": ()},
        "val": {"split": "val", "split_file": placeholder(str), "sources": (), "transforms": ()},
        "test": {"split": "test", "split_file": placeholder(str), "sources": (), "transforms": ()},
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


def evaluation_transforms(
    scale: Sequence[int] | None = None, size_divisor: int | None = None
) -> tuple[dict[str, Any], ...]:
    """Resize the image only, if at all, and to multiples if asked to: scores are taken at the size of the labels."""
    resize = ({"type": "Resize", "scale": scale, "keep_ratio": True},) if scale is not None else ()
    multiple = ({"type": "ResizeToMultiple", "size_divisor": size_divisor},) if size_divisor is not None else ()
    return ({"type": "LoadImage"}, *resize, *multiple, {"type": "LoadAnnotations"})


def sgd(lr: float = 0.01, weight_decay: float = 0.0005) -> dict[str, Any]:
    """SGD with momentum, as most convolutional recipes have it."""
    return {"type": "SGD", "lr": lr, "momentum": 0.9, "weight_decay": weight_decay}


def poly(
    eta_min: float = 1e-4, power: float = 0.9, warmup_steps: int = 0, start_factor: float = 1e-6
) -> tuple[dict[str, Any], ...]:
    """Polynomial decay over the run, after a linear warm-up from `start_factor` if there is one."""
    first = {"type": "LinearLR", "start_factor": start_factor, "begin": 0, "end": warmup_steps}
    warmup = (first,) if warmup_steps else ()
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
        "dilations": dilations,
        "strides": strides,
        "norm_cfg": dict(BN),
        "contract_dilation": True,
    } | fields


def resnet_channels(depth: int) -> tuple[int, ...]:
    """Channels of the four stages."""
    return tuple((64 if depth < 50 else 256) * 2**i for i in range(4))


def head(kind: str, in_channels: Any, channels: int, num_classes: int | None, **fields: Any) -> dict[str, Any]:
    """A decode head on the last of four stages; `num_classes` None: as many as the data has."""
    return {
        "type": kind,
        "in_channels": in_channels,
        "in_index": 3,
        "channels": channels,
        "num_classes": placeholder(int) if num_classes is None else num_classes,
        "norm_cfg": dict(BN),
        "loss_decode": cross_entropy(),
    } | fields


def auxiliary_fcn(in_channels: int, channels: int, num_classes: int | None, **fields: Any) -> dict[str, Any]:
    """The auxiliary head of most recipes: one convolution on the third stage, its loss times 0.4."""
    extra = {"in_index": 2, "num_convs": 1, "concat_input": False, "loss_decode": cross_entropy(loss_weight=0.4)}
    return head("FCNHead", in_channels, channels, num_classes, **(extra | fields))


def on_resnet(kind: str, **fields: Any) -> Callable[["RecipeName"], dict[str, Any]]:
    """What most heads are published on, as `model` for `recipes`.

    Args:
        kind: The head on a ResNet's last stage, a quarter as wide as that; an auxiliary FCN head is on the third.
        fields: Of the head, where they are not its defaults.
    """

    def model(name: RecipeName) -> dict[str, Any]:
        backbone = name.resnet()
        channels = resnet_channels(backbone["depth"])
        return encoder_decoder(
            backbone,
            head(kind, channels[3], channels[3] // 4, name.num_classes, **fields),
            auxiliary_fcn(channels[2], channels[2] // 4, name.num_classes),
        )

    return model


def cross_entropy(**fields: Any) -> dict[str, Any]:
    """Softmax cross entropy."""
    return {"type": "CrossEntropyLoss", **fields}


def encoder_decoder(backbone: Mapping, decode_head: Mapping, auxiliary_head: Any = None, **fields: Any) -> dict:
    """`config.model`."""
    parts = {"backbone": backbone, "decode_head": decode_head, "auxiliary_head": auxiliary_head}
    return {"type": "EncoderDecoder", **parts, **fields}


def no_recipe(name: str | None, known: Sequence[str]) -> ConfigError:
    """The error of a recipe file that has no recipe of this name."""
    if not known:
        return ConfigError(f"This recipe takes no name after the colon; got {name!r}.")
    if not name:
        return ConfigError("Give the name of a recipe after a colon: --config=FILE.py:NAME. " + did_you_mean("", known))
    return ConfigError(f"There is no recipe {name!r} in this file. {did_you_mean(name, known)}")


class Benchmark(NamedTuple):
    """How the reference trains and tests on a data set.

    Attributes:
        dataset: row of `jaxseg.data.datasets.DATASETS`.
        root: its folder.
        scale: (width, height) that images are resized to, times a random factor in training.
        test_scale: the same for evaluation; None: `scale`.
        pad_val: what fills crops that are too small; None: the mean, which is 0 after preprocessing.
        head: fields of all heads.
        test_cfg: how whole images are predicted.
        optimizer: fields of `sgd`.
        metric: what the best checkpoint is by.
    """

    dataset: str
    root: str
    scale: tuple[int, int]
    test_scale: tuple[int, int] | None = None
    pad_val: float | None = None
    head: Mapping[str, Any] = {}
    test_cfg: Mapping[str, Any] = {"mode": "whole"}
    optimizer: Mapping[str, Any] = {}
    metric: str = "mIoU"


def _vessels(dataset: str, root: str, scale: tuple[int, int], crop: int, stride: int) -> Benchmark:
    """Photographs of the retina."""
    test_cfg = {"mode": "slide", "crop_size": (crop, crop), "stride": (stride, stride)}
    return Benchmark(dataset, root, scale, test_cfg=test_cfg, metric="mDice")


_CONTEXT = {
    "root": "data/VOCdevkit/VOC2010",
    "scale": (520, 520),
    "test_cfg": {"mode": "slide", "crop_size": (480, 480), "stride": (320, 320)},
    "optimizer": {"lr": 0.004, "weight_decay": 0.0001},
}

# By their names in names of recipes. DATASET-CROP is for crops of that size, where they are treated otherwise.
BENCHMARKS = {
    "ade20k": Benchmark("ADE20K", "data/ade/ADEChallengeData2016", (2048, 512)),
    "ade20k-640": Benchmark("ADE20K", "data/ade/ADEChallengeData2016", (2048, 640)),
    "ade20k-640x640": Benchmark("ADE20K", "data/ade/ADEChallengeData2016", (2560, 640)),
    "chase-db1": _vessels("ChaseDB1", "data/CHASE_DB1", (960, 999), 128, 85),
    "cityscapes": Benchmark("Cityscapes", "data/cityscapes", (2048, 1024)),
    "cityscapes-768x768": Benchmark("Cityscapes", "data/cityscapes", (2049, 1025)),
    "cityscapes-769x769": Benchmark(
        "Cityscapes",
        "data/cityscapes",
        (2049, 1025),
        head={"align_corners": True},
        test_cfg={"mode": "slide", "crop_size": (769, 769), "stride": (513, 513)},
    ),
    "coco-stuff10k": Benchmark("COCOStuff10k", "data/coco_stuff10k", (2048, 512)),
    "coco-stuff164k": Benchmark("COCOStuff164k", "data/coco_stuff164k", (2048, 512)),
    "drive": _vessels("DRIVE", "data/DRIVE", (584, 565), 64, 42),
    "hrf": _vessels("HRF", "data/HRF", (2336, 3504), 256, 170),
    "isaid": Benchmark("iSAID", "data/iSAID", (896, 896)),
    "levir": Benchmark("LEVIRCD", "data/LEVIRCD", (256, 256)),
    "loveda": Benchmark("LoveDA", "data/loveDA", (2048, 512), test_scale=(1024, 1024)),
    "mapillary": Benchmark("MapillaryV1", "data/mapillary", (2048, 1024)),
    "pascal-context": Benchmark("PascalContext", **_CONTEXT),
    "pascal-context-59": Benchmark("PascalContext59", **_CONTEXT),
    "potsdam": Benchmark("Potsdam", "data/potsdam", (512, 512)),
    "stare": _vessels("STARE", "data/STARE", (605, 700), 128, 85),
    "vaihingen": Benchmark("Vaihingen", "data/vaihingen", (512, 512)),
    "voc12aug": Benchmark("PascalVOC12Aug", "data/VOCdevkit/VOC2012", (2048, 512), pad_val=0),
}
# Sets to test on that are not the one trained on: fields of `config.data.test`.
TEST_SETS = {
    "dark-zurich": {"dataset": "DarkZurich", "root": "data/dark_zurich", "split": "val"},
    "night-driving": {"dataset": "NightDriving", "root": "data/NighttimeDrivingTest", "split": "test"},
}

_NAME = re.compile(
    r"(?P<method>[^_]+)_(?P<backbone>[a-z]+\d*[a-z]*)(-d(?P<stride>\d+))?(?P<variant>([-_][a-z][a-z\d]*)*)"
    r"_(?P<devices>\d+)xb(?P<images>\d+)(?P<options>(-[a-z]+)*)-(?P<thousands>\d+)k"
    r"_(?P<dataset>[a-z][a-z\d-]*?)-(?P<crop>\d+x\d+)(_(?P<test_set>[a-z-]+)-(?P<test_scale>\d+x\d+))?"
)
_GRAMMAR = (
    "METHOD_BACKBONE[-dSTRIDE][-WORD]_DEVICESxbIMAGES[-WORD]-THOUSANDSk_DATASET-HEIGHTxWIDTH[_TESTSET-WIDTHxHEIGHT]"
)


class RecipeName(NamedTuple):
    """What the reference's name of a recipe says.

    Attributes:
        method: such as "pspnet", or "fcn-d6" for a variant.
        backbone: such as "r50b"; where the method is the backbone ("cgnet_fcn"), the head.
        stride: output stride of the backbone, where it is said.
        words: what else is said, such as "amp".
        devices: how many the batch is spread over.
        images: in a step, on each device.
        thousands: of steps.
        dataset: key of `BENCHMARKS`.
        crop: (height, width).
        test_set: key of `TEST_SETS`; None: the data set's own.
        test_scale: (width, height) for it.
    """

    method: str
    backbone: str
    stride: int | None
    words: tuple[str, ...]
    devices: int
    images: int
    thousands: int
    dataset: str
    crop: tuple[int, int]
    test_set: str | None = None
    test_scale: tuple[int, int] | None = None

    @property
    def benchmark(self) -> Benchmark:
        """How crops of this size of the data set are treated."""
        height, width = self.crop
        return BENCHMARKS.get(f"{self.dataset}-{height}x{width}", BENCHMARKS[self.dataset])

    @property
    def num_classes(self) -> int:
        """As many as the data set has."""
        from jaxseg.data.datasets import DATASETS

        return len(DATASETS[self.benchmark.dataset].classes)

    def resnet(self, **fields: Any) -> dict[str, Any]:
        """The backbone of a name such as "r50-d8": a ResNet-V1c, or with a "b" the plain one.

        Raises:
            ConfigError: It is not a ResNet.
        """
        match = re.fullmatch(r"r(\d+)(b?)", self.backbone)
        if match is None:
            raise ConfigError(f"ResNets are named as r50, or r50b for the plain one; {self.backbone!r} is not.")
        return resnet(int(match[1]), self.stride or 32, "ResNet" if match[2] else "ResNetV1c", **fields)


def parse_name(name: str) -> RecipeName:
    """Reads a name such as "pspnet_r50-d8_4xb2-40k_cityscapes-512x1024".

    Raises:
        ConfigError: It reads otherwise, or its data set or test set is not known.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise ConfigError(f"Names of recipes read {_GRAMMAR}; {name!r} does not.")
    said = match.groupdict()
    for field, known in (("dataset", BENCHMARKS), ("test_set", TEST_SETS)):
        if said[field] is not None and said[field] not in known:
            raise ConfigError(f"{name}: the data set {said[field]!r} is not known. {did_you_mean(said[field], known)}")
    words = tuple(re.findall(r"[a-z\d]+", said.pop("variant") + said.pop("options")))
    numbers = {field: int(said[field]) for field in ("stride", "devices", "images", "thousands") if said[field]}
    sizes = {field: _size(said[field]) for field in ("crop", "test_scale") if said[field]}
    return RecipeName(**(said | numbers | sizes), words=words)


def _size(text: str) -> tuple[int, int]:
    first, second = text.split("x")
    return int(first), int(second)


def mixed_precision(config: ConfigDict) -> None:
    """Computes in bfloat16."""
    config.model.dtype = "bfloat16"


Change = Callable[[ConfigDict], None]
WORDS: dict[str, Change] = {"amp": mixed_precision}
# Words of recipes that start from weights for ImageNet, which changes nothing: those are given by path, as `init_from`.
PRETRAINED: dict[str, Change] = dict.fromkeys(("in1k", "pre"), lambda config: None)


def heads(config: ConfigDict) -> list[dict[str, Any]]:
    """All heads of a recipe's model, to be changed in place."""
    parts = (config.model.get(name) for name in ("decode_head", "auxiliary_head"))
    return [head for part in parts for head in (part if isinstance(part, tuple | list) else [part]) if head is not None]


def recipes(
    names: str,
    model: Callable[[RecipeName], dict],
    changes: Mapping[str, Change] | None = None,
    preprocess: Mapping[str, Sequence[float]] = IMAGENET,
    spelled: Mapping[str, str] | None = None,
) -> dict[str, Callable[[], ConfigDict]]:
    """Recipes by the reference's names.

    Args:
        names: The names, with white space between them.
        model: Makes `config.model` of a name.
        changes: What is special: functions that change the config, by the method, a word or the whole of a name.
        preprocess: Mean and standard deviation of the images.
        spelled: Names that don't follow the grammar, and how they would read if they did.
    """
    spelled = spelled or {}
    return {
        name: functools.partial(recipe, name, spelled.get(name, name), model, changes or {}, preprocess)
        for name in names.split()
    }


def recipe(
    name: str,
    spelled: str,
    model: Callable[[RecipeName], dict],
    changes: Mapping[str, Change],
    preprocess: Mapping[str, Sequence[float]],
) -> ConfigDict:
    """The recipe of a name: SGD, polynomial decay, ten evaluations, and what `changes` has; as for `recipes`.

    Raises:
        ConfigError: The name can't be read, or has a word that means nothing.
    """
    said = parse_name(spelled)
    changes = WORDS | dict(changes)
    if unknown := [word for word in said.words if word not in changes]:
        raise ConfigError(f"{name}: {unknown[0]!r} means nothing here. {did_you_mean(unknown[0], changes)}")
    benchmark = said.benchmark
    config = base()
    config.total_steps = 1000 * said.thousands
    config.evaluate_every = config.checkpoint_every = config.total_steps // 10
    config.batch_size = said.devices * said.images
    config.checkpoint.metric = benchmark.metric
    config.preprocess = preprocess
    config.data = data(benchmark.dataset, benchmark.root)
    pad_val = preprocess["mean"] if benchmark.pad_val is None else benchmark.pad_val
    config.data.train.transforms = training_transforms(benchmark.scale, said.crop, pad_val)
    test_scale = benchmark.test_scale or benchmark.scale
    config.data.val.transforms = evaluation_transforms(test_scale)
    config.data.test.transforms = evaluation_transforms(said.test_scale or test_scale)
    config.data.test.update({"split": "val"} if said.test_set is None else TEST_SETS[said.test_set])
    config.model = model(said)
    config.model.test_cfg = benchmark.test_cfg
    for part in heads(config):
        part.update(benchmark.head)
    config.optimizer = sgd(**benchmark.optimizer)
    config.schedule = poly()
    for key in (said.method, *said.words, name):
        if key in changes:
            changes[key](config)
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
