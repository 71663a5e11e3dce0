"""ResNeSt (Zhang et al. 2020) under the heads of other methods: the reference's recipes by their names."""

from ml_collections import ConfigDict

from jaxseg.configs import common
from jaxseg.configs.mobilenet_v2 import HEADS, decode_head


def model(name: common.RecipeName) -> dict:
    """The model of a recipe: the head on the last stage, an auxiliary FCN head on the third."""
    backbone = common.resnet(
        int(name.backbone.removeprefix("s")), name.stride, "ResNeSt",
        stem_channels=128, radix=2, reduction_factor=4, avg_down_stride=True,
    )  # fmt: skip
    return common.encoder_decoder(
        backbone,
        decode_head(name.words[0], 2048, 256, name.num_classes),
        common.auxiliary_fcn(1024, 256, name.num_classes),
    )


def in_the_model(config: ConfigDict) -> None:
    """Nothing more: the head, which the name says as a word, is the model's."""


NAMES = """
resnest_s101-d8_deeplabv3_4xb2-80k_cityscapes-512x1024
resnest_s101-d8_deeplabv3_4xb4-160k_ade20k-512x512
resnest_s101-d8_deeplabv3plus_4xb2-80k_cityscapes-512x1024
resnest_s101-d8_deeplabv3plus_4xb4-160k_ade20k-512x512
resnest_s101-d8_fcn_4xb2-80k_cityscapes-512x1024
resnest_s101-d8_fcn_4xb4-160k_ade20k-512x512
resnest_s101-d8_pspnet_4xb2-80k_cityscapes512x1024
resnest_s101-d8_pspnet_4xb4-160k_ade20k-512x512
"""
SPELLED = {
    "resnest_s101-d8_pspnet_4xb2-80k_cityscapes512x1024": "resnest_s101-d8_pspnet_4xb2-80k_cityscapes-512x1024",
}
RECIPES = common.recipes(NAMES, model, dict.fromkeys(HEADS, in_the_model), spelled=SPELLED)


def get_config(arg: str | None = None) -> ConfigDict:
    """The recipe of that name."""
    return common.named(RECIPES, arg)
