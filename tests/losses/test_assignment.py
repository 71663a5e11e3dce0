"""Matching against SciPy's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from jaxseg.losses.assignment import assign


def costs(rng, batch, targets, queries):
    """Some with queries that are good, or bad, for all targets alike."""
    common = rng.normal(0, 2, (batch, 1, queries)) * rng.integers(0, 2, (batch, 1, 1))
    return (rng.normal(0, 3, (batch, targets, queries)) + common).astype(np.float32)


@pytest.mark.parametrize(("targets", "queries"), [(1, 3), (19, 100), (50, 100), (30, 30)])
def test_equals_scipy(targets, queries):
    """250 matrices each, most of them filled up with rows that are no targets, and some with none."""
    rng = np.random.default_rng(targets)
    cost, count = costs(rng, 250, targets, queries), rng.integers(0, targets + 1, 250)
    found = np.asarray(jax.jit(assign)(cost, count))
    for matrix, rows, columns in zip(cost, count, found, strict=True):
        np.testing.assert_array_equal(columns[:rows], linear_sum_assignment(matrix[:rows])[1])
        assert (columns[rows:] == -1).all()


def test_ties():
    """Of several best matchings, one."""
    rng = np.random.default_rng(0)
    cost = rng.integers(0, 3, (100, 12, 15)).astype(np.float32)
    found = np.asarray(jax.jit(assign)(cost, np.full(100, 12)))
    for matrix, columns in zip(cost, found, strict=True):
        assert len(set(columns)) == 12
        assert matrix[np.arange(12), columns].sum() == matrix[linear_sum_assignment(matrix)].sum()


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_costs_that_are_not_finite(wrong):
    """It ends; losses tell what went wrong."""
    cost = np.full((1, 4, 6), wrong, np.float32)
    assert sorted(np.asarray(assign(jnp.asarray(cost), jnp.full(1, 4)))[0]) == sorted(set(range(4)))
