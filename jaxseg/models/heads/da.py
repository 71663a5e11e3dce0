"""DANet head."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxseg.models.heads.decode_head import DecodeHead
from jaxseg.models.layers.attention import SelfAttention, flatten_pixels
from jaxseg.models.layers.conv import bare_conv
from jaxseg.models.layers.norm import at_least_float32
from jaxseg.models.layers.scale import Scale


class DAHead(DecodeHead):
    """Attention between pixels and between channels (Fu et al. 2019, "Dual Attention Network").

    While training, it returns the logits of both together and of each alone, {"pam_cam", "pam", "cam"}: all have the
    head's losses.

    Attributes:
        pam_channels: Of the queries and keys of pixels.
    """

    pam_channels: int = 64

    @nn.compact
    def __call__(self, features: Sequence[Float[Array, "b _ _ _"]], train: bool = False) -> Array | dict[str, Array]:
        """Returns float32 logits at the size of the selected map."""
        self.check()
        x = self.select(features)
        pixels = self.conv_module(3, "pam_in_conv", padding=1)(x, train)
        attention = PositionAttention(
            self.pam_channels,
            self.channels,
            share_key_query=False,
            key_query_num_convs=1,
            value_out_num_convs=1,
            key_query_norm=False,
            value_out_norm=False,
            matmul_norm=False,
            with_out=False,
            norm_cfg=None,
            act_cfg=None,
            name="pam",
        )
        pixels = attention(pixels)
        pixels = self.conv_module(3, "pam_out_conv", padding=1)(pixels, train)
        channels = self.conv_module(3, "cam_in_conv", padding=1)(x, train)
        channels = ChannelAttention(name="cam")(channels)
        channels = self.conv_module(3, "cam_out_conv", padding=1)(channels, train)
        logits = self.classify(pixels + channels, train)
        if not train and not self.is_initializing():
            return logits
        alone = {name: self.classify_alone(y, train, name) for name, y in (("pam", pixels), ("cam", channels))}
        return {"pam_cam": logits, **alone} if train else logits

    def classify_alone(
        self, x: Float[Array, "b h w channels"], train: bool, name: str
    ) -> Float[Array, "b h w num_classes"]:
        """Logits of one of the two attentions."""
        x = self.drop(x, train, f"{name}_dropout")
        logits = bare_conv(self.channels, self.num_classes, name=f"{name}_conv_seg")(x)
        return logits.astype(at_least_float32(x.dtype))


class PositionAttention(SelfAttention):
    """Attention between the pixels of a map."""

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool = False) -> Float[Array, "b h w c"]:
        """Adds what the pixels find, times a learned factor that starts at 0."""
        return x + Scale(0.0, name="gamma")(super().__call__(x, x, train))


class ChannelAttention(nn.Module):
    """Attention between the channels of a map: each turns to those that are least like it."""

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Adds what the channels find, times a learned factor that starts at 0."""
        pixels = flatten_pixels(x)
        likeness = jnp.einsum("bnc,bnd->bcd", pixels, pixels, preferred_element_type=at_least_float32(x.dtype))
        weights = jax.nn.softmax(jnp.max(likeness, axis=-1, keepdims=True) - likeness, axis=-1).astype(x.dtype)
        found = jnp.einsum("bcd,bnd->bnc", weights, pixels).reshape(x.shape)
        return x + Scale(0.0, name="gamma")(found)
