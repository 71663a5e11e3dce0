"""Edges between the classes, as labels of their own."""

from dataclasses import dataclass

import cv2
import numpy as np

from jaxseg.data.transforms.base import Record, Transform, name_of
from jaxseg.errors import ConfigError, DataError


@dataclass(frozen=True)
class GenerateEdge(Transform):
    """Adds "edge" to the record: uint8 [H W], 1 near where two classes meet, else 0.

    Attributes:
        edge_width: how wide the edges are, in pixels.
        ignore_index: label that meets no other.
    """

    edge_width: int = 3
    ignore_index: int = 255

    def __post_init__(self) -> None:
        if not isinstance(self.edge_width, int) or self.edge_width < 1:
            raise ConfigError(f"GenerateEdge.edge_width is {self.edge_width!r}; it must be a whole number, at least 1.")

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        """Finds the edges of the label.

        Raises:
            DataError: there is no label of one class a pixel.
        """
        label = record.get("label")
        if label is None or label.ndim != 2 or label.dtype.kind not in "iu":
            raise DataError(
                f"GenerateEdge needs a label with one class a pixel, which {name_of(record)} does not have by then."
            )
        edge = np.zeros(label.shape, np.uint8)
        counts = label != self.ignore_index
        whole, low, high = slice(None), slice(None, -1), slice(1, None)
        # Where the pixels of a pair are; the first of them is marked.
        for first, second in (
            ((high, whole), (low, whole)),
            ((whole, low), (whole, high)),
            ((low, low), (high, high)),
            ((low, high), (high, low)),
        ):
            edge[first] |= (label[first] != label[second]) & counts[first] & counts[second]
        kernel = cv2.getStructuringElement(cv2.MORPH_RECT, (self.edge_width, self.edge_width))
        return {**record, "edge": cv2.dilate(edge, kernel)}
