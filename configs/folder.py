"""Your own folder, images/{train,val} and annotations/{train,val}, and a choice of models for it.

python -m jaxseg.train --config=configs/folder.py --config.data.root=DIR --config.data.classes="('no', 'yes')"

The model is a name after a colon, `configs/folder.py:segformer_b0`, or --config.model_name=segformer_b0. Of models that
are published the crops and the optimizer are the reference's, for as many steps as here.
"""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from jaxseg.configs import common
from jaxseg.errors import ConfigError, did_you_mean

DEFAULT = "upernet_r18"
ADAM = {"type": "AdamW", "lr": 1e-3, "weight_decay": 0.01}


class Choice(NamedTuple):
    """A model for folders.

    Attributes:
        recipe: whose model and optimizer it has, in a file beside this one; None: `model` makes it.
        crop: (height, width).
        batch_size: images a step.
        model: makes `config.model`, of the channels of a ResNet-18.
        lr: of the optimizer, where it is not the recipe's.
        size_divisor: of images that it can take as they are; others get a border while they are predicted.
    """

    recipe: str | None
    crop: tuple[int, int] = (512, 512)
    batch_size: int = 8
    model: Callable[[], dict[str, Any]] | None = None
    lr: float | None = None
    size_divisor: int = 1


def _on_resnet18(kind: str, **fields: Any) -> Callable[[], dict[str, Any]]:
    """A head on a ResNet-18 of output stride 32, light enough for a laptop, and an auxiliary one."""

    def model() -> dict[str, Any]:
        channels = common.resnet_channels(18)
        several = "in_index" in fields
        return common.encoder_decoder(
            common.resnet(18, stride=32),
            common.head(kind, channels if several else channels[3], 128, None, **fields),
            common.auxiliary_fcn(channels[2], 64, None),
        )

    return model


_LAPTOP = {"recipe": None, "crop": (256, 256)}
MODELS: dict[str, Choice] = {
    "bisenetv2": Choice("bisenetv2.py:bisenetv2_fcn_4xb4-160k_cityscapes-1024x1024", batch_size=16, lr=0.05),
    "deeplabv3plus_r18": Choice("deeplabv3plus.py:deeplabv3plus_r18-d8_4xb2-80k_cityscapes-512x1024"),
    "deeplabv3plus_r50": Choice("deeplabv3plus.py:deeplabv3plus_r50-d8_4xb4-80k_ade20k-512x512"),
    "fcn_r18": Choice(**_LAPTOP, model=_on_resnet18("FCNHead", num_convs=1)),
    "mask2former_r50": Choice("mask2former.py:mask2former_r50_8xb2-160k_ade20k-512x512", size_divisor=32),
    "mask2former_swin_t": Choice("mask2former.py:mask2former_swin-t_8xb2-160k_ade20k-512x512", size_divisor=32),
    "pspnet_r18": Choice("pspnet.py:pspnet_r18-d8_4xb2-80k_cityscapes-512x1024"),
    "pspnet_r50": Choice("pspnet.py:pspnet_r50-d8_4xb4-80k_ade20k-512x512"),
    "segformer_b0": Choice("segformer.py:segformer_mit-b0_8xb2-160k_ade20k-512x512"),
    "segformer_b2": Choice("segformer.py:segformer_mit-b2_8xb2-160k_ade20k-512x512"),
    "segnext_t": Choice("segnext.py:segnext_mscan-t_1xb16-adamw-160k_ade20k-512x512"),
    "unet": Choice("unet.py:unet-s5-d16_fcn_4xb4-40k_hrf-256x256", crop=(256, 256), size_divisor=16),
    "upernet_convnext_t": Choice("convnext.py:convnext-tiny_upernet_8xb2-amp-160k_ade20k-512x512"),
    "upernet_r18": Choice(**_LAPTOP, model=_on_resnet18("UPerHead", in_index=(0, 1, 2, 3), pool_scales=(1, 2, 3, 6))),
    "upernet_r50": Choice("upernet.py:upernet_r50_4xb4-80k_ade20k-512x512"),
    "upernet_swin_t": Choice("swin.py:swin-tiny-patch4-window7-in1k-pre_upernet_8xb2-160k_ade20k-512x512"),
}


def get_config(arg: str | None = None) -> ConfigDict:
    """The recipe, with the model of this name; the number of classes follows from `data.classes`."""
    name = arg or DEFAULT
    if name not in MODELS:
        raise ConfigError(
            f"config.model_name is {name!r}, which this recipe does not have. {did_you_mean(name, MODELS)}"
        )
    choice = MODELS[name]
    config = common.base()
    config.name = "folder"
    config.model_name = name
    config.total_steps = 2000
    config.batch_size = choice.batch_size
    config.log_every = 20
    config.evaluate_every = 500
    config.checkpoint_every = 250
    config.optimizer = ADAM
    config.schedule = common.poly(eta_min=0.0, warmup_steps=100)
    if choice.recipe is None:
        config.model = choice.model()
    else:
        _take_over(config, choice)
    config.data = common.data("FolderDataset")
    config.data.train.transforms = common.training_transforms(
        None, choice.crop, pad_val=config.preprocess.mean, cat_max_ratio=1.0
    )
    config.data.val.transforms = config.data.test.transforms = common.evaluation_transforms()
    return config


def _take_over(config: ConfigDict, choice: Choice) -> None:
    """The model and the optimizer of a recipe, for whatever classes there are."""
    from jaxseg.config import load_recipe

    recipe = load_recipe(str(Path(__file__).parent / choice.recipe))
    config.model = recipe.model.to_dict()
    config.model.dtype = None
    config.model.test_cfg = {"mode": "whole", "size_divisor": choice.size_divisor}
    for head in common.heads(config):
        with head.ignore_type() if isinstance(head, ConfigDict) else contextlib.nullcontext():
            head["num_classes"] = None
            if (head.get("loss_cls") or {}).get("class_weight") is not None:
                head["loss_cls"]["class_weight"] = head["loss_cls"]["class_weight"][-1:]  # of queries without an object
    config.preprocess = recipe.preprocess.to_dict()
    config.optimizer = recipe.optimizer.to_dict()
    if choice.lr is not None:
        config.optimizer.lr = choice.lr
