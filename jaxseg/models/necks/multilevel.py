"""Multi-level neck."""

from collections.abc import Mapping, Sequence

import flax.linen as nn
from jaxtyping import Array, Float

from jaxseg.errors import ConfigError
from jaxseg.models.layers.conv_module import ConvModule
from jaxseg.models.layers.resize import resize


class MultiLevelNeck(nn.Module):
    """Makes a pyramid of a plain transformer's maps, which are all of one size.

    Attributes:
        in_channels: Channels of the maps that come in. Where there is one map, all outputs are made of it.
        out_channels: Channels of the maps that go out.
        scales: The factor by which each map is resized, one for each output.
        norm_cfg, act_cfg: Norm and activation of the convolutions.
    """

    in_channels: Sequence[int]
    out_channels: int
    scales: Sequence[float] = (0.5, 1, 2, 4)
    norm_cfg: Mapping | None = None
    act_cfg: Mapping | None = None

    @nn.compact
    def __call__(
        self, features: Sequence[Float[Array, "b _ _ _"]], train: bool = False
    ) -> tuple[Float[Array, "b _ _ out_channels"], ...]:
        """Returns a map for each of `scales`: floor(scale * rows) by floor(scale * columns)."""
        found, stated = [x.shape[-1] for x in features], list(self.in_channels)
        if found != stated:
            raise ConfigError(f"neck.in_channels={tuple(stated)}: the maps have {found} channels")
        if len(stated) not in (1, len(self.scales)):
            raise ConfigError(f"neck.scales={tuple(self.scales)}: there are {len(stated)} maps")
        fields = {"norm_cfg": self.norm_cfg, "act_cfg": self.act_cfg, "kernel_init": nn.initializers.xavier_uniform()}
        maps = [
            ConvModule(self.out_channels, 1, **fields, name=f"lateral_convs_{i}")(x, train)
            for i, x in enumerate(features)
        ]
        if len(maps) == 1:
            maps *= len(self.scales)
        outputs = []
        for i, (x, scale) in enumerate(zip(maps, self.scales, strict=True)):
            size = [int(length * scale) for length in x.shape[1:3]]
            x = resize(x, size, scale=(scale, scale))
            outputs.append(ConvModule(self.out_channels, 3, padding=1, **fields, name=f"convs_{i}")(x, train))
        return tuple(outputs)
