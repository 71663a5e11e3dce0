"""Joint pyramid upsampling."""

from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxseg.errors import ConfigError
from jaxseg.models.layers.conv_module import ConvModule, DepthwiseSeparableConvModule
from jaxseg.models.layers.resize import resize


class JPU(nn.Module):
    """Makes of several maps one as large as the finest, instead of dilations (Wu et al. 2019, "FastFCN").

    Attributes:
        in_channels: Channels of the maps that come in, finest first.
        mid_channels: Width of the convolutions.
        start_level, end_level: The maps that are joined: from this one, up to before that one; -1: all up to the last.
        dilations: Of the separable convolutions on the joined maps.
        align_corners: Of the resize to the finest map.
        conv_cfg: Kept for configs that state the plain convolution; anything else is refused.
        norm_cfg, act_cfg: Norm and activation of the convolutions.
    """

    in_channels: Sequence[int] = (512, 1024, 2048)
    mid_channels: int = 512
    start_level: int = 0
    end_level: int = -1
    dilations: Sequence[int] = (1, 2, 4, 8)
    align_corners: bool = False
    conv_cfg: Mapping | None = None
    norm_cfg: Mapping | None = nn.FrozenDict(type="BN")
    act_cfg: Mapping | None = nn.FrozenDict(type="ReLU")

    def check(self, features: Sequence[Array]) -> None:
        """Raises ConfigError where the fields don't fit each other or the maps."""
        found, stated = [x.shape[-1] for x in features], list(self.in_channels)
        if found != stated:
            raise ConfigError(f"neck.in_channels={tuple(stated)}: the maps have {found} channels")
        if not 0 <= self.start_level < self.last <= len(stated):
            raise ConfigError(
                f"neck.start_level={self.start_level}, end_level={self.end_level}: no range of {len(stated)} maps"
            )
        if self.conv_cfg is not None and self.conv_cfg.get("type") not in ("Conv2d", "Conv"):
            raise ConfigError(f"neck.conv_cfg={dict(self.conv_cfg)!r}: only the plain convolution is supported")

    @property
    def last(self) -> int:
        """The index after that of the last map that is joined."""
        return len(self.in_channels) if self.end_level == -1 else self.end_level

    @nn.compact
    def __call__(
        self, features: Sequence[Float[Array, "b _ _ _"]], train: bool = False
    ) -> tuple[Float[Array, "b _ _ _"], ...]:
        """Returns the joined maps as they came, but for the last of them.

        In its place is one of the size of the first, with `mid_channels` channels for each of the `dilations`.
        """
        self.check(features)
        norms = {"norm_cfg": self.norm_cfg, "act_cfg": self.act_cfg}
        joined = features[self.start_level : self.last]
        levels = []
        # In the reference each convolution is a sequence of one: hence the second 0.
        for i, x in enumerate(joined):
            y = ConvModule(self.mid_channels, 3, padding=1, **norms, name=f"conv_layers_{i}_0")(x, train)
            levels.append(resize(y, joined[0].shape[1:3], align_corners=self.align_corners))
        y = jnp.concatenate(levels, axis=-1)
        outputs = []
        for i, dilation in enumerate(self.dilations):
            conv = DepthwiseSeparableConvModule(
                self.mid_channels,
                3,
                padding=dilation,
                dilation=dilation,
                **norms,
                dw_act_cfg={},
                name=f"dilation_layers_{i}_0",
            )
            outputs.append(conv(y, train))
        return (*joined[:-1], jnp.concatenate(outputs, axis=-1))
