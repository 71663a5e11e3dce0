"""ConvNeXts (Liu et al. 2022) with UPerNet: the reference's recipes by their names."""

from typing import Any

from ml_collections import ConfigDict

from jaxseg.configs import common

# Channels of the four stages.
CHANNELS = {
    "tiny": (96, 192, 384, 768),
    "small": (96, 192, 384, 768),
    "base": (128, 256, 512, 1024),
    "large": (192, 384, 768, 1536),
    "xlarge": (256, 512, 1024, 2048),
}


def model(name: common.RecipeName) -> dict:
    """A pooled feature pyramid on all stages, an auxiliary FCN head on the third."""
    arch = name.method.removeprefix("convnext-")
    channels = CHANNELS[arch]
    backbone: dict[str, Any] = {
        "type": "mmpretrain.ConvNeXt",
        "arch": arch,
        "out_indices": (0, 1, 2, 3),
        "drop_path_rate": 0.3 if arch == "small" else 0.4,
        "layer_scale_init_value": 1.0,
        "gap_before_final_norm": False,
    }
    return common.encoder_decoder(
        backbone,
        common.head("UPerHead", channels, 512, name.num_classes, in_index=(0, 1, 2, 3)),
        common.auxiliary_fcn(channels[2], 256, name.num_classes),
    )


def upernet(num_layers: int = 12, lr: float = 0.0001) -> common.Change:
    """AdamW with smaller rates for earlier stages, a linear warm-up and a linear descent to 0.

    Images are predicted by windows that overlap by a third.
    """

    def change(config: ConfigDict) -> None:
        layers = {"num_layers": num_layers, "decay_rate": 0.9, "decay_type": "stage_wise"}
        config.optimizer = {"type": "AdamW", "lr": lr, "weight_decay": 0.05, "paramwise_cfg": layers}
        config.schedule = common.poly(eta_min=0.0, power=1.0, warmup_steps=1500)
        (crop,) = (t["crop_size"] for t in config.data.train.transforms if t["type"] == "RandomCrop")
        config.model.test_cfg = {"mode": "slide", "crop_size": crop, "stride": tuple(2 * side // 3 for side in crop)}

    return change


NAMES = """
convnext-base_upernet_8xb2-amp-160k_ade20k-512x512
convnext-base_upernet_8xb2-amp-160k_ade20k-640x640
convnext-large_upernet_8xb2-amp-160k_ade20k-640x640
convnext-small_upernet_8xb2-amp-160k_ade20k-512x512
convnext-tiny_upernet_8xb2-amp-160k_ade20k-512x512
convnext-xlarge_upernet_8xb2-amp-160k_ade20k-640x640
"""
CHANGES = {f"convnext-{arch}": upernet() for arch in ("small", "base", "large")} | {
    "convnext-tiny": upernet(num_layers=6),
    "convnext-xlarge": upernet(lr=0.00008),
}
RECIPES = common.recipes(NAMES, model, CHANGES)


def get_config(arg: str | None = None) -> ConfigDict:
    """The recipe of that name."""
    return common.named(RECIPES, arg)
