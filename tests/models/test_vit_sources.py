"""Checkpoints of others fill vision transformers: their names and shapes, positions for other sizes, what they lack."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.errors import CheckpointError
from jaxseg.mmseg.convert import convert, likeliest_source, match_state_dict, to_state_dict
from jaxseg.mmseg.pretrained import starting_weights
from jaxseg.models import build_model
from jaxseg.models.backbones.beit import resize_distances
from pytorch_files import write_pth
from small_models import head_config

WIDTH, DEPTH, HEADS = 8, 2, 2
SMALL = {"img_size": (64, 48), "embed_dims": WIDTH, "num_layers": DEPTH, "num_heads": HEADS}
SQUARE = {**SMALL, "img_size": 48}


def model_of(kind, **fields):
    head = head_config("FCNHead", in_channels=WIDTH, in_index=0, num_convs=1)
    return build_model({"type": "EncoderDecoder", "backbone": {"type": kind, **fields}, "decode_head": head})


def drawn(shapes):
    rng = np.random.default_rng(0)
    return {name: rng.normal(0, 1, shape).astype(np.float32) for name, shape in shapes.items()}


def layer(name, outputs, *inputs):
    return {f"{name}.weight": (outputs, *inputs), f"{name}.bias": (outputs,)}


def blocks(attention):
    shapes = layer("patch_embed.proj", WIDTH, 3, 16, 16) | {"cls_token": (1, 1, WIDTH)}
    for i in range(DEPTH):
        block = f"blocks.{i}"
        shapes |= layer(f"{block}.norm1", WIDTH) | layer(f"{block}.norm2", WIDTH)
        shapes |= layer(f"{block}.mlp.fc1", 4 * WIDTH, WIDTH) | layer(f"{block}.mlp.fc2", WIDTH, 4 * WIDTH)
        shapes |= layer(f"{block}.attn.proj", WIDTH, WIDTH) | attention(block)
    return shapes


def timm(side):
    """Timm 1.0.12, timm/models/vision_transformer.py; DeiT's files are of the same names."""
    shapes = blocks(lambda block: layer(f"{block}.attn.qkv", 3 * WIDTH, WIDTH))
    return drawn(shapes | {"pos_embed": (1, side**2 + 1, WIDTH)} | layer("norm", WIDTH) | layer("head", 10, WIDTH))


def google(side):
    """The files of github.com/google-research/vision_transformer, as timm reads them."""
    size = WIDTH // HEADS
    shapes = {"cls": (1, 1, WIDTH), "embedding/kernel": (16, 16, 3, WIDTH), "embedding/bias": (WIDTH,)}
    shapes |= {"head/kernel": (WIDTH, 10), "head/bias": (10,)}
    shapes["Transformer/posembed_input/pos_embedding"] = (1, side**2 + 1, WIDTH)
    norms = ["encoder_norm"]
    for i in range(DEPTH):
        block = f"Transformer/encoderblock_{i}"
        norms += [f"encoderblock_{i}/LayerNorm_0", f"encoderblock_{i}/LayerNorm_2"]
        for j, (inputs, outputs) in enumerate(((WIDTH, 4 * WIDTH), (4 * WIDTH, WIDTH))):
            dense = f"{block}/MlpBlock_3/Dense_{j}"
            shapes |= {f"{dense}/kernel": (inputs, outputs), f"{dense}/bias": (outputs,)}
        attention = f"{block}/MultiHeadDotProductAttention_1"
        for part in ("query", "key", "value"):
            shapes |= {f"{attention}/{part}/kernel": (WIDTH, HEADS, size), f"{attention}/{part}/bias": (HEADS, size)}
        shapes |= {f"{attention}/out/kernel": (HEADS, size, WIDTH), f"{attention}/out/bias": (WIDTH,)}
    return drawn(shapes | {f"Transformer/{name}/{kind}": (WIDTH,) for name in norms for kind in ("scale", "bias")})


