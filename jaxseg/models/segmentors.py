"""Segmentors: backbone, neck and heads put together."""

from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
from jaxtyping import Array, Float

from jaxseg.errors import ConfigError, did_you_mean
from jaxseg.models.layers.freezing import FrozenParts


class EncoderDecoder(FrozenParts, nn.Module):
    """Backbone, optional neck, one decode head and any number of auxiliary heads.

    Attributes:
        backbone: images, train -> tuple of feature maps.
        decode_head: features, train -> logits; while training a dict, where its losses need more than logits. One that
            `takes_size` is also given the images' height and width as `size`.
        neck: features, train -> features, or None.
        auxiliary_head: One head, several, or None. They are only run while training.
        test_cfg: How images are segmented: {"mode": "whole"}, or {"mode": "slide", "crop_size", "stride"}.
        dtype: Name of the dtype that is computed in, such as "bfloat16"; None: that of the images, float32.
            Parameters, norms' statistics and logits are float32 in any case.
        remat: Compute what is inside the neck and each head again in the backward pass, to save memory; and blocks of
            the backbone, where that has the field `with_cp`, which this sets.
    """

    backbone: nn.Module
    decode_head: nn.Module
    neck: nn.Module | None = None
    auxiliary_head: nn.Module | Sequence[nn.Module] | None = None
    test_cfg: Mapping = nn.FrozenDict(mode="whole")
    dtype: str | None = None
    remat: bool = False

    def __call__(self, images: Float[Array, "b h w c"], train: bool = False) -> dict[str, Any]:
        """Maps normalised images to the logits of every head.

        Args:
            images: Normalised images.
            train: Whether norm layers use the batch's statistics, dropout drops (if there is a "dropout" key)
                and the auxiliary heads run.

        Returns:
            Logits at each head's own size: "decode", and while training "aux" where there is one auxiliary head
            or "aux_0", "aux_1", ... where there is a sequence of them. While training, a head may return a dict
            of what its losses need in place of its logits; see `jaxseg.losses.HEAD_LOSSES`.
        """
        features = self.features(images, train)
        size = {"size": images.shape[1:3]} if getattr(self.decode_head, "takes_size", False) else {}
        outputs = {"decode": self.run(self.decode_head, features, train, **size)}
        if train or self.is_initializing():
            outputs |= {name: self.run(head, features, train) for name, head in self.auxiliary_heads().items()}
        return outputs

    def features(self, images: Float[Array, "b h w c"], train: bool) -> tuple[Any, ...]:
        """What the heads choose from: maps, or pairs of a map and a class token."""
        features = self.backbone(images if self.dtype is None else images.astype(self.dtype), train)
        return features if self.neck is None else self.run(self.neck, features, train)

    def run(self, part: nn.Module, features: Any, train: bool, *inputs: Array, **options: Any) -> Any:
        """What a neck or a head makes of features, and of other inputs."""

        def apply(part: nn.Module, features: Any, *inputs: Array) -> Any:
            return part(features, train, *inputs, **options)

        again = self.remat and train and not self.is_initializing()
        return (nn.remat(apply) if again else apply)(part, features, *inputs)

    def heads(self) -> dict[str, nn.Module]:
        """The heads by the names of their outputs while training, which are also the prefixes of their losses."""
        return {"decode": self.decode_head, **self.auxiliary_heads()}

    def auxiliary_heads(self) -> dict[str, nn.Module]:
        """The auxiliary heads by the names of their outputs."""
        if isinstance(self.auxiliary_head, nn.Module):
            return {"aux": self.auxiliary_head}
        return {f"aux_{i}": head for i, head in enumerate(self.auxiliary_head or ())}

    @property
    def final_head(self) -> nn.Module:
        """The head whose logits are the result."""
        return self.decode_head

    @nn.nowrap
    def parts(self) -> dict[str, nn.Module]:
        """Backbone and heads, by the names of their parameters."""
        parts = {"backbone": self.backbone}
        for field in ("decode_head", "auxiliary_head"):
            part = getattr(self, field)
            several = isinstance(part, tuple | list)
            parts |= {f"{field}_{i}": item for i, item in enumerate(part)} if several else {field: part}
        return parts


class CascadeEncoderDecoder(EncoderDecoder):
    """An EncoderDecoder whose decode heads refine one another's logits.

    Attributes:
        decode_head: The heads, in their order; those after the first are called as `head(features, train, logits)`
            with the logits of the one before.
        num_stages: Number of heads.
        train_cfg: What the heads' `settings` name, for training; for evaluation that is in `test_cfg`.
    """

    decode_head: Sequence[nn.Module]
    num_stages: int | None = None
    train_cfg: Mapping | None = None

    def __call__(self, images: Float[Array, "b h w c"], train: bool = False) -> dict[str, Any]:
        """Maps normalised images to logits, as an EncoderDecoder; while training of every decode head: "decode_0", ...

        Then each head but the last runs twice, once for its loss and once for the head after it, so that its norms
        learn from the batch twice: so it is in the reference, whose running statistics these are.
        """
        features = self.features(images, train)
        outputs, logits = {}, None
        for i, head in enumerate(self.decode_head):
            previous = () if i == 0 else (logits,)
            outputs[f"decode_{i}"] = self.run(head, features, train, *previous, **self.settings(head, train))
            logits = outputs[f"decode_{i}"]
            if train and not self.is_initializing() and i + 1 < len(self.decode_head):
                logits = self.run(head, features, train, *previous, **self.settings(head, train))
        if not train and not self.is_initializing():
            return {"decode": logits}
        return outputs | {name: self.run(head, features, train) for name, head in self.auxiliary_heads().items()}

    def settings(self, head: nn.Module, train: bool) -> dict[str, Any]:
        """What a head takes of `train_cfg` or `test_cfg`.

        Raises:
            ConfigError: There is something in `train_cfg` that no head takes.
        """
        known = [name for head in self.decode_head for name in getattr(head, "settings", ())]
        for name in self.train_cfg or ():
            if name not in known:
                raise ConfigError(f"model.train_cfg has no field {name!r}. {did_you_mean(name, known)}")
        given = (self.train_cfg or {}) if train else self.test_cfg
        return {name: given[name] for name in getattr(head, "settings", ()) if name in given}

    def heads(self) -> dict[str, nn.Module]:
        """The heads by the names of their outputs while training, which are also the prefixes of their losses."""
        return {**{f"decode_{i}": head for i, head in enumerate(self.decode_head)}, **self.auxiliary_heads()}

    @property
    def final_head(self) -> nn.Module:
        """The head whose logits are the result."""
        return self.decode_head[-1]
