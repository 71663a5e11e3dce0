"""Encoder and decoder layers of DETR (Carion et al. 2020), whose norms come last, and those made of them.

Their fields are those of the reference's `layer_cfg`, `self_attn_cfg` and so on, which are read here.
"""

from collections.abc import Callable, Mapping
from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxseg.errors import ConfigError
from jaxseg.models.layers.deformable_attention import MultiScaleDeformableAttention
from jaxseg.models.layers.drop import Dropout
from jaxseg.models.layers.norm import build_norm
from jaxseg.models.layers.transformer import FFN, MultiheadAttention
from jaxseg.models.registry import build

XAVIER_NORMAL = nn.initializers.variance_scaling(1.0, "fan_avg", "normal")  # Flax's own is cut off


class Table(nn.Module):
    """Learned vectors, such as those that queries begin with.

    Attributes:
        count: How many.
        features: Channels of each.
    """

    count: int
    features: int

    @nn.compact
    def __call__(self) -> Float[Array, "count features"]:
        """All of them."""
        return self.param("weight", nn.initializers.normal(1.0), (self.count, self.features), jnp.float32)


class Attention(nn.Module):
    """Attention between tokens that have positions, and the shortcut beside it.

    Attributes:
        embed_dims, num_heads: Of the attention.
        attn_drop: Dropout of its weights.
        proj_drop: Dropout of its result.
        weight_init: Initializer of all its matrices.
        dropout_layer: None, or one that drops nothing.
        batch_first: Kept for configs that state it; it changes nothing.
    """

    embed_dims: int = 256
    num_heads: int = 8
    attn_drop: float = 0.0
    proj_drop: float = 0.0
    weight_init: Callable = nn.initializers.xavier_uniform()
    dropout_layer: Mapping | None = None
    batch_first: bool = True

    @nn.compact
    def __call__(
        self,
        query: Float[Array, "b q c"],
        positions: Float[Array, "q c"],
        memory: Float[Array, "b k c"] | None = None,
        memory_positions: Float[Array, "k c"] | None = None,
        hidden: Bool[Array, "b q k"] | None = None,
        train: bool = False,
    ) -> Float[Array, "b q c"]:
        """The queries plus what they find in the memory; without one: in the queries.

        Where `hidden` is true a query does not look.
        """
        if (self.dropout_layer or {}).get("drop_prob"):
            raise ConfigError(f"dropout_layer={dict(self.dropout_layer)}: use attn_drop and proj_drop")
        if memory is None:
            memory, memory_positions = query, positions
        weights = {"in_init": self.weight_init, "out_init": self.weight_init}
        attention = MultiheadAttention(self.embed_dims, self.num_heads, self.attn_drop, name="attn", **weights)
        bias = None if hidden is None else jnp.where(hidden, -jnp.inf, 0.0)[:, None]
        queries, keys = query + positions.astype(query.dtype), memory + memory_positions.astype(memory.dtype)
        y = attention(queries, keys, memory, bias=bias, train=train)
        return query + Dropout(self.proj_drop, name="drop")(y, train)


class EncoderLayer(nn.Module):
    """Attention between all tokens and a feed-forward network, each with its shortcut and then a norm.

    Attributes:
        self_attn_cfg: Fields of the attention.
        ffn_cfg: Fields of the feed-forward network.
        norm_cfg: Norm layers.
        weight_init: Initializer of all matrices.
    """

    self_attn_cfg: Mapping = nn.FrozenDict()
    ffn_cfg: Mapping = nn.FrozenDict(feedforward_channels=1024)
    norm_cfg: Mapping = nn.FrozenDict(type="LN")
    weight_init: Callable = nn.initializers.xavier_uniform()

    @nn.compact
    def __call__(self, x: Float[Array, "b n c"], *where, train: bool = False) -> Float[Array, "b n c"]:
        """Applies the layer; `where` is what the attention takes besides the tokens."""
        x = build_norm(self.norm_cfg, name="norms_0")(self.attention()(x, *where, train=train))
        return build_norm(self.norm_cfg, name="norms_1")(x + build_ffn(self.ffn_cfg, self.weight_init)(x, train))

    def attention(self) -> nn.Module:
        """Attention between all tokens."""
        return build_layer(Attention, self.self_attn_cfg, "self_attn", weight_init=self.weight_init)


class DeformableEncoderLayer(EncoderLayer):
    """The same with attention to a few places."""

    def attention(self) -> nn.Module:
        """Attention to a few places of several maps."""
        return build_layer(MultiScaleDeformableAttention, self.self_attn_cfg, "self_attn")


class TransformerEncoder(nn.Module):
    """Several layers.

    Attributes:
        num_layers: How many.
        layer_cfg: Fields of each.
        num_cp: How many are computed again in the backward pass instead of being kept, from the first.
        weight_init: Initializer of all matrices.
    """

    num_layers: int
    layer_cfg: Mapping
    num_cp: int = -1
    weight_init: Callable = nn.initializers.xavier_uniform()

    layer: ClassVar[type[nn.Module]] = EncoderLayer

    @nn.compact
    def __call__(self, x: Float[Array, "b n c"], *where, train: bool = False) -> Float[Array, "b n c"]:
        """Applies the layers; `where` is what their attention takes besides the tokens."""

        def apply(layer: nn.Module, x: Array) -> Array:
            return layer(x, *where, train=train)

        for i in range(self.num_layers):
            layer = build_layer(self.layer, self.layer_cfg, f"layers_{i}", weight_init=self.weight_init)
            x = (nn.remat(apply) if i < self.num_cp else apply)(layer, x)
        return x


