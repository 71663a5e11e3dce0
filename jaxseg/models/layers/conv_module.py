"""Convolution, norm and activation in one block."""

from collections.abc import Mapping, Sequence

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

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool = False) -> Float[Array, "b h2 w2 features"]:
        """Applies the three layers that are configured."""
        leaky = self.act_cfg is not None and self.act_cfg["type"] == "LeakyReLU"
        slope = self.act_cfg.get("negative_slope", 0.01) if leaky else 0.0
        x = Conv(
            self.features,
            self.kernel_size,
            self.stride,
            self.padding,
            self.dilation,
            self.groups,
            use_bias=self.norm_cfg is None if self.use_bias is None else self.use_bias,
            kernel_init=kaiming_normal(slope),
            name="conv",
        )(x)
        if self.norm_cfg is not None:
            x = build_norm(self.norm_cfg, name=norm_name(self.norm_cfg))(x, train)
        if self.act_cfg is not None:
            x = build_activation(self.act_cfg, name="activate")(x)
        return x
