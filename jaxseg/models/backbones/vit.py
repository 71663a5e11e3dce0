"""Vision transformer."""

import re
from collections.abc import Mapping, Sequence
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict
from jaxtyping import Array, Float

from jaxseg.errors import ConfigError
from jaxseg.models.layers.conv import Pair
from jaxseg.models.layers.drop import Dropout
from jaxseg.models.layers.freezing import frozen_but
from jaxseg.models.layers.initializers import kaiming_normal, trunc_normal
from jaxseg.models.layers.norm import build_norm
from jaxseg.models.layers.transformer import (
    ATTENTION_NAMES,
    PatchEmbed,
    TransformerEncoderLayer,
    chosen_layers,
    drop_path_rates,
    patch_grid,
    resize_positions,
)
from jaxseg.models.names import Source

# From names that timm, DeiT, BEiT and MAE share.
BLOCK_RULES = (
    (r"^patch_embed\.proj\.", "patch_embed.projection."),
    (r"^blocks\.(\d+)\.norm", r"layers.\1.ln"),
    (r"^blocks\.(\d+)\.mlp\.fc1\.", r"layers.\1.ffn.layers.0.0."),
    (r"^blocks\.(\d+)\.mlp\.fc2\.", r"layers.\1.ffn.layers.1."),
)
TIMM_RULES = (
    *BLOCK_RULES,
    (r"^norm\.", "ln1."),
    (r"^blocks\.(\d+)\.attn\.qkv\.", r"layers.\1.attn.attn.in_proj_"),
    (r"^blocks\.(\d+)\.attn\.proj\.", r"layers.\1.attn.attn.out_proj."),
)
# Of the authors, in JAX; `joined` has made a qkv of three arrays.
GOOGLE_RULES = (
    (r"^opt/target/", ""),
    (r"^cls$", "cls_token"),
    (r"^Transformer/posembed_input/pos_embedding$", "pos_embed"),
    (r"^embedding/", "patch_embed.projection."),
    (r"^Transformer/encoder_norm/", "ln1."),
    (r"^Transformer/encoderblock_(\d+)/", r"layers.\1."),
    (r"\.LayerNorm_0/", ".ln1."),
    (r"\.LayerNorm_2/", ".ln2."),
    (r"\.MlpBlock_3/Dense_0/", ".ffn.layers.0.0."),
    (r"\.MlpBlock_3/Dense_1/", ".ffn.layers.1."),
    (r"\.MultiHeadDotProductAttention_1/qkv/kernel$", ".attn.attn.in_proj_weight"),
    (r"\.MultiHeadDotProductAttention_1/qkv/bias$", ".attn.attn.in_proj_bias"),
    (r"\.MultiHeadDotProductAttention_1/out/", ".attn.attn.out_proj."),
    (r"\.(?:kernel|scale)$", ".weight"),
)


