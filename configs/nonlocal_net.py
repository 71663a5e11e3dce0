"""Non-local networks (Wang et al. 2018) with ResNets: the reference's recipes by their names."""

from ml_collections import ConfigDict

from jaxseg.configs import common

NAMES = """
nonlocal_r101-d8_4xb2-40k_cityscapes-512x1024
nonlocal_r101-d8_4xb2-40k_cityscapes-769x769
nonlocal_r101-d8_4xb2-80k_cityscapes-512x1024
nonlocal_r101-d8_4xb2-80k_cityscapes-769x769
nonlocal_r101-d8_4xb4-160k_ade20k-512x512
nonlocal_r101-d8_4xb4-20k_voc12aug-512x512
nonlocal_r101-d8_4xb4-40k_voc12aug-512x512
nonlocal_r101-d8_4xb4-80k_ade20k-512x512
nonlocal_r50-d8_4xb2-40k_cityscapes-512x1024
nonlocal_r50-d8_4xb2-40k_cityscapes-769x769
nonlocal_r50-d8_4xb2-80k_cityscapes-512x1024
nonlocal_r50-d8_4xb2-80k_cityscapes-769x769
nonlocal_r50-d8_4xb4-160k_ade20k-512x512
nonlocal_r50-d8_4xb4-20k_voc12aug-512x512
nonlocal_r50-d8_4xb4-40k_voc12aug-512x512
nonlocal_r50-d8_4xb4-80k_ade20k-512x512
"""
RECIPES = common.recipes(NAMES, common.on_resnet("NLHead"))


def get_config(arg: str | None = None) -> ConfigDict:
    """The recipe of that name."""
    return common.named(RECIPES, arg)
