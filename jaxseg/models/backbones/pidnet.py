"""PIDNet, whose three branches are the parts of a PID controller."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxseg.models.layers.conv_module import ConvModule
from jaxseg.models.layers.dual_resolution import (
    BN,
    DAPPM,
    PAPPM,
    PRE_ACTIVATION,
    RELU,
    BasicBlock,
    Block,
    Bottleneck,
    residual_layer,
)
from jaxseg.models.layers.norm import at_least_float32
from jaxseg.models.layers.resize import resize


class PixelAttention(nn.Module):
    """Takes from a coarse map where it agrees with a fine one, else from the fine one.

    Attributes:
        channels: That the two are compared in.
    """

    channels: int

    @nn.compact
    def __call__(
        self, fine: Float[Array, "b h w c"], coarse: Float[Array, "b h2 w2 c"], train: bool = False
    ) -> Float[Array, "b h w c"]:
        """Applies the module."""
        size = fine.shape[1:3]
        of_coarse = resize(ConvModule(self.channels, 1, norm_cfg=BN, name="f_i")(coarse, train), size)
        of_fine = ConvModule(self.channels, 1, norm_cfg=BN, name="f_p")(fine, train)
        products = of_fine.astype(at_least_float32(fine.dtype)) * of_coarse
        gate = jax.nn.sigmoid(jnp.sum(products, axis=-1, keepdims=True)).astype(fine.dtype)
        return gate * resize(coarse, size) + (1 - gate) * fine


class BoundaryFusion(nn.Module):
    """Details at boundaries, context elsewhere.

    Attributes:
        channels: Of the output.
        light: Whether two 1x1 convolutions take the place of one of 3x3.
        norm_cfg, act_cfg: Of the convolutions; the light ones have no activation.
    """

    channels: int
    light: bool
    norm_cfg: Mapping
    act_cfg: Mapping

    @nn.compact
    def __call__(
        self,
        details: Float[Array, "b h w c"],
        context: Float[Array, "b h w c"],
        boundary: Float[Array, "b h w c"],
        train: bool = False,
    ) -> Float[Array, "b h w channels"]:
        """Applies the module."""
        gate = jax.nn.sigmoid(boundary)
        if not self.light:
            fields = {"norm_cfg": self.norm_cfg, "act_cfg": self.act_cfg, "order": PRE_ACTIVATION}
            conv = ConvModule(self.channels, 3, padding=1, **fields, name="conv")
            return conv(gate * details + (1 - gate) * context, train)
        first, second = (ConvModule(self.channels, 1, norm_cfg=self.norm_cfg, name=name) for name in ("f_p", "f_i"))
        return first((1 - gate) * context + details, train) + second(context + gate * details, train)


class PIDNet(nn.Module):
    """Branches for details (P), context (I) and boundaries (D) (Xu et al. 2023, "PIDNet").

    Attributes:
        in_channels: Channels of the image.
        channels: Of the stem; all others are multiples of it.
        ppm_channels: Of the pyramid's scales.
        num_stem_blocks: Blocks of the stem's and of P's layers: 2, or more for the largest model, in which the
            boundaries' branch, the pyramid and the fusion are heavier, too.
        num_branch_blocks: Blocks of I's layers.
        align_corners: Of the resizes, but for those in the attention and the pyramid.
        norm_cfg, act_cfg: Norms and activation outside of residual blocks, attention and pyramid, which have, as in
            the reference, batch norm and ReLU.
    """

    in_channels: int = 3
    channels: int = 64
    ppm_channels: int = 96
    num_stem_blocks: int = 2
    num_branch_blocks: int = 3
    align_corners: bool = False
    norm_cfg: Mapping = BN
    act_cfg: Mapping = RELU

    dotted_names: ClassVar[Sequence[tuple[str, str]]] = ((r"^((?:compression|pag|diff)_\d)$", r"\1"),)

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool = False) -> tuple[Float[Array, "b h8 w8 _"], ...]:
        """Returns three maps of stride 8: of P half-way (2 `channels`), of all branches (4), and of D half-way (2)."""
        relu, width, blocks = jax.nn.relu, self.channels, self.num_stem_blocks
        light = blocks == 2
        for i in range(2):
            x = self.conv(width, 3, f"stem_{i}", stride=2, act_cfg=self.act_cfg)(x, train)
        x = relu(self.layer(x, train, "stem_2", BasicBlock, width, blocks))
        x = relu(self.layer(x, train, "stem_4", BasicBlock, 2 * width, blocks, stride=2))

        context = relu(
            self.layer(x, train, "i_branch_layers_0", BasicBlock, 4 * width, self.num_branch_blocks, stride=2)
        )
        details = self.layer(x, train, "p_branch_layers_0", BasicBlock, 2 * width, blocks)
        boundary = self.block(width if light else 2 * width, "d_branch_layers_0")(x, train)
        compressed = self.conv(2 * width, 1, "compression_1")(context, train)
        details = PixelAttention(width, name="pag_1")(details, compressed, train)
        difference = self.conv(width if light else 2 * width, 3, "diff_1")(context, train)
        boundary = boundary + self.resized(difference, boundary)
        details_half_way = details

        context = relu(
            self.layer(context, train, "i_branch_layers_1", BasicBlock, 8 * width, self.num_branch_blocks, stride=2)
        )
        details = self.layer(relu(details), train, "p_branch_layers_1", BasicBlock, 2 * width, blocks)
        if light:
            boundary = self.layer(relu(boundary), train, "d_branch_layers_1", Bottleneck, width, 1)
        else:
            boundary = self.block(2 * width, "d_branch_layers_1")(relu(boundary), train)
        compressed = self.conv(2 * width, 1, "compression_2")(context, train)
        details = PixelAttention(width, name="pag_2")(details, compressed, train)
        boundary = boundary + self.resized(self.conv(2 * width, 3, "diff_2")(context, train), boundary)
        boundary_half_way = boundary

        context = self.layer(context, train, "i_branch_layers_2", Bottleneck, 8 * width, 2, stride=2)
        details = self.layer(relu(details), train, "p_branch_layers_2", Bottleneck, 2 * width, 1)
        boundary = self.layer(relu(boundary), train, "d_branch_layers_2", Bottleneck, 2 * width, 1)
        pyramid = (PAPPM if light else DAPPM)(self.ppm_channels, 4 * width, name="spp")
        context = self.resized(pyramid(context, train), details)
        fusion = BoundaryFusion(4 * width, light, self.norm_cfg, self.act_cfg, name="dfm")
        return details_half_way, fusion(details, context, boundary, train), boundary_half_way

    def conv(self, features: int, size: int, name: str, stride: int = 1, act_cfg: Mapping | None = None) -> ConvModule:
        """A convolution with norm."""
        return ConvModule(features, size, stride, size // 2, norm_cfg=self.norm_cfg, act_cfg=act_cfg, name=name)

    def block(self, channels: int, name: str) -> BasicBlock:
        """One residual block by itself."""
        return BasicBlock(channels, shortcut_norm_cfg=self.norm_cfg, name=name)

    def layer(
        self, x: Array, train: bool, name: str, block: type[Block], channels: int, num_blocks: int, stride: int = 1
    ) -> Array:
        """Residual blocks in a row."""
        return residual_layer(x, train, name, block, channels, num_blocks, stride, shortcut_norm_cfg=self.norm_cfg)

    def resized(self, x: Float[Array, "b h w c"], to: Float[Array, "b h2 w2 c2"]) -> Float[Array, "b h2 w2 c"]:
        """The map at the size of another."""
        return resize(x, to.shape[1:3], align_corners=self.align_corners)
