"""PIDNet head."""

from collections.abc import Sequence
from typing import ClassVar

import flax.linen as nn
from jaxtyping import Array, Float

from jaxseg.models.heads.branches import BranchHead


class PIDHead(BranchHead):
    """A convolution before the classifier; others learn from two more branches (Xu et al. 2023, "PIDNet").

    It takes the backbone's three maps, whatever `in_index` says: of the details (P), of everything (I) and of the
    boundaries (D). `in_channels` is that of the second; the others have half as many. The losses are those of P's
    classes, of I's classes, of the boundaries, and of I's classes at boundaries.
    """

    dotted_names: ClassVar[Sequence[tuple[str, str]]] = ((r"^([pid]_head)_(conv|norm)$", r"\1.\2"),)

    @nn.compact
    def __call__(
        self, features: Sequence[Float[Array, "b _ _ _"]], train: bool = False
    ) -> Float[Array, "b h w out_channels"] | dict[str, Float[Array, "b h w _"]]:
        """Returns logits; while training {"p": P's, "i": logits, "d": one logit a pixel, of a boundary}."""
        self.check()
        self.check_losses(4)
        half = self.in_channels // 2
        p, i, d = self.maps(features, (half, self.in_channels, half))
        logits = self.classify(self.branch(i, train, "i_head", self.channels), train)
        if not (train or self.is_initializing()):
            return logits
        p = self.classifier(self.branch(p, train, "p_head", self.channels), self.logit_channels, "p_cls_seg")
        d = self.classifier(self.branch(d, train, "d_head", self.in_channels // 4), 1, "d_cls_seg")
        return {"p": p, "i": logits, "d": d}

    def branch(self, x: Array, train: bool, name: str, channels: int) -> Array:
        """The convolution of a branch."""
        return self.decode_branch(x, train, channels, f"{name}_conv", f"{name}_norm")
