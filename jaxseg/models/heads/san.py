"""SAN head."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict
from jaxtyping import Array, Float

from jaxseg.errors import ConfigError
from jaxseg.models.layers.clip import CLIP_NAMES, QUICK_GELU, CLIPLayer
from jaxseg.models.layers.conv import bare_conv
from jaxseg.models.layers.conv_module import ConvModule
from jaxseg.models.layers.freezing import frozen_but
from jaxseg.models.layers.initializers import default_kernel, normal, trunc_normal, uniform
from jaxseg.models.layers.norm import LayerNorm, at_least_float32, build_norm
from jaxseg.models.layers.pooling import adaptive_max_pool
from jaxseg.models.layers.resize import resize
from jaxseg.models.layers.transformer import (
    ATTENTION_NAMES,
    Linear,
    PatchEmbed,
    TransformerEncoderLayer,
    bare_linear,
    resize_positions,
)
from jaxseg.models.registry import build
from jaxseg.models.text_encoder import normalise

IMAGE_SIZE = 640  # that the side network's table of positions is made for
APART = -100.0  # added to a product, so that a token does not see another

# A map of an image encoder, and its class token.
Feature = tuple[Float[Array, "b _ _ c"], Float[Array, "b c"]]


class SideAdapterCLIPHead(nn.Module):
    """Masks by a small network beside a frozen CLIP, classes by CLIP's last layers (Xu et al. 2023, "SAN").

    The side network proposes masks, and for each of them where in the image CLIP is to look. A copy of CLIP's class
    token looks there in the layers that the image encoder has left out, and is compared with the names of the classes.

    Attributes:
        num_classes: Number of classes; the embeddings that are compared with have "none of them" as one more.
        san_cfg: Fields of the `SideAdapterNetwork`.
        maskgen_cfg: Fields of `RecWithAttnbias`.
        deep_supervision_idxs: Layers of the side network, counted from 1, after which there are masks while training,
            besides the last.
        train_cfg: How masks and classes of the labels are matched; see `jaxseg.losses`.
        loss_decode: Losses of the classes, `loss_cls_ce`, and of the masks, `loss_mask_ce` and `loss_mask_dice`.
        ignore_index: Label of pixels that don't count.
        align_corners: Of the resize of the logits to images of another size.
    """

    num_classes: int
    san_cfg: Mapping
    maskgen_cfg: Mapping
    deep_supervision_idxs: Sequence[int] = ()
    train_cfg: Mapping | None = None
    loss_decode: Mapping | Sequence[Mapping] = nn.FrozenDict(type="CrossEntropyLoss")
    ignore_index: int | None = 255
    align_corners: bool = False

    dotted_names: ClassVar[Sequence[tuple[str, str]]] = (*ATTENTION_NAMES, *CLIP_NAMES)
    sampler: ClassVar[None] = None
    threshold: ClassVar[None] = None

    @property
    def logit_channels(self) -> int:
        """Channels of the logits."""
        return self.num_classes

    @nn.compact
    def __call__(
        self,
        images: Float[Array, "b h w _"],
        features: Sequence[Feature],
        classes: Float[Array, "k d"],
        train: bool = False,
    ) -> dict[str, Any] | Float[Array, "b h w num_classes"]:
        """Segments images.

        Args:
            images: What the side network sees.
            features: What the image encoder found in them.
            classes: Embeddings of the classes, that of none of them last.
            train: Whether the outputs for the losses are wanted.

        Returns:
            Scores at the size of the images; while training {"classes": logits [layers b queries k], "masks": logits
            [layers b h2 w2 queries], "key": of the points masks are compared at}, where the layers are those of
            `deep_supervision_idxs` and the last.
        """
        queries, tokens = self.san_cfg.get("num_queries", 100), self.maskgen_cfg.get("sos_token_num", 100)
        if queries != tokens:
            raise ConfigError(
                f"decode_head.san_cfg.num_queries={queries} and maskgen_cfg.sos_token_num={tokens} must be equal"
            )
        side = build(
            {}, {"type": SideAdapterNetwork, **self.san_cfg}, "decode_head.san_cfg", name="side_adapter_network"
        )
        recognise = self.recognition(name="rec_with_attnbias")
        masks, biases = side(images, features, self.deep_supervision_idxs if train else (), train)
        found = [recognise(bias, *features[-1]) for bias in biases]
        wide = at_least_float32(images.dtype)
        logits = [jnp.einsum("bqd,kd->bqk", x.astype(wide), classes.astype(wide)) for x in found]
        if train:
            key = self.make_rng("points") if self.has_rng("points") else jax.random.key(0)
            return {"classes": jnp.stack(logits), "masks": jnp.stack(masks), "key": key}
        mask = jax.nn.sigmoid(resize(masks[-1], images.shape[1:3]))
        return jnp.einsum("bqk,bhwq->bhwk", jax.nn.softmax(logits[-1])[..., :-1], mask)

    @nn.nowrap
    def recognition(self, **place: Any) -> "RecWithAttnbias":
        """CLIP's layers, built in a place."""
        return build({}, {"type": RecWithAttnbias, **self.maskgen_cfg}, "decode_head.maskgen_cfg", **place)

    @nn.nowrap
    def frozen_parameters(self) -> tuple[str, ...]:
        """Prefixes of the paths of parameters that are not trained: CLIP's layers."""
        return tuple(f"rec_with_attnbias/{name}" for name in self.recognition(parent=None).frozen_parameters())


