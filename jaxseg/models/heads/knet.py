"""K-Net's head."""

import inspect
from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxseg.errors import ConfigError
from jaxseg.models.layers.activation import build_activation
from jaxseg.models.layers.conv_module import ConvModule
from jaxseg.models.layers.norm import LayerNorm, at_least_float32, build_norm
from jaxseg.models.layers.resize import resize
from jaxseg.models.layers.transformer import FFN, MultiheadAttention, bare_linear
from jaxseg.models.registry import build

RELU = nn.FrozenDict(type="ReLU")
LAYER_NORM = nn.FrozenDict(type="LN")


class KernelUpdator(nn.Module):
    """Mixes a kernel with what its class looks like in the image, by two gates.

    Attributes:
        in_channels, feat_channels, out_channels: One number: channels of the parts that a kernel is mixed in.
        gate_sigmoid: Whether gates are in 0..1.
        gate_norm_act: Whether norm and activation precede the gates.
        activate_out: Whether an activation precedes the mixing.
        norm_cfg, act_cfg: Norms and activations.
    """

    in_channels: int = 256
    feat_channels: int = 64
    out_channels: int | None = None
    gate_sigmoid: bool = True
    gate_norm_act: bool = False
    activate_out: bool = False
    norm_cfg: Mapping = LAYER_NORM
    act_cfg: Mapping = RELU

    @nn.compact
    def __call__(
        self, seen: Float[Array, "*b n c"], kernels: Float[Array, "*b n c"], train: bool = False
    ) -> Float[Array, "*b n c"]:
        """Returns the new kernels, given what the classes look like."""
        channels, act = self.feat_channels, build_activation(self.act_cfg)
        shape, parts = kernels.shape, (*kernels.shape[:-1], -1, channels)
        seen, kernels = seen.reshape(parts), kernels.reshape(parts)

        def norm(name: str, x: Array) -> Array:
            return build_norm(self.norm_cfg, name=name)(x, train)

        def gate(name: str, norm_name: str) -> Array:
            x = norm(norm_name, bare_linear(channels, channels, name=name)(gates))
            return jax.nn.sigmoid(x) if self.gate_sigmoid else x

        seen_in, seen_out = jnp.split(bare_linear(channels, 2 * channels, name="dynamic_layer")(seen), 2, axis=-1)
        kept_in, kept_out = jnp.split(bare_linear(channels, 2 * channels, name="input_layer")(kernels), 2, axis=-1)
        gates = kept_in * seen_in
        if self.gate_norm_act:
            gates = act(norm("gate_norm", gates))
        keep, renew = gate("input_gate", "input_norm_in"), gate("update_gate", "norm_in")
        seen_out, kept_out = norm("norm_out", seen_out), norm("input_norm_out", kept_out)
        if self.activate_out:
            seen_out, kept_out = act(seen_out), act(kept_out)
        y = bare_linear(channels, channels, name="fc_layer")(renew * seen_out + keep * kept_out)
        return act(norm("fc_norm", y)).reshape(shape)


