"""OCRNet (Yuan et al. 2020) with HRNets and a ResNet: the reference's recipes by their names."""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from jaxseg.configs import common, hrnet


def model(name: common.RecipeName) -> dict:
    """The model of a recipe; the first head of a ResNet's is on its third stage, as auxiliary ones are."""
    classes, loss_decode = name.num_classes, common.cross_entropy(loss_weight=0.4)
    if name.backbone in hrnet.SIZES:
        first = hrnet.head(name.backbone, classes, loss_decode=loss_decode)
        shared = ("in_index", "input_transform", "dropout_ratio")
        ocr = common.head("OCRHead", first["in_channels"], 512, classes, **{key: first[key] for key in shared})
        return cascade(hrnet.backbone(name.backbone), first, ocr)
    backbone = name.resnet()
    channels = common.resnet_channels(backbone["depth"])
    first = common.auxiliary_fcn(channels[2], 256, classes, loss_decode=loss_decode)
    return cascade(backbone, first, common.head("OCRHead", channels[3], 512, classes))


def cascade(backbone: Mapping, first: Mapping, ocr: Mapping) -> dict[str, Any]:
    """A head, and one that refines its logits."""
    heads = (dict(first), {**ocr, "ocr_channels": 256})
    return common.encoder_decoder(backbone, heads, type="CascadeEncoderDecoder", num_stages=2)


def doubled_rate(config: ConfigDict) -> None:
    """Twice the learning rate, for twice the images."""
    config.optimizer = common.sgd(0.02)
    config.schedule = common.poly(2e-4)


def early_end(config: ConfigDict) -> None:
    """A rate that is at its lowest after half of the steps, as the reference's file has it."""
    doubled_rate(config)
    config.schedule[0]["end"] = 40000


NAMES = """
ocrnet_hr18_4xb2-160k_cityscapes-512x1024
ocrnet_hr18_4xb2-40k_cityscapes-512x1024
ocrnet_hr18_4xb2-80k_cityscapes-512x1024
ocrnet_hr18_4xb4-160k_ade20k-512x512
ocrnet_hr18_4xb4-20k_voc12aug-512x512
ocrnet_hr18_4xb4-40k_voc12aug-512x512
ocrnet_hr18_4xb4-80k_ade20k-512x512
ocrnet_hr18s_4xb2-160k_cityscapes-512x1024
ocrnet_hr18s_4xb2-40k_cityscapes-512x1024
ocrnet_hr18s_4xb2-80k_cityscapes-512x1024
ocrnet_hr18s_4xb4-160k_ade20k-512x512
ocrnet_hr18s_4xb4-20k_voc12aug-512x512
ocrnet_hr18s_4xb4-40k_voc12aug-512x512
ocrnet_hr18s_4xb4-80k_ade20k-512x512
ocrnet_hr48_4xb2-160k_cityscapes-512x1024
ocrnet_hr48_4xb2-40k_cityscapes-512x1024
ocrnet_hr48_4xb2-80k_cityscapes-512x1024
ocrnet_hr48_4xb4-160k_ade20k-512x512
ocrnet_hr48_4xb4-20k_voc12aug-512x512
ocrnet_hr48_4xb4-40k_voc12aug-512x512
ocrnet_hr48_4xb4-80k_ade20k-512x512
ocrnet_r101-d8_4xb2-40k_cityscapes-512x1024
ocrnet_r101-d8_8xb2-40k_cityscapes-512x1024
ocrnet_r101-d8_8xb2-80k_cityscapes-512x1024
"""
CHANGES = {
    "ocrnet_r101-d8_8xb2-40k_cityscapes-512x1024": doubled_rate,
    "ocrnet_r101-d8_8xb2-80k_cityscapes-512x1024": early_end,
}
RECIPES = common.recipes(NAMES, model, CHANGES)


def get_config(arg: str | None = None) -> ConfigDict:
    """The recipe of that name."""
    return common.named(RECIPES, arg)
