"""MobileNetV2 (Sandler et al. 2018) under the heads of other methods: the reference's recipes by their names."""

from typing import Any

from ml_collections import ConfigDict

from jaxseg.configs import common

PYRAMID = {"dilations": (1, 12, 24, 36)}
# Type and fields of the head that a name says.
HEADS: dict[str, tuple[str, dict[str, Any]]] = {
    "deeplabv3": ("ASPPHead", PYRAMID),
    "deeplabv3plus": ("DepthwiseSeparableASPPHead", {**PYRAMID, "c1_channels": 48}),
    "fcn": ("FCNHead", {"num_convs": 2}),
    "pspnet": ("PSPHead", {"pool_scales": (1, 2, 3, 6)}),
}


def decode_head(method: str, channels: int, finest: int, num_classes: int) -> dict[str, Any]:
    """The head of a method on a last map of these channels; `finest` are those of the first, for DeepLabV3+."""
    kind, fields = HEADS[method]
    details = {"c1_in_channels": finest} if "c1_channels" in fields else {}
    return common.head(kind, channels, 512, num_classes, **fields, **details)


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
    return common.encoder_decoder(
        backbone,
        decode_head(name.backbone, 320, 24, name.num_classes),
        common.auxiliary_fcn(96, 256, name.num_classes),
    )


NAMES = """
mobilenet-v2-d8_deeplabv3_4xb2-80k_cityscapes-512x1024
mobilenet-v2-d8_deeplabv3_4xb4-160k_ade20k-512x512
mobilenet-v2-d8_deeplabv3plus_4xb2-80k_cityscapes-512x1024
mobilenet-v2-d8_deeplabv3plus_4xb4-160k_ade20k-512x512
mobilenet-v2-d8_fcn_4xb2-80k_cityscapes-512x1024
mobilenet-v2-d8_fcn_4xb4-160k_ade20k-512x512
mobilenet-v2-d8_pspnet_4xb2-80k_cityscapes-512x1024
mobilenet-v2-d8_pspnet_4xb4-160k_ade20k-512x512
"""
RECIPES = common.recipes(NAMES, model)


def get_config(arg: str | None = None) -> ConfigDict:
    """The recipe of that name."""
    return common.named(RECIPES, arg)