class KernelUpdateHead(nn.Module):
    """Updates the kernels of all classes by the pixels that they found, and finds pixels by the new ones.

    Attributes:
        num_classes, kernel_init: Have no effect, as in the reference.
        num_ffn_fcs, feedforward_channels, ffn_act_cfg: Of the feed-forward network.
        num_heads: Heads of the attention between the kernels.
        num_mask_fcs, act_cfg: Number of layers that make masks' kernels, and their activation.
        in_channels, out_channels: One number: channels of the map and of the kernels.
        dropout: Of the attention's weights and in the feed-forward network.
        conv_kernel_size: 1.
        feat_transform_cfg: Fields of a convolution of the map; None for none.
        with_ffn: Whether there is a feed-forward network.
        feat_gather_stride: Stride of that convolution.
        mask_transform_stride: 2 for masks of half the map's size, if it has not been halved; they are enlarged again.
        kernel_updator_cfg: Fields of the `KernelUpdator`.
    """

    kernel_updator_cfg: Mapping
    num_classes: int = 150
    num_ffn_fcs: int = 2
    num_heads: int = 8
    num_mask_fcs: int = 3
    feedforward_channels: int = 2048
    in_channels: int = 256
    out_channels: int = 256
    dropout: float = 0.0
    act_cfg: Mapping = RELU
    ffn_act_cfg: Mapping = RELU
    conv_kernel_size: int = 1
    feat_transform_cfg: Mapping | None = None
    kernel_init: bool = False
    with_ffn: bool = True
    feat_gather_stride: int = 1
    mask_transform_stride: int = 1

    def check(self) -> None:
        """Raises ConfigError where the fields don't fit each other."""
        channels, where = self.in_channels, f"decode_head.{self.name}"
        if self.out_channels != channels:
            raise ConfigError(f"{where}.out_channels={self.out_channels} must be in_channels={channels}")
        if self.conv_kernel_size != 1:
            raise ConfigError(f"{where}.conv_kernel_size={self.conv_kernel_size}: only 1 is supported")
        if channels % self.num_heads:
            raise ConfigError(f"{where}.num_heads={self.num_heads} must divide in_channels={channels}")
        cfg = self.kernel_updator_cfg
        sizes = {cfg.get("in_channels", 256), cfg.get("feat_channels", 64)} | {cfg.get("out_channels")} - {None}
        if len(sizes) > 1 or channels % sizes.pop():
            raise ConfigError(
                f"{where}.kernel_updator_cfg: in_channels, feat_channels and out_channels must be one number "
                f"that divides in_channels={channels} of the head"
            )

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b h w c"],
        kernels: Float[Array, "b n c"],
        masks: Float[Array, "b _ _ n"],
        train: bool = False,
    ) -> tuple[Float[Array, "b _ _ n"], Float[Array, "b n c"]]:
        """Returns the logits of the new masks and the new kernels, given the map and those before."""
        self.check()
        channels = self.in_channels
        if x.shape[-1] != channels:
            raise ConfigError(f"decode_head.{self.name}.in_channels={channels}: the map has {x.shape[-1]} channels")
        if self.feat_transform_cfg is not None:
            fields = {"act_cfg": RELU, "kernel_size": 1, **self.feat_transform_cfg}
            fields.pop("conv_cfg", None)
            stride = self.feat_gather_stride
            x = ConvModule(channels, **fields, stride=stride, padding=stride // 2, name="feat_transform")(x, train)
        wide = at_least_float32(x.dtype)  # of what is computed with kernels, which are few
        shares = jax.nn.softmax(resize(masks, x.shape[1:3]), axis=-1).astype(x.dtype)
        seen = jnp.einsum("bhwn,bhwc->bnc", shares, x, preferred_element_type=wide)

        where = f"model.decode_head.{self.name}.kernel_updator_cfg"
        updator = build({"KernelUpdator": KernelUpdator}, self.kernel_updator_cfg, where, name="kernel_update_conv")
        kernels = updator(seen, kernels, train)
        attention = MultiheadAttention(channels, self.num_heads, self.dropout, name="attention_attn")
        kernels = LayerNorm(name="attention_norm")(kernels + attention(kernels, train=train))
        if self.with_ffn:
            ffn = FFN(
                self.feedforward_channels,
                self.num_ffn_fcs,
                self.ffn_act_cfg,
                self.dropout,
                kernel_init=None,
                bias_init=None,
                name="ffn",
            )
            kernels = LayerNorm(name="ffn_norm")(kernels + ffn(kernels, train))

        y = kernels
        for i in range(self.num_mask_fcs):
            y = bare_linear(channels, channels, use_bias=False, name=f"mask_fcs_{3 * i}")(y)
            y = build_activation(self.act_cfg)(LayerNorm(name=f"mask_fcs_{3 * i + 1}")(y))
        y = bare_linear(channels, channels, name="fc_mask")(y)
        if self.mask_transform_stride == 2 and self.feat_gather_stride == 1:
            x = resize(x, (x.shape[1] // 2, x.shape[2] // 2), scale=(0.5, 0.5))
        masks = jnp.einsum("bhwc,bnc->bhwn", x, y.astype(x.dtype), preferred_element_type=wide)
        if self.mask_transform_stride == 2:
            masks = resize(masks, (2 * masks.shape[1], 2 * masks.shape[2]), scale=(2, 2))
        return masks, kernels


class IterativeDecodeHead(nn.Module):
    """A head whose classifier learns of the image, in several rounds (Zhang et al. 2021, "K-Net").

    Attributes:
        num_stages: Number of rounds.
        kernel_generate_head: The head that begins: type and fields of a decode head with one classifier.
        kernel_update_head: Type and fields of the `KernelUpdateHead` of each round.
        num_classes: Number of classes, in place of what kernel_generate_head says; None: that.
    """

    num_stages: int
    kernel_generate_head: Mapping
    kernel_update_head: Sequence[Mapping]
    num_classes: int | None = None

    dotted_names = ((r"^attention_attn$", "attention.attn"),)

    def __post_init__(self) -> None:
        """The head that begins says how many classes there are, unless this one does."""
        if self.num_classes is None:
            self.num_classes = self.kernel_generate_head.get("num_classes")
        super().__post_init__()

    @nn.nowrap
    def generator(self, **place) -> nn.Module:
        """The head that begins."""
        from jaxseg.models import HEADS  # which holds this head, too

        config = {**self.kernel_generate_head, "num_classes": self.num_classes}
        return build(HEADS, config, "model.decode_head.kernel_generate_head", **place)

    @nn.compact
    def __call__(
        self, features: Sequence[Float[Array, "b _ _ _"]], train: bool = False
    ) -> Float[Array, "b h w classes"] | dict[str, Float[Array, "b _ _ classes"]]:
        """Returns the last round's logits; while training those of all, "s0" (before the first), "s1", ..."""
        if len(self.kernel_update_head) != self.num_stages:
            raise ConfigError(
                f"decode_head.kernel_update_head has {len(self.kernel_update_head)} entries, "
                f"num_stages={self.num_stages} needs as many"
            )
        generator = self.generator(name="kernel_generate_head")
        if "with_map" not in inspect.signature(generator.__call__).parameters:
            raise ConfigError(
                f"decode_head.kernel_generate_head.type={self.kernel_generate_head['type']!r}: "
                "needs a head with one map and one classifier"
            )
        logits, x = generator(features, train, with_map=True)
        kernels = generator.variables["params"]["conv_seg"]["kernel"][0, 0].T.astype(logits.dtype)
        kernels = jnp.broadcast_to(kernels, (x.shape[0], *kernels.shape))
        stages = {"s0": logits}
        for i, config in enumerate(self.kernel_update_head):
            where, name = f"model.decode_head.kernel_update_head[{i}]", f"kernel_update_head_{i}"
            update = build({"KernelUpdateHead": KernelUpdateHead}, config, where, name=name)
            logits, kernels = update(x, kernels, logits, train)
            stages[f"s{i + 1}"] = logits
        return stages if train else logits


def _shared(name: str) -> property:
    """A property that is the first head's."""
    return property(lambda head: getattr(head.generator(parent=None), name))


# What losses and inference ask of a head.
for name in ("align_corners", "ignore_index", "logit_channels", "loss_decode", "sampler", "threshold"):
    setattr(IterativeDecodeHead, name, _shared(name))
