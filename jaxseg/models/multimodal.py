"""Segmentors that know their classes by name."""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import numpy as np
from jaxtyping import Array, Float

from jaxseg.errors import ConfigError
from jaxseg.models.layers.freezing import FrozenParts
from jaxseg.models.layers.resize import resize
from jaxseg.models.names import Source

# What is no part of CLIP.
BESIDE_CLIP = r"^(?:decode_head\.side_adapter_network\.|text_encoder\.bg_embed$)"


def clip_source(depth: int, fit: Callable | None) -> Source:
    """The authors' checkpoints of CLIP with a vision transformer, whose layers from `depth` on are the head's.

    Args:
        depth: Layers of the image encoder.
        fit: What resizes its table of positions, see `Source`.
    """
    own, others = r"^(image_encoder\.layers\.\d+)\.", r"\.(layers|transformer)\.(\d+)\."

    def place(found: re.Match) -> str:
        layer = int(found[1])
        first = layer < depth
        return f"image_encoder.layers.{layer}." if first else f"decode_head.rec_with_attnbias.layers.{layer - depth}."

    return Source(
        rules=(
            (r"^visual\.transformer\.resblocks\.(\d+)\.", place),
            (r"^transformer\.resblocks\.", "text_encoder.transformer."),
            (r"^(?=(?:positional_embedding|text_projection|logit_scale|token_embedding|ln_final)\b)", "text_encoder."),
            (r"^visual\.class_embedding$", "image_encoder.cls_token"),
            (r"^visual\.positional_embedding$", "image_encoder.pos_embed"),
            (r"^visual\.conv1\.", "image_encoder.patch_embed.projection."),
            (r"^visual\.ln_pre\.", "image_encoder.ln_pre."),
            (r"^visual\.ln_post\.", "decode_head.rec_with_attnbias.ln_post."),
            (r"^visual\.proj$", "decode_head.rec_with_attnbias.proj.weight"),
            (own + r"ln_(\d)\.", r"\1.ln\2."),
            (own + r"attn\.", r"\1.attn.attn."),
            (own + r"mlp\.c_fc\.", r"\1.ffn.layers.0.0."),
            (own + r"mlp\.c_proj\.", r"\1.ffn.layers.1."),
            (others + r"ln_(\d)\.", lambda found: f".{found[1]}.{found[2]}.norms.{int(found[3]) - 1}."),
            (others + r"attn\.(?!attn\.)", r".\1.\2.attentions.0.attn."),
            (others + r"mlp\.c_fc\.", r".\1.\2.ffns.0.layers.0.0."),
            (others + r"mlp\.c_proj\.", r".\1.\2.ffns.0.layers.1."),
        ),
        ignored=r"^(?:input_resolution|context_length|vocab_size)$",
        initial=BESIDE_CLIP,
        transform=clip_array,
        fit=fit,
        whole=True,
    )


def clip_array(name: str, array: np.ndarray) -> np.ndarray:
    """An array of CLIP's as the reference has it."""
    if name.endswith(".cls_token"):
        return array[None, None]
    if name.endswith(".pos_embed"):
        return array[None]
    return array.T if name.endswith(".proj.weight") else array


class MultimodalEncoderDecoder(FrozenParts, nn.Module):
    """An image encoder, a text encoder, and a head that brings together what they say.

    Attributes:
        image_encoder: images, train -> features.
        text_encoder: () -> embeddings of the classes.
        decode_head: images, features, embeddings, train -> scores; while training a dict of what its losses need.
        asymetric_input: Whether the image encoder sees the images in another size.
        encoder_resolution: That size, as a factor.
        test_cfg: How images are segmented, as in an EncoderDecoder.
        train_cfg: Kept for configs that state it; what there is to set is in the head's.
        dtype: Name of the dtype that is computed in, such as "bfloat16"; None: that of the images, float32.
    """

    image_encoder: nn.Module
    text_encoder: nn.Module
    decode_head: nn.Module
    asymetric_input: bool = True
    encoder_resolution: float | None = None
    test_cfg: Mapping = nn.FrozenDict(mode="whole")
    train_cfg: Mapping | None = None
    dtype: str | None = None

    def __call__(self, images: Float[Array, "b h w c"], train: bool = False) -> dict[str, Any]:
        """Maps normalised images to {"decode": scores}, in 0..1 and of the images' size, or what the losses need."""
        images = images if self.dtype is None else images.astype(self.dtype)
        seen = images
        if self.asymetric_input:
            factor = self.encoder_resolution
            if factor is None:
                raise ConfigError("model.encoder_resolution is missing, which asymetric_input=True needs")
            size = [math.floor(length * factor) for length in images.shape[1:3]]
            seen = resize(images, size, scale=(factor, factor))
        features = self.image_encoder(seen, train)
        return {"decode": self.decode_head(images, features, self.text_encoder(), train)}

    def heads(self) -> dict[str, nn.Module]:
        """The head by the name of its output, which is also the prefix of its losses."""
        return {"decode": self.decode_head}

    def auxiliary_heads(self) -> dict[str, nn.Module]:
        """There are none."""
        return {}

    def encode_text(self, tokens: Array) -> Float[Array, "n c"]:
        """Embeddings of texts."""
        return self.text_encoder.encode(tokens)

    @property
    def sources(self) -> Mapping[str, Source]:
        """CLIP's files, the authors' and what the reference's tool makes of them; none has a side network."""
        fit = getattr(self.image_encoder, "fit", None)
        return {
            "clip": clip_source(self.image_encoder.num_layers, fit),
            "converted": Source(initial=BESIDE_CLIP, fit=fit, whole=True),
        }

    @property
    def final_head(self) -> nn.Module:
        """The head whose scores are the result."""
        return self.decode_head

    @nn.nowrap
    def parts(self) -> dict[str, nn.Module]:
        """Both encoders and the head, by the names of their parameters."""
        return {name: getattr(self, name) for name in ("image_encoder", "text_encoder", "decode_head")}
