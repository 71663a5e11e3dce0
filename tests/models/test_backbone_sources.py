"""Checkpoints of others fill the backbones: the authors' names and shapes, and what is not in their files."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from jaxseg.errors import CheckpointError
from jaxseg.mmseg.convert import convert, likeliest_source, match_state_dict, to_state_dict
from jaxseg.mmseg.pretrained import starting_weights
from jaxseg.models import build_model
from jaxseg.models.backbones import swin
from pytorch_files import write_pth
from small_models import head_config, random_variables

DEPTHS, WIDTH = (2, 1, 2, 1), 8
SWIN = {"type": "SwinTransformer", "embed_dims": WIDTH, "window_size": 3, "depths": DEPTHS, "num_heads": (1, 2, 2, 4)}
CONVNEXT = {
    "type": "mmpretrain.ConvNeXt",
    "arch": {"depths": DEPTHS, "channels": tuple(WIDTH * 2**i for i in range(4))},
    "out_indices": (0, 1, 2, 3),
    "gap_before_final_norm": False,
}
POOLFORMER = {
    "type": "mmpretrain.PoolFormer",
    "arch": {"layers": DEPTHS, "embed_dims": tuple(WIDTH * 2**i for i in range(4))},
    "out_indices": (0, 2, 4, 6),
}


def model_of(backbone):
    head = head_config("FCNHead", in_channels=8 * WIDTH, in_index=-1, num_convs=1)
    return build_model({"type": "EncoderDecoder", "backbone": backbone, "decode_head": head})


def drawn(shapes):
    rng = np.random.default_rng(0)
    return {name: rng.normal(0, 1, shape).astype(np.float32) for name, shape in shapes.items()}


def layer(name, outputs, *inputs):
    return {f"{name}.weight": (outputs, *inputs), f"{name}.bias": (outputs,)}


def norm(name, channels):
    return layer(name, channels)


def authors_swin(window=3):
    """github.com/microsoft/Swin-Transformer, models/swin_transformer.py, for images of 48x48."""
    shapes = {**layer("patch_embed.proj", WIDTH, 3, 4, 4), **norm("patch_embed.norm", WIDTH)}
    for stage, (depth, heads) in enumerate(zip(DEPTHS, SWIN["num_heads"], strict=True)):
        c, side = WIDTH * 2**stage, 12 // 2**stage
        for i in range(depth):
            block = f"layers.{stage}.blocks.{i}"
            if i % 2 and side > window:
                shapes[f"{block}.attn_mask"] = ((side // window) ** 2, window**2, window**2)
            shapes[f"{block}.attn.relative_position_bias_table"] = ((2 * window - 1) ** 2, heads)
            shapes[f"{block}.attn.relative_position_index"] = (window**2, window**2)
            shapes |= norm(f"{block}.norm1", c) | norm(f"{block}.norm2", c)
            shapes |= layer(f"{block}.attn.qkv", 3 * c, c) | layer(f"{block}.attn.proj", c, c)
            shapes |= layer(f"{block}.mlp.fc1", 4 * c, c) | layer(f"{block}.mlp.fc2", c, 4 * c)
        if stage < 3:
            shapes |= {f"layers.{stage}.downsample.reduction.weight": (2 * c, 4 * c)}
            shapes |= norm(f"layers.{stage}.downsample.norm", 4 * c)
    return drawn(shapes | norm("norm", 8 * WIDTH) | layer("head", 10, 8 * WIDTH))


def authors_convnext():
    """github.com/facebookresearch/ConvNeXt, models/convnext.py."""
    shapes = layer("downsample_layers.0.0", WIDTH, 3, 4, 4) | norm("downsample_layers.0.1", WIDTH)
    for stage, depth in enumerate(DEPTHS):
        c = WIDTH * 2**stage
        if stage:
            name = f"downsample_layers.{stage}"
            shapes |= norm(f"{name}.0", c // 2) | layer(f"{name}.1", c, c // 2, 2, 2)
        for i in range(depth):
            block = f"stages.{stage}.{i}"
            shapes |= {f"{block}.gamma": (c,)} | layer(f"{block}.dwconv", c, 1, 7, 7) | norm(f"{block}.norm", c)
            shapes |= layer(f"{block}.pwconv1", 4 * c, c) | layer(f"{block}.pwconv2", c, 4 * c)
    return drawn(shapes | norm("norm", 8 * WIDTH) | layer("head", 10, 8 * WIDTH))


def authors_poolformer():
    """github.com/sail-sg/poolformer, models/poolformer.py."""
    shapes = layer("patch_embed.proj", WIDTH, 3, 7, 7)
    for stage, depth in enumerate(DEPTHS):
        c = WIDTH * 2**stage
        if stage:
            shapes |= layer(f"network.{2 * stage - 1}.proj", c, c // 2, 3, 3)
        for i in range(depth):
            block = f"network.{2 * stage}.{i}"
            shapes |= {f"{block}.layer_scale_1": (c,), f"{block}.layer_scale_2": (c,)}
            shapes |= norm(f"{block}.norm1", c) | norm(f"{block}.norm2", c)
            shapes |= layer(f"{block}.mlp.fc1", 4 * c, c, 1, 1) | layer(f"{block}.mlp.fc2", c, 4 * c, 1, 1)
    return drawn(shapes | norm("norm", 8 * WIDTH) | layer("head", 10, 8 * WIDTH))


# Backbone, the authors' file, their name of a tensor and the reference's, and the norm that they have, too.
FAMILIES = {
    "swin": (
        SWIN,
        authors_swin(),
        ("layers.2.blocks.1.mlp.fc2.weight", "stages.2.blocks.1.ffn.layers.1.weight"),
        None,
    ),
    "convnext": (
        CONVNEXT,
        authors_convnext(),
        ("stages.2.1.pwconv2.weight", "stages.2.1.pointwise_conv2.weight"),
        "norm3",
    ),
    "poolformer": (POOLFORMER, authors_poolformer(), ("network.5.proj.weight", "network.5.proj.weight"), "norm6"),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_authors_files(family, tmp_path):
    """Every tensor has its place; norms of outputs that the files lack start at 1 and 0."""
    backbone, tensors, (theirs, ours), last = FAMILIES[family]
    model = model_of(backbone)
    assert likeliest_source(model, tensors) == "authors"
    variables = convert(model, tensors, source="authors")
    found = to_state_dict(model, variables)
    np.testing.assert_array_equal(found[f"backbone.{ours}"], tensors[theirs])
    norms = {name.split(".")[1]: found[name] for name in found if name.startswith("backbone.norm")}
    assert len(norms) == 4
    for name in norms:
        expected = tensors["norm.weight"] if name == last else 1.0
        np.testing.assert_array_equal(found[f"backbone.{name}.weight"], expected)

    # Trained from: the same, without being asked for it.
    start = starting_weights(write_pth(tmp_path / "backbone.pth", tensors, {}), model)
    for path, value in flatten_dict(variables["params"]).items():
        np.testing.assert_array_equal(flatten_dict(start["params"])[path], value)

    # The reference's own files of backbones, with and without mmpretrain's prefix.
    for prefix in ("", "backbone."):
        bare = {
            name.replace("backbone.", prefix): value
            for name, value in found.items()
            if name.startswith("backbone.") and not name.startswith("backbone.norm")
        }
        bare |= {"head.fc.weight": np.zeros((10, 8 * WIDTH)), "head.fc.bias": np.zeros(10)}
        if prefix or last is None:
            assert likeliest_source(model, bare) == "mmpretrain"
        again = convert(model, bare, source="mmpretrain")
        for path, value in flatten_dict(variables["params"]).items():
            if not path[1].startswith("norm"):
                np.testing.assert_array_equal(flatten_dict(again["params"])[path], value)

    with pytest.raises(CheckpointError, match="not in the checkpoint"):
        convert(model, {name: value for name, value in tensors.items() if name != theirs}, source="authors")


def test_merging_of_the_authors():
    """Their merging, with their weights, is ours, with the converted ones."""
    tensors = authors_swin()
    variables = convert(model_of(SWIN), tensors, source="authors")["params"]["backbone"]["stages_1_downsample"]
    c = 2 * WIDTH
    x = np.random.default_rng(1).normal(0, 1, (2, 4, 6, c)).astype(np.float32)
    found = swin.PatchMerging(2, {"type": "LN"}).apply({"params": variables}, jnp.asarray(x))

    tokens = np.concatenate([x[:, i::2, j::2] for j in range(2) for i in range(2)], axis=-1)
    tokens = (tokens - tokens.mean(-1, keepdims=True)) / np.sqrt(tokens.var(-1, keepdims=True) + 1e-5)
    name = "layers.1.downsample"
    tokens = tokens * tensors[f"{name}.norm.weight"] + tensors[f"{name}.norm.bias"]
    np.testing.assert_allclose(found, tokens @ tensors[f"{name}.reduction.weight"].T, rtol=1e-4, atol=1e-4)


def test_tables_of_other_windows():
    """They are resized as maps are, bicubically; the figures are PyTorch's."""
    tensors = authors_swin(window=6)
    rows = np.repeat(np.arange(11.0, dtype=np.float32), 11)
    tensors["layers.0.blocks.0.attn.relative_position_bias_table"] = rows[:, None] ** 2
    params = convert(model_of(SWIN), tensors, source="authors")["params"]["backbone"]
    table = params["stages_0_blocks_0"]["attn_w_msa"]["relative_position_bias_table"]
    assert table.shape == (25, 1)
    for column in table.reshape(5, 5).T:
        np.testing.assert_allclose(column, [0.288, 7.52, 25.0, 52.48, 90.208], rtol=1e-5)


