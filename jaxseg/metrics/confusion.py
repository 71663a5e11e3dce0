"""The confusion matrix: a streaming state on the device, and the scores that follow from it."""

from collections.abc import Sequence

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Integer, UInt32


@flax.struct.dataclass
class ConfusionMatrix:
    """Counts of pixels by true class (rows) and predicted class (columns).

    With several classes a pixel there is a matrix for every class: whether it is there, and whether it was found.

    The counts are 64-bit, kept as two 32-bit halves because JAX has no 64-bit integers by default: a count is
    high * 2^32 + low.
    """

    low: UInt32[Array, "*k c c"]
    high: UInt32[Array, "*k c c"]

    @classmethod
    def empty(cls, num_classes: int, multi_label: bool = False) -> "ConfusionMatrix":
        """No pixels yet."""
        zeros = jnp.zeros((num_classes, 2, 2) if multi_label else (num_classes, num_classes), jnp.uint32)
        return cls(zeros, zeros)

    def add(self, counts: Integer[Array, "*k c c"]) -> "ConfusionMatrix":
        """Adds counts of less than 2^32 pixels."""
        low = self.low + counts.astype(jnp.uint32)
        return ConfusionMatrix(low, self.high + (low < self.low))

    def merge(self, other: "ConfusionMatrix") -> "ConfusionMatrix":
        """Adds what another state counted."""
        low = self.low + other.low
        return ConfusionMatrix(low, self.high + other.high + (low < self.low))

    def to_numpy(self) -> Int[np.ndarray, "*k c c"]:
        """The counts as int64."""
        return (np.asarray(self.high, np.int64) << 32) + np.asarray(self.low, np.int64)


def count_pixels(
    predictions: Integer[Array, "b h w"], labels: Integer[Array, "b h w"], num_classes: int
) -> Int[Array, "b c c"]:
    """Confusion counts of every image.

    Pixels whose label is not a class (such as ignored ones) don't count; predictions must be classes.
    """

    def count(prediction, label):
        label = label.astype(jnp.int32)
        cell = jnp.where(label < num_classes, label * num_classes + prediction, num_classes**2)
        return jnp.bincount(cell.ravel(), length=num_classes**2 + 1)[:-1].reshape(num_classes, num_classes)

    return jax.vmap(count)(predictions.astype(jnp.int32), labels)


def count_several(predictions: Integer[Array, "b h w k"], labels: Integer[Array, "b h w k"]) -> Int[Array, "b k 2 2"]:
    """Confusion counts of every image and class, where each pixel may have several: absent or there, by truth (rows).

    Labels other than 0 and 1 (such as ignored ones) don't count; predictions must be 0 or 1.
    """
    predictions, labels = predictions.astype(jnp.int32), labels.astype(jnp.int32)
    truth = jnp.stack([labels == 0, labels == 1], axis=-1).astype(jnp.int32)
    found = jnp.stack([predictions == 0, predictions == 1], axis=-1).astype(jnp.int32)
    return jnp.einsum("bhwki,bhwkj->bkij", truth, found)


def of_presence(counts: Int[Array, "*b k 2 2"] | Int[np.ndarray, "*b k 2 2"]) -> Array | np.ndarray:
    """Of `count_several`, the IoU of every class, 0 to 1; NaN where a class is neither there nor found."""
    there = counts[..., 1, 1]
    either = counts[..., 1, 1] + counts[..., 0, 1] + counts[..., 1, 0]
    numbers = np if isinstance(counts, np.ndarray) else jnp
    return numbers.where(either > 0, there / numbers.maximum(either, 1), numbers.nan)


def mean_iou(counts: Int[Array, "*b c c"]) -> Array:
    """Mean IoU, 0 to 1, over the classes that occur in the truth or the prediction; NaN where none does."""
    intersection = jnp.diagonal(counts, axis1=-2, axis2=-1)
    union = counts.sum(-1) + counts.sum(-2) - intersection
    occurs = union > 0
    return jnp.sum(jnp.where(occurs, intersection / jnp.maximum(union, 1), 0), -1) / occurs.sum(-1)


def scores(
    counts: Int[np.ndarray, "c c"], beta: float = 1.0, nan_to_num: float | None = None
) -> dict[str, np.ndarray | float]:
    """Scores of a confusion matrix, 0 to 1, under the reference's names.

    Args:
        counts: Pixels by true (rows) and predicted (columns) class.
        beta: Weight of the recall in the F-score.
        nan_to_num: What scores that have no pixel to judge are; None: NaN, which the means leave out.

    Returns:
        By class: "IoU", "Acc" (also "Recall"), "Dice", "Precision", "Fscore". Of all pixels: "aAcc". Means over
        the classes: "mIoU", "mAcc", "mDice", "mPrecision", "mRecall", "mFscore".
    """
    counts = np.asarray(counts, np.float64)
    intersection, truth, predicted = np.diag(counts), counts.sum(1), counts.sum(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        recall, precision = intersection / truth, intersection / predicted
        by_class = {
            "IoU": intersection / (truth + predicted - intersection),
            "Acc": recall,
            "Dice": 2 * intersection / (truth + predicted),
            "Precision": precision,
            "Recall": recall,
            "Fscore": (1 + beta**2) * precision * recall / (beta**2 * precision + recall),
        }
        overall = intersection.sum() / truth.sum()
    if nan_to_num is not None:
        by_class = {name: np.nan_to_num(value, nan=nan_to_num) for name, value in by_class.items()}
        overall = np.nan_to_num(overall, nan=nan_to_num)
    means = {f"m{name}": _mean(value) for name, value in by_class.items()}
    return {**by_class, **means, "aAcc": float(overall)}


def summary(counts: Int[np.ndarray, "*k c c"], classes: Sequence[str]) -> dict:
    """Scores in percent, as they are logged: "mIoU", "mAcc", "aAcc", "mDice"; "IoU", "Acc", "Dice" by class name.

    With several classes a pixel ([classes 2 2], see `count_several`) "Acc" is how much of a class is found, and
    "aAcc" how often it is right, of all pixels and classes, whether the class is there.

    A class that occurs neither in the truth nor in the predictions has None, and does not count in the means.
    """
    result = scores(counts) if counts.ndim == 2 else _scores_of_presence(counts)
    percent = {name: _percent(result[name]) for name in ("mIoU", "mAcc", "aAcc", "mDice")}
    for name in ("IoU", "Acc", "Dice"):
        percent[name] = {label: _percent(value) for label, value in zip(classes, result[name], strict=True)}
    return percent


def _scores_of_presence(presence: Int[np.ndarray, "k 2 2"]) -> dict[str, np.ndarray | float]:
    counts = np.asarray(presence, np.float64)
    there, found, both = counts[:, 1].sum(-1), counts[:, :, 1].sum(-1), counts[:, 1, 1]
    with np.errstate(divide="ignore", invalid="ignore"):
        by_class = {"IoU": of_presence(presence), "Acc": both / there, "Dice": 2 * both / (there + found)}
        right = (counts[:, 0, 0] + both).sum() / counts.sum()
    return {**by_class, **{f"m{name}": _mean(value) for name, value in by_class.items()}, "aAcc": float(right)}


def _mean(values: np.ndarray) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")


def _percent(value: float) -> float | None:
    return float(100 * value) if np.isfinite(value) else None
