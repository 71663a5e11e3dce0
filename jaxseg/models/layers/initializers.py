"""Weight initializers with PyTorch's conventions."""

from collections.abc import Callable

import jax
import jax.numpy as jnp


def kaiming_normal(negative_slope: float = 0.0) -> Callable:
    """He et al. (2015), "fan_out" mode: normal with std = sqrt(2 / (1 + negative_slope^2) / fan_out).

    The fan is that of PyTorch: kernel area times *all* output features, also where the convolution is grouped.
    Suits kernels [kh, kw, in, out] and [in, out].
    """

    def initialize(key: jax.Array, shape: tuple[int, ...], dtype=jnp.float32) -> jax.Array:
        fan_out = shape[-1]
        for size in shape[:-2]:
            fan_out *= size
        std = (2.0 / (1.0 + negative_slope**2) / fan_out) ** 0.5
        return std * jax.random.normal(key, shape, dtype)

    return initialize


def normal(std: float) -> Callable:
    """Normal with mean 0 and the given standard deviation."""

    def initialize(key: jax.Array, shape: tuple[int, ...], dtype=jnp.float32) -> jax.Array:
        return std * jax.random.normal(key, shape, dtype)

    return initialize
