"""The base of decode heads."""

from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxseg.errors import ConfigError
from jaxseg.models.layers.conv import Conv
from jaxseg.models.layers.conv_module import ConvModule
from jaxseg.models.layers.initializers import normal
from jaxseg.models.layers.norm import at_least_float32
from jaxseg.models.layers.resize import resize


class DecodeHead(nn.Module):
    """Selects feature maps, decodes them and classifies every pixel.

    A head defines `decode(x, train)`: from the selected feature map (or maps) to one map of `channels` channels.
    Layers are created in it by name; `conv_module` gives them this head's norm and activation.

    Attributes:
        in_channels: Channels of the selected feature map, or of each of the selected maps.
        channels: Channels of the map that is classified.
        num_classes: Number of classes.
        out_channels: Channels of the logits; None: as many as classes. 1 is for two classes by a threshold.
        threshold: Probability above which a pixel is of class 1, where out_channels is 1.
        dropout_ratio: Share of channels that are dropped before the classifier; none, where it is below 0.
        conv_cfg: Kept for configs that state the plain convolution; anything else is refused.
        norm_cfg, act_cfg: Norm and activation of the head's convolutions.
        in_index: Which of the backbone's (or neck's) outputs to take.
        input_transform: None: take one map. "resize_concat": resize the maps to the first one's size and
            concatenate them. "multiple_select": take several maps as they are.
        loss_decode: One loss, or several, as dicts of `type` and fields; see `jaxseg.losses`.
        ignore_index: Label of pixels that don't count.
        sampler: Which pixels count, such as {"type": "OHEMPixelSampler", "thresh": 0.7, "min_kept": 100000}.
        align_corners: Of every resize in this head, and of its logits.
    """

    in_channels: int | Sequence[int]
    channels: int
    num_classes: int
    out_channels: int | None = None
    threshold: float | None = None
    dropout_ratio: float = 0.1
    conv_cfg: Mapping | None = None
    norm_cfg: Mapping | None = None
    act_cfg: Mapping | None = nn.FrozenDict(type="ReLU")
    in_index: int | Sequence[int] = -1
    input_transform: str | None = None
    loss_decode: Mapping | Sequence[Mapping] = nn.FrozenDict(type="CrossEntropyLoss")
    ignore_index: int | None = 255
    sampler: Mapping | None = None
    align_corners: bool = False

    @nn.compact
    def __call__(
        self, features: Sequence[Float[Array, "b _ _ _"]], train: bool = False, with_map: bool = False
    ) -> Float[Array, "b h w out_channels"] | tuple[Float[Array, "b h w out_channels"], Float[Array, "b h w channels"]]:
        """Returns float32 logits at the size of the decoded map.

        For heads around this one: `with_map`, that map, too.
        """
        self.check()
        x = self.decode(self.select(features), train)
        logits = self.classify(x, train)
        return (logits, x) if with_map else logits

    def decode(self, x: Array | list[Array], train: bool) -> Float[Array, "b h w channels"]:
        """From the selected input to the map that is classified. Every head defines it."""
        raise TypeError(f"{type(self).__name__} does not define decode(x, train)")

    def check(self) -> None:
        """Raises ConfigError where the fields don't fit each other."""
        several = self.input_transform is not None
        if self.input_transform not in (None, "resize_concat", "multiple_select"):
            raise self.error("input_transform", "allowed: None, 'resize_concat', 'multiple_select'")
        for name in ("in_channels", "in_index"):
            if isinstance(getattr(self, name), int) == several:
                wanted = "a sequence" if several else "one number"
                raise self.error(name, f"input_transform={self.input_transform!r} needs {wanted}")
        if several and len(self.in_channels) != len(self.in_index):
            raise self.error("in_index", f"needs as many entries as in_channels={tuple(self.in_channels)}")
        if self.logit_channels != self.num_classes and not (self.logit_channels == 1 and self.num_classes == 2):
            raise self.error("out_channels", f"must be num_classes={self.num_classes}, or 1 for two classes")
        if self.conv_cfg is not None and self.conv_cfg.get("type") not in ("Conv2d", "Conv"):
            raise self.error("conv_cfg", "only the plain convolution is supported")

    def error(self, field: str, reason: str) -> ConfigError:
        """A ConfigError about one of this head's fields."""
        return ConfigError(f"{self.name or type(self).__name__}.{field}={getattr(self, field)!r}: {reason}")

    @property
    def logit_channels(self) -> int:
        """Channels of the logits."""
        return self.num_classes if self.out_channels is None else self.out_channels

    def select(self, features: Sequence[Array]) -> Array | list[Array]:
        """The feature map, or maps, that this head decodes."""
        indices = [self.in_index] if self.input_transform is None else list(self.in_index)
        if not all(-len(features) <= i < len(features) for i in indices):
            raise self.error("in_index", f"there are {len(features)} feature maps")
        maps = [features[i] for i in indices]
        found = [x.shape[-1] for x in maps]
        stated = [self.in_channels] if self.input_transform is None else list(self.in_channels)
        if found != stated:
            raise self.error("in_channels", f"the maps in_index={self.in_index} have {found} channels")
        if self.input_transform is None:
            return maps[0]
        if self.input_transform == "multiple_select":
            return maps
        size = maps[0].shape[1:3]
        return jnp.concatenate([resize(x, size, align_corners=self.align_corners) for x in maps], axis=-1)

    def conv_module(self, kernel_size: int, name: str, features: int | None = None, **conv) -> ConvModule:
        """A ConvModule with this head's norm, activation and (by default) width."""
        return ConvModule(
            self.channels if features is None else features,
            kernel_size,
            norm_cfg=self.norm_cfg,
            act_cfg=self.act_cfg,
            name=name,
            **conv,
        )

    def drop(self, x: Float[Array, "b h w c"], train: bool, name: str = "dropout") -> Float[Array, "b h w c"]:
        """Drops whole channels while training; without a "dropout" key nothing is dropped."""
        drop = train and self.has_rng("dropout")
        return nn.Dropout(max(self.dropout_ratio, 0.0), broadcast_dims=(1, 2), name=name)(x, deterministic=not drop)

    def classify(self, x: Float[Array, "b h w channels"], train: bool) -> Float[Array, "b h w out_channels"]:
        """Drops whole channels while training, then classifies every pixel."""
        logits = Conv(self.logit_channels, 1, kernel_init=normal(0.01), name="conv_seg")(self.drop(x, train))
        return logits.astype(at_least_float32(x.dtype))
