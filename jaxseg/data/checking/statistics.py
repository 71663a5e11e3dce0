"""Figures of a part: sizes, pixels a class, mean and standard deviation a channel."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxseg.data.checking.look import Look
from jaxseg.data.sources import Source


def part_statistics(source: Source, looks: Sequence[Look]) -> dict[str, Any]:
    """The figures of one part, as JSON has them.

    Means and standard deviations are of every n-th row and column of each image, 64 or more of each; an image counts
    as much as its sampled pixels. Shares of classes are of the labelled pixels.
    """
    sizes = Counter(look.size for look in looks if look.size)
    counted = [look for look in looks if look.counts is not None]
    figures: dict[str, Any] = {
        "name": source.name,
        "records": len(source),
        "read": len(looks),
        "sizes": [{"height": h, "width": w, "images": n} for (h, w), n in sizes.most_common(20)],
        "forms": dict(Counter(look.header.form for look in looks if look.header).most_common()),
        "formats": dict(Counter(look.header.format for look in looks if look.header).most_common()),
    }
    if sizes:
        heights, widths = zip(*sizes, strict=True)
        figures |= {"smallest": [min(heights), min(widths)], "largest": [max(heights), max(widths)]}
    figures |= _channels(looks)
    if counted:
        counts = np.stack([look.counts for look in counted])
        total = counts.sum(axis=0)
        labelled = max(int(total.sum()), 1)
        figures["pixels"] = sum(look.pixels for look in counted)
        figures["ignored"] = max(figures["pixels"] - int(total.sum()), 0)
        figures["classes"] = [
            {
                "index": index,
                "name": name,
                "pixels": int(total[index]),
                "share": float(total[index] / labelled),
                "images": int((counts[:, index] > 0).sum()),
            }
            for index, name in enumerate(source.classes)
        ]
    return figures


def _channels(looks: Sequence[Look]) -> dict[str, Any]:
    """Mean and standard deviation, of the images with as many channels as most have."""
    channels = Counter(look.channels for look in looks if look.channels)
    if not channels:
        return {}
    usual = [look for look in looks if look.channels == channels.most_common(1)[0][0]]
    samples = sum(look.samples for look in usual)
    mean = np.sum([look.sums for look in usual], axis=0) / samples
    variance = np.sum([look.squares for look in usual], axis=0) / samples - mean**2
    deviation = np.sqrt(variance.clip(0))
    return {"mean": [_rounded(value) for value in mean], "std": [_rounded(value) for value in deviation]}


def _rounded(value: float) -> float | None:
    """Six figures; None, which JSON has for NaN, where arrays hold such."""
    return float(f"{value:.6g}") if np.isfinite(value) else None
