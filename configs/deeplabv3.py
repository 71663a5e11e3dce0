"""DeepLabV3 (Chen et al. 2017) with ResNets: the reference's recipes by their names."""

from ml_collections import ConfigDict

from jaxseg.configs import common
from jaxseg.configs.fcn import half_as_long


def mg124(config: ConfigDict) -> None:
    """A multi-grid in the last stage, narrower pyramids for its smaller stride, and losses of the hardest pixels."""
    config.model.backbone.multi_grid = (1, 2, 4)
    config.model.decode_head.dilations = (1, 6, 12, 18)
    config.model.decode_head.sampler = {"type": "OHEMPixelSampler", "min_kept": 100000}


NAMES = """
deeplabv3_r101-d16-mg124_4xb2-40k_cityscapes-512x1024
deeplabv3_r101-d16-mg124_4xb2-80k_cityscapes-512x1024
deeplabv3_r101-d8_4xb2-40k_cityscapes-512x1024
deeplabv3_r101-d8_4xb2-40k_cityscapes-769x769
deeplabv3_r101-d8_4xb2-80k_cityscapes-512x1024
deeplabv3_r101-d8_4xb2-80k_cityscapes-769x769
deeplabv3_r101-d8_4xb2-amp-80k_cityscapes-512x1024
deeplabv3_r101-d8_4xb4-160k_ade20k-512x512
deeplabv3_r101-d8_4xb4-160k_coco-stuff164k-512x512
deeplabv3_r101-d8_4xb4-20k_coco-stuff10k-512x512
deeplabv3_r101-d8_4xb4-20k_voc12aug-512x512
deeplabv3_r101-d8_4xb4-320k_coco-stuff164k-512x512
deeplabv3_r101-d8_4xb4-40k_coco-stuff10k-512x512
deeplabv3_r101-d8_4xb4-40k_pascal-context-480x480
deeplabv3_r101-d8_4xb4-40k_pascal-context-59-480x480
deeplabv3_r101-d8_4xb4-40k_voc12aug-512x512
deeplabv3_r101-d8_4xb4-80k_ade20k-512x512
deeplabv3_r101-d8_4xb4-80k_coco-stuff164k-512x512
deeplabv3_r101-d8_4xb4-80k_pascal-context-480x480
deeplabv3_r101-d8_4xb4-80k_pascal-context-59-480x480
deeplabv3_r101b-d8_4xb2-80k_cityscapes-512x1024
deeplabv3_r101b-d8_4xb2-80k_cityscapes-769x769
deeplabv3_r18-d8_4xb2-80k_cityscapes-512x1024
deeplabv3_r18-d8_4xb2-80k_cityscapes-769x769
deeplabv3_r18b-d8_4xb2-80k_cityscapes-512x1024
deeplabv3_r18b-d8_4xb2-80k_cityscapes-769x769
deeplabv3_r50-d8_4xb2-40k_cityscapes-512x1024
deeplabv3_r50-d8_4xb2-40k_cityscapes-769x769
deeplabv3_r50-d8_4xb2-80k_cityscapes-512x1024
deeplabv3_r50-d8_4xb2-80k_cityscapes-769x769
deeplabv3_r50-d8_4xb4-160k_ade20k-512x512
deeplabv3_r50-d8_4xb4-160k_coco-stuff164k-512x512
deeplabv3_r50-d8_4xb4-20k_coco-stuff10k-512x512
deeplabv3_r50-d8_4xb4-20k_voc12aug-512x512
deeplabv3_r50-d8_4xb4-320k_coco-stuff164k-512x512
deeplabv3_r50-d8_4xb4-40k_coco-stuff10k-512x512
deeplabv3_r50-d8_4xb4-40k_pascal-context-480x480
deeplabv3_r50-d8_4xb4-40k_pascal-context-59-480x480
deeplabv3_r50-d8_4xb4-40k_voc12aug-512x512
deeplabv3_r50-d8_4xb4-80k_ade20k-512x512
deeplabv3_r50-d8_4xb4-80k_coco-stuff164k-512x512
deeplabv3_r50-d8_4xb4-80k_pascal-context-480x480
deeplabv3_r50-d8_4xb4-80k_pascal-context-59-480x480
deeplabv3_r50b-d8_4xb2-80k_cityscapes-512x1024
deeplabv3_r50b-d8_4xb2-80k_cityscapes-769x769
"""
CHANGES = {
    "mg124": mg124,
    "deeplabv3_r101-d8_4xb2-amp-80k_cityscapes-512x1024": half_as_long,
    "deeplabv3_r101-d8_4xb4-80k_pascal-context-59-480x480": half_as_long,
}
RECIPES = common.recipes(NAMES, common.on_resnet("ASPPHead", dilations=(1, 12, 24, 36)), CHANGES)


def get_config(arg: str | None = None) -> ConfigDict:
    """The recipe of that name."""
    return common.named(RECIPES, arg)
