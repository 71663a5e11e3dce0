"""SegFormer (Xie et al. 2021): the reference's recipes by their names."""

from ml_collections import ConfigDict

from jaxseg.configs import common

# By the backbone's size: channels of each head, blocks of each stage.
SIZES = {
    "b0": (32, (2, 2, 2, 2)),
    "b1": (64, (2, 2, 2, 2)),
    "b2": (64, (3, 4, 6, 3)),
    "b3": (64, (3, 4, 18, 3)),
    "b4": (64, (3, 8, 27, 3)),
    "b5": (64, (3, 6, 40, 3)),
}
HEADS = (1, 2, 5, 8)


def model(name: common.RecipeName) -> dict:
    """MiT of a size, all its maps mixed."""
    dims, layers = SIZES[name.words[0]]
    backbone = {
        "type": "MixVisionTransformer",
        "embed_dims": dims,
        "num_layers": layers,
        "num_heads": HEADS,
        "drop_path_rate": 0.1,
    }
    channels = tuple(dims * heads for heads in HEADS)
    return common.encoder_decoder(
        backbone, common.head("SegformerHead", channels, 256, name.num_classes, in_index=(0, 1, 2, 3))
    )


def segformer_run(config: ConfigDict) -> None:
    """AdamW with a faster head, a warm-up and linear decay."""
    keys = {"pos_block": {"decay_mult": 0.0}, "norm": {"decay_mult": 0.0}, "head": {"lr_mult": 10.0}}
    config.optimizer = {"type": "AdamW", "lr": 6e-5, "weight_decay": 0.01, "paramwise_cfg": {"custom_keys": keys}}
    config.schedule = common.poly(0.0, 1.0, warmup_steps=1500)
    if config.data.dataset == "Cityscapes":
        config.model.test_cfg = {"mode": "slide", "crop_size": (1024, 1024), "stride": (768, 768)}


NAMES = """
segformer_mit-b0_8xb1-160k_cityscapes-1024x1024
segformer_mit-b0_8xb2-160k_ade20k-512x512
segformer_mit-b1_8xb1-160k_cityscapes-1024x1024
segformer_mit-b1_8xb2-160k_ade20k-512x512
segformer_mit-b2_8xb1-160k_cityscapes-1024x1024
segformer_mit-b2_8xb2-160k_ade20k-512x512
segformer_mit-b3_8xb1-160k_cityscapes-1024x1024
segformer_mit-b3_8xb2-160k_ade20k-512x512
segformer_mit-b4_8xb1-160k_cityscapes-1024x1024
segformer_mit-b4_8xb2-160k_ade20k-512x512
segformer_mit-b5_8xb1-160k_cityscapes-1024x1024
segformer_mit-b5_8xb2-160k_ade20k-512x512
segformer_mit-b5_8xb2-160k_ade20k-640x640
"""
SPELLED = {"segformer_mit-b5_8xb2-160k_ade20k-640x640": "segformer_mit-b5_8xb2-160k_ade20k-640-640x640"}
CHANGES = {"segformer": segformer_run, **dict.fromkeys(SIZES, lambda config: None)}
RECIPES = common.recipes(NAMES, model, CHANGES, spelled=SPELLED)


def get_config(arg: str | None = None) -> ConfigDict:
    """The recipe of that name."""
    return common.named(RECIPES, arg)
