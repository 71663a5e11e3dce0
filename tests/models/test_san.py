"""SAN against the reference: scores, losses and gradients of a small one, given all points; and its parts."""

import functools
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from compiling import quick_jit
from jaxseg.engine.optim import build_optimizer
from jaxseg.engine.state import TrainState
from jaxseg.engine.step import compute_losses, make_train_step
from jaxseg.errors import ConfigError
from jaxseg.inference import encode_decode
from jaxseg.mmseg import convert
from jaxseg.mmseg.convert import reference_names, to_state_dict
from jaxseg.models import build_model
from jaxseg.models.layers.pooling import adaptive_max_pool
from jaxseg.text.vocabulary import with_vocabulary
from reference import FIXTURES, as_dtype, load_npz, nchw, nhwc, precision, state_dict
from small_models import MERGES, random_batch, random_variables, san_config

META, ARRAYS = load_npz(FIXTURES / "san.npz")
IMAGES = np.random.default_rng(META["input_seed"]).normal(0, 1, META["input_shape"]).astype(np.float32)


def sequence(key, shape, dtype):
    """The reference's points when the figures were computed."""
    steps = np.arange(1, shape[-2] + 1)[:, None] * np.array([0.7548776662466927, 0.5698402909980532])
    return jnp.broadcast_to(jnp.asarray(np.modf(0.5 + steps)[0], dtype), shape)


@pytest.fixture(scope="module")
def ready():
    """Model and variables, in float64."""
    model = build_model(META["config"])
    variables = as_dtype(convert(model, state_dict(META["keys"])), np.float64)
    with precision(np.float64):
        return with_vocabulary(model, variables, MERGES), variables


def test_scores(ready):
    model, variables = ready
    images = nhwc(IMAGES).astype(np.float64)
    with precision(np.float64):
        classes = np.asarray(model.apply(variables, method=lambda model: model.text_encoder()))
        scores = nchw(quick_jit(functools.partial(encode_decode, model))(variables, images))
    np.testing.assert_allclose(classes, ARRAYS["embeddings"], rtol=0, atol=1e-12 * ARRAYS["embeddings"].std())
    places = np.random.default_rng(0).integers(0, scores.size, len(ARRAYS["scores"]))
    np.testing.assert_allclose(scores.reshape(-1)[places], ARRAYS["scores"], rtol=0, atol=1e-11 * scores.std())


def test_losses(ready):
    """Of two layers; and gradients of their sum, of what the reference trains and of nothing else."""
    model, variables = ready

    def loss_of(params, images, labels):
        loss, logs, _ = compute_losses(model, {"params": params}, images, labels)
        return loss, logs

    with precision(np.float64), mock.patch("jaxseg.losses.masks.draw", sequence):
        step = quick_jit(jax.grad(loss_of, has_aux=True))
        gradients, logs = step(variables["params"], nhwc(IMAGES).astype(np.float64), ARRAYS["label"])
    assert {name: float(value) for name, value in logs.items()} == pytest.approx(META["losses"], rel=1e-9)
    norms = {path: float(np.linalg.norm(value)) for path, value in flatten_dict(gradients).items()}
    paths = reference_names(model, list(META["grad_norms"]))
    assert {path for path, norm in norms.items() if norm} == {path[1:] for path in paths.values()}
    expected = {paths[name][1:]: norm for name, norm in META["grad_norms"].items()}
    assert {path: norms[path] for path in expected} == pytest.approx(expected, rel=1e-8)


def test_names_lead_back():
    model = build_model(META["config"])
    tensors = state_dict(META["keys"])
    back = to_state_dict(model, convert(model, tensors))
    assert sorted(back) == sorted(tensors)
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(back[name], tensor)


