"""What every decode head promises. A new entry of HEADS joins by itself if it takes one map, or with its fields."""

import functools
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from compiling import quick_jit
from jaxseg.engine.step import compute_losses
from jaxseg.errors import ConfigError
from jaxseg.inference import encode_decode
from jaxseg.models import HEADS, build_model
from jaxseg.models.layers.conv_module import ConvModule
from jaxseg.models.names import of_classes, variable_shapes
from jaxseg.text.vocabulary import with_vocabulary
from small_models import (
    CLASSES,
    MERGES,
    a_third,
    head_config,
    model_config,
    random_batch,
    random_variables,
    relative_error,
    san_config,
)

# Where a head needs other fields than one map of 32 channels.
OHEM = {"type": "OhemCrossEntropy", "min_kept": 100}
KERNEL_UPDATE = {
    "type": "KernelUpdateHead",
    "num_heads": 2,
    "feedforward_channels": 12,
    "in_channels": 8,
    "out_channels": 8,
    "kernel_updator_cfg": {"type": "KernelUpdator", "in_channels": 4, "feat_channels": 4, "out_channels": 4},
}
FIELDS = {
    "ANNHead": {"in_channels": (16, 32), "in_index": (2, 3), "project_channels": 4},
    "DAHead": {"pam_channels": 4},
    "DDRHead": {"loss_decode": (OHEM, OHEM)},
    "DepthwiseSeparableASPPHead": {"c1_in_channels": 4, "c1_channels": 3},
    "DPTHead": {
        "in_channels": (8,) * 4,
        "in_index": (0, 1, 2, 3),
        "embed_dims": 8,
        "post_process_channels": (4, 6, 8, 10),
        "readout_type": "project",
    },
    "EMAHead": {"ema_channels": 12, "num_bases": 4},
    "EncHead": {"in_channels": (8, 16, 32), "in_index": (1, 2, 3), "add_lateral": True, "num_codes": 4},
    "FPNHead": {"in_channels": (4, 8, 16, 32), "in_index": (0, 1, 2, 3)},
    "ISAHead": {"isa_channels": 8, "down_factor": (2, 3)},
    "IterativeDecodeHead": {
        "num_stages": 2,
        "kernel_generate_head": head_config("FCNHead", num_convs=1),
        "kernel_update_head": (
            {**KERNEL_UPDATE, "feat_transform_cfg": {"act_cfg": None}},
            {**KERNEL_UPDATE, "num_mask_fcs": 1, "num_ffn_fcs": 3},
        ),
    },
    "LightHamHead": {
        "in_channels": (8, 16, 32),
        "in_index": (1, 2, 3),
        "ham_channels": 12,
        "ham_kwargs": {"MD_S": 2, "MD_R": 4},
    },
    "LRASPPHead": {
        "in_channels": (8, 16, 32),
        "in_index": (1, 2, 3),
        "branch_channels": (3, 5),
        "pool_size": 2,
        "pool_stride": (1, 2),
    },
    "OCRHead": {"ocr_channels": 4},
    "PIDHead": {"loss_decode": ({"type": "CrossEntropyLoss"}, OHEM, {"type": "BoundaryLoss"}, OHEM)},
    "PointHead": {"in_channels": (4,), "in_index": (0,), "norm_cfg": None},
    "PSAHead": {"mask_size": (5, 4)},
    "SegmenterMaskTransformerHead": {"num_heads": 4, "embed_dims": 64, "norm_cfg": {"type": "LN"}},
    "SETRMLAHead": {"in_channels": (32, 32), "in_index": (3, -1), "mla_channels": 4},
    "SegformerHead": {"in_channels": (4, 8, 16, 32), "in_index": (0, 1, 2, 3)},
    "UPerHead": {"in_channels": (4, 8, 16, 32), "in_index": (0, 1, 2, 3)},
}
# Heads that are part of a model of their own.
MODELS = {"SideAdapterCLIPHead": san_config}
# Heads that refine the logits of the head before them.
REFINING = ("OCRHead", "PointHead")


