"""OCRNet head."""

from collections.abc import Sequence
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxseg.errors import ConfigError
from jaxseg.models.heads.decode_head import DecodeHead
from jaxseg.models.layers.attention import SelfAttention, flatten_pixels
from jaxseg.models.layers.norm import at_least_float32


class OCRHead(DecodeHead):
    """Pixels attend to the classes' regions (Yuan et al. 2020, "Object-Contextual Representations").

    It refines the logits of the head before it, in a CascadeEncoderDecoder: `head(features, train, logits)`.

    Attributes:
        ocr_channels: Of queries, keys and values.
        scale: What the logits of the head before are multiplied by. The reference accepts more than 1, where it also
            pools the queries, and fails when it runs; only 1 is supported.
    """

    ocr_channels: int | None = None
    scale: int = 1

    dotted_names: ClassVar[Sequence[tuple[str, str]]] = (
        (r"^object_context_block_bottleneck$", "object_context_block.bottleneck"),
    )

    @nn.compact
    def __call__(
        self,
        features: Sequence[Float[Array, "b _ _ _"]],
        train: bool = False,
        logits: Float[Array, "b h w classes"] | None = None,
    ) -> Float[Array, "b h w out_channels"]:
        """Returns float32 logits, given those of the head before, at the size of the selected map."""
        self.check()
        if logits is None:
            raise ConfigError("OCRHead refines the logits of another head: it cannot be the first of its segmentor")
        x = self.select(features)
        if x.shape[:3] != logits.shape[:3]:
            raise self.error("in_index", f"the map is {x.shape[1:3]}, the logits before it are {logits.shape[1:3]}")
        x = self.conv_module(3, "bottleneck", padding=1)(x, train)
        attention = SelfAttention(
            channels=self.ocr_channels,
            out_channels=self.channels,
            share_key_query=False,
            key_query_num_convs=2,
            value_out_num_convs=1,
            key_query_norm=True,
            value_out_norm=True,
            matmul_norm=True,
            with_out=True,
            norm_cfg=self.norm_cfg,
            act_cfg=self.act_cfg,
            name="object_context_block",
        )
        context = attention(x, gather_regions(x, logits), train)
        x = self.conv_module(1, "object_context_block_bottleneck")(jnp.concatenate([context, x], axis=-1), train)
        return self.classify(x, train)

    def check(self) -> None:
        """Raises ConfigError where the fields don't fit each other."""
        super().check()
        if self.ocr_channels is None:
            raise self.error("ocr_channels", "give the channels of queries, keys and values, such as 256")
        if self.scale != 1:
            raise self.error("scale", "only 1 is supported")


def gather_regions(x: Float[Array, "b h w c"], logits: Float[Array, "b h w classes"]) -> Float[Array, "b classes 1 c"]:
    """For every class the mean of the pixels, weighted by how much more likely it is at them than elsewhere."""
    scores = flatten_pixels(logits)
    weights = jax.nn.softmax(scores.astype(at_least_float32(scores.dtype)), axis=1).astype(x.dtype)
    return jnp.einsum("bnk,bnc->bkc", weights, flatten_pixels(x))[:, :, None]
