"""Segmentation models as Flax modules.

The registries are plain dicts, keyed by the names that the reference's configs use as `type`.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn

from jaxseg.errors import ConfigError
from jaxseg.models import multimodal, segmentors, text_encoder
from jaxseg.models.backbones import (
    beit,
    bisenetv1,
    bisenetv2,
    cgnet,
    convnext,
    ddrnet,
    erfnet,
    fast_scnn,
    hrnet,
    icnet,
    mae,
    mit,
    mobilenet_v2,
    mobilenet_v3,
    mscan,
    pidnet,
    poolformer,
    resnest,
    resnet,
    resnext,
    stdc,
    swin,
    twins,
    unet,
    vit,
)
from jaxseg.models.heads import (
    ann,
    apc,
    aspp,
    cc,
    da,
    ddr,
    dm,
    dnl,
    dpt,
    ema,
    enc,
    fcn,
    fpn,
    gc,
    ham,
    isa,
    knet,
    lraspp,
    mask2former,
    maskformer,
    nl,
    ocr,
    pid,
    point,
    psa,
    psp,
    san,
    segformer,
    segmenter_mask,
    sep_aspp,
    sep_fcn,
    setr_mla,
    setr_up,
    uper,
)
from jaxseg.models.heads import stdc as stdc_head
from jaxseg.models.necks import feature2pyramid, ic_neck, jpu, mla, multilevel
from jaxseg.models.necks import fpn as fpn_neck
from jaxseg.models.registry import Config, Registry, build, field_defaults, plain, register

BACKBONES: Registry = {
    "BEiT": beit.BEiT,
    "BiSeNetV1": bisenetv1.BiSeNetV1,
    "BiSeNetV2": bisenetv2.BiSeNetV2,
    "CGNet": cgnet.CGNet,
    "DDRNet": ddrnet.DDRNet,
    "ERFNet": erfnet.ERFNet,
    "FastSCNN": fast_scnn.FastSCNN,
    "HRNet": hrnet.HRNet,
    "ICNet": icnet.ICNet,
    "MAE": mae.MAE,
    "MixVisionTransformer": mit.MixVisionTransformer,
    "mmpretrain.ConvNeXt": convnext.ConvNeXt,
    "mmpretrain.PoolFormer": poolformer.PoolFormer,
    "MobileNetV2": mobilenet_v2.MobileNetV2,
    "MobileNetV3": mobilenet_v3.MobileNetV3,
    "MSCAN": mscan.MSCAN,
    "PCPVT": twins.PCPVT,
    "PIDNet": pidnet.PIDNet,
    "ResNeSt": resnest.ResNeSt,
    "ResNet": resnet.ResNet,
    "ResNetV1c": resnet.ResNetV1c,
    "ResNetV1d": resnet.ResNetV1d,
    "ResNeXt": resnext.ResNeXt,
    "STDCContextPathNet": stdc.STDCContextPathNet,
    "STDCNet": stdc.STDCNet,
    "SVT": twins.SVT,
    "SwinTransformer": swin.SwinTransformer,
    "UNet": unet.UNet,
    "VisionTransformer": vit.VisionTransformer,
}
NECKS: Registry = {
    "Feature2Pyramid": feature2pyramid.Feature2Pyramid,
    "FPN": fpn_neck.FPN,
    "ICNeck": ic_neck.ICNeck,
    "JPU": jpu.JPU,
    "MLANeck": mla.MLANeck,
    "MultiLevelNeck": multilevel.MultiLevelNeck,
}
HEADS: Registry = {
    "ANNHead": ann.ANNHead,
    "APCHead": apc.APCHead,
    "ASPPHead": aspp.ASPPHead,
    "CCHead": cc.CCHead,
    "DAHead": da.DAHead,
    "DDRHead": ddr.DDRHead,
    "DepthwiseSeparableASPPHead": sep_aspp.DepthwiseSeparableASPPHead,
    "DepthwiseSeparableFCNHead": sep_fcn.DepthwiseSeparableFCNHead,
    "DMHead": dm.DMHead,
    "DNLHead": dnl.DNLHead,
    "DPTHead": dpt.DPTHead,
    "EMAHead": ema.EMAHead,
    "EncHead": enc.EncHead,
    "FCNHead": fcn.FCNHead,
    "FPNHead": fpn.FPNHead,
    "GCHead": gc.GCHead,
    "ISAHead": isa.ISAHead,
    "IterativeDecodeHead": knet.IterativeDecodeHead,
    "LightHamHead": ham.LightHamHead,
    "LRASPPHead": lraspp.LRASPPHead,
    "Mask2FormerHead": mask2former.Mask2FormerHead,
    "MaskFormerHead": maskformer.MaskFormerHead,
    "NLHead": nl.NLHead,
    "OCRHead": ocr.OCRHead,
    "PIDHead": pid.PIDHead,
    "PointHead": point.PointHead,
    "PSAHead": psa.PSAHead,
    "PSPHead": psp.PSPHead,
    "SegmenterMaskTransformerHead": segmenter_mask.SegmenterMaskTransformerHead,
    "SETRMLAHead": setr_mla.SETRMLAHead,
    "SETRUPHead": setr_up.SETRUPHead,
    "SegformerHead": segformer.SegformerHead,
    "SideAdapterCLIPHead": san.SideAdapterCLIPHead,
    "STDCHead": stdc_head.STDCHead,
    "UPerHead": uper.UPerHead,
}
SEGMENTORS: Registry = {
    "CascadeEncoderDecoder": segmentors.CascadeEncoderDecoder,
    "EncoderDecoder": segmentors.EncoderDecoder,
    "MultimodalEncoderDecoder": multimodal.MultimodalEncoderDecoder,
}
TEXT_ENCODERS: Registry = {
    "CLIPTextEncoder": text_encoder.CLIPTextEncoder,
}

# Fields of a segmentor that are modules themselves.
PARTS: dict[str, Registry] = {
    "backbone": BACKBONES,
    "neck": NECKS,
    "image_encoder": BACKBONES,
    "text_encoder": TEXT_ENCODERS,
    "decode_head": HEADS,
    "auxiliary_head": HEADS,
}

__all__ = [
    "BACKBONES",
    "HEADS",
    "NECKS",
    "PARTS",
    "SEGMENTORS",
    "TEXT_ENCODERS",
    "build_model",
    "field_defaults",
    "register",
]


def build_model(config: Config) -> nn.Module:
    """Builds a segmentor from `config.model`.

    Args:
        config: `type`, `backbone`, `decode_head`, and where there are any `neck`, `auxiliary_head` (one or a
            sequence), `test_cfg`, `dtype`, `remat`; `image_encoder` and `text_encoder` of a model that has these.

    Raises:
        ConfigError: A part is unknown or a field is; the message names the field and the nearest known one.
    """
    config = {key: value for key, value in plain(config).items() if value is not None}
    first = "image_encoder" if "image_encoder" in config else "backbone"
    for name in (first, "decode_head"):
        if name not in config:
            raise ConfigError(f"model.{name} is missing")
    parts: dict[str, Any] = {}
    for name, registry in PARTS.items():
        part = config.pop(name, None)
        if name == first and config.get("remat") and "with_cp" in field_defaults(registry, part):
            part = {**part, "with_cp": True}
        if isinstance(part, Mapping):
            parts[name] = build(registry, part, f"model.{name}")
        elif part:
            parts[name] = tuple(build(registry, item, f"model.{name}[{i}]") for i, item in enumerate(part))
    return build(SEGMENTORS, config | parts, "model")
