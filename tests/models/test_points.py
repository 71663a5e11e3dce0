"""PointRend's head against the reference: points, losses and refined logits, given all random numbers."""

from types import SimpleNamespace
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from jaxseg.errors import ConfigError
from jaxseg.inference import check_test_cfg
from jaxseg.losses import point_losses
from jaxseg.models import HEADS, build_model
from jaxseg.models.layers.points import nearest_points, sample_points
from jaxseg.models.names import reference_name
from jaxseg.models.registry import build
from reference import FIXTURES, as_dtype, filled_variables, load_npz, nchw, nhwc, precision
from small_models import head_config, model_config, random_batch

META, ARRAYS = load_npz(FIXTURES / "points.npz")


def setup(case):
    head = build(HEADS, case["config"], "decode_head")
    *maps, previous = (jnp.asarray(nhwc(ARRAYS[name])) for name in ("map_0", "map_1", "previous"))
    in_evaluation = SimpleNamespace(init=lambda key, maps, previous: head.init(key, maps, False, previous))
    variables = as_dtype(filled_variables(in_evaluation, case["keys"], maps, previous), np.float64)
    return head, variables, maps, previous


@pytest.mark.parametrize("case", META["cases"])
def test_losses_and_gradients(case):
    with precision(np.float64):
        head, variables, maps, previous = setup(case)

        def losses_of(params, map_0, map_1, previous):
            output = head.apply({"params": params}, [map_0, map_1], True, previous, **META["train_cfg"])
            logs = point_losses(head, output, jnp.asarray(ARRAYS["label"]), {})
            return sum(value for name, value in logs.items() if "loss" in name), logs

        drawn = [jnp.asarray(ARRAYS[name]) for name in ("many", "rest")]
        with mock.patch("jax.random.uniform", side_effect=drawn):
            step = jax.grad(losses_of, argnums=(0, 1, 2, 3), has_aux=True)
            (params, *inputs), logs = step(variables["params"], *maps, previous)
    assert logs.keys() == case["losses"].keys()
    for name, expected in case["losses"].items():
        assert float(logs[name]) == pytest.approx(expected, rel=1e-12 if "loss" in name else 1e-6), name
    gradients = {reference_name(path).replace(".", "_"): value for path, value in flatten_dict(params).items()}
    gradients |= dict(zip(("map_0", "map_1", "previous"), inputs, strict=True))
    expected = {name.replace(".", "_"): norm for name, norm in case["grad_norms"].items()}
    norms = {name: float(np.linalg.norm(value)) for name, value in gradients.items()}
    assert norms == pytest.approx(expected, rel=1e-11)


@pytest.mark.parametrize("number", range(len(META["cases"])))
def test_refined_logits(number):
    with precision(np.float64):
        head, variables, maps, previous = setup(META["cases"][number])
        logits = head.apply(variables, maps, False, previous, **META["test_cfg"])
    assert logits.shape == (2, 44, 36, 6)
    places = np.random.default_rng(0).integers(0, logits.size, 1000)
    np.testing.assert_allclose(nchw(logits).ravel()[places], ARRAYS[f"refined_{number}"], atol=1e-11)


def test_points_at_and_beyond_the_edge():
    x = jnp.arange(1.0, 7.0).reshape(1, 2, 3, 1)
    points = jnp.array([[[0.0, 0.0], [0.5, 0.5], [1.0, 1.0], [0.5 / 3, 0.25]]])
    # Half and half with the zeros around the map, along both axes.
    np.testing.assert_allclose(sample_points(x, points)[0, :, 0], [0.25, 3.5, 1.5, 1], atol=1e-6)
    np.testing.assert_allclose(sample_points(x, points[:, :3], align_corners=True)[0, :, 0], [1, 3.5, 6], atol=1e-6)
    labels = jnp.arange(6).reshape(1, 2, 3)
    assert nearest_points(labels, jnp.array([[[0.0, 0.0], [0.99, 0.99], [0.5, 0.2]]])).tolist() == [[0, 5, 1]]


POINTS = head_config("PointHead", in_channels=(4,), in_index=(0,), norm_cfg=None)
COARSE = head_config("FCNHead", num_convs=1)


def test_points_are_drawn_by_a_key():
    """Without one they are always the same."""
    train_cfg = {"num_points": 16}
    model = build_model(model_config((COARSE, POINTS), train_cfg=train_cfg) | {"type": "CascadeEncoderDecoder"})
    images = jnp.asarray(random_batch((2, 64, 64))[0])
    variables = model.init(jax.random.key(0), images)

    def points(key):
        rngs = None if key is None else {"points": jax.random.key(key)}
        return model.apply(variables, images, True, rngs=rngs, mutable=["batch_stats"])[0]["decode_1"]["points"]

    fixed, again, one, other = (points(key) for key in (None, None, 1, 2))
    np.testing.assert_array_equal(fixed, again)
    assert fixed.shape == (2, 16, 2)
    assert not np.array_equal(one, fixed)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (model_config(POINTS), "it must come later in a cascade"),
        (
            model_config((COARSE, POINTS), train_cfg={"num_point": 1}) | {"type": "CascadeEncoderDecoder"},
            "model.train_cfg has no field 'num_point'. Did you mean num_points",
        ),
        (
            model_config((COARSE, {**POINTS, "sampler": {"type": "OHEMPixelSampler"}}))
            | {"type": "CascadeEncoderDecoder"},
            "(?s)sampler=.*the points are the sample",
        ),
    ],
)
def test_fields_that_do_not_fit(config, message):
    with pytest.raises(ConfigError, match=message):
        jax.eval_shape(build_model(config).init, jax.random.key(0), np.zeros((1, 64, 64, 3), np.float32))


def test_settings_of_the_test_cfg():
    check_test_cfg({"mode": "whole", "subdivision_steps": 2, "subdivision_num_points": 8, "scale_factor": 2})
    with pytest.raises(ConfigError, match=r"has no field 'subdivision_step'\. Did you mean subdivision_steps"):
        check_test_cfg({"mode": "whole", "subdivision_step": 2})
