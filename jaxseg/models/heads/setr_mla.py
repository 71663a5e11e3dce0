"""SETR head that joins several maps: multi-level aggregation."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxseg.models.heads.decode_head import DecodeHead
from jaxseg.models.heads.setr_up import enlarge


class SETRMLAHead(DecodeHead):
    """Two convolutions and a resize for each of several maps, which are then joined (Zheng et al. 2021, "SETR").

    Attributes:
        mla_channels: Width of the convolutions; `channels` is that times the number of maps.
        up_scale: The factor of the resizes.
    """

    input_transform: str | None = "multiple_select"
    mla_channels: int = 128
    up_scale: int = 4

    def decode(self, x: list[Float[Array, "b h w _"]], train: bool) -> Float[Array, "b h2 w2 channels"]:
        """The maps must be of one size; the result is up_scale times as large."""
        if self.channels != len(x) * self.mla_channels:
            raise self.error("channels", f"must be mla_channels={self.mla_channels} for each of {len(x)} maps")
        outputs = []
        for i, level in enumerate(x):
            for j in range(2):
                level = self.conv_module(3, f"up_convs_{i}_{j}", self.mla_channels, padding=1)(level, train)
            outputs.append(enlarge(level, self.up_scale, self.align_corners))
        return jnp.concatenate(outputs, axis=-1)
