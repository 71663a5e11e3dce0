"""PSPNet (Zhao et al. 2017) with ResNets: the reference's recipes by their names."""

from ml_collections import ConfigDict

from jaxseg.configs import common


def model(depth: int, variant: str, num_classes: int) -> dict:
    """Pyramid pooling on the last stage, an auxiliary FCN head on the third."""
    channels = common.resnet_channels(depth)
    return common.encoder_decoder(
        common.resnet(depth, variant=variant),
        common.head("PSPHead", channels[3], channels[3] // 4, num_classes, pool_scales=(1, 2, 3, 6)),
        common.auxiliary_fcn(channels[2], channels[2] // 4, num_classes),
    )


RECIPES = common.cityscapes_recipes("pspnet_{backbone}-d8_4xb2-{thousands}k_cityscapes-512x1024", model)


def get_config(arg: str | None = None) -> ConfigDict:
    """The recipe of that name."""
    return common.named(RECIPES, arg)
