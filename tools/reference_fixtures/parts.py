"""Configs of the backbones, heads and necks that have figures."""

from typing import Any

from reference_fixtures.common import BN


def resnet(depth: int, kind: str = "ResNet", **more: Any) -> dict[str, Any]:
    return {"type": kind, "depth": depth, "stem_channels": 16, "base_channels": 16, "norm_cfg": BN, **more}


def _unet(**more: Any) -> dict[str, Any]:
    return {"type": "UNet", "base_channels": 8, "norm_cfg": BN, **more}


D8 = {"dilations": [1, 1, 2, 4], "strides": [1, 2, 1, 1]}
EVEN, ODD = [1, 3, 64, 96], [1, 3, 61, 93]


def resnest(**more: Any) -> dict[str, Any]:
    return resnet(50, "ResNeSt", **more)


def _hrnet(**more: Any) -> dict[str, Any]:
    extra = {
        f"stage{i}": {
            "num_modules": modules,
            "num_branches": i,
            "block": "BOTTLENECK" if i == 1 else "BASIC",
            "num_blocks": [1] * i,
            "num_channels": [4, 8, 12, 16][:i],
        }
        for i, modules in enumerate((1, 1, 2, 1), start=1)
    }
    return {"type": "HRNet", "norm_cfg": BN, "extra": extra, **more}


def vit(kind: str = "VisionTransformer", **more: Any) -> dict[str, Any]:
    sizes = {"img_size": [48, 64], "patch_size": 8, "embed_dims": 12, "num_layers": 3, "num_heads": 3}
    return {"type": kind, **sizes, **more}


def _convnext(**more: Any) -> dict[str, Any]:
    arch = {"depths": [1, 2, 1], "channels": [8, 12, 16]}
    return {"type": "mmpretrain.ConvNeXt", "arch": arch, "out_indices": [0, 2], "gap_before_final_norm": False, **more}


def _poolformer(**more: Any) -> dict[str, Any]:
    arch = {"layers": [1, 2, 1, 1], "embed_dims": [8, 12, 16, 20], "mlp_ratios": [2, 4, 3, 2]}
    arch["layer_scale_init_value"] = 0.5
    return {"type": "mmpretrain.PoolFormer", "arch": arch, **more}


def _swin(**more: Any) -> dict[str, Any]:
    small = {"embed_dims": 8, "window_size": 3, "depths": [2, 1, 2, 1], "num_heads": [1, 2, 2, 4]}
    return {"type": "SwinTransformer", **small, **more}


