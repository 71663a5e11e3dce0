"""UPerNet (Xiao et al. 2018) with ResNets: the reference's recipes by their names."""

from collections.abc import Mapping

from ml_collections import ConfigDict

from jaxseg.configs import common


def model(backbone: Mapping, num_classes: int) -> dict:
    """A pooled feature pyramid on all stages, an auxiliary FCN head on the third."""
    channels = common.resnet_channels(backbone["depth"])
    return common.encoder_decoder(
        backbone,
        common.head("UPerHead", channels, 512, num_classes, in_index=(0, 1, 2, 3)),
        common.auxiliary_fcn(channels[2], 256, num_classes),
    )


NAMES = """
upernet_r18_4xb2-40k_cityscapes-512x1024
upernet_r18_4xb2-80k_cityscapes-512x1024
upernet_r18_4xb4-20k_voc12aug-512x512
upernet_r18_4xb4-40k_voc12aug-512x512
upernet_r18_4xb4-80k_ade20k-512x512
upernet_r18_4xb4-160k_ade20k-512x512
upernet_r50_4xb2-40k_cityscapes-512x1024
upernet_r50_4xb2-40k_cityscapes-769x769
upernet_r50_4xb2-80k_cityscapes-512x1024
upernet_r50_4xb2-80k_cityscapes-769x769
upernet_r50_4xb4-20k_voc12aug-512x512
upernet_r50_4xb4-40k_voc12aug-512x512
upernet_r50_4xb4-80k_ade20k-512x512
upernet_r50_4xb4-160k_ade20k-512x512
upernet_r101_4xb2-40k_cityscapes-512x1024
upernet_r101_4xb2-40k_cityscapes-769x769
upernet_r101_4xb2-80k_cityscapes-512x1024
upernet_r101_4xb2-80k_cityscapes-769x769
upernet_r101_4xb4-20k_voc12aug-512x512
upernet_r101_4xb4-40k_voc12aug-512x512
upernet_r101_4xb4-80k_ade20k-512x512
upernet_r101_4xb4-160k_ade20k-512x512
"""
RECIPES = common.recipes(NAMES, lambda name: model(name.resnet(), name.num_classes))


def get_config(arg: str | None = None) -> ConfigDict:
    """The recipe of that name."""
    return common.named(RECIPES, arg)
