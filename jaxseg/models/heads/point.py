"""PointRend head."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from jaxseg.models.heads.decode_head import DecodeHead
from jaxseg.models.layers.activation import build_activation
from jaxseg.models.layers.initializers import kaiming_normal, normal
from jaxseg.models.layers.norm import at_least_float32, build_norm, norm_name
from jaxseg.models.layers.points import sample_points
from jaxseg.models.layers.resize import resize


class PointHead(DecodeHead):
    """Classifies anew the points that the head before is least sure of (Kirillov et al. 2020, "PointRend").

    A point's features are those of the selected maps and the logits of the head before, all interpolated there.
    It is a later head of a CascadeEncoderDecoder, whose `train_cfg` and `test_cfg` have the settings.

    Attributes:
        num_fcs: Number of layers before the classifier, each applied to every point by itself.
        coarse_pred_each_layer: Whether the logits of the head before go into every layer, not the first alone.
    """

    num_fcs: int = 3
    coarse_pred_each_layer: bool = True
    input_transform: str | None = "multiple_select"
    norm_cfg: Mapping | None = None

    # What the model's `train_cfg` and `test_cfg` set, and is given to the call.
    settings: ClassVar[Sequence[str]] = (
        "num_points",
        "oversample_ratio",
        "importance_sample_ratio",
        "subdivision_steps",
        "subdivision_num_points",
        "scale_factor",
    )

    @nn.compact
    def __call__(
        self,
        features: Sequence[Float[Array, "b _ _ _"]],
        train: bool = False,
        previous: Float[Array, "b h w classes"] | None = None,
        num_points: int = 2048,
        oversample_ratio: float = 3,
        importance_sample_ratio: float = 0.75,
        subdivision_steps: int = 2,
        subdivision_num_points: int = 8196,
        scale_factor: float = 2,
    ) -> dict[str, Any] | Float[Array, "b h2 w2 classes"]:
        """Refines the logits of the head before.

        Args:
            features: What to select from.
            train: Whether points are drawn at random, by the key "points" (a fixed one, where there is none).
            previous: Logits of the head before.
            num_points: Points of an image, while training.
            oversample_ratio: How many times as many are drawn for the least sure ones to be taken of.
            importance_sample_ratio: Share of points that are taken so; the others are any.
            subdivision_steps: How often the logits' size grows, otherwise.
            subdivision_num_points: Points that are classified anew after each growth, at most.
            scale_factor: By how much the size grows.

        Returns:
            Logits; while training {"logits": [b n classes], "points": [b n 2]} of points, which are (x, y) in 0..1.
        """
        self.check()
        if previous is None:
            raise self.error("in_index", "a PointHead refines another head: it must come later in a cascade")
        maps = self.select(features)
        layers = self.layers()

        def classify(points: Array) -> Array:
            fine = [sample_points(x, points, self.align_corners) for x in maps]
            coarse = sample_points(previous, points, self.align_corners)
            return self.classify_points(layers, jnp.concatenate(fine, axis=-1), coarse, train)

        if train:
            key = self.make_rng("points") if self.has_rng("points") else jax.random.key(0)
            count = (num_points, oversample_ratio, importance_sample_ratio)
            points = draw_points(key, jax.lax.stop_gradient(previous), *count)
            return {"logits": classify(points), "points": points}

        logits = previous
        for _ in range(subdivision_steps):
            size = [int(length * scale_factor) for length in logits.shape[1:3]]
            logits = resize(logits, size, align_corners=self.align_corners, scale=(scale_factor, scale_factor))
            indices, points = least_sure_pixels(logits, subdivision_num_points)
            flat = logits.reshape(logits.shape[0], -1, logits.shape[-1])
            flat = flat.at[jnp.arange(len(flat))[:, None], indices].set(classify(points))
            logits = flat.reshape(logits.shape)
        return logits

    def check(self) -> None:
        """Raises ConfigError where the fields don't fit each other."""
        super().check()
        if self.sampler is not None:
            raise self.error("sampler", "the points are the sample")

    def layers(self) -> list[nn.Module]:
        """The layers, and the classifier."""
        layers = [PointLayer(self.channels, self.norm_cfg, self.act_cfg, name=f"fcs_{i}") for i in range(self.num_fcs)]
        return [*layers, PointConv(self.logit_channels, kernel_init=normal(0.01), name="fc_seg")]

    def classify_points(
        self, layers: list[nn.Module], fine: Float[Array, "b n c"], coarse: Float[Array, "b n classes"], train: bool
    ) -> Float[Array, "b n classes"]:
        """Logits of points by their features and the logits that they have."""
        *hidden, classifier = layers
        coarse = coarse.astype(fine.dtype)
        x = jnp.concatenate([fine, coarse], axis=-1)
        for layer in hidden:
            x = layer(x, train)
            if self.coarse_pred_each_layer:
                x = jnp.concatenate([x, coarse], axis=-1)
        drop = train and self.has_rng("dropout")
        x = nn.Dropout(max(self.dropout_ratio, 0.0))(x, deterministic=not drop)
        return classifier(x).astype(at_least_float32(x.dtype))


