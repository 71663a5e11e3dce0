"""Checkpoints of the authors of SegFormer, Twins and SegNeXt fill the backbones: their names and shapes."""

import numpy as np
import pytest

from jaxseg.errors import CheckpointError
from jaxseg.mmseg.convert import convert, likeliest_source, to_state_dict
from jaxseg.models import build_model
from small_models import head_config

DEPTHS, WIDTHS, HEADS, RATIOS = (1, 2, 1, 2), (4, 8, 12, 16), (1, 2, 3, 4), (8, 4, 2, 1)


def layer(name, outputs, *inputs):
    return {f"{name}.weight": (outputs, *inputs), f"{name}.bias": (outputs,)}


def reduced_attention(name, c, ratio):
    shapes = layer(f"{name}.q", c, c) | layer(f"{name}.kv", 2 * c, c) | layer(f"{name}.proj", c, c)
    return shapes | (layer(f"{name}.sr", c, c, ratio, ratio) | layer(f"{name}.norm", c) if ratio > 1 else {})


def mit():
    """github.com/NVlabs/SegFormer, mmseg/models/backbones/mix_transformer.py."""
    shapes, before = {}, 3
    for stage, (depth, c, ratio) in enumerate(zip(DEPTHS, WIDTHS, RATIOS, strict=True)):
        number, size = stage + 1, 3 if stage else 7
        shapes |= layer(f"patch_embed{number}.proj", c, before, size, size) | layer(f"patch_embed{number}.norm", c)
        for i in range(depth):
            block = f"block{number}.{i}"
            shapes |= layer(f"{block}.norm1", c) | layer(f"{block}.norm2", c)
            shapes |= reduced_attention(f"{block}.attn", c, ratio)
            shapes |= layer(f"{block}.mlp.fc1", 4 * c, c) | layer(f"{block}.mlp.fc2", c, 4 * c)
            shapes |= layer(f"{block}.mlp.dwconv.dwconv", 4 * c, 1, 3, 3)
        shapes |= layer(f"norm{number}", c)
        before = c
    return shapes | layer("head", 10, WIDTHS[-1])


def twins(windows):
    """github.com/Meituan-AutoML/Twins, gvt.py."""
    shapes, before = {}, 3
    for stage, (depth, c, ratio) in enumerate(zip(DEPTHS, WIDTHS, RATIOS, strict=True)):
        size = 2 if stage else 4
        shapes |= layer(f"patch_embeds.{stage}.proj", c, before, size, size) | layer(f"patch_embeds.{stage}.norm", c)
        for i in range(depth):
            block = f"blocks.{stage}.{i}"
            shapes |= layer(f"{block}.norm1", c) | layer(f"{block}.norm2", c)
            if windows and i % 2 == 0:
                shapes |= layer(f"{block}.attn.qkv", 3 * c, c) | layer(f"{block}.attn.proj", c, c)
            else:
                shapes |= reduced_attention(f"{block}.attn", c, ratio)
            shapes |= layer(f"{block}.mlp.fc1", 4 * c, c) | layer(f"{block}.mlp.fc2", c, 4 * c)
        shapes |= layer(f"pos_block.{stage}.proj.0", c, 1, 3, 3)
        before = c
    return shapes | layer("norm", WIDTHS[-1]) | layer("head", 10, WIDTHS[-1])


