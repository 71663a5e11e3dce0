"""MobileNetV2."""

from collections.abc import Mapping, Sequence

import flax.linen as nn
from jaxtyping import Array, Float

from jaxseg.errors import ConfigError
from jaxseg.models.layers.conv_module import ConvModule
from jaxseg.models.layers.freezing import FrozenStages
from jaxseg.models.layers.inverted_residual import InvertedResidual, make_divisible

# Of each stage: how much its blocks widen, their channels, their number.
STAGES = ((1, 16, 1), (6, 24, 2), (6, 32, 3), (6, 64, 4), (6, 96, 3), (6, 160, 3), (6, 320, 1))


class MobileNetV2(FrozenStages, nn.Module):
    """Inverted residual blocks (Sandler et al. 2018, "MobileNetV2: Inverted Residuals and Linear Bottlenecks").

    Attributes:
        widen_factor: Times as many channels, rounded to multiples of 8.
        in_channels: Channels of the image.
        strides, dilations: Of the first block of each of the seven stages.
        out_indices: Stages whose outputs are returned.
        frozen_stages: The stem and this many stages are not trained; -1: everything is.
        conv_cfg: Kept for configs that state the plain convolution.
        norm_cfg, act_cfg: Norm layers and activations.
        norm_eval: Use the running statistics while training, and leave them as they are.
        with_cp: Recompute each block's activations in the backward pass, to save memory.
    """

    widen_factor: float = 1.0
    in_channels: int = 3
    strides: Sequence[int] = (1, 2, 2, 2, 1, 2, 1)
    dilations: Sequence[int] = (1, 1, 1, 1, 1, 1, 1)
    out_indices: Sequence[int] = (1, 2, 4, 6)
    frozen_stages: int = -1
    conv_cfg: Mapping | None = None
    norm_cfg: Mapping = nn.FrozenDict(type="BN")
    act_cfg: Mapping = nn.FrozenDict(type="ReLU6")
    norm_eval: bool = False
    with_cp: bool = False

    def check(self) -> None:
        """Raises ConfigError where the fields don't fit each other."""
        count = len(STAGES)
        for name in ("strides", "dilations"):
            if len(getattr(self, name)) != count:
                raise ConfigError(f"backbone.{name}={tuple(getattr(self, name))} needs {count} entries")
        if not set(self.strides) <= {1, 2}:
            raise ConfigError(f"backbone.strides={tuple(self.strides)}: each is 1 or 2")
        if not set(self.out_indices) <= set(range(count)):
            raise ConfigError(f"backbone.out_indices={tuple(self.out_indices)}: there are stages 0 to {count - 1}")
        if not -1 <= self.frozen_stages < count:
            raise ConfigError(f"backbone.frozen_stages={self.frozen_stages} is not between -1 and {count - 1}")
        if self.conv_cfg is not None and self.conv_cfg.get("type") not in ("Conv2d", "Conv"):
            raise ConfigError(f"backbone.conv_cfg={self.conv_cfg!r}: only the plain convolution is supported")

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool = False) -> tuple[Float[Array, "b _ _ _"], ...]:
        """Returns the outputs of the stages `out_indices`: strides are twice the running product of `strides`."""
        self.check()
        layers = {"norm_cfg": self.norm_cfg, "act_cfg": self.act_cfg}
        features = make_divisible(32 * self.widen_factor)
        x = ConvModule(features, 3, 2, 1, name="conv1", **layers)(x, self.trains(train, stage=0))
        x = self.freeze(x, stage=0)

        block = nn.remat(InvertedResidual, static_argnums=(2,)) if self.with_cp else InvertedResidual
        outputs = []
        for stage, (expand_ratio, channels, blocks) in enumerate(STAGES):
            for i in range(blocks):
                # Blocks after the first are not dilated, so it is in the reference.
                stride, dilation = (self.strides[stage], self.dilations[stage]) if i == 0 else (1, 1)
                x = block(
                    make_divisible(channels * self.widen_factor),
                    stride,
                    expand_ratio,
                    dilation,
                    name=f"layer{stage + 1}_{i}",
                    **layers,
                )(x, self.trains(train, stage + 1))
            x = self.freeze(x, stage + 1)
            if stage in self.out_indices:
                outputs.append(x)
        return tuple(outputs)

    def frozen_parameters(self) -> tuple[str, ...]:
        """Prefixes of the parameter paths that are not trained, for the optimizer."""
        if self.frozen_stages < 0:
            return ()
        return ("conv1/", *(f"layer{stage}_" for stage in range(1, self.frozen_stages + 1)))
