"""DDRNet (Hong et al. 2021): the reference's recipes by their names."""

from ml_collections import ConfigDict

from jaxseg.configs import common

# Of the classes of Cityscapes: the rarer, the heavier.
CLASS_WEIGHT = (
    0.8373, 0.918, 0.866, 1.0345, 1.0166, 0.9969, 0.9754, 1.0489, 0.8786, 1.0023, 0.9539, 0.9843, 1.1116, 0.9037,
    1.0865, 1.0955, 1.0865, 1.1529, 1.0507,
)  # fmt: skip
CHANNELS = {"slim": 32, "wide": 64}


def ohem(**fields: float) -> dict:
    """Cross entropy of hard pixels."""
    return {"type": "OhemCrossEntropy", "thres": 0.9, "min_kept": 131072, "class_weight": CLASS_WEIGHT, **fields}


def model(name: common.RecipeName) -> dict:
    """The map of both branches, classified."""
    channels = CHANNELS[name.backbone]
    backbone = {"type": "DDRNet", "channels": channels, "ppm_channels": 128, "norm_cfg": dict(common.BN)}
    losses = (ohem(), ohem(loss_weight=0.4))
    head = common.head(
        "DDRHead", 4 * channels, 2 * channels, name.num_classes, in_index=-1, dropout_ratio=0.0, loss_decode=losses
    )
    return common.encoder_decoder(backbone, head)


def ddrnet_run(config: ConfigDict) -> None:
    """Decay to zero, and a seed."""
    config.schedule = common.poly(eta_min=0)
    config.seed = 304


NAMES = """
ddrnet_23-slim_in1k-pre_2xb6-120k_cityscapes-1024x1024
ddrnet_23_in1k-pre_2xb6-120k_cityscapes-1024x1024
"""
SPELLED = {
    "ddrnet_23-slim_in1k-pre_2xb6-120k_cityscapes-1024x1024": "ddrnet_slim-in1k-pre_2xb6-120k_cityscapes-1024x1024",
    "ddrnet_23_in1k-pre_2xb6-120k_cityscapes-1024x1024": "ddrnet_wide-in1k-pre_2xb6-120k_cityscapes-1024x1024",
}
RECIPES = common.recipes(NAMES, model, {"ddrnet": ddrnet_run, **common.PRETRAINED}, spelled=SPELLED)


def get_config(arg: str | None = None) -> ConfigDict:
    """The recipe of that name."""
    return common.named(RECIPES, arg)
