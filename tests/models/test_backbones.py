"""What every backbone promises. A new entry of BACKBONES joins with a line in each of the two tables."""

import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from compiling import quick_jit
from jaxseg.errors import ConfigError
from jaxseg.models import BACKBONES
from jaxseg.models.registry import build
from small_models import a_third, random_variables, relative_error

RESNET = {"depth": 18, "stem_channels": 8, "base_channels": 8}
HRNET = {
    f"stage{i}": {
        "num_modules": modules,
        "num_branches": i,
        "block": "BOTTLENECK" if i == 1 else "BASIC",
        "num_blocks": (1,) * i,
        "num_channels": (4, 8, 12, 16)[:i],
    }
    for i, modules in enumerate((1, 1, 2, 1), start=1)
}
STDC = {"stdc_type": "STDCNet1", "channels": (4, 8, 16, 32, 48)}
TRANSFORMER = {"embed_dims": 8, "num_layers": 3, "num_heads": 2, "out_indices": (0, 2)}
TWINS = {"mlp_ratios": (2, 2, 2, 2), "depths": (1, 2, 1, 1), "drop_path_rate": 0.1}

# Fields that make a backbone small.
FIELDS = {
    "BEiT": {"img_size": (97, 131), **TRANSFORMER},
    "BiSeNetV1": {
        "backbone_cfg": {"type": "ResNet", **RESNET},
        "spatial_channels": (4, 6, 8, 10),
        "context_channels": (8, 32, 64),
        "out_channels": 12,
    },
    "BiSeNetV2": {
        "detail_channels": (4, 6, 8),
        "semantic_channels": (4, 4, 6, 8),
        "semantic_expansion_ratio": 2,
        "bga_channels": 8,
    },
    "CGNet": {"num_channels": (8, 12, 16), "num_blocks": (2, 2), "reductions": (2, 2)},
    "DDRNet": {"channels": 4, "ppm_channels": 6},
    "ERFNet": {
        "enc_downsample_channels": (8, 12, 16),
        "enc_stage_non_bottlenecks": (1, 2),
        "enc_non_bottleneck_dilations": (2, 4),
        "dec_stages_non_bottleneck": (1, 1),
        "dec_non_bottleneck_channels": (12, 8),
    },
    "FastSCNN": {
        "downsample_dw_channels": (4, 6),
        "global_in_channels": 8,
        "global_block_channels": (8, 12, 16),
        "global_out_channels": 12,
        "higher_in_channels": 8,
        "lower_in_channels": 12,
        "fusion_out_channels": 12,
    },
    "HRNet": {"extra": HRNET},
    "ICNet": {
        "backbone_cfg": {"type": "ResNetV1c", **RESNET, "strides": (1, 2, 1, 1), "dilations": (1, 1, 2, 4)},
        "layer_channels": (16, 64),
        "light_branch_middle_channels": 4,
        "psp_out_channels": 6,
        "out_channels": (8, 10, 12),
    },
    "MAE": {"img_size": (97, 131), **TRANSFORMER},
    "MixVisionTransformer": {"embed_dims": 4, "num_layers": (1, 2, 1, 1), "drop_path_rate": 0.1},
    "mmpretrain.ConvNeXt": {
        "arch": {"depths": (1, 2), "channels": (8, 12)},
        "out_indices": (0, 1),
        "layer_scale_init_value": 1.0,
        "gap_before_final_norm": False,
    },
    "mmpretrain.PoolFormer": {
        "arch": {"layers": (1, 2, 1), "embed_dims": (8, 12, 16)},
        "out_indices": (0, 2, 3, 4),
        "frozen_stages": -1,
    },
    "MobileNetV2": {"widen_factor": 0.25},
    "MobileNetV3": {"reduction_factor": 4},
    "MSCAN": {
        "embed_dims": (8, 12, 16, 20),
        "mlp_ratios": (2, 2, 2, 2),
        "depths": (1, 2, 1, 1),
        "drop_path_rate": 0.1,
        "norm_cfg": {"type": "BN"},
    },
    "PCPVT": {**TWINS, "embed_dims": (4, 8, 12, 16), "num_heads": (1, 2, 3, 4), "sr_ratios": (8, 4, 2, 1)},
    "PIDNet": {"channels": 4, "ppm_channels": 6},
    "ResNeSt": {"depth": 50, "stem_channels": 8, "base_channels": 4, "groups": 2, "base_width": 4},
    "ResNeXt": {"depth": 50, "stem_channels": 8, "base_channels": 4, "groups": 2, "base_width": 4},
    "ResNet": RESNET,
    "ResNetV1c": RESNET,
    "ResNetV1d": RESNET,
    "STDCContextPathNet": {
        "backbone_cfg": {"type": "STDCNet", **STDC},
        "last_in_channels": (48, 32),
        "out_channels": 8,
        "ffm_cfg": {"out_channels": 12},
    },
    "STDCNet": {**STDC, "with_final_conv": True},
    "SVT": {
        **TWINS,
        "embed_dims": (4, 8, 12, 16),
        "num_heads": (1, 2, 2, 2),
        "depths": (2, 2),
        "windiow_sizes": (7, 4),
    },
    "SwinTransformer": {"embed_dims": 8, "window_size": 3, "depths": (2, 1, 2, 1), "num_heads": (1, 2, 2, 4)},
    "UNet": {"base_channels": 4, "enc_num_convs": (2, 1, 1, 1, 1), "dec_num_convs": (2, 1, 1, 1)},
    "VisionTransformer": {"img_size": 64, **TRANSFORMER},
}
# Stride and channels of every output, with these fields.
OUTPUTS = {
    "BEiT": ((16, 8), (16, 8)),
    "BiSeNetV1": ((8, 12), (8, 8), (16, 8)),
    "BiSeNetV2": ((8, 8), (4, 4), (8, 4), (16, 6), (32, 8)),
    "CGNet": ((2, 8 + 3), (4, 12 + 12 + 3), (8, 16 + 16)),
    "DDRNet": ((8, 8), (8, 16)),
    "ERFNet": ((2, 8),),
    "FastSCNN": ((8, 8), (32, 12), (8, 12)),
    "HRNet": ((4, 4), (8, 8), (16, 12), (32, 16)),
    "ICNet": ((8, 8), (16, 10), (40, 12)),  # 32 in the end, but that a resize of an odd size to its half rounds down
    "MAE": ((16, 8), (16, 8)),
    "MixVisionTransformer": ((4, 4), (8, 8), (16, 16), (32, 32)),
    "mmpretrain.ConvNeXt": ((4, 8), (8, 12)),
    "mmpretrain.PoolFormer": ((4, 8), (8, 12), (16, 16), (16, 16)),
    "MobileNetV2": ((4, 8), (8, 8), (16, 24), (32, 80)),
    "MobileNetV3": ((2, 16), (4, 16), (8, 576)),
    "MSCAN": ((4, 8), (8, 12), (16, 16), (32, 20)),
    "PCPVT": ((4, 4), (8, 8), (16, 12), (32, 16)),
    "PIDNet": ((8, 8), (8, 16), (8, 8)),
    "ResNeSt": ((4, 16), (8, 32), (16, 64), (32, 128)),
    "ResNeXt": ((4, 16), (8, 32), (16, 64), (32, 128)),
    "ResNet": ((4, 8), (8, 16), (16, 32), (32, 64)),
    "ResNetV1c": ((4, 8), (8, 16), (16, 32), (32, 64)),
    "ResNetV1d": ((4, 8), (8, 16), (16, 32), (32, 64)),
    "STDCContextPathNet": ((8, 16), (16, 8), (8, 8), (8, 12)),
    "STDCNet": ((8, 16), (16, 32), (32, 1024)),
    "SVT": ((4, 4), (8, 8)),
    "SwinTransformer": ((4, 8), (8, 16), (16, 32), (32, 64)),
    "UNet": ((16, 64), (8, 32), (4, 16), (2, 8), (1, 4)),
    "VisionTransformer": ((16, 8), (16, 8)),
}
# Of the images, where maps that grow again are larger than this for others, or what does not fill a patch is left out.
SIZES = {
    "BEiT": (96, 128),
    "ERFNet": (96, 136),
    "MAE": (96, 128),
    "mmpretrain.ConvNeXt": (96, 160),
    "mmpretrain.PoolFormer": (96, 160),
}
# These take images of one size.
ONE_SIZE = {"BEiT", "MAE"}
# These pool images to one pixel and normalise that, which is 0 where there is one image; the reference refuses it.
POOLED = {"BiSeNetV1", "BiSeNetV2", "DDRNet", "FastSCNN", "ICNet", "PIDNet", "ResNeSt", "STDCContextPathNet"}
# Parameters without a gradient, in the reference, too: a shift of all pixels that the next norm takes away.
WITHOUT = {"BiSeNetV2": {("semantic", "stage4_CEBlock", "gap_1", "bias")}}
IMAGES = np.random.default_rng(0).normal(0, 1, (1, 97, 131, 3)).astype(np.float32)


