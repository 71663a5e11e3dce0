"""Parts of a model that are not trained."""

from collections.abc import Iterable, Sequence

import flax.linen as nn
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


class FrozenParts:
    """For segmentors, whose parts say what of them is not trained."""

    def parts(self) -> dict[str, nn.Module]:
        """The parts, by the names of their parameters. Every segmentor defines it."""
        raise TypeError(f"{type(self).__name__} does not define parts()")

    def frozen_parameters(self) -> tuple[str, ...]:
        """Prefixes of the paths of parameters that are not trained."""
        frozen = {name: getattr(part, "frozen_parameters", tuple)() for name, part in self.parts().items()}
        return tuple(f"{name}/{prefix}" for name, prefixes in frozen.items() for prefix in prefixes)

    def frozen_norms(self) -> tuple[str, ...]:
        """The parts whose norm layers are not trained: those with `norm_cfg.requires_grad` False."""
        norms = {name: getattr(part, "norm_cfg", None) or {} for name, part in self.parts().items()}
        return tuple(name for name, norm_cfg in norms.items() if not norm_cfg.get("requires_grad", True))


def frozen_but(paths: Iterable[Path], trained: Sequence[str]) -> tuple[str, ...]:
    """Those of the paths in whose names, which are the reference's, is none of `trained`; joined by "/"."""
    parts = [part.replace(".", "_") for part in trained]
    names = {path: reference_name(path).replace(".", "_") for path in paths}
    return tuple("/".join(path) for path, name in names.items() if not any(part in name for part in parts))
