"""DPT (Ranftl et al. 2021) with ViT-B: the reference's recipe by its name."""

from ml_collections import ConfigDict

from jaxseg.configs import common
from jaxseg.configs.vit import adamw


def model(name: common.RecipeName) -> dict:
    """The head on four layers and their class tokens."""
    backbone = {"type": "VisionTransformer", "out_indices": (2, 5, 8, 11), "output_cls_token": True}
    fields = {"in_index": (0, 1, 2, 3), "embed_dims": 768, "readout_type": "project"}
    return common.encoder_decoder(backbone, common.head("DPTHead", (768,) * 4, 256, name.num_classes, **fields))


NAMES = "dpt_vit-b16_8xb2-160k_ade20k-512x512"
RECIPES = common.recipes(NAMES, model, {"b16": adamw})


def get_config(arg: str | None = None) -> ConfigDict:
    """The recipe of that name."""
    return common.named(RECIPES, arg)
