"""MaskFormer (Cheng et al. 2021) with ResNets and Swin transformers: the reference's recipes by their names."""

from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from jaxseg.configs import common, swin

# Swin transformers by their letters.
SWIN = {"t": "tiny", "s": "small", "b": "base", "l": "large"}
ATTENTION = {
    "embed_dims": 256,
    "num_heads": 8,
    "attn_drop": 0.1,
    "proj_drop": 0.1,
    "dropout_layer": None,
    "batch_first": True,
}
FFN = {
    "embed_dims": 256,
    "feedforward_channels": 2048,
    "num_fcs": 2,
    "act_cfg": {"type": "ReLU", "inplace": True},
    "ffn_drop": 0.1,
    "dropout_layer": None,
    "add_identity": True,
}


def decoder(num_layers: int, drop: float) -> dict[str, Any]:
    """The transformer that the queries go through."""
    attention = ATTENTION | {"attn_drop": drop, "proj_drop": drop}
    layer = {"self_attn_cfg": attention, "cross_attn_cfg": dict(attention), "ffn_cfg": FFN | {"ffn_drop": drop}}
    return {"return_intermediate": True, "num_layers": num_layers, "layer_cfg": layer}


def losses(num_classes: int, mask: Mapping, mask_cost: Mapping, weights: tuple[float, float, float]) -> dict[str, Any]:
    """Losses and matching of classes, masks and their overlap, by the weights of the three."""
    of_class, of_mask, of_dice = weights
    classes = {"type": "mmdet.CrossEntropyLoss", "use_sigmoid": False, "reduction": "mean"}
    dice = {"type": "mmdet.DiceLoss", "use_sigmoid": True, "activate": True, "reduction": "mean", "naive_dice": True}
    costs = (
        {"type": "mmdet.ClassificationCost", "weight": of_class},
        {**mask_cost, "weight": of_mask},
        {"type": "mmdet.DiceCost", "weight": of_dice, "pred_act": True, "eps": 1.0},
    )
    matching = {
        "assigner": {"type": "mmdet.HungarianAssigner", "match_costs": costs},
        "sampler": {"type": "mmdet.MaskPseudoSampler"},
    }
    return {
        "loss_cls": classes | {"loss_weight": of_class, "class_weight": (1.0,) * num_classes + (0.1,)},
        "loss_mask": {**mask, "reduction": "mean", "loss_weight": of_mask},
        "loss_dice": dice | {"eps": 1.0, "loss_weight": of_dice},
        "train_cfg": matching,
    }


def head(in_channels: tuple[int, ...], num_classes: int) -> dict[str, Any]:
    """Queries on all stages."""
    focal = {"type": "mmdet.FocalLoss", "use_sigmoid": True, "gamma": 2.0, "alpha": 0.25}
    cost = {"type": "mmdet.FocalLossCost", "binary_input": True}
    norms = {"norm_cfg": {"type": "GN", "num_groups": 32}, "act_cfg": {"type": "ReLU"}}
    return {
        "type": "MaskFormerHead",
        "in_channels": in_channels,
        "feat_channels": 256,
        "in_index": (0, 1, 2, 3),
        "num_classes": num_classes,
        "out_channels": 256,
        "num_queries": 100,
        "pixel_decoder": {"type": "mmdet.PixelDecoder", **norms},
        "enforce_decoder_input_project": False,
        "positional_encoding": {"num_feats": 128, "normalize": True},
        "transformer_decoder": decoder(6, 0.1),
        **losses(num_classes, focal, cost, (1.0, 20.0, 1.0)),
    }


def model(name: common.RecipeName) -> dict:
    """On a plain ResNet whose norms don't learn from the batch, or on a Swin transformer."""
    if name.backbone == "swin":
        size = SWIN[name.words[0]]
        return common.encoder_decoder(swin.swin(size), head(swin.swin_channels(size), name.num_classes))
    depth = int(name.backbone[1:])
    backbone = common.resnet(depth, 32, "ResNet", norm_eval=True)
    return common.encoder_decoder(backbone, head(common.resnet_channels(depth), name.num_classes))


def maskformer(config: ConfigDict) -> None:
    """AdamW, slower in the backbone."""
    config.optimizer = {
        "type": "AdamW",
        "lr": 0.0001,
        "weight_decay": 0.0001,
        "clip_grad": {"max_norm": 0.01, "norm_type": 2},
        "paramwise_cfg": {"custom_keys": {"backbone": {"lr_mult": 0.1}}},
    }
    config.schedule = common.poly(eta_min=0)


def on_swin(config: ConfigDict) -> None:
    """No decay of norms, positions and queries; a linear warm-up and a linear descent to 0."""
    config.optimizer.update({"lr": 0.00006, "weight_decay": 0.01})
    keys = {"backbone": {"lr_mult": 1.0}, "query_embed": {"decay_mult": 0.0}}
    config.optimizer.paramwise_cfg.custom_keys = keys | swin_keys(config.model.backbone.depths, lr_mult=1.0)
    config.schedule = common.poly(eta_min=0.0, power=1.0, warmup_steps=1500)


def swin_keys(depths: Sequence[int], lr_mult: float) -> dict[str, dict[str, float]]:
    """Factors of the rate and the decay in a Swin transformer's norms and positions."""
    without = {"lr_mult": lr_mult, "decay_mult": 0.0}
    norms = [f"stages_{i}_blocks_{j}_norm" for i, depth in enumerate(depths) for j in range(depth)]
    norms += [f"stages_{i}_downsample_norm" for i in range(len(depths) - 1)]
    names = [f"backbone_{name}" for name in ("patch_embed_norm", "norm", *norms)]
    return {name: dict(without) for name in (*names, "relative_position_bias_table")}


NAMES = """
maskformer_r50-d32_8xb2-160k_ade20k-512x512
maskformer_r101-d32_8xb2-160k_ade20k-512x512
maskformer_swin-s_upernet_8xb2-160k_ade20k-512x512
maskformer_swin-t_upernet_8xb2-160k_ade20k-512x512
"""
SIZES = dict.fromkeys(SWIN, lambda config: None)  # which the model says
RECIPES = common.recipes(NAMES, model, {"maskformer": maskformer, "upernet": on_swin, **SIZES})


def get_config(arg: str | None = None) -> ConfigDict:
    """The recipe of that name."""
    return common.named(RECIPES, arg)
