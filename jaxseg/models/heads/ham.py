"""SegNeXt's head."""

import zlib
from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxseg.errors import did_you_mean
from jaxseg.models.heads.decode_head import DecodeHead
from jaxseg.models.layers.conv_module import ConvModule
from jaxseg.models.layers.norm import at_least_float32
from jaxseg.models.layers.resize import resize


class Factorisation(nn.Module):
    """A map as the product of two smaller, non-negative matrices (Lee and Seung 2000, multiplicative updates).

    The updates begin at random bases: drawn for every image while training where there is a "bases" key, otherwise
    always the same.

    Attributes:
        MD_S: Parts that the channels are split into; each has a product of its own.
        MD_R: Number of bases.
        train_steps, eval_steps: Number of updates, while training and otherwise.
        inv_t: Has no effect, as in the reference.
        rand_init: Whether bases are drawn at all.
    """

    MD_S: int = 1
    MD_R: int = 64
    train_steps: int = 6
    eval_steps: int = 7
    inv_t: float = 100
    rand_init: bool = True

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool = False) -> Float[Array, "b h w c"]:
        """Returns the product for a non-negative map."""
        b, h, w, c = x.shape
        y = x.reshape(b, h * w, self.MD_S, c // self.MD_S).swapaxes(1, 2).astype(at_least_float32(x.dtype))
        bases = self.initial_bases(b, c // self.MD_S, train).astype(y.dtype)
        weights = jax.nn.softmax(y @ bases, axis=-1)
        for _ in range(self.train_steps if train else self.eval_steps):
            weights = update(weights, y @ bases, bases)
            bases = update(bases, y.swapaxes(2, 3) @ weights, weights)
        weights = update(weights, y @ bases, bases)
        return (weights @ bases.swapaxes(2, 3)).swapaxes(1, 2).reshape(x.shape).astype(x.dtype)

    def initial_bases(self, images: int, channels: int, train: bool) -> Float[Array, "b s d r"]:
        """Random bases of length 1."""
        if train and self.rand_init and self.has_rng("bases"):
            bases = jax.random.uniform(self.make_rng("bases"), (images, self.MD_S, channels, self.MD_R))
        else:
            shape = (self.MD_S, channels, self.MD_R)
            bases = jnp.asarray(np.random.default_rng(zlib.crc32(b"nmf")).uniform(0, 1, shape))[None]
        return bases / jnp.linalg.norm(bases, axis=2, keepdims=True)


def update(
    factor: Float[Array, "_ s n r"], fit: Float[Array, "b s n r"], other: Float[Array, "_ s d r"]
) -> Float[Array, "b s n r"]:
    """One multiplicative update of a factor, given the product of the map and the other factor."""
    return factor * fit / (factor @ (other.swapaxes(2, 3) @ other) + 1e-6)


class Hamburger(nn.Module):
    """A factorisation between two convolutions, beside a shortcut (Geng et al. 2021).

    Attributes:
        norm_cfg: Norm of the last convolution.
        ham_kwargs: Fields of the `Factorisation`.
    """

    norm_cfg: Mapping | None
    ham_kwargs: Mapping

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool = False) -> Float[Array, "b h w c"]:
        """Applies the layers."""
        channels = x.shape[-1]
        y = jax.nn.relu(ConvModule(channels, 1, name="ham_in")(x, train))
        y = Factorisation(**self.ham_kwargs, name="ham")(y, train)
        return jax.nn.relu(x + ConvModule(channels, 1, norm_cfg=self.norm_cfg, name="ham_out")(y, train))


class LightHamHead(DecodeHead):
    """Global context by matrix factorisation, of several maps (Guo et al. 2022, "SegNeXt").

    Attributes:
        ham_channels: Channels of the map that is factorised.
        ham_kwargs: Fields of the `Factorisation`.
    """

    input_transform: str | None = "multiple_select"
    ham_channels: int = 512
    ham_kwargs: Mapping = nn.FrozenDict()

    def check(self) -> None:
        """Raises ConfigError where the fields don't fit each other."""
        super().check()
        allowed = set(Factorisation.__dataclass_fields__) - {"parent", "name"}
        for key in set(self.ham_kwargs) - allowed:
            raise self.error("ham_kwargs", f"there is no field {key!r}. {did_you_mean(key, allowed)}")
        if self.ham_channels % self.ham_kwargs.get("MD_S", 1):
            raise self.error("ham_channels", f"is not a multiple of MD_S={self.ham_kwargs['MD_S']}")

    def decode(self, x: list[Float[Array, "b _ _ _"]], train: bool) -> Float[Array, "b h w channels"]:
        """Joins the maps at the size of the first, adds the context."""
        size = x[0].shape[1:3]
        joined = jnp.concatenate([resize(level, size, align_corners=self.align_corners) for level in x], axis=-1)
        y = self.conv_module(1, "squeeze", self.ham_channels)(joined, train)
        y = Hamburger(self.norm_cfg, self.ham_kwargs, name="hamburger")(y, train)
        return self.conv_module(1, "align")(y, train)
