"""Pictures from above: any number of bands, and pairs of two dates."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from jaxseg.data.transforms.base import Record, Transform, name_of
from jaxseg.data.transforms.loading import LoadImage
from jaxseg.errors import ConfigError, DataError

_AS_STORED = LoadImage(color_type="unchanged")


@dataclass(frozen=True)
class LoadSingleRSImageFromFile(Transform):
    """Reads `meta["image_path"]` into `image`, [h w bands], as it is stored: uint8, uint16 or float32.

    A record that has an image already is left as it is.
    """

    loads: ClassVar[str] = "image"

    def __call__(self, record: Record, rng: np.random.Generator | None = None) -> Record:
        """Decodes the image.

        Raises:
            DataError: the file is missing, empty, damaged, cut short, or no image.
        """
        return _AS_STORED(record)


@dataclass(frozen=True)
class LoadMultipleRSImageFromFile(Transform):
    """Reads `meta["image_path"]` into `image` and `meta["image_path2"]` into `image2`, as they are stored.

    Both are [h w bands] of one size and type: the same place at two dates. What a record has already is left as it is.
    """

    loads: ClassVar[str] = "image"

    def __call__(self, record: Record, rng: np.random.Generator | None = None) -> Record:
        """Decodes both images.

        Raises:
            DataError: a file is missing, empty, damaged, cut short, or no image; there is no second one, or it
                differs in size, bands or type.
        """
        first = _AS_STORED(record)
        second: Any = record.get("image2")
        meta = record["meta"]
        if second is None:
            if meta.get("image_path2") is None:
                raise DataError(
                    f"{name_of(record)} has no second image: LoadMultipleRSImageFromFile is for data sets of pairs "
                    "(data.image_dir2); use LoadSingleRSImageFromFile."
                )
            second = _AS_STORED({"meta": {**meta, "image_path": meta["image_path2"]}})["image"]
        found = [f"{image.dtype} {list(image.shape)}" for image in (first["image"], second)]
        if found[0] != found[1]:
            raise DataError(
                f"{name_of(record)} is {found[0]}, but {meta.get('image_path2')} is {found[1]}; the images of a pair "
                "must be of one size, number of bands and type."
            )
        return {**first, "image2": second}


@dataclass(frozen=True)
class ConcatCDInput(Transform):
    """Joins the bands of both dates, `image` and `image2`, to one image; for models of changes between them.

    Attributes:
        second_first: put the second date's bands first.
    """

    second_first: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.second_first, bool):
            raise ConfigError(f"ConcatCDInput.second_first is {self.second_first!r}; it must be True or False.")

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        """Joins the images.

        Raises:
            DataError: there is no second one.
        """
        if record.get("image2") is None:
            raise DataError(f"{name_of(record)} has no second image: put LoadMultipleRSImageFromFile first.")
        out = dict(record)
        images = [out["image"], out.pop("image2")]
        out["image"] = np.concatenate(images[::-1] if self.second_first else images, axis=-1)
        return out
