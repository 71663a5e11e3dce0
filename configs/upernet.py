"""UPerNet (Xiao et al. 2018) with ResNets: the reference's recipes by their names."""

from ml_collections import ConfigDict

from jaxseg.configs import common


def model(depth: int, variant: str, num_classes: int) -> dict:
    """A pooled feature pyramid on all stages, an auxiliary FCN head on the third."""
    channels = common.resnet_channels(depth)
    return common.encoder_decoder(
        common.resnet(depth, stride=32, variant=variant),
        common.head("UPerHead", channels, 512, num_classes, in_index=(0, 1, 2, 3), pool_scales=(1, 2, 3, 6)),
        common.auxiliary_fcn(channels[2], 256, num_classes),
    )


RUNS = (("r18", 40), ("r18", 80), ("r50", 40), ("r50", 80), ("r101", 40), ("r101", 80))
RECIPES = common.cityscapes_recipes("upernet_{backbone}_4xb2-{thousands}k_cityscapes-512x1024", model, RUNS)


def get_config(arg: str | None = None) -> ConfigDict:
    """The recipe of that name."""
    return common.named(RECIPES, arg)
