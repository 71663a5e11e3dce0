"""Two-dimensional convolution, with the forms that are quick on a CPU."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from jaxseg.models.layers.initializers import default_bias, default_kernel, kaiming_normal
from jaxseg.models.layers.platform import on_cpu
from jaxseg.models.layers.product import token_product

Pair = tuple[int, int]


def pair(value: int | Sequence[int]) -> Pair:
    """An (height, width) pair from one number or two."""
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))


class Conv(nn.Module):
    """Convolution of NHWC feature maps, with PyTorch's meaning of every field.

    The kernel is stored as [kernel_h, kernel_w, in_channels / groups, features] in float32; the computation is
    done in the dtype of the input.

    Attributes:
        features: Number of output channels.
        kernel_size, stride, padding, dilation: One number, or (height, width). `padding` zeros are added on both
            sides, so stride 2 agrees with PyTorch where "SAME" would not.
        groups: Number of channel groups; equal to the number of input channels in a depthwise convolution.
        use_bias: Whether a bias is added.
        kernel_init, bias_init: Initializers of the kernel and the bias.
    """

    features: int
    kernel_size: int | Sequence[int] = 3
    stride: int | Sequence[int] = 1
    padding: int | Sequence[int] = 0
    dilation: int | Sequence[int] = 1
    groups: int = 1
    use_bias: bool = True
    kernel_init: Callable = kaiming_normal()
    bias_init: Callable = nn.initializers.zeros

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 features"]:
        """Convolves x."""
        in_channels = x.shape[-1]
        if in_channels % self.groups or self.features % self.groups:
            raise ValueError(
                f"{'/'.join(self.scope.path)}: groups={self.groups} must divide the {in_channels} input "
                f"and the {self.features} output channels"
            )
        shape = (*pair(self.kernel_size), in_channels // self.groups, self.features)
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32)
        y = conv2d(x, kernel.astype(x.dtype), self.stride, self.padding, self.dilation, self.groups)
        if self.use_bias:
            y = y + self.param("bias", self.bias_init, (self.features,), jnp.float32).astype(x.dtype)
        return y


class ConvTranspose(nn.Module):
    """Transposed convolution of NHWC feature maps, with PyTorch's meaning of every field.

    The kernel is stored as [kernel_h, kernel_w, features, in_channels]: the layout that the reference's kernel gets
    by the rule for all convolutions.

    Attributes:
        features: Number of output channels.
        kernel_size, stride, padding, output_padding: One number, or (height, width). The output has
            (size - 1) * stride - 2 * padding + kernel_size + output_padding rows and columns.
        use_bias: Whether a bias is added.
        kernel_init, bias_init: Initializers of the kernel and the bias.
    """

    features: int
    kernel_size: int | Sequence[int] = 3
    stride: int | Sequence[int] = 1
    padding: int | Sequence[int] = 0
    output_padding: int | Sequence[int] = 0
    use_bias: bool = True
    kernel_init: Callable = kaiming_normal()
    bias_init: Callable = nn.initializers.zeros

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 features"]:
        """Spreads every pixel of x over a window of the output."""
        size, stride, padding, extra = map(pair, (self.kernel_size, self.stride, self.padding, self.output_padding))
        kernel = self.param("kernel", self.kernel_init, (*size, self.features, x.shape[-1]), jnp.float32)
        y = lax.conv_general_dilated(
            x,
            kernel[::-1, ::-1].swapaxes(2, 3).astype(x.dtype),
            window_strides=(1, 1),
            padding=[(k - 1 - p, k - 1 - p + e) for k, p, e in zip(size, padding, extra, strict=True)],
            lhs_dilation=stride,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        if self.use_bias:
            y = y + self.param("bias", self.bias_init, (self.features,), jnp.float32).astype(x.dtype)
        return y


def bare_conv(in_channels: int, features: int, kernel_size: int | Sequence[int] = 1, **fields: Any) -> Conv:
    """A `Conv` that starts as a bare convolution of PyTorch does: what the reference has outside ConvModules."""
    fan_in = math.prod(pair(kernel_size)) * in_channels // fields.get("groups", 1)
    return Conv(features, kernel_size, kernel_init=default_kernel(), bias_init=default_bias(fan_in), **fields)


def conv2d(
    x: Float[Array, "b h w c"],
    kernel: Float[Array, "kh kw cg o"],
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Float[Array, "b h2 w2 o"]:
    """Convolves NHWC `x` with an HWIO `kernel`, in the quickest form for the platform."""
    stride, padding, dilation = pair(stride), pair(padding), pair(dilation)
    if on_cpu():
        if kernel.shape[:2] == (1, 1) and groups == 1 and padding == (0, 0):
            return pointwise_conv(x, kernel, stride)
        if kernel.shape[2] == 1 and groups == x.shape[3]:
            # Several outputs of each channel (BiSeNetV2): as many copies of it.
            x = jnp.repeat(x, kernel.shape[3] // groups, axis=3) if kernel.shape[3] != groups else x
            return depthwise_conv(x, kernel, stride, padding, dilation)
        covers = kernel.shape[0] >= stride[0] and kernel.shape[1] >= stride[1]
        if stride != (1, 1) and groups == 1 and dilation == (1, 1) and covers:
            return strided_conv(x, kernel, stride, padding)
        if stride == (1, 1) and groups == 1:
            return dense_conv(x, kernel, padding, dilation)
        if groups > 1:
            return grouped_conv(x, kernel, stride, padding, dilation, groups)
    return lax_conv(x, kernel, stride, padding, dilation, groups)


def lax_conv(x: Array, kernel: Array, stride: Pair, padding: Pair, dilation: Pair, groups: int = 1) -> Array:
    """The plain form: one XLA convolution."""
    return lax.conv_general_dilated(
        x,
        kernel,
        window_strides=stride,
        padding=[(p, p) for p in padding],
        rhs_dilation=dilation,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def pointwise_conv(x: Array, kernel: Array, stride: Pair) -> Array:
    """A 1x1 convolution as a matrix product, whose gradients are matrix products too."""
    if stride != (1, 1):
        x = x[:, :: stride[0], :: stride[1]]
    return token_product(x, kernel[0, 0])


# Windows of a map, in bytes, that are copied for a matrix product quicker than XLA convolves for a kernel's gradient:
# what the processor's cache holds.
SMALL_MAP = 2**20


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def dense_conv(x: Array, kernel: Array, padding: Pair, dilation: Pair) -> Array:
    """A convolution of stride 1 whose gradients are sums of matrix products where maps are small.

    XLA computes a kernel's gradient by a convolution whose windows are as large as the map, and the input's with a
    transposed copy of the kernel, which takes longer than the convolution itself where the kernel is larger.
    """
    return lax_conv(x, kernel, (1, 1), padding, dilation)


def _dense_forward(x, kernel, padding, dilation):
    return dense_conv(x, kernel, padding, dilation), (x, kernel)


def _dense_backward(padding, dilation, residuals, g):
    x, kernel = residuals
    height, width, inputs, features = kernel.shape
    kernel_gradient = _dense_kernel_gradient(x, kernel, g, (1, 1), padding, dilation)
    pads = [(size - 1) * step - pad for size, step, pad in zip((height, width), dilation, padding, strict=True)]
    if inputs * features < x.size + g.size or min(pads) < 0:
        (x_gradient,) = jax.vjp(lambda x: lax_conv(x, kernel, (1, 1), padding, dilation), x)[1](g)
        return x_gradient, kernel_gradient
    padded = jnp.pad(g, ((0, 0), (pads[0],) * 2, (pads[1],) * 2, (0, 0)))
    flipped = kernel[::-1, ::-1]
    x_gradient = sum(
        jnp.einsum("bhwo,co->bhwc", window, flipped[i, j], preferred_element_type=_sum_type(g))
        for (i, j), window in shifted_windows(padded, (height, width), (1, 1), dilation)
    )
    return x_gradient.astype(x.dtype), kernel_gradient


dense_conv.defvjp(_dense_forward, _dense_backward)


def _dense_kernel_gradient(x: Array, kernel: Array, g: Array, stride: Pair, padding: Pair, dilation: Pair) -> Array:
    if g.size // g.shape[3] * x.shape[3] * x.dtype.itemsize > SMALL_MAP:
        return jax.vjp(lambda k: lax_conv(x, k, stride, padding, dilation), kernel)[1](g)[0]
    padded = jnp.pad(x, ((0, 0), (padding[0],) * 2, (padding[1],) * 2, (0, 0)))
    products = [
        jnp.einsum("bhwc,bhwo->co", window, g, preferred_element_type=_sum_type(g))
        for _, window in shifted_windows(padded, kernel.shape[:2], stride, dilation)
    ]
    return jnp.stack(products).reshape(kernel.shape).astype(kernel.dtype)


def _sum_type(x: Array) -> jnp.dtype:
    return jnp.promote_types(x.dtype, jnp.float32)


# As many dense convolutions are quicker than one matrix product with copied windows, but every one is compiled.
FEW_GROUPS = 4


def grouped_conv(x: Array, kernel: Array, stride: Pair, padding: Pair, dilation: Pair, groups: int) -> Array:
    """A convolution of every group of channels by itself, whose gradients are dense convolutions or matrix products.

    XLA computes the gradients of a grouped convolution up to 70 times slower.
    """
    if groups <= FEW_GROUPS:
        parts = zip(jnp.split(x, groups, axis=3), jnp.split(kernel, groups, axis=3), strict=True)
        return jnp.concatenate([conv2d(*part, stride, padding, dilation) for part in parts], axis=3)
    batch, channels, features = len(x), kernel.shape[2], kernel.shape[3]
    by_group = jnp.moveaxis(x.reshape(*x.shape[:3], groups, channels), 3, 0)
    padded = jnp.pad(by_group, ((0, 0), (0, 0), (padding[0],) * 2, (padding[1],) * 2, (0, 0)))
    padded = padded.reshape(groups * batch, *padded.shape[2:])
    windows = [window for _, window in shifted_windows(padded, kernel.shape[:2], stride, dilation)]
    columns = jnp.concatenate(windows, axis=3)
    height, width, taps = columns.shape[1:]
    y = jnp.einsum("gnc,cgo->gno", columns.reshape(groups, -1, taps), kernel.reshape(taps, groups, features // groups))
    return jnp.moveaxis(y.reshape(groups, batch, height, width, -1), 0, 3).reshape(batch, height, width, features)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def strided_conv(x: Array, kernel: Array, stride: Pair, padding: Pair) -> Array:
    """A strided convolution whose input gradient is made of small dense convolutions.

    XLA computes that gradient by convolving the output gradient with zeros in between, most of which is wasted:
    every (row, column) residue modulo the stride sees only its own share of the kernel. The kernel must be at
    least as large as the stride.
    """
    return lax_conv(x, kernel, stride, padding, (1, 1))


def _strided_forward(x, kernel, stride, padding):
    return strided_conv(x, kernel, stride, padding), (x, kernel)


def _strided_backward(stride, padding, residuals, g):
    x, kernel = residuals
    kernel_gradient = _dense_kernel_gradient(x, kernel, g, stride, padding, (1, 1))
    rows = []
    for row in range(stride[0]):
        phases = []
        for column in range(stride[1]):
            (y_taps, y_pad), (x_taps, x_pad) = (
                _phase(residue, x.shape[1 + axis], kernel.shape[axis], stride[axis], padding[axis], g.shape[1 + axis])
                for axis, residue in enumerate((row, column))
            )
            part = kernel[y_taps][:, x_taps].swapaxes(2, 3)
            padded = lax.pad(g, jnp.zeros((), g.dtype), [(0, 0, 0), (*y_pad, 0), (*x_pad, 0), (0, 0, 0)])
            phases.append(lax_conv(padded, part, (1, 1), (0, 0), (1, 1)))
        rows.append(jnp.stack(phases, axis=3))
    batch, height, width = x.shape[0], rows[0].shape[1] * stride[0], rows[0].shape[2] * stride[1]
    x_gradient = jnp.stack(rows, axis=2).reshape(batch, height, width, x.shape[3])
    return x_gradient[:, : x.shape[1], : x.shape[2]], kernel_gradient


def _phase(residue: int, length: int, size: int, stride: int, padding: int, outputs: int):
    """Along one axis: the taps that reach input positions of a residue, flipped, and g's padding for them.

    Input s u + r is seen by output u + o - m through tap i0 + s m, with i0 = (r + padding) mod s and
    o = (r + padding - i0) / s. All residues get ceil(length / s) positions; the surplus is cut off afterwards.
    """
    first = (residue + padding) % stride
    taps = np.arange(first, size, stride)[::-1]
    low = len(taps) - 1 - (residue + padding - first) // stride
    return taps, (low, -(-length // stride) + len(taps) - 1 - outputs - low)


strided_conv.defvjp(_strided_forward, _strided_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def depthwise_conv(x: Array, kernel: Array, stride: Pair, padding: Pair, dilation: Pair) -> Array:
    """A depthwise convolution as a sum of shifted products: `kernel` is [kh, kw, 1, c]."""
    # Without the barrier XLA would compute x anew for every window.
    x = lax.optimization_barrier(x)
    padded = jnp.pad(x, ((0, 0), (padding[0],) * 2, (padding[1],) * 2, (0, 0)))
    return _sum_of_windows(padded, kernel, stride, dilation)


def _depthwise_forward(x, kernel, stride, padding, dilation):
    return depthwise_conv(x, kernel, stride, padding, dilation), (x, kernel)


def _depthwise_backward(stride, padding, dilation, residuals, g):
    x, kernel = residuals
    x, g = lax.optimization_barrier((x, g))
    size = kernel.shape[:2]
    padded = jnp.pad(x, ((0, 0), (padding[0],) * 2, (padding[1],) * 2, (0, 0)))
    kernel_gradient = _depthwise_kernel_gradient(padded, g, size, stride, dilation).astype(kernel.dtype)

    # The gradient of the input is the depthwise convolution of the (stride-dilated) output gradient with the
    # flipped kernel; the padding makes it the size of the input.
    config = [(0, 0, 0)]
    for axis in range(2):
        reach = (size[axis] - 1) * dilation[axis]
        spread = (g.shape[1 + axis] - 1) * stride[axis] + 1
        low = reach - padding[axis]
        config.append((low, x.shape[1 + axis] + reach - low - spread, stride[axis] - 1))
    spread_g = lax.pad(g, jnp.zeros((), g.dtype), [*config, (0, 0, 0)])
    x_gradient = _sum_of_windows(spread_g, kernel[::-1, ::-1], (1, 1), dilation)
    return x_gradient, kernel_gradient


depthwise_conv.defvjp(_depthwise_forward, _depthwise_backward)


def _sum_of_windows(padded: Array, kernel: Array, stride: Pair, dilation: Pair) -> Array:
    """Every channel's windows times its kernel, summed by kernel rows first, which rounds less than one long sum."""
    rows: dict[int, Array] = {}
    for (i, j), window in shifted_windows(padded, kernel.shape[:2], stride, dilation):
        product = (window * kernel[i, j, 0]).astype(_sum_type(padded))
        rows[i] = rows[i] + product if i in rows else product
    return functools.reduce(jnp.add, rows.values()).astype(padded.dtype)


