"""Models as a whole: how they are built, their heads, and what a config may say."""

import functools
import sys
from unittest import mock

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict

from compiling import quick_jit
from jaxseg.config import load_recipe, recipe_names
from jaxseg.engine.step import compute_losses
from jaxseg.errors import ConfigError
from jaxseg.inference import encode_decode, to_labels
from jaxseg.models import BACKBONES, HEADS, build_model, field_defaults, register
from jaxseg.models.heads.decode_head import DecodeHead
from small_models import CLASSES, Pyramid, head_config, model_config, random_batch, random_variables

IMAGES = np.zeros((1, 64, 64, 3), np.float32)


class Neck(nn.Module):
    """Doubles the channels of the maps it passes on."""

    @nn.compact
    def __call__(self, features, train=False):
        return tuple(jnp.concatenate([x, x], axis=-1) for x in features)


class PlainHead(DecodeHead):
    """Classifies its input."""

    def decode(self, x, train):
        return x


def aux_head(in_index, weight, **fields):
    loss = {"type": "CrossEntropyLoss", "loss_weight": weight}
    channels = (4, 8, 16, 32)[in_index]
    return head_config("FCNHead", in_channels=channels, in_index=in_index, num_convs=1, loss_decode=loss, **fields)


@pytest.mark.parametrize(
    ("auxiliary", "names"),
    [
        (None, ["decode"]),
        (aux_head(2, 0.4), ["decode", "aux"]),
        ((aux_head(2, 0.4),), ["decode", "aux_0"]),
        ((aux_head(1, 0.4), aux_head(2, 0.5)), ["decode", "aux_0", "aux_1"]),
    ],
)
def test_auxiliary_heads(auxiliary, names):
    """They run in training only, and their losses add up under the reference's names."""
    model = build_model(model_config(auxiliary_head=auxiliary))
    images, labels = random_batch((2, 64, 64))
    variables = random_variables(model, IMAGES)
    assert {path[0] for path in flatten_dict(variables["params"])} >= {"backbone", "decode_head"}

    total, logs, stats = quick_jit(functools.partial(compute_losses, model))(variables, images, labels)
    assert set(logs) == {f"{name}.{key}" for name in names for key in ("loss_ce", "acc_seg")}
    np.testing.assert_allclose(total, sum(logs[f"{name}.loss_ce"] for name in names), rtol=1e-6)
    assert stats.keys() == variables["batch_stats"].keys()

    evaluate = functools.partial(compute_losses, model, train=False)
    _, logs, stats = quick_jit(evaluate)(variables, images, labels)
    assert set(logs) == {"decode.loss_ce", "decode.acc_seg"}
    jax.tree.map(np.testing.assert_array_equal, stats, variables["batch_stats"])


def test_frozen_parameters_of_heads():
    """What a head freezes is said by its whole path, wherever the head is."""
    ema = head_config("EMAHead", ema_channels=12, num_bases=4)
    model = build_model(model_config(ema, auxiliary_head=(aux_head(2, 0.4), ema)))
    assert model.frozen_parameters() == ("decode_head/ema_mid_conv/", "auxiliary_head_1/ema_mid_conv/")
    paths = flatten_dict(jax.eval_shape(model.init, jax.random.key(0), IMAGES)["params"], sep="/")
    assert len([path for path in paths if path.startswith(model.frozen_parameters())]) == 4


@pytest.mark.parametrize(
    "recipe",
    [
        "stdc1_4xb12-80k_cityscapes-512x1024",
        "bisenetv1_r18-d32_4xb4-160k_cityscapes-1024x1024",
        "icnet_r18-d8_4xb2-80k_cityscapes-832x832",
    ],
)
def test_frozen_parameters_of_inner_backbones(recipe):
    """A model that is not bound, as the optimizer has it, asks the backbone inside its backbone."""
    assert build_model(load_recipe(recipe_names()[recipe]).model).frozen_parameters() == ()


def test_neck():
    config = model_config(head_config("FCNHead", in_channels=64, num_convs=1), neck={"type": Neck})
    output = jax.eval_shape(lambda x: build_model(config).init_with_output(jax.random.key(0), x)[0], IMAGES)
    assert output["decode"].shape == (1, 2, 2, CLASSES)