class Branches(nn.Module):
    """A backbone of maps of stride 8."""

    channels: Sequence[int]

    @nn.compact
    def __call__(self, x, train=False):
        return tuple(
            ConvModule(channels, 3, 2, 1, norm_cfg={"type": "BN"}, act_cfg={"type": "ReLU"}, name=f"branch{i}")(
                x[:, ::4, ::4], train
            )
            for i, channels in enumerate(self.channels)
        )


# Backbones of heads that need other maps than those of `Pyramid`.
BACKBONES = {
    "DDRHead": {"type": Branches, "channels": (16, 32)},
    "DPTHead": {
        "type": "VisionTransformer",
        "img_size": 64,
        "embed_dims": 8,
        "num_layers": 4,
        "num_heads": 2,
        "out_indices": (0, 1, 2, 3),
        "output_cls_token": True,
    },
    "PIDHead": {"type": Branches, "channels": (16, 32, 16)},
}

# How far a logit in bfloat16 may be off, in their standard deviations, where it is not 0.1. DPT's shortcuts add up what
# some twenty convolutions one after the other have rounded (0.12); masks of SAN have logits up to 100 (0.40).
ROUNDING = {"DPTHead": 0.2, "SideAdapterCLIPHead": 0.5}
MASKS = ("loss_cls", "loss_mask", "loss_dice")
# What heads log while training that have other losses than one, or refine another head's logits.
LOGS = {
    "DAHead": {f"decode.{part}.{name}" for part in ("pam_cam", "pam", "cam") for name in ("loss_ce", "acc_seg")},
    "DDRHead": {"decode.loss_context", "decode.loss_spatial", "decode.acc_seg"},
    "EncHead": {"decode.loss_ce", "decode.loss_se", "decode.acc_seg"},
    "IterativeDecodeHead": {f"decode.{name}.s{i}" for i in range(3) for name in ("loss_ce", "acc_seg")},
    "Mask2FormerHead": {f"decode.{layer}{name}" for layer in ("d0.", "d1.", "") for name in MASKS},
    "MaskFormerHead": {f"decode.{layer}{name}" for layer in ("d0.", "") for name in MASKS},
    "OCRHead": {f"decode_{i}.{name}" for i in range(2) for name in ("loss_ce", "acc_seg")},
    "PIDHead": {f"decode.{name}" for name in ("loss_sem_p", "loss_sem_i", "loss_bd", "loss_sem_bd", "acc_seg")},
    "PointHead": {"decode_0.loss_ce", "decode_0.acc_seg", "decode_1.pointloss_ce", "decode_1.acc_point"},
    "SideAdapterCLIPHead": {
        f"decode.{layer}{name}" for layer in ("", "d3.") for name in ("loss_cls_ce", "loss_mask_ce", "loss_mask_dice")
    },
}


def model_of(name, num_classes=CLASSES, dtype=None):
    if name in MODELS:
        return build_model(MODELS[name](dtype=dtype))
    backbone = {"backbone": BACKBONES[name]} if name in BACKBONES else {}
    classes = {"num_classes": num_classes}
    config = model_config(head_config(name, **FIELDS.get(name, {}) | classes), dtype=dtype, **backbone)
    if name in REFINING:
        heads = (head_config("FCNHead", num_convs=1, **classes), config["decode_head"])
        config |= {"type": "CascadeEncoderDecoder", "num_stages": 2, "decode_head": heads}
    return build_model(config)


@functools.cache
def setup(name, dtype=None):
    model = model_of(name, dtype=dtype)
    variables = random_variables(model, np.zeros((1, 64, 64, 3), np.float32))
    return with_vocabulary(model, variables, MERGES), variables


def train_pass(model, variables, images, labels):
    """Loss, logs and statistics, and the gradients by path."""

    def loss_of(params, images, labels):
        loss, logs, stats = compute_losses(model, {**variables, "params": params}, images, labels)
        return loss, (logs, stats)

    (loss, (logs, stats)), gradients = quick_jit(jax.value_and_grad(loss_of, has_aux=True))(
        variables["params"], images, labels
    )
    return loss, logs, flatten_dict(stats), flatten_dict(gradients)


