"""Feature pyramid network."""

from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
from jaxtyping import Array, Float

from jaxseg.errors import ConfigError
from jaxseg.models.layers.conv_module import ConvModule
from jaxseg.models.layers.resize import resize

SOURCES = ("on_input", "on_lateral", "on_output")


class FPN(nn.Module):
    """Brings maps to one width and adds coarser ones to finer ones (Lin et al. 2017, "Feature Pyramid Networks").

    Attributes:
        in_channels: Channels of the maps that come in, finest first.
        out_channels: Channels of every map that goes out.
        num_outs: How many go out: one for each that is used, and further ones of half the size each.
        start_level, end_level: The first map that is used, and the one after the last; -1: up to the last.
        add_extra_convs: How further maps are made: False: by leaving out every other pixel; otherwise by convolutions
            of stride 2, of "on_input" (the last map that is used), "on_lateral" (that in the new width) or
            "on_output" (or True, the last output).
        extra_convs_on_inputs: Whether True means "on_input".
        relu_before_extra_convs: Whether a ReLU is between these convolutions.
        no_norm_on_lateral: Whether the convolutions that change the width have no norm.
        conv_cfg: Kept for configs that state the plain convolution; anything else is refused.
        norm_cfg, act_cfg: Norm and activation of the convolutions.
        upsample_cfg: How coarser maps are resized to finer ones: `mode` and `align_corners`.
    """

    in_channels: Sequence[int]
    out_channels: int
    num_outs: int
    start_level: int = 0
    end_level: int = -1
    add_extra_convs: bool | str = False
    extra_convs_on_inputs: bool = False
    relu_before_extra_convs: bool = False
    no_norm_on_lateral: bool = False
    conv_cfg: Mapping | None = None
    norm_cfg: Mapping | None = None
    act_cfg: Mapping | None = None
    upsample_cfg: Mapping = nn.FrozenDict(mode="nearest")

    @nn.compact
    def __call__(
        self, features: Sequence[Float[Array, "b _ _ _"]], train: bool = False
    ) -> tuple[Float[Array, "b _ _ out_channels"], ...]:
        """Returns `num_outs` maps, finest first."""
        end = len(self.in_channels) if self.end_level == -1 else self.end_level
        self.check([x.shape[-1] for x in features], end)
        used = features[self.start_level : end]

        laterals = [self.lateral(i)(x, train) for i, x in enumerate(used)]
        for i in range(len(laterals) - 1, 0, -1):
            laterals[i - 1] += resize(laterals[i], laterals[i - 1].shape[1:3], **self.upsample_cfg)

        outputs = [self.conv(i)(x, train) for i, x in enumerate(laterals)]
        if not self.add_extra_convs:
            while len(outputs) < self.num_outs:
                outputs.append(outputs[-1][:, ::2, ::2])
        elif len(outputs) < self.num_outs:
            source = self.add_extra_convs
            if source is True:
                source = "on_input" if self.extra_convs_on_inputs else "on_output"
            x = {"on_input": used[-1], "on_lateral": laterals[-1], "on_output": outputs[-1]}[source]
            while len(outputs) < self.num_outs:
                outputs.append(self.conv(len(outputs), stride=2)(x, train))
                x = jax.nn.relu(outputs[-1]) if self.relu_before_extra_convs else outputs[-1]
        return tuple(outputs)

    def lateral(self, i: int) -> ConvModule:
        """The convolution that changes the width of the i-th map."""
        return self.module(1, f"lateral_convs_{i}", norm_cfg=None if self.no_norm_on_lateral else self.norm_cfg)

    def conv(self, i: int, stride: int = 1) -> ConvModule:
        """The 3x3 convolution that makes output i."""
        return self.module(3, f"fpn_convs_{i}", stride=stride, padding=1, norm_cfg=self.norm_cfg)

    def module(self, kernel_size: int, name: str, **conv: Any) -> ConvModule:
        """A ConvModule of this neck's width and activation; all start with Xavier's uniform values."""
        init = nn.initializers.xavier_uniform()
        return ConvModule(self.out_channels, kernel_size, act_cfg=self.act_cfg, kernel_init=init, name=name, **conv)

    def check(self, found: list[int], end: int) -> None:
        """Raises ConfigError where the fields don't fit each other, or the maps."""
        if found != list(self.in_channels):
            raise self.error("in_channels", f"the maps have {found} channels")
        if not 0 <= self.start_level < end <= len(found):
            raise self.error(
                "end_level", f"must be -1, or above start_level={self.start_level} and at most {len(found)}"
            )
        used = end - self.start_level
        if self.num_outs < used or (self.end_level != -1 and self.num_outs != used):
            raise self.error("num_outs", f"{used} maps are used; only with end_level=-1 there can be more outputs")
        if self.add_extra_convs not in (False, True, *SOURCES):
            raise self.error("add_extra_convs", f"allowed: False, True, {SOURCES}")
        if self.conv_cfg is not None and self.conv_cfg.get("type") not in ("Conv2d", "Conv"):
            raise self.error("conv_cfg", "only the plain convolution is supported")
        if not set(self.upsample_cfg) <= {"mode", "align_corners"}:
            raise self.error("upsample_cfg", "allowed are mode and align_corners")

    def error(self, field: str, reason: str) -> ConfigError:
        """A ConfigError about one of this neck's fields."""
        return ConfigError(f"neck.{field}={getattr(self, field)!r}: {reason}")
