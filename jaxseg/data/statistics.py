"""What is counted over a data set before training: pixels of every class, mean and deviation of every channel."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from jaxseg.data.masks import count_classes
from jaxseg.data.transforms.loading import LoadAnnotations, LoadImage
from jaxseg.errors import DataError

SAMPLE = 500  # images that the channels' mean and deviation are of
_THREADS = 4


def class_pixels(source: Any) -> tuple[Int[np.ndarray, " c"], int]:
    """Pixels of every class in all masks of a source, and how many pixels are labelled at all.

    Raises:
        DataError: a mask can't be used, or there is none.
    """
    load = LoadAnnotations()

    def count(record: dict[str, Any]) -> tuple[np.ndarray, int]:
        label = load(record)["label"]
        counted = label.shape[0] * label.shape[1] if label.ndim == 3 else int((label != source.ignore_index).sum())
        return count_classes(label, len(source.classes), source.ignore_index), counted

    found = _of_each(source, range(len(source)), count)
    return np.sum([counts for counts, _ in found], axis=0), sum(counted for _, counted in found)


def class_weights(source: Any) -> tuple[float, ...]:
    """Weights of the classes for a loss, rare ones more: 1 / ln(1.02 + p), p being a class's share of the pixels.

    The rule is ENet's (Paszke et al., 2016), which bounds what a rare class weighs to 36 times what one does that is
    everywhere; scaled so that the labelled pixels weigh 1 on average. With several classes a pixel, p is the share of
    the pixels that have the class. Five significant digits are kept.

    Raises:
        DataError: no mask has a pixel of any class.
    """
    counts, pixels = class_pixels(source)
    if not counts.sum():
        raise DataError(f"{source.name}: no pixel of any class in {len(source)} masks, so class weights have no base.")
    share = counts / pixels
    weights = 1 / np.log(1.02 + share)
    weights *= share.sum() / (share * weights).sum()
    return tuple(float(f"{weight:.5g}") for weight in weights)


def channel_statistics(source: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of every channel, in the images' units, over the pixels of a sample of a source.

    The sample is of 500 images, evenly spread over the source. Six significant digits are kept; a channel that is the
    same everywhere has a deviation of 1.

    Raises:
        DataError: an image can't be used, or images have unequal numbers of channels or types.
    """
    load = LoadImage()

    def sums(record: dict[str, Any]) -> tuple[str, np.dtype, Float[np.ndarray, "3 c"]]:
        image = load(record)["image"]
        values = image.reshape(-1, image.shape[-1]).astype(np.float64)
        total = np.array([np.full(values.shape[1], len(values)), values.sum(0), (values**2).sum(0)])
        return str(record["meta"].get("image_path")), image.dtype, total

    indices = np.unique(np.linspace(0, len(source) - 1, min(SAMPLE, len(source))).round().astype(int))
    found = _of_each(source, [int(index) for index in indices], sums)
    first = found[0]
    for path, dtype, total in found:
        if dtype != first[1] or total.shape != first[2].shape:
            raise DataError(
                f"Images need one number of channels and one type: {first[0]} has {first[2].shape[1]} of {first[1]}, "
                f"{path} has {total.shape[1]} of {dtype}."
            )
    count, total, squares = np.sum([item[2] for item in found], axis=0)
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - mean**2, 0))
    std = np.where(std > 1e-6 * np.maximum(np.abs(mean), 1e-30), std, 1.0)
    return tuple(tuple(float(f"{value:.6g}") for value in values) for values in (mean, std))


def _of_each(source: Any, indices: Sequence[int], function: Callable[[dict[str, Any]], Any]) -> list[Any]:
    """The function of the records, in their order, whichever thread comes first."""
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="statistics") as pool:
        return list(pool.map(lambda index: function(source[index]), indices))
