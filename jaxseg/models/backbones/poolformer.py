"""PoolFormer."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxseg.errors import ConfigError, did_you_mean
from jaxseg.models.layers.activation import build_activation
from jaxseg.models.layers.conv import bare_conv
from jaxseg.models.layers.drop import Dropout, DropPath
from jaxseg.models.layers.freezing import FrozenStages
from jaxseg.models.layers.norm import build_norm
from jaxseg.models.layers.pooling import avg_pool
from jaxseg.models.layers.transformer import drop_path_rates
from jaxseg.models.names import Source

# The last norm is that of classification, the others are this segmentation's own.
INITIAL = r"^backbone\.norm\d\."
# The authors' (github.com/sail-sg/poolformer).
AUTHORS = Source(rules=((r"^norm\.", "norm6."),), ignored=r"^head\.", initial=INITIAL)
MMPRETRAIN = Source(rules=((r"^backbone\.", ""),), ignored=r"^head\.", initial=INITIAL)


class Mlp(nn.Module):
    """Two 1x1 convolutions with an activation in between.

    Attributes:
        hidden: Width in between.
        act_cfg: Activation.
        drop_rate: Dropout after both.
    """

    hidden: int
    act_cfg: Mapping
    drop_rate: float

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool = False) -> Float[Array, "b h w c"]:
        """Applies the layers."""
        channels = x.shape[-1]
        x = build_activation(self.act_cfg)(bare_conv(channels, self.hidden, name="fc1")(x))
        x = Dropout(self.drop_rate, name="drop_0")(x, train)
        x = bare_conv(self.hidden, channels, name="fc2")(x)
        return Dropout(self.drop_rate, name="drop_1")(x, train)


class Block(nn.Module):
    """Pooling in the place of attention and a feed-forward network, each behind a norm and beside a shortcut.

    Attributes:
        pool_size: Side of the windows that are averaged.
        mlp_ratio: How much wider the feed-forward network is inside.
        norm_cfg, act_cfg: Norm and activation.
        drop_rate: Dropout in the feed-forward network.
        drop_path_rate: Stochastic depth of both.
        layer_scale_init_value: What the factors of both results' channels start at.
    """

    pool_size: int
    mlp_ratio: float
    norm_cfg: Mapping
    act_cfg: Mapping
    drop_rate: float
    drop_path_rate: float
    layer_scale_init_value: float

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool = False) -> Float[Array, "b h w c"]:
        """Applies the block."""
        y = build_norm(self.norm_cfg, name="norm1")(x, train)
        y = avg_pool(y, self.pool_size, 1, self.pool_size // 2, count_include_pad=False) - y
        x = x + DropPath(self.drop_path_rate, name="drop_path_1")(self.scale(y, 1), train)
        y = build_norm(self.norm_cfg, name="norm2")(x, train)
        y = Mlp(int(self.mlp_ratio * x.shape[-1]), self.act_cfg, self.drop_rate, name="mlp")(y, train)
        return x + DropPath(self.drop_path_rate, name="drop_path_2")(self.scale(y, 2), train)

    def scale(self, x: Float[Array, "b h w c"], number: int) -> Float[Array, "b h w c"]:
        """Multiplies the channels of the first or second result by learned factors."""
        start = nn.initializers.constant(self.layer_scale_init_value)
        return x * self.param(f"layer_scale_{number}", start, (x.shape[-1],), jnp.float32).astype(x.dtype)


class PatchEmbed(nn.Module):
    """A strided convolution.

    Attributes:
        features: Output channels.
        kernel_size, stride, padding: Of the convolution.
    """

    features: int
    kernel_size: int
    stride: int
    padding: int

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 features"]:
        """Convolves x."""
        fields = {"stride": self.stride, "padding": self.padding, "name": "proj"}
        return bare_conv(x.shape[-1], self.features, self.kernel_size, **fields)(x)


class PoolFormer(FrozenStages, nn.Module):
    """A transformer whose attention is replaced by pooling (Yu et al. 2022, "MetaFormer Is Actually What You Need").

    Attributes:
        arch: A key of `architectures`, or a dict of "layers" (blocks of each stage), "embed_dims" (their channels) and,
            if others than there, "mlp_ratios" and "layer_scale_init_value" (see `Block`).
        pool_size, norm_cfg, act_cfg: See `Block`.
        in_patch_size, in_stride, in_pad: Of the convolution before the first stage.
        down_patch_size, down_stride, down_pad: Of those before the other stages.
        drop_rate: Dropout in the feed-forward networks.
        drop_path_rate: Stochastic depth of the last block; it rises to that from 0.
        out_indices: Which outputs are returned: those of the stages are 0, 2, 4, 6, of what is between them 1, 3, 5;
            negative ones count from the end.
        frozen_stages: The first convolution and this many stages and what is between them, counted as in
            `out_indices`, are not trained; -1: everything is.
    """

    arch: str | Mapping = "s12"
    pool_size: int = 3
    norm_cfg: Mapping = nn.FrozenDict(type="GN", num_groups=1)
    act_cfg: Mapping = nn.FrozenDict(type="GELU")
    in_patch_size: int = 7
    in_stride: int = 4
    in_pad: int = 2
    down_patch_size: int = 3
    down_stride: int = 2
    down_pad: int = 1
    drop_rate: float = 0.0
    drop_path_rate: float = 0.0
    out_indices: int | Sequence[int] = -1
    frozen_stages: int = 0

    sources: ClassVar[Mapping[str, Source]] = {"authors": AUTHORS, "mmpretrain": MMPRETRAIN}
    # Blocks of the four stages, channels, and what the factors of results start at.
    architectures: ClassVar[Mapping[str, tuple[tuple[int, ...], tuple[int, ...], float]]] = {
        "s12": ((2, 2, 6, 2), (64, 128, 320, 512), 1e-5),
        "s24": ((4, 4, 12, 4), (64, 128, 320, 512), 1e-5),
        "s36": ((6, 6, 18, 6), (64, 128, 320, 512), 1e-6),
        "m36": ((6, 6, 18, 6), (96, 192, 384, 768), 1e-6),
        "m48": ((8, 8, 24, 8), (96, 192, 384, 768), 1e-6),
    }

    def architecture(self) -> dict[str, Any]:
        """`arch`, spelled out.

        Raises:
            ConfigError: It says something else.
        """
        if isinstance(self.arch, str):
            if self.arch not in self.architectures:
                raise ConfigError(
                    f"backbone.arch={self.arch!r} is not known. {did_you_mean(self.arch, self.architectures)}"
                )
            names = ("layers", "embed_dims", "layer_scale_init_value")
            arch = dict(zip(names, self.architectures[self.arch], strict=True))
        else:
            arch = dict(self.arch)
        if not {"layers", "embed_dims"} <= set(arch):
            raise ConfigError(f"backbone.arch={arch} must have layers and embed_dims")
        arch = {"mlp_ratios": (4,) * len(arch["layers"]), "layer_scale_init_value": 1e-5} | arch
        for name in ("embed_dims", "mlp_ratios"):
            if len(arch[name]) != len(arch["layers"]):
                raise ConfigError(f"backbone.arch.{name}={tuple(arch[name])} needs {len(arch['layers'])} entries")
        if any(one == other for one, other in itertools.pairwise(arch["embed_dims"])):
            raise ConfigError(f"backbone.arch.embed_dims={tuple(arch['embed_dims'])}: neighbours must differ")
        return arch

    def chosen(self, outputs: int) -> tuple[int, ...]:
        """The outputs that `out_indices` means, of so many."""
        chosen = (self.out_indices,) if isinstance(self.out_indices, int) else tuple(self.out_indices)
        if not all(-outputs <= i < outputs for i in chosen):
            raise ConfigError(f"backbone.out_indices={self.out_indices}: there are outputs 0 to {outputs - 1}")
        return tuple(i % outputs for i in chosen)

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool = False) -> tuple[Float[Array, "b _ _ _"], ...]:
        """Returns the normalised outputs `out_indices`; the stages' are of strides 4, 8, 16 and 32 by default."""
        arch = self.architecture()
        layers, channels = arch["layers"], arch["embed_dims"]
        chosen = self.chosen(2 * len(layers) - 1)
        rates = iter(drop_path_rates(self.drop_path_rate, sum(layers)))
        embed = PatchEmbed(channels[0], self.in_patch_size, self.in_stride, self.in_pad, name="patch_embed")
        x = self.freeze(embed(x), stage=0)
        outputs = []
        for index in range(2 * len(layers) - 1):
            stage, between = (index + 1) // 2, index % 2
            if between:
                size, stride, padding = self.down_patch_size, self.down_stride, self.down_pad
                x = PatchEmbed(channels[stage], size, stride, padding, name=f"network_{index}")(x)
            for i in range(0 if between else layers[stage]):
                block = Block(
                    pool_size=self.pool_size,
                    mlp_ratio=arch["mlp_ratios"][stage],
                    norm_cfg=self.norm_cfg,
                    act_cfg=self.act_cfg,
                    drop_rate=self.drop_rate,
                    drop_path_rate=next(rates),
                    layer_scale_init_value=arch["layer_scale_init_value"],
                    name=f"network_{index}_{i}",
                )
                x = block(x, self.trains(train, index + 1))
            x = self.freeze(x, index + 1)
            if index in chosen:
                norm = build_norm(self.norm_cfg, name=f"norm{index}")
                outputs.append(self.freeze(norm(x, self.trains(train, index + 1)), index + 1))
        return tuple(outputs)

    def frozen_parameters(self) -> tuple[str, ...]:
        """Prefixes of the parameter paths that are not trained, for the optimizer."""
        if self.frozen_stages < 0:
            return ()
        frozen = range(self.frozen_stages)
        return ("patch_embed/", *(part for i in frozen for part in (f"network_{i}/", f"network_{i}_", f"norm{i}/")))
