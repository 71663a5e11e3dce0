"""DMNet's convolutions, each image with its own kernel."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.models.heads.dm import convolve_each
from jaxseg.models.layers.platform import target_platform


def one_by_one(x, kernels):
    """Plain sums; an even kernel reaches further to the top and left."""
    size = kernels.shape[1]
    y = np.zeros_like(x)
    for b, row, column in np.ndindex(x.shape[:3]):
        for i, j in np.ndindex(size, size):
            at = (row + i - size // 2, column + j - size // 2)
            if 0 <= at[0] < x.shape[1] and 0 <= at[1] < x.shape[2]:
                y[b, row, column] += x[b, *at] * kernels[b, i, j]
    return y


@pytest.mark.parametrize("platform", ["cpu", "tpu"])
@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_convolve_each(size, platform):
    """Also its gradients, which the form for CPUs has rules of its own for: it is linear in both arguments."""
    rng = np.random.default_rng(0)
    x, other = rng.normal(0, 1, (2, 2, 5, 7, 3)).astype(np.float32)
    kernels, more = rng.normal(0, 1, (2, 2, size, size, 3)).astype(np.float32)
    weights = rng.normal(0, 1, x.shape).astype(np.float32)

    def total(x, kernels):
        y = convolve_each(x, kernels)
        return jnp.sum(y * weights), y

    with target_platform(platform):
        gradients, y = jax.jit(jax.grad(total, (0, 1), has_aux=True))(x, kernels)
    np.testing.assert_allclose(y, one_by_one(x, kernels), atol=1e-5)
    for gradient, direction, expected in (
        (gradients[0], other, one_by_one(other, kernels)),
        (gradients[1], more, one_by_one(x, more)),
    ):
        np.testing.assert_allclose(np.sum(gradient * direction), np.sum(expected * weights), rtol=1e-4, atol=1e-4)
