"""Optimizers and settings by parameter against the reference."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from jaxseg.engine.layer_decay import rate_factor
from jaxseg.engine.optim import build_optimizer, parameter_settings
from jaxseg.engine.schedules import build_schedule
from jaxseg.errors import ConfigError
from jaxseg.mmseg.convert import reference_names
from jaxseg.models import build_model
from jaxseg.models.names import variable_shapes
from reference import FIXTURES, load_json, precision

FIGURES = load_json(FIXTURES / "optimizers.json")
MODEL = {"type": "EncoderDecoder", **FIGURES["models"]["fcn_r18"]}


def recipe(optimizer, schedule=(), model=MODEL, total_steps=100):
    return {"model": model, "optimizer": optimizer, "schedule": schedule, "total_steps": total_steps}


def update_id(case):
    clip = case["clip_grad"]
    return case["name"] + ("" if clip is None else "-clip-" + "-".join(str(value) for value in clip.values()))


def parameters_after(make, gradients=FIGURES["gradients"]):
    """The parameters after each of the figures' steps with the optimizer that `make` gives for them."""
    params = {"layer": {name: jnp.asarray(value) for name, value in FIGURES["start"].items()}}
    optimizer = make(params)
    state = optimizer.init(params)
    update = jax.jit(optimizer.update)
    for gradient in gradients:
        gradient = {"layer": {name: jnp.asarray(value) for name, value in gradient.items()}}
        updates, state = update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        yield params["layer"]


def assert_equal_steps(found, expected, rtol):
    for step, (params, figures) in enumerate(zip(found, expected, strict=True)):
        for name, value in figures.items():
            np.testing.assert_allclose(params[name], value, rtol=rtol, err_msg=f"{name}, step {step}")


@pytest.mark.parametrize("case", FIGURES["updates"], ids=update_id)
def test_updates_equal_the_reference(case):
    config = recipe({**case["optimizer"], "clip_grad": case["clip_grad"]})
    with precision(np.float64):
        assert_equal_steps(parameters_after(lambda params: build_optimizer(config, params)), case["params"], 1e-9)


@pytest.mark.parametrize("case", FIGURES["scheduled"], ids=lambda case: case["optimizer"]["type"])
def test_momentum_by_the_schedule_equals_the_reference(case):
    config = recipe(case["optimizer"], case["schedule"])
    with precision(np.float64):
        assert_equal_steps(parameters_after(lambda params: build_optimizer(config, params)), case["params"], 1e-9)


@pytest.mark.parametrize(
    ("optimizer", "make"),
    [
        ({"type": "LAMB", "weight_decay": 0.1}, lambda: optax.lamb(0.02, weight_decay=0.1)),
        (
            {"type": "Lion", "weight_decay": 0.1, "betas": (0.8, 0.9)},
            lambda: optax.lion(0.02, 0.8, 0.9, weight_decay=0.1),
        ),
        (
            {"type": "Adafactor", "min_dim_size_to_factor": 2, "momentum": 0.9},
            lambda: optax.adafactor(0.02, 2, momentum=0.9, multiply_by_parameter_scale=False),
        ),
        ({"type": "adabelief", "b1": 0.8}, lambda: optax.adabelief(0.02, b1=0.8)),
        ({"type": "adamw", "weight_decay": 0.1}, lambda: optax.adamw(0.02, weight_decay=0.1)),
        ({"type": "novograd"}, lambda: optax.novograd(0.02)),
        ({"type": "sign_sgd"}, lambda: optax.sign_sgd(0.02)),
    ],
    ids=lambda value: value["type"] if isinstance(value, dict) else "",
)
def test_updates_equal_those_of_optax(optimizer, make):
    config = recipe({**optimizer, "lr": 0.02})
    with precision(np.float64):
        expected = parameters_after(lambda params: make())
        assert_equal_steps(parameters_after(lambda params: build_optimizer(config, params)), expected, 1e-6)


def test_decay_of_an_optimizer_of_optax_is_by_parameter():
    rules = {"bias_decay_mult": 0.0}
    params = {"layer": {"kernel": jnp.ones((3, 4)), "bias": jnp.ones(4)}}
    config = recipe({"type": "adabelief", "lr": 0.1, "weight_decay": 0.5, "paramwise_cfg": rules})
    optimizer = build_optimizer(config, params)
    updates, _ = optimizer.update(jax.tree.map(jnp.zeros_like, params), optimizer.init(params), params)
    np.testing.assert_allclose(updates["layer"]["kernel"], -0.1 * 0.5, rtol=1e-6)
    np.testing.assert_array_equal(updates["layer"]["bias"], 0)


