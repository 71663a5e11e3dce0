"""ISANet head."""

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxseg.models.heads.decode_head import DecodeHead
from jaxseg.models.layers.attention import SelfAttention
from jaxseg.models.layers.conv_module import ConvModule


class ISAHead(DecodeHead):
    """Attention among pixels far apart, then among near ones (Huang et al. 2019, "Interlaced Sparse Self-Attention").

    The map is cut into patches. The pixels at the same place of all patches attend to one another, and then those of
    each patch: a pixel hears of every other in two steps.

    Attributes:
        isa_channels: Channels of queries and keys.
        down_factor: Rows and columns of a patch.
    """

    isa_channels: int = 256
    down_factor: Sequence[int] = (8, 8)

    def decode(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b h w channels"]:
        """Joins the map with what its pixels say to each other."""
        x = self.conv_module(3, "in_conv", padding=1)(x, train)
        batch, height, width, channels = x.shape
        rows, columns = self.down_factor
        down, across = -(-height // rows), -(-width // columns)
        extra = down * rows - height, across * columns - width
        padded = jnp.pad(x, ((0, 0), *((e // 2, e - e // 2) for e in extra), (0, 0)))

        y = padded.reshape(batch, down, rows, across, columns, channels)
        y = y.transpose(0, 2, 4, 1, 3, 5).reshape(-1, down, across, channels)
        y = self.relation("global_relation")(y, train)
        y = y.reshape(batch, rows, columns, down, across, channels)
        y = y.transpose(0, 3, 4, 1, 2, 5).reshape(-1, rows, columns, channels)
        y = self.relation("local_relation")(y, train)
        y = y.reshape(batch, down, across, rows, columns, channels)
        y = y.transpose(0, 1, 3, 2, 4, 5).reshape(padded.shape)

        top, left = extra[0] // 2, extra[1] // 2
        y = y[:, top : top + height, left : left + width]
        return self.conv_module(1, "out_conv")(jnp.concatenate([y, x], axis=-1), train)

    def relation(self, name: str) -> "Relation":
        """Attention among the pixels of each map."""
        return Relation(
            channels=self.isa_channels,
            out_channels=self.channels,
            share_key_query=False,
            key_query_num_convs=2,
            value_out_num_convs=1,
            key_query_norm=True,
            value_out_norm=False,
            matmul_norm=True,
            with_out=False,
            norm_cfg=self.norm_cfg,
            act_cfg=self.act_cfg,
            name=name,
        )


class Relation(SelfAttention):
    """A SelfAttention of a map with itself, and a convolution."""

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool = False) -> Float[Array, "b h w out_channels"]:
        """What the pixels find in their own map."""
        context = super().__call__(x, x, train)
        project = ConvModule(self.out_channels, 1, norm_cfg=self.norm_cfg, act_cfg=self.act_cfg, name="output_project")
        return project(context, train)
