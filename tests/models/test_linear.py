"""Linear layers and their activation: the form for CPUs and the plain one."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.models.layers.activation import build_activation
from jaxseg.models.layers.platform import target_platform
from jaxseg.models.layers.transformer import Linear


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_forms_agree(dtype):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(0, 1, (2, 3, 5, 7)), dtype)
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


@pytest.mark.parametrize(("dtype", "error"), [("float32", 1e-6), ("bfloat16", 0.04)])
def test_gelu(dtype, error):
    x = jnp.linspace(-6, 6, 1001).astype(dtype)
    expected = [0.5 * float(v) * math.erfc(-float(v) / math.sqrt(2)) for v in x]
    y = build_activation({"type": "GELU"})(x)
    assert y.dtype == dtype
    np.testing.assert_allclose(np.asarray(y, np.float64), expected, rtol=0, atol=error)
