"""Twins (Chu et al. 2021) with the heads of Semantic FPN and UPerNet: the reference's recipes by their names."""

from ml_collections import ConfigDict

from jaxseg.configs import common, sem_fpn

# By the backbone and its size: channels, heads and blocks of each stage.
SIZES = {
    ("pcpvt", "s"): ((64, 128, 320, 512), (1, 2, 5, 8), (3, 4, 6, 3)),
    ("pcpvt", "b"): ((64, 128, 320, 512), (1, 2, 5, 8), (3, 4, 18, 3)),
    ("pcpvt", "l"): ((64, 128, 320, 512), (1, 2, 5, 8), (3, 8, 27, 3)),
    ("svt", "s"): ((64, 128, 256, 512), (2, 4, 8, 16), (2, 2, 10, 4)),
    ("svt", "b"): ((96, 192, 384, 768), (3, 6, 12, 24), (2, 2, 18, 2)),
    ("svt", "l"): ((128, 256, 512, 1024), (4, 8, 16, 32), (2, 2, 18, 2)),
}
KINDS = {
    "pcpvt": {"type": "PCPVT", "mlp_ratios": (8, 8, 4, 4)},
    "svt": {"type": "SVT", "mlp_ratios": (4, 4, 4, 4), "windiow_sizes": (7, 7, 7, 7)},
}
# Those that drop more of their branches.
DEEPER = (("pcpvt", "b", "uperhead"), ("pcpvt", "l", "uperhead"), ("svt", "l", "fpn"), ("svt", "l", "uperhead"))


def model(name: common.RecipeName) -> dict:
    """A backbone of a size, with a feature pyramid or UPerNet's heads."""
    size, head, *_ = name.words
    channels, heads, depths = SIZES[name.backbone, size]
    backbone = {
        **KINDS[name.backbone],
        "embed_dims": channels,
        "num_heads": heads,
        "depths": depths,
        "sr_ratios": (8, 4, 2, 1),
        "qkv_bias": True,
        "drop_path_rate": 0.3 if (name.backbone, size, head) in DEEPER else 0.2,
    }
    if head == "fpn":
        neck = {"type": "FPN", "in_channels": channels, "out_channels": 256, "num_outs": 4}
        return common.encoder_decoder(backbone, sem_fpn.head(name.num_classes), neck=neck)
    return common.encoder_decoder(
        backbone,
        common.head("UPerHead", channels, 512, name.num_classes, in_index=(0, 1, 2, 3)),
        common.auxiliary_fcn(channels[2], 256, name.num_classes),
    )


def fpn_run(config: ConfigDict) -> None:
    """AdamW."""
    config.optimizer = {"type": "AdamW", "lr": 1e-4, "weight_decay": 1e-4}


def upernet_run(config: ConfigDict) -> None:
    """AdamW, a warm-up and linear decay."""
    keys = {"pos_block": {"decay_mult": 0.0}, "norm": {"decay_mult": 0.0}}
    config.optimizer = {"type": "AdamW", "lr": 6e-5, "weight_decay": 0.01, "paramwise_cfg": {"custom_keys": keys}}
    config.schedule = common.poly(0.0, 1.0, warmup_steps=1500)


NAMES = """
twins_pcpvt-b_fpn_fpnhead_8xb4-80k_ade20k-512x512
twins_pcpvt-b_uperhead_8xb2-160k_ade20k-512x512
twins_pcpvt-l_fpn_fpnhead_8xb4-80k_ade20k-512x512
twins_pcpvt-l_uperhead_8xb2-160k_ade20k-512x512
twins_pcpvt-s_fpn_fpnhead_8xb4-80k_ade20k-512x512
twins_pcpvt-s_uperhead_8xb4-160k_ade20k-512x512
twins_svt-b_fpn_fpnhead_8xb4-80k_ade20k-512x512
twins_svt-b_uperhead_8xb2-160k_ade20k-512x512
twins_svt-l_fpn_fpnhead_8xb4-80k_ade20k-512x512
twins_svt-l_uperhead_8xb2-160k_ade20k-512x512
twins_svt-s_fpn_fpnhead_8xb4-80k_ade20k-512x512
twins_svt-s_uperhead_8xb2-160k_ade20k-512x512
"""
WORDS = dict.fromkeys(("s", "b", "l", "fpn"), lambda config: None)
RECIPES = common.recipes(NAMES, model, {**WORDS, "fpnhead": fpn_run, "uperhead": upernet_run})


def get_config(arg: str | None = None) -> ConfigDict:
    """The recipe of that name."""
    return common.named(RECIPES, arg)
