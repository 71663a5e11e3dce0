"""LR-ASPP head."""

from collections.abc import Sequence
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxseg.models.heads.decode_head import DecodeHead
from jaxseg.models.layers.conv import Conv
from jaxseg.models.layers.conv_module import ConvModule
from jaxseg.models.layers.initializers import default_bias, default_kernel
from jaxseg.models.layers.pooling import avg_pool
from jaxseg.models.layers.resize import resize


class LRASPPHead(DecodeHead):
    """A gate from large windows on the coarsest map, then details of finer ones (Howard et al. 2019, "MobileNetV3").

    Attributes:
        branch_channels: Channels that the finer maps, all but the last, are reduced to.
        pool_size, pool_stride: Side of the windows and (vertical, horizontal) distance between them, in pixels of the
            coarsest map, which must not be smaller: of images of 392 pixels at stride 8.
    """

    input_transform: str | None = "multiple_select"
    branch_channels: Sequence[int] = (32, 64)
    pool_size: int = 49
    pool_stride: Sequence[int] = (16, 20)

    dotted_names: ClassVar[Sequence[tuple[str, str]]] = (
        (r"^convs_conv(\d+)$", r"convs.conv\1"),
        (r"^conv_ups_conv_up(\d+)$", r"conv_ups.conv_up\1"),
    )

    @property
    def sample_size(self) -> tuple[int, int]:
        """Height and width of images that are large enough, where the coarsest map is of stride 8."""
        return 8 * self.pool_size, 8 * self.pool_size

    def check(self) -> None:
        """Raises ConfigError where the fields don't fit each other."""
        super().check()
        if self.input_transform != "multiple_select":
            raise self.error("input_transform", "must be 'multiple_select'")
        if len(self.branch_channels) != len(self.in_channels) - 1:
            raise self.error("branch_channels", f"needs {len(self.in_channels) - 1} entries, one for each finer map")

    def decode(self, x: list[Float[Array, "b _ _ _"]], train: bool) -> Float[Array, "b h w channels"]:
        """Returns a map of the size of the finest."""
        *finer, coarsest = x
        size = coarsest.shape[1:3]
        if min(size) < self.pool_size:
            raise self.error("pool_size", f"the coarsest map is {size[0]}x{size[1]}; larger images are needed")
        pooled = avg_pool(coarsest, self.pool_size, self.pool_stride)
        gate = ConvModule(self.channels, 1, act_cfg={"type": "Sigmoid"}, use_bias=False, name="image_pool_1")(pooled)
        y = self.conv_module(1, "aspp_conv")(coarsest, train)
        y = y * resize(gate, size, align_corners=self.align_corners)
        init = {"kernel_init": default_kernel(), "bias_init": default_bias(self.channels)}
        y = Conv(self.channels, 1, **init, name="conv_up_input")(y)
        for i, level in reversed(list(enumerate(finer))):
            y = resize(y, level.shape[1:3], align_corners=self.align_corners)
            detail = Conv(
                self.branch_channels[i], 1, use_bias=False, kernel_init=default_kernel(), name=f"convs_conv{i}"
            )(level)
            joined = jnp.concatenate([y, detail], axis=-1)
            y = self.conv_module(1, f"conv_ups_conv_up{i}", use_bias=False)(joined, train)
        return y
