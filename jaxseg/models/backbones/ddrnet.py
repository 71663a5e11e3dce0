"""DDRNet, the deep dual-resolution network."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import flax.linen as nn
import jax
from jaxtyping import Array, Float

from jaxseg.models.layers.conv_module import ConvModule
from jaxseg.models.layers.dual_resolution import BN, DAPPM, RELU, BasicBlock, Block, Bottleneck, residual_layer
from jaxseg.models.layers.resize import resize


class DDRNet(nn.Module):
    """Two branches of different resolution that exchange their maps (Hong et al. 2021, "Deep Dual-resolution
    Networks").

    Attributes:
        in_channels: Channels of the image.
        channels: Of the stem; all others are multiples of it.
        ppm_channels: Of the pyramid's scales.
        align_corners: Of the resizes.
        norm_cfg, act_cfg: Norms and activation, but, as in the reference, for the first block of every stage and the
            pyramid, which have batch norm, and for ReLU in all blocks.
    """

    in_channels: int = 3
    channels: int = 32
    ppm_channels: int = 128
    align_corners: bool = False
    norm_cfg: Mapping = BN
    act_cfg: Mapping = RELU

    dotted_names: ClassVar[Sequence[tuple[str, str]]] = (
        (r"^((?:compression|down)_\d)$", r"\1"),
        (r"^(down_\d)_(\d)$", r"\1.\2"),
    )

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], train: bool = False
    ) -> tuple[Float[Array, "b h8 w8 c1"], Float[Array, "b h8 w8 c2"]]:
        """Returns two maps of stride 8: of the finer branch half-way (2 `channels`), and of both branches (4)."""
        relu, width = jax.nn.relu, self.channels
        for i in range(2):
            x = self.conv(width, 3, f"stem_{i}", stride=2, act_cfg=self.act_cfg)(x, train)
        x = relu(self.layer(x, train, "stem_2", BasicBlock, width, 2))
        x = relu(self.layer(x, train, "stem_4", BasicBlock, 2 * width, 2, stride=2))

        context = self.layer(x, train, "context_branch_layers_0", BasicBlock, 4 * width, 2, stride=2)
        spatial = self.layer(x, train, "spatial_branch_layers_0", BasicBlock, 2 * width, 2)
        compressed = self.conv(2 * width, 1, "compression_1")(relu(context), train)
        context = context + self.conv(4 * width, 3, "down_1", stride=2)(relu(spatial), train)
        spatial = spatial + self.resized(compressed, spatial)
        half_way = spatial

        context = self.layer(relu(context), train, "context_branch_layers_1", BasicBlock, 8 * width, 2, stride=2)
        spatial = self.layer(relu(spatial), train, "spatial_branch_layers_1", BasicBlock, 2 * width, 2)
        compressed = self.conv(2 * width, 1, "compression_2")(relu(context), train)
        down = self.conv(4 * width, 3, "down_2_0", stride=2, act_cfg=self.act_cfg)(relu(spatial), train)
        context = context + self.conv(8 * width, 3, "down_2_1", stride=2)(down, train)
        spatial = spatial + self.resized(compressed, spatial)

        spatial = self.layer(relu(spatial), train, "spatial_branch_layers_2", Bottleneck, 2 * width, 1)
        context = self.layer(relu(context), train, "context_branch_layers_2", Bottleneck, 8 * width, 1, stride=2)
        context = DAPPM(self.ppm_channels, 4 * width, name="spp")(context, train)
        return half_way, spatial + self.resized(context, spatial)

    def conv(self, features: int, size: int, name: str, stride: int = 1, act_cfg: Mapping | None = None) -> ConvModule:
        """A convolution with norm."""
        return ConvModule(features, size, stride, size // 2, norm_cfg=self.norm_cfg, act_cfg=act_cfg, name=name)

    def layer(
        self, x: Array, train: bool, name: str, block: type[Block], channels: int, num_blocks: int, stride: int = 1
    ) -> Array:
        """Residual blocks in a row."""
        fields = {"norm_cfg": self.norm_cfg, "shortcut_norm_cfg": self.norm_cfg, "plain_shortcut": True}
        return residual_layer(x, train, name, block, channels, num_blocks, stride, first={"norm_cfg": BN}, **fields)

    def resized(self, x: Float[Array, "b h w c"], to: Float[Array, "b h2 w2 c2"]) -> Float[Array, "b h2 w2 c"]:
        """The map at the size of another."""
        return resize(x, to.shape[1:3], align_corners=self.align_corners)
