"""Mask2Former (Cheng et al. 2022) with ResNets and Swin transformers: the reference's recipes by their names."""

from typing import Any

from ml_collections import ConfigDict

from jaxseg.configs import common, maskformer, swin


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
    """On a plain ResNet whose norms are not trained, or on a Swin transformer; those for 384x384 have windows of 12."""
    if name.backbone == "swin":
        letter, large = maskformer.SWIN[name.words[0]], "pre" in name.words
        fields = {"window_size": 12, "pretrain_img_size": 384} if large else {}
        return common.encoder_decoder(swin.swin(letter, **fields), head(swin.swin_channels(letter), name.num_classes))
    depth = int(name.backbone[1:])
    backbone = {"type": "ResNet", "depth": depth, "norm_cfg": {"type": "SyncBN", "requires_grad": False}}
    return common.encoder_decoder(backbone, head(common.resnet_channels(depth), name.num_classes))


def mask2former(config: ConfigDict) -> None:
    """AdamW, slower in the backbone and without decay of queries and norms; sizes by the shorter edge."""
    backbone, queries = config.model.backbone, {"lr_mult": 1.0, "decay_mult": 0.0}
    keys = {"backbone": {"lr_mult": 0.1, "decay_mult": 1.0}}
    keys |= {name: dict(queries) for name in ("query_embed", "query_feat", "level_embed")}
    if backbone.type == "SwinTransformer":
        keys |= maskformer.swin_keys(backbone.depths, lr_mult=0.1)
        keys["absolute_pos_embed"] = {"lr_mult": 0.1, "decay_mult": 0.0}
    config.optimizer = {
        "type": "AdamW",
        "lr": 0.0001,
        "weight_decay": 0.05,
        "eps": 1e-8,
        "clip_grad": {"max_norm": 0.01, "norm_type": 2},
        "paramwise_cfg": {"custom_keys": keys, "norm_decay_mult": 0.0},
    }
    config.schedule = common.poly(eta_min=0)
    config.evaluate_every = config.checkpoint_every = 5000
    load, annotate, resize, *rest = config.data.train.transforms
    edge = min(resize["scale"])
    scales = tuple(int(edge * x * 0.1) for x in range(5, 21))
    resize = {"type": "RandomChoiceResize", "scales": scales, "resize_type": "ResizeShortestEdge", "max_size": 4 * edge}
    config.data.train.transforms = (load, annotate, resize, *rest)
    if edge != 640:
        config.model.test_cfg = {"mode": "whole", "size_divisor": 32}


NAMES = """
mask2former_r50_8xb2-160k_ade20k-512x512
mask2former_r50_8xb2-90k_cityscapes-512x1024
mask2former_r101_8xb2-160k_ade20k-512x512
mask2former_r101_8xb2-90k_cityscapes-512x1024
mask2former_swin-b-in1k-384x384-pre_8xb2-160k_ade20k-640x640
mask2former_swin-b-in22k-384x384-pre_8xb2-160k_ade20k-640x640
mask2former_swin-b-in22k-384x384-pre_8xb2-90k_cityscapes-512x1024
mask2former_swin-l-in22k-384x384-pre_8xb2-160k_ade20k-640x640
mask2former_swin-l-in22k-384x384-pre_8xb2-90k_cityscapes-512x1024
mask2former_swin-s_8xb2-160k_ade20k-512x512
mask2former_swin-s_8xb2-90k_cityscapes-512x1024
mask2former_swin-t_8xb2-160k_ade20k-512x512
mask2former_swin-t_8xb2-90k_cityscapes-512x1024
"""
SPELLED = {name: name.replace("-384x384", "") for name in NAMES.split()}
WORDS = common.PRETRAINED | maskformer.SIZES | dict.fromkeys(("in22k",), lambda config: None)
RECIPES = common.recipes(NAMES, model, {"mask2former": mask2former, **WORDS}, spelled=SPELLED)


def get_config(arg: str | None = None) -> ConfigDict:
    """The recipe of that name."""
    return common.named(RECIPES, arg)
