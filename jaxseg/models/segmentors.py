"""Segmentors: backbone, neck and heads put together."""

from collections.abc import Mapping, Sequence

import flax.linen as nn
from jaxtyping import Array, Float


class EncoderDecoder(nn.Module):
    """Backbone, optional neck, one decode head and any number of auxiliary heads.

    Attributes:
        backbone: images, train -> tuple of feature maps.
        decode_head: features, train -> logits.
        neck: features, train -> features, or None.
        auxiliary_head: One head, several, or None. They are only run while training.
        test_cfg: How images are segmented: {"mode": "whole"}, or {"mode": "slide", "crop_size", "stride"}.
        dtype: Name of the dtype that is computed in, such as "bfloat16"; None: that of the images, float32.
            Parameters, norms' statistics and logits are float32 in any case.
    """

    backbone: nn.Module
    decode_head: nn.Module
    neck: nn.Module | None = None
    auxiliary_head: nn.Module | Sequence[nn.Module] | None = None
    test_cfg: Mapping = nn.FrozenDict(mode="whole")
    dtype: str | None = None

    def __call__(
        self, images: Float[Array, "b h w c"], train: bool = False
    ) -> dict[str, Float[Array, "b _ _ classes"]]:
        """Maps normalised images to the logits of every head.

        Args:
            images: Normalised images.
            train: Whether norm layers use the batch's statistics, dropout drops (if there is a "dropout" key)
                and the auxiliary heads run.

        Returns:
            Logits at each head's own size: "decode", and while training "aux" where there is one auxiliary head
            or "aux_0", "aux_1", ... where there is a sequence of them.
        """
        features = self.backbone(images if self.dtype is None else images.astype(self.dtype), train)
        if self.neck is not None:
            features = self.neck(features, train)
        heads = self.heads() if train or self.is_initializing() else {"decode": self.decode_head}
        return {name: head(features, train) for name, head in heads.items()}

    def heads(self) -> dict[str, nn.Module]:
        """The heads by the names of their outputs, which are also the prefixes of their losses."""
        heads = {"decode": self.decode_head}
        if isinstance(self.auxiliary_head, nn.Module):
            heads["aux"] = self.auxiliary_head
        elif self.auxiliary_head is not None:
            heads |= {f"aux_{i}": head for i, head in enumerate(self.auxiliary_head)}
        return heads

    def frozen_parameters(self) -> tuple[str, ...]:
        """Prefixes of the paths of parameters that are not trained."""
        frozen = getattr(self.backbone, "frozen_parameters", tuple)
        return tuple(f"backbone/{prefix}" for prefix in frozen())
