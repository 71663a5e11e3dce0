"""Multi-level aggregation."""

from collections.abc import Mapping, Sequence

import flax.linen as nn
from jaxtyping import Array, Float

from jaxseg.errors import ConfigError
from jaxseg.models.layers.conv_module import ConvModule


class Aggregation(nn.Module):
    """Projects maps of one size, and adds each to all that are deeper.

    Attributes:
        out_channels: Channels of the maps that go out.
        norm_cfg, act_cfg: Norm and activation of the convolutions.
    """

    out_channels: int
    norm_cfg: Mapping | None
    act_cfg: Mapping | None

    @nn.compact
    def __call__(self, features: Sequence[Float[Array, "b h w _"]], train: bool = False) -> tuple[Array, ...]:
        """Returns as many maps, the deepest first."""
        norms = {"norm_cfg": self.norm_cfg, "act_cfg": self.act_cfg}
        projected = [
            ConvModule(self.out_channels, 1, **norms, name=f"channel_proj_{i}")(x, train)
            for i, x in enumerate(features)
        ]
        outputs, total = [], 0
        for i, x in enumerate(reversed(projected)):
            total = x + total
            outputs.append(ConvModule(self.out_channels, 3, padding=1, **norms, name=f"feat_extract_{i}")(total, train))
        return tuple(outputs)


class MLANeck(nn.Module):
    """Multi-level feature aggregation of a transformer's maps (Zheng et al. 2021, "SETR").

    Attributes:
        in_channels: Channels of the maps that come in.
        out_channels: Channels of the maps that go out.
        norm_layer: Norm of each map that comes in: layer normalisation, with its `eps`.
        norm_cfg, act_cfg: Norm and activation of the convolutions.
    """

    in_channels: Sequence[int]
    out_channels: int
    norm_layer: Mapping = nn.FrozenDict(type="LN", eps=1e-6)
    norm_cfg: Mapping | None = None
    act_cfg: Mapping | None = None

    @nn.compact
    def __call__(
        self, features: Sequence[Float[Array, "b h w _"]], train: bool = False
    ) -> tuple[Float[Array, "b h w out_channels"], ...]:
        """Returns as many maps of the same size, the deepest first."""
        found, stated = [x.shape[-1] for x in features], list(self.in_channels)
        if found != stated:
            raise ConfigError(f"neck.in_channels={tuple(stated)}: the maps have {found} channels")
        if self.norm_layer.get("type") != "LN":
            raise ConfigError(f"neck.norm_layer={dict(self.norm_layer)}: must be of type 'LN'")
        eps = self.norm_layer.get("eps", 1e-5)
        maps = [
            nn.LayerNorm(eps, dtype=x.dtype, use_fast_variance=False, name=f"norm_{i}")(x)
            for i, x in enumerate(features)
        ]
        return Aggregation(self.out_channels, self.norm_cfg, self.act_cfg, name="mla")(maps, train)
