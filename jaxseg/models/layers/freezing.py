"""Stages of a backbone that are not trained."""

import jax
from jaxtyping import Array


class FrozenStages:
    """For backbones with the field `frozen_stages`, maybe also `norm_eval`: stage 0 is the stem, -1 freezes nothing."""

    frozen_stages: int
    norm_eval: bool = False

    def trains(self, train: bool, stage: int) -> bool:
        """Whether a stage drops, and its norm layers use the batch's statistics."""
        return train and not self.norm_eval and stage > self.frozen_stages

    def freeze(self, x: Array, stage: int) -> Array:
        """Lets no gradient into a frozen stage."""
        return jax.lax.stop_gradient(x) if stage <= self.frozen_stages else x
