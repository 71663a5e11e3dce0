"""Layers against PyTorch, value and gradients in float64, in the form for CPUs and in the plain one.

The plain form, which runs on accelerators, is traced here by naming another platform, and still runs on the CPU.
"""

import functools
import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compiling import quick_jit
from jaxseg.errors import ConfigError
from jaxseg.models.layers import conv
from jaxseg.models.layers.activation import PReLU, build_activation
from jaxseg.models.layers.attention import SelfAttention
from jaxseg.models.layers.conv import Conv, ConvTranspose, conv2d
from jaxseg.models.layers.conv_module import ConvModule, DepthwiseSeparableConvModule
from jaxseg.models.layers.norm import BatchNorm, GroupNorm, build_norm, norm_name
from jaxseg.models.layers.platform import on_cpu, target_platform
from jaxseg.models.layers.pooling import adaptive_avg_pool, avg_pool, max_pool
from jaxseg.models.layers.resize import resize
from reference import TESTS, nchw, nhwc, precision

FORMS = ("cpu", "tpu")


def load():
    with np.load(TESTS / "models" / "fixtures" / "layers.npz") as arrays:
        cases, figures, nearest = json.loads(bytes(arrays["meta"])), arrays["figures"], arrays["nearest"]
    start = 0
    for case in cases:
        expected = {}
        for name, shape in case["outputs"]:
            expected[name] = figures[start : start + int(np.prod(shape))].reshape(shape)
            start += int(np.prod(shape))
        case["expected"] = expected
    assert start == len(figures)
    return cases, nearest


CASES, NEAREST = load()


def of_kind(*kinds):
    def case_id(case):
        values = [str(value) for key, value in case["fields"].items()]
        height, width = case["shapes"][0][2:]
        return "-".join([case["kind"], *values, f"{height}x{width}", *(["ties"] if case["integers"] else [])])

    return pytest.mark.parametrize("case", [case for case in CASES if case["kind"] in kinds], ids=case_id)


def arguments(case):
    """Inputs in our layout, and the cotangent of the output."""
    rng = np.random.default_rng(case["seed"])
    values = [
        rng.integers(-2, 3, shape).astype(np.float64) if case["integers"] else rng.normal(0, 1, shape)
        for shape in case["shapes"]
    ]
    cotangent = nhwc(rng.normal(0, 1, case["expected"]["out"].shape))
    values[0] = nhwc(values[0])
    if case["kind"] == "conv":
        values[1] = values[1].transpose(2, 3, 1, 0)
    return values, cotangent


def forward(case):
    """The layer of a case as a function of its inputs."""
    fields = dict(case["fields"])
    fields.pop("name", None)
    if case["kind"] == "conv":
        return lambda x, kernel, bias: conv2d(x, kernel, **fields) + bias
    if case["kind"] == "resize":
        scale = fields.pop("scale", None)
        height, width = case["shapes"][0][2:]
        size = fields.pop("size", None) or [int(height * scale[0]), int(width * scale[1])]
        return lambda x: resize(x, size, scale=scale, **fields)
    pools = {"max_pool": max_pool, "avg_pool": avg_pool, "adaptive_avg_pool": adaptive_avg_pool}
    return lambda x: pools[case["kind"]](x, **fields)


def check(case, function, inputs, cotangent, atol=1e-12):
    """Value and gradients of a function against the case's figures."""

    def both(*inputs):
        out, pullback = jax.vjp(function, *inputs)
        return out, pullback(jnp.asarray(cotangent))

    out, gradients = quick_jit(both)(*inputs)
    assert out.dtype == np.float64
    np.testing.assert_allclose(nchw(out), case["expected"]["out"], atol=atol, err_msg="value")
    for i, gradient in enumerate(gradients):
        gradient = np.asarray(gradient)
        if gradient.ndim == 4:
            gradient = nchw(gradient) if i == 0 else gradient.transpose(3, 2, 0, 1)
        np.testing.assert_allclose(gradient, case["expected"][f"grad_{i}"], atol=atol, err_msg=f"gradient {i}")