class PointConv(nn.Module):
    """A linear layer over points, whose kernel is that of a convolution of width one: [1 in out]."""

    features: int
    use_bias: bool = True
    kernel_init: nn.initializers.Initializer = kaiming_normal()

    @nn.compact
    def __call__(self, x: Float[Array, "b n c"]) -> Float[Array, "b n features"]:
        """Applies the layer."""
        kernel = self.param("kernel", self.kernel_init, (1, x.shape[-1], self.features), jnp.float32)
        y = jnp.einsum("bnc,co->bno", x, kernel[0].astype(x.dtype))
        if self.use_bias:
            y = y + self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32).astype(x.dtype)
        return y


class PointLayer(nn.Module):
    """PointConv -> norm -> activation."""

    features: int
    norm_cfg: Mapping | None
    act_cfg: Mapping | None

    @nn.compact
    def __call__(self, x: Float[Array, "b n c"], train: bool) -> Float[Array, "b n features"]:
        """Applies the three layers that are configured."""
        x = PointConv(self.features, use_bias=self.norm_cfg is None, name="conv")(x)
        if self.norm_cfg is not None:
            x = build_norm(self.norm_cfg, name=norm_name(self.norm_cfg))(x, train)
        return x if self.act_cfg is None else build_activation(self.act_cfg, name="activate")(x)


def uncertainty(logits: Float[Array, "*b classes"]) -> Float[Array, "*b"]:
    """The second largest logit minus the largest: 0 where a point may as well be of either class, else less."""
    largest = jax.lax.top_k(logits, 2)[0]
    return largest[..., 1] - largest[..., 0]


def draw_points(
    key: PRNGKeyArray,
    logits: Float[Array, "b h w classes"],
    num_points: int,
    oversample_ratio: float,
    importance_sample_ratio: float,
) -> Float[Array, "b n 2"]:
    """Random points, a share of which are the least sure ones of many."""
    batch, dtype = logits.shape[0], at_least_float32(logits.dtype)
    of_many, of_any = jax.random.split(key)
    many = jax.random.uniform(of_many, (batch, int(num_points * oversample_ratio), 2), dtype)
    count = int(importance_sample_ratio * num_points)
    chosen = jax.lax.top_k(uncertainty(sample_points(logits, many)), count)[1]
    rest = jax.random.uniform(of_any, (batch, num_points - count, 2), dtype)
    return jnp.concatenate([jnp.take_along_axis(many, chosen[..., None], axis=1), rest], axis=1)


def least_sure_pixels(logits: Float[Array, "b h w classes"], count: int) -> tuple[Array, Float[Array, "b n 2"]]:
    """Indices (row by row) and centres of the pixels that are the least sure; all, where there are no more."""
    batch, height, width, _ = logits.shape
    indices = jax.lax.top_k(uncertainty(logits).reshape(batch, -1), min(height * width, count))[1]
    dtype = at_least_float32(logits.dtype)
    columns, rows = (indices % width).astype(dtype), (indices // width).astype(dtype)
    return indices, jnp.stack([(columns + 0.5) / width, (rows + 0.5) / height], axis=-1)