def test_tables_of_other_heads():
    tensors = authors_swin()
    tensors["layers.0.blocks.0.attn.relative_position_bias_table"] = np.zeros((121, 3), np.float32)
    with pytest.raises(CheckpointError, match=r"relative_position_bias_table: \(121, 3\) does not fit"):
        convert(model_of(SWIN), tensors, source="authors")


def test_one_array_for_several(monkeypatch):
    """A transform may split what is one array in the file."""

    def split(name, array):
        if not name.endswith(".both"):
            return array
        return {name.replace("both", leaf): part for leaf, part in zip(("weight", "bias"), array, strict=True)}

    source = dataclasses.replace(swin.MMPRETRAIN, transform=split)
    monkeypatch.setattr(swin.SwinTransformer, "sources", {"split": source})
    model = model_of(SWIN)
    variables = random_variables(model, np.zeros((1, 48, 48, 3), np.float32))
    tensors = {
        name.removeprefix("backbone."): value
        for name, value in to_state_dict(model, variables).items()
        if name.startswith("backbone.")
    }
    norm_of_patches = [tensors.pop(f"patch_embed.norm.{leaf}") for leaf in ("weight", "bias")]
    tensors["patch_embed.norm.both"] = np.stack(norm_of_patches)
    assert likeliest_source(model, tensors) == "split"
    match = match_state_dict(model, tensors, "split")
    assert match.unfilled == []
    assert "patch_embed.norm.both: backbone.patch_embed.norm.bias" in match.names
    for path, value in flatten_dict(variables["params"]["backbone"]).items():
        np.testing.assert_array_equal(match.variables["params", "backbone", *path], value)


