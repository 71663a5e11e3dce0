"""ICNet's neck."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import flax.linen as nn
import jax
from jaxtyping import Array, Float

from jaxseg.errors import ConfigError
from jaxseg.models.layers.conv_module import ConvModule
from jaxseg.models.layers.resize import resize


class CascadeFusion(nn.Module):
    """Enlarges a coarse map to a finer one's size and adds the two.

    Attributes:
        channels: Of the results.
        norm_cfg, act_cfg: Of the convolutions.
        align_corners: Of the resize.
    """

    channels: int
    norm_cfg: Mapping | None
    act_cfg: Mapping | None
    align_corners: bool

    @nn.compact
    def __call__(
        self, low: Float[Array, "b h w c"], high: Float[Array, "b h2 w2 c2"], train: bool = False
    ) -> tuple[Float[Array, "b h2 w2 channels"], Float[Array, "b h2 w2 channels"]]:
        """Returns the sum and the enlarged coarse map."""
        fields = {"norm_cfg": self.norm_cfg, "act_cfg": self.act_cfg}
        low = resize(low, high.shape[1:3], align_corners=self.align_corners)
        low = ConvModule(self.channels, 3, padding=2, dilation=2, **fields, name="conv_low")(low, train)
        high = ConvModule(self.channels, 1, **fields, name="conv_high")(high, train)
        return jax.nn.relu(low + high), low


class ICNeck(nn.Module):
    """Cascade feature fusion, from the coarsest of three maps to the finest (Zhao et al. 2018, "ICNet").

    Attributes:
        in_channels: Of the three maps, the finest first.
        out_channels: Of the results.
        norm_cfg, act_cfg: Of the convolutions.
        align_corners: Of the resizes.
    """

    in_channels: Sequence[int] = (64, 256, 256)
    out_channels: int = 128
    norm_cfg: Mapping | None = nn.FrozenDict(type="BN")
    act_cfg: Mapping | None = nn.FrozenDict(type="ReLU")
    align_corners: bool = False

    dotted_names: ClassVar[Sequence[tuple[str, str]]] = ((r"^(cff_\d+)$", r"\1"),)

    @nn.compact
    def __call__(
        self, features: Sequence[Float[Array, "b _ _ _"]], train: bool = False
    ) -> tuple[Float[Array, "b _ _ _"], ...]:
        """Returns what auxiliary heads learn from, of the middle's and the finest map's size, and the fused map."""
        found = tuple(x.shape[-1] for x in features)
        if found != tuple(self.in_channels) or len(found) != 3:
            raise ConfigError(f"neck.in_channels={tuple(self.in_channels)}: the maps have {list(found)} channels")
        fields = (self.out_channels, self.norm_cfg, self.act_cfg, self.align_corners)
        fine, middle, coarse = features
        fused, first = CascadeFusion(*fields, name="cff_24")(coarse, middle, train)
        fused, second = CascadeFusion(*fields, name="cff_12")(fused, fine, train)
        return first, second, fused
