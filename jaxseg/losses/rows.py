"""Losses of every pixel, computed some rows at a time.

Logits of many classes at the size of the images are larger than anything else of a train step (150 classes at 512x512:
150 MB an image, and several times that with what a loss computes of them), while a loss of every pixel is small, and so
are the logits before they are resized. Rows are resized when their turn comes, and again in the backward pass.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Integer

from jaxseg.models.layers.resize import resize, resize_rows

BLOCK = 2**24  # bytes of an image's logits that are there at a time


def row_blocks(logits: Float[Array, "b _ _ c"], labels: Integer[Array, "b h w"]) -> int:
    """In how many parts losses at the size of the labels are to be computed."""
    height, width = labels.shape[1:]
    return min(math.ceil(height * width * logits.shape[-1] * logits.dtype.itemsize / BLOCK), height)


def by_rows(
    function: Callable[[Array, Array], Any],
    logits: Float[Array, "b _ _ c"],
    labels: Integer[Array, "b h w"],
    align_corners: bool,
    blocks: int,
) -> Any:
    """What a function says of every pixel.

    Args:
        function: Of logits [b r w c] and labels [b r w] of some rows: arrays [b r w].
        logits: Of any size; they are resized to the labels.
        labels: Class indices.
        align_corners: Of the resize.
        blocks: In how many parts.

    Returns:
        Arrays [b h w] as `function` gives them.
    """
    height, width = labels.shape[1:]
    rows = math.ceil(height / blocks)
    labels = jnp.pad(labels, ((0, 0), (0, blocks * rows - height), (0, 0)), mode="edge")
    labels = jnp.moveaxis(labels.reshape(len(labels), blocks, rows, width), 1, 0)

    @jax.checkpoint
    def of_block(block: tuple[Array, Array]) -> Any:
        first, labels = block
        part = resize_rows(logits, height, first, rows, align_corners)
        return function(resize(part, (rows, width), align_corners=align_corners), labels)

    found = lax.map(of_block, (rows * jnp.arange(blocks), labels))

    def joined(maps: Array) -> Array:
        maps = jnp.moveaxis(maps, 0, 1)
        return maps.reshape(len(maps), blocks * rows, width)[:, :height]

    return jax.tree.map(joined, found)
