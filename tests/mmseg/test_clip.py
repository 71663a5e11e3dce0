"""CLIP's files fill the parts of a SAN that are CLIP's."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from jaxseg.errors import CheckpointError
from jaxseg.mmseg.convert import convert, likeliest_source, match_state_dict, to_state_dict
from jaxseg.models import build_model
from jaxseg.models.layers.transformer import resize_positions
from jaxseg.models.multimodal import clip_source
from reference import fill
from small_models import san_config


def clip_state_dict(width, patch, side, depth, text_width, text_depth, out, half=np.float16):
    """By the names and shapes of the authors' code (github.com/openai/CLIP, clip/model.py)."""

    def layers(prefix, depth, width):
        shapes = {
            "attn.in_proj_weight": (3 * width, width),
            "attn.in_proj_bias": (3 * width,),
            "attn.out_proj.weight": (width, width),
            "attn.out_proj.bias": (width,),
            "ln_1.weight": (width,),
            "ln_1.bias": (width,),
            "mlp.c_fc.weight": (4 * width, width),
            "mlp.c_fc.bias": (4 * width,),
            "mlp.c_proj.weight": (width, 4 * width),
            "mlp.c_proj.bias": (width,),
            "ln_2.weight": (width,),
            "ln_2.bias": (width,),
        }
        return {f"{prefix}.resblocks.{i}.{name}": shape for i in range(depth) for name, shape in shapes.items()}

    shapes = {
        "positional_embedding": (77, text_width),
        "text_projection": (text_width, out),
        "logit_scale": (),
        "visual.class_embedding": (width,),
        "visual.positional_embedding": (side**2 + 1, width),
        "visual.proj": (width, out),
        "visual.conv1.weight": (width, 3, patch, patch),
        "visual.ln_pre.weight": (width,),
        "visual.ln_pre.bias": (width,),
        **layers("visual.transformer", depth, width),
        "visual.ln_post.weight": (width,),
        "visual.ln_post.bias": (width,),
        **layers("transformer", text_depth, text_width),
        "token_embedding.weight": (49408, text_width),
        "ln_final.weight": (text_width,),
        "ln_final.bias": (text_width,),
    }
    scalars = {"input_resolution": side * patch, "context_length": 77, "vocab_size": 49408}
    arrays = {name: np.asarray(fill(name, shape), half) for name, shape in shapes.items()}
    return arrays | {name: np.asarray(number) for name, number in scalars.items()}


SMALL = {"width": 8, "patch": 16, "depth": 5, "text_width": 8, "text_depth": 2, "out": 6}


@pytest.fixture(scope="module")
def model():
    config = san_config()
    return build_model(config | {"image_encoder": {**config["image_encoder"], "img_size": 48}})


def test_every_array_has_its_place(model):
    tensors = clip_state_dict(side=3, **SMALL)
    assert likeliest_source(model, tensors) == "clip"
    variables = convert(model, tensors, source="clip")
    there = to_state_dict(model, variables)
    head = "decode_head.rec_with_attnbias"
    expected = {
        "image_encoder.cls_token": tensors["visual.class_embedding"][None, None],
        "image_encoder.pos_embed": tensors["visual.positional_embedding"][None],
        "image_encoder.patch_embed.projection.weight": tensors["visual.conv1.weight"],
        "image_encoder.layers.2.ln1.weight": tensors["visual.transformer.resblocks.2.ln_1.weight"],
        "image_encoder.layers.1.ffn.layers.1.bias": tensors["visual.transformer.resblocks.1.mlp.c_proj.bias"],
        f"{head}.layers.0.norms.1.bias": tensors["visual.transformer.resblocks.3.ln_2.bias"],
        f"{head}.layers.1.attentions.0.attn.out_proj.weight": tensors[
            "visual.transformer.resblocks.4.attn.out_proj.weight"
        ],
        f"{head}.proj.weight": tensors["visual.proj"].T,
        "text_encoder.transformer.1.ffns.0.layers.0.0.weight": tensors["transformer.resblocks.1.mlp.c_fc.weight"],
        "text_encoder.text_projection": tensors["text_projection"],
        "text_encoder.logit_scale": tensors["logit_scale"],
        "text_encoder.token_embedding.weight": tensors["token_embedding.weight"],
    }
    for name, array in expected.items():
        np.testing.assert_array_equal(there[name], array.astype(np.float32), err_msg=name)
    match = match_state_dict(model, tensors, "clip")
    assert {path[2] for path in match.unfilled} == {"side_adapter_network", "bg_embed"}
    assert sorted(match.ignored) == ["context_length", "input_resolution", "vocab_size"]
    assert all(np.isfinite(leaf).all() for leaf in flatten_dict(variables).values())


def test_positions_are_resized(model):
    tensors = clip_state_dict(side=5, **SMALL)
    found = convert(model, tensors, source="clip")["params"]["image_encoder"]["pos_embed"]
    table = tensors["visual.positional_embedding"][None].astype(np.float32)
    np.testing.assert_allclose(found, resize_positions(jnp.asarray(table), (5, 5), (3, 3)), rtol=1e-6)


def test_files_that_the_reference_made(model):
    tensors = clip_state_dict(side=3, **SMALL)
    there = to_state_dict(model, convert(model, tensors, source="clip"))
    kept = {name: there[name] for name in there if "side_adapter" not in name and "bg_embed" not in name}
    assert likeliest_source(model, kept) == "converted"
    assert (
        match_state_dict(model, kept, "converted").variables.keys()
        == match_state_dict(model, tensors, "clip").variables.keys()
    )
    with pytest.raises(CheckpointError, match="not in the checkpoint"):
        convert(model, kept)


@pytest.mark.parametrize(("depth", "layers"), [(9, 12), (18, 24)])
def test_layers_of_both_sizes(depth, layers):
    """ViT-B/16's and ViT-L/14's: the first ones are the image encoder's, the last the head's."""
    source = clip_source(depth, None)
    names = [source.rename(f"visual.transformer.resblocks.{i}.mlp.c_fc.weight") for i in range(layers)]
    assert names == [f"image_encoder.layers.{i}.ffn.layers.0.0.weight" for i in range(depth)] + [
        f"decode_head.rec_with_attnbias.layers.{i}.ffns.0.layers.0.0.weight" for i in range(layers - depth)
    ]
