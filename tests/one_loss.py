"""Losses against the reference, in float64: the cases of `fixtures/one_loss/NAME.npz`, and finite differences."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from reference import FIXTURES, load_npz, nchw, nhwc, precision


class LossCases:
    """The cases of a loss.

    Attributes:
        cases: Those that the reference has figures of.
        refused: Those that it fails on.
    """

    def __init__(self, name: str, function: Callable[..., jax.Array]):
        meta, self.arrays = load_npz(FIXTURES / "one_loss" / f"{name}.npz")
        self.function = function
        self.cases = [case for case in meta if "error" not in case]
        self.refused = [case for case in meta if "error" in case]

    def evaluate(self, case: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        """Our loss of a case, and the gradient of its sum by the logits, N C H W where they have these axes."""
        with precision(np.float64):
            logits, labels = jnp.asarray(nhwc(self.arrays[case["logits"]])), self.labels(case)
            loss, pull = jax.vjp(jax.jit(lambda logits: self.loss(case, logits, labels)), logits)
            (gradient,) = pull(jnp.ones_like(loss))
        loss = np.asarray(loss)
        return nchw(loss) if loss.ndim == 4 else loss, nchw(gradient)

    def loss(self, case: Mapping[str, Any], logits: jax.Array, labels: jax.Array) -> jax.Array:
        fields = dict(case["kwargs"])
        return fields.pop("loss_weight", 1.0) * self.function(logits, labels, **fields)

    def labels(self, case: Mapping[str, Any]) -> jax.Array:
        labels = self.arrays[case["label"]]
        return jnp.asarray(nhwc(labels) if labels.ndim == 4 else labels)

    def assert_equals_the_reference(self, case: Mapping[str, Any]) -> None:
        """Values and gradients equal the reference's."""
        loss, gradient = self.evaluate(case)
        np.testing.assert_allclose(loss, self.arrays[f"{case['name']}/loss"], rtol=1e-11, atol=1e-13)
        np.testing.assert_allclose(gradient, self.arrays[f"{case['name']}/grad"], rtol=1e-9, atol=1e-13)

    def assert_is_the_slope(self, case: Mapping[str, Any], step: float = 1e-5) -> None:
        """The gradient along a random direction is the central difference."""
        with precision(np.float64):
            logits, labels = jnp.asarray(nhwc(self.arrays[case["logits"]])), self.labels(case)
            direction = jnp.asarray(np.random.default_rng(0).normal(0, 1, logits.shape))

            @jax.jit
            def along(t: float) -> jax.Array:
                return jnp.sum(self.loss(case, logits + t * direction, labels))

            slope = (along(step) - along(-step)) / (2 * step)
            np.testing.assert_allclose(jax.grad(along)(0.0), slope, rtol=1e-6, atol=1e-9)


def label_of(case: Mapping[str, Any]) -> str:
    """What a test of a case is called."""
    fields = ",".join(f"{key}={value}" for key, value in case["kwargs"].items())
    return f"{case['label']},{fields}"
