"""Fast-SCNN head."""

from collections.abc import Mapping

import flax.linen as nn

from jaxseg.models.heads.fcn import FCNHead
from jaxseg.models.layers.conv_module import DepthwiseSeparableConvModule


class DepthwiseSeparableFCNHead(FCNHead):
    """An FCN head of separable convolutions (Poudel et al. 2019, "Fast-SCNN: Fast Semantic Segmentation Network").

    Attributes:
        dw_act_cfg: Activation of the depthwise convolutions, or None; "default": the pointwise ones', a ReLU.
    """

    dw_act_cfg: Mapping | str | None = None

    def check(self) -> None:
        """Raises ConfigError where the fields don't fit each other."""
        super().check()
        if self.num_convs < 1:
            raise self.error("num_convs", "must be at least 1")
        if self.dilation != 1:
            raise self.error("dilation", "separable convolutions are not dilated here")

    def conv_module(self, kernel_size: int, name: str, features: int | None = None, **conv) -> nn.Module:
        """A separable convolution with this head's norm and (by default) width."""
        dw_act_cfg = None if self.dw_act_cfg == "default" else self.dw_act_cfg or {}
        return DepthwiseSeparableConvModule(
            self.channels if features is None else features,
            kernel_size,
            norm_cfg=self.norm_cfg,
            act_cfg={"type": "ReLU"},
            dw_act_cfg=dw_act_cfg,
            name=name,
            **conv,
        )
