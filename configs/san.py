"""SAN (Xu et al. 2023) beside CLIP's vision transformers: the reference's recipes by their names."""

from typing import Any

from ml_collections import ConfigDict

from jaxseg.configs import common
from jaxseg.data.datasets import DATASETS

CLIP = {"mean": (122.7709, 116.7460, 104.0937), "std": (68.5005, 66.6322, 70.3232)}
NORM = {"type": "LN", "eps": 1e-5}
QUICK_GELU = {"type": "QuickGELU"}
# By the last part of CLIP's name: fields of the image encoder, width and heads of the text encoder, layers that
# recognise masks, and what the image encoder sees of an image, as a factor of its size.
SIZES: dict[str, tuple[dict[str, Any], tuple[int, int], int, float]] = {
    "vitb16": ({"num_layers": 9, "out_indices": (2, 5, 8), "img_size": (224, 224)}, (512, 8), 3, 0.5),
    "vitl14": (
        {
            "num_layers": 18,
            "out_indices": (5, 11, 17),
            "img_size": (336, 336),
            "patch_size": 14,
            "embed_dims": 1024,
            "num_heads": 16,
        },
        (768, 12),
        6,
        0.7,
    ),
}
VOCABULARIES = {"coco-stuff164k": "coco-stuff164k", "pascal-context-59": "pascal_context", "voc12aug": "voc"}


def model(name: common.RecipeName) -> dict:
    """The three networks; the classes' names are those of a data set, without a background."""
    fields, (width, text_heads), layers, resolution = SIZES[name.backbone]
    channels, heads = fields.get("embed_dims", 768), fields.get("num_heads", 12)
    num_classes = 20 if name.dataset == "voc12aug" else name.num_classes
    image_encoder = {
        "type": "VisionTransformer",
        "patch_pad": 0,
        "out_origin": True,
        "output_cls_token": True,
        "pre_norm": True,
        "norm_cfg": dict(NORM),
        "act_cfg": dict(QUICK_GELU),
        "frozen_exclude": ("pos_embed",),
    }
    text_encoder = {
        "type": "CLIPTextEncoder",
        "dataset_name": VOCABULARIES[name.dataset],
        "embed_dims": width,
        "num_heads": text_heads,
        "output_dims": width,
        "norm_cfg": dict(NORM),
    }
    return {
        "type": "MultimodalEncoderDecoder",
        "encoder_resolution": resolution,
        "image_encoder": image_encoder | fields,
        "text_encoder": text_encoder,
        "decode_head": head(num_classes, channels, heads, layers, width),
    }


def head(num_classes: int, channels: int, heads: int, layers: int, width: int) -> dict[str, Any]:
    """The side network, and CLIP's last layers."""
    side = {
        "in_channels": 3,
        "clip_channels": channels,
        "embed_dims": 240,
        "patch_size": 16,
        "patch_bias": True,
        "num_queries": 100,
        "cfg_encoder": {"num_encode_layer": 8, "num_heads": 6, "mlp_ratio": 4},
        "fusion_index": (0, 1, 2, 3),
        "cfg_decoder": {
            "num_heads": heads,
            "num_layers": 1,
            "embed_channels": 256,
            "mlp_channels": 256,
            "num_mlp": 3,
            "rescale": True,
        },
        "norm_cfg": {"type": "LN", "eps": 1e-6},
    }
    recognition = {
        "sos_token_format": "cls_token",
        "sos_token_num": 100,
        "cross_attn": False,
        "num_layers": layers,
        "embed_dims": channels,
        "num_heads": heads,
        "mlp_ratio": 4,
        "qkv_bias": True,
        "out_dims": width,
        "final_norm": True,
        "act_cfg": dict(QUICK_GELU),
        "norm_cfg": dict(NORM),
        "frozen_exclude": (),
    }
    costs = (
        {"type": "ClassificationCost", "weight": 2.0},
        {"type": "CrossEntropyLossCost", "weight": 5.0, "use_sigmoid": True},
        {"type": "DiceCost", "weight": 5.0, "pred_act": True, "eps": 1.0},
    )
    losses = (
        # The weights are COCO-Stuff's everywhere: with other classes the reference's recipes evaluate only.
        common.cross_entropy(loss_name="loss_cls_ce", loss_weight=2.0, class_weight=(*[1.0] * 171, 0.1)),
        common.cross_entropy(loss_name="loss_mask_ce", loss_weight=5.0, use_sigmoid=True),
        {
            "type": "DiceLoss",
            "ignore_index": None,
            "naive_dice": True,
            "eps": 1,
            "loss_name": "loss_mask_dice",
            "loss_weight": 5.0,
        },
    )
    return {
        "type": "SideAdapterCLIPHead",
        "num_classes": num_classes,
        "deep_supervision_idxs": (7,),
        "san_cfg": side,
        "maskgen_cfg": recognition,
        "train_cfg": {
            "num_points": 12544,
            "oversample_ratio": 3.0,
            "importance_sample_ratio": 0.75,
            "assigner": {"type": "HungarianAssigner", "match_costs": costs},
        },
        "loss_decode": losses,
    }


