"""EMANet head."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jaxseg.models.heads.decode_head import DecodeHead
from jaxseg.models.layers.attention import flatten_pixels
from jaxseg.models.layers.conv_module import ConvModule
from jaxseg.models.layers.initializers import normal
from jaxseg.models.layers.norm import at_least_float32

EPS = 1e-12


class EMAHead(DecodeHead):
    """Rebuilds a map of few bases, found by expectation maximisation (Li et al. 2019, "EMANet").

    Attributes:
        ema_channels: Channels of the map that is rebuilt.
        num_bases, num_stages, momentum: As in `ExpectationMaximization`.
        concat_input: Whether one more convolution joins the input with the output.
    """

    ema_channels: int = 512
    num_bases: int = 64
    num_stages: int = 3
    concat_input: bool = True
    momentum: float = 0.1

    def check(self) -> None:
        """Raises ConfigError where the fields don't fit each other."""
        super().check()
        if self.num_stages < 1:
            raise self.error("num_stages", "must be 1 or more")

    def frozen_parameters(self) -> tuple[str, ...]:
        """Prefixes of the parameter paths that are not trained: no gradient passes the rebuilding."""
        return ("ema_mid_conv/",)

    def decode(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b h w channels"]:
        """Adds the rebuilt map."""
        identity = self.conv_module(3, "ema_in_conv", features=self.ema_channels, padding=1)(x, train)
        y = ConvModule(self.ema_channels, 1, name="ema_mid_conv")(lax.stop_gradient(identity))
        rebuild = ExpectationMaximization(self.num_bases, self.num_stages, self.momentum, name="ema_module")
        y = jax.nn.relu(rebuild(lax.stop_gradient(y), train))
        y = ConvModule(self.ema_channels, 1, norm_cfg=self.norm_cfg, name="ema_out_conv")(y, train)
        y = self.conv_module(3, "bottleneck", padding=1)(jax.nn.relu(identity + y), train)
        if self.concat_input:
            y = self.conv_module(3, "conv_cat", padding=1)(jnp.concatenate([x, y], axis=-1), train)
        return y


class ExpectationMaximization(nn.Module):
    """Assigns pixels to bases and moves these, in turn; the result is what the bases say of each pixel.

    No gradient passes. The bases that it starts from are a running mean over the batches of training, one of the
    statistics.

    Attributes:
        num_bases: How many bases there are.
        num_stages: How often they move.
        momentum: Weight of a new batch's bases.
    """

    num_bases: int
    num_stages: int
    momentum: float

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool = False) -> Float[Array, "b h w c"]:
        """Returns the rebuilt map."""
        shape = (1, x.shape[-1], self.num_bases)
        running = self.variable("batch_stats", "bases", self.initial_bases, shape)
        pixels = flatten_pixels(x).astype(at_least_float32(x.dtype))
        bases = jnp.broadcast_to(running.value.astype(pixels.dtype), (x.shape[0], *shape[1:]))
        for _ in range(self.num_stages):
            shares = jax.nn.softmax(jnp.einsum("bnc,bck->bnk", pixels, bases), axis=-1)
            means = jnp.einsum("bnc,bnk->bck", pixels, shares / jnp.maximum(jnp.sum(shares, 1, keepdims=True), EPS))
            bases = unit(means)
        if train and not self.is_initializing():
            mean = unit(jnp.mean(bases, 0, keepdims=True))
            running.value = lax.stop_gradient(running.value + self.momentum * (mean - running.value))
        return lax.stop_gradient(jnp.einsum("bnk,bck->bnc", shares, bases)).reshape(x.shape).astype(x.dtype)

    def initial_bases(self, shape: tuple[int, ...]) -> Float[Array, "1 c k"]:
        """Random directions."""
        return unit(normal((2 / self.num_bases) ** 0.5)(self.make_rng("params"), shape))


def unit(x: Float[Array, "b c k"]) -> Float[Array, "b c k"]:
    """The bases at length 1."""
    return x / jnp.maximum(jnp.linalg.norm(x, axis=1, keepdims=True), EPS)
