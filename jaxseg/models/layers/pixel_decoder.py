"""Pixel decoders: from a backbone's maps to the one that masks are made of, and to what queries look at."""

from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxseg.models.layers.attention import flatten_pixels
from jaxseg.models.layers.conv import Conv, Pair
from jaxseg.models.layers.conv_module import ConvModule
from jaxseg.models.layers.detr import DeformableEncoder, Table, TransformerEncoder, build_layer
from jaxseg.models.layers.positions import SinePositions
from jaxseg.models.layers.resize import resize
from jaxseg.models.registry import Registry

# Uniform within sqrt(3 / fan_in).
UNIFORM = nn.initializers.lecun_uniform()
XAVIER = nn.initializers.xavier_uniform()


class PixelDecoder(nn.Module):
    """A feature pyramid (Cheng et al. 2021, "MaskFormer").

    Attributes:
        feat_channels: Channels of the pyramid.
        out_channels: Channels of the map that masks are made of.
        norm_cfg, act_cfg: Of its convolutions.
    """

    feat_channels: int
    out_channels: int
    norm_cfg: Mapping | None = nn.FrozenDict(type="GN", num_groups=32)
    act_cfg: Mapping | None = nn.FrozenDict(type="ReLU")

    @nn.compact
    def __call__(
        self, features: Sequence[Float[Array, "b _ _ _"]], train: bool = False
    ) -> tuple[Float[Array, "b h w out_channels"], Float[Array, "b h2 w2 c"]]:
        """Returns the map that masks are made of, and the coarsest of the features as it is."""
        y = self.conv("last_feat_conv", 3)(features[-1], train)
        return self.pyramid(features, y, train), features[-1]

    def pyramid(self, features: Sequence[Array], y: Array, train: bool) -> Float[Array, "b h w out_channels"]:
        """Adds the finer features to the coarsest of the pyramid, one after the other."""
        last = len(features) - 2
        for i in range(last, -1, -1):
            # The reference leaves the last of both as a ConvModule starts.
            init = {} if i == last else {"kernel_init": UNIFORM}
            x = self.conv(f"lateral_convs_{i}", 1, act_cfg=None, **init)(features[i], train)
            y = self.conv(f"output_convs_{i}", 3, **init)(x + resize(y, x.shape[1:3], "nearest"), train)
        return Conv(self.out_channels, 3, padding=1, kernel_init=UNIFORM, name="mask_feature")(y)

    def conv(self, name: str, kernel_size: int, **fields) -> ConvModule:
        """A convolution of the pyramid, with its norm and activation."""
        given = {"norm_cfg": self.norm_cfg, "act_cfg": self.act_cfg, "padding": kernel_size // 2} | fields
        return ConvModule(self.feat_channels, kernel_size, name=name, **given)


class TransformerEncoderPixelDecoder(PixelDecoder):
    """The same with a transformer between the pixels of the coarsest features.

    Attributes:
        encoder: Fields of the transformer.
        positional_encoding: Fields of the pixels' positions.
    """

    encoder: Mapping = nn.FrozenDict()
    positional_encoding: Mapping = nn.FrozenDict(num_feats=128, normalize=True)

    @nn.compact
    def __call__(
        self, features: Sequence[Float[Array, "b _ _ _"]], train: bool = False
    ) -> tuple[Float[Array, "b h w out_channels"], Float[Array, "b h2 w2 feat_channels"]]:
        """Returns the map that masks are made of, and what the transformer makes of the coarsest features."""
        x = Conv(self.feat_channels, 1, kernel_init=UNIFORM, name="encoder_in_proj")(features[-1])
        size = x.shape[1:3]
        positions = build_layer(SinePositions, self.positional_encoding, "positional_encoding")(size)
        encoder = build_layer(TransformerEncoder, self.encoder, "encoder")
        tokens = encoder(flatten_pixels(x), positions.reshape(-1, positions.shape[-1]), train=train)
        memory = tokens.reshape(x.shape)
        y = self.conv("encoder_out_proj", 3, kernel_init=UNIFORM)(memory, train)
        return self.pyramid(features, y, train), memory


class MSDeformAttnPixelDecoder(nn.Module):
    """A transformer between the pixels of several maps, which look at a few places each (Cheng et al. 2022).

    Attributes:
        feat_channels, out_channels, norm_cfg, act_cfg: As in `PixelDecoder`.
        encoder: Fields of the transformer; its attention's `num_levels` says how many maps, from the coarsest.
        positional_encoding: Fields of the pixels' positions.
        num_outs: How many maps the queries look at.
        strides: Kept for configs that state them; the sizes of the maps say as much.
    """

    feat_channels: int = 256
    out_channels: int = 256
    norm_cfg: Mapping | None = nn.FrozenDict(type="GN", num_groups=32)
    act_cfg: Mapping | None = nn.FrozenDict(type="ReLU")
    encoder: Mapping = nn.FrozenDict()
    positional_encoding: Mapping = nn.FrozenDict(num_feats=128, normalize=True)
    num_outs: int = 3
    strides: Sequence[int] = (4, 8, 16, 32)

    @nn.compact
    def __call__(
        self, features: Sequence[Float[Array, "b _ _ _"]], train: bool = False
    ) -> tuple[Float[Array, "b h w out_channels"], list[Float[Array, "b _ _ feat_channels"]]]:
        """Returns the map that masks are made of, and those that queries look at, the coarsest first."""
        levels = attention_levels(self.encoder)
        coarsest_first, finer = list(features[::-1][:levels]), features[: len(features) - levels]
        sizes = [x.shape[1:3] for x in coarsest_first]
        tokens = [
            flatten_pixels(self.conv(f"input_convs_{i}", act_cfg=None, use_bias=True, kernel_init=XAVIER)(x, train))
            for i, x in enumerate(coarsest_first)
        ]
        level_encoding = Table(levels, self.feat_channels, name="level_encoding")()
        encode = build_layer(SinePositions, self.positional_encoding, "positional_encoding")
        positions = [
            encode(size).reshape(-1, self.feat_channels) + level
            for size, level in zip(sizes, level_encoding, strict=True)
        ]
        centres = jnp.concatenate([pixel_centres(size) for size in sizes])
        encoder = build_layer(DeformableEncoder, self.encoder, "encoder")
        tokens = encoder(jnp.concatenate(tokens, 1), jnp.concatenate(positions), centres, sizes, train=train)
        parts = jnp.split(tokens, np.cumsum([h * w for h, w in sizes])[:-1], axis=1)
        maps = [part.reshape(len(part), *size, -1) for part, size in zip(parts, sizes, strict=True)]
        for i in range(len(finer) - 1, -1, -1):
            x = self.conv(f"lateral_convs_{i}", act_cfg=None, kernel_init=UNIFORM)(finer[i], train)
            y = x + resize(maps[-1], x.shape[1:3])
            maps.append(self.conv(f"output_convs_{i}", kernel_size=3, kernel_init=UNIFORM)(y, train))
        mask_feature = Conv(self.out_channels, 1, kernel_init=UNIFORM, name="mask_feature")(maps[-1])
        return mask_feature, maps[: self.num_outs]

    def conv(self, name: str, kernel_size: int = 1, **fields) -> ConvModule:
        """A convolution with norm and activation."""
        given = {"norm_cfg": self.norm_cfg, "act_cfg": self.act_cfg, "padding": kernel_size // 2} | fields
        return ConvModule(self.feat_channels, kernel_size, name=name, **given)


def attention_levels(encoder: Mapping) -> int:
    """How many maps the attention of a deformable encoder's config has."""
    return encoder.get("layer_cfg", {}).get("self_attn_cfg", {}).get("num_levels", 4)


def pixel_centres(size: Pair) -> Float[Array, "n 2"]:
    """(x, y) in 0..1 of every pixel of a map, row by row."""
    height, width = size
    rows, columns = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    centres = np.stack([columns.ravel(), rows.ravel()], axis=-1) + 0.5
    return jnp.asarray((centres / (width, height)).astype(np.float32))


# By the reference's `type`.
PIXEL_DECODERS: Registry = {
    "mmdet.MSDeformAttnPixelDecoder": MSDeformAttnPixelDecoder,
    "mmdet.PixelDecoder": PixelDecoder,
    "mmdet.TransformerEncoderPixelDecoder": TransformerEncoderPixelDecoder,
}
