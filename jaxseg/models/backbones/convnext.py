"""ConvNeXt."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxseg.errors import ConfigError, did_you_mean
from jaxseg.models.layers.activation import build_activation
from jaxseg.models.layers.conv import Conv
from jaxseg.models.layers.drop import DropPath
from jaxseg.models.layers.freezing import FrozenStages
from jaxseg.models.layers.initializers import trunc_normal
from jaxseg.models.layers.norm import at_least_float32, build_norm
from jaxseg.models.layers.transformer import Linear, drop_path_rates
from jaxseg.models.names import Source

# The last norm is that of classification, the others are this segmentation's own.
INITIAL = r"^backbone\.norm\d\."
# The authors' (github.com/facebookresearch/ConvNeXt).
AUTHORS = Source(
    rules=((r"\.dwconv\.", ".depthwise_conv."), (r"\.pwconv(\d)\.", r".pointwise_conv\1."), (r"^norm\.", "norm3.")),
    ignored=r"^head\.",
    initial=INITIAL,
)
MMPRETRAIN = Source(rules=((r"^backbone\.", ""),), ignored=r"^head\.", initial=INITIAL)


def convolution(features: int, kernel_size: int, stride: int = 1, **fields: Any) -> Conv:
    """A convolution that starts as all of this network's do."""
    return Conv(features, kernel_size, stride, kernel_init=trunc_normal(0.02), **fields)


