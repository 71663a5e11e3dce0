"""STDC (Fan et al. 2021): the reference's recipes by their names."""

from ml_collections import ConfigDict

from jaxseg.configs import common

BN = {"type": "BN"}
OHEM = {"type": "OHEMPixelSampler", "thresh": 0.7, "min_kept": 10000}


def model(name: common.RecipeName) -> dict:
    """The fused map, classified; auxiliary heads on the context path's two, and one for the details."""
    backbone = {
        "type": "STDCContextPathNet",
        "backbone_cfg": {
            "type": "STDCNet",
            "stdc_type": {"stdc1": "STDCNet1", "stdc2": "STDCNet2"}[name.backbone],
            "in_channels": 3,
            "channels": (32, 64, 256, 512, 1024),
            "bottleneck_type": "cat",
            "num_convs": 4,
            "norm_cfg": BN,
            "act_cfg": {"type": "ReLU"},
            "with_final_conv": False,
        },
        "ffm_cfg": {"in_channels": 384, "out_channels": 256, "scale_factor": 4},
    }
    plain = {"num_convs": 1, "concat_input": False, "norm_cfg": BN}
    details = (
        common.cross_entropy(use_sigmoid=True, loss_name="loss_ce"),
        {"type": "DiceLoss", "loss_name": "loss_dice"},
    )
    return common.encoder_decoder(
        backbone,
        common.head("FCNHead", 256, 256, name.num_classes, in_index=3, align_corners=True, sampler=OHEM, **plain),
        (
            *(common.head("FCNHead", 128, 64, name.num_classes, in_index=i, sampler=OHEM, **plain) for i in (2, 1)),
            common.head("STDCHead", 256, 64, 2, in_index=0, align_corners=True, **plain, loss_decode=details),
        ),
    )


def stdc_run(config: ConfigDict) -> None:
    """A warm-up."""
    config.schedule = common.poly(warmup_steps=1000, start_factor=0.1)


NAMES = """
stdc1_4xb12-80k_cityscapes-512x1024
stdc1_in1k-pre_4xb12-80k_cityscapes-512x1024
stdc2_4xb12-80k_cityscapes-512x1024
stdc2_in1k-pre_4xb12-80k_cityscapes-512x1024
"""
SPELLED = {name: f"stdc_{name.replace('_in1k', '-in1k')}" for name in NAMES.split()}
RECIPES = common.recipes(NAMES, model, {"stdc": stdc_run, **common.PRETRAINED}, spelled=SPELLED)


def get_config(arg: str | None = None) -> ConfigDict:
    """The recipe of that name."""
    return common.named(RECIPES, arg)
