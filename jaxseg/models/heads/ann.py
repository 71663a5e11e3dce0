"""ANN head."""

from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxseg.models.heads.decode_head import DecodeHead
from jaxseg.models.layers.attention import SelfAttention
from jaxseg.models.layers.conv_module import ConvModule
from jaxseg.models.layers.pooling import adaptive_avg_pool


class ANNHead(DecodeHead):
    """Attention to a few pooled pixels (Zhu et al. 2019, "Asymmetric Non-local Neural Networks").

    The higher of two maps first looks at the lower one, and the result, reduced, at itself.

    Attributes:
        project_channels: Of queries, keys and values.
        query_scales: An attention for each, whose results are summed. All must be 1: the reference, too, fails to
            bring pooled queries back to the size of the map.
        key_pool_scales: Cells along each side of the grids that keys and values are pooled to.
    """

    input_transform: str | None = "multiple_select"
    project_channels: int = 256
    query_scales: Sequence[int] = (1,)
    key_pool_scales: Sequence[int] = (1, 3, 6, 8)

    # The projection of keys is that of queries as well, and in the state dict under both names.
    second_names = ((r"^(context\.stages\.\d+)\.key_project\.", r"\1.query_project."),)

    def check(self) -> None:
        """Raises ConfigError where the fields don't fit each other."""
        super().check()
        if self.input_transform != "multiple_select" or len(self.in_channels) != 2:
            raise self.error("in_channels", "needs two maps, the lower first, and input_transform='multiple_select'")
        if set(self.query_scales) != {1}:
            raise self.error("query_scales", "all must be 1")

    def decode(self, x: list[Float[Array, "b _ _ _"]], train: bool) -> Float[Array, "b h w channels"]:
        """Both attentions; the maps must be of one size."""
        low, high = x
        common = {
            "channels": self.project_channels,
            "stages": len(self.query_scales),
            "pool_scales": self.key_pool_scales,
            "norm_cfg": self.norm_cfg,
            "act_cfg": self.act_cfg,
        }
        fusion = PooledAttention(high.shape[-1], **common, share_key_query=False, activate=False, name="fusion")
        y = self.drop(fusion(high, low, train), train, "fusion_dropout")
        y = self.conv_module(3, "bottleneck", padding=1)(y, train)
        return PooledAttention(self.channels, **common, share_key_query=True, activate=True, name="context")(
            y, y, train
        )


class PooledAttention(nn.Module):
    """Attention from all pixels of one map to those that another is pooled to, joined with the former.

    Attributes:
        out_channels: Of what is found, and of the result.
        channels: Of queries, keys and values.
        stages: How many attentions there are; what they find is summed.
        pool_scales: Cells along each side of the grids.
        share_key_query: Whether keys and queries have one projection.
        norm_cfg, act_cfg: As in the head that owns it.
        activate: Whether the result has an activation.
    """

    out_channels: int
    channels: int
    stages: int
    pool_scales: Sequence[int]
    share_key_query: bool
    norm_cfg: Mapping | None
    act_cfg: Mapping | None
    activate: bool

    @nn.compact
    def __call__(
        self, query_map: Float[Array, "b h w c"], key_map: Float[Array, "b h2 w2 c2"], train: bool = False
    ) -> Float[Array, "b h w out_channels"]:
        """Joins `query_map` with what its pixels find in `key_map`."""
        found = []
        for i in range(self.stages):
            attention = SelfAttention(
                self.channels,
                self.out_channels,
                share_key_query=self.share_key_query,
                key_query_num_convs=1,
                value_out_num_convs=1,
                key_query_norm=True,
                value_out_norm=False,
                matmul_norm=True,
                with_out=True,
                norm_cfg=self.norm_cfg,
                act_cfg=self.act_cfg,
                key_downsample=self.pool,
                name=f"stages_{i}",
            )
            found.append(attention(query_map, key_map, train))
        act_cfg = self.act_cfg if self.activate else None
        bottleneck = ConvModule(self.out_channels, 1, norm_cfg=self.norm_cfg, act_cfg=act_cfg, name="bottleneck")
        return bottleneck(jnp.concatenate([sum(found), query_map], axis=-1), train)

    def pool(self, x: Float[Array, "b h w c"]) -> Float[Array, "b 1 n c"]:
        """The cells of all grids in one row."""
        grids = [adaptive_avg_pool(x, scale) for scale in self.pool_scales]
        return jnp.concatenate([grid.reshape(x.shape[0], 1, -1, x.shape[-1]) for grid in grids], axis=2)
