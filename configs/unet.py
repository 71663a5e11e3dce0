"""UNet (Ronneberger et al. 2015): the reference's recipes by their names."""

from ml_collections import ConfigDict

from jaxseg.configs import common

# By the name in the recipe's.
HEADS = {
    "deeplabv3": {"kind": "ASPPHead", "channels": 16, "dilations": (1, 12, 24, 36)},
    "fcn": {"kind": "FCNHead", "channels": 64, "num_convs": 1, "concat_input": False},
    "pspnet": {"kind": "PSPHead", "channels": 16},
}


def model(name: common.RecipeName) -> dict:
    """A head on the decoder's last map, and an auxiliary FCN head on the one before it."""
    return common.encoder_decoder(
        {"type": "UNet", "norm_cfg": dict(common.BN)},
        common.head(in_channels=64, in_index=4, num_classes=name.num_classes, **HEADS[name.backbone]),
        common.auxiliary_fcn(128, 64, name.num_classes, in_index=3),
    )


def dice(config: ConfigDict) -> None:
    """Adds three times the Dice loss."""
    losses = (common.cross_entropy(), {"type": "DiceLoss", "loss_weight": 3.0})
    with config.ignore_type():
        config.model.decode_head.loss_decode = losses


def unused_window(config: ConfigDict) -> None:
    """States a window, as the reference does, although whole images are predicted."""
    config.model.test_cfg.update({"crop_size": (256, 256), "stride": (170, 170)})


NAMES = """
unet-s5-d16_deeplabv3_4xb4-40k_drive-64x64
unet-s5-d16_deeplabv3_4xb4-40k_hrf-256x256
unet-s5-d16_deeplabv3_4xb4-40k_stare-128x128
unet-s5-d16_deeplabv3_4xb4-ce-1.0-dice-3.0-40k_chase-db1-128x128
unet-s5-d16_deeplabv3_4xb4-ce-1.0-dice-3.0-40k_drive-64x64
unet-s5-d16_deeplabv3_4xb4-ce-1.0-dice-3.0-40k_hrf-256x256
unet-s5-d16_deeplabv3_4xb4-ce-1.0-dice-3.0-40k_stare-128x128
unet-s5-d16_fcn_4xb4-160k_cityscapes-512x1024
unet-s5-d16_fcn_4xb4-40k_chase-db1-128x128
unet-s5-d16_fcn_4xb4-40k_drive-64x64
unet-s5-d16_fcn_4xb4-40k_hrf-256x256
unet-s5-d16_fcn_4xb4-40k_stare-128x128
unet-s5-d16_fcn_4xb4-ce-1.0-dice-3.0-40k_chase-db1-128x128
unet-s5-d16_fcn_4xb4-ce-1.0-dice-3.0-40k_drive-64x64
unet-s5-d16_fcn_4xb4-ce-1.0-dice-3.0-40k_hrf-256x256
unet-s5-d16_fcn_4xb4-ce-1.0-dice-3.0-40k_stare-128x128
unet-s5-d16_pspnet_4xb4-40k_chase-db1-128x128
unet-s5-d16_pspnet_4xb4-40k_drive-64x64
unet-s5-d16_pspnet_4xb4-40k_hrf-256x256
unet-s5-d16_pspnet_4xb4-40k_stare-128x128
unet-s5-d16_pspnet_4xb4-ce-1.0-dice-3.0-40k_chase-db1-128x128
unet-s5-d16_pspnet_4xb4-ce-1.0-dice-3.0-40k_drive-64x64
unet-s5-d16_pspnet_4xb4-ce-1.0-dice-3.0-40k_hrf-256x256
unet-s5-d16_pspnet_4xb4-ce-1.0-dice-3.0-40k_stare-128x128
unet_s5-d16_deeplabv3_4xb4-40k_chase-db1-128x128
"""
SPELLED = {
    name: name.replace("-ce-1.0-dice-3.0", "-dice").replace("unet_s5-d16_", "unet-s5-d16_") for name in NAMES.split()
}
CHANGES = {"dice": dice, "unet-s5-d16_fcn_4xb4-160k_cityscapes-512x1024": unused_window}
RECIPES = common.recipes(NAMES, model, CHANGES, spelled=SPELLED)


def get_config(arg: str | None = None) -> ConfigDict:
    """The recipe of that name."""
    return common.named(RECIPES, arg)