STDC = {"type": "STDCNet", "stdc_type": "STDCNet1", "channels": (4, 8, 16, 32, 64), "num_convs": 4}


def authors_stdc():
    """github.com/MichaelFan01/STDC-Seg, models/stdcnet.py: the modules, some of them twice, and a classifier."""

    def conv_norm(conv, norm, outputs, inputs, size):
        statistics = dict.fromkeys(("weight", "bias", "running_mean", "running_var"), (outputs,))
        return {f"{conv}.weight": (outputs, inputs, size, size)} | {f"{norm}.{k}": v for k, v in statistics.items()}

    shapes, inputs = {}, 3
    for i, channels in enumerate(STDC["channels"][:2]):
        shapes |= conv_norm(f"features.{i}.conv", f"features.{i}.bn", channels, inputs, 3)
        inputs = channels
    for i in range(6):
        channels = STDC["channels"][2 + i // 2]
        widths = (channels // 2, channels // 4, channels // 8, channels // 8)
        for j, (width, before) in enumerate(zip(widths, (inputs, *widths), strict=False)):
            name = f"features.{2 + i}.conv_list.{j}"
            shapes |= conv_norm(f"{name}.conv", f"{name}.bn", width, before, 3 if j else 1)
        if i % 2 == 0:
            name = f"features.{2 + i}.avd_layer"
            shapes |= conv_norm(f"{name}.0", f"{name}.1", channels // 2, 1, 3)
        inputs = channels
    shapes |= {name.replace("features.0", "x2.0.0"): shape for name, shape in shapes.items() if "features.0" in name}
    shapes |= conv_norm("conv_last.conv", "conv_last.bn", 1024, 64, 1) | {"linear.weight": (10, 1024)}
    return drawn(shapes)


@pytest.mark.parametrize("path", [False, True], ids=["alone", "context path"])
def test_stdc(path):
    """With its path, which starts anew, and without."""
    backbone, prefix, channels = STDC, "backbone.", 64
    if path:
        fields = {"last_in_channels": (64, 32), "out_channels": 8, "ffm_cfg": {"out_channels": 12}}
        backbone = {"type": "STDCContextPathNet", "backbone_cfg": STDC, **fields}
        prefix, channels = "backbone.backbone.", 12
    head = head_config("FCNHead", in_channels=channels, in_index=-1, num_convs=1)
    model = build_model({"type": "EncoderDecoder", "backbone": backbone, "decode_head": head})
    tensors = authors_stdc()
    assert likeliest_source(model, tensors) == "authors"
    variables = convert(model, tensors, source="authors")
    found = to_state_dict(model, variables)
    for theirs, ours in {
        "features.0.conv.weight": "stages.0.conv.weight",
        "features.3.conv_list.2.bn.running_var": "stages.2.1.layers.2.bn.running_var",
        "features.6.avd_layer.1.bias": "stages.4.0.downsample.bn.bias",
    }.items():
        np.testing.assert_array_equal(found[f"{prefix}{ours}"], tensors[theirs])

    bare = {name.removeprefix(prefix): value for name, value in found.items() if name.startswith(f"{prefix}stages")}
    assert likeliest_source(model, bare) == "converted"
    again = flatten_dict(convert(model, bare, source="converted"))
    for at, value in flatten_dict(variables).items():
        np.testing.assert_array_equal(again[at], value)

    with pytest.raises(CheckpointError, match="not in the checkpoint"):
        convert(model, {name: value for name, value in tensors.items() if "conv_list.2" not in name}, source="authors")
