"""Products of tokens, or pixels, and matrices, in the form that is quick and exact on CPUs."""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jaxseg.models.layers.norm import at_least_float32
from jaxseg.models.layers.platform import on_cpu

# A linear layer adds up the products of so many channels, and less than twice as many, at a time. PyTorch's library for
# CPUs has such blocks; XLA's adds up thousands one after the other, which rounds up to 1.6 times as much.
BLOCK = 384


def linear_map(x: Float[Array, "*b c"], kernel: Float[Array, "c d"]) -> Float[Array, "*b d"]:
    """The product, of a linear layer."""
    if not on_cpu():
        return x @ kernel
    return token_product(x, kernel, BLOCK if x.dtype == jnp.float32 else None)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def token_product(x: Float[Array, "*b c"], kernel: Float[Array, "c d"], block: int | None = None) -> Array:
    """The product, whose gradient for the kernel takes x and the output's gradient as they lie.

    XLA would transpose its product with a copy of one of them, which takes several times as long on CPUs. The forward
    product is a sum of products of at least `block` channels, if that is given.
    """
    channels = kernel.shape[0]
    count = channels // (block or channels)
    if count < 2:
        return x @ kernel
    size = -(-channels // count)
    return sum(x[..., i : i + size] @ kernel[i : i + size] for i in range(0, channels, size))


def _forward(x, kernel, block):
    return token_product(x, kernel, block), (x, kernel)


def _backward(block, residuals, g):
    x, kernel = residuals
    tokens, gradients = x.reshape(-1, x.shape[-1]), g.reshape(-1, g.shape[-1])
    wide = at_least_float32(x.dtype)
    product = lax.dot_general(tokens, gradients, (((0,), (0,)), ((), ())), preferred_element_type=wide)
    return g @ kernel.T, product.astype(kernel.dtype)


token_product.defvjp(_forward, _backward)
