"""CLIP's text encoder."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxseg.errors import ConfigError
from jaxseg.models.layers.clip import CLIP_NAMES, CLIPLayer
from jaxseg.models.layers.detr import Table
from jaxseg.models.layers.initializers import normal
from jaxseg.models.layers.norm import at_least_float32, build_norm

TEMPERATURE = 0.07


@dataclasses.dataclass(frozen=True, eq=False)
class ClassEmbeddings:
    """What the classes' names are to a text encoder.

    Attributes:
        array: One row a class, of length 1.
    """

    array: Float[np.ndarray | Array, "classes c"]


class CLIPTextEncoder(nn.Module):
    """A transformer over the tokens of a text, each of which sees those before it (Radford et al. 2021, "CLIP").

    It is not trained, and does not run while another part of the model does: `jaxseg.text.vocabulary` lets it read the
    names of the classes once, and makes what it finds a field.

    Attributes:
        dataset_name: The data set whose classes there are, by a name that the reference has for it.
        vocabulary: Names of the classes, where there is no `dataset_name`.
        templates: The sentences that a name is put into: "vild", "imagenet", "none", or sentences with "{}".
        total_vocab_size: Number of tokens.
        context_length: Tokens of a text, at most.
        embed_dims: Channels of a token.
        num_layers, num_heads: Of the transformer.
        mlp_ratio: Width of the feed-forward networks, in widths of a token.
        output_dims: Channels of an embedding.
        cache_feature: Kept for configs that state it; the names are always read once.
        cat_bg: Whether there is a class "none of these", whose embedding is learned.
        norm_cfg: The last norm.
        merges: File of the tokenizer's table of merges; None: that of an installed package.
        embeddings: Of the classes, as `with_vocabulary` sets them; not for configs.
    """

    dataset_name: str | None = None
    vocabulary: Sequence[str] | None = None
    templates: str | Sequence[str] = "vild"
    total_vocab_size: int = 49408
    context_length: int = 77
    embed_dims: int = 512
    num_layers: int = 12
    num_heads: int = 8
    mlp_ratio: int = 4
    output_dims: int = 512
    cache_feature: bool = True
    cat_bg: bool = True
    norm_cfg: Mapping = nn.FrozenDict(type="LN")
    merges: str | None = None
    embeddings: ClassEmbeddings | None = None

    dotted_names: ClassVar[Sequence[tuple[str, str]]] = CLIP_NAMES

    def setup(self) -> None:
        """Makes the layers."""
        if self.embed_dims % self.num_heads:
            raise ConfigError(f"text_encoder.num_heads={self.num_heads} must divide embed_dims={self.embed_dims}")
        dims = self.embed_dims
        self.token_embedding = Table(self.total_vocab_size, dims)
        self.positional_embedding = self.param(
            "positional_embedding", normal(0.01), (self.context_length, dims), jnp.float32
        )
        self.transformer = [CLIPLayer(self.num_heads, self.mlp_ratio) for _ in range(self.num_layers)]
        self.ln_final = build_norm(self.norm_cfg)
        self.text_projection = self.param("text_projection", normal(dims**-0.5), (dims, self.output_dims), jnp.float32)
        self.logit_scale = self.param("logit_scale", nn.initializers.constant(np.log(1 / TEMPERATURE)), (), jnp.float32)
        if self.cat_bg:
            spread = normal(self.output_dims**-0.5)
            self.bg_embed = self.param("bg_embed", spread, (1, self.output_dims), jnp.float32)

    def __call__(self) -> Float[Array, "classes output_dims"]:
        """Embeddings of the classes, and of none of them as the last, each of length exp(logit_scale)."""
        if self.is_initializing():
            classes = self.encode(jnp.zeros((1, 1), jnp.int32))
        elif self.embeddings is None:
            raise ConfigError(
                "model.text_encoder has not read the names of the classes: use the model that "
                "jaxseg.text.vocabulary.with_vocabulary(model, variables) returns"
            )
        else:
            classes = jnp.asarray(self.embeddings.array)
        if self.cat_bg:
            classes = normalise(jnp.concatenate([classes, self.bg_embed.astype(classes.dtype)]))
        return jnp.exp(self.logit_scale) * classes

    def encode(self, tokens: Int[Array, "n length"]) -> Float[Array, "n output_dims"]:
        """Embeddings of texts; of a text what its last token, the one of the largest number, has become."""
        length = tokens.shape[1]
        if length > self.context_length:
            raise ValueError(f"{length} tokens are more than context_length={self.context_length}")
        x = self.token_embedding()[tokens] + self.positional_embedding[:length]
        before = jnp.tril(jnp.ones((length, length), bool))
        bias = jnp.where(before, 0, -jnp.inf).astype(x.dtype)
        for layer in self.transformer:
            x = layer(x, bias)
        x = self.ln_final(x)
        return x[jnp.arange(len(tokens)), jnp.argmax(tokens, axis=1)] @ self.text_projection

    @nn.nowrap
    def frozen_parameters(self) -> tuple[str, ...]:
        """Prefixes of the paths of parameters that are not trained: all but the embedding of no class."""
        layers = (f"transformer_{i}/" for i in range(self.num_layers))
        return (*layers, "ln_final", "logit_scale", "positional_embedding", "text_projection", "token_embedding")


def normalise(x: Float[Array, "*b c"]) -> Float[Array, "*b c"]:
    """Rows of length 1, computed in at least float32."""
    wide = x.astype(at_least_float32(x.dtype))
    squares = jnp.sum(jnp.square(wide), axis=-1, keepdims=True)
    return (wide * jax.lax.rsqrt(jnp.maximum(squares, 1e-24))).astype(x.dtype)