class GlobalResponseNorm(nn.Module):
    """Weighs channels by how strong they are in the image, beside a shortcut (Woo et al. 2023, "ConvNeXt V2").

    Attributes:
        eps: Added to the mean strength.
    """

    eps: float = 1e-6

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Returns the weighed features; what they are weighed with starts at 0."""
        gamma, beta = (
            self.param(name, nn.initializers.zeros, (x.shape[-1],), jnp.float32).astype(x.dtype)
            for name in ("gamma", "beta")
        )
        strength = jnp.linalg.norm(x.astype(at_least_float32(x.dtype)), axis=(1, 2), keepdims=True)
        strength = strength / (jnp.mean(strength, -1, keepdims=True) + self.eps)
        return gamma * (x * strength.astype(x.dtype)) + beta + x


class Block(nn.Module):
    """A large depthwise convolution, a norm and a feed-forward network of every pixel, beside a shortcut.

    Attributes:
        mlp_ratio: How much wider the feed-forward network is inside.
        norm_cfg, act_cfg: Norm and activation.
        linear_pw_conv: Whether its layers' kernels are matrices; otherwise those of 1x1 convolutions.
        use_grn: Whether it has a global response norm.
        drop_path_rate: Stochastic depth.
        layer_scale_init_value: What the factors of the result's channels start at; 0: there are none.
    """

    norm_cfg: Mapping
    act_cfg: Mapping
    linear_pw_conv: bool
    use_grn: bool
    drop_path_rate: float
    layer_scale_init_value: float
    mlp_ratio: float = 4.0

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool = False) -> Float[Array, "b h w c"]:
        """Applies the block."""
        channels = x.shape[-1]
        y = convolution(channels, 7, padding=3, groups=channels, name="depthwise_conv")(x)
        y = build_norm(self.norm_cfg, name="norm")(y, train)
        y = self.pointwise(int(self.mlp_ratio * channels), 1)(y)
        y = build_activation(self.act_cfg)(y)
        if self.use_grn:
            y = GlobalResponseNorm(name="grn")(y)
        y = self.pointwise(channels, 2)(y)
        if self.layer_scale_init_value > 0:
            start = nn.initializers.constant(self.layer_scale_init_value)
            y = y * self.param("gamma", start, (channels,), jnp.float32).astype(y.dtype)
        return x + DropPath(self.drop_path_rate, name="drop_path")(y, train)

    def pointwise(self, features: int, number: int) -> Linear | Conv:
        """The first or second layer of the feed-forward network."""
        name = f"pointwise_conv{number}"
        return Linear(features, name=name) if self.linear_pw_conv else convolution(features, 1, name=name)


class ConvNeXt(FrozenStages, nn.Module):
    """A convolutional network with a transformer's proportions (Liu et al. 2022, "A ConvNet for the 2020s").

    With use_grn=True and layer_scale_init_value=0 it is ConvNeXt V2 (Woo et al. 2023). Maps are smaller than the
    image by whole numbers: what is left over on the right and below is not seen.

    Attributes:
        arch: A key of `architectures`, or {"depths": blocks of each stage, "channels": of each}.
        in_channels: Channels of the image.
        stem_patch_size: Size of the patches that become pixels of the first stage.
        norm_cfg: Norm layers.
        act_cfg: Activation of the blocks.
        linear_pw_conv, use_grn, layer_scale_init_value: See `Block`.
        drop_path_rate: Stochastic depth of the last block; it rises to that from 0.
        out_indices: Stages whose outputs are returned; negative ones count from the end.
        frozen_stages: This many stages, each with what leads to it, are not trained.
        gap_before_final_norm: Must be False: True is for classifiers, whose outputs are means over the image.
        with_cp: Recompute each block's activations in the backward pass, to save memory.
    """

    arch: str | Mapping = "tiny"
    in_channels: int = 3
    stem_patch_size: int = 4
    norm_cfg: Mapping = nn.FrozenDict(type="LN2d", eps=1e-6)
    act_cfg: Mapping = nn.FrozenDict(type="GELU")
    linear_pw_conv: bool = True
    use_grn: bool = False
    drop_path_rate: float = 0.0
    layer_scale_init_value: float = 1e-6
    out_indices: int | Sequence[int] = -1
    frozen_stages: int = 0
    gap_before_final_norm: bool = True
    with_cp: bool = False

    sources: ClassVar[Mapping[str, Source]] = {"authors": AUTHORS, "mmpretrain": MMPRETRAIN}
    # Blocks and channels of the four stages.
    architectures: ClassVar[Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]] = {
        "atto": ((2, 2, 6, 2), (40, 80, 160, 320)),
        "femto": ((2, 2, 6, 2), (48, 96, 192, 384)),
        "pico": ((2, 2, 6, 2), (64, 128, 256, 512)),
        "nano": ((2, 2, 8, 2), (80, 160, 320, 640)),
        "tiny": ((3, 3, 9, 3), (96, 192, 384, 768)),
        "small": ((3, 3, 27, 3), (96, 192, 384, 768)),
        "base": ((3, 3, 27, 3), (128, 256, 512, 1024)),
        "large": ((3, 3, 27, 3), (192, 384, 768, 1536)),
        "xlarge": ((3, 3, 27, 3), (256, 512, 1024, 2048)),
        "huge": ((3, 3, 27, 3), (352, 704, 1408, 2816)),
    }

    @property
    def stages(self) -> tuple[tuple[int, int], ...]:
        """Blocks and channels of every stage.

        Raises:
            ConfigError: `arch` says something else.
        """
        if isinstance(self.arch, str):
            if self.arch not in self.architectures:
                raise ConfigError(
                    f"backbone.arch={self.arch!r} is not known. {did_you_mean(self.arch, self.architectures)}"
                )
            depths, channels = self.architectures[self.arch]
        elif set(self.arch) != {"depths", "channels"}:
            raise ConfigError(f"backbone.arch={dict(self.arch)} must have depths and channels, and nothing else")
        else:
            depths, channels = self.arch["depths"], self.arch["channels"]
        if len(depths) != len(channels):
            raise ConfigError(f"backbone.arch: depths={tuple(depths)} and channels={tuple(channels)} differ in length")
        return tuple(zip(depths, channels, strict=True))

    def chosen(self) -> tuple[int, ...]:
        """The stages that `out_indices` means."""
        stages = len(self.stages)
        chosen = (self.out_indices,) if isinstance(self.out_indices, int) else tuple(self.out_indices)
        if not all(-stages <= i < stages for i in chosen):
            raise ConfigError(f"backbone.out_indices={self.out_indices}: there are stages 0 to {stages - 1}")
        return tuple(i % stages for i in chosen)

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool = False) -> tuple[Float[Array, "b _ _ _"], ...]:
        """Returns the normalised outputs of the stages `out_indices`: of stride `stem_patch_size`, then twice that."""
        stages, chosen = self.stages, self.chosen()
        if self.gap_before_final_norm:
            raise ConfigError("backbone.gap_before_final_norm=True is for classifiers: give False")
        block = nn.remat(Block, static_argnums=(2,)) if self.with_cp else Block
        rates = iter(drop_path_rates(self.drop_path_rate, sum(depth for depth, _ in stages)))
        outputs = []
        for stage, (depth, channels) in enumerate(stages):
            stage_train = self.trains(train, stage + 1)
            name, patch = f"downsample_layers_{stage}", 2 if stage else self.stem_patch_size
            norm = build_norm(self.norm_cfg, name=f"{name}_{0 if stage else 1}")
            conv = convolution(channels, patch, patch, name=f"{name}_{1 if stage else 0}")
            x = conv(norm(x, stage_train)) if stage else norm(conv(x), stage_train)
            for i in range(depth):
                x = block(
                    norm_cfg=self.norm_cfg,
                    act_cfg=self.act_cfg,
                    linear_pw_conv=self.linear_pw_conv,
                    use_grn=self.use_grn,
                    drop_path_rate=next(rates),
                    layer_scale_init_value=self.layer_scale_init_value,
                    name=f"stages_{stage}_{i}",
                )(x, stage_train)
            x = self.freeze(x, stage + 1)
            if stage in chosen:
                outputs.append(build_norm(self.norm_cfg, name=f"norm{stage}")(x, train))
        return tuple(outputs)

    def frozen_parameters(self) -> tuple[str, ...]:
        """Prefixes of the parameter paths that are not trained, for the optimizer."""
        frozen = range(self.frozen_stages)
        return tuple(f"{part}_{stage}_" for stage in frozen for part in ("downsample_layers", "stages"))
