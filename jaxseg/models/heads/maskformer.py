"""MaskFormer head."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxseg.models.heads.mask_classification import MaskClassificationHead, Queries
from jaxseg.models.layers.attention import flatten_pixels
from jaxseg.models.layers.detr import Table, build_layer
from jaxseg.models.layers.positions import SinePositions


class MaskFormerHead(MaskClassificationHead):
    """Queries that look at the coarsest features (Cheng et al. 2021, "Per-Pixel Classification")."""

    def decode(self, x: list[Float[Array, "b _ _ _"]], train: bool) -> list[Queries]:
        """The queries' classes and masks after every layer."""
        mask_feature, memory = self.build_pixel_decoder()(x, train)
        memory = self.project(memory, "decoder_input_proj")
        positions = build_layer(SinePositions, self.positional_encoding, "decoder_pe")(memory.shape[1:3])
        positions, memory = positions.reshape(-1, positions.shape[-1]), flatten_pixels(memory)
        queries = Table(self.num_queries, self.out_channels, name="query_embed")()
        query = jnp.zeros((len(memory), *queries.shape), memory.dtype)
        decoder, predict = self.build_decoder(), self.predictor()
        outputs = []
        for i in range(decoder.num_layers):
            query = decoder.step(i, query, queries, memory, positions, train=train)
            if train or i == decoder.num_layers - 1:
                outputs.append(predict(decoder.norm(query), mask_feature))
        return outputs
