"""Attention of many queries: some at a time, equal to all at once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.models.layers import attention
from jaxseg.models.layers.attention import attend, attend_heads


def arrays(*shapes):
    rng = np.random.default_rng(0)
    return [jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in shapes]


def with_gradients(function, *inputs):
    return function(*inputs), jax.grad(lambda *inputs: jnp.sum(jnp.sin(function(*inputs))), tuple(range(len(inputs))))(
        *inputs
    )


@pytest.mark.parametrize("bias", [(), (3, 11, 7), (2, 3, 11, 7), (2, 1, 1, 7)], ids=str)
def test_some_queries_at_a_time_equal_all_at_once(monkeypatch, bias):
    inputs = arrays((2, 11, 3, 4), (2, 7, 3, 4), (2, 7, 3, 5), *([bias] if bias else []))

    def attention_of(query, key, value, bias=None):
        return attend_heads(query, key, value, bias=bias)

    whole = with_gradients(attention_of, *inputs)
    monkeypatch.setattr(attention, "BLOCK", 300)  # 4 blocks of 3 queries, the last of which has 2
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6), with_gradients(attention_of, *inputs), whole)
    assert "scan" in str(jax.make_jaxpr(attention_of)(*inputs))


def test_of_pixels(monkeypatch):
    inputs = arrays((2, 11, 4), (2, 7, 4), (2, 7, 5))
    whole = with_gradients(lambda *inputs: attend(*inputs, 0.3), *inputs)
    monkeypatch.setattr(attention, "BLOCK", 100)
    some = with_gradients(lambda *inputs: attend(*inputs, 0.3), *inputs)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6), some, whole)
    assert "scan" in str(jax.make_jaxpr(attend)(*inputs))


def test_what_is_dropped_is_drawn_at_once(monkeypatch):
    monkeypatch.setattr(attention, "BLOCK", 300)
    inputs = arrays((2, 11, 3, 4), (2, 7, 3, 4), (2, 7, 3, 5))
    assert "scan" not in str(jax.make_jaxpr(lambda *x: attend_heads(*x, drop=lambda weights: 2 * weights))(*inputs))


def test_memory_of_attention_between_all_patches():
    patches = jax.ShapeDtypeStruct((1, 1600, 12, 64), jnp.float32)  # of 640x640 pixels: 123 MB of products
    gradient = jax.jit(jax.grad(lambda q, k, v: jnp.sum(attend_heads(q, k, v) ** 2), (0, 1, 2)))
    used = gradient.lower(patches, patches, patches).compile().memory_analysis().temp_size_in_bytes
    assert used < 1600 * 1600 * 12 * 4 * 1.5