def beit(side):
    """github.com/microsoft/unilm, beit/modeling_finetune.py."""

    def attention(block):
        entries, tokens = (2 * side - 1) ** 2 + 3, side**2 + 1
        return {
            f"{block}.gamma_1": (WIDTH,),
            f"{block}.gamma_2": (WIDTH,),
            f"{block}.attn.q_bias": (WIDTH,),
            f"{block}.attn.v_bias": (WIDTH,),
            f"{block}.attn.qkv.weight": (3 * WIDTH, WIDTH),
            f"{block}.attn.relative_position_bias_table": (entries, HEADS),
            f"{block}.attn.relative_position_index": (tokens, tokens),
        }

    return drawn(blocks(attention) | layer("fc_norm", WIDTH) | layer("head", 10, WIDTH))


def mae(side):
    """github.com/facebookresearch/mae, models_mae.py: the encoder."""
    return {name: array for name, array in timm(side).items() if not name.startswith("head")}


FILES = {
    "timm": (timm, "VisionTransformer", {**SMALL, "patch_bias": True, "final_norm": True}),
    "google": (google, "VisionTransformer", {**SMALL, "patch_bias": True, "final_norm": True}),
    "beit": (beit, "BEiT", SQUARE),
    "mae": (mae, "MAE", SQUARE),
}


@pytest.mark.parametrize("name", FILES)
def test_every_array_has_a_place(name):
    """And every variable of the backbone has one that fills it, or is what such files may lack."""
    make, kind, fields = FILES[name]
    model, tensors = model_of(kind, **fields), make(5)
    source = {"timm": "timm", "google": "google"}.get(name, "authors")
    assert likeliest_source(model, tensors) == source
    match = match_state_dict(model, tensors, source)
    assert {part for file in match.ignored for part in ("norm", "head", "index") if part in file} <= {
        "timm": {"head"},
        "google": {"head"},
        "beit": {"norm", "head", "index"},
        "mae": {"norm"},
    }[name]
    lacking = {"gamma_1", "gamma_2", "relative_position_bias_table"} if name == "mae" else set()
    assert {path[-1] for path in match.unfilled} == lacking
    for file in list(tensors)[::4]:
        if file not in match.ignored:
            with pytest.raises(CheckpointError, match="not in the checkpoint"):
                convert(model, {key: value for key, value in tensors.items() if key != file}, source=source)