def joined(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Queries', keys' and values' projections of JAX as one, without an axis of heads, all kernels as PyTorch's."""
    result = {}
    for name, array in arrays.items():
        match = re.fullmatch(r"(.*/)(query|key|value)/(kernel|bias)", name)
        parts = [arrays.get(f"{match[1]}{part}/{match[3]}") for part in ("query", "key", "value")] if match else []
        if match and all(part is not None for part in parts):
            inputs = array.shape[:-2]
            name = f"{match[1]}qkv/{match[3]}"
            array = np.concatenate([part.reshape(*inputs, -1) for part in parts], axis=-1)
        elif name.endswith("/out/kernel"):
            array = array.reshape(-1, array.shape[-1])
        if name.endswith("kernel"):
            array = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T
        result[name] = array
    return result


class VisionTransformer(nn.Module):
    """Patches of an image as a sequence of tokens (Dosovitskiy et al. 2021; DeiT, Touvron et al. 2021).

    Attributes:
        img_size: Of the images that the table of positions is made for: one number, or (height, width). For grids of
            another number of patches it is resized.
        patch_size: Rows and columns of a patch.
        patch_pad: How images are padded to whole patches, as in `PatchEmbed.padding`.
        in_channels: Channels of the image.
        embed_dims: Channels of a token.
        num_layers: Number of layers.
        num_heads: Of the attention.
        mlp_ratio: Width of the feed-forward networks, in widths of a token.
        out_origin: Whether the tokens before the first layer are an output, too.
        out_indices: Layers whose outputs are returned; -1: the last.
        qkv_bias: Whether the attention's projections have biases.
        drop_rate: Dropout of tokens, and after attention and feed-forward networks.
        attn_drop_rate: Dropout of the attention's weights.
        drop_path_rate: Stochastic depth of the last layer; it grows evenly from 0.
        with_cls_token: Whether the class token goes through the layers.
        output_cls_token: Whether each output is a pair: the map and the class token.
        norm_cfg: Norm layers: layer normalisation.
        act_cfg: Activation of the feed-forward networks.
        patch_norm: Whether the patches are normalised.
        patch_bias: Whether the convolution that makes tokens has a bias.
        pre_norm, final_norm: Whether there is a norm before the first layer, and after the last.
        interpolate_mode: How the table of positions is resized.
        num_fcs: Linear layers of a feed-forward network.
        norm_eval: Kept for configs that state it; layer normalisation has no statistics.
        with_cp: Recompute each layer's activations in the backward pass, to save memory.
        frozen_exclude: Parameters of whose names one of these is a part are trained, and no others; "all": all are.
    """

    img_size: int | Sequence[int] = 224
    patch_size: int = 16
    patch_pad: str | int | None = "corner"
    in_channels: int = 3
    embed_dims: int = 768
    num_layers: int = 12
    num_heads: int = 12
    mlp_ratio: int = 4
    out_origin: bool = False
    out_indices: int | Sequence[int] = -1
    qkv_bias: bool = True
    drop_rate: float = 0.0
    attn_drop_rate: float = 0.0
    drop_path_rate: float = 0.0
    with_cls_token: bool = True
    output_cls_token: bool = False
    norm_cfg: Mapping = nn.FrozenDict(type="LN")
    act_cfg: Mapping = nn.FrozenDict(type="GELU")
    patch_norm: bool = False
    patch_bias: bool = False
    pre_norm: bool = False
    final_norm: bool = False
    interpolate_mode: str = "bicubic"
    num_fcs: int = 2
    norm_eval: bool = False
    with_cp: bool = False
    frozen_exclude: Sequence[str] = ("all",)

    dotted_names: ClassVar[Sequence[tuple[str, str]]] = ATTENTION_NAMES

    @property
    def sources(self) -> Mapping[str, Source]:
        """Files of timm and DeiT, those of the authors (.npz), and what the reference's tools make of both.

        What this transformer lacks of theirs is left out, and their positions are resized, as in the reference.
        """
        fields = {"fit": self.fit}
        lacking = [] if self.patch_bias else [r"patch_embed\.proj(ection)?\.bias$", "embedding/bias$"]
        lacking += [] if self.final_norm else [r"norm\.", r"ln1\.", "Transformer/encoder_norm/"]
        ignored = "|".join([r"(head|head_dist|pre_logits|fc_norm)[./]", "dist_token$", *lacking])
        fields["ignored"] = f"^(opt/target/)?({ignored})"
        return {
            "timm": Source(TIMM_RULES, **fields),
            "google": Source(GOOGLE_RULES, prepare=joined, **fields),
            "converted": Source(**fields),
        }

    @nn.nowrap
    def fit(self, name: str, array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """A table of positions for this transformer's images."""
        if not name.endswith(".pos_embed") or array.ndim != 3 or array.shape[-1] != shape[-1]:
            return array
        side = int((array.shape[1] - 1) ** 0.5)
        array = np.concatenate([array[:, :1], array[:, array.shape[1] - side**2 :]], axis=1)
        grid = patch_grid(self.img_size, self.patch_size)
        return np.asarray(resize_positions(jnp.asarray(array), (side, side), grid, self.interpolate_mode))

    def check(self) -> None:
        """Raises ConfigError where the fields don't fit each other."""
        if self.embed_dims % self.num_heads:
            raise ConfigError(f"backbone.num_heads={self.num_heads} must divide embed_dims={self.embed_dims}")
        if self.output_cls_token and not self.with_cls_token:
            raise ConfigError("backbone.output_cls_token=True needs with_cls_token=True")

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool = False) -> tuple:
        """Returns the outputs of the layers `out_indices`, as maps of stride `patch_size`.

        With `output_cls_token` they are pairs (map [b h w embed_dims], class token [b embed_dims]).
        """
        self.check()
        dims, last = self.embed_dims, self.num_layers - 1
        chosen = chosen_layers(self.out_indices, self.num_layers)
        embed = PatchEmbed(
            dims,
            self.patch_size,
            padding=self.patch_pad or 0,
            use_bias=self.patch_bias,
            norm_cfg=self.norm_cfg if self.patch_norm else None,
            kernel_init=kaiming_normal(mode="fan_in"),
            name="patch_embed",
        )
        x = embed(x, train)
        grid = x.shape[1:3]
        x = self.with_positions(x)
        x = Dropout(self.drop_rate, name="drop_after_pos")(x, train)
        if not self.with_cls_token:
            x = x[:, 1:]
        if self.pre_norm:
            x = build_norm(self.norm_cfg, name="ln_pre")(x, train)

        layer = nn.remat(TransformerEncoderLayer, static_argnums=(2,)) if self.with_cp else TransformerEncoderLayer
        outputs = [self.output(x, grid)] if self.out_origin else []
        for i, drop_path_rate in enumerate(drop_path_rates(self.drop_path_rate, self.num_layers)):
            x = layer(
                self.num_heads,
                self.mlp_ratio * dims,
                self.num_fcs,
                self.qkv_bias,
                self.drop_rate,
                self.attn_drop_rate,
                drop_path_rate,
                self.act_cfg,
                self.norm_cfg,
                name=f"layers_{i}",
            )(x, train)
            if i == last and self.final_norm:
                x = build_norm(self.norm_cfg, name="ln1")(x, train)
            if i in chosen:
                outputs.append(self.output(x, grid))
        return tuple(outputs)

    def with_positions(self, x: Float[Array, "b h w c"]) -> Float[Array, "b n c"]:
        """The class token and the patches as one sequence, positions added."""
        b, height, width, dims = x.shape
        rows, columns = patch_grid(self.img_size, self.patch_size)
        token = self.param("cls_token", trunc_normal(0.02), (1, 1, dims), jnp.float32)
        positions = self.param("pos_embed", trunc_normal(0.02), (1, rows * columns + 1, dims), jnp.float32)
        # By the number of patches and not by their rows and columns, as the reference has it.
        if height * width != rows * columns:
            positions = resize_positions(positions, (rows, columns), (height, width), self.interpolate_mode)
        tokens = jnp.broadcast_to(token.astype(x.dtype), (b, 1, dims))
        x = jnp.concatenate([tokens, x.reshape(b, height * width, dims)], axis=1)
        return x + positions.astype(x.dtype)

    def output(self, x: Float[Array, "b n c"], grid: Pair) -> Array | tuple[Array, Array]:
        """The patches as a map; with its class token, where that is asked for."""
        patches = x[:, 1:] if self.with_cls_token else x
        patches = patches.reshape(x.shape[0], *grid, x.shape[-1])
        return (patches, x[:, 0]) if self.output_cls_token else patches

    @nn.nowrap
    def frozen_parameters(self) -> tuple[str, ...]:
        """Paths of the parameters that are not trained, for the optimizer."""
        if "all" in self.frozen_exclude:
            return ()
        image = jax.ShapeDtypeStruct((1, self.patch_size, self.patch_size, self.in_channels), jnp.float32)
        paths = flatten_dict(jax.eval_shape(self.init, jax.random.key(0), image)["params"])
        return frozen_but(paths, self.frozen_exclude)
