"""ICNet (Zhao et al. 2018): the reference's recipes by their names."""

from ml_collections import ConfigDict

from jaxseg.configs import common


def model(name: common.RecipeName) -> dict:
    """The fused map, classified; auxiliary heads on the two that it is made of."""
    resnet = name.resnet()
    channels = common.resnet_channels(resnet["depth"])
    resnet |= {"in_channels": 3, "num_stages": 4, "out_indices": (0, 1, 2, 3), "norm_eval": False, "style": "pytorch"}
    backbone = {
        "type": "ICNet",
        "backbone_cfg": resnet,
        "layer_channels": (channels[1], channels[3]),
        "light_branch_middle_channels": 32,
        "psp_out_channels": 512,
        "out_channels": (64, 256, 256),
        "norm_cfg": dict(common.BN),
    }
    plain = {"num_convs": 1, "concat_input": False}
    auxiliary = {"loss_decode": common.cross_entropy(loss_weight=0.4), **plain}
    return common.encoder_decoder(
        backbone,
        common.head("FCNHead", 128, 128, name.num_classes, in_index=2, dropout_ratio=0.0, **plain),
        tuple(common.head("FCNHead", 128, 128, name.num_classes, in_index=i, **auxiliary) for i in (0, 1)),
        neck={"type": "ICNeck", "in_channels": (64, 256, 256), "out_channels": 128, "norm_cfg": dict(common.BN)},
    )


NAMES = """
icnet_r101-d8-in1k-pre_4xb2-160k_cityscapes-832x832
icnet_r101-d8-in1k-pre_4xb2-80k_cityscapes-832x832
icnet_r101-d8_4xb2-160k_cityscapes-832x832
icnet_r101-d8_4xb2-80k_cityscapes-832x832
icnet_r18-d8-in1k-pre_4xb2-160k_cityscapes-832x832
icnet_r18-d8-in1k-pre_4xb2-80k_cityscapes-832x832
icnet_r18-d8_4xb2-160k_cityscapes-832x832
icnet_r18-d8_4xb2-80k_cityscapes-832x832
icnet_r50-d8-in1k-pre_4xb2-160k_cityscapes-832x832
icnet_r50-d8-in1k-pre_4xb2-80k_cityscapes-832x832
icnet_r50-d8_4xb2-160k_cityscapes-832x832
icnet_r50-d8_4xb2-80k_cityscapes-832x832
"""
RECIPES = common.recipes(NAMES, model, common.PRETRAINED)


def get_config(arg: str | None = None) -> ConfigDict:
    """The recipe of that name."""
    return common.named(RECIPES, arg)