class DeformableEncoder(TransformerEncoder):
    """The same with attention to a few places."""

    weight_init: Callable = XAVIER_NORMAL

    layer: ClassVar[type[nn.Module]] = DeformableEncoderLayer


class DecoderLayer(nn.Module):
    """Attention between the queries and to a memory, and a feed-forward network, each with a shortcut and a norm.

    Attributes:
        self_attn_cfg, cross_attn_cfg: Fields of the attention between the queries, and to the memory.
        ffn_cfg: Fields of the feed-forward network.
        norm_cfg: Norm layers.
        memory_first: Whether the queries look at the memory before they look at each other.
        weight_init: Initializer of all matrices.
    """

    self_attn_cfg: Mapping = nn.FrozenDict()
    cross_attn_cfg: Mapping = nn.FrozenDict()
    ffn_cfg: Mapping = nn.FrozenDict(feedforward_channels=1024)
    norm_cfg: Mapping = nn.FrozenDict(type="LN")
    memory_first: bool = False
    weight_init: Callable = nn.initializers.xavier_uniform()

    @nn.compact
    def __call__(
        self,
        query: Float[Array, "b q c"],
        positions: Float[Array, "q c"],
        memory: Float[Array, "b k c"],
        memory_positions: Float[Array, "k c"],
        hidden: Bool[Array, "b q k"] | None = None,
        train: bool = False,
    ) -> Float[Array, "b q c"]:
        """Applies the layer; where `hidden` is true a query does not look at the memory."""
        fields = {"weight_init": self.weight_init}
        between = build_layer(Attention, self.self_attn_cfg, "self_attn", **fields)
        across = build_layer(Attention, self.cross_attn_cfg, "cross_attn", **fields)
        norms = [build_norm(self.norm_cfg, name=f"norms_{i}") for i in range(3)]
        for i in range(2):
            if (i == 0) == self.memory_first:
                query = across(query, positions, memory, memory_positions, hidden, train)
            else:
                query = between(query, positions, train=train)
            query = norms[i](query)
        return norms[2](query + build_ffn(self.ffn_cfg, self.weight_init)(query, train))


class TransformerDecoder(nn.Module):
    """Several layers, and one norm after each of them.

    Attributes:
        num_layers: How many.
        layer_cfg: Fields of each.
        post_norm_cfg: The norm.
        memory_first: Whether the queries look at the memory before they look at each other.
        weight_init: Initializer of all matrices.
        return_intermediate: Kept for configs that state it: the results of all layers are always there.
    """

    num_layers: int
    layer_cfg: Mapping
    post_norm_cfg: Mapping = nn.FrozenDict(type="LN")
    memory_first: bool = False
    weight_init: Callable = nn.initializers.xavier_uniform()
    return_intermediate: bool = True

    def setup(self) -> None:
        """Makes the layers."""
        fields = {"memory_first": self.memory_first, "weight_init": self.weight_init}
        self.layers = [build_layer(DecoderLayer, self.layer_cfg, None, **fields) for _ in range(self.num_layers)]
        self.post_norm = build_norm(self.post_norm_cfg)

    def step(self, index: int, *inputs, **options) -> Float[Array, "b q c"]:
        """Applies one layer, without the norm after it."""
        return self.layers[index](*inputs, **options)

    def norm(self, query: Float[Array, "b q c"]) -> Float[Array, "b q c"]:
        """Applies the norm."""
        return self.post_norm(query)


def build_layer(kind: type[nn.Module], config: Mapping, name: str | None, **fields) -> nn.Module:
    """The module of a config without `type`; `fields` are not the config's to set.

    Raises:
        ConfigError: A field is not known; names the nearest.
    """
    place = {} if name is None else {"name": name}
    return build({kind.__name__: kind}, {"type": kind.__name__, **config}, name or "layer_cfg", **fields, **place)


def build_ffn(config: Mapping, weight_init: Callable) -> FFN:
    """The feed-forward network of an `ffn_cfg`; its shortcut is the layer's own.

    Raises:
        ConfigError: A field is not known, or there would be no shortcut.
    """
    if not config.get("add_identity", True) or (config.get("dropout_layer") or {}).get("drop_prob"):
        raise ConfigError(f"ffn_cfg={dict(config)}: add_identity=False and dropout_layer have no counterpart here")
    fields = {name: config[name] for name in config if name not in ("embed_dims", "dropout_layer", "add_identity")}
    fields = {"feedforward_channels": 1024, "act_cfg": {"type": "ReLU"}} | fields
    return build_layer(FFN, fields, "ffn", kernel_init=weight_init, bias_init=None)
