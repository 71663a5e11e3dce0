"""Linear layers and their activation: the form for CPUs and the plain one."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.models.layers.activation import build_activation
from jaxseg.models.layers.platform import target_platform
from jaxseg.models.layers.product import BLOCK, linear_map
from jaxseg.models.layers.transformer import Linear


@pytest.mark.parametrize(("dtype", "channels"), [("float32", 7), ("float32", 2 * BLOCK + 3), ("bfloat16", 7)])
def test_forms_agree(dtype, channels):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(0, 1, (2, 3, 5, channels)), dtype)
    layer = Linear(11)
    variables = layer.init(jax.random.key(0), x)

    def passes(platform):
        def loss(variables, x):
            y = layer.apply(variables, x)
            return jnp.sum(jnp.square(y.astype(jnp.float32))), y

        with target_platform(platform):
            gradients, y = jax.grad(loss, (0, 1), has_aux=True)(variables, x)
        assert y.dtype == gradients[1].dtype == dtype
        return jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), (y, gradients))

    tolerance = 1e-5 if dtype == "float32" else 2e-2
    compare = lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * np.abs(b).max())  # noqa: E731
    jax.tree.map(compare, passes("cpu"), passes("tpu"))


@pytest.mark.parametrize("channels", [768, 1536, 3072])
def test_rounding_of_sums(channels):
    """PyTorch's is 2.6e-7 of the standard deviation, with any number of channels; one long sum's 3.7e-7 to 4.1e-7."""
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(0, 1, (80, channels)).astype(np.float32), rng.normal(0, 1, (channels, 384))
    kernel = kernel.astype(np.float32)
    exact = x.astype(np.float64) @ kernel.astype(np.float64)
    error = jax.jit(linear_map)(x, kernel) - exact
    assert np.std(error) < 3.6e-7 * np.std(exact)


@pytest.mark.parametrize(("dtype", "error"), [("float32", 1e-6), ("bfloat16", 0.04)])
def test_gelu(dtype, error):
    x = jnp.linspace(-6, 6, 1001).astype(dtype)
    expected = [0.5 * float(v) * math.erfc(-float(v) / math.sqrt(2)) for v in x]
    y = build_activation({"type": "GELU"})(x)
    assert y.dtype == dtype
    np.testing.assert_allclose(np.asarray(y, np.float64), expected, rtol=0, atol=error)
