"""Convolution, norm and activation in one block."""

from collections.abc import Callable, Mapping, Sequence

import flax.linen as nn
from jaxtyping import Array, Float

from jaxseg.models.layers.activation import build_activation
from jaxseg.models.layers.conv import Conv
from jaxseg.models.layers.initializers import kaiming_normal
from jaxseg.models.layers.norm import build_norm, norm_name


class ConvModule(nn.Module):
    """Conv -> norm -> activation, the brick of most heads.

    Attributes:
        features, kernel_size, stride, padding, dilation, groups: As in `Conv`.
        norm_cfg: Norm layer, or None.
        act_cfg: Activation, or None.
        use_bias: Whether the convolution has a bias; None: only where no norm follows.
        order: Of the three, by their names "conv", "norm" and "act".
        kernel_init: Initializer of the kernel; None: Kaiming normal, for the activation.
    """

    features: int
    kernel_size: int | Sequence[int] = 3
    stride: int | Sequence[int] = 1
    padding: int | Sequence[int] = 0
    dilation: int | Sequence[int] = 1
    groups: int = 1
    norm_cfg: Mapping | None = None
    act_cfg: Mapping | None = None
    use_bias: bool | None = None
    order: Sequence[str] = ("conv", "norm", "act")
    kernel_init: Callable | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool = False) -> Float[Array, "b h2 w2 features"]:
        """Applies the three layers that are configured."""
        leaky = self.act_cfg is not None and self.act_cfg["type"] == "LeakyReLU"
        slope = self.act_cfg.get("negative_slope", 0.01) if leaky else 0.0
        conv = Conv(
            self.features,
            self.kernel_size,
            self.stride,
            self.padding,
            self.dilation,
            self.groups,
            use_bias=self.norm_cfg is None if self.use_bias is None else self.use_bias,
            kernel_init=self.kernel_init or kaiming_normal(slope),
            name="conv",
        )
        for step in self.order:
            if step == "conv":
                x = conv(x)
            elif step == "norm" and self.norm_cfg is not None:
                x = build_norm(self.norm_cfg, name=norm_name(self.norm_cfg))(x, train)
            elif step == "act" and self.act_cfg is not None:
                x = build_activation(self.act_cfg, name="activate")(x)
        return x


class DepthwiseSeparableConvModule(nn.Module):
    """A depthwise and a pointwise ConvModule (Howard et al. 2017, "MobileNets").

    Attributes:
        features, kernel_size, stride, padding, dilation: As in `Conv`; all but the first are the depthwise one's.
        norm_cfg, act_cfg: Of both.
        dw_act_cfg: Activation of the depthwise one, where it is another; {} for none.
    """

    features: int
    kernel_size: int | Sequence[int] = 3
    stride: int | Sequence[int] = 1
    padding: int | Sequence[int] = 0
    dilation: int | Sequence[int] = 1
    norm_cfg: Mapping | None = None
    act_cfg: Mapping | None = None
    dw_act_cfg: Mapping | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool = False) -> Float[Array, "b h2 w2 features"]:
        """Applies both."""
        channels = x.shape[-1]
        act_cfg = self.act_cfg if self.dw_act_cfg is None else (self.dw_act_cfg or None)
        x = ConvModule(
            channels,
            self.kernel_size,
            self.stride,
            self.padding,
            self.dilation,
            groups=channels,
            norm_cfg=self.norm_cfg,
            act_cfg=act_cfg,
            name="depthwise_conv",
        )(x, train)
        pointwise = ConvModule(self.features, 1, norm_cfg=self.norm_cfg, act_cfg=self.act_cfg, name="pointwise_conv")
        return pointwise(x, train)
