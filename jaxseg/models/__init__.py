"""Segmentation models as Flax modules.

The registries are plain dicts, keyed by the names that the reference's configs use as `type`.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn

from jaxseg.errors import ConfigError
from jaxseg.models import segmentors
from jaxseg.models.backbones import cgnet, fast_scnn, resnet
from jaxseg.models.heads import aspp, fcn, fpn, gc, point, psp, sep_aspp, sep_fcn, uper
from jaxseg.models.necks import fpn as fpn_neck
from jaxseg.models.registry import Config, Registry, build, field_defaults, plain, register

BACKBONES: Registry = {
    "CGNet": cgnet.CGNet,
    "FastSCNN": fast_scnn.FastSCNN,
    "ResNet": resnet.ResNet,
    "ResNetV1c": resnet.ResNetV1c,
    "ResNetV1d": resnet.ResNetV1d,
}
NECKS: Registry = {
    "FPN": fpn_neck.FPN,
}
HEADS: Registry = {
    "ASPPHead": aspp.ASPPHead,
    "DepthwiseSeparableASPPHead": sep_aspp.DepthwiseSeparableASPPHead,
    "DepthwiseSeparableFCNHead": sep_fcn.DepthwiseSeparableFCNHead,
    "FCNHead": fcn.FCNHead,
    "FPNHead": fpn.FPNHead,
    "GCHead": gc.GCHead,
    "PointHead": point.PointHead,
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
