"""SegNeXt (Guo et al. 2022): the reference's recipes by their names."""

from ml_collections import ConfigDict

from jaxseg.configs import common

# By the backbone's size: channels and blocks of each stage, channels of the head.
SIZES = {
    "t": ((32, 64, 160, 256), (3, 3, 5, 2), 256),
    "s": ((64, 128, 320, 512), (2, 2, 4, 2), 256),
    "b": ((64, 128, 320, 512), (3, 3, 12, 3), 512),
    "l": ((64, 128, 320, 512), (3, 5, 27, 3), 1024),
}


def model(name: common.RecipeName) -> dict:
    """MSCAN of a size; its last three maps, factorised."""
    size = name.words[0]
    dims, depths, channels = SIZES[size]
    backbone = {
        "type": "MSCAN",
        "embed_dims": dims,
        "mlp_ratios": (8, 8, 4, 4),
        "drop_path_rate": 0.3 if size == "l" else 0.1,
        "depths": depths,
        "norm_cfg": {"type": "BN"},
    }
    head = common.head(
        "LightHamHead",
        dims[1:],
        channels,
        name.num_classes,
        in_index=(1, 2, 3),
        norm_cfg={"type": "GN", "num_groups": 32},
        ham_channels=channels,
        ham_kwargs={"MD_S": 1, "MD_R": 16, "train_steps": 6, "eval_steps": 7, "inv_t": 100, "rand_init": True},
    )
    return common.encoder_decoder(backbone, head)


def segnext_run(config: ConfigDict) -> None:
    """AdamW with a faster head, a warm-up and linear decay; sizes of whole images are multiples of 32."""
    keys = {"pos_block": {"decay_mult": 0.0}, "norm": {"decay_mult": 0.0}, "head": {"lr_mult": 10.0}}
    config.optimizer = {"type": "AdamW", "lr": 6e-5, "weight_decay": 0.01, "paramwise_cfg": {"custom_keys": keys}}
    config.schedule = common.poly(0.0, 1.0, warmup_steps=1500)
    config.model.test_cfg = {"mode": "whole", "size_divisor": 32}


NAMES = """
segnext_mscan-b_1xb16-adamw-160k_ade20k-512x512
segnext_mscan-l_1xb16-adamw-160k_ade20k-512x512
segnext_mscan-s_1xb16-adamw-160k_ade20k-512x512
segnext_mscan-t_1xb16-adamw-160k_ade20k-512x512
"""
RECIPES = common.recipes(NAMES, model, {**dict.fromkeys(SIZES, lambda config: None), "adamw": segnext_run})


def get_config(arg: str | None = None) -> ConfigDict:
    """The recipe of that name."""
    return common.named(RECIPES, arg)
