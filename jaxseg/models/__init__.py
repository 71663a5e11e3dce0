"""Segmentation models as Flax modules.

The registries are plain dicts, keyed by the names that the reference's configs use as `type`.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn

from jaxseg.errors import ConfigError
from jaxseg.models import segmentors
from jaxseg.models.backbones import cgnet, hrnet, mobilenet_v2, mobilenet_v3, resnest, resnet, resnext
from jaxseg.models.heads import fcn, gc, lraspp, ocr, psp, uper
from jaxseg.models.registry import Config, Registry, build, field_defaults, plain, register

BACKBONES: Registry = {
    "CGNet": cgnet.CGNet,
    "HRNet": hrnet.HRNet,
    "MobileNetV2": mobilenet_v2.MobileNetV2,
    "MobileNetV3": mobilenet_v3.MobileNetV3,
    "ResNeSt": resnest.ResNeSt,
    "ResNeXt": resnext.ResNeXt,
    "ResNet": resnet.ResNet,
    "ResNetV1c": resnet.ResNetV1c,
    "ResNetV1d": resnet.ResNetV1d,
}
NECKS: Registry = {}
HEADS: Registry = {
    "FCNHead": fcn.FCNHead,
    "GCHead": gc.GCHead,
    "LRASPPHead": lraspp.LRASPPHead,
    "OCRHead": ocr.OCRHead,
    "PSPHead": psp.PSPHead,
    "UPerHead": uper.UPerHead,
}
SEGMENTORS: Registry = {
    "CascadeEncoderDecoder": segmentors.CascadeEncoderDecoder,
    "EncoderDecoder": segmentors.EncoderDecoder,
}

# Fields of a segmentor that are modules themselves.
PARTS: dict[str, Registry] = {"backbone": BACKBONES, "neck": NECKS, "decode_head": HEADS, "auxiliary_head": HEADS}

__all__ = [
    "BACKBONES",
    "HEADS",
    "NECKS",
    "PARTS",
    "SEGMENTORS",
    "build_model",
    "field_defaults",
    "register",
]


def build_model(config: Config) -> nn.Module:
    """Builds a segmentor from `config.model`.

    Args:
        config: `type`, `backbone`, `decode_head`, and where there are any `neck`, `auxiliary_head` (one or a
            sequence), `test_cfg`, `dtype`.

    Raises:
        ConfigError: A part is unknown or a field is; the message names the field and the nearest known one.
    """
    config = {key: value for key, value in plain(config).items() if value is not None}
    for name in ("backbone", "decode_head"):
        if name not in config:
            raise ConfigError(f"model.{name} is missing")
    parts: dict[str, Any] = {}
    for name, registry in PARTS.items():
        part = config.pop(name, None)
        if isinstance(part, Mapping):
            parts[name] = build(registry, part, f"model.{name}")
        elif part:
            parts[name] = tuple(build(registry, item, f"model.{name}[{i}]") for i, item in enumerate(part))
    return build(SEGMENTORS, config | parts, "model")
