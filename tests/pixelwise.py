"""A segmentor that compiles in no time: the logits of a pixel depend on its colour and its place."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from jaxseg.data.sources import Source

PREPROCESS = {"mean": (120.0, 110.0, 100.0), "std": (60.0, 55.0, 50.0)}


class Head(nn.Module):
    """What inference asks of a head."""

    num_classes: int = 4
    align_corners: bool = False
    threshold: float | None = None

    @property
    def logit_channels(self) -> int:
        return self.num_classes


class Pixelwise(nn.Module):
    """Logits at 1/`stride` of the size; they differ with the place in the image, as borders make real ones do."""

    decode_head: nn.Module = Head()
    stride: int = 2
    test_cfg: Mapping = nn.FrozenDict(mode="whole")

    @property
    def final_head(self) -> nn.Module:
        return self.decode_head

    @nn.compact
    def __call__(self, images, train: bool = False):
        kernel = self.param("kernel", nn.initializers.normal(1.0), (3, self.decode_head.num_classes))
        seen = images[:, :: self.stride, :: self.stride]
        rows, columns = jnp.arange(seen.shape[1]), jnp.arange(seen.shape[2])
        place = jnp.sin(rows)[:, None, None] + jnp.cos(columns)[None, :, None]
        return {"decode": seen @ kernel + place * jnp.arange(self.decode_head.num_classes)}


def variables(seed: int = 0, num_classes: int = 4) -> dict[str, Any]:
    """Parameters."""
    kernel = np.random.default_rng(seed).normal(0, 1, (3, num_classes)).astype(np.float32)
    return {"params": {"kernel": jnp.asarray(kernel)}}


class Memory(Source):
    """Random images of the given sizes, made when they are asked for, with some pixels ignored."""

    name = "memory"
    palette = ((0, 0, 0), (255, 0, 0), (0, 255, 0), (0, 0, 255))
    classes = ("a", "b", "c", "d")
    ignore_index = 255
    reduce_zero_label = False
    label_map: dict[int, int] = {}  # noqa: RUF012  (the protocol's)

    def __init__(self, sizes: list[tuple[int, int]], blank: tuple[int, ...] = ()):
        self.sizes, self.blank = sizes, blank

    def __len__(self) -> int:
        return len(self.sizes)

    def size(self, index: int) -> tuple[int, int]:
        return self.sizes[index]

    def __getitem__(self, index: int) -> dict[str, Any]:
        rng = np.random.default_rng(index)
        image = rng.integers(0, 256, (*self.sizes[index], 3), np.uint8)
        label = rng.integers(0, 5, self.sizes[index]).astype(np.uint8)
        label[(label == 4) | (index in self.blank)] = self.ignore_index
        return {"image": image, "label": label, "meta": {"name": f"image{index}"}}
