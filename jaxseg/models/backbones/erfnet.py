"""ERFNet, an encoder and decoder of factorised convolutions."""

from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxseg.errors import ConfigError
from jaxseg.models.layers.activation import build_activation
from jaxseg.models.layers.conv import Conv, ConvTranspose
from jaxseg.models.layers.initializers import default_bias, default_kernel
from jaxseg.models.layers.norm import build_norm
from jaxseg.models.layers.pooling import max_pool
from jaxseg.models.layers.resize import resize

# The reference does not hand the network's `norm_cfg` and `act_cfg` on to its blocks, which all have these.
NORM, ACTIVATION = {"type": "BN", "eps": 1e-3}, {"type": "ReLU"}


def _bare_conv(features: int, kernel_size: Sequence[int], in_channels: int, **fields) -> Conv:
    """A convolution with PyTorch's own initial weights."""
    bias_init = default_bias(kernel_size[0] * kernel_size[1] * in_channels)
    return Conv(features, kernel_size, kernel_init=default_kernel(), bias_init=bias_init, **fields)


class Downsampler(nn.Module):
    """Halves the size: a convolution beside max pooling.

    Attributes:
        features: Output channels.
    """

    features: int

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool = False) -> Float[Array, "b h2 w2 features"]:
        """Applies the block."""
        channels = x.shape[-1]
        y = _bare_conv(self.features - channels, (3, 3), channels, stride=2, padding=1, name="conv")(x)
        x = resize(max_pool(x, 2), y.shape[1:3])  # pooling leaves out the last of an odd number of rows
        y = build_norm(NORM, name="bn")(jnp.concatenate([y, x], axis=-1), train)
        return build_activation(ACTIVATION)(y)


class NonBottleneck1d(nn.Module):
    """A residual block of convolutions along one axis at a time.

    Attributes:
        dropout_ratio: Share of the values that are dropped before the sum, while training.
        dilation: Of the second pair of convolutions.
    """

    dropout_ratio: float = 0.0
    dilation: int = 1

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool = False) -> Float[Array, "b h w c"]:
        """Applies the block."""
        channels = x.shape[-1]
        relu = build_activation(ACTIVATION)
        y = x
        for i, dilation in ((0, 1), (5, self.dilation)):
            y = _bare_conv(
                channels, (3, 1), channels, padding=(dilation, 0), dilation=(dilation, 1), name=f"convs_layers_{i}"
            )(y)
            y = _bare_conv(
                channels, (1, 3), channels, padding=(0, dilation), dilation=(1, dilation), name=f"convs_layers_{i + 2}"
            )(relu(y))
            y = build_norm(NORM, name=f"convs_layers_{i + 3}")(y, train)
            if i == 0:
                y = relu(y)
        drop = train and self.has_rng("dropout")
        y = nn.Dropout(self.dropout_ratio, name="dropout")(y, deterministic=not drop)
        return relu(y + x)


class Upsampler(nn.Module):
    """Doubles the size by a transposed convolution.

    Attributes:
        features: Output channels.
    """

    features: int

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool = False) -> Float[Array, "b h2 w2 features"]:
        """Applies the block."""
        x = ConvTranspose(
            self.features,
            3,
            2,
            padding=1,
            output_padding=1,
            kernel_init=default_kernel(),
            bias_init=default_bias(9 * self.features),
            name="conv",
        )(x)
        return build_activation(ACTIVATION)(build_norm(NORM, name="bn")(x, train))


class ERFNet(nn.Module):
    """ERFNet (Romera et al. 2018, "ERFNet: Efficient Residual Factorized ConvNet").

    Attributes:
        in_channels: Channels of the image.
        enc_downsample_channels: Output channels of the blocks that halve the size.
        enc_stage_non_bottlenecks: Residual blocks after each of them but the first; after the last, whole rounds
            through the dilations.
        enc_non_bottleneck_dilations: Of the residual blocks after the last of them.
        enc_non_bottleneck_channels: Kept for configs that state them: those of the blocks before.
        dec_upsample_channels: Kept likewise; one a block that doubles the size.
        dec_stages_non_bottleneck: Residual blocks after each block that doubles the size.
        dec_non_bottleneck_channels: Output channels of the blocks that double the size.
        dropout_ratio: Of the encoder's residual blocks.
        conv_cfg, norm_cfg, act_cfg: Kept likewise; the blocks have plain convolutions, BatchNorm and ReLU.
    """

    in_channels: int = 3
    enc_downsample_channels: Sequence[int] = (16, 64, 128)
    enc_stage_non_bottlenecks: Sequence[int] = (5, 8)
    enc_non_bottleneck_dilations: Sequence[int] = (2, 4, 8, 16)
    enc_non_bottleneck_channels: Sequence[int] = (64, 128)
    dec_upsample_channels: Sequence[int] = (64, 16)
    dec_stages_non_bottleneck: Sequence[int] = (2, 2)
    dec_non_bottleneck_channels: Sequence[int] = (64, 16)
    dropout_ratio: float = 0.1
    conv_cfg: Mapping | None = None
    norm_cfg: Mapping = nn.FrozenDict(type="BN")
    act_cfg: Mapping = nn.FrozenDict(type="ReLU")

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool = False) -> tuple[Float[Array, "b _ _ _"]]:
        """Returns one map, of stride 2 by default."""
        self.check()
        for i, block in enumerate(self.encoder()):
            x = block(f"encoder_{i}")(x, train)
        for i, block in enumerate(self.decoder()):
            x = block(f"decoder_{i}")(x, train)
        return (x,)

    def encoder(self):
        """Yields what makes each block of its name."""
        first, *others = self.enc_downsample_channels
        yield lambda name: Downsampler(first, name=name)
        for i, channels in enumerate(others):
            yield lambda name, channels=channels: Downsampler(channels, name=name)
            dilations = (1,) * self.enc_stage_non_bottlenecks[i]
            if i == len(others) - 1:
                cycle = tuple(self.enc_non_bottleneck_dilations)
                dilations = cycle * (self.enc_stage_non_bottlenecks[i] // len(cycle))
            for dilation in dilations:
                yield lambda name, dilation=dilation: NonBottleneck1d(self.dropout_ratio, dilation, name=name)

    def decoder(self):
        """Yields what makes each block of its name."""
        for channels, blocks in zip(self.dec_non_bottleneck_channels, self.dec_stages_non_bottleneck, strict=True):
            yield lambda name, channels=channels: Upsampler(channels, name=name)
            for _ in range(blocks):
                yield lambda name: NonBottleneck1d(name=name)

    def check(self) -> None:
        """Raises ConfigError where the fields don't fit each other."""
        length = len(self.enc_downsample_channels) - 1
        for name in (
            "enc_stage_non_bottlenecks",
            "enc_non_bottleneck_channels",
            "dec_upsample_channels",
            "dec_stages_non_bottleneck",
            "dec_non_bottleneck_channels",
        ):
            if len(getattr(self, name)) != length:
                raise ConfigError(f"backbone.{name}={getattr(self, name)} needs {length} entries")
        blocks, dilations = self.enc_stage_non_bottlenecks[-1], len(self.enc_non_bottleneck_dilations)
        if blocks % dilations:
            raise ConfigError(
                f"backbone.enc_stage_non_bottlenecks ends in {blocks}: no multiple of {dilations} dilations"
            )