def test_jax_keeps_heads_apart():
    """Projections are matrices here: the products are the same."""
    fields = {**SMALL, "img_size": 48, "patch_bias": True, "final_norm": True}
    model, tensors = model_of("VisionTransformer", **fields), google(3)
    params = convert(model, tensors, source="google")["params"]["backbone"]
    attention, ours = "Transformer/encoderblock_1/MultiHeadDotProductAttention_1", params["layers_1"]["attn_attn"]
    x = np.random.default_rng(1).normal(0, 1, (3, WIDTH)).astype(np.float32)
    projected = x @ ours["in_proj_weight"].T + ours["in_proj_bias"]
    for i, part in enumerate(("query", "key", "value")):
        expected = np.einsum("nc,chd->nhd", x, tensors[f"{attention}/{part}/kernel"])
        expected += tensors[f"{attention}/{part}/bias"]
        np.testing.assert_allclose(projected[:, i * WIDTH : (i + 1) * WIDTH], expected.reshape(3, WIDTH), rtol=1e-5)
    heads = x.reshape(3, HEADS, WIDTH // HEADS)
    expected = np.einsum("nhd,hdc->nc", heads, tensors[f"{attention}/out/kernel"])
    np.testing.assert_allclose(x @ ours["out_proj"]["kernel"], expected, rtol=1e-5)
    np.testing.assert_array_equal(params["patch_embed"]["projection"]["kernel"], tensors["embedding/kernel"])
    dense = tensors["Transformer/encoderblock_0/MlpBlock_3/Dense_0/kernel"]
    np.testing.assert_array_equal(params["layers_0"]["ffn"]["layers_0_0"]["kernel"], dense)


def test_what_the_transformer_lacks_is_left_out():
    model = model_of("VisionTransformer", **SMALL)
    for make, names in (
        (timm, {"patch_embed.proj.bias", "norm.weight"}),
        (google, {"embedding/bias", "Transformer/encoder_norm/scale"}),
    ):
        tensors = make(5)
        match = match_state_dict(model, tensors, likeliest_source(model, tensors))
        assert names <= set(match.ignored)
        assert not match.unfilled


@pytest.mark.parametrize(("mode", "size"), [("bicubic", 64), ("bilinear", 80)])
def test_positions_are_resized(mode, size):
    """Those of the grid, a table of one value to one; the class token's stays."""
    fields = {**SMALL, "img_size": (size, 48), "interpolate_mode": mode}
    model, tensors = model_of("VisionTransformer", **fields), timm(3)
    tensors["pos_embed"][:, 1:] = 0.25
    table = convert(model, tensors, source="timm")["params"]["backbone"]["pos_embed"]
    assert table.shape == (1, size // 16 * 3 + 1, WIDTH)
    np.testing.assert_array_equal(table[:, 0], tensors["pos_embed"][:, 0])
    np.testing.assert_allclose(table[:, 1:], 0.25, rtol=1e-6)


def test_biases_of_distances_are_resized():
    """Small distances keep theirs; the class token's stay; a table of one value stays one."""
    rng = np.random.default_rng(0)
    table = rng.normal(0, 1, (9 * 9 + 3, 2)).astype(np.float32)
    resized = resize_distances(table, 15)
    assert (resized.shape, resized.dtype) == ((15 * 15 + 3, 2), np.float32)
    np.testing.assert_array_equal(resized[-3:], table[-3:])
    old, new = table[:-3].reshape(9, 9, 2), resized[:-3].reshape(15, 15, 2)
    np.testing.assert_allclose(new[6:9, 6:9], old[3:6, 3:6], atol=1e-5)  # distances of at most one
    np.testing.assert_allclose(new[[0, 0, -1, -1], [0, -1, 0, -1]], old[[0, 0, -1, -1], [0, -1, 0, -1]], atol=1e-4)
    np.testing.assert_allclose(resize_distances(np.full_like(table, 0.5), 15), 0.5, rtol=1e-6)


@pytest.mark.parametrize("name", FILES)
def test_files(name, tmp_path):
    """Training starts from such a file: the backbone is whole, and the heads are not in it."""
    make, kind, fields = FILES[name]
    model, tensors = model_of(kind, **fields), make(3)
    path = tmp_path / ("file.npz" if name == "google" else "file.pth")
    if name == "google":
        np.savez(path, **tensors)
    else:
        write_pth(path, tensors, {})
    variables = starting_weights(path, model)
    assert variables.keys() == {"params"}
    assert variables["params"].keys() == {"backbone"}
    expected = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, *fields_size(fields), 3)))
    shapes = jax.tree.map(np.shape, dict(variables["params"]["backbone"]))
    assert shapes == jax.tree.map(lambda leaf: leaf.shape, dict(expected["params"]["backbone"]))


def fields_size(fields):
    size = fields["img_size"]
    return (size, size) if isinstance(size, int) else size


def test_what_the_tools_of_the_reference_made(tmp_path):
    """The reference's names, of the backbone alone."""
    model = model_of("BEiT", **SQUARE)
    variables = convert(model, beit(3), source="authors")
    state = {name.removeprefix("backbone."): array for name, array in to_state_dict(model, variables).items()}
    state |= {"patch_embed.proj.weight": state["patch_embed.projection.weight"], "fc_norm.weight": np.ones(WIDTH)}
    assert likeliest_source(model, state) == "converted"
    again = convert(model, state, source="converted")
    jax.tree.map(np.testing.assert_array_equal, again, variables)
