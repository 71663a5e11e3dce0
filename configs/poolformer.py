"""PoolFormers (Yu et al. 2022) with a semantic feature pyramid: the reference's recipes by their names."""

from ml_collections import ConfigDict

from jaxseg.configs import common

CHANNELS = {"s": (64, 128, 320, 512), "m": (96, 192, 384, 768)}  # of the four stages


def model(name: common.RecipeName) -> dict:
    """A feature pyramid, whose maps are added. The first convolution is not trained."""
    backbone = {
        "type": "mmpretrain.PoolFormer",
        "arch": name.backbone.removeprefix("poolformer"),
        "out_indices": (0, 2, 4, 6),
    }
    neck = {"type": "FPN", "in_channels": CHANNELS[backbone["arch"][0]], "out_channels": 256, "num_outs": 4}
    head = common.head(
        "FPNHead", (256,) * 4, 128, name.num_classes, in_index=(0, 1, 2, 3), feature_strides=(4, 8, 16, 32)
    )
    return common.encoder_decoder(backbone, head, neck=neck)


def adamw(config: ConfigDict) -> None:
    """AdamW, a polynomial descent to 0, mixed precision; images are tested at sizes that 32 divides."""
    common.mixed_precision(config)
    config.optimizer = {"type": "AdamW", "lr": 0.0002, "weight_decay": 0.0001}
    config.schedule = common.poly(eta_min=0.0)
    config.data.val.transforms = common.evaluation_transforms((2048, 512), size_divisor=32)
    config.data.test.transforms = config.data.val.transforms


# How the names would read if they followed the grammar.
SPELLED = {
    "fpn_poolformer_m36_8xb4-40k_ade20k-512x512": "fpn_poolformerm36_8xb4-40k_ade20k-512x512",
    "fpn_poolformer_m48_8xb4-40k_ade20k-512x512": "fpn_poolformerm48_8xb4-40k_ade20k-512x512",
    "fpn_poolformer_s12_8xb4-40k_ade20k-512x512": "fpn_poolformers12_8xb4-40k_ade20k-512x512",
    "fpn_poolformer_s24_8xb4-40k_ade20k-512x512": "fpn_poolformers24_8xb4-40k_ade20k-512x512",
    "fpn_poolformer_s36_8x4_512x512_40k_ade20k": "fpn_poolformers36_8xb4-40k_ade20k-512x512",
}
RECIPES = common.recipes(" ".join(SPELLED), model, {"fpn": adamw}, spelled=SPELLED)


def get_config(arg: str | None = None) -> ConfigDict:
    """The recipe of that name."""
    return common.named(RECIPES, arg)
