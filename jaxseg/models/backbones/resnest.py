"""ResNeSt."""

from collections.abc import Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxseg.models.backbones.resnet import Architectures, ResNetV1d
from jaxseg.models.backbones.resnext import GroupedBottleneck
from jaxseg.models.layers.conv import Conv
from jaxseg.models.layers.norm import at_least_float32, build_norm, norm_name
from jaxseg.models.layers.pooling import avg_pool
from jaxseg.models.names import Source


class SplitAttention(nn.Module):
    """A convolution with several results, which are weighed against one another for every channel.

    Attributes:
        features: Output channels.
        stride, dilation, groups: Of the 3x3 convolution; the groups are those of one result.
        radix: Number of results; with 1, the one is gated.
        reduction_factor: How much narrower the hidden layer of the weights is.
        norm_cfg: Norm layers.
    """

    features: int
    stride: int
    dilation: int
    groups: int
    radix: int
    reduction_factor: int
    norm_cfg: Mapping

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool = False) -> Float[Array, "b h2 w2 features"]:
        """Returns the weighed sum of the results."""
        hidden = max(x.shape[-1] * self.radix // self.reduction_factor, 32)
        x = Conv(
            self.features * self.radix,
            3,
            self.stride,
            padding=self.dilation,
            dilation=self.dilation,
            groups=self.groups * self.radix,
            use_bias=False,
            name="conv",
        )(x)
        x = jax.nn.relu(build_norm(self.norm_cfg, name=norm_name(self.norm_cfg, 0))(x, train))
        splits = x.reshape(*x.shape[:3], self.radix, self.features)

        wide = splits.astype(at_least_float32(x.dtype))
        pooled = jnp.mean(jnp.sum(wide, axis=3), axis=(1, 2), keepdims=True).astype(x.dtype)
        scores = Conv(hidden, 1, groups=self.groups, name="fc1")(pooled)
        scores = jax.nn.relu(build_norm(self.norm_cfg, name=norm_name(self.norm_cfg, 1))(scores, train))
        scores = Conv(self.features * self.radix, 1, groups=self.groups, name="fc2")(scores)
        return jnp.sum(splits * self.weights(scores.astype(wide.dtype)).astype(x.dtype), axis=3)

    def weights(self, scores: Float[Array, "b 1 1 n"]) -> Float[Array, "b 1 1 radix features"]:
        """Of every result and channel; the scores have the results of a group side by side."""
        if self.radix == 1:
            return jax.nn.sigmoid(scores)[..., None, :]
        scores = scores.reshape(-1, 1, 1, self.groups, self.radix, self.features // self.groups)
        weights = jax.nn.softmax(scores, axis=4).swapaxes(3, 4)
        return weights.reshape(-1, 1, 1, self.radix, self.features)


class SplitAttentionBottleneck(GroupedBottleneck):
    """A bottleneck with split attention in place of its 3x3 convolution.

    Attributes:
        radix, reduction_factor: As in `SplitAttention`.
        avg_down_stride: Whether a pooling after it takes the stride.
    """

    radix: int = 2
    reduction_factor: int = 4
    avg_down_stride: bool = True

    def middle(self, x: Array, train: bool, stride: int) -> Array:
        """Split attention, and the pooling."""
        pools = self.avg_down_stride and stride > 1
        x = SplitAttention(
            features=self.width,
            stride=1 if pools else stride,
            dilation=self.dilation,
            groups=self.groups,
            radix=self.radix,
            reduction_factor=self.reduction_factor,
            norm_cfg=self.norm_cfg,
            name="conv2",
        )(x, train)
        return avg_pool(x, 3, stride, padding=1) if pools else x


class ResNeSt(ResNetV1d):
    """ResNetV1d with split attention (Zhang et al. 2020, "ResNeSt: Split-Attention Networks").

    Attributes:
        groups, base_width: Number of groups, and how wide one is in the first stage.
        radix, reduction_factor, avg_down_stride: See `SplitAttentionBottleneck`.
        zero_init_residual: Kept for configs that state it; the reference starts these blocks without it.
    """

    groups: int = 1
    base_width: int = 4
    radix: int = 2
    reduction_factor: int = 4
    avg_down_stride: bool = True

    architectures: ClassVar[Architectures] = {
        50: (SplitAttentionBottleneck, (3, 4, 6, 3)),
        101: (SplitAttentionBottleneck, (3, 4, 23, 3)),
        152: (SplitAttentionBottleneck, (3, 8, 36, 3)),
        200: (SplitAttentionBottleneck, (3, 24, 36, 3)),
    }
    # torchvision has no such network.
    sources: ClassVar[Mapping[str, Source]] = {"mmpretrain": ResNetV1d.sources["mmpretrain"]}

    def block_fields(self) -> dict[str, Any]:
        """The fields that all blocks have in common and that depend on the kind of network."""
        return {
            "zero_init": False,
            "groups": self.groups,
            "base_width": self.base_width,
            "base_channels": self.base_channels,
            "radix": self.radix,
            "reduction_factor": self.reduction_factor,
            "avg_down_stride": self.avg_down_stride,
        }