@pytest.mark.parametrize("name", HEADS)
def test_training(name):
    """Every parameter that is not frozen gets a gradient, and every running statistic moves."""
    model, variables = setup(name)
    loss, logs, stats, gradients = train_pass(model, variables, *random_batch((2, 97, 131)))
    assert logs.keys() == LOGS.get(name, {"decode.loss_ce", "decode.acc_seg"})
    losses = [value for key, value in logs.items() if "loss" in key]
    if len(losses) == 1:
        assert loss == losses[0]
    np.testing.assert_allclose(loss, sum(losses), rtol=1e-6)
    assert np.isfinite(loss)
    without = {path for path, gradient in gradients.items() if not np.any(gradient)}
    frozen = model.frozen_parameters()
    assert without == {path for path in gradients if frozen and "/".join(path).startswith(frozen)}
    assert all(np.isfinite(gradient).all() for gradient in gradients.values())
    before = flatten_dict(variables["batch_stats"])
    assert not [path for path in stats if np.array_equal(stats[path], before[path])]


@pytest.mark.parametrize("name", HEADS)
def test_logits_of_one_image_of_odd_size(name):
    model, variables = setup(name)
    images, _ = random_batch((1, 97, 131))
    logits = quick_jit(functools.partial(encode_decode, model))(variables, images)
    assert logits.shape == (1, 97, 131, CLASSES)
    assert logits.dtype == jnp.float32
    assert np.isfinite(logits).all()
    assert np.asarray(logits).std() > 0


@pytest.mark.parametrize("name", a_third(HEADS))
def test_bfloat16(name):
    """Logits are float32, within 2 percent of a float32 model, or of twice what rounding alone moves; none is far."""
    model, variables = setup(name, "bfloat16")
    images, _ = random_batch((2, 64, 96))
    logits = quick_jit(functools.partial(encode_decode, model))(variables, images)
    assert logits.dtype == jnp.float32
    exact = quick_jit(functools.partial(encode_decode, setup(name)[0]))
    expected = exact(variables, images)
    of_rounded = exact(*jax.tree.map(lambda x: jnp.asarray(x, jnp.bfloat16).astype(x.dtype), (variables, images)))
    assert relative_error(logits, expected) <= max(0.02, 2 * relative_error(of_rounded, expected))
    np.testing.assert_allclose(logits, expected, rtol=0, atol=ROUNDING.get(name, 0.1) * np.std(expected))
    assert not np.array_equal(logits, expected)


@pytest.mark.parametrize("name", [name for name in HEADS if name not in MODELS])
def test_layers_of_the_classes(name):
    """Those that stay as initialised when a checkpoint of other classes is read."""
    shapes, others = (variable_shapes(model_of(name, num_classes=n)) for n in (CLASSES, CLASSES + 1))
    differ = {path for path in shapes if shapes[path].shape != others[path].shape}
    assert differ
    assert all(of_classes(path) for path in differ)


@pytest.mark.parametrize("name", HEADS)
def test_unknown_fields(name):
    message = f"model.decode_head: {name} has no field 'num_clases'. Did you mean num_classes"
    with pytest.raises(ConfigError, match=message):
        build_model(model_config({"type": name, "num_clases": 5}))


