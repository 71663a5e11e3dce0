"""MobileNetV3 (Howard et al. 2019) with its own head: the reference's recipes by their names."""

from ml_collections import ConfigDict

from jaxseg.configs import common

# Of the backbone: architecture, layers whose outputs the head takes, and their channels.
SIZES = {"large": ((1, 3, 16), (16, 24, 960)), "small": ((0, 1, 12), (16, 16, 576))}


def model(name: common.RecipeName) -> dict:
    """The model of a recipe."""
    arch = "small" if name.method.endswith("-s") else "large"
    out_indices, channels = SIZES[arch]
    norm_cfg = {"type": "SyncBN", "eps": 0.001}
    backbone = {"type": "MobileNetV3", "arch": arch, "out_indices": out_indices, "norm_cfg": norm_cfg}
    head = common.head("LRASPPHead", channels, 128, name.num_classes, in_index=(0, 1, 2), norm_cfg=norm_cfg)
    return common.encoder_decoder(backbone, head)


def half_as_long(config: ConfigDict) -> None:
    """160,000 steps: what the reference's files say, though not their names."""
    config.total_steps = 160000
    config.evaluate_every = config.checkpoint_every = 16000


NAMES = """
mobilenet-v3-d8-s_lraspp_4xb4-320k_cityscapes-512x1024
mobilenet-v3-d8-scratch-s_lraspp_4xb4-320k_cityscapes-512x1024
mobilenet-v3-d8-scratch_lraspp_4xb4-320k_cityscapes-512x1024
mobilenet-v3-d8_lraspp_4xb4-320k_cityscapes-512x1024
"""
RECIPES = common.recipes(NAMES, model, dict.fromkeys(NAMES.split(), half_as_long))


def get_config(arg: str | None = None) -> ConfigDict:
    """The recipe of that name."""
    return common.named(RECIPES, arg)
