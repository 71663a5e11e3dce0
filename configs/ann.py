"""ANN (Zhu et al. 2019) with ResNets: the reference's recipes by their names."""

from ml_collections import ConfigDict

from jaxseg.configs import common


def model(name: common.RecipeName) -> dict:
    """Attention between the last two stages, an auxiliary FCN head on the third."""
    backbone = name.resnet()
    channels = common.resnet_channels(backbone["depth"])
    head = common.head("ANNHead", channels[2:], channels[3] // 4, name.num_classes, in_index=(2, 3))
    auxiliary_head = common.auxiliary_fcn(channels[2], channels[2] // 4, name.num_classes)
    return common.encoder_decoder(backbone, head, auxiliary_head)


def half_as_long(config: ConfigDict) -> None:
    """20,000 steps: what the reference's file says, though not its name."""
    config.total_steps = 20000
    config.evaluate_every = config.checkpoint_every = 2000


NAMES = """
ann_r101-d8_4xb2-40k_cityscapes-512x1024
ann_r101-d8_4xb2-40k_cityscapes-769x769
ann_r101-d8_4xb2-80k_cityscapes-512x1024
ann_r101-d8_4xb2-80k_cityscapes-769x769
ann_r101-d8_4xb4-160k_ade20k-512x512
ann_r101-d8_4xb4-20k_voc12aug-512x512
ann_r101-d8_4xb4-40k_voc12aug-512x512
ann_r101-d8_4xb4-80k_ade20k-512x512
ann_r50-d8_4xb2-40k_cityscapes-512x1024
ann_r50-d8_4xb2-40k_cityscapes-769x769
ann_r50-d8_4xb2-80k_cityscapes-512x1024
ann_r50-d8_4xb2-80k_cityscapes-769x769
ann_r50-d8_4xb4-160k_ade20k-512x512
ann_r50-d8_4xb4-20k_voc12aug-512x512
ann_r50-d8_4xb4-40k_voc12aug-512x512
ann_r50-d8_4xb4-80k_ade20k-512x512
"""
CHANGES = {"ann_r101-d8_4xb4-40k_voc12aug-512x512": half_as_long}
RECIPES = common.recipes(NAMES, model, CHANGES)


def get_config(arg: str | None = None) -> ConfigDict:
    """The recipe of that name."""
    return common.named(RECIPES, arg)
