"""GCNet (Cao et al. 2019) with ResNets: the reference's recipes by their names."""

from ml_collections import ConfigDict

from jaxseg.configs import common


def named_model(name: common.RecipeName) -> dict:
    """The global context on the last stage, an auxiliary FCN head on the third."""
    backbone = name.resnet()
    channels = common.resnet_channels(backbone["depth"])
    return common.encoder_decoder(
        backbone,
        common.head("GCHead", channels[3], channels[3] // 4, name.num_classes),
        common.auxiliary_fcn(channels[2], channels[2] // 4, name.num_classes),
    )


NAMES = """
gcnet_r101-d8_4xb2-40k_cityscapes-512x1024
gcnet_r101-d8_4xb2-40k_cityscapes-769x769
gcnet_r101-d8_4xb2-80k_cityscapes-512x1024
gcnet_r101-d8_4xb2-80k_cityscapes-769x769
gcnet_r101-d8_4xb4-160k_ade20k-512x512
gcnet_r101-d8_4xb4-20k_voc12aug-512x512
gcnet_r101-d8_4xb4-40k_voc12aug-512x512
gcnet_r101-d8_4xb4-80k_ade20k-512x512
gcnet_r50-d8_4xb2-40k_cityscapes-512x1024
gcnet_r50-d8_4xb2-40k_cityscapes-769x769
gcnet_r50-d8_4xb2-80k_cityscapes-512x1024
gcnet_r50-d8_4xb2-80k_cityscapes-769x769
gcnet_r50-d8_4xb4-160k_ade20k-512x512
gcnet_r50-d8_4xb4-20k_voc12aug-512x512
gcnet_r50-d8_4xb4-40k_voc12aug-512x512
gcnet_r50-d8_4xb4-80k_ade20k-512x512
"""
RECIPES = common.recipes(NAMES, named_model)


def get_config(arg: str | None = None) -> ConfigDict:
    """The recipe of that name."""
    return common.named(RECIPES, arg)