def test_frozen_patterns():
    params = {
        "backbone": {"conv1": {"kernel": jnp.ones((1, 1, 2, 3))}, "layer1_0": {"bn1": {"scale": jnp.ones(3)}}},
        "decode_head": {"conv_seg": {"kernel": jnp.ones((1, 1, 3, 2))}},
    }
    optimizer = {"type": "SGD", "lr": 1.0, "weight_decay": 0.1, "clip_grad": {"max_norm": 1.0}}
    gradients = jax.tree.map(jnp.ones_like, params)
    for patterns, held in {
        ("backbone.*",): {("backbone", "conv1", "kernel"), ("backbone", "layer1_0", "bn1", "scale")},
        ("*.layer1.0.*", "*conv_seg*"): {
            ("backbone", "layer1_0", "bn1", "scale"),
            ("decode_head", "conv_seg", "kernel"),
        },
    }.items():
        transformation = build_optimizer(recipe({**optimizer, "freeze": patterns}), params)
        updates, _ = transformation.update(gradients, transformation.init(params), params)
        still = {path for path, update in flatten_dict(updates).items() if not update.any()}
        assert still == held


@pytest.mark.parametrize("case", FIGURES["paramwise"], ids=lambda case: f"{case['model']}-{case['name']}")
def test_parameter_settings_equal_the_reference(case):
    model = FIGURES["models"][case["model"]]
    paths = reference_names(build_model(model), list(case["params"]))
    params = {path[1:]: leaf for path, leaf in variable_shapes(build_model(model)).items() if path[0] == "params"}
    assert {path[1:] for path in paths.values()} == set(params)
    optimizer = {"type": "SGD", "momentum": 0.9, **FIGURES["base"], "paramwise_cfg": case["paramwise_cfg"]}
    settings = parameter_settings(recipe(optimizer, model=model), unflatten_dict(params))
    settings = flatten_dict(settings)
    for name, (lr, weight_decay) in case["params"].items():
        found = settings[paths[name][1:]]
        assert (found.lr, found.weight_decay) == pytest.approx((lr, weight_decay), rel=1e-12), name
        assert found.trained


def test_rates_and_decays_reach_the_updates():
    """A plain SGD step is -rate * (gradient + decay * parameter), with each parameter's own rate and decay."""
    rules = {"custom_keys": {"decode_head": {"lr_mult": 10.0}}, "norm_decay_mult": 0.0}
    config = recipe({"type": "SGD", "lr": 0.1, "weight_decay": 0.5, "paramwise_cfg": rules},
                    [{"type": "PolyLR", "power": 1.0, "eta_min": 0.0}], total_steps=11)  # fmt: skip
    params = {
        "backbone": {"conv1": {"kernel": jnp.ones((1, 1, 2, 3))}, "bn1": {"scale": jnp.ones(3), "bias": jnp.ones(3)}},
        "decode_head": {"conv_seg": {"kernel": jnp.ones((1, 1, 3, 2))}},
    }
    optimizer = build_optimizer(config, params)
    state = optimizer.init(params)
    gradients = jax.tree.map(jnp.ones_like, params)
    for rate in (0.1, 0.09, 0.08):
        updates, state = optimizer.update(gradients, state, params)
        np.testing.assert_allclose(updates["backbone"]["conv1"]["kernel"], -rate * 1.5, rtol=1e-6)
        np.testing.assert_allclose(updates["backbone"]["bn1"]["scale"], -rate, rtol=1e-6)
        np.testing.assert_allclose(updates["backbone"]["bn1"]["bias"], -rate, rtol=1e-6)
        np.testing.assert_allclose(updates["decode_head"]["conv_seg"]["kernel"], -10 * rate * 1.5, rtol=1e-6)


@pytest.mark.parametrize(
    ("kind", "frozen_stages", "frozen"),
    [
        ("ResNet", -1, ()),
        ("ResNet", 0, ("conv1", "bn1")),
        ("ResNet", 2, ("conv1", "bn1", "layer1", "layer2")),
        ("ResNetV1c", 1, ("stem", "layer1")),
    ],
)
def test_frozen_stages_are_not_trained(kind, frozen_stages, frozen):
    model = {**MODEL, "backbone": {**MODEL["backbone"], "type": kind, "frozen_stages": frozen_stages}}
    shapes = variable_shapes(build_model(model))
    params = unflatten_dict({path[1:]: leaf for path, leaf in shapes.items() if path[0] == "params"})
    settings = flatten_dict(parameter_settings(recipe({"type": "SGD", "lr": 0.1}, model=model), params))
    for path, setting in settings.items():
        assert setting.trained == (path[0] != "backbone" or path[1].split("_")[0] not in frozen), path


