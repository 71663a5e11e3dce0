"""What the heads of DDRNet and PIDNet share."""

from collections.abc import Sequence

import flax.linen as nn
from jaxtyping import Array, Float

from jaxseg.models.heads.decode_head import DecodeHead
from jaxseg.models.layers.activation import build_activation
from jaxseg.models.layers.conv import Conv
from jaxseg.models.layers.conv_module import ConvModule
from jaxseg.models.layers.dual_resolution import PRE_ACTIVATION
from jaxseg.models.layers.initializers import default_bias, kaiming_normal
from jaxseg.models.layers.norm import at_least_float32, build_norm


class BranchHead(DecodeHead):
    """A head on the maps of all branches of a backbone, most of which only learn; see `losses.branches`."""

    def maps(self, features: Sequence[Array], channels: Sequence[int]) -> Sequence[Array]:
        """The branches' maps.

        Raises:
            ConfigError: They have other channels.
        """
        found = [x.shape[-1] for x in features]
        if found != list(channels):
            raise self.error("in_channels", f"needs maps of {list(channels)} channels; they have {found}")
        return features

    def check_losses(self, count: int) -> None:
        """Raises ConfigError unless there are so many losses."""
        if not isinstance(self.loss_decode, Sequence) or len(self.loss_decode) != count:
            raise self.error("loss_decode", f"needs {count} losses")

    def decode_branch(
        self, x: Float[Array, "b h w c"], train: bool, channels: int, conv_name: str, norm_name: str
    ) -> Float[Array, "b h w channels"]:
        """Norm, activation and a convolution, then norm and activation again."""
        conv = ConvModule(
            channels, 3, padding=1, norm_cfg=self.norm_cfg, act_cfg=self.act_cfg, order=PRE_ACTIVATION, name=conv_name
        )
        x = build_norm(self.norm_cfg, name=norm_name)(conv(x, train), train)
        return build_activation(self.act_cfg)(x)

    def classify(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b h w out_channels"]:
        """Drops whole channels while training, then classifies every pixel."""
        drop = train and self.has_rng("dropout")
        x = nn.Dropout(self.dropout_ratio, broadcast_dims=(1, 2), name="dropout")(x, deterministic=not drop)
        return self.classifier(x, self.logit_channels, "conv_seg")

    def classifier(self, x: Float[Array, "b h w c"], features: int, name: str) -> Float[Array, "b h w features"]:
        """Float32 logits; the weights start otherwise than those of other heads."""
        bias = default_bias(fan_in=x.shape[-1])
        logits = Conv(features, 1, kernel_init=kaiming_normal(), bias_init=bias, name=name)(x)
        return logits.astype(at_least_float32(x.dtype))