BACKBONES: dict[str, tuple[dict[str, Any], list[int]]] = {
    "r18": (resnet(18), EVEN),
    "r18_full_width": (resnet(18, stem_channels=64, base_channels=64), EVEN),
    "r34": (resnet(34), EVEN),
    "r50": (resnet(50), EVEN),
    "r101_d8": (resnet(101, **D8), EVEN),
    "r152": (resnet(152), EVEN),
    "r50_odd": (resnet(50), ODD),
    "r18_d8_odd": (resnet(18, **D8), ODD),
    "r50_contract_dilation": (resnet(50, contract_dilation=True, **D8), EVEN),
    "r18_contract_dilation": (resnet(18, contract_dilation=True, **D8), EVEN),
    "r50_multi_grid": (resnet(50, multi_grid=[1, 2, 4], **D8), EVEN),
    "r50_multi_grid_contract": (resnet(50, multi_grid=[1, 2, 4], contract_dilation=True, **D8), EVEN),
    "r50_caffe": (resnet(50, style="caffe"), EVEN),
    "r50_avg_down_odd": (resnet(50, avg_down=True), ODD),
    "r50_deep_stem": (resnet(50, deep_stem=True), EVEN),
    "r50_out_indices": (resnet(50, out_indices=[1, 3]), EVEN),
    "r50_three_stages": (
        resnet(50, num_stages=3, strides=[1, 2, 2], dilations=[1, 1, 1], out_indices=[0, 2]),
        EVEN,
    ),
    "r18_stem_wider_than_base": (resnet(18, stem_channels=32), EVEN),
    "r50_group_norm": (resnet(50, norm_cfg={"type": "GN", "num_groups": 4}), EVEN),
    "r50_v1c_d8": (resnet(50, "ResNetV1c", contract_dilation=True, **D8), EVEN),
    "r18_v1c_odd": (resnet(18, "ResNetV1c"), ODD),
    "r101_v1d": (resnet(101, "ResNetV1d"), EVEN),
    "r50_v1d_d8_odd": (resnet(50, "ResNetV1d", **D8), ODD),
    "cgnet": ({"type": "CGNet", "norm_cfg": {**BN, "eps": 1e-3}}, EVEN),
    "cgnet_short": ({"type": "CGNet", "num_blocks": [3, 7], "norm_cfg": {**BN, "eps": 1e-3}}, EVEN),
    "erfnet": (
        {"type": "ERFNet", "enc_stage_non_bottlenecks": [1, 2], "enc_non_bottleneck_dilations": [2, 4]},
        ODD,
    ),
    "unet": (_unet(), EVEN),
    "unet_conv_first": (
        _unet(
            upsample_cfg={
                "type": "InterpConv",
                "conv_first": True,
                "kernel_size": 3,
                "padding": 1,
                "upsample_cfg": {"scale_factor": 2, "mode": "nearest"},
            }
        ),
        EVEN,
    ),
    "unet_deconv": (_unet(upsample_cfg={"type": "DeconvModule"}, enc_dilations=[1, 1, 2, 2, 1]), EVEN),
    "unet_strides": (
        _unet(
            strides=[1, 2, 1, 1, 2],
            downsamples=[True, False, True, True],
            dec_num_convs=[1, 2, 3, 2],
            dec_dilations=[1, 2, 1, 3],
            upsample_cfg={"type": "DeconvModule", "kernel_size": 2},
        ),
        EVEN,
    ),
    "cgnet_odd": ({"type": "CGNet", "num_blocks": [2, 3], "norm_cfg": {**BN, "eps": 1e-3}}, ODD),
    "hrnet_odd": (_hrnet(), ODD),
    "hrnet_finest_only": (_hrnet(multiscale_output=False), EVEN),
    "mit_odd": (
        {
            "type": "MixVisionTransformer",
            "embed_dims": 8,
            "num_layers": [1, 2, 1, 1],
            "qkv_bias": False,
            "mlp_ratio": 2,
        },
        ODD,
    ),
    "mobilenet_v2_odd": ({"type": "MobileNetV2", "norm_cfg": BN, "widen_factor": 0.5}, ODD),
    "mobilenet_v3_large_odd": (
        {"type": "MobileNetV3", "norm_cfg": BN, "arch": "large", "out_indices": [1, 3, 16]},
        ODD,
    ),
    "mobilenet_v3_large": (
        {"type": "MobileNetV3", "norm_cfg": BN, "arch": "large", "out_indices": [0, 7, 13], "reduction_factor": 2},
        EVEN,
    ),
    "mobilenet_v3_small_odd": ({"type": "MobileNetV3", "norm_cfg": BN, "reduction_factor": 2}, ODD),
    "resnest_odd": (resnest(), ODD),
    "resnest_groups": (resnest(groups=2, base_width=32, reduction_factor=2, **D8), EVEN),
    "resnest_one_result": (resnest(radix=1, avg_down_stride=False), EVEN),
    "resnext_odd": (resnet(50, "ResNeXt", groups=2, base_width=32), ODD),
    "resnext_d8_caffe": (resnet(50, "ResNeXt", groups=4, base_width=8, style="caffe", **D8), EVEN),
    "mscan_odd": (
        {
            "type": "MSCAN",
            "embed_dims": [8, 12, 16, 20],
            "mlp_ratios": [2, 2, 3, 2.5],
            "depths": [1, 2, 1, 1],
            "attention_kernel_sizes": [3, [1, 5], [1, 7], [3, 9]],
            "attention_kernel_paddings": [1, [0, 2], [0, 3], [1, 4]],
            "act_cfg": {"type": "ReLU"},
            "norm_cfg": BN,
        },
        ODD,
    ),
    "pcpvt_odd": (
        {
            "type": "PCPVT",
            "embed_dims": [8, 12, 16, 20],
            "num_heads": [1, 2, 4, 5],
            "depths": [1, 2, 1, 1],
            "qkv_bias": True,
            "norm_cfg": {"type": "LN", "eps": 1e-3},
        },
        ODD,
    ),
    "svt_odd": (
        {
            "type": "SVT",
            "embed_dims": [8, 12, 16],
            "num_heads": [1, 2, 4],
            "depths": [2, 3, 2],
            "qkv_bias": True,
            "windiow_sizes": [7, 5, 3],
        },
        ODD,
    ),
    "svt_one_side": (
        {"type": "SVT", "embed_dims": [8, 12], "num_heads": [1, 2], "depths": [2, 2], "windiow_sizes": [4, 2]},
        [2, 3, 48, 52],
    ),
    "fast_scnn_odd": (
        {"type": "FastSCNN", "norm_cfg": BN, "align_corners": True, "dw_act_cfg": "default", "out_indices": [2, 0]},
        ODD,
    ),
    "beit_norms": (vit("BEiT", out_indices=[0, 2], patch_norm=True, final_norm=True, qv_bias=False), [2, 3, 55, 66]),
    "beit": (vit("BEiT", num_fcs=3), [2, 3, 48, 64]),
    "mae": (vit("MAE", out_indices=[1, 2]), [2, 3, 48, 64]),
    "vit_norms_odd": (
        vit(out_indices=[0, 2], out_origin=True, patch_norm=True, patch_bias=True, pre_norm=True, final_norm=True),
        ODD,
    ),
    "vit_no_class_token_odd": (
        vit(with_cls_token=False, patch_pad="same", interpolate_mode="bilinear", qkv_bias=False, num_fcs=3),
        ODD,
    ),
    "vit_as_many_patches": (vit(norm_cfg={"type": "LN", "eps": 1e-3}, act_cfg={"type": "ReLU"}), [1, 3, 96, 32]),
    "convnext": (_convnext(), EVEN),
    "convnext_v2_odd": (
        _convnext(use_grn=True, layer_scale_init_value=0.0, linear_pw_conv=False, stem_patch_size=2, out_indices=1),
        ODD,
    ),
    "poolformer": (_poolformer(out_indices=[0, 2, 4]), EVEN),
    "poolformer_odd": (_poolformer(pool_size=5, in_patch_size=5, down_pad=0, out_indices=-1), ODD),
    "swin": (_swin(), EVEN),
    "swin_odd": (_swin(qkv_bias=False, qk_scale=0.3, patch_norm=False, out_indices=[1, 3], strides=[4, 2, 1, 2]), ODD),
    "swin_positions": (_swin(use_abs_pos_embed=True, pretrain_img_size=[64, 96], mlp_ratio=2), EVEN),
    "swin_patches": (_swin(patch_size=2, strides=[2, 3, 2, 2]), ODD),
}

