"""Attention between the pixels of feature maps."""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxseg.models.layers.conv import Conv, bare_conv
from jaxseg.models.layers.conv_module import ConvModule
from jaxseg.models.layers.norm import at_least_float32

BLOCK = 2**25  # bytes of an image's products of queries and keys that are there at a time


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def wide_product(spec: str, a: Float[Array, "..."], b: Float[Array, "..."]) -> Float[Array, "..."]:
    """`jnp.einsum(spec, a, b)` in float32 or more; its gradients are products of the dtype of a and b."""
    return jnp.einsum(spec, a, b, preferred_element_type=at_least_float32(jnp.result_type(a, b)))


def _product_forward(spec, a, b):
    return wide_product(spec, a, b), (a, b)


def _product_backward(spec, residuals, g):
    product = functools.partial(jnp.einsum, spec)
    return jax.vjp(product, *residuals)[1](g.astype(jnp.result_type(*residuals)))


wide_product.defvjp(_product_forward, _product_backward)


def attend(
    query: Float[Array, "b q d"], key: Float[Array, "b k d"], value: Float[Array, "b k c"], scale: float = 1.0
) -> Float[Array, "b q c"]:
    """softmax(scale * query key^T) value; the softmax is computed in float32 or more."""
    if _score_bytes(1, query.shape[1], key.shape[1], query.dtype) > BLOCK:
        return attend_heads(*(x[:, :, None] for x in (query, key, value)), scale=scale)[:, :, 0]
    scores = wide_product("bqd,bkd->bqk", query, key)
    weights = jax.nn.softmax(scale * scores, axis=-1).astype(value.dtype)
    return jnp.einsum("bqk,bkc->bqc", weights, value)


def attend_heads(
    query: Float[Array, "*b q h d"],
    key: Float[Array, "*b k h d"],
    value: Float[Array, "*b k h c"],
    scale: float | None = None,
    bias: Float[Array, "..."] | None = None,
    drop: Callable[[Array], Array] | None = None,
) -> Float[Array, "*b q h c"]:
    """softmax(scale * query key^T + bias) value for every head; the softmax is computed in float32 or more.

    Args:
        query, key, value: Projections, heads apart.
        scale: Factor of the products; None: 1 / sqrt(d).
        bias: Added to the products, as [... h q k]; -inf where a query must not look.
        drop: Applied to the weights; None where nothing is dropped. Then, where the products of all queries are many,
            as between all patches of an image, they are computed for some queries at a time, and again in the
            backward pass.
    """
    *others, queries, heads, _ = query.shape
    blocks = math.ceil(_score_bytes(heads, queries, key.shape[-3], query.dtype) / BLOCK)
    if blocks > 1 and drop is None and len(others) == 1:
        return _attend_in_blocks(query, key, value, scale, bias, min(blocks, queries))
    return _attend_at_once(query, key, value, scale, bias, drop)


def _attend_at_once(query, key, value, scale, bias, drop) -> Array:
    scores = wide_product("...qhd,...khd->...hqk", query, key)
    scores = scores * (query.shape[-1] ** -0.5 if scale is None else scale)
    if bias is not None:
        scores = scores + bias.astype(scores.dtype)
    weights = jax.nn.softmax(scores, axis=-1).astype(value.dtype)
    if drop is not None:
        weights = drop(weights)
    return jnp.einsum("...hqk,...khc->...qhc", weights, value)


def _score_bytes(heads: int, queries: int, keys: int, dtype: Any) -> int:
    return heads * queries * keys * at_least_float32(dtype).itemsize


def _attend_in_blocks(query: Array, key: Array, value: Array, scale: float | None, bias: Array | None, blocks: int):
    count, size = query.shape[1], math.ceil(query.shape[1] / blocks)

    def split(x: Array, axis: int) -> Array:
        axis %= x.ndim
        x = jnp.pad(x, [(0, blocks * size - count if i == axis else 0) for i in range(x.ndim)])
        return jnp.moveaxis(x.reshape(*x.shape[:axis], blocks, size, *x.shape[axis + 1 :]), axis, 0)

    parts = {"query": split(query, 1)}
    if bias is not None and bias.shape[-2] > 1:
        parts["bias"] = split(bias, -2)

    @jax.checkpoint
    def of_block(part: dict[str, Array]) -> Array:
        return _attend_at_once(part["query"], key, value, scale, part.get("bias", bias), None)

    found = jnp.moveaxis(jax.lax.map(of_block, parts), 0, 1)
    return found.reshape(len(query), blocks * size, *found.shape[3:])[:, :count]


