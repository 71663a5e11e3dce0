"""What MaskFormer and Mask2Former share: queries, each of which is a mask and the class of all of it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxseg.errors import ConfigError
from jaxseg.models.layers.conv import Conv, Pair
from jaxseg.models.layers.detr import TransformerDecoder, build_layer
from jaxseg.models.layers.norm import at_least_float32
from jaxseg.models.layers.pixel_decoder import PIXEL_DECODERS, UNIFORM
from jaxseg.models.layers.resize import resize
from jaxseg.models.layers.transformer import bare_linear
from jaxseg.models.registry import build

Queries = tuple[Float[Array, "b q classes"], Float[Array, "b h w q"]]


class MaskClassificationHead(nn.Module):
    """Queries look at an image's features; each becomes a mask and a class, or no object.

    A head defines `decode(x, train)`: from the feature maps to the queries' classes and masks after every layer.

    Attributes:
        in_channels: Channels of the feature maps, finest first.
        feat_channels: Channels of the queries.
        out_channels: Channels of the map that masks are made of.
        num_classes: Number of classes.
        num_queries: Number of queries.
        pixel_decoder: What makes that map; see `layers.pixel_decoder`.
        transformer_decoder: What the queries go through; see `layers.detr`.
        positional_encoding: Fields of the pixels' positions.
        enforce_decoder_input_project: Whether what the queries look at is projected even where it fits.
        in_index: Which of the backbone's (or neck's) outputs to take; None: as many as `in_channels` has.
        loss_cls, loss_mask, loss_dice: Losses; see `jaxseg.losses.masks`.
        train_cfg: How queries are matched with what there is, and at how many points masks are compared.
        ignore_index: Label of pixels that don't count.
        align_corners: Kept for configs that state it; masks are always resized without.
    """

    in_channels: Sequence[int]
    feat_channels: int
    out_channels: int
    num_classes: int = 150
    num_queries: int = 100
    pixel_decoder: Mapping = nn.FrozenDict(type="mmdet.PixelDecoder")
    transformer_decoder: Mapping = nn.FrozenDict()
    positional_encoding: Mapping = nn.FrozenDict(num_feats=128, normalize=True)
    enforce_decoder_input_project: bool = False
    in_index: Sequence[int] | None = None
    loss_cls: Mapping = nn.FrozenDict(type="mmdet.CrossEntropyLoss")
    loss_mask: Mapping = nn.FrozenDict(type="mmdet.FocalLoss")
    loss_dice: Mapping = nn.FrozenDict(type="mmdet.DiceLoss")
    train_cfg: Mapping = nn.FrozenDict()
    ignore_index: int | None = 255
    align_corners: bool = False

    # Masks turn into classes at the size of the images, which the call is given.
    takes_size: ClassVar[bool] = True

    @nn.compact
    def __call__(
        self, features: Sequence[Float[Array, "b _ _ _"]], train: bool = False, size: Pair | None = None
    ) -> dict[str, Any] | Float[Array, "b h w num_classes"]:
        """Sums, over the queries, the class's probability times that of the pixel to be in the mask.

        Args:
            features: What to select from.
            train: Whether to return what the losses need, and dropout drops.
            size: Height and width of the result; None: those of the masks.

        Returns:
            Scores of the classes, in float32; while training {"classes": logits [layers b queries classes+1], the last
            of them no object, "masks": logits [layers b h w queries], "key": of the points masks are compared at}.
        """
        queries = self.decode(self.select(features), train)
        if train:
            classes, masks = (jnp.stack(parts) for parts in zip(*queries, strict=True))
            key = self.make_rng("points") if self.has_rng("points") else jax.random.key(0)
            return {"classes": classes, "masks": masks, "key": key}
        classes, masks = queries[-1]
        shares = jax.nn.softmax(classes, axis=-1)[..., :-1]
        inside = jax.nn.sigmoid(masks if size is None else resize(masks, size))
        return jnp.einsum("bqc,bhwq->bhwc", shares, inside)

    def decode(self, x: list[Float[Array, "b _ _ _"]], train: bool) -> list[Queries]:
        """The queries' classes and masks after every layer. Every head defines it."""
        raise TypeError(f"{type(self).__name__} does not define decode(x, train)")

    def error(self, field: str, reason: str) -> ConfigError:
        """A ConfigError about one of this head's fields."""
        return ConfigError(f"{self.name or type(self).__name__}.{field}={getattr(self, field)!r}: {reason}")

    @property
    def logit_channels(self) -> int:
        """Channels of the result."""
        return self.num_classes

    def select(self, features: Sequence[Array]) -> list[Array]:
        """The feature maps that this head decodes."""
        indices = range(len(self.in_channels)) if self.in_index is None else self.in_index
        if not all(-len(features) <= i < len(features) for i in indices):
            raise self.error("in_index", f"there are {len(features)} feature maps")
        maps = [features[i] for i in indices]
        found = [x.shape[-1] for x in maps]
        if found != list(self.in_channels):
            raise self.error("in_channels", f"the maps have {found} channels")
        return maps

    def build_pixel_decoder(self) -> nn.Module:
        """The pixel decoder."""
        channels = {"feat_channels": self.feat_channels, "out_channels": self.out_channels}
        return build(PIXEL_DECODERS, {**self.pixel_decoder, **channels}, "pixel_decoder", name="pixel_decoder")

    def build_decoder(self, **fields) -> TransformerDecoder:
        """The transformer that the queries go through."""
        return build_layer(TransformerDecoder, self.transformer_decoder, "transformer_decoder", **fields)

    @property
    def decoder_channels(self) -> int:
        """Channels of the transformer that the queries go through."""
        return self.transformer_decoder.get("layer_cfg", {}).get("self_attn_cfg", {}).get("embed_dims", 256)

    def project(self, x: Float[Array, "b h w c"], name: str) -> Float[Array, "b h w embed_dims"]:
        """What the queries look at, with the channels of their transformer."""
        if x.shape[-1] == self.decoder_channels and not self.enforce_decoder_input_project:
            return x
        return Conv(self.decoder_channels, 1, kernel_init=UNIFORM, name=name)(x)

    def predictor(self) -> Callable[[Array, Array], Queries]:
        """Layers that tell the classes and the masks of queries: `predict(query, mask_feature)`."""
        width = self.feat_channels
        cls_embed = bare_linear(width, self.num_classes + 1, name="cls_embed")
        sizes = {"mask_embed_0": width, "mask_embed_2": width, "mask_embed_4": self.out_channels}
        first, second, third = (bare_linear(width, features, name=name) for name, features in sizes.items())

        def predict(query: Array, mask_feature: Array) -> Queries:
            # In float32 or more: it is little, and what is rounded here moves whole masks.
            query = query.astype(at_least_float32(query.dtype))
            kernel = third(jax.nn.relu(second(jax.nn.relu(first(query)))))
            return cls_embed(query), jnp.einsum("bqc,bhwc->bhwq", kernel, mask_feature.astype(query.dtype))

        return predict
