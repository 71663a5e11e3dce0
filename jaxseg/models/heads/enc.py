"""EncNet head."""

from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jaxseg.models.heads.decode_head import DecodeHead
from jaxseg.models.layers.attention import flatten_pixels
from jaxseg.models.layers.conv_module import ConvModule
from jaxseg.models.layers.initializers import default_bias, default_kernel, uniform
from jaxseg.models.layers.norm import at_least_float32, build_norm
from jaxseg.models.layers.resize import resize


class EncHead(DecodeHead):
    """Gates channels by an encoding of the image, which also tells its classes (Zhang et al. 2018, "EncNet").

    While training with `use_se_loss` it returns {"logits": [b h w classes], "presence": [b classes]}.

    Attributes:
        num_codes: Number of code words.
        use_se_loss: Whether the encoding learns to tell which classes there are.
        add_lateral: Whether the maps before the last join it.
        loss_se_decode: The loss of that, a sigmoid cross entropy.
    """

    input_transform: str | None = "multiple_select"
    num_codes: int = 32
    use_se_loss: bool = True
    add_lateral: bool = False
    loss_se_decode: Mapping = nn.FrozenDict(type="CrossEntropyLoss", use_sigmoid=True, loss_weight=0.2)

    @nn.compact
    def __call__(
        self, features: Sequence[Float[Array, "b _ _ _"]], train: bool = False
    ) -> Float[Array, "b h w out_channels"] | dict[str, Array]:
        """Returns float32 logits at the size of the last map, and while training those of what is in the image."""
        self.check()
        x = self.decode(self.select(features), train)
        module = EncModule(self.num_codes, self.norm_cfg, self.act_cfg, name="enc_module")
        encoding, gated = module(x, train)
        logits = self.classify(gated, train)
        if not self.use_se_loss:
            return logits
        presence = linear(encoding, self.num_classes, "se_layer").astype(logits.dtype)
        return {"logits": logits, "presence": presence} if train else logits

    def check(self) -> None:
        """Raises ConfigError where the fields don't fit each other."""
        super().check()
        if self.input_transform != "multiple_select":
            raise self.error("input_transform", "this head takes 'multiple_select'")
        if self.use_se_loss and not self.loss_se_decode.get("use_sigmoid"):
            raise self.error("loss_se_decode", "needs use_sigmoid=True: an image has several classes")

    def decode(self, x: list[Float[Array, "b _ _ _"]], train: bool) -> Float[Array, "b h w channels"]:
        """The map that is encoded."""
        y = self.conv_module(3, "bottleneck", padding=1)(x[-1], train)
        if self.add_lateral:
            laterals = [self.conv_module(1, f"lateral_convs_{i}")(level, train) for i, level in enumerate(x[:-1])]
            laterals = [resize(level, y.shape[1:3], align_corners=self.align_corners) for level in laterals]
            y = self.conv_module(3, "fusion", padding=1)(jnp.concatenate([y, *laterals], axis=-1), train)
        return y


class EncModule(nn.Module):
    """Encodes a map, and gates its channels by the code.

    Attributes:
        num_codes: Number of code words.
        norm_cfg, act_cfg: As in the head that owns it.
    """

    num_codes: int
    norm_cfg: Mapping | None
    act_cfg: Mapping | None

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], train: bool = False
    ) -> tuple[Float[Array, "b c"], Float[Array, "b h w c"]]:
        """Returns the encoding and the gated map."""
        project = ConvModule(x.shape[-1], 1, norm_cfg=self.norm_cfg, act_cfg=self.act_cfg, name="encoding_project")
        residuals = Encoding(self.num_codes, name="encoding_0")(project(x, train))
        # The norm's channels are the codes.
        norm = build_norm(self.norm_cfg or {"type": "BN"}, name="encoding_1")
        normed = norm(residuals.swapaxes(1, 2)[:, None], train)
        encoding = jnp.mean(jax.nn.relu(normed), axis=(1, 3)).astype(x.dtype)
        gate = jax.nn.sigmoid(linear(encoding, x.shape[-1], "fc_0"))
        return encoding, jax.nn.relu(x + x * gate[:, None, None])


class Encoding(nn.Module):
    """What is left of the pixels when the code words that they are near are taken away.

    A pixel belongs to code k with a share of softmax_k(factor_k |x - codeword_k|^2).

    Attributes:
        num_codes: Number of code words.
    """

    num_codes: int

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b k c"]:
        """Returns the sums of the pixels' differences from each code word, times their shares, in float32 or more."""
        shape = (self.num_codes, x.shape[-1])
        bound = (shape[0] * shape[1]) ** -0.5
        pixels = flatten_pixels(x).astype(at_least_float32(x.dtype))
        codewords = self.param("codewords", uniform(-bound, bound), shape, jnp.float32).astype(pixels.dtype)
        factor = self.param("factor", uniform(-1.0, 0.0), shape[:1], jnp.float32).astype(pixels.dtype)
        # |x - c|^2 = |x|^2 - 2 x c + |c|^2: products of matrices, and no array of all differences.
        products = jnp.einsum("bnc,kc->bnk", pixels, codewords, precision=lax.Precision.HIGHEST)
        squares = [jnp.sum(jnp.square(y), axis=-1) for y in (pixels, codewords)]
        shares = jax.nn.softmax(factor * (squares[0][..., None] - 2 * products + squares[1]), axis=-1)
        sums = jnp.einsum("bnk,bnc->bkc", shares, pixels, precision=lax.Precision.HIGHEST)
        return sums - jnp.sum(shares, axis=1)[..., None] * codewords


def linear(x: Float[Array, "b c"], features: int, name: str) -> Float[Array, "b features"]:
    """A linear layer with PyTorch's initial values."""
    bias_init = default_bias(fan_in=x.shape[-1])
    return nn.Dense(features, dtype=x.dtype, kernel_init=default_kernel(), bias_init=bias_init, name=name)(x)
