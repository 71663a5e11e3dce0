"""Non-local block: every pixel learns of every other."""

from collections.abc import Callable, Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxseg.models.layers.attention import flatten_pixels
from jaxseg.models.layers.conv_module import ConvModule
from jaxseg.models.layers.initializers import normal
from jaxseg.models.layers.norm import at_least_float32

MODES = ("embedded_gaussian", "gaussian", "dot_product", "concatenation")


class NonLocal(nn.Module):
    """Adds to each pixel a mean over all pixels, weighted by pairs (Wang et al. 2018, "Non-local Neural Networks").

    It starts as the identity.

    Attributes:
        reduction: How many times fewer channels the projections have.
        use_scale: Whether products are divided by the root of their channels; of "embedded_gaussian" only.
        mode: What a pair weighs. "embedded_gaussian": a softmax of products of projections, "gaussian": of the
            pixels themselves; "dot_product": the products, and "concatenation": a learned function of both
            projections, each over the number of pixels.
        norm_cfg: Of the last convolution.
    """

    reduction: int = 2
    use_scale: bool = True
    mode: str = "embedded_gaussian"
    norm_cfg: Mapping | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool = False) -> Float[Array, "b h w c"]:
        """Returns the map with its context."""
        value = flatten_pixels(self.projection("g")(x))
        context = jnp.einsum("bqk,bkd->bqd", self.weights(x).astype(value.dtype), value)
        return x + self.output(context.reshape(*x.shape[:3], -1), x.shape[-1], train)

    def weights(self, x: Float[Array, "b h w c"]) -> Float[Array, "b n n"]:
        """What every pixel (second axis) gives to every other (third axis), in float32 or more."""
        wide = at_least_float32(x.dtype)
        query, key = self.query_and_key(x)
        if self.mode == "concatenation":
            project = ConvModule(1, 1, act_cfg={"type": "ReLU"}, use_bias=False, name="concat_project")
            count = query.shape[1]
            pairs = [jnp.repeat(query[:, :, None], count, axis=2), jnp.repeat(key[:, None], count, axis=1)]
            return project(jnp.concatenate(pairs, axis=-1))[..., 0].astype(wide) / count
        scores = jnp.einsum("bqd,bkd->bqk", query, key, preferred_element_type=wide)
        if self.mode == "dot_product":
            return scores / scores.shape[-1]
        return jax.nn.softmax(self.scale(query.shape[-1]) * scores, axis=-1)

    def query_and_key(self, x: Float[Array, "b h w c"]) -> tuple[Float[Array, "b n d"], Float[Array, "b n d"]]:
        """What pairs are weighed by."""
        if self.mode == "gaussian":
            return flatten_pixels(x), flatten_pixels(x)
        return flatten_pixels(self.projection("theta")(x)), flatten_pixels(self.projection("phi")(x))

    def scale(self, channels: int) -> float:
        """Factor of the products before a softmax."""
        return channels**-0.5 if self.use_scale and self.mode == "embedded_gaussian" else 1.0

    def projection(self, name: str) -> Callable[[Array], Array]:
        """A plain 1x1 convolution to fewer channels: `project(x)`."""

        def project(x: Array) -> Array:
            features = max(x.shape[-1] // self.reduction, 1)
            return ConvModule(features, 1, kernel_init=normal(0.01), name=name)(x)

        return project

    def output(self, x: Float[Array, "b h w d"], features: int, train: bool) -> Float[Array, "b h w features"]:
        """Back to the map's channels; what comes last, norm or convolution, starts at zero."""
        zeros = nn.initializers.zeros
        if self.norm_cfg is None:
            return ConvModule(features, 1, kernel_init=zeros, name="conv_out")(x, train)
        norm_cfg = {**self.norm_cfg, "scale_init": zeros}
        return ConvModule(features, 1, norm_cfg=norm_cfg, name="conv_out")(x, train)