LEVELS = [[2, 8, 33, 25], [2, 12, 17, 13], [2, 16, 9, 7], [2, 20, 5, 4]]
MAP = [[2, 24, 13, 17]]
WINDOWED = [[1, 4, 130, 161], [1, 6, 100, 121], [1, 8, 67, 71]]


def head_case(kind: str, shapes: list[list[int]], **more: Any) -> tuple[dict[str, Any], list[list[int]]]:
    channels = [shape[1] for shape in shapes]
    inputs = {"in_channels": channels[0], "in_index": 0}
    if len(channels) > 1:
        inputs = {"in_channels": channels, "in_index": list(range(len(channels)))}
    base = {"type": kind, "channels": 16, "num_classes": 6, "norm_cfg": BN, "dropout_ratio": 0.1}
    return {**base, **inputs, **more}, shapes


POOLS = {"pool_scales": [1, 2, 3, 6]}
TWO_MAPS = [[2, 12, 13, 17], [2, 24, 13, 17]]
HEADS: dict[str, tuple[dict[str, Any], list[list[int]]]] = {
    f"{name}{'_align_corners' if align else ''}": head_case(kind, shapes, align_corners=align, **more)
    for align in (False, True)
    for name, kind, shapes, more in (
        ("fcn_resize_concat", "FCNHead", LEVELS, {"input_transform": "resize_concat", "num_convs": 1}),
        ("fcn_no_convs", "FCNHead", MAP, {"num_convs": 0, "channels": 24, "concat_input": False}),
        ("fcn_dilated", "FCNHead", MAP, {"kernel_size": 3, "dilation": 6, "num_convs": 2}),
        ("upernet", "UPerHead", LEVELS, POOLS),
        ("psp", "PSPHead", MAP, POOLS),
        ("enc", "EncHead", LEVELS, {"num_codes": 5, "add_lateral": True}),
        ("aspp", "ASPPHead", MAP, {"dilations": [1, 2, 6]}),
        (
            "sep_aspp_alone",
            "DepthwiseSeparableASPPHead",
            MAP,
            {"dilations": [2, 6], "c1_in_channels": 0, "c1_channels": 0},
        ),
        ("sep_fcn", "DepthwiseSeparableFCNHead", MAP, {"dw_act_cfg": "default", "kernel_size": 5}),
        ("gc", "GCHead", MAP, {"pooling_type": "avg", "fusion_types": ["channel_mul", "channel_add"]}),
        ("gc_attention", "GCHead", MAP, {"concat_input": False}),
        ("lraspp", "LRASPPHead", WINDOWED, {"input_transform": "multiple_select"}),
        ("setr_up", "SETRUPHead", MAP, {"num_convs": 2, "up_scale": 3, "kernel_size": 1}),
        ("setr_mla", "SETRMLAHead", [[2, 12, 9, 7], [2, 24, 9, 7]], {"mla_channels": 8, "up_scale": 2}),
    )
}
# Those that resize nothing.
HEADS["ann"] = head_case("ANNHead", TWO_MAPS, project_channels=8, query_scales=[1, 1], key_pool_scales=[1, 2, 5])
HEADS["apc"] = head_case("APCHead", MAP, pool_scales=[1, 3, 5], fusion=False)
HEADS["cc"] = head_case("CCHead", MAP, recurrence=3, concat_input=False)
HEADS["da"] = head_case("DAHead", MAP, pam_channels=4)
HEADS["dm"] = head_case("DMHead", MAP, filter_sizes=[1, 2, 4, 5], fusion=True)
# Where align_corners makes no difference.
HEADS |= {
    "dnl": head_case("DNLHead", MAP, use_scale=False, temperature=0.25),
    "dnl_dot_product": head_case("DNLHead", MAP, mode="dot_product", concat_input=False),
    "ema": head_case("EMAHead", MAP, ema_channels=12, num_bases=5, num_stages=2, momentum=0.2, concat_input=False),
    "isa": head_case("ISAHead", MAP, isa_channels=8, down_factor=[4, 6]),
    "nl": head_case("NLHead", MAP, use_scale=False, reduction=3),
    "nl_concatenation": head_case("NLHead", MAP, mode="concatenation", norm_cfg=None),
    "nl_dot_product": head_case("NLHead", MAP, mode="dot_product"),
    "nl_gaussian": head_case("NLHead", MAP, mode="gaussian", concat_input=False),
    "segmenter": head_case(
        "SegmenterMaskTransformerHead",
        MAP,
        num_layers=2,
        num_heads=3,
        embed_dims=12,
        mlp_ratio=2,
        qkv_bias=False,
        norm_cfg={"type": "LN", "eps": 1e-4},
    ),
    "segformer": head_case("SegformerHead", LEVELS, interpolate_mode="bicubic", act_cfg={"type": "GELU"}),
    "psa": head_case("PSAHead", MAP, mask_size=[5, 8], normalization_factor=None),
    "psa_collect": head_case("PSAHead", [[2, 24, 8, 10]], mask_size=[11, 9], psa_type="collect", shrink_factor=1),
    "psa_collect_compact": head_case("PSAHead", MAP, mask_size=[7, 9], psa_type="collect", compact=True),
    "psa_compact": head_case("PSAHead", [[2, 24, 12, 17]], mask_size=[6, 8], compact=True, psa_softmax=False),
    "psa_distribute": head_case("PSAHead", [[2, 24, 8, 10]], mask_size=[3, 21], psa_type="distribute"),
}