def _depthwise_kernel_gradient(padded: Array, g: Array, size: Pair, stride: Pair, dilation: Pair) -> Array:
    """Sum of window times output gradient, for every offset of the window.

    One output row at a time, so that the row, the rows it sees and the sums stay in the cache.
    """
    batch, height, width, channels = g.shape
    span = (width - 1) * stride[1] + 1
    offsets = [(i, j) for i in range(size[0]) for j in range(size[1])]

    def add_row(sums, y):
        row = lax.dynamic_index_in_dim(g, y, 1, keepdims=False)
        seen = (
            lax.dynamic_slice(
                padded, (0, y * stride[0] + i * dilation[0], j * dilation[1], 0), (batch, 1, span, channels)
            )[:, 0, :: stride[1]]
            for i, j in offsets
        )
        return tuple(total + (window * row).astype(total.dtype) for total, window in zip(sums, seen, strict=True)), None

    zeros = jnp.zeros((batch, width, channels), _sum_type(g))
    sums, _ = lax.scan(add_row, (zeros,) * len(offsets), jnp.arange(height))
    return jnp.stack([total.sum((0, 1)) for total in sums]).reshape(*size, 1, channels)


def shifted_windows(padded: Array, size: Pair, stride: Pair, dilation: Pair = (1, 1)):
    """Yields ((i, j), slice) for every offset of a sliding window over an already padded NHWC array.

    The slices all have the output's height and width: slice (i, j) holds what every window sees at its offset.
    """
    height, width = padded.shape[1:3]
    out_h = (height - (size[0] - 1) * dilation[0] - 1) // stride[0] + 1
    out_w = (width - (size[1] - 1) * dilation[1] - 1) // stride[1] + 1
    for i in range(size[0]):
        for j in range(size[1]):
            top, left = i * dilation[0], j * dilation[1]
            yield (
                (i, j),
                padded[
                    :,
                    top : top + (out_h - 1) * stride[0] + 1 : stride[0],
                    left : left + (out_w - 1) * stride[1] + 1 : stride[1],
                ],
            )
