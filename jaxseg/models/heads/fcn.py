"""FCN head."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxseg.models.heads.decode_head import DecodeHead


class FCNHead(DecodeHead):
    """A few convolutions and a classifier (Long et al. 2015, "Fully Convolutional Networks").

    Attributes:
        num_convs: Number of convolutions; 0 classifies the input itself.
        kernel_size: Of the convolutions.
        concat_input: Whether one more convolution joins the input with the convolutions' output.
        dilation: Of the `num_convs` convolutions.
    """

    num_convs: int = 2
    kernel_size: int = 3
    concat_input: bool = True
    dilation: int = 1

    def decode(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b h w channels"]:
        """Applies the convolutions."""
        if self.num_convs == 0 and x.shape[-1] != self.channels:
            raise self.error("channels", f"num_convs=0 classifies the input, which has {x.shape[-1]} channels")
        padding = self.kernel_size // 2
        y = x
        for i in range(self.num_convs):
            block = self.conv_module(
                self.kernel_size, f"convs_{i}", padding=padding * self.dilation, dilation=self.dilation
            )
            y = block(y, train)
            if i == 0:
                y = self.between(y, train)
        if self.concat_input:
            joined = jnp.concatenate([x, y], axis=-1)
            y = self.conv_module(self.kernel_size, "conv_cat", padding=padding)(joined, train)
        return y

    def between(self, x: Float[Array, "b h w channels"], train: bool) -> Float[Array, "b h w channels"]:
        """What comes after the first convolution: nothing here, heads built on this one define it."""
        return x
