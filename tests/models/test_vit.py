"""The vision transformer: class tokens, positions for other sizes, what is trained and what is dropped."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from compiling import quick_jit
from jaxseg.errors import ConfigError
from jaxseg.models import BACKBONES, build_model
from jaxseg.models.registry import build
from small_models import head_config, random_variables

IMAGES = np.random.default_rng(0).normal(0, 1, (2, 64, 48, 3)).astype(np.float32)


def vit(**fields):
    small = {"img_size": (64, 48), "embed_dims": 8, "num_layers": 2, "num_heads": 2, "out_indices": (0, 1)}
    return {"type": "VisionTransformer", **small, **fields}


def built(**fields):
    return build(BACKBONES, vit(**fields), "backbone")


def test_class_token():
    """Each output is a pair: the map as it is without the class token, and one vector an image."""
    plain, pairs = built(), built(output_cls_token=True, out_origin=True)
    variables = random_variables(plain, IMAGES)
    origin, *outputs = quick_jit(pairs.apply)(variables, IMAGES)
    params = variables["params"]
    first = params["cls_token"][:, 0] + params["pos_embed"][:, 0]
    np.testing.assert_allclose(origin[1], np.broadcast_to(first, (2, 8)), rtol=1e-6)
    assert origin[0].shape == (2, 4, 3, 8)
    for (patches, token), expected in zip(outputs, quick_jit(plain.apply)(variables, IMAGES), strict=True):
        np.testing.assert_allclose(patches, expected, rtol=1e-5, atol=1e-6)
        assert token.shape == (2, 8)
        assert np.abs(token[0] - token[1]).min() > 0


def test_positions_follow_the_size_of_the_images():
    """A table of one value is the same in every size; images with as many patches take it as it is."""
    backbone = built(out_origin=True)
    variables = random_variables(backbone, IMAGES)
    params = variables["params"]
    same = {"params": {**params, "pos_embed": np.full((1, 13, 8), 0.5, np.float32)}}
    none = {"params": {**params, "pos_embed": np.zeros((1, 13, 8), np.float32)}}
    apply = quick_jit(backbone.apply)
    images = IMAGES[:, :40, :40]
    np.testing.assert_allclose(apply(same, images)[0], apply(none, images)[0] + 0.5, atol=1e-5)
    turned = np.ascontiguousarray(IMAGES.swapaxes(1, 2))
    found = apply({"params": params}, turned)[0] - apply(none, turned)[0]
    np.testing.assert_allclose(found.reshape(2, 12, 8)[0], params["pos_embed"][0, 1:], atol=1e-5)


def test_dropping():
    """By the key; without a key, and in evaluation, nothing is dropped."""
    backbone = built(drop_rate=0.2, attn_drop_rate=0.2, drop_path_rate=0.5)
    variables = random_variables(backbone, IMAGES)

    images = jnp.asarray(IMAGES)

    def run(train, seed=None):
        rngs = {} if seed is None else {"dropout": jax.random.key(seed)}
        return np.asarray(backbone.apply(variables, images, train, rngs=rngs)[-1])

    np.testing.assert_array_equal(run(True, 0), run(True, 0))
    assert np.abs(run(True, 0) - run(True, 1)).max() > 0.01
    np.testing.assert_array_equal(run(True), run(False, 0))


def test_what_is_trained():
    """`frozen_exclude` names it, in the reference's words."""
    assert built().frozen_parameters() == ()
    backbone = built(frozen_exclude=("pos_embed", "attn.attn.in_proj"))
    paths = {"/".join(path[1:]) for path in flatten_dict(random_variables(backbone, IMAGES)) if path[0] == "params"}
    trained = {"pos_embed"} | {f"layers_{i}/attn_attn/in_proj_{kind}" for i in range(2) for kind in ("weight", "bias")}
    assert paths - set(backbone.frozen_parameters()) == trained
    head = head_config("FCNHead", in_channels=8, in_index=1, num_convs=1)
    model = build_model({"type": "EncoderDecoder", "backbone": vit(frozen_exclude=("ln1",)), "decode_head": head})
    assert "backbone/pos_embed" in model.frozen_parameters()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_heads": 3}, "num_heads=3 must divide embed_dims=8"),
        ({"out_indices": (0, 2)}, r"out_indices=\(0, 2\): there are layers 0 to 1"),
        ({"out_indices": -2}, "out_indices=-2: there are layers 0 to 1"),
        ({"output_cls_token": True, "with_cls_token": False}, "output_cls_token=True needs with_cls_token"),
        ({"norm_cfg": {"type": "LN3"}}, "norm_cfg.type='LN3' is not known"),
    ],
)
def test_fields_that_do_not_fit(fields, message):
    with pytest.raises(ConfigError, match=message):
        jax.eval_shape(built(**fields).init, jax.random.key(0), IMAGES)


@pytest.mark.parametrize(
    ("fields", "tokens", "message"),
    [
        ({}, False, "class tokens are needed; give the backbone output_cls_token=True"),
        ({"readout_type": "first"}, True, "readout_type='first': allowed: ignore, add, project"),
        ({"expand_channels": True}, True, "expand_channels=True: must be False"),
        ({"embed_dims": 16}, True, "embed_dims=16: must be that of every map"),
        ({"post_process_channels": (4, 8)}, True, r"post_process_channels=\(4, 8\): there must be four"),
    ],
)
def test_dpt_fields_that_do_not_fit(fields, tokens, message):
    maps = {"in_channels": (8,) * 4, "in_index": (0, 1, 0, 1), "embed_dims": 8, "post_process_channels": (4, 4, 4, 4)}
    backbone, head = vit(output_cls_token=tokens), head_config("DPTHead", **(maps | fields))
    model = build_model({"type": "EncoderDecoder", "backbone": backbone, "decode_head": head})
    with pytest.raises(ConfigError, match=message):
        jax.eval_shape(model.init, jax.random.key(0), IMAGES)
