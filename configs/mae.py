"""MAE (He et al. 2022) under UPerNet: the reference's recipes by their names."""

from ml_collections import ConfigDict

from jaxseg.configs import common
from jaxseg.configs.beit import layer_decay, upernet


def model(name: common.RecipeName) -> dict:
    """The model of a recipe."""
    backbone = {
        "type": "MAE",
        "img_size": name.crop,
        "embed_dims": 768,
        "num_layers": 12,
        "num_heads": 12,
        "out_indices": (3, 5, 7, 11),
        "drop_path_rate": 0.1,
        "norm_cfg": {"type": "LN", "eps": 1e-6},
        "init_values": 1.0,
    }
    return upernet(backbone, name)


def base(config: ConfigDict) -> None:
    """What it learns by."""
    layer_decay(config, 1e-4, 0.65)


def not_mixed(config: ConfigDict) -> None:
    """The name says mixed precision; what the reference runs is not."""
    config.model.dtype = None


NAMES = """
mae-base_upernet_8xb2-amp-160k_ade20k-512x512
mae-base_upernet_8xb2-amp-160k_ade20k-512x512-ms
"""
SPELLED = {name: name.removesuffix("-ms") for name in NAMES.split()}
RECIPES = common.recipes(NAMES, model, {"mae-base": base, "amp": not_mixed}, spelled=SPELLED)


def get_config(arg: str | None = None) -> ConfigDict:
    """The recipe of that name."""
    return common.named(RECIPES, arg)
