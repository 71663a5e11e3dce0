"""What every neck promises. A new entry of NECKS joins with a line in each of the two tables."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from compiling import quick_jit
from jaxseg.errors import ConfigError
from jaxseg.models import NECKS
from jaxseg.models.registry import build
from small_models import random_variables, relative_error

# Fields that make a neck small.
FIELDS = {
    "Feature2Pyramid": {"embed_dim": 6},
    "FPN": {"in_channels": (4, 8, 6, 4), "out_channels": 5, "num_outs": 4},
    "ICNeck": {"in_channels": (4, 8, 6), "out_channels": 5},
    "JPU": {"in_channels": (4, 8, 12), "mid_channels": 5, "dilations": (1, 3)},
    "MLANeck": {"in_channels": (4, 8, 6), "out_channels": 5, "norm_cfg": {"type": "BN"}, "act_cfg": {"type": "ReLU"}},
    "MultiLevelNeck": {"in_channels": (4, 8, 6, 4), "out_channels": 5},
}
# The maps that come in, with these fields: stride and channels.
MAPS = {
    "Feature2Pyramid": ((16, 6), (16, 6), (16, 6), (16, 6)),
    "FPN": ((4, 4), (8, 8), (16, 6), (32, 4)),
    "ICNeck": ((8, 4), (16, 8), (32, 6)),
    "JPU": ((4, 4), (8, 8), (16, 12)),
    "MLANeck": ((16, 4), (16, 8), (16, 6)),
    "MultiLevelNeck": ((16, 4), (16, 8), (16, 6), (16, 4)),
}
# Of every output: the map that it has the size of, the factor of that, and its channels.
OUTPUTS = {
    "Feature2Pyramid": ((0, 4, 6), (1, 2, 6), (2, 1, 6), (3, 0.5, 6)),
    "FPN": ((0, 1, 5), (1, 1, 5), (2, 1, 5), (3, 1, 5)),
    "ICNeck": ((1, 1, 5), (0, 1, 5), (0, 1, 5)),
    "JPU": ((0, 1, 4), (1, 1, 8), (0, 1, 2 * 5)),
    "MLANeck": ((2, 1, 5), (1, 1, 5), (0, 1, 5)),
    "MultiLevelNeck": ((0, 0.5, 5), (1, 1, 5), (2, 2, 5), (3, 4, 5)),
}


def neck_of(name, **fields):
    return build(NECKS, {"type": name, **FIELDS[name], **fields}, "neck")


def maps(name, size, batch=1, dtype=np.float32):
    rng = np.random.default_rng(0)
    shapes = [(batch, *(-(-length // stride) for length in size), channels) for stride, channels in MAPS[name]]
    return tuple(rng.normal(0, 1, shape).astype(dtype) for shape in shapes)


def test_the_tables_are_complete():
    assert set(FIELDS) == set(MAPS) == set(OUTPUTS) == set(NECKS)


@pytest.mark.parametrize("size", [(64, 96), (97, 131)])
@pytest.mark.parametrize("name", NECKS)
def test_strides_and_channels(name, size):
    """Sizes are those of the maps times the factor, rounded down."""
    features = maps(name, size)
    outputs, _ = jax.eval_shape(neck_of(name).init_with_output, jax.random.key(0), features)
    assert [output.shape for output in outputs] == [
        (1, *(int(length * factor) for length in features[i].shape[1:3]), channels)
        for i, factor, channels in OUTPUTS[name]
    ]


@pytest.mark.parametrize("name", NECKS)
def test_training(name):
    """Every parameter and every map gets a gradient, and every running statistic moves."""
    neck, features = neck_of(name), maps(name, (97, 131), batch=2)
    variables = {"batch_stats": {}, **random_variables(neck, features)}

    def loss_of(params, features, weights):
        outputs, updates = neck.apply({**variables, "params": params}, features, True, mutable=["batch_stats"])
        loss = sum(jnp.mean(output * weight) for output, weight in zip(outputs, weights, strict=True))
        return loss, (outputs, updates.get("batch_stats", {}))

    rng = np.random.default_rng(1)
    shapes = jax.eval_shape(neck.apply, variables, features)
    weights = [rng.normal(0, 1, output.shape).astype(np.float32) for output in shapes]
    step = quick_jit(jax.grad(loss_of, argnums=(0, 1), has_aux=True))
    (gradients, of_maps), (outputs, stats) = step(variables["params"], features, weights)
    assert all(np.isfinite(output).all() for output in outputs)
    gradients = {**flatten_dict(gradients, sep="/"), **dict(enumerate(of_maps))}
    assert not [path for path, gradient in gradients.items() if not np.any(gradient)]
    before, stats = flatten_dict(variables["batch_stats"]), flatten_dict(stats)
    assert not [path for path in before if np.array_equal(stats[path], before[path])]


@pytest.mark.parametrize("name", NECKS)
def test_bfloat16(name):
    """Computes in the dtype of the maps, near what float32 gives."""
    neck, features = neck_of(name), maps(name, (64, 96))
    variables = random_variables(neck, features)
    apply = quick_jit(neck.apply)
    rough = apply(variables, tuple(jnp.asarray(x, jnp.bfloat16) for x in features))
    for output, expected in zip(rough, apply(variables, features), strict=True):
        assert output.dtype == jnp.bfloat16
        assert relative_error(output, expected) <= 0.02
        np.testing.assert_allclose(np.asarray(output, np.float32), expected, rtol=0, atol=0.1 * np.std(expected))


@pytest.mark.parametrize("name", NECKS)
def test_other_channels(name):
    *features, last = maps(name, (64, 96))
    with pytest.raises(ConfigError, match=r"neck\..*: the maps have \[.* 7\] channels"):
        jax.eval_shape(neck_of(name).init, jax.random.key(0), (*features, np.zeros((*last.shape[:3], 7), np.float32)))


def test_one_map_makes_all_levels():
    neck = neck_of("MultiLevelNeck", in_channels=(4,))
    outputs, _ = jax.eval_shape(neck.init_with_output, jax.random.key(0), maps("MultiLevelNeck", (64, 96))[:1])
    assert [output.shape for output in outputs] == [(1, 2, 3, 5), (1, 4, 6, 5), (1, 8, 12, 5), (1, 16, 24, 5)]


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("Feature2Pyramid", {"rescales": (1, 2, 4)}, r"neck.rescales=\(1, 2, 4\) is not one of"),
        ("MLANeck", {"norm_layer": {"type": "BN"}}, "neck.norm_layer=.*must be of type 'LN'"),
        ("MultiLevelNeck", {"scales": (1, 2)}, r"neck.scales=\(1, 2\): there are 4 maps"),
        ("JPU", {"start_level": 3}, "neck.start_level=3, end_level=-1: no range of 3 maps"),
        ("JPU", {"end_level": 4}, "neck.start_level=0, end_level=4: no range of 3 maps"),
        ("JPU", {"conv_cfg": {"type": "DCNv2"}}, "(?s)neck.conv_cfg=.*only the plain convolution"),
    ],
)
def test_fields_that_do_not_fit(name, fields, message):
    neck = neck_of(name, **fields)
    with pytest.raises(ConfigError, match=message):
        jax.eval_shape(neck.init, jax.random.key(0), maps(name, (64, 96)))
