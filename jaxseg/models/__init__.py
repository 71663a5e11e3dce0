"""Segmentation models as Flax modules.

The registries are plain dicts, keyed by the names that the reference's configs use as `type`.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn

from jaxseg.errors import ConfigError
from jaxseg.models import segmentors
from jaxseg.models.backbones import bisenetv1, bisenetv2, cgnet, ddrnet, icnet, pidnet, resnet, stdc
from jaxseg.models.heads import ann, apc, cc, da, ddr, dm, fcn, gc, pid, psp, uper
from jaxseg.models.heads import stdc as stdc_head
from jaxseg.models.necks import ic_neck
from jaxseg.models.registry import Config, Registry, build, field_defaults, plain, register

BACKBONES: Registry = {
    "BiSeNetV1": bisenetv1.BiSeNetV1,
    "BiSeNetV2": bisenetv2.BiSeNetV2,
    "CGNet": cgnet.CGNet,
    "DDRNet": ddrnet.DDRNet,
    "ICNet": icnet.ICNet,
    "PIDNet": pidnet.PIDNet,
    "ResNet": resnet.ResNet,
    "ResNetV1c": resnet.ResNetV1c,
    "ResNetV1d": resnet.ResNetV1d,
    "STDCContextPathNet": stdc.STDCContextPathNet,
    "STDCNet": stdc.STDCNet,
}
NECKS: Registry = {
    "ICNeck": ic_neck.ICNeck,
}
HEADS: Registry = {
    "DDRHead": ddr.DDRHead,
    "ANNHead": ann.ANNHead,
    "APCHead": apc.APCHead,
    "CCHead": cc.CCHead,
    "DAHead": da.DAHead,
    "DMHead": dm.DMHead,
    "FCNHead": fcn.FCNHead,
    "GCHead": gc.GCHead,
    "PIDHead": pid.PIDHead,
    "PSPHead": psp.PSPHead,
    "STDCHead": stdc_head.STDCHead,
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
