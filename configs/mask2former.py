"""Mask2Former (Cheng et al. 2022) with ResNets and Swin transformers: the reference's recipes by their names."""

from typing import Any

from ml_collections import ConfigDict

from jaxseg.configs import common, maskformer


def head(in_channels: tuple[int, ...], num_classes: int) -> dict[str, Any]:
    """Queries on all stages; masks are compared at points."""
    cross_entropy = {"type": "mmdet.CrossEntropyLoss", "use_sigmoid": True}
    cost = {"type": "mmdet.CrossEntropyLossCost", "use_sigmoid": True}
    places = {
        "embed_dims": 256,
        "num_heads": 8,
        "num_levels": 3,
        "num_points": 4,
        "im2col_step": 64,
        "dropout": 0.0,
        "batch_first": True,
        "norm_cfg": None,
    }
    ffn = {"embed_dims": 256, "feedforward_channels": 1024, "num_fcs": 2, "ffn_drop": 0.0}
    layer = {"self_attn_cfg": places, "ffn_cfg": ffn | {"act_cfg": {"type": "ReLU", "inplace": True}}}
    positions = {"num_feats": 128, "normalize": True}
    learning = maskformer.losses(num_classes, cross_entropy, cost, (2.0, 5.0, 5.0))
    learning["train_cfg"] |= {"num_points": 12544, "oversample_ratio": 3.0, "importance_sample_ratio": 0.75}
    return {
        "type": "Mask2FormerHead",
        "in_channels": in_channels,
        "strides": (4, 8, 16, 32),
        "feat_channels": 256,
        "out_channels": 256,
        "num_classes": num_classes,
        "num_queries": 100,
        "num_transformer_feat_level": 3,
        "align_corners": False,
        "pixel_decoder": {
            "type": "mmdet.MSDeformAttnPixelDecoder",
            "num_outs": 3,
            "norm_cfg": {"type": "GN", "num_groups": 32},
            "act_cfg": {"type": "ReLU"},
            "encoder": {"num_layers": 6, "layer_cfg": layer},
            "positional_encoding": positions,
        },
        "enforce_decoder_input_project": False,
        "positional_encoding": dict(positions),
        "transformer_decoder": maskformer.decoder(9, 0.0),
        **learning,
    }


def model(name: common.RecipeName) -> dict:
    """A plain ResNet."""
    depth = int(name.backbone[1:])
    backbone = {"type": "ResNet", "depth": depth, "norm_cfg": {"type": "SyncBN", "requires_grad": False}}
    return common.encoder_decoder(backbone, head(common.resnet_channels(depth), name.num_classes))


NAMES = """
mask2former_r50_8xb2-160k_ade20k-512x512
mask2former_r50_8xb2-90k_cityscapes-512x1024
mask2former_r101_8xb2-160k_ade20k-512x512
mask2former_r101_8xb2-90k_cityscapes-512x1024
"""
RECIPES = common.recipes(NAMES, model)


def get_config(arg: str | None = None) -> ConfigDict:
    """The recipe of that name."""
    return common.named(RECIPES, arg)
