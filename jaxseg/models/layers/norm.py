"""Normalisation layers, built from the reference's `norm_cfg`."""

import functools
from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from jaxseg.errors import ConfigError, did_you_mean


def at_least_float32(dtype: jnp.dtype) -> jnp.dtype:
    """The dtype that statistics of `dtype` are computed in."""
    return jnp.promote_types(dtype, jnp.float32)


def _statistics(x: Array, axes: int | tuple[int, ...], keepdims: bool = False) -> tuple[Array, Array]:
    """Mean and variance, as numbers: `normalise` knows what they do to gradients."""
    x32 = lax.stop_gradient(x).astype(at_least_float32(x.dtype))
    mean = jnp.mean(x32, axes, keepdims=True)
    var = jnp.mean(jnp.square(x32 - mean), axes, keepdims=keepdims)
    return mean.reshape(var.shape), var


@functools.partial(jax.custom_vjp, nondiff_argnums=(5, 6))
def normalise(
    x: Float[Array, "*b c"],
    mean: Float[Array, "..."],
    var: Float[Array, "..."],
    scale: Float[Array | np.ndarray, " c"],
    bias: Float[Array | np.ndarray, " c"],
    axes: int | tuple[int, ...],
    eps: float,
) -> Float[Array, "*b c"]:
    """(x - mean) / sqrt(var + eps) * scale + bias, computed in float32 or more, in the dtype of x.

    The gradient takes into account that mean and variance are those of x along `axes`. For it x is kept as it is;
    differentiating step by step would keep x less its mean, in float32, besides.
    """
    x32 = x.astype(at_least_float32(x.dtype))
    root = lax.rsqrt(var + eps)
    # Whichever is the smaller product: of a number a channel, or of one a token.
    y = (x32 - mean) * (root * scale) if root.ndim == 1 else (x32 - mean) * root * scale
    return (y + bias).astype(x.dtype)


def _normalise_forward(x, mean, var, scale, bias, axes, eps):
    return normalise(x, mean, var, scale, bias, axes, eps), (x, mean, var, scale)


def _normalise_backward(axes, eps, residuals, g):
    x, mean, var, scale = residuals
    wide = at_least_float32(x.dtype)
    root = lax.rsqrt(var + eps)
    # Without the barrier XLA may keep y of the forward pass, and without g in it compute y long before it is needed.
    x, g = lax.optimization_barrier((x, g))
    y = (x.astype(wide) - mean) * root
    g = g.astype(wide)
    others = tuple(range(x.ndim - 1))
    scaled = g * scale
    inner = scaled - jnp.mean(scaled, axes, keepdims=True) - y * jnp.mean(scaled * y, axes, keepdims=True)
    zeros = jnp.zeros_like(mean)
    sums = (jnp.sum(g * y, others), jnp.sum(g, others))
    return (root * inner).astype(x.dtype), zeros, zeros, *(total.astype(scale.dtype) for total in sums)


normalise.defvjp(_normalise_forward, _normalise_backward)


class BatchNorm(nn.Module):
    """Batch normalisation (Ioffe & Szegedy 2015) with PyTorch's conventions.

    Statistics are computed in float32 (or more) over the whole batch. Under `jit` with the batch sharded over a
    mesh that is the *global* batch, so this is what other libraries call synchronised batch normalisation.

    Attributes:
        eps: Added to the variance.
        momentum: Weight of the new batch in the running statistics (0.1 here is Flax's 0.9).
        scale_init: Initializer of the scale.
    """

    eps: float = 1e-5
    momentum: float = 0.1
    scale_init: nn.initializers.Initializer = nn.initializers.ones

    @nn.compact
    def __call__(self, x: Float[Array, "*b c"], train: bool = False) -> Float[Array, "*b c"]:
        """Normalises x: by the batch's statistics when training, which also updates the running ones."""
        features = x.shape[-1]
        scale = self.param("scale", self.scale_init, (features,), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (features,), jnp.float32)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, (features,), jnp.float32)
        running_var = self.variable("batch_stats", "var", jnp.ones, (features,), jnp.float32)

        if train:
            axes = tuple(range(x.ndim - 1))
            mean, var = _statistics(x, axes)
            if not self.is_initializing():
                count = x.size // features
                unbiased = var * (count / max(count - 1, 1))
                running_mean.value += self.momentum * (mean - running_mean.value)
                running_var.value += self.momentum * (unbiased - running_var.value)
            return normalise(x, mean, var, scale, bias, axes, self.eps)
        mean, var = running_mean.value, running_var.value
        x32 = x.astype(at_least_float32(x.dtype))
        y = (x32 - mean) * (lax.rsqrt(var + self.eps) * scale) + bias
        return y.astype(x.dtype)