def backbone_of(name, **fields):
    return build(BACKBONES, {"type": name, **FIELDS[name], **fields}, "backbone")


def small_images(name):
    return IMAGES if name in ONE_SIZE else IMAGES[:, :33, :41]


def enough(name, images):
    """Images that train everything: these, and as many others where that takes several."""
    return np.concatenate([images, images[:, ::-1] * 1.5]) if name in POOLED else images


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
    before = flatten_dict(variables.get("batch_stats", {}))
    assert before.keys() == stats.keys()
    return {path for path in stats if not np.array_equal(stats[path], before[path])}


def test_the_tables_are_complete():
    assert set(FIELDS) == set(OUTPUTS) == set(BACKBONES)


@pytest.mark.parametrize("name", BACKBONES)
def test_strides_and_channels(name):
    """Every convolution of stride 2 rounds up, so a map has ceil(size / stride) rows and columns."""
    backbone = backbone_of(name)
    height, width = SIZES.get(name, IMAGES.shape[1:3])
    images = jax.ShapeDtypeStruct((1, height, width, 3), np.float32)
    outputs = jax.eval_shape(lambda x: backbone.init_with_output(jax.random.key(0), x)[0], images)
    expected = [(1, -(-height // stride), -(-width // stride), channels) for stride, channels in OUTPUTS[name]]
    assert [output.shape for output in outputs] == expected
    assert {output.dtype for output in outputs} == {jnp.dtype(jnp.float32)}


@pytest.mark.parametrize("name", BACKBONES)
def test_training(name):
    """Every parameter gets a gradient, and every running statistic moves; for one image of odd size."""
    backbone = backbone_of(name)
    variables = random_variables(backbone, IMAGES)
    outputs, gradients, stats = train_pass(backbone, variables, enough(name, IMAGES))
    assert all(np.isfinite(output).all() for output in outputs)
    without = {path for path, gradient in gradients.items() if not np.any(gradient)}
    assert without <= WITHOUT.get(name, set())
    assert all(np.isfinite(gradient).all() for gradient in gradients.values())
    assert moved(stats, variables) == set(stats)
    assert all(np.isfinite(value).all() for value in stats.values())


@pytest.mark.parametrize("name", BACKBONES)
def test_evaluation(name):
    """Leaves the statistics as they are, and gives in bfloat16 nearly what it gives in float32.

    Some of these small backbones are so ill-conditioned that rounding the weights and images alone moves them further.
    """
    backbone, images = backbone_of(name), IMAGES if name in ONE_SIZE else IMAGES[:, :64, :96]
    variables = random_variables(backbone, images, initial=True)
    apply = quick_jit(lambda v, x: backbone.apply(v, x, False, mutable=["batch_stats"]))
    outputs, updates = apply(variables, images)
    assert not moved(flatten_dict(updates.get("batch_stats", {})), variables)
    rounded = jax.tree.map(lambda x: jnp.asarray(x, jnp.bfloat16).astype(jnp.float32), (variables, images))
    cases = zip(apply(variables, images.astype(jnp.bfloat16))[0], apply(*rounded)[0], outputs, strict=True)
    for rough, of_rounded, output in cases:
        assert rough.dtype == jnp.bfloat16
        assert relative_error(rough, output) <= max(0.02, 2 * relative_error(of_rounded, output))


@having("norm_eval")
def test_norm_eval(name):
    """Uses the running statistics while training, and leaves them."""
    images = small_images(name)
    plain, frozen = backbone_of(name), backbone_of(name, norm_eval=True)
    variables = random_variables(plain, images)
    outputs, updates = quick_jit(lambda v, x: frozen.apply(v, x, True, mutable=["batch_stats"]))(variables, images)
    assert not moved(flatten_dict(updates["batch_stats"]), variables)
    for output, expected in zip(outputs, quick_jit(plain.apply)(variables, images), strict=True):
        np.testing.assert_allclose(output, expected, rtol=1e-4, atol=1e-5)


@having("frozen_stages")
def test_frozen_stages(name):
    """What `frozen_parameters` names has no gradient, and its statistics stay; all else trains."""
    images = small_images(name)
    backbone = backbone_of(name, frozen_stages=1)
    variables = random_variables(backbone, images)
    _, gradients, stats = train_pass(backbone, variables, enough(name, images))
    prefixes = backbone.frozen_parameters()
    frozen = {path for path in gradients if "/".join(path).startswith(prefixes)}
    assert {path for path, gradient in gradients.items() if not np.any(gradient)} == frozen
    assert moved(stats, variables) == {path for path in stats if not "/".join(path).startswith(prefixes)}
    assert 0 < len(frozen) < len(gradients)
    assert backbone_of(name).frozen_parameters() == ()


# Once for variants that share their code.
@pytest.mark.parametrize(
    "name", a_third({m.__call__: name for name, m in BACKBONES.items() if "with_cp" in m.__dataclass_fields__}.values())
)
def test_with_cp_changes_memory_only(name):
    images = small_images(name)
    plain, saving = backbone_of(name), backbone_of(name, with_cp=True)
    variables = random_variables(plain, images)
    for part, expected in zip(*(train_pass(backbone, variables, images) for backbone in (saving, plain)), strict=True):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=1e-4), part, expected)


@pytest.mark.parametrize("name", BACKBONES)
def test_unknown_fields(name):
    with pytest.raises(
        ConfigError, match=f"backbone: {BACKBONES[name].__name__} has no field 'norm_cgf'. Did you mean norm_cfg"
    ):
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


@pytest.mark.parametrize(
    ("stage", "fields", "message"),
    [
        ("stage2", {"block": "SMALL"}, "extra.stage2.block='SMALL' is not one of BASIC, BOTTLENECK"),
        ("stage3", {"num_branches": 1}, "extra.stage3.num_branches=1: .* not fewer than before"),
        ("stage4", {"num_blocks": (1, 1)}, r"extra.stage4.num_blocks=\(1, 1\) needs num_branches=4 entries"),
        ("stage5", {}, r"extra has .*'stage5'\]; it must have stage1, stage2"),
        ("stage1", {"stride": 1}, r"extra.stage1 has .*; it must have num_modules"),
    ],
)
def test_hrnet_fields_that_do_not_fit(stage, fields, message):
    extra = {**HRNET, stage: {**HRNET.get(stage, {}), **fields}}
    with pytest.raises(ConfigError, match=message):
        jax.eval_shape(backbone_of("HRNet", extra=extra).init, jax.random.key(0), IMAGES)


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("MobileNetV2", {"strides": (1, 2)}, r"strides=\(1, 2\) needs 7 entries"),
        ("MobileNetV2", {"strides": (1, 2, 2, 3, 1, 1, 1)}, "strides=.*: each is 1 or 2"),
        ("MobileNetV2", {"out_indices": (1, 7)}, r"out_indices=\(1, 7\): there are stages 0 to 6"),
        ("MobileNetV3", {"arch": "medium"}, "arch='medium' is not one of small, large"),
        ("MobileNetV3", {"out_indices": (0, 13)}, r"out_indices=\(0, 13\): there are layers 0 to 12"),
        ("MobileNetV3", {"frozen_stages": 13}, "frozen_stages=13 is not between -1 and 12"),
    ],
)
def test_mobilenet_fields_that_do_not_fit(name, fields, message):
    with pytest.raises(ConfigError, match=message):
        jax.eval_shape(backbone_of(name, **fields).init, jax.random.key(0), IMAGES)


