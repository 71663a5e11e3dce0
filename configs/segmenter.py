"""Segmenter (Strudel et al. 2021) with ViT: the reference's recipes by their names."""

from ml_collections import ConfigDict

from jaxseg.configs import common

HALF = {"mean": (127.5, 127.5, 127.5), "std": (127.5, 127.5, 127.5)}
# By size: channels, layers, heads.
SIZES = {"t": (192, 12, 3), "s": (384, 12, 6), "b": (768, 12, 12), "l": (1024, 24, 16)}


def model(name: common.RecipeName) -> dict:
    """A transformer on pixels and classes ("mask"), or a classifier alone ("fcn"), on the last layer."""
    size, kind = name.words
    dims, layers, heads = SIZES[size]
    backbone = {
        "type": "VisionTransformer",
        "img_size": name.crop,
        "embed_dims": dims,
        "num_layers": layers,
        "num_heads": heads,
        "drop_path_rate": 0.1,
        "final_norm": True,
        "norm_cfg": {"type": "LN", "eps": 1e-6},
    }
    decoder, fields = "FCNHead", {"num_convs": 0, "concat_input": False, "norm_cfg": None}
    if kind == "mask":
        decoder = "SegmenterMaskTransformerHead"
        fields = {"num_layers": 2, "num_heads": heads, "embed_dims": dims, "norm_cfg": {"type": "LN"}}
    fields |= {"in_index": -1, "dropout_ratio": 0.0}
    return common.encoder_decoder(backbone, common.head(decoder, dims, dims, name.num_classes, **fields))


def slower(config: ConfigDict) -> None:
    """SGD without decay; whole images by windows of the crop's size."""
    config.optimizer = common.sgd(0.001, weight_decay=0.0)
    size = config.model.backbone.img_size
    config.model.test_cfg = {"mode": "slide", "crop_size": size, "stride": tuple(length - 32 for length in size)}


def in_the_model(config: ConfigDict) -> None:
    """Nothing more: the words are in the model."""


NAMES = """
segmenter_vit-b_mask_8xb1-160k_ade20k-512x512
segmenter_vit-l_mask_8xb1-160k_ade20k-512x512
segmenter_vit-s_fcn_8xb1-160k_ade20k-512x512
segmenter_vit-s_mask_8xb1-160k_ade20k-512x512
segmenter_vit-t_mask_8xb1-160k_ade20k-512x512
"""
# The crops of the largest are larger than its name says.
SPELLED = {"segmenter_vit-l_mask_8xb1-160k_ade20k-512x512": "segmenter_vit-l_mask_8xb1-160k_ade20k-640x640"}
CHANGES = {"segmenter": slower, **dict.fromkeys((*SIZES, "mask", "fcn"), in_the_model)}
RECIPES = common.recipes(NAMES, model, CHANGES, HALF, SPELLED)


def get_config(arg: str | None = None) -> ConfigDict:
    """The recipe of that name."""
    return common.named(RECIPES, arg)
