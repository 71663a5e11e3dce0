"""FCN (Long et al. 2015) with dilated ResNets: the reference's recipes by their names."""

from collections.abc import Mapping

from ml_collections import ConfigDict

from jaxseg.configs import common


def model(backbone: Mapping, num_classes: int, dilation: int = 1) -> dict:
    """Two convolutions on the last stage, an auxiliary head on the third."""
    channels = common.resnet_channels(backbone["depth"])
    return common.encoder_decoder(
        backbone,
        common.head("FCNHead", channels[3], channels[3] // 4, num_classes, num_convs=2, dilation=dilation),
        common.auxiliary_fcn(channels[2], channels[2] // 4, num_classes, dilation=dilation),
    )


def named_model(name: common.RecipeName) -> dict:
    """The model of a recipe; heads of "fcn-d6" see further."""
    return model(name.resnet(), name.num_classes, dilation={"fcn": 1, "fcn-d6": 6}[name.method])


def half_as_long(config: ConfigDict) -> None:
    """40,000 steps: what the reference's file says, though not its name."""
    config.total_steps = 40000
    config.evaluate_every = config.checkpoint_every = 4000


NAMES = """
fcn-d6_r50-d16_4xb2-40k_cityscapes-512x1024
fcn-d6_r50-d16_4xb2-40k_cityscapes-769x769
fcn-d6_r50-d16_4xb2-80k_cityscapes-512x1024
fcn-d6_r50-d16_4xb2-80k_cityscapes-769x769
fcn-d6_r50b-d16_4xb2-80k_cityscapes-512x1024
fcn-d6_r50b-d16_4xb2-80k_cityscapes-769x769
fcn-d6_r101-d16_4xb2-40k_cityscapes-512x1024
fcn-d6_r101-d16_4xb2-40k_cityscapes-769x769
fcn-d6_r101-d16_4xb2-80k_cityscapes-512x1024
fcn-d6_r101-d16_4xb2-80k_cityscapes-769x769
fcn-d6_r101b-d16_4xb2-80k_cityscapes-512x1024
fcn-d6_r101b-d16_4xb2-80k_cityscapes-769x769
fcn_r18-d8_4xb2-80k_cityscapes-512x1024
fcn_r18-d8_4xb2-80k_cityscapes-769x769
fcn_r18b-d8_4xb2-80k_cityscapes-512x1024
fcn_r18b-d8_4xb2-80k_cityscapes-769x769
fcn_r50-d8_4xb2-40k_cityscapes-512x1024
fcn_r50-d8_4xb2-40k_cityscapes-769x769
fcn_r50-d8_4xb2-80k_cityscapes-512x1024
fcn_r50-d8_4xb2-80k_cityscapes-769x769
fcn_r50-d8_4xb4-20k_voc12aug-512x512
fcn_r50-d8_4xb4-40k_pascal-context-59-480x480
fcn_r50-d8_4xb4-40k_pascal-context-480x480
fcn_r50-d8_4xb4-40k_voc12aug-512x512
fcn_r50-d8_4xb4-80k_ade20k-512x512
fcn_r50-d8_4xb4-80k_pascal-context-59-480x480
fcn_r50-d8_4xb4-80k_pascal-context-480x480
fcn_r50-d8_4xb4-160k_ade20k-512x512
fcn_r50b-d8_4xb2-80k_cityscapes-512x1024
fcn_r50b-d8_4xb2-80k_cityscapes-769x769
fcn_r101-d8_4xb2-40k_cityscapes-512x1024
fcn_r101-d8_4xb2-40k_cityscapes-769x769
fcn_r101-d8_4xb2-80k_cityscapes-512x1024
fcn_r101-d8_4xb2-80k_cityscapes-769x769
fcn_r101-d8_4xb2-amp-80k_cityscapes-512x1024
fcn_r101-d8_4xb4-20k_voc12aug-512x512
fcn_r101-d8_4xb4-40k_pascal-context-59-480x480
fcn_r101-d8_4xb4-40k_pascal-context-480x480
fcn_r101-d8_4xb4-40k_voc12aug-512x512
fcn_r101-d8_4xb4-80k_ade20k-512x512
fcn_r101-d8_4xb4-80k_pascal-context-59-480x480
fcn_r101-d8_4xb4-80k_pascal-context-480x480
fcn_r101-d8_4xb4-160k_ade20k-512x512
fcn_r101b-d8_4xb2-80k_cityscapes-512x1024
fcn_r101b-d8_4xb2-80k_cityscapes-769x769
"""
CHANGES = {"fcn_r101-d8_4xb4-80k_pascal-context-480x480": half_as_long}
RECIPES = common.recipes(NAMES, named_model, CHANGES)


def get_config(arg: str | None = None) -> ConfigDict:
    """The recipe of that name."""
    return common.named(RECIPES, arg)
