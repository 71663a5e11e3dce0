"""EMANet (Li et al. 2019) with ResNets: the reference's recipes by their names."""

from ml_collections import ConfigDict

from jaxseg.configs import common


def model(name: common.RecipeName) -> dict:
    """Narrower than most heads."""
    recipe = common.on_resnet("EMAHead")(name)
    recipe["decode_head"]["channels"] = 256
    return recipe


NAMES = """
emanet_r101-d8_4xb2-80k_cityscapes-512x1024
emanet_r101-d8_4xb2-80k_cityscapes-769x769
emanet_r50-d8_4xb2-80k_cityscapes-512x1024
emanet_r50-d8_4xb2-80k_cityscapes-769x769
"""
RECIPES = common.recipes(NAMES, model)


def get_config(arg: str | None = None) -> ConfigDict:
    """The recipe of that name."""
    return common.named(RECIPES, arg)
