"""The train step: what it computes, what it draws, what it leaves alone."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from compiling import quick_jit
from jaxseg.engine.optim import build_optimizer
from jaxseg.engine.state import TrainState
from jaxseg.engine.step import compute_losses, make_train_step, normalise
from jaxseg.models import build_model
from small_models import CLASSES, head_config, model_config, random_variables

PREPROCESS = {"mean": (120.0, 110.0, 100.0), "std": (60.0, 50.0, 40.0)}
SGD = {"type": "SGD", "lr": 0.05, "momentum": 0.9, "weight_decay": 1e-3}
RESNET = {"type": "ResNet", "depth": 18, "stem_channels": 4, "base_channels": 4, "num_stages": 2, "strides": (1, 2),
          "dilations": (1, 1), "out_indices": (0, 1)}  # fmt: skip


def batch(seed=0, label_dtype=np.uint8):
    """Images whose brightness says which class it is, but for a tenth of the pixels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, (4, 4, 4)).repeat(8, 1).repeat(8, 2)
    images = labels[..., None] * 50 + rng.integers(0, 30, (4, 32, 32, 3))
    labels = np.where(rng.random(labels.shape) < 0.1, 255, labels)
    return {"image": images.astype(np.uint8), "label": labels.astype(label_dtype)}


def prepare(config, optimizer=SGD, seed=0, total_steps=20):
    """The jitted step, and the state at step 0."""
    model = build_model(config)
    variables = {"batch_stats": {}, **random_variables(model, np.zeros((1, 32, 32, 3), np.float32))}
    recipe = {"model": config, "optimizer": optimizer, "schedule": (), "total_steps": total_steps}
    transformation = build_optimizer(recipe, variables["params"])
    opt_state = transformation.init(variables["params"])
    state = TrainState(jnp.zeros((), jnp.int32), variables["params"], variables["batch_stats"], opt_state)
    return quick_jit(make_train_step(model, transformation, PREPROCESS, seed)), state


@pytest.fixture(scope="module")
def plain():
    return prepare(model_config())


def test_normalise():
    images = np.array([[[[0, 255, 128], [60, 110, 180]]]], np.uint8)
    expected = (images.astype(np.float64) - PREPROCESS["mean"]) / PREPROCESS["std"]
    result = normalise(jnp.asarray(images), **PREPROCESS)
    assert result.dtype == jnp.float32
    np.testing.assert_allclose(result, expected, rtol=1e-6)


def test_training_learns(plain):
    train_step, state = plain
    losses = []
    for _ in range(20):
        state, logs = train_step(state, batch())
        losses.append(float(logs["loss"]))
    assert int(state.step) == 20
    assert losses[-1] < 0.8 * losses[0]


def test_logs(plain):
    """The sum of the losses, their parts, and the norm of the gradient before it is clipped."""
    clipped = {**SGD, "clip_grad": {"max_norm": 1e-3}}
    for train_step, state in (plain, prepare(model_config(), clipped)):
        _, logs = train_step(state, batch())
        assert set(logs) == {"loss", "decode.loss_ce", "decode.acc_seg", "grad_norm"}
        assert logs["loss"] == logs["decode.loss_ce"]
        assert 0 <= logs["decode.acc_seg"] <= 100
        assert {value.shape for value in logs.values()} == {()}
        assert logs["grad_norm"] > 0.01


def test_same_seed_same_step(plain):
    """The keys of dropout are a function of the seed and the step alone."""
    train_step, state = plain
    for other, same in (
        (train_step, True),
        (prepare(model_config())[0], True),
        (prepare(model_config(), seed=1)[0], False),
    ):
        results = [step(state, batch())[0].params for step in (train_step, other)]
        equal = jax.tree.leaves(jax.tree.map(np.array_equal, *results))
        assert all(equal) == same
    _, first = train_step(state, batch())
    _, later = train_step(state.replace(step=jnp.asarray(7, jnp.int32)), batch())
    assert first["loss"] != later["loss"]


def test_label_types_make_no_difference(plain):
    train_step, state = plain
    _, logs = train_step(state, batch())
    _, others = train_step(state, batch(label_dtype=np.int32))
    assert logs == others


@pytest.mark.parametrize("optimizer", [SGD, {"type": "AdamW", "lr": 1e-3, "weight_decay": 0.01}])
def test_the_step_is_compiled_once(optimizer):
    """The state that comes out has the types of the state that went in."""
    train_step, state = prepare(model_config(dtype="bfloat16"), {**optimizer, "clip_grad": {"max_norm": 1.0}})
    before = [(leaf.shape, leaf.dtype, leaf.weak_type) for leaf in jax.tree.leaves(state)]
    for seed in range(3):
        state, _ = train_step(state, batch(seed))
    assert [(leaf.shape, leaf.dtype, leaf.weak_type) for leaf in jax.tree.leaves(state)] == before
    assert train_step._cache_size() == 1


def test_frozen_stages_stay_as_they_are():
    config = model_config(head_config("FCNHead", in_channels=8, in_index=1, num_convs=1))
    config["backbone"] = {**RESNET, "frozen_stages": 1}
    train_step, state = prepare(config)
    after = state
    for seed in range(2):
        after, _ = train_step(after, batch(seed))
    frozen = build_model(config).frozen_parameters()
    for tree, other in ((state.params, after.params), (state.batch_stats, after.batch_stats)):
        others = flatten_dict(other, sep="/")
        for path, value in flatten_dict(tree, sep="/").items():
            assert np.array_equal(value, others[path]) == path.startswith(frozen), path


def test_a_model_without_running_statistics():
    norm_cfg = {"type": "GN", "num_groups": 2}
    config = model_config(head_config("FCNHead", in_channels=8, in_index=1, num_convs=1, norm_cfg=norm_cfg))
    config["backbone"] = {**RESNET, "norm_cfg": norm_cfg}
    train_step, state = prepare(config)
    assert state.batch_stats == {}
    state, logs = train_step(state, batch())
    assert np.isfinite(logs["loss"])
    assert state.batch_stats == {}


def test_bfloat16():
    train_step, state = prepare(model_config(dtype="bfloat16"))
    losses = []
    for _ in range(20):
        state, logs = train_step(state, batch())
        losses.append(float(logs["loss"]))
    assert losses[-1] < 0.8 * losses[0]
    assert {leaf.dtype for leaf in jax.tree.leaves((state.params, state.batch_stats))} == {jnp.dtype(jnp.float32)}


def test_losses_without_a_key_drop_nothing():
    model = build_model(
        model_config(head_config("FCNHead", in_channels=16, in_index=2, num_convs=1, dropout_ratio=0.9))
    )
    without = build_model(
        model_config(head_config("FCNHead", in_channels=16, in_index=2, num_convs=1, dropout_ratio=0.0))
    )
    images, labels = normalise(jnp.asarray(batch()["image"]), **PREPROCESS), batch()["label"]
    variables = random_variables(model, images)
    losses = [quick_jit(functools.partial(compute_losses, m))(variables, images, labels)[0] for m in (model, without)]
    assert losses[0] == losses[1]
    dropped = quick_jit(functools.partial(compute_losses, model))(variables, images, labels, jax.random.key(0))[0]
    assert dropped != losses[0]
