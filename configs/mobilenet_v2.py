"""MobileNetV2 (Sandler et al. 2018) under the heads of other methods: the reference's recipes by their names."""

from typing import Any

from ml_collections import ConfigDict

from jaxseg.configs import common

# Type and fields of the head that a name says.
HEADS: dict[str, tuple[str, dict[str, Any]]] = {
    "fcn": ("FCNHead", {"num_convs": 2}),
    "pspnet": ("PSPHead", {"pool_scales": (1, 2, 3, 6)}),
}


def model(name: common.RecipeName) -> dict:
    """The model of a recipe: the head on the last stage, an auxiliary FCN head on the fifth."""
    backbone = {
        "type": "MobileNetV2",
        "widen_factor": 1.0,
        "strides": (1, 2, 2, 1, 1, 1, 1),
        "dilations": (1, 1, 1, 2, 2, 4, 4),
        "out_indices": (1, 2, 4, 6),
        "norm_cfg": dict(common.BN),
    }
    kind, fields = HEADS[name.backbone]
    return common.encoder_decoder(
        backbone,
        common.head(kind, 320, 512, name.num_classes, **fields),
        common.auxiliary_fcn(96, 256, name.num_classes),
    )


NAMES = """
mobilenet-v2-d8_fcn_4xb2-80k_cityscapes-512x1024
mobilenet-v2-d8_fcn_4xb4-160k_ade20k-512x512
mobilenet-v2-d8_pspnet_4xb2-80k_cityscapes-512x1024
mobilenet-v2-d8_pspnet_4xb4-160k_ade20k-512x512
"""
RECIPES = common.recipes(NAMES, model)


def get_config(arg: str | None = None) -> ConfigDict:
    """The recipe of that name."""
    return common.named(RECIPES, arg)
