"""PSANet head."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxseg.models.heads.decode_head import DecodeHead
from jaxseg.models.layers.conv import Conv
from jaxseg.models.layers.initializers import default_kernel
from jaxseg.models.layers.norm import at_least_float32
from jaxseg.models.layers.resize import resize


class PSAHead(DecodeHead):
    """Attention that depends on how far pixels are apart (Zhao et al. 2018, "PSANet").

    Every pixel predicts a mask, centred on itself, of what it has to do with the pixels around: what it collects from
    each, or what it distributes to each.

    Attributes:
        mask_size: Rows and columns of a mask; (2 h - 1, 2 w - 1) reaches from every pixel to every other, with h and
            w those of the map divided by `shrink_factor`. What is farther away has score 0.
        psa_type: "collect", "distribute", or "bi-direction" for both.
        compact: Whether a mask has a place for each pixel of the map, in their order, instead: `mask_size` is then
            the map's size divided by `shrink_factor`.
        shrink_factor: How many times smaller the map is while its pixels attend.
        normalization_factor: What sums are divided by; None: the places of a mask.
        psa_softmax: Whether each pixel's scores go through a softmax.
    """

    mask_size: Sequence[int] = (97, 97)
    psa_type: str = "bi-direction"
    compact: bool = False
    shrink_factor: int = 2
    normalization_factor: float | None = 1.0
    psa_softmax: bool = True

    def check(self) -> None:
        """Raises ConfigError where the fields don't fit each other."""
        super().check()
        if self.psa_type not in ("collect", "distribute", "bi-direction"):
            raise self.error("psa_type", "allowed: 'collect', 'distribute', 'bi-direction'")

    def decode(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b h w channels"]:
        """Joins the map with what its pixels collect and are given."""
        size, align_corners = self.shrunk(x.shape[1:3])
        if self.psa_type == "bi-direction":
            directions = [("", False), ("_p", True)]
        else:  # a compact mask is read the other way round, here only, as in the reference
            directions = [("", (self.psa_type == "distribute") != self.compact)]
        outputs = []
        for suffix, distribute in directions:
            y = self.conv_module(1, f"reduce{suffix}")(x, train)
            y = resize(y, size, align_corners=align_corners)
            scores = self.scores(y, suffix, train)
            outputs.append(self.attend(y, scores.swapaxes(1, 2) if distribute else scores))
        # Its padding of 1 frames the map, which is then resized together with its frame.
        y = self.conv_module(1, "proj", features=x.shape[-1], padding=1)(jnp.concatenate(outputs, axis=-1), train)
        y = resize(y, x.shape[1:3], align_corners=align_corners)
        return self.conv_module(3, "bottleneck", padding=1)(jnp.concatenate([x, y], axis=-1), train)

    def shrunk(self, size: tuple[int, int]) -> tuple[tuple[int, int], bool]:
        """The size in which pixels attend, and whether corners are aligned on the way there and back."""
        factor = self.shrink_factor
        if factor == 1:
            return size, self.align_corners
        if all(length % factor for length in size):
            return tuple((length - 1) // factor + 1 for length in size), True
        return tuple(length // factor for length in size), False

    def scores(self, x: Float[Array, "b h w c"], suffix: str, train: bool) -> Float[Array, "b n n"]:
        """What each pixel (second axis) predicts of each (third axis), in float32 or more."""
        b, h, w, _ = x.shape
        rows, columns = self.mask_size
        y = self.conv_module(1, f"attention{suffix}_0")(x, train)
        conv = Conv(rows * columns, 1, use_bias=False, kernel_init=default_kernel(), name=f"attention{suffix}_1")
        masks = conv(y).astype(at_least_float32(x.dtype))
        if self.compact:
            if rows * columns != h * w:
                raise self.error("mask_size", f"a compact mask needs {h * w} places, as the map has pixels")
            return masks.reshape(b, h * w, h * w)
        masks = unroll(masks.reshape(b, h, w, rows, columns), 1, 3)
        return unroll(masks, 2, 4).reshape(b, h * w, h * w)

    def attend(self, x: Float[Array, "b h w c"], scores: Float[Array, "b n n"]) -> Float[Array, "b h w c"]:
        """Sums over the third axis of the scores."""
        weights = jax.nn.softmax(scores, axis=-1) if self.psa_softmax else scores
        y = jnp.einsum("bqk,bkc->bqc", weights.astype(x.dtype), x.reshape(x.shape[0], -1, x.shape[-1]))
        divisor = self.normalization_factor or self.mask_size[0] * self.mask_size[1]
        return (y / divisor).reshape(x.shape)


def unroll(masks: Array, axis: int, mask_axis: int) -> Array:
    """From places relative to a pixel to places in the map, along one of its axes.

    Args:
        masks: The mask of every pixel; its middle is the pixel itself.
        axis: The map's axis, of length n.
        mask_axis: The masks' axis, which comes later.

    Returns:
        Of every pixel its scores of all n places: at [..., i, ..., j, ...] what i says of j, 0 where j is not in the
        mask of i.
    """
    n, length = masks.shape[axis], masks.shape[mask_axis]
    masks = jnp.moveaxis(masks, (axis, mask_axis), (-2, -1))
    # Distances from 1 - n to n - 1 only.
    first = (length - 1) // 2 - (n - 1)
    masks = masks[..., max(first, 0) : first + 2 * n - 1]
    before = max(-first, 0)
    masks = jnp.pad(masks, [(0, 0)] * (masks.ndim - 1) + [(before, 2 * n - 1 - before - masks.shape[-1])])
    if n > 1:
        # Row i needs columns n - 1 - i and on: with rows one shorter, each begins one earlier than the one before.
        flat = masks.reshape(*masks.shape[:-2], -1)[..., n - 1 : n - 1 + n * (2 * n - 2)]
        masks = flat.reshape(*flat.shape[:-1], n, 2 * n - 2)[..., :n]
    return jnp.moveaxis(masks, (-2, -1), (axis, mask_axis))
