"""Matching: which query is which target's, so that the costs add up to the least."""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int


@jax.vmap
def assign(cost: Float[Array, "targets queries"], count: Int[Array, ""]) -> Int[Array, " targets"]:
    """The query of each of the first `count` targets, all different, with the least sum of costs; -1 for the others.

    Called with a batch of both. Targets join one after the other, each by the shortest augmenting path (Jonker &
    Volgenant 1987), as in SciPy's linear_sum_assignment. It runs on the device: hosts are not waited for, and
    only targets that there are take time.

    Args:
        cost: Of each pair; there must not be more targets than queries.
        count: How many of the rows are targets.
    """
    targets, queries = cost.shape
    cost = jnp.where(jnp.isfinite(cost), cost, 1e9)  # no path ends where all is NaN
    nobody = jnp.full(queries, -1)

    def add(target: Array, state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        prices, discounts, owners = state

        def search(path):
            row, reached, distances, through, seen, _ = path
            reduced = reached + cost[row] - prices[row] - discounts
            nearer = ~seen & (reduced < distances)
            distances = jnp.where(nearer, reduced, distances)
            through = jnp.where(nearer, row, through)
            column = jnp.argmin(jnp.where(seen, jnp.inf, distances))
            return owners[column], distances[column], distances, through, seen.at[column].set(True), column

        start = (target, jnp.zeros((), cost.dtype), jnp.full(queries, jnp.inf, cost.dtype), nobody, nobody >= 0, 0)
        _, length, distances, through, seen, column = lax.while_loop(lambda path: path[0] >= 0, search, start)
        gain = jnp.where(seen, length - distances, 0)
        prices = prices.at[target].add(length)
        prices = prices.at[jnp.where(seen & (owners >= 0), owners, targets)].add(gain, mode="drop")

        def hand_over(state):
            owners, holdings, column, _ = state
            row = through[column]
            return owners.at[column].set(row), holdings.at[row].set(column), holdings[row], row

        holdings = _holdings(owners, targets)
        state = lax.while_loop(lambda state: state[3] != target, hand_over, (owners, holdings, column, -1))
        return prices, discounts - gain, state[0]

    prices, discounts = jnp.zeros(targets, cost.dtype), jnp.zeros(queries, cost.dtype)
    return _holdings(lax.fori_loop(0, count, add, (prices, discounts, nobody))[2], targets)


def _holdings(owners: Int[Array, " queries"], targets: int) -> Int[Array, " targets"]:
    """The query that each target owns, or -1."""
    places = jnp.where(owners >= 0, owners, targets)
    return jnp.full(targets, -1).at[places].set(jnp.arange(len(owners)), mode="drop")
