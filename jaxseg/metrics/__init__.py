"""Mergeable metric states."""

from jaxseg.metrics.confusion import (
    ConfusionMatrix,
    count_pixels,
    count_several,
    mean_iou,
    of_presence,
    scores,
    summary,
)

__all__ = ["ConfusionMatrix", "count_pixels", "count_several", "mean_iou", "of_presence", "scores", "summary"]