def test_one_logit_and_a_threshold():
    """Two classes by one logit: class 1 where its probability is above the threshold, 0.3 unless stated."""
    loss = {"type": "CrossEntropyLoss", "use_sigmoid": True}
    head = head_config("FCNHead", num_classes=2, out_channels=1, num_convs=1, loss_decode=loss)
    model = build_model(model_config(head))
    images, labels = random_batch((2, 64, 64))
    variables = random_variables(model, IMAGES)
    total, logs, _ = quick_jit(functools.partial(compute_losses, model))(variables, images, labels % 2)
    assert set(logs) == {"decode.loss_ce", "decode.acc_seg"}
    assert np.isfinite(total)
    logits = quick_jit(functools.partial(encode_decode, model))(variables, images)
    assert logits.shape == (2, 64, 64, 1)

    probabilities = jnp.array([0.1, 0.29, 0.31, 0.6, 0.9]).reshape(1, 1, 5, 1)
    logits = jnp.log(probabilities / (1 - probabilities))
    assert to_labels(model, logits).ravel().tolist() == [0, 0, 1, 1, 1]
    strict = build_model(model_config(head | {"threshold": 0.7}))
    assert to_labels(strict, logits).ravel().tolist() == [0, 0, 0, 0, 1]
    assert to_labels(model, jnp.array([[[[0.1, 0.3, 0.2]]]])).ravel().tolist() == [1]


def test_a_shape_is_traced_once():
    model = build_model(model_config())
    traces = []

    @jax.jit
    def predict(variables, images):
        traces.append(images.shape)
        return encode_decode(model, variables, images)

    for size in (64, 64, 96, 64):
        for seed in (0, 1):
            predict(random_variables(model, IMAGES, seed=seed), random_batch((1, 64, size), seed)[0])
    assert traces == [(1, 64, 64, 3), (1, 64, 96, 3)]


def test_parameters_are_float32_and_independent_of_the_input():
    model = build_model(model_config(dtype="bfloat16"))
    variables = jax.eval_shape(model.init, jax.random.key(0), np.zeros((2, 33, 47, 3), np.float32))
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}
    other = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, True), IMAGES)
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, other)


def test_initial_variables_have_every_head():
    """Also where they are made in evaluation mode, in which auxiliary heads don't run."""
    model = build_model(model_config(auxiliary_head=aux_head(2, 0.4)))
    variables = jax.eval_shape(model.init, jax.random.key(0), IMAGES)
    assert set(variables["params"]) == {"backbone", "decode_head", "auxiliary_head"}


def test_config_dicts_and_plain_dicts_build_the_same():
    config = {
        **model_config(auxiliary_head=(aux_head(1, 0.4), aux_head(2, 0.5))),
        "backbone": {"type": "ResNet", "depth": 18, "base_channels": 8, "stem_channels": 8, "strides": [1, 2, 2, 2]},
    }
    assert build_model(ConfigDict(config)) == build_model(config)


@mock.patch.dict(HEADS)
def test_a_class_of_your_own():
    """By itself as `type`, or registered under a name."""
    by_class = build_model(model_config({**head_config("x", channels=32), "type": PlainHead}))
    assert register(HEADS, "PlainHead", PlainHead) is PlainHead
    by_name = build_model(model_config(head_config("PlainHead", channels=32)))
    assert by_class == by_name
    assert jax.eval_shape(by_name.init, jax.random.key(0), IMAGES)["params"]["decode_head"].keys() == {"conv_seg"}
    with pytest.raises(ConfigError, match="'PlainHead' is registered already"):
        register(HEADS, "PlainHead", PlainHead)
    with pytest.raises(ConfigError, match="'ResNet' is registered already, as ResNet"):
        register(BACKBONES, "ResNet", Pyramid)


def test_a_class_by_its_module(tmp_path, monkeypatch):
    """As a run's config.json has it: found where its module was imported, and never imported."""
    kind = f"{PlainHead.__module__}.PlainHead"
    monkeypatch.setitem(sys.modules, PlainHead.__module__, sys.modules[__name__])
    assert build_model(model_config(head_config(kind, channels=32))).decode_head.__class__ is PlainHead
    assert field_defaults(HEADS, {"type": kind}) == field_defaults(HEADS, {"type": PlainHead})
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "never_imported.py").write_text("raise AssertionError('imported')\n")
    for kind, says in (
        ("never_imported.MyHead", "Import its module first: --import=never_imported, or `import never_imported`"),
        ("os.MyHead", "The module os has no such class"),
        ("os.system", "The module os has no such class"),
        ("json.JSONDecoder", "The module json has no such class"),
        ("MyHaed", "known after --import=MODULE"),
        (dict, "known after --import=MODULE"),
    ):
        with pytest.raises(ConfigError, match=says):
            build_model(model_config(head_config(kind)))
        assert field_defaults(HEADS, {"type": kind}) == {}


