"""UNet, and the modules that double the size of its maps."""

from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxseg.errors import ConfigError, did_you_mean
from jaxseg.models.layers.activation import build_activation
from jaxseg.models.layers.conv import ConvTranspose
from jaxseg.models.layers.conv_module import ConvModule
from jaxseg.models.layers.initializers import default_bias, default_kernel
from jaxseg.models.layers.norm import build_norm
from jaxseg.models.layers.pooling import max_pool
from jaxseg.models.layers.resize import resize


class InterpConv(nn.Module):
    """Resizes by a factor and convolves.

    Attributes:
        features: Output channels.
        norm_cfg, act_cfg: Of the convolution.
        conv_first: Convolves first.
        kernel_size, stride, padding: Of the convolution.
        upsample_cfg: `scale_factor`, and `mode` and `align_corners` of the resize.
    """

    features: int
    norm_cfg: Mapping | None = nn.FrozenDict(type="BN")
    act_cfg: Mapping | None = nn.FrozenDict(type="ReLU")
    conv_first: bool = False
    kernel_size: int = 1
    stride: int = 1
    padding: int = 0
    upsample_cfg: Mapping = nn.FrozenDict(scale_factor=2, mode="bilinear", align_corners=False)

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool = False) -> Float[Array, "b h2 w2 features"]:
        """Applies both."""
        fields = dict(self.upsample_cfg)
        factor = fields.pop("scale_factor", 2)
        conv = ConvModule(
            self.features,
            self.kernel_size,
            self.stride,
            self.padding,
            norm_cfg=self.norm_cfg,
            act_cfg=self.act_cfg,
            name=f"interp_upsample_{0 if self.conv_first else 1}",
        )
        if self.conv_first:
            x = conv(x, train)
        x = resize(x, [int(size * factor) for size in x.shape[1:3]], **({"mode": "nearest"} | fields))
        return x if self.conv_first else conv(x, train)


class DeconvModule(nn.Module):
    """A transposed convolution, a norm and an activation.

    Attributes:
        features: Output channels.
        norm_cfg, act_cfg: Of what follows the convolution.
        kernel_size: As large as `scale_factor`, or larger by an even number.
        scale_factor: Of the size.
    """

    features: int
    norm_cfg: Mapping = nn.FrozenDict(type="BN")
    act_cfg: Mapping = nn.FrozenDict(type="ReLU")
    kernel_size: int = 4
    scale_factor: int = 2

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool = False) -> Float[Array, "b h2 w2 features"]:
        """Applies the three."""
        excess = self.kernel_size - self.scale_factor
        if excess < 0 or excess % 2:
            wanted = f"must exceed scale_factor={self.scale_factor} by 0, 2, 4, ..."
            raise ConfigError(f"upsample_cfg.kernel_size={self.kernel_size}: {wanted}")
        x = ConvTranspose(
            self.features,
            self.kernel_size,
            self.scale_factor,
            excess // 2,
            kernel_init=default_kernel(),
            bias_init=default_bias(self.features * self.kernel_size**2),
            name="deconv_upsamping_0",
        )(x)
        x = build_norm(self.norm_cfg, name="deconv_upsamping_1")(x, train)
        return build_activation(self.act_cfg, name="deconv_upsamping_2")(x)


UPSAMPLERS: dict[str, type[nn.Module]] = {"DeconvModule": DeconvModule, "InterpConv": InterpConv}


class ConvBlock(nn.Module):
    """Convolutions of 3x3 in a row.

    Attributes:
        features: Output channels.
        num_convs: How many.
        stride: Of the first.
        dilation: Of all others.
        norm_cfg, act_cfg: Of each.
    """

    features: int
    num_convs: int
    stride: int
    dilation: int
    norm_cfg: Mapping | None
    act_cfg: Mapping | None

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool = False) -> Float[Array, "b h2 w2 features"]:
        """Applies them."""
        for i in range(self.num_convs):
            stride, dilation = (self.stride, 1) if i == 0 else (1, self.dilation)
            x = ConvModule(
                self.features,
                3,
                stride,
                dilation,
                dilation,
                norm_cfg=self.norm_cfg,
                act_cfg=self.act_cfg,
                name=f"convs_{i}",
            )(x, train)
        return x


class UpConvBlock(nn.Module):
    """Brings a map to the size of one from the encoder, and convolves the two together.

    Attributes:
        features: Output channels, and those of the encoder's map.
        num_convs, dilation: Of the convolutions.
        norm_cfg, act_cfg: Of all layers.
        upsample_cfg: What makes the map larger; None: it is large enough, and is convolved.
    """

    features: int
    num_convs: int
    dilation: int
    norm_cfg: Mapping | None
    act_cfg: Mapping | None
    upsample_cfg: Mapping | None

    @nn.compact
    def __call__(
        self, skip: Float[Array, "b h w features"], x: Float[Array, "b h2 w2 c"], train: bool = False
    ) -> Float[Array, "b h w features"]:
        """Decodes one stage."""
        x = self.upsample()(x, train)
        block = ConvBlock(
            self.features, self.num_convs, 1, self.dilation, self.norm_cfg, self.act_cfg, name="conv_block"
        )
        return block(jnp.concatenate([skip, x], axis=-1), train)

    def upsample(self) -> nn.Module:
        """What makes the map larger."""
        layers = {"norm_cfg": self.norm_cfg, "act_cfg": self.act_cfg, "name": "upsample"}
        if self.upsample_cfg is None:
            return ConvModule(self.features, 1, **layers)
        fields = dict(self.upsample_cfg)
        kind = fields.pop("type", None)
        if kind not in UPSAMPLERS:
            raise ConfigError(f"upsample_cfg.type={kind!r} is not known. {did_you_mean(str(kind), UPSAMPLERS)}")
        allowed = set(UPSAMPLERS[kind].__dataclass_fields__) - {"features", "parent", *layers}
        for key in fields:
            if key not in allowed:
                raise ConfigError(f"upsample_cfg: {kind} has no field {key!r}. {did_you_mean(key, allowed)}")
        return UPSAMPLERS[kind](self.features, **fields, **layers)


