"""Vision transformers, ViT (Dosovitskiy et al. 2021) and DeiT (Touvron et al. 2021): the reference's recipes."""

from ml_collections import ConfigDict

from jaxseg.configs import common


def model(name: common.RecipeName) -> dict:
    """UPerNet on four layers, made a pyramid by a neck ("mln") or as they are."""
    dims, heads = (384, 6) if "s16" in name.words else (768, 12)
    backbone = {
        "type": "VisionTransformer",
        "img_size": (512, 512),
        "embed_dims": dims,
        "num_heads": heads,
        "out_indices": (2, 5, 8, 11),
        "drop_path_rate": 0.1 if name.backbone == "deit" or "ln" in name.words else 0.0,
        "final_norm": "ln" in name.words,
        "norm_cfg": {"type": "LN", "eps": 1e-6},
    }
    neck = {"type": "MultiLevelNeck", "in_channels": (dims,) * 4, "out_channels": dims, "scales": (4, 2, 1, 0.5)}
    return common.encoder_decoder(
        backbone,
        common.head("UPerHead", (dims,) * 4, 512, name.num_classes, in_index=(0, 1, 2, 3)),
        common.auxiliary_fcn(dims, 256, name.num_classes, in_index=3),
        neck=neck if "mln" in name.words else None,
    )


def adamw(config: ConfigDict) -> None:
    """AdamW without decay of positions, class token and norms; a warm-up and linear decay."""
    spared = ("pos_embed", "cls_token", "norm")
    config.optimizer = {
        "type": "AdamW",
        "lr": 0.00006,
        "weight_decay": 0.01,
        "paramwise_cfg": {"custom_keys": {key: {"decay_mult": 0.0} for key in spared}},
    }
    config.schedule = common.poly(eta_min=0.0, power=1.0, warmup_steps=1500)


def half_as_long(config: ConfigDict) -> None:
    """The reference's recipe of this name trains for 80,000 steps."""
    config.total_steps, config.evaluate_every, config.checkpoint_every = 80000, 8000, 8000


def in_the_model(config: ConfigDict) -> None:
    """Nothing more: the words are in the model."""


NAMES = """
vit_deit-b16-ln_mln_upernet_8xb2-160k_ade20k-512x512
vit_deit-b16_mln_upernet_8xb2-160k_ade20k-512x512
vit_deit-b16_upernet_8xb2-160k_ade20k-512x512
vit_deit-b16_upernet_8xb2-80k_ade20k-512x512
vit_deit-s16-ln_mln_upernet_8xb2-160k_ade20k-512x512
vit_deit-s16_mln_upernet_8xb2-160k_ade20k-512x512
vit_deit-s16_upernet_8xb2-160k_ade20k-512x512
vit_deit-s16_upernet_8xb2-80k_ade20k-512x512
vit_vit-b16-ln_mln_upernet_8xb2-160k_ade20k-512x512
vit_vit-b16_mln_upernet_8xb2-160k_ade20k-512x512
vit_vit-b16_mln_upernet_8xb2-80k_ade20k-512x512
"""
CHANGES = {
    "vit": adamw,
    **dict.fromkeys(("b16", "ln", "mln", "s16", "upernet"), in_the_model),
    "vit_deit-s16_upernet_8xb2-160k_ade20k-512x512": half_as_long,
}
RECIPES = common.recipes(NAMES, model, CHANGES)


def get_config(arg: str | None = None) -> ConfigDict:
    """The recipe of that name."""
    return common.named(RECIPES, arg)
