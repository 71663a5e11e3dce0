"""STDC's detail head."""

from collections.abc import Sequence

import flax.linen as nn
import numpy as np
from jaxtyping import Array, Float

from jaxseg.models.heads.fcn import FCNHead

# A pixel minus its neighbours, and how much the three resolutions count; both in the reference's layout.
LAPLACIAN = np.array([[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]], np.float32)[None, None]
FUSION = np.array([0.6, 0.3, 0.1], np.float32).reshape(1, 3, 1, 1)


class STDCHead(FCNHead):
    """An FCN head that learns where the classes meet (Fan et al. 2021, "Rethinking BiSeNet").

    Its labels are made of the classes', see `jaxseg.losses.detail`.

    Attributes:
        boundary_threshold: Above which a pixel is of a boundary.
    """

    boundary_threshold: float = 0.1

    @property
    def reference_constants(self) -> dict[str, np.ndarray]:
        """The kernels that the labels are made with."""
        return {"laplacian_kernel": LAPLACIAN, "fusion_kernel": FUSION}

    @nn.compact
    def __call__(
        self, features: Sequence[Float[Array, "b _ _ _"]], train: bool = False
    ) -> Float[Array, "b h w out_channels"] | dict[str, Float[Array, "b h w out_channels"]]:
        """Returns logits of "no boundary" and "boundary"; while training {"detail": logits}."""
        self.check()
        logits = self.classify(self.decode(self.select(features), train), train)
        return {"detail": logits} if train else logits
