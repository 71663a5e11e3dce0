"""The attention refinement module that BiSeNet and STDC share."""

import flax.linen as nn
import jax
from jaxtyping import Array, Float

from jaxseg.models.layers.conv_module import ConvModule
from jaxseg.models.layers.pooling import adaptive_avg_pool

BN = nn.FrozenDict(type="BN")
RELU = nn.FrozenDict(type="ReLU")


class AttentionRefinement(nn.Module):
    """A convolution whose channels the image as a whole reweighs (Yu et al. 2018, "BiSeNet").

    Attributes:
        channels: Channels of the output.
    """

    channels: int

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool = False) -> Float[Array, "b h w channels"]:
        """Applies the module."""
        x = ConvModule(self.channels, 3, padding=1, norm_cfg=BN, act_cfg=RELU, name="conv_layer")(x, train)
        # The first of the reference's sequence is the pooling.
        gate = ConvModule(self.channels, 1, norm_cfg=BN, name="atten_conv_layer_1")(adaptive_avg_pool(x, 1), train)
        return x * jax.nn.sigmoid(gate)
