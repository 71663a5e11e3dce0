"""Swin Transformers (Liu et al. 2021) with UPerNet: the reference's recipes by their names."""

from typing import Any

from ml_collections import ConfigDict

from jaxseg.configs import common

# Channels of the first stage, blocks of each, and heads.
SIZES = {
    "tiny": (96, (2, 2, 6, 2), (3, 6, 12, 24)),
    "small": (96, (2, 2, 18, 2), (3, 6, 12, 24)),
    "base": (128, (2, 2, 18, 2), (4, 8, 16, 32)),
    "large": (192, (2, 2, 18, 2), (6, 12, 24, 48)),
}


def swin(size: str, window_size: int = 7, **fields: Any) -> dict[str, Any]:
    """A Swin Transformer by its size."""
    channels, depths, heads = SIZES[size]
    return {
        "type": "SwinTransformer",
        "embed_dims": channels,
        "depths": depths,
        "num_heads": heads,
        "window_size": window_size,
        "drop_path_rate": 0.3,
    } | fields


def swin_channels(size: str) -> tuple[int, ...]:
    """Channels of the four stages."""
    return tuple(SIZES[size][0] * 2**i for i in range(4))


def model(name: common.RecipeName) -> dict:
    """A pooled feature pyramid on all stages, an auxiliary FCN head on the third."""
    size, window = name.method.removeprefix("swin-").split("-")[0], 12 if "-window12-" in name.method else 7
    channels = swin_channels(size)
    return common.encoder_decoder(
        swin(size, window, pretrain_img_size=384 if "-384x384-" in name.method else 224),
        common.head("UPerHead", channels, 512, name.num_classes, in_index=(0, 1, 2, 3)),
        common.auxiliary_fcn(channels[2], 256, name.num_classes),
    )


def adamw(config: ConfigDict) -> None:
    """AdamW, which leaves norms and positions without decay; a linear warm-up and a linear descent to 0."""
    without = ("absolute_pos_embed", "relative_position_bias_table", "norm")
    config.optimizer = {
        "type": "AdamW",
        "lr": 0.00006,
        "weight_decay": 0.01,
        "paramwise_cfg": {"custom_keys": {key: {"decay_mult": 0.0} for key in without}},
    }
    config.schedule = common.poly(eta_min=0.0, power=1.0, warmup_steps=1500)


def two_dates(config: ConfigDict) -> None:
    """What has changed between two images: both are one of six channels; trains on four, whatever the name says."""
    config.batch_size = 4
    config.preprocess = {name: (*values, *values) for name, values in common.IMAGENET.items()}
    config.model.backbone["in_channels"] = 6
    both = ({"type": "LoadMultipleRSImageFromFile"}, {"type": "LoadAnnotations"})
    joined = {"type": "ConcatCDInput"}
    augmentation = {
        "type": "Albu",
        "transforms": (
            {"type": "RandomBrightnessContrast", "p": 0.2},
            {"type": "HorizontalFlip", "p": 0.5},
            {"type": "VerticalFlip", "p": 0.5},
        ),
    }
    pad = {"type": "Pad", "size": (256, 256), "pad_val": config.preprocess["mean"], "seg_pad_val": 255}
    config.data.train.transforms = (*both, augmentation, joined, pad)
    config.data.val.transforms = config.data.test.transforms = (*both, joined)
    config.data.val.split = config.data.test.split = "test"


NAMES = """
swin-base-patch4-window12-in1k-384x384-pre_upernet_8xb2-160k_ade20k-512x512
swin-base-patch4-window12-in22k-384x384-pre_upernet_8xb2-160k_ade20k-512x512
swin-base-patch4-window7-in1k-pre_upernet_8xb2-160k_ade20k-512x512
swin-base-patch4-window7-in22k-pre_upernet_8xb2-160k_ade20k-512x512
swin-large-patch4-window12-in22k-384x384-pre_upernet_8xb2-160k_ade20k-512x512
swin-large-patch4-window7-in22k-pre_upernet_8xb2-160k_ade20k-512x512
swin-small-patch4-window7-in1k-pre_upernet_8xb2-160k_ade20k-512x512
swin-tiny-patch4-window7-in1k-pre_upernet_8xb2-160k_ade20k-512x512
swin-tiny-patch4-window7_upernet_1xb8-20k_levir-256x256
"""
CHANGES = {name.partition("_")[0]: adamw for name in NAMES.split()}
CHANGES["swin-tiny-patch4-window7_upernet_1xb8-20k_levir-256x256"] = two_dates
RECIPES = common.recipes(NAMES, model, CHANGES)


def get_config(arg: str | None = None) -> ConfigDict:
    """The recipe of that name."""
    return common.named(RECIPES, arg)