class GroupNorm(nn.Module):
    """Group normalisation (Wu & He 2018): statistics of one image over space and a group of channels."""

    num_groups: int = 32
    eps: float = 1e-5
    scale_init: nn.initializers.Initializer = nn.initializers.ones

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool = False) -> Float[Array, "b h w c"]:
        """Normalises x; training makes no difference."""
        b, h, w, c = x.shape
        if c % self.num_groups:
            raise ValueError(f"num_groups={self.num_groups} must divide the {c} channels")
        scale = self.param("scale", self.scale_init, (c,), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (c,), jnp.float32)
        groups = x.astype(at_least_float32(x.dtype)).reshape(b, h * w, self.num_groups, c // self.num_groups)
        mean = jnp.mean(groups, (1, 3), keepdims=True)
        var = jnp.mean(jnp.square(groups - mean), (1, 3), keepdims=True)
        y = ((groups - mean) * lax.rsqrt(var + self.eps)).reshape(b, h, w, c) * scale + bias
        return y.astype(x.dtype)


class LayerNorm(nn.Module):
    """Layer normalisation (Ba et al. 2016): statistics of one pixel or token over its channels."""

    eps: float = 1e-5
    scale_init: nn.initializers.Initializer = nn.initializers.ones

    @nn.compact
    def __call__(self, x: Float[Array, "*b c"], train: bool = False) -> Float[Array, "*b c"]:
        """Normalises x; training makes no difference."""
        scale = self.param("scale", self.scale_init, (x.shape[-1],), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (x.shape[-1],), jnp.float32)
        return normalise(x, *_statistics(x, -1, keepdims=True), scale, bias, -1, self.eps)


# The reference's type -> (class, prefix of its attributes' names, which name the parameters).
NORMS: dict[str, tuple[type[nn.Module], str]] = {
    "BN": (BatchNorm, "bn"),
    "BN2d": (BatchNorm, "bn"),
    "SyncBN": (BatchNorm, "bn"),
    "GN": (GroupNorm, "gn"),
    "LN": (LayerNorm, "ln"),
    "LN2d": (LayerNorm, "ln"),
}


def norm_name(norm_cfg: Mapping, postfix: str | int = "") -> str:
    """The name that the reference gives a norm layer, such as "bn1" or "gn"."""
    return f"{_lookup(norm_cfg)[1]}{postfix}"


def build_norm(norm_cfg: Mapping, name: str | None = None, **overrides) -> nn.Module:
    """Builds the norm layer that `norm_cfg` describes, called as `norm(x, train)`.

    Args:
        norm_cfg: `type` and the fields of that layer; `requires_grad` is the optimizer's business.
        name: Name of the submodule.
        overrides: Fields that win over `norm_cfg`.

    Raises:
        ConfigError: Unknown type or field.
    """
    module, _ = _lookup(norm_cfg)
    fields = {key: value for key, value in norm_cfg.items() if key not in ("type", "requires_grad")}
    allowed = set(module.__dataclass_fields__) - {"parent", "name"}
    for key in fields:
        if key not in allowed:
            raise ConfigError(f"norm_cfg: {norm_cfg['type']} has no field {key!r}. {did_you_mean(key, allowed)}")
    return module(**(fields | overrides), name=name)


def _lookup(norm_cfg: Mapping) -> tuple[type[nn.Module], str]:
    kind = norm_cfg.get("type")
    if kind not in NORMS:
        raise ConfigError(f"norm_cfg.type={kind!r} is not known. {did_you_mean(str(kind), NORMS)}")
    return NORMS[kind]
