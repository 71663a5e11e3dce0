"""DeepLabV3+ (Chen et al. 2018) with ResNets: the reference's recipes by their names."""

from ml_collections import ConfigDict

from jaxseg.configs import common
from jaxseg.configs.deeplabv3 import mg124
from jaxseg.configs.fcn import half_as_long
from jaxseg.data.datasets import DATASETS


def mapillary_v1_65(config: ConfigDict) -> None:
    """The classes of Mapillary Vistas without "Unlabeled", and AdamW with a smaller rate for the backbone.

    Smaller crops than the name says are padded to the size it says: so it is in the reference's file.
    """
    for transform in config.data.train.transforms:
        if transform["type"] == "RandomCrop":
            transform["crop_size"] = (512, 1024)
    info = DATASETS["MapillaryV1"]
    config.data.update(classes=info.classes[:65], palette=info.palette[:65])
    for head in common.heads(config):
        head["num_classes"] = 65
    config.optimizer = {
        "type": "AdamW",
        "lr": 0.0001,
        "betas": (0.9, 0.999),
        "weight_decay": 0.0001,
        "clip_grad": {"max_norm": 0.01, "norm_type": 2},
        "paramwise_cfg": {"custom_keys": {"backbone": {"lr_mult": 0.1, "decay_mult": 1.0}}},
    }
    config.schedule = common.poly(eta_min=0)


def model(name: common.RecipeName) -> dict:
    """The head on the last stage with details of the first, an auxiliary FCN head on the third."""
    width = common.resnet_channels(name.resnet()["depth"])[0]
    pyramid = {"dilations": (1, 12, 24, 36), "c1_in_channels": width, "c1_channels": width * 3 // 16}
    return common.on_resnet("DepthwiseSeparableASPPHead", **pyramid)(name)


NAMES = """
deeplabv3plus_r101-d16-mg124_4xb2-40k_cityscapes-512x1024
deeplabv3plus_r101-d16-mg124_4xb2-80k_cityscapes-512x1024
deeplabv3plus_r101-d8_4xb2-40k_cityscapes-512x1024
deeplabv3plus_r101-d8_4xb2-40k_cityscapes-769x769
deeplabv3plus_r101-d8_4xb2-80k_cityscapes-512x1024
deeplabv3plus_r101-d8_4xb2-80k_cityscapes-769x769
deeplabv3plus_r101-d8_4xb2-amp-80k_cityscapes-512x1024
deeplabv3plus_r101-d8_4xb4-160k_ade20k-512x512
deeplabv3plus_r101-d8_4xb4-20k_voc12aug-512x512
deeplabv3plus_r101-d8_4xb4-40k_pascal-context-480x480
deeplabv3plus_r101-d8_4xb4-40k_pascal-context-59-480x480
deeplabv3plus_r101-d8_4xb4-40k_voc12aug-512x512
deeplabv3plus_r101-d8_4xb4-80k_ade20k-512x512
deeplabv3plus_r101-d8_4xb4-80k_loveda-512x512
deeplabv3plus_r101-d8_4xb4-80k_pascal-context-480x480
deeplabv3plus_r101-d8_4xb4-80k_pascal-context-59-480x480
deeplabv3plus_r101-d8_4xb4-80k_potsdam-512x512
deeplabv3plus_r101-d8_4xb4-80k_vaihingen-512x512
deeplabv3plus_r101b-d8_4xb2-80k_cityscapes-512x1024
deeplabv3plus_r101b-d8_4xb2-80k_cityscapes-769x769
deeplabv3plus_r18-d8_4xb2-80k_cityscapes-512x1024
deeplabv3plus_r18-d8_4xb2-80k_cityscapes-769x769
deeplabv3plus_r18-d8_4xb4-80k_isaid-896x896
deeplabv3plus_r18-d8_4xb4-80k_loveda-512x512
deeplabv3plus_r18-d8_4xb4-80k_potsdam-512x512
deeplabv3plus_r18-d8_4xb4-80k_vaihingen-512x512
deeplabv3plus_r18b-d8_4xb2-80k_cityscapes-512x1024
deeplabv3plus_r18b-d8_4xb2-80k_cityscapes-769x769
deeplabv3plus_r50-d8_4xb2-300k_mapillay_v1_65-1280x1280
deeplabv3plus_r50-d8_4xb2-40k_cityscapes-512x1024
deeplabv3plus_r50-d8_4xb2-40k_cityscapes-769x769
deeplabv3plus_r50-d8_4xb2-80k_cityscapes-512x1024
deeplabv3plus_r50-d8_4xb2-80k_cityscapes-769x769
deeplabv3plus_r50-d8_4xb4-160k_ade20k-512x512
deeplabv3plus_r50-d8_4xb4-20k_voc12aug-512x512
deeplabv3plus_r50-d8_4xb4-40k_pascal-context-480x480
deeplabv3plus_r50-d8_4xb4-40k_pascal-context-59-480x480
deeplabv3plus_r50-d8_4xb4-40k_voc12aug-512x512
deeplabv3plus_r50-d8_4xb4-80k_ade20k-512x512
deeplabv3plus_r50-d8_4xb4-80k_isaid-896x896
deeplabv3plus_r50-d8_4xb4-80k_loveda-512x512
deeplabv3plus_r50-d8_4xb4-80k_pascal-context-480x480
deeplabv3plus_r50-d8_4xb4-80k_pascal-context-59-480x480
deeplabv3plus_r50-d8_4xb4-80k_potsdam-512x512
deeplabv3plus_r50-d8_4xb4-80k_vaihingen-512x512
deeplabv3plus_r50b-d8_4xb2-80k_cityscapes-512x1024
deeplabv3plus_r50b-d8_4xb2-80k_cityscapes-769x769
"""
MAPILLARY = "deeplabv3plus_r50-d8_4xb2-300k_mapillay_v1_65-1280x1280"
SPELLED = {MAPILLARY: "deeplabv3plus_r50-d8_4xb2-300k_mapillary-1280x1280"}
CHANGES = {
    "mg124": mg124,
    "deeplabv3plus_r18b-d8_4xb2-80k_cityscapes-769x769": half_as_long,
    MAPILLARY: mapillary_v1_65,
}
RECIPES = common.recipes(NAMES, model, CHANGES, spelled=SPELLED)


def get_config(arg: str | None = None) -> ConfigDict:
    """The recipe of that name."""
    return common.named(RECIPES, arg)