SEVERAL = {"in_channels": (4, 8, 16, 32), "in_index": (0, 1, 2, 3), "input_transform": "resize_concat"}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"in_channels": 31}, r"decode_head.in_channels=31: the maps in_index=3 have \[32\] channels"),
        ({"in_index": 4}, "decode_head.in_index=4: there are 4 feature maps"),
        ({"in_index": -5}, "decode_head.in_index=-5: there are 4 feature maps"),
        ({"in_index": (2, 3)}, "in_index=.*needs one number"),
        ({"input_transform": "resize_concat"}, "in_channels=32: input_transform='resize_concat' needs a sequence"),
        ({"input_transform": "concat"}, "input_transform='concat': allowed: None"),
        (SEVERAL | {"in_index": (0, 1)}, "in_index=.*needs as many entries as in_channels"),
        (SEVERAL | {"in_channels": (4, 8, 16, 31)}, r"in_channels=.*have \[4, 8, 16, 32\] channels"),
        ({"out_channels": 2}, "out_channels=2: must be num_classes=5, or 1 for two classes"),
        ({"out_channels": 1}, "out_channels=1: must be num_classes=5, or 1 for two classes"),
        ({"conv_cfg": {"type": "DCNv2"}}, "(?s)conv_cfg=.*only the plain convolution"),
        ({"num_convs": 0, "concat_input": False}, "channels=8: num_convs=0 classifies the input, which has 32"),
        ({"norm_cfg": {"type": "LN3d"}}, "norm_cfg.type='LN3d' is not known"),
    ],
)
def test_fields_that_do_not_fit(fields, message):
    model = build_model(model_config(head_config("FCNHead", **fields)))
    with pytest.raises(ConfigError, match=message):
        jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, 64, 64, 3), np.float32))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"ocr_channels": None}, "ocr_channels=None: give the channels"),
        ({"scale": 2}, "scale=2: only 1 is supported"),
        ({"in_channels": 16, "in_index": 2}, r"in_index=2: the map is \(4, 4\), the logits before it are \(2, 2\)"),
    ],
)
def test_ocr_fields_that_do_not_fit(fields, message):
    heads = (head_config("FCNHead", num_convs=1), head_config("OCRHead", **(FIELDS["OCRHead"] | fields)))
    model = build_model(model_config(heads, type="CascadeEncoderDecoder", num_stages=2))
    with pytest.raises(ConfigError, match=message):
        jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, 64, 64, 3), np.float32))


def test_ocr_refines_another_head():
    model = build_model(model_config(head_config("OCRHead", **FIELDS["OCRHead"])))
    with pytest.raises(ConfigError, match="OCRHead refines the logits of another head"):
        jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, 64, 64, 3), np.float32))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"branch_channels": (3,)}, r"branch_channels=\(3,\): needs 2 entries"),
        ({"input_transform": "resize_concat"}, "input_transform='resize_concat': must be 'multiple_select'"),
        ({"pool_size": 5}, "pool_size=5: the coarsest map is 2x2; larger images are needed"),
    ],
)
def test_lraspp_fields_that_do_not_fit(fields, message):
    model = build_model(model_config(head_config("LRASPPHead", **(FIELDS["LRASPPHead"] | fields))))
    with pytest.raises(ConfigError, match=message):
        jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, 64, 64, 3), np.float32))


def test_resize_concat():
    model = build_model(model_config(head_config("FCNHead", num_convs=1, concat_input=False, **SEVERAL)))
    variables = random_variables(model, np.zeros((1, 64, 64, 3), np.float32))
    assert variables["params"]["decode_head"]["convs_0"]["conv"]["kernel"].shape == (3, 3, 4 + 8 + 16 + 32, 8)
    output = jax.eval_shape(model.apply, variables, np.zeros((1, 64, 64, 3), np.float32))
    assert output["decode"].shape == (1, 16, 16, CLASSES)


def test_dropout():
    """Whole channels drop, by the key; without a key, and in evaluation, none does."""
    head = head_config("FCNHead", num_convs=0, concat_input=False, channels=32, dropout_ratio=0.5, norm_cfg=None)
    model = build_model(model_config(head))
    images, _ = random_batch((2, 64, 64))
    variables = random_variables(model, images)
    apply = quick_jit(
        lambda train, key: model.apply(
            variables,
            jnp.asarray(images),
            train,
            rngs=None if key is None else {"dropout": key},
            mutable=["batch_stats"],
        )[0]["decode"],
        static_argnums=0,
    )
    one, again, other = (apply(True, jax.random.key(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert not np.allclose(one, other)
    np.testing.assert_array_equal(apply(True, None), apply(True, None))
    np.testing.assert_array_equal(apply(False, jax.random.key(0)), apply(False, None))
    # A kept channel counts double, a dropped one nothing: over many keys the mean is what it is without dropping.
    mean = np.mean([apply(True, jax.random.key(seed)) for seed in range(200)], axis=0)
    plain = np.asarray(apply(True, None))
    assert np.abs(mean - plain).mean() < 0.2 * np.abs(one - plain).mean()