SIZES_OF_TWO = {"depths": (1, 1), "channels": (8, 12, 16)}


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("ConvNeXt", {"arch": "tin"}, "arch='tin' is not known. Did you mean tiny"),
        ("ConvNeXt", {"arch": {"depths": (1, 1)}}, "must have depths and channels, and nothing else"),
        ("ConvNeXt", {"arch": SIZES_OF_TWO}, r"depths=\(1, 1\) and channels=\(8, 12, 16\) differ in length"),
        ("ConvNeXt", {"out_indices": (0, 2)}, r"out_indices=\(0, 2\): there are stages 0 to 1"),
        ("ConvNeXt", {"gap_before_final_norm": True}, "gap_before_final_norm=True is for classifiers"),
        ("PoolFormer", {"arch": "s13"}, "arch='s13' is not known. Did you mean s"),
        ("PoolFormer", {"arch": {"layers": (1, 1)}}, "must have layers and embed_dims"),
        ("PoolFormer", {"arch": {"layers": (1, 1), "embed_dims": (8,)}}, r"embed_dims=\(8,\) needs 2 entries"),
        ("PoolFormer", {"arch": {"layers": (1, 1), "embed_dims": (8, 8)}}, "neighbours must differ"),
        ("PoolFormer", {"out_indices": (0, 5)}, r"out_indices=\(0, 5\): there are outputs 0 to 4"),
    ],
)
def test_mmpretrain_fields_that_do_not_fit(name, fields, message):
    with pytest.raises(ConfigError, match=message):
        jax.eval_shape(backbone_of(f"mmpretrain.{name}", **fields).init, jax.random.key(0), IMAGES)


def test_a_registered_type_with_a_dot(monkeypatch):
    """It is ours, not the class of an imported module of that name."""
    module = types.ModuleType("mmpretrain")
    module.ConvNeXt = BACKBONES["ResNet"]
    monkeypatch.setitem(sys.modules, "mmpretrain", module)
    assert type(backbone_of("mmpretrain.ConvNeXt")) is BACKBONES["mmpretrain.ConvNeXt"]
