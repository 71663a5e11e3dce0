"""FastFCN (Wu et al. 2019) with ResNets: the reference's recipes by their names."""

from ml_collections import ConfigDict

from jaxseg.configs import common

HEADS = {
    "aspp": {"kind": "ASPPHead", "in_channels": 2048, "in_index": 2, "dilations": (1, 12, 24, 36)},
    "enc": {"kind": "EncHead", "in_channels": (512, 1024, 2048), "in_index": (0, 1, 2)},
    "psp": {"kind": "PSPHead", "in_channels": 2048, "in_index": 2},
}


def model(name: common.RecipeName) -> dict:
    """A ResNet of stride 32, its last three stages joined, and one of several heads."""
    backbone = name.resnet(dilations=(1, 1, 2, 4), out_indices=(1, 2, 3))
    (fields,) = (fields for word, fields in HEADS.items() if word in name.words)
    return common.encoder_decoder(
        backbone,
        common.head(channels=512, num_classes=name.num_classes, **fields),
        common.auxiliary_fcn(1024, 256, name.num_classes, in_index=1),
        neck={"type": "JPU", "in_channels": (512, 1024, 2048), "norm_cfg": dict(common.BN)},
    )


def nothing(config: ConfigDict) -> None:
    """The word says which head or neck it is."""


NAMES = """
fastfcn_r50-d32_jpu_aspp_4xb2-80k_cityscapes-512x1024
fastfcn_r50-d32_jpu_aspp_4xb4-160k_ade20k-512x512
fastfcn_r50-d32_jpu_aspp_4xb4-80k_ade20k-512x512
fastfcn_r50-d32_jpu_aspp_4xb4-80k_cityscapes-512x1024
fastfcn_r50-d32_jpu_enc_4xb2-80k_cityscapes-512x1024
fastfcn_r50-d32_jpu_enc_4xb4-160k_ade20k-512x512
fastfcn_r50-d32_jpu_enc_4xb4-80k_ade20k-512x512
fastfcn_r50-d32_jpu_enc_4xb4-80k_cityscapes-512x1024
fastfcn_r50-d32_jpu_psp_4xb2-80k_cityscapes-512x1024
fastfcn_r50-d32_jpu_psp_4xb4-160k_ade20k-512x512
fastfcn_r50-d32_jpu_psp_4xb4-80k_ade20k-512x512
fastfcn_r50-d32_jpu_psp_4xb4-80k_cityscapes-512x1024
"""
RECIPES = common.recipes(NAMES, model, dict.fromkeys(("jpu", *HEADS), nothing))


def get_config(arg: str | None = None) -> ConfigDict:
    """The recipe of that name."""
    return common.named(RECIPES, arg)
