"""EncNet (Zhang et al. 2018) with ResNets: the reference's recipes by their names."""

from ml_collections import ConfigDict

from jaxseg.configs import common


def model(name: common.RecipeName) -> dict:
    """An encoding of the last of three stages; the stem of "r50s" is twice as wide."""
    wide = name.backbone.endswith("s")
    backbone = name._replace(backbone=name.backbone.rstrip("s")).resnet(**({"stem_channels": 128} if wide else {}))
    channels = common.resnet_channels(backbone["depth"])
    return common.encoder_decoder(
        backbone,
        common.head("EncHead", channels[1:], channels[3] // 4, name.num_classes, in_index=(1, 2, 3)),
        common.auxiliary_fcn(channels[2], channels[2] // 4, name.num_classes),
    )


NAMES = """
encnet_r101-d8_4xb2-40k_cityscapes-512x1024
encnet_r101-d8_4xb2-40k_cityscapes-769x769
encnet_r101-d8_4xb2-80k_cityscapes-512x1024
encnet_r101-d8_4xb2-80k_cityscapes-769x769
encnet_r101-d8_4xb4-160k_ade20k-512x512
encnet_r101-d8_4xb4-20k_voc12aug-512x512
encnet_r101-d8_4xb4-40k_voc12aug-512x512
encnet_r101-d8_4xb4-80k_ade20k-512x512
encnet_r50-d8_4xb2-40k_cityscapes-512x1024
encnet_r50-d8_4xb2-40k_cityscapes-769x769
encnet_r50-d8_4xb2-80k_cityscapes-512x1024
encnet_r50-d8_4xb2-80k_cityscapes-769x769
encnet_r50-d8_4xb4-160k_ade20k-512x512
encnet_r50-d8_4xb4-20k_voc12aug-512x512
encnet_r50-d8_4xb4-40k_voc12aug-512x512
encnet_r50-d8_4xb4-80k_ade20k-512x512
encnet_r50s-d8_4xb4-80k_ade20k-512x512
"""
RECIPES = common.recipes(NAMES, model)


def get_config(arg: str | None = None) -> ConfigDict:
    """The recipe of that name."""
    return common.named(RECIPES, arg)
