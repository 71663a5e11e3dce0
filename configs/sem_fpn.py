"""Semantic FPN (Kirillov et al. 2019, "Panoptic Feature Pyramid Networks"): the reference's recipes by their names."""

from typing import Any

from ml_collections import ConfigDict

from jaxseg.configs import common


def pyramid(backbone: dict[str, Any]) -> dict[str, Any]:
    """The neck on all stages of a ResNet."""
    return {"type": "FPN", "in_channels": common.resnet_channels(backbone["depth"]), "out_channels": 256, "num_outs": 4}


def head(num_classes: int, **fields: Any) -> dict[str, Any]:
    """The head on all maps of the neck."""
    inputs = {"in_index": (0, 1, 2, 3), "feature_strides": (4, 8, 16, 32)}
    return common.head("FPNHead", (256,) * 4, 128, num_classes, **inputs, **fields)


def model(name: common.RecipeName) -> dict:
    """Feature pyramid and head on a ResNet of stride 32; there is no auxiliary head."""
    backbone = name.resnet()
    return common.encoder_decoder(backbone, head(name.num_classes), neck=pyramid(backbone))


def depth_50(config: ConfigDict) -> None:
    """A ResNet-50: what the reference's file says, though not its name."""
    config.model.backbone.depth = 50


NAMES = """
fpn_r101_4xb2-80k_cityscapes-512x1024
fpn_r101_4xb4-160k_ade20k-512x512
fpn_r50_4xb2-80k_cityscapes-512x1024
fpn_r50_4xb4-160k_ade20k-512x512
"""
RECIPES = common.recipes(NAMES, model, {"fpn_r101_4xb4-160k_ade20k-512x512": depth_50})


def get_config(arg: str | None = None) -> ConfigDict:
    """The recipe of that name."""
    return common.named(RECIPES, arg)