@pytest.mark.parametrize("kind", ["SGD", "Adam", "AdamW"])
def test_what_is_frozen_stays_as_it_is(kind):
    """Neither the gradient, the weight decay nor the momentum moves it, and clipping does not count it."""
    model = {**MODEL, "backbone": {**MODEL["backbone"], "frozen_stages": 1}}
    optimizer = {"type": kind, "lr": 0.1, "weight_decay": 0.1, "clip_grad": {"max_norm": 1.0}}
    names = ("conv1", "layer1_0", "layer2_0")
    params = {"backbone": {name: {"kernel": jnp.ones((1, 1, 2, 3))} for name in names}}
    transformation = build_optimizer(recipe(optimizer, model=model), params)

    def second_updates(scale):
        scales = {"conv1": scale, "layer1_0": scale, "layer2_0": 1.0}
        gradients = {"backbone": {name: {"kernel": jnp.full((1, 1, 2, 3), scales[name])} for name in names}}
        state = transformation.init(params)
        for _ in range(2):
            updates, state = transformation.update(gradients, state, params)
        return {name: np.asarray(updates["backbone"][name]["kernel"]) for name in names}

    updates = second_updates(scale=1000.0)
    assert (updates["conv1"] == 0).all()
    assert (updates["layer1_0"] == 0).all()
    assert (updates["layer2_0"] < 0).all()
    np.testing.assert_array_equal(updates["layer2_0"], second_updates(scale=0.0)["layer2_0"])


def test_norms_of_a_part_may_be_frozen():
    model = {**MODEL, "backbone": {**MODEL["backbone"], "norm_cfg": {"type": "SyncBN", "requires_grad": False}}}
    shapes = variable_shapes(build_model(model))
    params = unflatten_dict({path[1:]: leaf for path, leaf in shapes.items() if path[0] == "params"})
    settings = flatten_dict(parameter_settings(recipe({"type": "SGD", "lr": 0.1}, model=model), params))
    frozen = {path for path, setting in settings.items() if not setting.trained}
    assert frozen == {path for path in settings if path[0] == "backbone" and path[-1] in ("scale", "bias")}


# Exponents of decay_rate in the reference's groups, by its own functions.
LAYERS = {
    ("ConvNeXt", "layer_wise", 12): {
        "backbone.downsample_layers.0.0.weight": 13,
        "backbone.downsample_layers.1.0.weight": 11,
        "backbone.downsample_layers.2.1.bias": 10,
        "backbone.downsample_layers.3.1.weight": 1,
        "backbone.stages.0.2.gamma": 12,
        "backbone.stages.1.0.norm.weight": 11,
        "backbone.stages.2.0.gamma": 10,
        "backbone.stages.2.26.gamma": 2,
        "backbone.stages.3.1.gamma": 1,
        "backbone.norm3.weight": 0,
        "decode_head.conv_seg.weight": 0,
    },
    ("ConvNeXt", "stage_wise", 6): {
        "backbone.downsample_layers.3.1.weight": 7,
        "backbone.stages.0.0.gamma": 6,
        "backbone.stages.3.0.gamma": 3,
        "backbone.norm0.weight": 0,
    },
    ("BEiT", "layer_wise_vit", 24): {
        "backbone.cls_token": 25,
        "backbone.patch_embed.projection.bias": 25,
        "backbone.layers.0.gamma_1": 24,
        "backbone.layers.23.attn.qkv.weight": 1,
        "neck.norm.weight": 0,
    },
}


@pytest.mark.parametrize(
    ("case", "exponents"),
    LAYERS.items(),
    ids=lambda value: "-".join(map(str, value)) if isinstance(value, tuple) else "exponents",
)
def test_layer_decay(case, exponents):
    backbone, kind, num_layers = case
    for name, exponent in exponents.items():
        assert rate_factor(backbone, name, num_layers, 0.9, kind) == 0.9**exponent, name


