"""Backbones around another backbone, which their field `backbone_cfg` describes."""

from collections.abc import Mapping

import flax.linen as nn

from jaxseg.models.registry import build


def inner_backbone(config: Mapping, name: str | None = None, **fields) -> nn.Module:
    """The backbone that `config` describes; `fields` win over it, and `name` is that of the submodule."""
    return _build({**config, **fields}, name=name)


def inner_frozen_parameters(config: Mapping, prefix: str) -> tuple[str, ...]:
    """Prefixes of its parameters that are not trained; `prefix` is the path of the submodule, with a slash."""
    # It only answers here, and is no submodule of the one that asks.
    frozen = getattr(_build(config, parent=None), "frozen_parameters", tuple)
    return tuple(f"{prefix}{path}" for path in frozen())


def _build(config: Mapping, **place) -> nn.Module:
    from jaxseg.models import BACKBONES  # which holds the backbones around this one, too

    return build(BACKBONES, config, "backbone.backbone_cfg", **place)