class SideAdapterNetwork(nn.Module):
    """A narrow transformer over queries and patches, to which the maps of a CLIP are added.

    Attributes:
        in_channels: Channels of the image.
        clip_channels: Channels of the maps that are added.
        embed_dims: Channels of a token.
        patch_size: Rows and columns of a patch.
        patch_bias: Whether the convolution that makes tokens has a bias.
        num_queries: Number of masks.
        fusion_index: After how many layers each of the maps is added.
        cfg_encoder: The layers: `num_encode_layer`, `num_heads`, `mlp_ratio`.
        cfg_decoder: The fields of `MLPMaskDecoder`: `num_heads`, `num_layers`, `embed_channels`, `mlp_channels`,
            `num_mlp`, `rescale`.
        norm_cfg: Norm layers.
    """

    cfg_encoder: Mapping
    cfg_decoder: Mapping
    in_channels: int = 3
    clip_channels: int = 768
    embed_dims: int = 240
    patch_size: int = 16
    patch_bias: bool = True
    num_queries: int = 100
    fusion_index: Sequence[int] = (0, 1, 2, 3)
    norm_cfg: Mapping = nn.FrozenDict(type="LN")

    def check(self, features: Sequence[Feature]) -> None:
        """Raises ConfigError where the fields don't fit each other, or the maps."""
        fusions = tuple(self.fusion_index)
        if fusions != tuple(range(len(fusions))):
            raise ConfigError(f"decode_head.san_cfg.fusion_index={fusions}: maps are added after 0, 1, 2, ... layers")
        if len(fusions) > self.cfg_encoder["num_encode_layer"] + 1:
            raise ConfigError(f"decode_head.san_cfg.fusion_index={fusions}: there are no more layers")
        found = [feature.shape[-1] for feature, _ in features]
        if found != [self.clip_channels] * len(fusions):
            raise ConfigError(
                f"decode_head.san_cfg.clip_channels={self.clip_channels}, fusion_index={fusions}: the maps have "
                f"{found} channels"
            )

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w _"], features: Sequence[Feature], depths: Sequence[int], train: bool
    ) -> tuple[list[Float[Array, "b h2 w2 queries"]], list[list[Float[Array, "b h2 w2 heads queries"]]]]:
        """Logits of masks, and what is added to CLIP's attention, after each of `depths` layers and the last."""
        self.check(features)
        encoder = dict(self.cfg_encoder)
        dims, depth = self.embed_dims, encoder["num_encode_layer"]
        x = PatchEmbed(
            dims,
            self.patch_size,
            padding=0,
            use_bias=self.patch_bias,
            name="patch_embed",
        )(images)
        batch, grid = len(x), x.shape[1:3]
        places = self.positions(grid).astype(x.dtype)
        queries = self.param("query_embed", normal(0.02), (1, self.num_queries, dims), jnp.float32).astype(x.dtype)
        x = jnp.concatenate([jnp.tile(queries, (batch, 1, 1)), x.reshape(batch, -1, dims)], axis=1) + places
        decoder = MLPMaskDecoder(dims, **self.cfg_decoder, name="mask_decoder")
        masks, biases = [], []
        for i in range(depth + 1):
            if i > 0:
                layer = TransformerEncoderLayer(
                    encoder["num_heads"],
                    encoder["mlp_ratio"] * dims,
                    norm_cfg=self.norm_cfg,
                    init_std=None,
                    ffn_bias_init=None,
                    name=f"encode_layers_{i - 1}",
                )
                x = layer(x, train)
            if i < len(features):
                x = x.at[:, self.num_queries :].add(self.fused(i, features[i][0], grid))
            if i == depth or i in depths:
                mask, bias = decoder(x[:, : self.num_queries], x[:, self.num_queries :].reshape(batch, *grid, dims))
                masks.append(mask)
                biases.append(bias)
            if 0 < i < depth:
                x = x + places
        return masks, biases

    def positions(self, grid: tuple[int, int]) -> Float[Array, "1 n c"]:
        """Of the queries and of the patches."""
        sides = (IMAGE_SIZE // self.patch_size,) * 2
        table = self.param("pos_embed", trunc_normal(0.02), (1, sides[0] * sides[1], self.embed_dims), jnp.float32)
        # By the number of patches and not by their rows and columns, as the reference has it.
        if grid[0] * grid[1] != table.shape[1]:
            table = resize_positions(table, sides, grid)
        shape = (1, self.num_queries, self.embed_dims)
        return jnp.concatenate([self.param("query_pos_embed", normal(0.02), shape, jnp.float32), table], axis=1)

    def fused(self, i: int, feature: Float[Array, "b h w c"], grid: tuple[int, int]) -> Float[Array, "b n d"]:
        """What one of CLIP's maps adds to the patches."""
        bound = (3 / feature.shape[-1]) ** 0.5
        x = LayerNorm(1e-6, name=f"conv_clips_{i}_0")(feature)
        conv = ConvModule(
            self.embed_dims, 1, act_cfg=None, kernel_init=uniform(-bound, bound), name=f"conv_clips_{i}_1"
        )
        return resize(conv(x), grid).reshape(len(x), -1, self.embed_dims)


class MLPMaskDecoder(nn.Module):
    """From queries and patches to masks, and to biases of attention.

    Attributes:
        in_channels: Channels of a token.
        num_heads: Heads of the attention that is biased, or 1: all heads have one bias.
        num_layers: Layers that have biases of their own, or 1: all layers have the same.
        embed_channels: Channels of what masks are products of.
        mlp_channels, num_mlp: Width and number of the layers that make them.
        rescale: Whether biases have a learned factor and shift.
    """

    in_channels: int
    num_heads: int = 1
    num_layers: int = 1
    embed_channels: int = 256
    mlp_channels: int = 256
    num_mlp: int = 3
    rescale: bool = False

    @nn.compact
    def __call__(
        self, queries: Float[Array, "b q c"], x: Float[Array, "b h w c"]
    ) -> tuple[Float[Array, "b h w q"], list[Float[Array, "b h w heads q"]]]:
        """Logits of masks; biases of each layer; both in at least float32."""
        widths = (self.in_channels, *[self.mlp_channels] * (self.num_mlp - 1))
        many = (self.num_layers, self.num_heads, self.embed_channels)
        queries = MLP((*widths, self.embed_channels), name="query_mlp")(queries)
        pixels = MLP((*widths, self.embed_channels), maps=True, name="pix_mlp")(x)
        wide = at_least_float32(x.dtype)
        mask = jnp.einsum("bqc,bhwc->bhwq", queries, pixels, preferred_element_type=wide)
        attended = MLP((*widths, int(np.prod(many))), maps=True, name="attn_mlp")(x).reshape(*x.shape[:3], *many)
        bias = jnp.einsum("bqc,bhwlnc->lbhwnq", queries, attended, preferred_element_type=wide)
        if self.rescale:
            bias = bare_linear(1, 1, name="bias_scaling")(bias[..., None])[..., 0]
        return mask, list(bias)


class MLP(nn.Module):
    """Linear layers with rectified units in between.

    Attributes:
        widths: Channels of the input, and after each layer.
        maps: Whether the layers are convolutions of single pixels.
    """

    widths: Sequence[int]
    maps: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "*b c"]) -> Float[Array, "*b d"]:
        """Applies the layers."""
        for i, (channels, features) in enumerate(zip(self.widths, self.widths[1:], strict=False)):
            name = f"layers_{i}"
            layer = (bare_conv if self.maps else bare_linear)(channels, features, name=name)
            x = layer(jax.nn.relu(x) if i else x)
        return x


