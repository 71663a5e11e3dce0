"""Transforms of records: `(record, rng) -> record`, named as the reference names them."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from jaxseg.data.transforms.albu import Albu
from jaxseg.data.transforms.base import (
    MixTransform,
    Pipeline,
    RandomTransform,
    Record,
    Size,
    Transform,
    build_transform,
)
from jaxseg.data.transforms.color import (
    CLAHE,
    AdjustGamma,
    PhotoMetricDistortion,
    RandomGrayscale,
    Rerange,
    RGB2Gray,
)
from jaxseg.data.transforms.compose import RandomApply, RandomChoice
from jaxseg.data.transforms.depth import LoadDepthAnnotation, RandomDepthMix
from jaxseg.data.transforms.edges import GenerateEdge
from jaxseg.data.transforms.erase import RandomCutOut
from jaxseg.data.transforms.geometric import CenterCrop, Pad, RandomCrop, RandomFlip
from jaxseg.data.transforms.load_volumes import (
    LoadBiomedicalAnnotation,
    LoadBiomedicalData,
    LoadBiomedicalImageFromFile,
)
from jaxseg.data.transforms.loading import LoadAnnotations, LoadImage
from jaxseg.data.transforms.mix import MixUp, RandomMosaic
from jaxseg.data.transforms.remote import ConcatCDInput, LoadMultipleRSImageFromFile, LoadSingleRSImageFromFile
from jaxseg.data.transforms.resize import (
    RandomChoiceResize,
    RandomResize,
    RandomResizeCrop,
    Resize,
    ResizeShortestEdge,
    ResizeToMultiple,
    SegRescale,
)
from jaxseg.data.transforms.rotate import RandomRotate, RandomRotFlip
from jaxseg.data.transforms.volumes import (
    BioMedical3DPad,
    BioMedical3DRandomCrop,
    BioMedical3DRandomFlip,
    BioMedicalGaussianBlur,
    BioMedicalGaussianNoise,
    BioMedicalRandomGamma,
)

__all__ = [
    "LABEL_LOADERS",
    "NOT_NEEDED",
    "TRANSFORMS",
    "MixTransform",
    "Pipeline",
    "RandomTransform",
    "Record",
    "Size",
    "Transform",
    "build_transforms",
    "transform_defaults",
]

TRANSFORMS: dict[str, type] = {
    # Reading files.
    "LoadImage": LoadImage,
    "LoadImageFromFile": LoadImage,
    "LoadImageFromNDArray": LoadImage,
    "InferencerLoader": LoadImage,
    "LoadSingleRSImageFromFile": LoadSingleRSImageFromFile,
    "LoadMultipleRSImageFromFile": LoadMultipleRSImageFromFile,
    "LoadAnnotations": LoadAnnotations,
    "LoadDepthAnnotation": LoadDepthAnnotation,
    "LoadBiomedicalImageFromFile": LoadBiomedicalImageFromFile,
    "LoadBiomedicalAnnotation": LoadBiomedicalAnnotation,
    "LoadBiomedicalData": LoadBiomedicalData,
    # Sizes.
    "Resize": Resize,
    "ResizeShortestEdge": ResizeShortestEdge,
    "ResizeToMultiple": ResizeToMultiple,
    "RandomResize": RandomResize,
    "RandomChoiceResize": RandomChoiceResize,
    "SegRescale": SegRescale,
    "RandomCrop": RandomCrop,
    "CenterCrop": CenterCrop,
    "Pad": Pad,
    # Places.
    "RandomFlip": RandomFlip,
    "RandomRotate": RandomRotate,
    "RandomRotFlip": RandomRotFlip,
    # Colours.
    "PhotoMetricDistortion": PhotoMetricDistortion,
    "AdjustGamma": AdjustGamma,
    "CLAHE": CLAHE,
    "Rerange": Rerange,
    "RGB2Gray": RGB2Gray,
    "RandomGrayscale": RandomGrayscale,
    "Albu": Albu,
    # Parts of the picture, and several pictures.
    "RandomCutOut": RandomCutOut,
    "RandomDepthMix": RandomDepthMix,
    "RandomMosaic": RandomMosaic,
    "MixUp": MixUp,
    "ConcatCDInput": ConcatCDInput,
    # Labels of their own.
    "GenerateEdge": GenerateEdge,
    # Volumes.
    "BioMedical3DRandomCrop": BioMedical3DRandomCrop,
    "BioMedical3DPad": BioMedical3DPad,
    "BioMedical3DRandomFlip": BioMedical3DRandomFlip,
    "BioMedicalGaussianNoise": BioMedicalGaussianNoise,
    "BioMedicalGaussianBlur": BioMedicalGaussianBlur,
    "BioMedicalRandomGamma": BioMedicalRandomGamma,
    # Others.
    "RandomApply": RandomApply,
    "RandomChoice": RandomChoice,
}
NOT_NEEDED: dict[str, str] = {
    "PackSegInputs": "the loader makes batches of records, which carry what they need",
    "ImageToTensor": "arrays go to the device as they are",
    "ToTensor": "arrays go to the device as they are",
    "Normalize": "images are normalised on the device: `preprocess`",
    "Compose": "`transforms` is a list already; in RandomApply and RandomChoice, too",
    "KeyMapper": "records have fixed names",
    "TransformBroadcaster": "what is done to the image is done to its second date and its label, alike",
    "TestTimeAug": "predictions are averaged over flips by `predict --tta`",
    "MultiScaleFlipAug": "predictions are averaged over flips by `predict --tta`",
}
"""What the reference has besides, and why there is none here."""
LABEL_LOADERS = tuple(name for name, kind in TRANSFORMS.items() if kind.loads == "label")
"""What reads labels, which images to predict don't have."""
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