def flatten_pixels(x: Float[Array, "b h w c"]) -> Float[Array, "b n c"]:
    """A map as a sequence of its pixels, row by row."""
    return x.reshape(x.shape[0], -1, x.shape[-1])


class SelfAttention(nn.Module):
    """Attention from the pixels of one map to those of another (or the same), as OCRNet, ANN and ISANet have it.

    Attributes:
        channels: Of queries and keys.
        out_channels: Of the result.
        share_key_query: Whether keys and queries have one projection.
        query_downsample, key_downsample: Maps to fewer pixels, or None.
        key_query_num_convs, value_out_num_convs: How many convolutions the projections have.
        key_query_norm, value_out_norm: Whether norm and activation follow them.
        matmul_norm: Whether the products are divided by the root of the channels.
        with_out: Whether the result is projected.
        norm_cfg, act_cfg: Of the projections.
    """

    channels: int
    out_channels: int
    share_key_query: bool
    key_query_num_convs: int
    value_out_num_convs: int
    key_query_norm: bool
    value_out_norm: bool
    matmul_norm: bool
    with_out: bool
    norm_cfg: Mapping | None
    act_cfg: Mapping | None
    query_downsample: Callable | None = None
    key_downsample: Callable | None = None

    @nn.compact
    def __call__(
        self, query_map: Float[Array, "b h w c"], key_map: Float[Array, "b h2 w2 c2"], train: bool = False
    ) -> Float[Array, "b h w out_channels"]:
        """What the pixels of `query_map` find in `key_map`."""
        few, many = (self.key_query_num_convs, self.key_query_norm), (self.value_out_num_convs, self.value_out_norm)
        queried, keyed = query_map.shape[-1], key_map.shape[-1]
        project_query = project_key = self.projection("key_project", keyed, self.channels, *few)
        # A shared projection runs twice, and its norms learn twice, as in the reference.
        if not self.share_key_query:
            project_query = self.projection("query_project", queried, self.channels, *few)
        width = self.channels if self.with_out else self.out_channels
        project_value = self.projection("value_project", keyed, width, *many)
        query = project_query(query_map, train)
        key, value = project_key(key_map, train), project_value(key_map, train)
        if self.query_downsample is not None:
            query = self.query_downsample(query)
        if self.key_downsample is not None:
            key, value = self.key_downsample(key), self.key_downsample(value)
        scale = self.channels**-0.5 if self.matmul_norm else 1.0
        context = attend(*(flatten_pixels(x) for x in (query, key, value)), scale)
        context = context.reshape(*query_map.shape[:3], -1)
        if self.with_out:
            project_out = self.projection("out_project", width, self.out_channels, *many, zero_init=True)
            context = project_out(context, train)
        return context

    def projection(
        self, name: str, in_channels: int, features: int, num_convs: int, norm: bool, zero_init: bool = False
    ) -> Callable:
        """1x1 convolutions, with norm and activation or without: `project(x, train)`."""
        names = [name] if num_convs == 1 else [f"{name}_{i}" for i in range(num_convs)]
        if norm:
            convs = [ConvModule(features, 1, norm_cfg=self.norm_cfg, act_cfg=self.act_cfg, name=n) for n in names]
        elif zero_init and num_convs == 1:
            convs = [Conv(features, 1, kernel_init=nn.initializers.zeros, name=name)]
        else:
            inputs = (in_channels, *[features] * (num_convs - 1))
            convs = [bare_conv(channels, features, name=n) for channels, n in zip(inputs, names, strict=True)]

        def project(x: Array, train: bool) -> Array:
            for conv in convs:
                x = conv(x, train) if norm else conv(x)
            return x

        return project
