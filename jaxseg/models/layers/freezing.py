"""Parts of a model that are not trained."""

from collections.abc import Iterable, Sequence

import jax
from jaxtyping import Array

from jaxseg.models.names import Path, reference_name


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


def frozen_but(paths: Iterable[Path], trained: Sequence[str]) -> tuple[str, ...]:
    """Those of the paths in whose names, which are the reference's, is none of `trained`; joined by "/"."""
    parts = [part.replace(".", "_") for part in trained]
    names = {path: reference_name(path).replace(".", "_") for path in paths}
    return tuple("/".join(path) for path, name in names.items() if not any(part in name for part in parts))
