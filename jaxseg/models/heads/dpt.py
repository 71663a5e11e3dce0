"""DPT head."""

from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxseg.models.heads.decode_head import DecodeHead
from jaxseg.models.layers.conv import ConvTranspose, bare_conv
from jaxseg.models.layers.conv_module import ConvModule
from jaxseg.models.layers.initializers import default_bias, default_kernel
from jaxseg.models.layers.resize import resize
from jaxseg.models.layers.transformer import bare_linear

READOUTS = ("ignore", "add", "project")
Tokens = tuple[Float[Array, "b h w c"], Float[Array, "b c"]]


class Reassemble(nn.Module):
    """Makes a pyramid of a transformer's maps, which are all of one size.

    Attributes:
        out_channels: Of the four maps that go out.
        readout_type: What becomes of the class token: "ignore"; "add" it to every pixel; "project" it together with
            every pixel.
    """

    out_channels: Sequence[int]
    readout_type: str

    @nn.compact
    def __call__(self, features: Sequence[Tokens], train: bool = False) -> list[Float[Array, "b _ _ _"]]:
        """From maps and class tokens to maps of 4, 2, 1 and half the size, rounded up."""
        maps = []
        for i, (x, token) in enumerate(features):
            x = self.readout(x, token[:, None, None], i)
            maps.append(ConvModule(self.out_channels[i], 1, name=f"projects_{i}")(x, train))
        for i, factor in enumerate((4, 2)):
            channels = self.out_channels[i]
            start = {"kernel_init": default_kernel(), "bias_init": default_bias(factor**2 * channels)}
            maps[i] = ConvTranspose(channels, factor, factor, **start, name=f"resize_layers_{i}")(maps[i])
        channels = self.out_channels[3]
        maps[3] = bare_conv(channels, channels, 3, stride=2, padding=1, name="resize_layers_3")(maps[3])
        return maps

    def readout(self, x: Float[Array, "b h w c"], token: Float[Array, "b 1 1 c"], i: int) -> Float[Array, "b h w c"]:
        """The i-th map, with what its class token has to say."""
        if self.readout_type == "add":
            return x + token
        if self.readout_type == "project":
            channels = x.shape[-1]
            x = jnp.concatenate([x, jnp.broadcast_to(token, x.shape)], axis=-1)
            x = bare_linear(2 * channels, channels, name=f"readout_projects_{i}_0")(x)
            return jax.nn.gelu(x, approximate=False)
        return x


class ResidualUnit(nn.Module):
    """Two convolutions behind their activations, beside a shortcut.

    Attributes:
        norm_cfg, act_cfg: Of the convolutions.
    """

    norm_cfg: Mapping | None
    act_cfg: Mapping | None

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool = False) -> Float[Array, "b h w c"]:
        """Applies the unit."""
        fields = {"norm_cfg": self.norm_cfg, "act_cfg": self.act_cfg, "order": ("act", "conv", "norm")}
        y = x
        for i in (1, 2):
            y = ConvModule(x.shape[-1], 3, padding=1, use_bias=False, **fields, name=f"conv{i}")(y, train)
        return x + y


class Fusion(nn.Module):
    """Adds a finer map to a coarser one and makes the sum twice as large.

    Attributes:
        norm_cfg, act_cfg: Of the residual units.
    """

    norm_cfg: Mapping | None
    act_cfg: Mapping | None

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], finer: Float[Array, "b h2 w2 c"] | None, train: bool = False
    ) -> Float[Array, "b h3 w3 c"]:
        """Applies the units; `finer` is None for the coarsest map."""
        size, channels = x.shape[1:3], x.shape[-1]
        if finer is not None:
            unit = ResidualUnit(self.norm_cfg, self.act_cfg, name="res_conv_unit1")
            x = x + unit(resize(finer, size), train)
        x = ResidualUnit(self.norm_cfg, self.act_cfg, name="res_conv_unit2")(x, train)
        x = resize(x, [2 * length for length in size], align_corners=True)
        return ConvModule(channels, 1, name="project")(x, train)


class DPTHead(DecodeHead):
    """A convolutional decoder of a transformer's maps and class tokens (Ranftl et al. 2021, "DPT").

    Attributes:
        embed_dims: Channels of the four pairs of a map and a class token that come in.
        post_process_channels: Channels of the maps that are made of them.
        readout_type: What becomes of the class tokens, see `Reassemble`.
        patch_size, expand_channels: Kept for configs that state them; the first changes nothing, and the reference
            can't build the second.
    """

    input_transform: str | None = "multiple_select"
    embed_dims: int = 768
    post_process_channels: Sequence[int] = (96, 192, 384, 768)
    readout_type: str = "ignore"
    patch_size: int = 16
    expand_channels: bool = False
    norm_cfg: Mapping | None = nn.FrozenDict(type="BN")

    @nn.compact
    def __call__(self, features: Sequence[Tokens | Array], train: bool = False) -> Float[Array, "b h2 w2 out_channels"]:
        """Returns float32 logits at eight times the size of the maps."""
        self.check()
        if self.readout_type not in READOUTS:
            raise self.error("readout_type", f"allowed: {', '.join(READOUTS)}")
        if self.expand_channels:
            raise self.error("expand_channels", "must be False")
        if len(self.post_process_channels) != 4 or len(self.in_index) != 4:
            raise self.error("post_process_channels", f"there must be four, and as many in in_index={self.in_index}")
        if set(self.in_channels) != {self.embed_dims}:
            raise self.error("embed_dims", f"must be that of every map, in_channels={tuple(self.in_channels)}")
        if not all(isinstance(feature, tuple) for feature in features):
            raise self.error("in_index", "class tokens are needed; give the backbone output_cls_token=True")
        maps = self.select([x for x, _ in features])
        pairs = [(x, features[i][1]) for x, i in zip(maps, self.in_index, strict=True)]
        return self.classify(self.decode(pairs, train), train)

    def decode(self, x: Sequence[Tokens], train: bool) -> Float[Array, "b h2 w2 channels"]:
        """Fuses the maps from the coarsest to the finest."""
        maps = Reassemble(self.post_process_channels, self.readout_type, name="reassemble_blocks")(x, train)
        maps = [
            ConvModule(self.channels, 3, padding=1, use_bias=False, name=f"convs_{i}")(level, train)
            for i, level in enumerate(maps)
        ]
        y, finer = maps[-1], [None, *maps[-2::-1]]
        for i, level in enumerate(finer):
            y = Fusion(self.norm_cfg, self.act_cfg, name=f"fusion_blocks_{i}")(y, level, train)
        relu = {"type": "ReLU"}
        return ConvModule(self.channels, 3, padding=1, norm_cfg=self.norm_cfg, act_cfg=relu, name="project")(y, train)