class UNet(nn.Module):
    """U-Net (Ronneberger et al. 2015, "U-Net: Convolutional Networks for Biomedical Image Segmentation").

    Images whose sides the whole stride does not divide (the reference refuses them) get zeros at the bottom and at the
    right, and maps are cut to what is left of the image.

    Attributes:
        in_channels: Channels of the image.
        base_channels: Channels of the first stage; each has twice those of the one before.
        num_stages: Stages of the encoder; the decoder has one less.
        strides: Of the first convolution of each stage of the encoder.
        enc_num_convs, dec_num_convs: Convolutions of each stage.
        downsamples: Whether each stage of the encoder but the first begins with max pooling, where its stride is 1.
        enc_dilations, dec_dilations: Of each stage's convolutions but the first.
        with_cp: Recompute each block's activations in the backward pass, to save memory.
        conv_cfg: Kept for configs that state the plain convolution; anything else is refused.
        norm_cfg, act_cfg: Of all layers.
        upsample_cfg: How the decoder makes maps larger: `type` "InterpConv" or "DeconvModule", and its fields.
        norm_eval: Use the running statistics while training, and leave them as they are.
    """

    in_channels: int = 3
    base_channels: int = 64
    num_stages: int = 5
    strides: Sequence[int] = (1, 1, 1, 1, 1)
    enc_num_convs: Sequence[int] = (2, 2, 2, 2, 2)
    dec_num_convs: Sequence[int] = (2, 2, 2, 2)
    downsamples: Sequence[bool] = (True, True, True, True)
    enc_dilations: Sequence[int] = (1, 1, 1, 1, 1)
    dec_dilations: Sequence[int] = (1, 1, 1, 1)
    with_cp: bool = False
    conv_cfg: Mapping | None = None
    norm_cfg: Mapping = nn.FrozenDict(type="BN")
    act_cfg: Mapping = nn.FrozenDict(type="ReLU")
    upsample_cfg: Mapping = nn.FrozenDict(type="InterpConv")
    norm_eval: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool = False) -> tuple[Float[Array, "b _ _ _"], ...]:
        """Returns the encoder's last map and those of the decoder: strides 16, 8, 4, 2 and 1 by default."""
        self.check()
        train = train and not self.norm_eval
        conv_block = nn.remat(ConvBlock, static_argnums=(2,)) if self.with_cp else ConvBlock
        up_block = nn.remat(UpConvBlock, static_argnums=(3,)) if self.with_cp else UpConvBlock
        layers = {"norm_cfg": self.norm_cfg, "act_cfg": self.act_cfg}
        halves = [self.halves(i) for i in range(self.num_stages)]
        strides = [2 ** sum(halves[: i + 1]) for i in range(self.num_stages)]
        height, width = x.shape[1:3]
        x = jnp.pad(x, ((0, 0), (0, -height % strides[-1]), (0, -width % strides[-1]), (0, 0)))

        encoded = []
        for i in range(self.num_stages):
            pools = halves[i] and self.strides[i] == 1
            if pools:
                x = max_pool(x, 2)
            x = conv_block(
                features=self.base_channels * 2**i,
                num_convs=self.enc_num_convs[i],
                stride=self.strides[i],
                dilation=self.enc_dilations[i],
                **layers,
                name=f"encoder_{i}_{int(pools)}",
            )(x, train)
            encoded.append(x)
        maps = [x]
        for i in reversed(range(self.num_stages - 1)):
            x = up_block(
                features=self.base_channels * 2**i,
                num_convs=self.dec_num_convs[i],
                dilation=self.dec_dilations[i],
                **layers,
                upsample_cfg=self.upsample_cfg if halves[i + 1] else None,
                name=f"decoder_{i}",
            )(encoded[i], x, train)
            maps.append(x)
        rests = [(-(-height // stride), -(-width // stride)) for stride in reversed(strides)]
        return tuple(x[:, :rows, :columns] for x, (rows, columns) in zip(maps, rests, strict=True))

    def halves(self, stage: int) -> bool:
        """Whether a stage of the encoder halves the size."""
        return self.strides[stage] == 2 or (stage > 0 and self.downsamples[stage - 1])

    def check(self) -> None:
        """Raises ConfigError where the fields don't fit each other."""
        wanted = {
            self.num_stages: ("strides", "enc_num_convs", "enc_dilations"),
            self.num_stages - 1: ("dec_num_convs", "dec_dilations", "downsamples"),
        }
        for length, names in wanted.items():
            for name in names:
                if len(getattr(self, name)) != length:
                    raise ConfigError(f"backbone.{name}={getattr(self, name)} needs {length} entries")
        if any(stride not in (1, 2) for stride in self.strides):
            raise ConfigError(f"backbone.strides={self.strides}: each must be 1 or 2")
        if self.conv_cfg is not None and self.conv_cfg.get("type") not in ("Conv2d", "Conv"):
            raise ConfigError(f"backbone.conv_cfg={self.conv_cfg}: only the plain convolution is supported")