def test_gradients_of_several_steps_make_one_update():
    params = {"layer": {"kernel": jnp.ones((2, 3))}}
    schedule = [{"type": "PolyLR", "power": 1.0, "eta_min": 0.0}]
    optimizer = {"type": "AdamW", "lr": 0.1, "weight_decay": 0.1, "clip_grad": {"max_norm": 1.0}}
    rng = np.random.default_rng(0)
    gradients = [{"layer": {"kernel": rng.normal(0, 5, (2, 3)).astype(np.float32)}} for _ in range(4)]
    several = build_optimizer(recipe(optimizer | {"accumulative_counts": 2}, schedule, total_steps=8), params)
    state, updates = several.init(params), []
    for gradient in gradients:
        update, state = several.update(gradient, state, params)
        updates.append(update["layer"]["kernel"])
    assert not updates[0].any()
    assert not updates[2].any()

    # The rate is that of the last step, where this optimizer has that of its update.
    rates = build_schedule(schedule, 8)
    one = build_optimizer(recipe(optimizer, schedule, total_steps=8), params)
    state = one.init(params)
    for i in (0, 2):
        mean = jax.tree.map(lambda a, b: (a + b) / 2, gradients[i], gradients[i + 1])
        update, state = one.update(mean, state, params)
        factor = rates.rate(i + 1, 0.1) / rates.rate(i // 2, 0.1)
        np.testing.assert_allclose(updates[i + 1], update["layer"]["kernel"] * factor, rtol=1e-5)


def test_depthwise_biases_decay_with_their_kernels():
    rules = {"dwconv_decay_mult": 0.1, "flat_decay_mult": 0.2}
    config = recipe({"type": "SGD", "lr": 0.1, "weight_decay": 1.0, "paramwise_cfg": rules})
    params = {
        "depthwise": {"kernel": jnp.ones((3, 3, 1, 4)), "bias": jnp.ones(4)},
        "conv": {"kernel": jnp.ones((3, 3, 4, 4)), "bias": jnp.ones(4)},
    }
    decays = jax.tree.map(
        lambda s: s.weight_decay, parameter_settings(config, params), is_leaf=lambda s: hasattr(s, "lr")
    )
    assert decays == {"depthwise": {"kernel": 0.1, "bias": 0.1}, "conv": {"kernel": 1.0, "bias": 0.2}}


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        ({"type": "Adm", "lr": 0.1}, "optimizer.type='Adm' is not known. Did you mean Adam"),
        ({"type": "SGD", "lr": 0.1, "momentun": 0.9}, "'momentun'.*Did you mean momentum"),
        ({"type": "Adam", "lr": 0.1, "momentum": 0.9}, "Adam has no field 'momentum'"),
        (
            {"type": "SGD", "lr": 0.1, "paramwise_cfg": {"norm_decay": 0.0}},
            "'norm_decay'.*Did you mean norm_decay_mult",
        ),
        ({"type": "SGD", "lr": 0.1, "clip_grad": {"max_nrom": 1.0}}, "clip_grad.*'max_nrom'.*Did you mean max_norm"),
        (
            {"type": "SGD", "lr": 0.1, "paramwise_cfg": {"custom_keys": {"head": {"lr_mul": 2.0}}}},
            "'lr_mul'.*Did you mean lr_mult",
        ),
        ({"type": "SGD", "lr": 0.1, "clip_grad": {"max_norm": 1.0, "norm_type": 3}}, "norm_type=3 is not one of"),
        ({"type": "SGD", "lr": 0.1, "clip_grad": {"type": "value"}}, "clip_grad.clip_value=None must be a number"),
        ({"type": "SGD", "lr": 0.1, "clip_grad": {"type": "values"}}, "'values' is not known. Did you mean value"),
        ({"type": "SGD", "lr": 0.1, "freeze": "backbone.*"}, "freeze has 'backbone.*', which no parameter's name fits"),
        ({"type": "adabelif", "lr": 0.1}, "Did you mean adabelief"),
        ({"type": "lbfgs", "lr": 0.1}, "'lbfgs' is not known"),
        ({"type": "adabelief", "lr": 0.1, "beta1": 0.9}, "adabelief has no field 'beta1'"),
        ({"type": "SGD", "lr": 0.1, "accumulative_counts": 0}, "accumulative_counts=0 must be a whole number"),
        ({"type": "SGD", "lr": 0.1, "paramwise_cfg": {"decay_rate": 0.9}}, "needs num_layers and decay_rate"),
        (
            {"type": "SGD", "lr": 0.1, "paramwise_cfg": {"decay_rate": 0.9, "num_layers": 9}},
            "'layer_wise' has no layers of ResNet.*BEiT",
        ),
        (
            {"type": "SGD", "lr": 0.1, "paramwise_cfg": {"decay_rate": 0.9, "num_layers": 9, "decay_type": "stages"}},
            "decay_type='stages' is not known",
        ),
    ],
)
def test_errors(optimizer, message):
    params = {"decode_head": {"conv_seg": {"kernel": jnp.ones((1, 1, 3, 2))}}}
    with pytest.raises(ConfigError, match=message):
        build_optimizer(recipe(optimizer), params)


def test_a_momentum_schedule_needs_a_momentum():
    params = {"decode_head": {"conv_seg": {"kernel": jnp.ones((1, 1, 3, 2))}}}
    pieces = [{"type": "OneCycleMomentum"}]
    for optimizer in ({"type": "SGD", "lr": 0.1}, {"type": "adabelief", "lr": 0.1}):
        with pytest.raises(ConfigError, match="has no momentum that a schedule could change"):
            build_optimizer(recipe(optimizer, pieces), params)