def san(config: ConfigDict) -> None:
    """AdamW; images to test on are resized by their shorter side, and padded."""
    config.model.test_cfg = {"mode": "whole", "size_divisor": 32}
    config.evaluate_every = config.checkpoint_every = 16000
    keys = {name: {"decay_mult": 0.0} for name in ("pos_embed", "cls_token", "norm")}
    config.optimizer = {"type": "AdamW", "lr": 6e-5, "weight_decay": 0.01, "paramwise_cfg": {"custom_keys": keys}}
    config.schedule = common.poly(eta_min=0.0, power=1.0, warmup_steps=1500)
    pad = {"type": "Pad", "size_divisor": 640, "pad_val": CLIP["mean"], "seg_pad_val": 255}
    *transforms, to_crop = config.data.train.transforms
    transforms += [to_crop] if config.data.dataset == "PascalVOC12Aug" else []
    config.data.train.transforms = (*transforms, pad)
    shorter_side = {"type": "ResizeShortestEdge", "scale": (640, 640), "max_size": 2560}
    for part in (config.data.val, config.data.test):
        part.transforms = ({"type": "LoadImage"}, shorter_side, {"type": "LoadAnnotations"})


def coco_stuff(config: ConfigDict) -> None:
    """Another rate, mixed precision, and images of many sizes."""
    common.mixed_precision(config)
    config.evaluate_every, config.checkpoint_every = 500, 10000
    custom_keys = config.optimizer.paramwise_cfg.custom_keys.to_dict()
    custom_keys["img_encoder"] = {"lr_mult": 0.1, "decay_mult": 1.0}  # which no parameter's name has
    config.optimizer = {
        "type": "AdamW",
        "lr": 1e-4,
        "weight_decay": 1e-4,
        "paramwise_cfg": {"custom_keys": custom_keys},
        "clip_grad": {"max_norm": 0.01, "norm_type": 2},
    }
    config.schedule = common.poly(eta_min=0.0, power=1.0)
    load, annotations, _, _, flip, colours, pad = config.data.train.transforms
    config.data.train.transforms = (
        load,
        annotations,
        {
            "type": "RandomChoiceResize",
            "scales": tuple(range(320, 961, 64)),
            "resize_type": "ResizeShortestEdge",
            "max_size": 2560,
        },
        {"type": "RandomCrop", "crop_size": (640, 640), "cat_max_ratio": 1.0},
        colours,
        flip,
        pad,
    )


def voc(config: ConfigDict) -> None:
    """Evaluates without the background."""
    classes, palette = DATASETS["PascalVOC12Aug"].classes[1:], DATASETS["PascalVOC12Aug"].palette[1:]
    for part in (config.data.val, config.data.test):
        part.classes, part.palette = classes, palette


# How the names would read if they said it all.
SPELLED = {
    "san-vit-b16_coco-stuff164k-640x640": "san_vitb16_1xb8-60k_coco-stuff164k-640x640",
    "san-vit-b16_pascal_context-640x640": "san_vitb16_1xb2-160k_pascal-context-59-480x480",
    "san-vit-b16_voc12aug-640x640": "san_vitb16_1xb2-160k_voc12aug-512x512",
    "san-vit-l14_coco-stuff164k-640x640": "san_vitl14_1xb4-60k_coco-stuff164k-640x640",
    "san-vit-l14_pascal_context-640x640": "san_vitl14_1xb2-160k_pascal-context-59-480x480",
    "san-vit-l14_voc12aug-640x640": "san_vitl14_1xb2-160k_voc12aug-512x512",
}
CHANGES = {"coco-stuff164k": coco_stuff, "voc12aug": voc}
RECIPES = common.recipes(
    " ".join(SPELLED),
    model,
    {"san": san} | {name: CHANGES[key] for name in SPELLED for key in CHANGES if key in name},
    CLIP,
    SPELLED,
)


def get_config(arg: str | None = None) -> ConfigDict:
    """The recipe of that name."""
    return common.named(RECIPES, arg)
