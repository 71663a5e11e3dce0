"""Learning rates that decay from the head of a model towards its images, layer by layer or stage by stage.

As the reference has it for BEiT and MAE (Bao et al. 2022, "BEiT") and ConvNeXt (Liu et al. 2022).
"""

import re
from collections.abc import Callable

from jaxseg.errors import ConfigError, did_you_mean

FIRST = ("backbone.cls_token", "backbone.mask_token", "backbone.pos_embed")


def rate_factor(backbone: str, name: str, num_layers: int, decay_rate: float, decay_type: str = "layer_wise") -> float:
    """Factor of the learning rate of one parameter.

    Args:
        backbone: Name of the backbone's class.
        name: The reference's name of the parameter, such as "backbone.layers.3.ffn.layers.1.weight".
        num_layers: Number of layers; with two more for what is before and after them, the factor of the last is 1.
        decay_rate: Factor from one layer to the one before it.
        decay_type: "layer_wise" ("layer_wise_vit" is the same) or "stage_wise".

    Raises:
        ConfigError: There is no such decay for this backbone.
    """
    kind = "layer_wise" if decay_type == "layer_wise_vit" else decay_type
    if kind not in ("layer_wise", "stage_wise"):
        allowed = ("layer_wise", "layer_wise_vit", "stage_wise")
        raise ConfigError(
            f"optimizer.paramwise_cfg.decay_type={decay_type!r} is not known. {did_you_mean(decay_type, allowed)}"
        )
    if (backbone, kind) not in LAYERS:
        known = ", ".join(f"{name} ({kind})" for name, kind in LAYERS)
        raise ConfigError(
            f"optimizer.paramwise_cfg.decay_type={decay_type!r} has no layers of {backbone}; it has those of {known}"
        )
    layer = 0 if name in FIRST else LAYERS[backbone, kind](name, num_layers)
    return decay_rate ** (num_layers + 1 - layer)


def _layer_of_vit(name: str, num_layers: int) -> int:
    if name.startswith("backbone.patch_embed"):
        return 0
    if found := re.match(r"backbone\.layers\.(\d+)", name):
        return int(found[1]) + 1
    return num_layers + 1


def _layer_of_convnext(name: str, num_layers: int) -> int:
    """The deep third stage counts by threes, the others are one layer each."""
    if found := re.match(r"backbone\.downsample_layers\.(\d+)", name):
        return (0, 2, 3, num_layers)[int(found[1])]
    if found := re.match(r"backbone\.stages\.(\d+)\.(\d+)", name):
        stage, block = int(found[1]), int(found[2])
        return (1, 2, 3 + block // 3, num_layers)[stage]
    return num_layers + 1


def _stage_of_convnext(name: str, num_layers: int) -> int:
    if name.startswith("backbone.downsample_layers"):
        return 0
    if found := re.match(r"backbone\.stages\.(\d+)", name):
        return int(found[1]) + 1
    return num_layers + 1


LAYERS: dict[tuple[str, str], Callable[[str, int], int]] = {
    ("BEiT", "layer_wise"): _layer_of_vit,
    ("MAE", "layer_wise"): _layer_of_vit,
    ("ConvNeXt", "layer_wise"): _layer_of_convnext,
    ("ConvNeXt", "stage_wise"): _stage_of_convnext,
}
