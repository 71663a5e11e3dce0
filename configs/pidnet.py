"""PIDNet (Xu et al. 2023): the reference's recipes by their names."""

from ml_collections import ConfigDict

from jaxseg.configs import common
from jaxseg.configs.ddrnet import CLASS_WEIGHT, ohem

# Channels, those of the pyramid, blocks of the stem and of the branch, channels of the head.
SIZES = {"s": (32, 96, 2, 3, 128), "m": (64, 96, 2, 3, 128), "l": (64, 112, 3, 4, 256)}
RELU = {"type": "ReLU", "inplace": True}


def model(name: common.RecipeName) -> dict:
    """The map of all branches, classified."""
    channels, pyramid, stem_blocks, branch_blocks, head_channels = SIZES[name.backbone]
    backbone = {
        "type": "PIDNet",
        "channels": channels,
        "ppm_channels": pyramid,
        "num_stem_blocks": stem_blocks,
        "num_branch_blocks": branch_blocks,
        "norm_cfg": dict(common.BN),
        "act_cfg": dict(RELU),
    }
    losses = (
        common.cross_entropy(class_weight=CLASS_WEIGHT, loss_weight=0.4),
        ohem(),
        {"type": "BoundaryLoss", "loss_weight": 20.0},
        ohem(),
    )
    fields = {"in_index": -1, "align_corners": True, "act_cfg": dict(RELU), "loss_decode": losses}
    return common.encoder_decoder(
        backbone, common.head("PIDHead", 4 * channels, head_channels, name.num_classes, **fields)
    )


def pidnet_run(config: ConfigDict) -> None:
    """Edges for the boundaries' branch; decay to zero, and a seed."""
    *steps, pad = config.data.train.transforms
    config.data.train.transforms = (*steps, {"type": "GenerateEdge", "edge_width": 4}, pad)
    config.schedule = common.poly(eta_min=0)
    config.seed = 304


SPELLED = {
    f"pidnet-{size}_2xb6-120k_1024x1024-cityscapes": f"pidnet_{size}_2xb6-120k_cityscapes-1024x1024" for size in SIZES
}
RECIPES = common.recipes(" ".join(SPELLED), model, {"pidnet": pidnet_run}, spelled=SPELLED)


def get_config(arg: str | None = None) -> ConfigDict:
    """The recipe of that name."""
    return common.named(RECIPES, arg)
