"""What a training run carries from step to step."""

from typing import Any

import flax.struct
import jax
from jaxtyping import Array, Int


@flax.struct.dataclass
class TrainState:
    """State of a run after `step` optimizer steps.

    Attributes:
        step: Number of steps taken.
        params: Parameters, float32.
        batch_stats: Running statistics of the norm layers.
        opt_state: State of the optimizer.
        ema_params: Moving average of the parameters, or None.
    """

    step: Int[Array, ""]
    params: Any
    batch_stats: Any
    opt_state: Any
    ema_params: Any = None

    @property
    def variables(self) -> dict[str, Any]:
        """What `model.apply` takes."""
        return {"params": self.params, "batch_stats": self.batch_stats}


def parameter_count(params: Any) -> int:
    """Number of trained numbers."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))
