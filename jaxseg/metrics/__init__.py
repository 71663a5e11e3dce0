"""Mergeable metric states."""

from jaxseg.metrics.confusion import ConfusionMatrix, count_pixels, mean_iou, scores, summary

__all__ = ["ConfusionMatrix", "count_pixels", "mean_iou", "scores", "summary"]
