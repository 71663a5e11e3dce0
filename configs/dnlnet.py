"""DNLNet (Yin et al. 2020) with ResNets: the reference's recipes by their names."""

from ml_collections import ConfigDict

from jaxseg.configs import common


def pairs_as_they_are(config: ConfigDict) -> None:
    """No rule for what pairs are weighed by: the reference's file gives one, `wd_mult`, that nothing reads."""
    config.optimizer.paramwise_cfg = {"custom_keys": {"theta": {}, "phi": {}}}


NAMES = """
dnl_r101-d8_4xb2-40k_cityscapes-512x1024
dnl_r101-d8_4xb2-40k_cityscapes-769x769
dnl_r101-d8_4xb2-80k_cityscapes-512x1024
dnl_r101-d8_4xb2-80k_cityscapes-769x769
dnl_r101-d8_4xb4-160k_ade20k-512x512
dnl_r101-d8_4xb4-80k_ade20k-512x512
dnl_r50-d8_4xb2-40k_cityscapes-512x1024
dnl_r50-d8_4xb2-40k_cityscapes-769x769
dnl_r50-d8_4xb2-80k_cityscapes-512x1024
dnl_r50-d8_4xb2-80k_cityscapes-769x769
dnl_r50-d8_4xb4-160k_ade20k-512x512
dnl_r50-d8_4xb4-80k_ade20k-512x512
"""
CHANGES = {
    "dnl_r101-d8_4xb2-80k_cityscapes-769x769": pairs_as_they_are,
    "dnl_r50-d8_4xb2-80k_cityscapes-769x769": pairs_as_they_are,
}
RECIPES = common.recipes(NAMES, common.on_resnet("DNLHead"), CHANGES)


def get_config(arg: str | None = None) -> ConfigDict:
    """The recipe of that name."""
    return common.named(RECIPES, arg)
