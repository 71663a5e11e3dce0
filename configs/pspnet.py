"""PSPNet (Zhao et al. 2017) with ResNets: the reference's recipes by their names."""

from collections.abc import Mapping

from ml_collections import ConfigDict

from jaxseg.configs import common


def model(backbone: Mapping, num_classes: int) -> dict:
    """Pyramid pooling on the last stage, an auxiliary FCN head on the third."""
    channels = common.resnet_channels(backbone["depth"])
    return common.encoder_decoder(
        backbone,
        common.head("PSPHead", channels[3], channels[3] // 4, num_classes),
        common.auxiliary_fcn(channels[2], channels[2] // 4, num_classes),
    )


def named_model(name: common.RecipeName) -> dict:
    """The model of a recipe; backbones of stride 32 are dilated as those of stride 8 are."""
    return model(name.resnet(dilations=(1, 1, 2, 4)), name.num_classes)


def rsb(config: ConfigDict) -> None:
    """A plain ResNet, for weights of "ResNet strikes back" (Wightman et al. 2021)."""
    config.model.backbone.type = "ResNet"


def adamw(config: ConfigDict) -> None:
    """AdamW, a warm-up, and a rate that is divided by ten twice."""
    clip_grad = {"max_norm": 1, "norm_type": 2}
    config.optimizer = {"type": "AdamW", "lr": 0.0005, "weight_decay": 0.05, "clip_grad": clip_grad}
    config.schedule = (
        {"type": "LinearLR", "start_factor": 0.001, "begin": 0, "end": 1000},
        {"type": "MultiStepLR", "begin": 1000, "milestones": (60000, 72000)},
    )


NAMES = """
pspnet_r18-d8_4xb2-80k_cityscapes-512x1024
pspnet_r18-d8_4xb2-80k_cityscapes-769x769
pspnet_r18-d8_4xb4-80k_isaid-896x896
pspnet_r18-d8_4xb4-80k_loveda-512x512
pspnet_r18-d8_4xb4-80k_potsdam-512x512
pspnet_r18-d8_4xb4-80k_vaihingen-512x512
pspnet_r18b-d8_4xb2-80k_cityscapes-512x1024
pspnet_r18b-d8_4xb2-80k_cityscapes-769x769
pspnet_r50-d8-rsb_4xb2-adamw-80k_cityscapes-512x1024
pspnet_r50-d8_4xb2-40k_cityscapes-512x1024
pspnet_r50-d8_4xb2-40k_cityscapes-512x1024_dark-zurich-1920x1080
pspnet_r50-d8_4xb2-40k_cityscapes-512x1024_night-driving-1920x1080
pspnet_r50-d8_4xb2-40k_cityscapes-769x769
pspnet_r50-d8_4xb2-80k_cityscapes-512x1024
pspnet_r50-d8_4xb2-80k_cityscapes-512x1024_dark-zurich-1920x1080
pspnet_r50-d8_4xb2-80k_cityscapes-512x1024_night-driving-1920x1080
pspnet_r50-d8_4xb2-80k_cityscapes-769x769
pspnet_r50-d8_4xb4-20k_coco-stuff10k-512x512
pspnet_r50-d8_4xb4-20k_voc12aug-512x512
pspnet_r50-d8_4xb4-40k_coco-stuff10k-512x512
pspnet_r50-d8_4xb4-40k_pascal-context-59-480x480
pspnet_r50-d8_4xb4-40k_pascal-context-480x480
pspnet_r50-d8_4xb4-40k_voc12aug-512x512
pspnet_r50-d8_4xb4-80k_ade20k-512x512
pspnet_r50-d8_4xb4-80k_coco-stuff164k-512x512
pspnet_r50-d8_4xb4-80k_isaid-896x896
pspnet_r50-d8_4xb4-80k_loveda-512x512
pspnet_r50-d8_4xb4-80k_pascal-context-59-480x480
pspnet_r50-d8_4xb4-80k_pascal-context-480x480
pspnet_r50-d8_4xb4-80k_potsdam-512x512
pspnet_r50-d8_4xb4-80k_vaihingen-512x512
pspnet_r50-d8_4xb4-160k_ade20k-512x512
pspnet_r50-d8_4xb4-160k_coco-stuff164k-512x512
pspnet_r50-d8_4xb4-320k_coco-stuff164k-512x512
pspnet_r50-d32_4xb2-80k_cityscapes-512x1024
pspnet_r50-d32_rsb_4xb2-adamw-80k_cityscapes-512x1024
pspnet_r50b-d8_4xb2-80k_cityscapes-512x1024
pspnet_r50b-d8_4xb2-80k_cityscapes-769x769
pspnet_r50b-d32_4xb2-80k_cityscapes-512x1024
pspnet_r101-d8_4xb2-40k_cityscapes-512x1024
pspnet_r101-d8_4xb2-40k_cityscapes-512x1024_dark-zurich-1920x1080
pspnet_r101-d8_4xb2-40k_cityscapes-512x1024_night-driving-1920x1080
pspnet_r101-d8_4xb2-40k_cityscapes-769x769
pspnet_r101-d8_4xb2-80k_cityscapes-512x1024
pspnet_r101-d8_4xb2-80k_cityscapes-769x769
pspnet_r101-d8_4xb2-amp-80k_cityscapes-512x1024
pspnet_r101-d8_4xb4-20k_coco-stuff10k-512x512
pspnet_r101-d8_4xb4-20k_voc12aug-512x512
pspnet_r101-d8_4xb4-40k_coco-stuff10k-512x512
pspnet_r101-d8_4xb4-40k_pascal-context-59-480x480
pspnet_r101-d8_4xb4-40k_pascal-context-480x480
pspnet_r101-d8_4xb4-40k_voc12aug-512x512
pspnet_r101-d8_4xb4-80k_ade20k-512x512
pspnet_r101-d8_4xb4-80k_coco-stuff164k-512x512
pspnet_r101-d8_4xb4-80k_loveda-512x512
pspnet_r101-d8_4xb4-80k_pascal-context-59-480x480
pspnet_r101-d8_4xb4-80k_pascal-context-480x480
pspnet_r101-d8_4xb4-80k_potsdam-512x512
pspnet_r101-d8_4xb4-80k_vaihingen-512x512
pspnet_r101-d8_4xb4-160k_ade20k-512x512
pspnet_r101-d8_4xb4-160k_coco-stuff164k-512x512
pspnet_r101-d8_4xb4-320k_coco-stuff164k-512x512
pspnet_r101b-d8_4xb2-80k_cityscapes-512x1024
pspnet_r101b-d8_4xb2-80k_cityscapes-512x1024_dark-zurich-1920x1080
pspnet_r101b-d8_4xb2-80k_cityscapes-512x1024_night-driving-1920x1080
pspnet_r101b-d8_4xb2-80k_cityscapes-769x769
"""
RECIPES = common.recipes(NAMES, named_model, {"rsb": rsb, "adamw": adamw})


def get_config(arg: str | None = None) -> ConfigDict:
    """The recipe of that name."""
    return common.named(RECIPES, arg)
