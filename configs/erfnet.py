"""ERFNet (Romera et al. 2018): the reference's recipe by its name."""

from ml_collections import ConfigDict

from jaxseg.configs import common


def model(name: common.RecipeName) -> dict:
    """One convolution on the backbone's only map."""
    head = common.head("FCNHead", 16, 128, name.num_classes, in_index=-1, num_convs=1, concat_input=False)
    return common.encoder_decoder({"type": "ERFNet"}, head)


NAMES = """
erfnet_fcn_4xb4-160k_cityscapes-512x1024
"""
RECIPES = common.recipes(NAMES, model)


def get_config(arg: str | None = None) -> ConfigDict:
    """The recipe of that name."""
    return common.named(RECIPES, arg)
