"""Weight initializers with PyTorch's conventions."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp


def kaiming_normal(negative_slope: float = 0.0, mode: str = "fan_out") -> Callable:
    """He et al. (2015): normal with std = sqrt(2 / (1 + negative_slope^2) / fan), what a ConvModule starts with.

    The fan is that of PyTorch: kernel area times *all* output features (or, as "fan_in", the input features of one
    group), also where the convolution is grouped. Suits kernels [kh, kw, in, out] and [in, out].
    """

    def initialize(key: jax.Array, shape: tuple[int, ...], dtype=jnp.float32) -> jax.Array:
        fan = math.prod(shape[:-2]) * shape[-1 if mode == "fan_out" else -2]
        std = (2.0 / (1.0 + negative_slope**2) / fan) ** 0.5
        return std * jax.random.normal(key, shape, dtype)

    return initialize


def normal(std: float) -> Callable:
    """Normal with mean 0 and the given standard deviation."""

    def initialize(key: jax.Array, shape: tuple[int, ...], dtype=jnp.float32) -> jax.Array:
        return std * jax.random.normal(key, shape, dtype)

    return initialize


def trunc_normal(std: float = 0.02) -> Callable:
    """Normal with mean 0 and the given standard deviation, cut off at -2 and 2, as PyTorch cuts: in absolute units."""

    def initialize(key: jax.Array, shape: tuple[int, ...], dtype=jnp.float32) -> jax.Array:
        return std * jax.random.truncated_normal(key, -2.0 / std, 2.0 / std, shape, dtype)

    return initialize


def uniform(low: float, high: float) -> Callable:
    """Uniform between two bounds."""

    def initialize(key: jax.Array, shape: tuple[int, ...], dtype=jnp.float32) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, low, high)

    return initialize


def default_kernel() -> Callable:
    """What a bare convolution or linear layer of PyTorch starts with: uniform within 1 / sqrt(fan_in)."""

    def initialize(key: jax.Array, shape: tuple[int, ...], dtype=jnp.float32) -> jax.Array:
        bound = math.prod(shape[:-1]) ** -0.5
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return initialize


def default_bias(fan_in: int) -> Callable:
    """The bias that comes with `default_kernel`; `fan_in` is kernel area times the input channels of a group."""

    def initialize(key: jax.Array, shape: tuple[int, ...], dtype=jnp.float32) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -(fan_in**-0.5), fan_in**-0.5)

    return initialize
