"""Mask2Former head."""

from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxseg.models.heads.mask_classification import MaskClassificationHead, Queries
from jaxseg.models.layers.attention import flatten_pixels
from jaxseg.models.layers.conv import Pair
from jaxseg.models.layers.detr import XAVIER_NORMAL, Table, build_layer
from jaxseg.models.layers.pixel_decoder import attention_levels
from jaxseg.models.layers.positions import SinePositions
from jaxseg.models.layers.resize import resize


class Mask2FormerHead(MaskClassificationHead):
    """Queries that look at one map after the other, each where its mask is (Cheng et al. 2022, "Masked-attention").

    Attributes:
        num_transformer_feat_level: How many maps.
        strides: Kept for configs that state them; the sizes of the maps say as much.
    """

    pixel_decoder: Mapping = nn.FrozenDict(type="mmdet.MSDeformAttnPixelDecoder")
    loss_mask: Mapping = nn.FrozenDict(type="mmdet.CrossEntropyLoss", use_sigmoid=True)
    num_transformer_feat_level: int = 3
    strides: Sequence[int] | None = None

    def decode(self, x: list[Float[Array, "b _ _ _"]], train: bool) -> list[Queries]:
        """The queries' classes and masks before the first layer and after every layer."""
        levels = self.num_transformer_feat_level
        if attention_levels(self.pixel_decoder.get("encoder", {})) != levels:
            raise self.error("num_transformer_feat_level", "must be the num_levels of pixel_decoder's attention")
        mask_feature, maps = self.build_pixel_decoder()(x, train)
        sizes = [feature.shape[1:3] for feature in maps]
        level_embed = Table(levels, self.feat_channels, name="level_embed")()
        encode = build_layer(SinePositions, self.positional_encoding, "decoder_positional_encoding")
        positions = [encode(size).reshape(-1, self.decoder_channels) for size in sizes]
        memories = [
            flatten_pixels(self.project(feature, f"decoder_input_projs_{i}")) + embed.astype(feature.dtype)
            for i, (feature, embed) in enumerate(zip(maps, level_embed, strict=True))
        ]
        queries = Table(self.num_queries, self.feat_channels, name="query_embed")()
        content = Table(self.num_queries, self.feat_channels, name="query_feat")().astype(mask_feature.dtype)
        query = jnp.broadcast_to(content, (len(mask_feature), *content.shape))
        decoder, predict = self.build_decoder(memory_first=True, weight_init=XAVIER_NORMAL), self.predictor()
        outputs = [predict(decoder.norm(query), mask_feature)]
        for i in range(decoder.num_layers):
            level = i % levels
            hidden = outside(outputs[-1][1], sizes[level])
            query = decoder.step(i, query, queries, memories[level], positions[level], hidden, train=train)
            outputs.append(predict(decoder.norm(query), mask_feature))
        return outputs


def outside(masks: Float[Array, "b h w q"], size: Pair) -> Bool[Array, "b q n"]:
    """The pixels of a map of that size which are not in a query's mask; none, where the mask is empty."""
    logits = flatten_pixels(resize(jax.lax.stop_gradient(masks), size)).swapaxes(1, 2)
    hidden = jax.nn.sigmoid(logits) < 0.5
    return hidden & ~jnp.all(hidden, axis=-1, keepdims=True)
