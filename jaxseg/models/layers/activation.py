"""Activations, built from the reference's `act_cfg`."""

import math
from collections.abc import Callable, Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxseg.errors import ConfigError, did_you_mean


class PReLU(nn.Module):
    """max(x, 0) + a * min(x, 0) with a learned slope `a` for every channel (He et al. 2015).

    Attributes:
        slope_init: Initial slope.
    """

    slope_init: float = 0.25

    @nn.compact
    def __call__(self, x: Float[Array, "*b c"]) -> Float[Array, "*b c"]:
        """Applies the activation."""
        slope = self.param("negative_slope", nn.initializers.constant(self.slope_init), (x.shape[-1],), jnp.float32)
        return jnp.where(x >= 0, x, slope.astype(x.dtype) * x)


@jax.custom_vjp
def gelu(x: Float[Array, "*any"]) -> Float[Array, "*any"]:
    """The Gaussian error linear unit, x times the normal distribution's share below x (Hendrycks & Gimpel 2016).

    Computed in float32 or more, and by erf, as in PyTorch: XLA takes twice as long for jax.nn.gelu, which is by erfc.
    For the backward pass x alone is kept, where differentiating step by step would keep three arrays of its size.
    """
    wide = _wide(x)
    return (0.5 * wide * (1 + jax.lax.erf(wide * 0.5**0.5))).astype(x.dtype)


def _wide(x: Array) -> Array:
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _gelu_forward(x):
    return gelu(x), x


def _gelu_backward(x, g):
    # Without the barrier XLA would keep erf of the forward pass.
    x, g = jax.lax.optimization_barrier((x, g))
    wide = _wide(x)
    density = math.sqrt(0.5 / math.pi) * jnp.exp(-0.5 * wide * wide)
    slope = 0.5 * (1 + jax.lax.erf(wide * 0.5**0.5)) + wide * density
    return ((_wide(g) * slope).astype(x.dtype),)


gelu.defvjp(_gelu_forward, _gelu_backward)


ACTIVATIONS: dict[str, Callable] = {
    "ReLU": lambda: jax.nn.relu,
    "ReLU6": lambda: jax.nn.relu6,
    "LeakyReLU": lambda negative_slope=0.01: lambda x: jax.nn.leaky_relu(x, negative_slope),
    "GELU": lambda: gelu,
    "HSigmoid": lambda: jax.nn.hard_sigmoid,
    "HSwish": lambda: jax.nn.hard_swish,
    "QuickGELU": lambda: lambda x: x * jax.nn.sigmoid(1.702 * x),
    "Sigmoid": lambda: jax.nn.sigmoid,
    "SiLU": lambda: jax.nn.silu,
    "Swish": lambda: jax.nn.silu,
    "Tanh": lambda: jnp.tanh,
    "PReLU": PReLU,
}


def build_activation(act_cfg: Mapping, name: str | None = None) -> Callable:
    """Builds the activation that `act_cfg` describes; `name` is for those that have parameters.

    Raises:
        ConfigError: Unknown type or field.
    """
    kind = act_cfg.get("type")
    if kind not in ACTIVATIONS:
        raise ConfigError(f"act_cfg.type={kind!r} is not known. {did_you_mean(str(kind), ACTIVATIONS)}")
    fields = {key: value for key, value in act_cfg.items() if key not in ("type", "inplace")}
    if kind == "PReLU":
        # The reference writes the number of channels there; ours is the input's.
        fields.pop("num_parameters", None)
        fields["name"] = name
    try:
        return ACTIVATIONS[kind](**fields)
    except TypeError as error:
        raise ConfigError(f"act_cfg: {kind} does not take {sorted(set(fields) - {'name'})} ({error})") from error
