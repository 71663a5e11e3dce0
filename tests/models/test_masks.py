"""MaskFormer and Mask2Former against the reference: losses and gradients, given all points; and their parts."""

from types import SimpleNamespace
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from compiling import quick_jit
from jaxseg.errors import ConfigError
from jaxseg.losses import HEAD_LOSSES, masks, model_losses
from jaxseg.models import HEADS, build_model
from jaxseg.models.layers import platform
from jaxseg.models.layers.deformable_attention import deformable_attention
from jaxseg.models.layers.points import sample_points, sample_shares
from jaxseg.models.names import reference_name
from jaxseg.models.registry import build
from reference import FIXTURES, as_dtype, filled_variables, load_npz, nchw, nhwc, precision
from small_models import CLASSES, head_config, model_config

META, ARRAYS = load_npz(FIXTURES / "masks.npz")
LABELS = ARRAYS["label"]


def maps(head):
    rng = np.random.default_rng(3)
    shapes = [(len(LABELS), c, *size) for c, size in zip(head.in_channels, META["sizes"], strict=True)]
    return [nhwc(rng.normal(0, 1, shape)) for shape in shapes]


def sequence(key, shape, dtype):
    """The reference's points when the figures were computed."""
    steps = np.arange(1, shape[-2] + 1)[:, None] * np.array([0.7548776662466927, 0.5698402909980532])
    return jnp.broadcast_to(jnp.asarray(np.modf(0.5 + steps)[0], dtype), shape)