FCN = head_config("FCNHead")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"type": "EncoderDecoder", "decode_head": FCN}, "model.backbone is missing"),
        ({"type": "EncoderDecoder", "backbone": {"type": Pyramid}}, "model.decode_head is missing"),
        (
            model_config({**FCN, "type": "FCNHaed"}),
            "model.decode_head.type='FCNHaed' is not known. Did you mean FCNHead",
        ),
        (model_config({"channels": 8}), "model.decode_head.type is missing. Allowed: .*FCNHead"),
        (model_config({"type": "FCNHead"}), "model.decode_head: .*in_channels"),
        (
            model_config() | {"type": "EncoderDecodr"},
            "model.type='EncoderDecodr' is not known. Did you mean EncoderDec",
        ),
        (model_config(auxilary_head=FCN), "model: EncoderDecoder has no field 'auxilary_head'. Did you mean auxil"),
        (
            model_config(auxiliary_head=(FCN, {**FCN, "kernal_size": 1})),
            r"model.auxiliary_head\[1\]: FCNHead has no field 'kernal_size'. Did you mean kernel_size",
        ),
        (model_config() | {"backbone": {"type": "ResNet50"}}, "model.backbone.type='ResNet50'.*Did you mean ResNet"),
        (model_config(neck={"type": "FPN2"}), "model.neck.type='FPN2' is not known"),
    ],
)
def test_config_errors(config, message):
    with pytest.raises(ConfigError, match=message):
        build_model(config)


def test_a_head_must_say_how_it_decodes():
    model = build_model(model_config({**FCN, "type": DecodeHead}))
    with pytest.raises(TypeError, match=r"DecodeHead does not define decode\(x, train\)"):
        jax.eval_shape(model.init, jax.random.key(0), IMAGES)


class RefiningHead(DecodeHead):
    """Adds what the head before found to its own map; takes that as a third argument."""

    @nn.compact
    def __call__(self, features, train=False, previous=None):
        x = self.select(features)
        x = self.conv_module(1, "conv")(x, train)
        return self.classify(x, train) + (0 if previous is None else previous)

    def decode(self, x, train):
        return x


def cascade():
    head = {"in_channels": 16, "in_index": 2, "num_classes": CLASSES, "channels": 8, "norm_cfg": {"type": "BN"}}
    heads = tuple({"type": RefiningHead, **head, "loss_decode": loss} for loss in LOSSES_OF_STAGES)
    return build_model({**model_config(), "type": "CascadeEncoderDecoder", "num_stages": 2, "decode_head": heads})


LOSSES_OF_STAGES = tuple({"type": "CrossEntropyLoss", "loss_weight": weight} for weight in (0.4, 1.0))


def test_cascade():
    """Each head gets the logits of the one before; the last one's are the result, every one has a loss."""
    model = cascade()
    images, labels = random_batch((2, 64, 64))
    variables = random_variables(model, IMAGES)
    total, logs, stats = quick_jit(functools.partial(compute_losses, model))(variables, images, labels)
    assert logs.keys() == {f"decode_{i}.{name}" for i in range(2) for name in ("loss_ce", "acc_seg")}
    assert total == pytest.approx(float(logs["decode_0.loss_ce"] + logs["decode_1.loss_ce"]), rel=1e-6)
    logits = quick_jit(functools.partial(encode_decode, model))(variables, images)

    def head(i):
        fields = {"in_channels": 16, "in_index": 2, "num_classes": CLASSES, "channels": 8, "norm_cfg": {"type": "BN"}}
        alone = build_model({**model_config(), "decode_head": {"type": RefiningHead, **fields}})
        parts = {
            name: {"backbone": tree["backbone"], "decode_head": tree[f"decode_head_{i}"]}
            for name, tree in variables.items()
        }
        logits = quick_jit(functools.partial(encode_decode, alone))(parts, images)
        return logits, quick_jit(functools.partial(compute_losses, alone))(parts, images, labels)[2]

    (first, stats_of_first), (second, stats_of_second) = head(0), head(1)
    np.testing.assert_allclose(logits, first + second, atol=1e-4)
    # Norms of all heads but the last learn from a batch twice.
    mean = {name: np.asarray(tree["conv"]["bn"]["mean"]) for name, tree in stats.items() if name != "backbone"}
    once = np.asarray(stats_of_first["decode_head"]["conv"]["bn"]["mean"])
    before = np.asarray(variables["batch_stats"]["decode_head_0"]["conv"]["bn"]["mean"])
    np.testing.assert_allclose(mean["decode_head_0"], once + 0.9 * (once - before), atol=1e-5)
    np.testing.assert_allclose(mean["decode_head_1"], stats_of_second["decode_head"]["conv"]["bn"]["mean"], atol=1e-6)
