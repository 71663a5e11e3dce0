"""BiSeNetV2 (Yu et al. 2021): the reference's recipes by their names."""

from ml_collections import ConfigDict

from jaxseg.configs import common


def model(name: common.RecipeName) -> dict:
    """The aggregated map, classified; auxiliary heads on the semantic branch's four."""
    backbone = {
        "type": "BiSeNetV2",
        "detail_channels": (64, 64, 128),
        "semantic_channels": (16, 32, 64, 128),
        "semantic_expansion_ratio": 6,
        "bga_channels": 128,
    }
    widths = ((16, 16), (32, 64), (64, 256), (128, 1024))
    plain = {"concat_input": False}
    return common.encoder_decoder(
        backbone,
        common.head("FCNHead", 128, 1024, name.num_classes, in_index=0, num_convs=1, **plain),
        tuple(
            common.head("FCNHead", *width, name.num_classes, in_index=i + 1, num_convs=2, **plain)
            for i, width in enumerate(widths)
        ),
    )


def bisenetv2_run(config: ConfigDict) -> None:
    """A high rate, after a warm-up."""
    config.optimizer = common.sgd(0.05)
    config.schedule = common.poly(warmup_steps=1000, start_factor=0.1)


def ohem(config: ConfigDict) -> None:
    """Nothing: the reference's file has its samplers in a variable that nothing reads."""


NAMES = """
bisenetv2_fcn_4xb4-160k_cityscapes-1024x1024
bisenetv2_fcn_4xb4-amp-160k_cityscapes-1024x1024
bisenetv2_fcn_4xb4-ohem-160k_cityscapes-1024x1024
bisenetv2_fcn_4xb8-160k_cityscapes-1024x1024
"""
RECIPES = common.recipes(NAMES, model, {"bisenetv2": bisenetv2_run, "ohem": ohem})


def get_config(arg: str | None = None) -> ConfigDict:
    """The recipe of that name."""
    return common.named(RECIPES, arg)