@pytest.mark.parametrize("size", [(3, 4), (2, 3), (5, 8), (1, 1), (7, 9)])
def test_adaptive_max_pool(size):
    """Cells that overlap, cells that don't, and cells that share a pixel."""
    x = jnp.asarray(np.random.default_rng(0).normal(0, 1, (2, 5, 8, 3)), jnp.float32)
    expected = np.empty((2, *size, 3), np.float32)
    for i, j in np.ndindex(*size):
        rows, columns = (
            slice(k * length // cells, -(-(k + 1) * length // cells))
            for k, length, cells in zip((i, j), x.shape[1:3], size, strict=True)
        )
        expected[:, i, j] = np.asarray(x)[:, rows, columns].max((1, 2))
    np.testing.assert_array_equal(adaptive_max_pool(x, size), expected)
    gradient = jax.grad(lambda x: adaptive_max_pool(x, size).sum())(x)
    assert gradient.sum() == pytest.approx(expected.size, rel=1e-6)


def changed(**changes):
    """The model's config with other fields: `san_cfg__num_queries=5`."""
    config = san_config()
    head = {**config["decode_head"]}
    for name, value in changes.items():
        part, _, field = name.partition("__")
        if part in ("san_cfg", "maskgen_cfg"):
            head[part] = {**head[part], field: value}
        elif part in head:
            head[part] = value
        else:
            config[part] = {**config[part], field: value} if field else value
    return config | {"decode_head": head}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoder_resolution": None}, "encoder_resolution is missing, which asymetric_input=True needs"),
        ({"san_cfg__num_queries": 5}, "num_queries=5 and maskgen_cfg.sos_token_num=7 must be equal"),
        ({"san_cfg__fusion_index": (0, 2)}, r"fusion_index=\(0, 2\): maps are added after 0, 1, 2, ... layers"),
        ({"san_cfg__fusion_index": (0, 1)}, r"fusion_index=\(0, 1\): the maps have \[8, 8, 8, 8\] channels"),
        ({"san_cfg__clip_channels": 9}, r"clip_channels=9, .* the maps have \[8, 8, 8, 8\] channels"),
        ({"san_cfg__queries": 9}, "san_cfg: SideAdapterNetwork has no field 'queries'. Did you mean num_queries"),
        ({"maskgen_cfg__sos_token_format": "pos_embedding"}, "sos_token_format='pos_embedding': only 'cls_token'"),
        ({"maskgen_cfg__cross_attn": True}, "cross_attn=True: only False is supported"),
        ({"maskgen_cfg__embed_dims": 16}, "embed_dims=16: the image encoder's last map has 8 channels"),
        ({"maskgen_cfg__num_heads": 4}, "num_heads=4: san_cfg.cfg_decoder.num_heads=2 must be that, or 1"),
        ({"text_encoder__num_heads": 3}, "num_heads=3 must divide embed_dims=8"),
    ],
)
def test_fields_that_do_not_fit(changes, message):
    model = build_model(changed(**changes))
    with pytest.raises(ConfigError, match=message):
        jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, 64, 64, 3), np.float32))


def test_what_is_frozen():
    """CLIP is, but for its image encoder's positions."""
    model = build_model(changed(maskgen_cfg__frozen_exclude=("ln_post", "norms.0")))
    variables = random_variables(model, np.zeros((1, 64, 64, 3), np.float32))
    frozen = model.frozen_parameters()
    trained = [name for name in flatten_dict(variables["params"], sep="/") if not name.startswith(frozen)]
    assert {name for name in trained if "side_adapter_network" not in name} == {
        "image_encoder/pos_embed",
        "text_encoder/bg_embed",
        *(f"decode_head/rec_with_attnbias/ln_post/{leaf}" for leaf in ("bias", "scale")),
        *(f"decode_head/rec_with_attnbias/layers_{i}/norms_0/{leaf}" for i in range(2) for leaf in ("bias", "scale")),
    }
    assert "rec_with_attnbias" not in str(
        build_model(changed(maskgen_cfg__frozen_exclude=("all",))).frozen_parameters()
    )


def test_a_train_step():
    """Under rules by name; what is frozen stays, and all else moves."""
    config = san_config()
    model = build_model(config)
    images, labels = random_batch((2, 64, 64))
    variables = random_variables(model, images)
    model = with_vocabulary(model, variables, MERGES)
    rules = {"norm_decay_mult": 0.0, "custom_keys": {"img_encoder": {"lr_mult": 0.1}}}
    optimizer = {"type": "AdamW", "lr": 1e-2, "weight_decay": 0.1, "paramwise_cfg": rules}
    recipe = {"model": config, "optimizer": optimizer, "schedule": (), "total_steps": 10}
    transformation = build_optimizer(recipe, variables["params"])
    params = variables["params"]
    state = TrainState(jnp.zeros((), jnp.int32), params, variables["batch_stats"], transformation.init(params))
    step = quick_jit(make_train_step(model, transformation, {"mean": (0.0,) * 3, "std": (1.0,) * 3}, 0))
    after, logs = step(state, {"image": (images * 40 + 128).clip(0, 255).astype(np.uint8), "label": labels})
    assert np.isfinite(float(logs["loss"]))
    before, after = (flatten_dict(tree.params, sep="/") for tree in (state, after))
    moved = {name for name in before if not np.array_equal(before[name], after[name])}
    assert moved == {name for name in before if not name.startswith(model.frozen_parameters())}


def test_one_bias_for_all_heads_and_layers_of_their_own():
    """What recipes don't have: the attention's biases may differ by layer, and be alike for all heads."""
    images = jnp.asarray(random_batch((1, 64, 64))[0])
    for fields in ({"num_heads": 1}, {"num_layers": 2}, {"rescale": False}):
        decoder = META["config"]["decode_head"]["san_cfg"]["cfg_decoder"]
        model = build_model(changed(san_cfg__cfg_decoder={**decoder, **fields}))
        variables = random_variables(model, images)
        scores = encode_decode(with_vocabulary(model, variables, MERGES), variables, images)
        assert np.isfinite(scores).all()
