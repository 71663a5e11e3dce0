"""K-Net (Zhang et al. 2021): the reference's recipes by their names."""

from typing import Any

from ml_collections import ConfigDict

from jaxseg.configs import common, swin

SIZES = {"t": "tiny", "l": "large"}  # of Swin Transformers
RELU = {"type": "ReLU", "inplace": True}
# Heads that begin: type and what they have that is no default.
HEADS: dict[str, tuple[str, dict[str, Any]]] = {
    "deeplabv3": ("ASPPHead", {"dilations": (1, 12, 24, 36)}),
    "fcn": ("FCNHead", {"num_convs": 2, "concat_input": True}),
    "pspnet": ("PSPHead", {"pool_scales": (1, 2, 3, 6)}),
    "upernet": ("UPerHead", {"pool_scales": (1, 2, 3, 6), "in_index": (0, 1, 2, 3)}),
}


def model(name: common.RecipeName) -> dict:
    """A head of another method, whose kernels are updated three times."""
    kind, fields = HEADS[next(word for word in name.words if word in HEADS)]
    if name.backbone == "swin":
        size = SIZES[name.words[0]]
        backbone = swin.swin(size)
        channels = swin.swin_channels(size)
    else:
        backbone = name.resnet() if kind != "UPerHead" else common.resnet(50, 32)
        channels = common.resnet_channels(backbone["depth"])
    generate = {
        "type": kind,
        "in_channels": channels if kind == "UPerHead" else channels[3],
        "in_index": 3,
        "channels": 512,
        "dropout_ratio": 0.1,
        "num_classes": name.num_classes,
        "norm_cfg": dict(common.BN),
        "align_corners": False,
        "loss_decode": common.cross_entropy(use_sigmoid=False, loss_weight=1.0),
    }
    updator = {
        "type": "KernelUpdator",
        "in_channels": 256,
        "feat_channels": 256,
        "out_channels": 256,
        "act_cfg": RELU,
        "norm_cfg": {"type": "LN"},
    }
    update = {
        "type": "KernelUpdateHead",
        "num_classes": name.num_classes,
        "num_ffn_fcs": 2,
        "num_heads": 8,
        "num_mask_fcs": 1,
        "feedforward_channels": 2048,
        "in_channels": 512,
        "out_channels": 512,
        "dropout": 0.0,
        "conv_kernel_size": 1,
        "ffn_act_cfg": RELU,
        "with_ffn": True,
        "feat_transform_cfg": {"conv_cfg": {"type": "Conv2d"}, "act_cfg": None},
        "kernel_updator_cfg": updator,
    }
    head = {
        "type": "IterativeDecodeHead",
        "num_stages": 3,
        "kernel_generate_head": generate | fields,
        "kernel_update_head": (update,) * 3,
    }
    return common.encoder_decoder(backbone, head, common.auxiliary_fcn(channels[2], 256, name.num_classes))


def adamw(config: ConfigDict) -> None:
    """AdamW, a warm-up, and a rate that is divided by ten twice."""
    clip_grad = {"max_norm": 1, "norm_type": 2}
    config.optimizer = {"type": "AdamW", "lr": 1e-4, "weight_decay": 0.0005, "clip_grad": clip_grad}
    config.schedule = (
        {"type": "LinearLR", "start_factor": 0.001, "begin": 0, "end": 1000},
        {"type": "MultiStepLR", "begin": 1000, "milestones": (60000, 72000)},
    )
    if config.model.backbone.type == "SwinTransformer":
        keys = ("absolute_pos_embed", "relative_position_bias_table", "norm")
        config.optimizer.lr = 6e-5
        config.optimizer.paramwise_cfg = {"custom_keys": {key: {"decay_mult": 0.0} for key in keys}}


def larger(config: ConfigDict) -> None:
    """More of the branches are dropped, and crops are padded."""
    config.model.backbone.drop_path_rate = 0.4
    *others, pad = config.data.train.transforms
    config.data.train.transforms = (*others, {**pad, "size": (640, 640)})


NAMES = """
knet-s3_r50-d8_deeplabv3_8xb2-adamw-80k_ade20k-512x512
knet-s3_r50-d8_fcn_8xb2-adamw-80k_ade20k-512x512
knet-s3_r50-d8_pspnet_8xb2-adamw-80k_ade20k-512x512
knet-s3_r50-d8_upernet_8xb2-adamw-80k_ade20k-512x512
knet-s3_swin-l_upernet_8xb2-adamw-80k_ade20k-512x512
knet-s3_swin-l_upernet_8xb2-adamw-80k_ade20k-640x640
knet-s3_swin-t_upernet_8xb2-adamw-80k_ade20k-512x512
"""
LARGER = "knet-s3_swin-l_upernet_8xb2-adamw-80k_ade20k-640x640"
SPELLED = {LARGER: LARGER.replace("640x640", "512x512")}  # the file's own crops are overwritten in it
WORDS = dict.fromkeys((*HEADS, *SIZES), lambda config: None)
RECIPES = common.recipes(NAMES, model, {**WORDS, "adamw": adamw, LARGER: larger}, spelled=SPELLED)


def get_config(arg: str | None = None) -> ConfigDict:
    """The recipe of that name."""
    return common.named(RECIPES, arg)