class RecWithAttnbias(nn.Module):
    """CLIP's last layers, in which a copy of the class token for every mask looks where its bias says.

    Attributes:
        sos_token_format: What these copies are made of; only "cls_token" is supported.
        sos_token_num: Number of masks.
        num_layers, num_heads, mlp_ratio, qkv_bias, act_cfg: Of the layers.
        cross_attn: Only False is supported: the copies are tokens among the others, which do not see them.
        embed_dims: Channels of a token.
        num_fcs: Kept for configs that state it, as 2.
        out_dims: Channels of what is compared with the classes.
        final_norm: Whether that is of length 1.
        norm_cfg: The last norm.
        frozen_exclude: Parameters of whose names one of these is a part are trained, and no others; "all": all are.
    """

    sos_token_format: str = "cls_token"
    sos_token_num: int = 100
    num_layers: int = 3
    cross_attn: bool = False
    embed_dims: int = 768
    num_heads: int = 12
    mlp_ratio: int = 4
    num_fcs: int = 2
    qkv_bias: bool = True
    out_dims: int = 512
    final_norm: bool = True
    act_cfg: Mapping = QUICK_GELU
    norm_cfg: Mapping = nn.FrozenDict(type="LN")
    frozen_exclude: Sequence[str] = ()

    def check(self, biases: Sequence[Array], x: Array) -> None:
        """Raises ConfigError where the fields don't fit each other, the biases, or the map."""
        for field, supported in (("sos_token_format", "cls_token"), ("cross_attn", False)):
            if getattr(self, field) != supported:
                raise self.error(field, f"only {supported!r} is supported")
        if self.embed_dims != x.shape[-1]:
            raise self.error("embed_dims", f"the image encoder's last map has {x.shape[-1]} channels")
        if len(biases) not in (1, self.num_layers):
            raise self.error("num_layers", f"san_cfg.cfg_decoder.num_layers={len(biases)} must be that, or 1")
        if biases[0].shape[3] not in (1, self.num_heads):
            raise self.error("num_heads", f"san_cfg.cfg_decoder.num_heads={biases[0].shape[3]} must be that, or 1")

    def error(self, field: str, reason: str) -> ConfigError:
        """A ConfigError about one of the fields."""
        return ConfigError(f"decode_head.maskgen_cfg.{field}={getattr(self, field)!r}: {reason}")

    @nn.compact
    def __call__(
        self, biases: Sequence[Float[Array, "b h2 w2 heads q"]], x: Float[Array, "b h w c"], token: Float[Array, "b c"]
    ) -> Float[Array, "b q out_dims"]:
        """What CLIP sees in each mask."""
        self.check(biases, x)
        size, count = x.shape[1:3], self.sos_token_num
        x = jnp.concatenate([jnp.repeat(token[:, None], count + 1, axis=1), x.reshape(len(x), -1, x.shape[-1])], axis=1)
        biases = [self.spread(bias, size) for bias in biases]
        for i in range(self.num_layers):
            layer = CLIPLayer(self.num_heads, self.mlp_ratio, self.qkv_bias, self.act_cfg, name=f"layers_{i}")
            x = layer(x, biases[i if len(biases) > 1 else 0])
        x = build_norm(self.norm_cfg, name="ln_post")(x[:, :count])
        x = Linear(self.out_dims, use_bias=False, kernel_init=default_kernel(), name="proj")(x)
        return normalise(x) if self.final_norm else x

    def spread(self, bias: Float[Array, "b h2 w2 heads q"], size: tuple[int, int]) -> Float[Array, "b heads n n"]:
        """The bias of all tokens: masks' copies, class token, patches.

        A copy sees itself and, by its bias, the patches; the others don't see the copies.
        """
        batch, _, _, heads, count = bias.shape
        bias = adaptive_max_pool(bias.reshape(*bias.shape[:3], -1), size)
        bias = bias.reshape(batch, -1, heads, count).transpose(0, 2, 3, 1)
        total = count + 1 + bias.shape[-1]
        fixed = np.zeros((total, total), np.float32)
        fixed[:, :count] = APART
        fixed[:count, count] = APART
        np.fill_diagonal(fixed[:count, :count], 0)
        return jnp.asarray(fixed, bias.dtype) + jnp.pad(bias, ((0, 0), (0, 0), (0, total - count), (count + 1, 0)))

    @nn.nowrap
    def frozen_parameters(self) -> tuple[str, ...]:
        """Prefixes of the paths of parameters that are not trained."""
        if "all" in self.frozen_exclude:
            return ()
        if not self.frozen_exclude:
            return ("",)
        x = jax.ShapeDtypeStruct((1, 1, 1, self.embed_dims), jnp.float32)
        bias = jax.ShapeDtypeStruct((1, 1, 1, 1, self.sos_token_num), jnp.float32)
        token = jax.ShapeDtypeStruct((1, self.embed_dims), jnp.float32)
        paths = flatten_dict(jax.eval_shape(self.init, jax.random.key(0), [bias], x, token)["params"])
        return frozen_but(paths, self.frozen_exclude)
