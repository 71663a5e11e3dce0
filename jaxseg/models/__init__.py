"""Segmentation models as Flax modules.

The registries are plain dicts, keyed by the names that the reference's configs use as `type`.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn

from jaxseg.errors import ConfigError
from jaxseg.models import segmentors
from jaxseg.models.backbones import cgnet, resnet
from jaxseg.models.heads import fcn, psp, uper
from jaxseg.models.registry import Config, Registry, build, plain, register

BACKBONES: Registry = {
    "CGNet": cgnet.CGNet,
    "ResNet": resnet.ResNet,
    "ResNetV1c": resnet.ResNetV1c,
    "ResNetV1d": resnet.ResNetV1d,
}
NECKS: Registry = {}
HEADS: Registry = {
    "FCNHead": fcn.FCNHead,
    "PSPHead": psp.PSPHead,
    "UPerHead": uper.UPerHead,
}
SEGMENTORS: Registry = {
    "EncoderDecoder": segmentors.EncoderDecoder,
}

__all__ = ["BACKBONES", "HEADS", "NECKS", "SEGMENTORS", "build_model", "register"]


def build_model(config: Config) -> nn.Module:
    """Builds a segmentor from `config.model`.

    Args:
        config: `type`, `backbone`, `decode_head`, and where there are any `neck`, `auxiliary_head` (one or a
            sequence), `test_cfg`, `dtype`.

    Raises:
        ConfigError: A part is unknown or a field is; the message names the field and the nearest known one.
    """
    config = {key: value for key, value in plain(config).items() if value is not None}
    parts: dict[str, Any] = {}
    for name, registry in (("backbone", BACKBONES), ("neck", NECKS), ("decode_head", HEADS)):
        if name in config:
            parts[name] = build(registry, config.pop(name), f"model.{name}")
        elif name != "neck":
            raise ConfigError(f"model.{name} is missing")
    auxiliary = config.pop("auxiliary_head", None)
    if isinstance(auxiliary, Mapping):
        parts["auxiliary_head"] = build(HEADS, auxiliary, "model.auxiliary_head")
    elif auxiliary:
        parts["auxiliary_head"] = tuple(
            build(HEADS, head, f"model.auxiliary_head[{i}]") for i, head in enumerate(auxiliary)
        )
    return build(SEGMENTORS, config | parts, "model")