@pytest.mark.parametrize("case", META["cases"].values(), ids=META["cases"])
def test_figures(case):
    """Scores, the losses of every layer, and the gradients of their sum."""
    with precision(np.float64), mock.patch("jaxseg.losses.masks.draw", sequence):
        head = build(HEADS, case["config"], "decode_head")
        features = maps(head)
        variables = as_dtype(filled_variables(head, case["keys"], features), np.float64)

        def losses_of(params, features):
            output = head.apply({"params": params}, features, True)
            logs = HEAD_LOSSES[case["config"]["type"]](head, output, jnp.asarray(LABELS), {})
            return sum(logs.values()), logs

        step = quick_jit(jax.grad(losses_of, argnums=(0, 1), has_aux=True))
        (params, inputs), logs = step(variables["params"], features)
        scores = nchw(
            quick_jit(lambda variables, x: head.apply(variables, x, size=LABELS.shape[1:]))(variables, features)
        )

    # The reference has positions in float32, whatever else is float64.
    assert logs.keys() == case["losses"].keys()
    assert {name: float(value) for name, value in logs.items()} == pytest.approx(case["losses"], rel=1e-6)
    gradients = {reference_name(path).replace(".", "_"): value for path, value in flatten_dict(params).items()}
    gradients |= {f"map_{i}": value for i, value in enumerate(inputs)}
    norms = {name: float(np.linalg.norm(value)) for name, value in gradients.items()}
    expected = {name.replace(".", "_"): norm for name, norm in case["grad_norms"].items()}
    assert norms == pytest.approx(expected, rel=1e-5, abs=1e-8 * max(expected.values()))
    mean, std, *values = case["scores"]
    assert (scores.mean(), scores.std()) == pytest.approx((mean, std), rel=1e-6)
    np.testing.assert_allclose(scores.reshape(-1)[:: scores.size // 50], values, atol=1e-6 * std)


def test_deformable_attention():
    """Values, and gradients of all three arguments; many places are beyond the maps."""
    meta, arrays = load_npz(FIXTURES / "deformable_attention.npz")
    heads = arrays["values"].shape[2]
    with precision(np.float64):

        def attend(values, places, weights):
            parts = jnp.split(values, np.cumsum([h * w for h, w in meta["sizes"]])[:-1], axis=1)
            levels = [x.reshape(len(x), *size, heads, -1) for x, size in zip(parts, meta["sizes"], strict=True)]
            return deformable_attention(levels, places, weights).reshape(arrays["result"].shape)

        inputs = [jnp.asarray(arrays[name]) for name in ("values", "places", "weights")]
        result, pull = jax.vjp(attend, *inputs)
        gradients = pull(jnp.asarray(arrays["cotangent"]))
    np.testing.assert_allclose(result, arrays["result"], rtol=1e-12, atol=1e-13)
    for name, gradient in zip(("values", "places", "weights"), gradients, strict=True):
        np.testing.assert_allclose(gradient, arrays[f"grad_{name}"], rtol=1e-11, atol=1e-12, err_msg=name)


@pytest.mark.parametrize(("queries", "ignore_index"), [(7, 255), (7, 2), (2, None)])
def test_targets(queries, ignore_index):
    """The classes in their order, without the ignored one; no more than there are queries."""
    labels = np.array([[[4, 0], [2, 255]], [[1, 1], [1, 1]], [[255, 255], [255, 255]]], np.uint8)
    head = SimpleNamespace(num_classes=5, num_queries=queries, ignore_index=ignore_index)
    classes, count = masks.find_targets(head, jnp.asarray(labels))
    found = [list(row[:n]) for row, n in zip(np.asarray(classes), count, strict=True)]
    first = [c for c in (0, 2, 4) if c != ignore_index][:queries]
    assert found == [first, [1], []]


def mask_head(**fields):
    return build(HEADS, head_config("MaskFormerHead", **fields), "decode_head")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"train_cfg": {}}, "train_cfg=.*: give assigner.match_costs, to train"),
        ({"train_cfg": {"num_point": 5, **head_config("MaskFormerHead")["train_cfg"]}}, "(?s)no field 'num_point'"),
        ({"train_cfg": {"assigner": {"match_costs": ({"type": "DiceCost"},)}}}, "match_costs.type='DiceCost'"),
        ({"loss_mask": {"type": "mmdet.FocalLoss", "reduction": "sum"}}, "loss_mask.reduction='sum': only 'mean'"),
        (
            {"loss_cls": {"type": "mmdet.CrossEntropyLoss", "class_weight": (1.0,)}},
            "class_weight has 1 entries; 5 classes need 6",
        ),
    ],
)
def test_losses_that_do_not_fit(fields, message):
    output = {
        "classes": jnp.zeros((2, 1, 20, CLASSES + 1)),
        "masks": jnp.zeros((2, 1, 4, 4, 20)),
        "key": jax.random.key(0),
    }
    with pytest.raises(ConfigError, match=message):
        masks.maskformer_losses(mask_head(**fields), output, jnp.zeros((1, 8, 8), jnp.int32), {})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"in_channels": (4, 8, 16, 31)}, r"in_channels=.*the maps have \[4, 8, 16, 32\] channels"),
        ({"in_index": (0, 1, 2, 4)}, "in_index=.*there are 4 feature maps"),
        ({"pixel_decoder": {"type": "PixelDecoder"}}, "pixel_decoder.type='PixelDecoder' is not known. Did you mean"),
        ({"transformer_decoder": {"num_layers": 1, "layer_cfg": {"ffn": {}}}}, "DecoderLayer has no field 'ffn'"),
        ({"positional_encoding": {"num_feat": 4}}, "SinePositions has no field 'num_feat'"),
    ],
)
def test_fields_that_do_not_fit(fields, message):
    model = build_model(model_config(head_config("MaskFormerHead", **fields)))
    with pytest.raises(ConfigError, match=message):
        jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, 64, 64, 3), np.float32))


def test_scores_have_no_loss():
    model = build_model(model_config(head_config("MaskFormerHead")))
    with pytest.raises(ConfigError, match="MaskFormerHead has losses of its queries, in training only"):
        model_losses(model, {"decode": jnp.zeros((1, 8, 8, CLASSES))}, jnp.zeros((1, 8, 8), jnp.int32))


def test_smallest():
    """The same points everywhere."""
    values = jnp.asarray(np.random.default_rng(0).random((3, 50), np.float32))
    with platform.target_platform("tpu"):
        elsewhere = masks._smallest(values, 7)
    np.testing.assert_array_equal(masks._smallest(values, 7), elsewhere)
    np.testing.assert_array_equal(jnp.sort(values)[:, :7], jnp.take_along_axis(values, elsewhere, axis=1))


def test_shares_of_classes():
    """They are the interpolated masks."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, (2, 6, 5))
    points = rng.uniform(-0.1, 1.1, (2, 30, 2)).astype(np.float32)
    expected = sample_points(jnp.asarray(labels[..., None] == np.arange(4), jnp.float32), jnp.asarray(points))
    found = sample_shares(jnp.asarray(labels), jnp.asarray(points), jnp.arange(4)[None, None].repeat(2, 0))
    np.testing.assert_allclose(found, expected, atol=1e-6)
