"""FCN (Long et al. 2015) with ResNets: the reference's recipes by their names."""

from ml_collections import ConfigDict

from jaxseg.configs import common


def model(depth: int, variant: str, num_classes: int) -> dict:
    """FCN head on the last stage, an auxiliary one on the third."""
    channels = common.resnet_channels(depth)
    return common.encoder_decoder(
        common.resnet(depth, variant=variant),
        common.head("FCNHead", channels[3], channels[3] // 4, num_classes, num_convs=2, concat_input=True),
        common.auxiliary_fcn(channels[2], channels[2] // 4, num_classes),
    )


RECIPES = common.cityscapes_recipes("fcn_{backbone}-d8_4xb2-{thousands}k_cityscapes-512x1024", model)


def get_config(arg: str | None = None) -> ConfigDict:
    """The recipe of that name."""
    return common.named(RECIPES, arg)
