"""What every backbone promises. A new entry of BACKBONES joins with a line in each of the two tables."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from compiling import quick_jit
from jaxseg.errors import ConfigError
from jaxseg.models import BACKBONES
from jaxseg.models.registry import build
from small_models import random_variables

RESNET = {"depth": 18, "stem_channels": 8, "base_channels": 8}

# Fields that make a backbone small.
FIELDS = {
    "CGNet": {"num_channels": (8, 12, 16), "num_blocks": (2, 2), "reductions": (2, 2)},
    "FastSCNN": {
        "downsample_dw_channels": (4, 6),
        "global_in_channels": 8,
        "global_block_channels": (8, 12, 16),
        "global_out_channels": 12,
        "higher_in_channels": 8,
        "lower_in_channels": 12,
        "fusion_out_channels": 12,
    },
    "ResNet": RESNET,
    "ResNetV1c": RESNET,
    "ResNetV1d": RESNET,
}
# Stride and channels of every output, with these fields.
OUTPUTS = {
    "CGNet": ((2, 8 + 3), (4, 12 + 12 + 3), (8, 16 + 16)),
    "FastSCNN": ((8, 8), (32, 12), (8, 12)),
    "ResNet": ((4, 8), (8, 16), (16, 32), (32, 64)),
    "ResNetV1c": ((4, 8), (8, 16), (16, 32), (32, 64)),
    "ResNetV1d": ((4, 8), (8, 16), (16, 32), (32, 64)),
}
# These pool images to one pixel and normalise that, which is 0 where there is one image; the reference refuses it.
POOLED = {"FastSCNN"}
IMAGES = np.random.default_rng(0).normal(0, 1, (1, 97, 131, 3)).astype(np.float32)


def backbone_of(name, **fields):
    return build(BACKBONES, {"type": name, **FIELDS[name], **fields}, "backbone")


def having(field):
    names = [name for name, module in BACKBONES.items() if field in module.__dataclass_fields__]
    return pytest.mark.parametrize("name", names)


def train_pass(backbone, variables, images=IMAGES):
    """Outputs in train mode, the gradient of a random projection of them, and the new statistics, by path."""
    variables = {"batch_stats": {}, **variables}

    def loss_of(params, images, weights):
        outputs, updates = backbone.apply({**variables, "params": params}, images, True, mutable=["batch_stats"])
        loss = sum(jnp.mean(output * weight) for output, weight in zip(outputs, weights, strict=True))
        return loss, (outputs, updates["batch_stats"])

    rng = np.random.default_rng(1)
    shapes = jax.eval_shape(backbone.apply, variables, images)
    weights = [rng.normal(0, 1, output.shape).astype(np.float32) for output in shapes]
    gradients, (outputs, stats) = quick_jit(jax.grad(loss_of, has_aux=True))(variables["params"], images, weights)
    return outputs, flatten_dict(gradients), flatten_dict(stats)


def moved(stats, variables):
    """Paths of the statistics that differ."""
    before = flatten_dict(variables["batch_stats"])
    assert before.keys() == stats.keys()
    return {path for path in stats if not np.array_equal(stats[path], before[path])}


def test_the_tables_are_complete():
    assert set(FIELDS) == set(OUTPUTS) == set(BACKBONES)


@pytest.mark.parametrize("name", BACKBONES)
def test_strides_and_channels(name):
    """Every convolution of stride 2 rounds up, so a map has ceil(size / stride) rows and columns."""
    backbone = backbone_of(name)
    outputs = jax.eval_shape(lambda x: backbone.init_with_output(jax.random.key(0), x)[0], IMAGES)
    expected = [(1, -(-97 // stride), -(-131 // stride), channels) for stride, channels in OUTPUTS[name]]
    assert [output.shape for output in outputs] == expected
    assert {output.dtype for output in outputs} == {jnp.dtype(jnp.float32)}


@pytest.mark.parametrize("name", BACKBONES)
def test_training(name):
    """Every parameter gets a gradient, and every running statistic moves; for one image of odd size."""
    backbone = backbone_of(name)
    variables = random_variables(backbone, IMAGES)
    images = np.concatenate([IMAGES, IMAGES[:, ::-1] * 1.5]) if name in POOLED else IMAGES
    outputs, gradients, stats = train_pass(backbone, variables, images)
    assert all(np.isfinite(output).all() for output in outputs)
    without = [path for path, gradient in gradients.items() if not np.any(gradient)]
    assert not without
    assert all(np.isfinite(gradient).all() for gradient in gradients.values())
    assert moved(stats, variables) == set(stats)
    assert all(np.isfinite(value).all() for value in stats.values())


@pytest.mark.parametrize("name", BACKBONES)
def test_evaluation_leaves_the_statistics(name):
    backbone = backbone_of(name)
    variables = random_variables(backbone, IMAGES[:, :33, :41])
    apply = quick_jit(lambda v, x: backbone.apply(v, x, False, mutable=["batch_stats"]))
    outputs, updates = apply(variables, IMAGES[:, :33, :41])
    assert not moved(flatten_dict(updates["batch_stats"]), variables)
    assert all(np.isfinite(output).all() for output in outputs)


@having("norm_eval")
def test_norm_eval(name):
    """Uses the running statistics while training, and leaves them."""
    images = IMAGES[:, :33, :41]
    plain, frozen = backbone_of(name), backbone_of(name, norm_eval=True)
    variables = random_variables(plain, images)
    outputs, updates = quick_jit(lambda v, x: frozen.apply(v, x, True, mutable=["batch_stats"]))(variables, images)
    assert not moved(flatten_dict(updates["batch_stats"]), variables)
    for output, expected in zip(outputs, quick_jit(plain.apply)(variables, images), strict=True):
        np.testing.assert_allclose(output, expected, rtol=1e-4, atol=1e-5)


@having("frozen_stages")
def test_frozen_stages(name):
    """What `frozen_parameters` names has no gradient, and its statistics stay; all else trains."""
    images = IMAGES[:, :33, :41]
    backbone = backbone_of(name, frozen_stages=1)
    variables = random_variables(backbone, images)
    _, gradients, stats = train_pass(backbone, variables, images)
    prefixes = backbone.frozen_parameters()
    frozen = {path for path in gradients if "/".join(path).startswith(prefixes)}
    assert {path for path, gradient in gradients.items() if not np.any(gradient)} == frozen
    assert moved(stats, variables) == {path for path in stats if not "/".join(path).startswith(prefixes)}
    assert 0 < len(frozen) < len(gradients)
    assert backbone_of(name).frozen_parameters() == ()


# Once for variants that share their code.
@pytest.mark.parametrize(
    "name", {m.__call__: name for name, m in BACKBONES.items() if "with_cp" in m.__dataclass_fields__}.values()
)
def test_with_cp_changes_memory_only(name):
    images = IMAGES[:, :33, :41]
    plain, saving = backbone_of(name), backbone_of(name, with_cp=True)
    variables = random_variables(plain, images)
    for part, expected in zip(*(train_pass(backbone, variables, images) for backbone in (saving, plain)), strict=True):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=1e-4), part, expected)


@pytest.mark.parametrize("name", BACKBONES)
def test_unknown_fields(name):
    with pytest.raises(ConfigError, match=f"backbone: {name} has no field 'norm_cgf'. Did you mean norm_cfg"):
        backbone_of(name, norm_cgf={"type": "BN"})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"depth": 19}, "depth=19 is not one of"),
        ({"num_stages": 5}, "num_stages=5 is not between 1 and 4"),
        ({"strides": (1, 2, 2)}, r"strides=\(1, 2, 2\) needs num_stages=4 entries"),
        ({"dilations": (1,)}, r"dilations=\(1,\) needs num_stages=4 entries"),
        ({"out_indices": (1, 4)}, r"out_indices=\(1, 4\) names a stage beyond num_stages=4"),
        ({"style": "tensorflow"}, "style='tensorflow' is not pytorch or caffe"),
        ({"multi_grid": (1,)}, r"multi_grid=\(1,\) needs 2 entries"),
    ],
)
def test_resnet_fields_that_do_not_fit(fields, message):
    with pytest.raises(ConfigError, match=message):
        jax.eval_shape(backbone_of("ResNet", **fields).init, jax.random.key(0), IMAGES)
