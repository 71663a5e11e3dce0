"""Reading only the part of a picture that a random crop keeps."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxseg.data.transforms.base import Pipeline, Record, Transform, map_arrays
from jaxseg.data.transforms.loading import LoadAnnotations, LoadImage, decode_image, read_bytes
from jaxseg.data.transforms.png import can_decode_rows, decode_plain_png, read_png_header
from jaxseg.data.transforms.resample import resize_image_window, resize_label_window, rows_needed
from jaxseg.data.transforms.resize import RandomResizeCrop


@dataclass(frozen=True)
class LoadResizeCrop(Transform):
    """Loading, resizing and cropping in one: of a PNG, no row below the crop is decoded.

    Same draws and the same result, bit for bit, as the three in turn, which is what happens with files of other
    formats. Damage below the crop goes unnoticed.
    """

    image: LoadImage
    annotations: LoadAnnotations
    resize_crop: RandomResizeCrop

    random = True

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        """Reads the mask, chooses the window, then reads what the window needs of the picture."""
        path = str(record["meta"].get("image_path") or "")
        content, header = None, None
        # Where the number of channels is stated, files are read otherwise.
        stated = record["meta"].get("channels") is not None
        given = record.get("image") is not None or record.get("image2") is not None
        if path.lower().endswith(".png") and not stated and not given:
            content = read_bytes(path)
            header = read_png_header(content)
        if header is None or header.channels != 3:
            for step in (self.image, self.annotations, self.resize_crop):
                record = step(record, rng)
            return record
        height, width = header.height, header.width
        record = {**record, "meta": {**record["meta"], "original_size": (height, width)}}
        record["image"] = np.broadcast_to(np.uint8(0), (height, width, 3))  # as large as the one that is not there yet
        record = self.annotations(record, rng)
        size, window = self.resize_crop.draw(record, rng)
        pixels = decode_plain_png(content, 3, rows_needed(height, size, window), header)
        if pixels is None:
            pixels = decode_image(content, path)
        pixels = resize_image_window(pixels, size, window, height)
        return map_arrays(record, lambda _: pixels, lambda label: resize_label_window(label, size, window))


def read_windows(transform: Any) -> Any:
    """The same pipeline, reading no more than it needs where it begins with loading, resizing and cropping."""
    if not isinstance(transform, Pipeline) or not can_decode_rows():
        return transform
    first = transform.steps[:3]
    if [type(step) for step in first] != [LoadImage, LoadAnnotations, RandomResizeCrop] or first[0] != LoadImage():
        return transform
    return dataclasses.replace(transform, steps=(LoadResizeCrop(*first), *transform.steps[3:]))