@of_kind("conv", "max_pool", "avg_pool", "adaptive_avg_pool", "resize")
@pytest.mark.parametrize("form", FORMS)
def test_equals_pytorch(case, form):
    inputs, cotangent = arguments(case)
    with precision(np.float64), target_platform(form):
        check(case, forward(case), inputs, cotangent)


@pytest.mark.parametrize("form", FORMS)
def test_nearest_takes_the_pixel_that_pytorch_takes(form):
    """Also where a source coordinate is a whole number that float32 falls short of."""
    rows = np.split(NEAREST, np.cumsum([size for _ in range(40) for size in range(1, 41)])[:-1])
    table = {(i // 40 + 1, i % 40 + 1): row for i, row in enumerate(rows)}
    exact = {(length, size): np.arange(size) * length // size for length, size in table}
    telling = [pair for pair, row in table.items() if not np.array_equal(row, exact[pair])]
    assert telling
    with target_platform(form):
        for length, size in [*telling, (7, 40), (40, 7), (9, 18), (18, 9), (1, 5)]:
            line = jnp.arange(length, dtype=jnp.float32).reshape(1, 1, length, 1)
            resized = resize(line, (1, size), "nearest")[0, 0, :, 0]
            np.testing.assert_array_equal(resized, table[length, size], err_msg=f"{length} -> {size}")


@of_kind("batch_norm")
def test_batch_norm(case):
    (x, scale, bias, mean, var), cotangent = arguments(case)
    norm = BatchNorm(**case["fields"])
    with precision(np.float64):
        stats = {"mean": mean, "var": np.abs(var)}

        def train(x, scale, bias):
            variables = {"params": {"scale": scale, "bias": bias}, "batch_stats": stats}
            return norm.apply(variables, x, True, mutable=["batch_stats"])

        check(case, lambda *inputs: train(*inputs)[0], (x, scale, bias), cotangent)
        updated = train(*(jnp.asarray(value) for value in (x, scale, bias)))[1]["batch_stats"]
        np.testing.assert_allclose(updated["mean"], case["expected"]["mean"], rtol=1e-12)
        np.testing.assert_allclose(updated["var"], case["expected"]["var"], rtol=1e-12)
        y = norm.apply({"params": {"scale": scale, "bias": bias}, "batch_stats": stats}, jnp.asarray(x), False)
        np.testing.assert_allclose(nchw(y), case["expected"]["eval"], atol=1e-12)


@of_kind("group_norm")
def test_group_norm(case):
    (x, scale, bias), cotangent = arguments(case)
    norm = GroupNorm(**case["fields"])
    with precision(np.float64):

        def apply(x, scale, bias):
            return norm.apply({"params": {"scale": scale, "bias": bias}}, x)

        check(case, apply, (x, scale, bias), cotangent)


@of_kind("prelu")
def test_prelu(case):
    inputs, cotangent = arguments(case)
    with precision(np.float64):
        check(case, lambda x, slope: PReLU().apply({"params": {"negative_slope": slope}}, x), inputs, cotangent)


@of_kind("activation")
def test_activation(case):
    inputs, cotangent = arguments(case)
    with precision(np.float64):
        check(case, build_activation(case["fields"]), inputs, cotangent)


def random_conv(seed):
    """A random small convolution: shape of the map, shape of the kernel, fields."""
    rng = np.random.default_rng(seed)
    depthwise = bool(seed % 2)
    channels, features = int(rng.integers(1, 4)), int(rng.integers(1, 4))
    size, stride, dilation = (rng.integers(1, high, 2) for high in (5, 4, 3))
    padding = rng.integers(0, (size - 1) * dilation // 2 + 1)  # XLA itself fails at some of the larger ones
    reach = (size - 1) * dilation + 1
    height, width = np.maximum(rng.integers(1, 10, 2), reach - 2 * padding)
    outputs = channels * (1 + seed % 4 // 3)  # some depthwise ones have two a channel
    kernel = (*size, 1 if depthwise else channels, outputs if depthwise else features)
    fields = {"stride": stride, "padding": padding, "dilation": dilation}
    fields = {name: tuple(int(v) for v in value) for name, value in fields.items()}
    return (2, int(height), int(width), channels), kernel, {**fields, "groups": channels if depthwise else 1}


def assert_forms_agree(shape, kernel_shape, **fields):
    """Value and gradients of a convolution of random numbers, in both forms."""
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(0, 1, shape), rng.normal(0, 1, kernel_shape)

    def both(x, kernel, form):
        with target_platform(form):
            out, pullback = jax.vjp(lambda x, kernel: conv2d(x, kernel, **fields), x, kernel)
            return out, pullback(jnp.sin(jnp.arange(out.size, dtype=out.dtype)).reshape(out.shape))

    with precision(np.float64):
        ours, plain = (quick_jit(functools.partial(both, form=form))(x, kernel) for form in FORMS)
    for value, expected in zip(jax.tree.leaves(ours), jax.tree.leaves(plain), strict=True):
        np.testing.assert_allclose(value, expected, atol=1e-10)


@pytest.mark.parametrize("seed", range(24))
def test_forms_of_random_convolutions_agree(seed):
    shape, kernel_shape, fields = random_conv(seed)
    assert_forms_agree(shape, kernel_shape, **fields)


@pytest.mark.parametrize("few", [1, 8], ids=["products", "dense"])
@pytest.mark.parametrize("size", [(3, 3), (1, 1), (2, 3)], ids=str)
@pytest.mark.parametrize("stride", [1, 2])
def test_forms_of_grouped_convolutions_agree(size, stride, few, monkeypatch):
    monkeypatch.setattr(conv, "FEW_GROUPS", few)
    assert_forms_agree((2, 7, 6, 6), (*size, 2, 12), stride=stride, padding=(1, 0), dilation=(1, 2), groups=3)


@pytest.mark.parametrize("shape", [(1, 2, 3, 64), (1, 40, 50, 9)], ids=["larger-kernel", "larger-map"])
@pytest.mark.parametrize("small_map", [0, 2**20], ids=["plain", "products"])
def test_gradients_of_dense_convolutions_agree(shape, small_map, monkeypatch):
    """Sums of matrix products and XLA's convolutions, by the size of the map and the kernel."""
    monkeypatch.setattr(conv, "SMALL_MAP", small_map)
    assert_forms_agree(shape, (3, 2, shape[3], 24), padding=(2, 1), dilation=(2, 1))


LAYERS = {
    "1x1": lambda x: conv2d(x, jnp.ones((1, 1, 4, 3), x.dtype)),
    "depthwise": lambda x: conv2d(x, jnp.ones((3, 3, 1, 4), x.dtype), padding=1, groups=4),
    "3x3": lambda x: conv2d(x, jnp.ones((3, 3, 4, 3), x.dtype), padding=1),
    "strided": lambda x: conv2d(x, jnp.ones((3, 3, 4, 3), x.dtype), stride=2, padding=1),
    "max_pool": lambda x: max_pool(x, 3, 2, 1),
    "avg_pool": lambda x: avg_pool(x, 3, 2, 1),
    "adaptive_avg_pool": lambda x: adaptive_avg_pool(x, 3),
    "bilinear": lambda x: resize(x, (17, 5)),
    "bicubic": lambda x: resize(x, (17, 5), "bicubic"),
    "nearest": lambda x: resize(x, (17, 5), "nearest"),
    "batch_norm": lambda x: BatchNorm().init_with_output(jax.random.key(0), x)[0],
    "group_norm": lambda x: GroupNorm(2).init_with_output(jax.random.key(0), x)[0],
    "prelu": lambda x: PReLU().init_with_output(jax.random.key(0), x)[0],
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", LAYERS)
def test_bfloat16(name, form):
    """Maps stay bfloat16, forward and backward, and are as right as that allows."""
    x = jnp.asarray(np.random.default_rng(0).normal(0, 1, (2, 9, 7, 4)), jnp.float32)

    def both(x):
        out, pullback = jax.vjp(LAYERS[name], x)
        return out, pullback(jnp.ones_like(out))

    with target_platform(form):
        exact, low = quick_jit(both)(x), quick_jit(lambda x: both(x.astype(jnp.bfloat16)))(x)
    for value, expected in zip(jax.tree.leaves(low), jax.tree.leaves(exact), strict=True):
        assert value.dtype == jnp.bfloat16
        assert expected.dtype == jnp.float32
    value, expected = np.asarray(low[0], np.float32), np.asarray(exact[0])
    np.testing.assert_allclose(value, expected, atol=0.05 * np.abs(expected).max())


def test_target_platform():
    assert on_cpu() == (jax.default_backend() == "cpu")
    with target_platform("tpu"):
        assert not on_cpu()
        with target_platform("cpu"):
            assert on_cpu()
        assert not on_cpu()


def test_batch_norm_statistics_of_one_number():
    """PyTorch refuses; here the unbiased variance of one number counts as its variance, 0."""
    variables = BatchNorm().init(jax.random.key(0), jnp.zeros((1, 1, 1, 2)))
    _, updated = BatchNorm().apply(variables, jnp.full((1, 1, 1, 2), 5.0), True, mutable=["batch_stats"])
    np.testing.assert_allclose(updated["batch_stats"]["mean"], 0.5, rtol=1e-6)
    np.testing.assert_allclose(updated["batch_stats"]["var"], 0.9, rtol=1e-6)


def test_batch_norm_of_large_means():
    """The variance is that of the differences from the mean, so a large mean costs no digits."""
    x = jnp.asarray(1e4 + np.random.default_rng(0).normal(0, 1, (4, 8, 8, 3)), jnp.float32)
    y, _ = BatchNorm().init_with_output(jax.random.key(0), x, True)
    np.testing.assert_allclose(np.asarray(y).std((0, 1, 2)), 1, rtol=1e-3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: build_norm({"type": "BNN"}), "norm_cfg.type='BNN' is not known. Did you mean BN"),
        (lambda: build_norm({"type": "BN", "epsilon": 1e-3}), "BN has no field 'epsilon'. Did you mean eps"),
        (lambda: build_activation({"type": "Relu6"}), "act_cfg.type='Relu6' is not known. Did you mean"),
        (lambda: build_activation({"type": "LeakyReLU", "slope": 0.1}), "LeakyReLU does not take"),
    ],
)
def test_config_errors(call, message):
    with pytest.raises(ConfigError, match=message):
        call()


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (Conv(4, groups=3), "groups=3 must divide the 4 input"),
        (GroupNorm(3), "num_groups=3 must divide the 4 channels"),
    ],
)
def test_channels_that_groups_do_not_divide(module, message):
    with pytest.raises(ValueError, match=message):
        module.init(jax.random.key(0), jnp.zeros((1, 5, 5, 4)))


def test_resize_modes():
    with pytest.raises(ValueError, match="mode='cubic' is not one of"):
        resize(jnp.zeros((1, 2, 2, 1)), (4, 4), "cubic")


def test_norm_names():
    assert [norm_name({"type": kind}, 1) for kind in ("BN", "SyncBN", "GN")] == ["bn1", "bn1", "gn1"]
    assert isinstance(build_norm({"type": "SyncBN", "requires_grad": True}), nn.Module)


@pytest.mark.parametrize(
    ("size", "stride", "padding", "extra"), [(3, 2, 1, 1), (4, 2, 1, 0), (2, 2, 0, 0), (5, 3, 2, 1)]
)
def test_conv_transpose_is_the_gradient_of_conv(size, stride, padding, extra):
    layer = ConvTranspose(4, size, stride, padding, extra, use_bias=False)
    rng = np.random.default_rng(0)
    with precision(np.float64):
        x = jnp.asarray(rng.normal(0, 1, (2, 5, 6, 3)))
        kernel = jnp.asarray(rng.normal(0, 1, (size, size, 4, 3)))
        y = layer.apply({"params": {"kernel": kernel}}, x)
        rows, columns = ((length - 1) * stride - 2 * padding + size + extra for length in (5, 6))
        assert y.shape == (2, rows, columns, 4)
        convolved, transpose = jax.vjp(lambda z: conv2d(z, kernel, stride, padding), jnp.zeros(y.shape))
        assert convolved.shape[:3] == x.shape[:3]
        np.testing.assert_allclose(y, transpose(x)[0], atol=1e-12)


def test_separable_conv_module():
    """Its names are the reference's, and the depthwise activation may be left out."""
    norm_cfg, act_cfg = {"type": "BN"}, {"type": "ReLU"}
    x = jnp.asarray(np.random.default_rng(0).normal(0, 1, (1, 8, 9, 4)), jnp.float32)
    module = DepthwiseSeparableConvModule(6, 3, 2, 1, norm_cfg=norm_cfg, act_cfg=act_cfg)
    y, variables = module.init_with_output(jax.random.key(0), x)
    assert y.shape == (1, 4, 5, 6)
    params = variables["params"]
    assert params["depthwise_conv"]["conv"]["kernel"].shape == (3, 3, 1, 4)
    assert params["pointwise_conv"]["conv"]["kernel"].shape == (1, 1, 4, 6)
    depthwise = ConvModule(4, 3, 2, 1, groups=4, norm_cfg=norm_cfg)
    parts = {name: tree["depthwise_conv"] for name, tree in variables.items()}
    hidden = depthwise.apply(parts, x)
    plain = module.clone(dw_act_cfg={}, act_cfg=None)
    pointwise = {name: tree["pointwise_conv"] for name, tree in variables.items()}
    expected = ConvModule(6, 1, norm_cfg=norm_cfg).apply(pointwise, hidden)
    np.testing.assert_allclose(plain.apply(variables, x), expected, atol=1e-6)
    assert (np.asarray(hidden) < 0).any()


def test_order_of_a_conv_module():
    x = jnp.asarray(np.random.default_rng(0).normal(0, 1, (1, 8, 9, 4)), jnp.float32)
    module = ConvModule(3, 1, norm_cfg={"type": "BN"}, act_cfg={"type": "ReLU"}, order=("norm", "act", "conv"))
    y, variables = module.init_with_output(jax.random.key(0), x)
    hidden = jax.nn.relu(x / np.sqrt(1 + 1e-5).astype(np.float32))
    np.testing.assert_allclose(y, conv2d(hidden, variables["params"]["conv"]["kernel"]), atol=1e-5)


@pytest.mark.parametrize("share", [False, True])
@pytest.mark.parametrize("num_convs", [1, 2])
def test_self_attention(share, num_convs):
    """Against plain sums over pixels."""
    rng = np.random.default_rng(0)
    x, other = (jnp.asarray(rng.normal(0, 1, (1, *size, 6)), jnp.float32) for size in ((3, 4), (2, 5)))
    module = SelfAttention(
        4, 5, share, num_convs, 1, key_query_norm=False, value_out_norm=False, matmul_norm=True, with_out=False,
        norm_cfg=None, act_cfg=None,
    )  # fmt: skip
    y, variables = module.init_with_output(jax.random.key(0), x, other)
    params = variables["params"]
    names = ["key_project"] if num_convs == 1 else ["key_project_0", "key_project_1"]
    assert all(name in params for name in names)
    assert any(name.startswith("query_project") for name in params) != share

    def project(x, prefix):
        for name in sorted(name for name in params if name.startswith(prefix)):
            x = x @ np.asarray(params[name]["kernel"][0, 0]) + np.asarray(params[name]["bias"])
        return np.asarray(x).reshape(-1, x.shape[-1])

    query, key = project(x, "key" if share else "query"), project(other, "key")
    weights = np.exp(query @ key.T / 2)
    expected = (weights / weights.sum(1, keepdims=True)) @ project(other, "value")
    np.testing.assert_allclose(np.asarray(y).reshape(-1, 5), expected, atol=1e-5)