def _kernel_update(updator: dict[str, Any], **more: Any) -> dict[str, Any]:
    updator = {"type": "KernelUpdator", "in_channels": 8, "feat_channels": 8, "norm_cfg": {"type": "LN"}, **updator}
    base = {"type": "KernelUpdateHead", "num_heads": 4, "feedforward_channels": 12, "in_channels": 16}
    return {**base, "out_channels": 16, "kernel_updator_cfg": updator, **more}


HEADS["knet"] = (
    {
        "type": "IterativeDecodeHead",
        "num_stages": 2,
        "kernel_generate_head": head_case("FCNHead", MAP, num_convs=1)[0],
        "kernel_update_head": [
            _kernel_update(
                {"gate_norm_act": True, "activate_out": True, "gate_sigmoid": False, "act_cfg": {"type": "GELU"}},
                feat_transform_cfg={"kernel_size": 3, "norm_cfg": BN},
                feat_gather_stride=2,
                mask_transform_stride=2,
                with_ffn=False,
            ),
            _kernel_update({}, mask_transform_stride=2, num_mask_fcs=1, num_ffn_fcs=3, dropout=0.1),
        ],
    },
    MAP,
)

PLAIN = [[2, channels, 9, 7] for channels in (8, 12, 16, 20)]
NECKS: dict[str, tuple[dict[str, Any], list[list[int]]]] = {
    "feature2pyramid": ({"type": "Feature2Pyramid", "embed_dim": 8, "norm_cfg": BN}, [[2, 8, 9, 7]] * 4),
    "feature2pyramid_small": (
        {"type": "Feature2Pyramid", "embed_dim": 8, "rescales": [2, 1, 0.5, 0.25], "norm_cfg": BN},
        [[2, 8, 9, 7]] * 4,
    ),
    "mla": ({"type": "MLANeck", "in_channels": [8, 12, 16, 20], "out_channels": 6}, PLAIN),
    "mla_norm": (
        {
            "type": "MLANeck",
            "in_channels": [8, 12, 16, 20],
            "out_channels": 6,
            "norm_cfg": BN,
            "act_cfg": {"type": "ReLU"},
        },
        PLAIN,
    ),
    "multilevel": ({"type": "MultiLevelNeck", "in_channels": [8, 12, 16, 20], "out_channels": 6}, PLAIN),
    "multilevel_one": (
        {"type": "MultiLevelNeck", "in_channels": [12], "out_channels": 6, "norm_cfg": BN, "act_cfg": {"type": "ReLU"}},
        PLAIN[1:2],
    ),
}
