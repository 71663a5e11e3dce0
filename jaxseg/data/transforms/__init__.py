"""Transforms of records: `(record, rng) -> record`, named as the reference names them."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from jaxseg.data.transforms.base import Pipeline, RandomTransform, Record, Size, Transform, build_transform
from jaxseg.data.transforms.color import PhotoMetricDistortion
from jaxseg.data.transforms.edges import GenerateEdge
from jaxseg.data.transforms.geometric import Pad, RandomCrop, RandomFlip
from jaxseg.data.transforms.loading import LoadAnnotations, LoadImage
from jaxseg.data.transforms.resize import (
    RandomChoiceResize,
    RandomResize,
    RandomResizeCrop,
    Resize,
    ResizeShortestEdge,
    ResizeToMultiple,
)

__all__ = [
    "TRANSFORMS",
    "Pipeline",
    "RandomTransform",
    "Record",
    "Size",
    "Transform",
    "build_transforms",
    "transform_defaults",
]

TRANSFORMS: dict[str, type] = {
    "LoadImage": LoadImage,
    "LoadImageFromFile": LoadImage,
    "LoadAnnotations": LoadAnnotations,
    "Resize": Resize,
    "ResizeShortestEdge": ResizeShortestEdge,
    "ResizeToMultiple": ResizeToMultiple,
    "RandomResize": RandomResize,
    "RandomChoiceResize": RandomChoiceResize,
    "RandomCrop": RandomCrop,
    "RandomFlip": RandomFlip,
    "PhotoMetricDistortion": PhotoMetricDistortion,
    "GenerateEdge": GenerateEdge,
    "Pad": Pad,
}
# With the crop after them. A class of one's own that is derived from them may do something else.
_FUSED = (RandomResize, RandomChoiceResize)


def transform_defaults(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that a transform of this type may leave out; none where the type is not known."""
    kind = config.get("type")
    module = kind if isinstance(kind, type) else TRANSFORMS.get(kind)
    fields = dataclasses.fields(module) if dataclasses.is_dataclass(module) else ()
    return {field.name: field.default for field in fields if field.init and field.default is not dataclasses.MISSING}


def build_transforms(configs: Iterable[Mapping[str, Any] | Transform], *, fuse: bool = True) -> Pipeline:
    """Builds a pipeline `(record, rng) -> record` of configs `{"type": ..., field: value, ...}`.

    A RandomResize or RandomChoiceResize directly before a RandomCrop becomes one step that resamples only the
    window it keeps; the result is the same, bit for bit (`fuse=False` leaves them apart).

    Raises:
        ConfigError: an unknown type or field, a missing field, a value that is not allowed.
    """
    steps: list[Transform] = []
    for config in configs:
        step = build_transform(config, TRANSFORMS)
        if fuse and steps and type(steps[-1]) in _FUSED and type(step) is RandomCrop:
            steps[-1] = RandomResizeCrop(steps[-1], step)
        else:
            steps.append(step)
    return Pipeline(tuple(steps))