def mscan():
    """github.com/Visual-Attention-Network/SegNeXt, mmseg/models/backbones/mscan.py."""

    def norm(name, c):
        return layer(name, c) | {f"{name}.running_mean": (c,), f"{name}.running_var": (c,)}

    c = WIDTHS[0]
    shapes = layer("patch_embed1.proj.0", c // 2, 3, 3, 3) | norm("patch_embed1.proj.1", c // 2)
    shapes |= layer("patch_embed1.proj.3", c, c // 2, 3, 3) | norm("patch_embed1.proj.4", c)
    for stage, (depth, c) in enumerate(zip(DEPTHS, WIDTHS, strict=True)):
        number = stage + 1
        if stage:
            shapes |= layer(f"patch_embed{number}.proj", c, WIDTHS[stage - 1], 3, 3)
            shapes |= norm(f"patch_embed{number}.norm", c)
        for i in range(depth):
            block, gate = f"block{number}.{i}", f"block{number}.{i}.attn.spatial_gating_unit"
            shapes |= {f"{block}.layer_scale_1": (c,), f"{block}.layer_scale_2": (c,)}
            shapes |= norm(f"{block}.norm1", c) | norm(f"{block}.norm2", c)
            shapes |= layer(f"{block}.attn.proj_1", c, c, 1, 1) | layer(f"{block}.attn.proj_2", c, c, 1, 1)
            shapes |= layer(f"{gate}.conv0", c, 1, 5, 5) | layer(f"{gate}.conv3", c, c, 1, 1)
            for j, length in enumerate((7, 11, 21)):
                shapes |= layer(f"{gate}.conv{j}_1", c, 1, 1, length) | layer(f"{gate}.conv{j}_2", c, 1, length, 1)
            shapes |= layer(f"{block}.mlp.fc1", 4 * c, c, 1, 1) | layer(f"{block}.mlp.fc2", c, 4 * c, 1, 1)
            shapes |= layer(f"{block}.mlp.dwconv.dwconv", 4 * c, 1, 3, 3)
        shapes |= layer(f"norm{number}", c)
    return shapes | layer("head", 10, WIDTHS[-1])


TWINS = {"embed_dims": WIDTHS, "num_heads": HEADS, "depths": DEPTHS, "mlp_ratios": (4,) * 4, "sr_ratios": RATIOS}
# Backbone, the authors' shapes, and some of their names with the reference's.
FAMILIES = {
    "mit": (
        {"type": "MixVisionTransformer", "embed_dims": 4, "num_heads": HEADS, "num_layers": DEPTHS},
        mit(),
        {
            "patch_embed2.proj.bias": "layers.1.0.projection.bias",
            "block2.1.attn.sr.weight": "layers.1.1.1.attn.sr.weight",
            "block2.1.attn.proj.weight": "layers.1.1.1.attn.attn.out_proj.weight",
            "block4.1.mlp.dwconv.dwconv.weight": "layers.3.1.1.ffn.layers.1.weight",
            "norm3.weight": "layers.2.2.weight",
        },
    ),
    "mscan": (
        {"type": "MSCAN", "embed_dims": WIDTHS, "depths": DEPTHS},
        mscan(),
        {
            "patch_embed1.proj.4.running_var": "patch_embed1.proj.4.running_var",
            "block2.1.attn.spatial_gating_unit.conv2_1.weight": "block2.1.attn.spatial_gating_unit.conv2_1.weight",
            "block2.1.mlp.dwconv.dwconv.weight": "block2.1.mlp.dwconv.weight",
        },
    ),
    "pcpvt": (
        {"type": "PCPVT", "qkv_bias": True, **TWINS},
        twins(False),
        {
            "patch_embeds.1.proj.weight": "patch_embeds.1.projection.weight",
            "pos_block.3.proj.0.weight": "position_encodings.3.proj.weight",
            "blocks.1.0.attn.proj.bias": "layers.1.0.attn.attn.out_proj.bias",
            "blocks.1.1.attn.norm.weight": "layers.1.1.attn.norm.weight",
            "blocks.3.1.mlp.fc1.weight": "layers.3.1.ffn.layers.0.0.weight",
        },
    ),
    "svt": (
        {"type": "SVT", "qkv_bias": True, "windiow_sizes": (7, 7, 7, 7), **TWINS},
        twins(True),
        {
            "blocks.1.0.attn.proj.bias": "layers.1.0.attn.proj.bias",
            "blocks.1.0.attn.qkv.weight": "layers.1.0.attn.qkv.weight",
            "blocks.1.1.attn.proj.bias": "layers.1.1.attn.attn.out_proj.bias",
            "blocks.3.1.mlp.fc2.weight": "layers.3.1.ffn.layers.1.weight",
        },
    ),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_authors_files(family):
    """Every tensor has its place, and so it has in the file that the reference's tool makes of it."""
    backbone, shapes, pairs = FAMILIES[family]
    head = head_config("FCNHead", in_channels=WIDTHS[-1], in_index=-1, num_convs=1)
    model = build_model({"type": "EncoderDecoder", "backbone": backbone, "decode_head": head})
    rng = np.random.default_rng(0)
    tensors = {name: rng.normal(0, 1, shape).astype(np.float32) for name, shape in shapes.items()}
    assert likeliest_source(model, tensors) == "authors"
    variables = convert(model, tensors, source="authors")
    found = {
        name.removeprefix("backbone."): value
        for name, value in to_state_dict(model, variables).items()
        if not name.endswith("num_batches_tracked")
    }
    for theirs, ours in pairs.items():
        np.testing.assert_array_equal(found[ours], tensors[theirs])
    joined = "layers.1.1.1.attn.attn.in_proj" if family == "mit" else "layers.1.1.attn.attn.in_proj"
    prefix = "block2.1" if family == "mit" else "blocks.1.1"
    for leaf in ("weight", "bias") if family != "mscan" else ():
        parts = [tensors[f"{prefix}.attn.{part}.{leaf}"] for part in ("q", "kv")]
        np.testing.assert_array_equal(found[f"{joined}_{leaf}"], np.concatenate(parts))
    if family == "mit":
        kernel = found["layers.3.1.1.ffn.layers.4.weight"]
        np.testing.assert_array_equal(kernel[:, :, 0, 0], tensors["block4.1.mlp.fc2.weight"])
    # Norms after the stages are not in files of classifiers.
    norms = {name for name in found if name.startswith("norm_list.")}
    assert len(norms) == (8 if family == "svt" else 0)
    for name in norms:
        np.testing.assert_array_equal(found[name], 1.0 if name.endswith("weight") else 0.0)

    converted = {name: value for name, value in found.items() if name not in norms}
    assert likeliest_source(model, converted) == "converted"
    again = to_state_dict(model, convert(model, converted, source="converted"))
    for name, value in found.items():
        np.testing.assert_array_equal(again[f"backbone.{name}"], value)

    del tensors[next(iter(pairs))]
    with pytest.raises(CheckpointError, match="not in the checkpoint"):
        convert(model, tensors, source="authors")
