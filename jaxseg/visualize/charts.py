"""Charts of a run as PNG files: loss, metrics and learning rate by step, IoU by class, the confusion matrix.

matplotlib is imported when the first chart is drawn, and only through `Figure`: no global state, no display.
"""

import io
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Num

from jaxseg.errors import DataError, did_you_mean
from jaxseg.visualize.files import write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# One line of metrics.jsonl: "step", "kind" ("train" or "val") and what was measured.
Record = Mapping[str, Any]

_BLUE, _ORANGE, _RED, _GREY, _INK = "#0072b2", "#d55e00", "#c81e1e", "#9aa0a8", "#20242a"
_MOST_PARTS = 12  # lines of a chart of losses
_PARTS = ("#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#7a5cc8", "#8c6d31")
_DPI = 160
_WIDTH = 6.0
# A run whose loss falls by more than this factor is drawn on a logarithmic axis.
_LOG_RANGE = 20
BARS_PER_COLUMN = 60
_ANNOTATED_CLASSES = 20


def series(records: Sequence[Record], kind: str, key: str) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Steps and values of one measurement, by rising step.

    Where a step was run again after a restart, its last record counts. A value of None is NaN.
    """
    last: dict[int, float] = {}
    for record in records:
        if record.get("kind") == kind and key in record:
            value = record[key]
            last[int(record["step"])] = math.nan if value is None else float(value)
    steps = sorted(last)
    return np.array(steps, np.float64), np.array([last[step] for step in steps], np.float64)


def smooth(values: Float[np.ndarray, " n"], window: int) -> Float[np.ndarray, " n"]:
    """Mean over a centred window, which shrinks at both ends; NaN and inf are left out of it.

    Centred, because a trailing mean lags behind a loss that falls fast.
    """
    finite = np.isfinite(values)
    reach = max(0, window // 2)
    sums = np.concatenate([[0.0], np.cumsum(np.where(finite, values, 0.0))])
    counts = np.concatenate([[0], np.cumsum(finite)])
    places = np.arange(len(values))
    first, last = np.maximum(places - reach, 0), np.minimum(places + reach + 1, len(values))
    inside = counts[last] - counts[first]
    mean = np.full(len(values), np.nan)
    return np.divide(sums[last] - sums[first], inside, out=mean, where=inside > 0)


def loss_chart(records: Sequence[Record], path: str | os.PathLike) -> Path:
    """Draws the training loss by step: its values, their moving average, its parts where there are several.

    The axis is logarithmic where the loss falls far. Steps whose loss is not finite are marked.

    Raises:
        DataError: no training record has a loss.
    """
    steps, loss = _required(records, "train", "loss")
    window = len(steps) // 30
    marker = "o" if len(steps) == 1 else None
    figure = _figure()
    axes = figure.add_subplot()
    average = smooth(loss, window)
    smoothed = window > 1
    if smoothed:
        axes.plot(steps, loss, color=_BLUE, alpha=0.25, linewidth=0.8)
    drawn = [average]
    parts = sorted({key for record in records if record.get("kind") == "train" for key in record if _is_part(key)})
    if len(parts) > _MOST_PARTS:  # those of the layers before the last would hide the chart
        parts = [part for part in parts if part.count(".") < 2]
    if len(parts) > 1:
        for index, part in enumerate(parts):
            part_steps, values = series(records, "train", part)
            drawn.append(smooth(values, window))
            color = _PARTS[index % len(_PARTS)]
            style = ("-", "--", ":")[index // len(_PARTS) % 3]
            axes.plot(part_steps, drawn[-1], color=color, linestyle=style, linewidth=1.1, marker=marker, label=part)
    label = "loss, moving average" if smoothed else "loss"
    axes.plot(steps, average, color=_BLUE, linewidth=2, marker=marker, label=label, zorder=3)
    broken = steps[~np.isfinite(loss)]
    for index, step in enumerate(broken[:50]):
        name = f"not finite ({len(broken)} records)" if index == 0 else None
        axes.axvline(step, color=_RED, linewidth=0.8, alpha=0.6, label=name)
    finite = average[np.isfinite(average)]
    everything = np.concatenate(drawn)
    positive = np.all(everything[np.isfinite(everything)] > 0)
    if len(finite) and positive and finite.max() > _LOG_RANGE * finite.min():
        axes.set_yscale("log")
    _finish(axes, steps, "Training loss", "loss")
    return _save(figure, path)


def metric_chart(
    records: Sequence[Record], path: str | os.PathLike, key: str = "mIoU", higher_is_better: bool = True
) -> Path:
    """Draws one figure of the evaluations by step, in the unit of the records, and marks its best value.

    Raises:
        DataError: no evaluation record has `key`; the message names those that are there.
    """
    steps, values = _required(records, "val", key)
    figure = _figure()
    axes = figure.add_subplot()
    axes.plot(steps, values, color=_BLUE, linewidth=2, marker="o", markersize=4)
    if np.isfinite(values).any():
        best = int(np.nanargmax(values) if higher_is_better else np.nanargmin(values))
        axes.plot(steps[best], values[best], marker="o", markersize=9, color=_ORANGE, linestyle="none")
        axes.axhline(values[best], color=_ORANGE, linewidth=0.8, linestyle="--", alpha=0.6)
        title = f"{key}: best {values[best]:.4g} at step {steps[best]:,.0f}"
    else:
        title = f"{key}: never finite"
    _finish(axes, steps, title, key)
    return _save(figure, path)


def learning_rate_chart(records: Sequence[Record], path: str | os.PathLike) -> Path:
    """Draws the learning rate ("lr" of the training records) by step.

    Raises:
        DataError: no training record has a learning rate.
    """
    steps, values = _required(records, "train", "lr")
    figure = _figure(height=2.6)
    axes = figure.add_subplot()
    axes.plot(steps, values, color=_BLUE, linewidth=2, marker="o" if len(steps) == 1 else None)
    axes.set_ylim(bottom=0)
    axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3))
    _finish(axes, steps, "Learning rate", "learning rate")
    return _save(figure, path)


def class_iou_chart(iou: Float[np.ndarray, " classes"], classes: Sequence[str], path: str | os.PathLike) -> Path:
    """Draws one bar for each class, the best on top; more than 60 classes stand in several columns.

    Args:
        iou: intersection over union of each class in percent; NaN where neither truth nor prediction has the
            class, which is shown as "absent" below the others.
        classes: class names, in the order of their indices.
        path: the PNG to write.

    Raises:
        DataError: not as many names as values, or none at all.
    """
    if len(iou) != len(classes) or not len(classes):
        raise DataError(f"{len(iou)} IoU values for {len(classes)} class names: give one name a value.")
    # Absent classes go last; ties and absent ones keep the order of the data set.
    order = np.argsort(np.where(np.isnan(iou), np.inf, -iou), kind="stable")
    columns = math.ceil(len(order) / BARS_PER_COLUMN)
    rows = math.ceil(len(order) / columns)
    figure = _figure(width=_WIDTH if columns == 1 else 4.6 * columns, height=0.26 * rows + 1.1)
    mean = float(np.nanmean(iou)) if np.isfinite(iou).any() else math.nan
    for column, axes in enumerate(figure.subplots(1, columns, squeeze=False)[0]):
        shown = order[column * rows : (column + 1) * rows]
        values = iou[shown]
        axes.barh(np.arange(len(shown)), np.nan_to_num(values), color=_BLUE, height=0.72)
        for place, value in enumerate(values):
            absent = bool(np.isnan(value))
            axes.text(
                0.8 if absent else value + 0.8,
                place,
                "absent" if absent else f"{value:.1f}",
                va="center",
                fontsize=9,
                color=_GREY if absent else _INK,
                style="italic" if absent else "normal",
                # Keeps the figure readable where the line of the mean runs through it.
                bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 0.8},
            )
        if np.isfinite(mean):
            axes.axvline(mean, color=_ORANGE, linewidth=1, linestyle="--")
        axes.set_yticks(np.arange(len(shown)), [_short(classes[index]) for index in shown], parse_math=False)
        axes.set_ylim(rows - 0.4, -0.6)
        axes.set_xlim(0, 109)  # room for the figure behind a full bar
        axes.set_xticks(range(0, 101, 20))
        _clean(axes)
        axes.grid(axis="x", color="#e4e7eb", linewidth=0.8)
        axes.set_xlabel("IoU, percent")
    mean_shown = f"mean {mean:.1f} (dashed)" if np.isfinite(mean) else "no class is present"
    figure.suptitle(f"IoU by class: {mean_shown}", fontsize=12, color=_INK)
    return _save(figure, path)


def class_share_chart(
    shares: Mapping[str, Float[np.ndarray, " classes"]], classes: Sequence[str], path: str | os.PathLike
) -> Path:
    """Draws the share of the labelled pixels of each class, a mark for each part, on a logarithmic axis.

    Args:
        shares: of each part, 0..1; a class without a pixel has no mark.
        classes: class names, in the order of their indices; more than 60 stand in several columns.
        path: the PNG to write.

    Raises:
        DataError: not as many names as values.
    """
    wrong = next((part for part, values in shares.items() if len(values) != len(classes)), None)
    if wrong is not None or not len(classes):
        raise DataError(f"{len(classes)} class names for the shares of {wrong}: give one name a value.")
    columns = math.ceil(len(classes) / BARS_PER_COLUMN)
    rows = math.ceil(len(classes) / columns)
    figure = _figure(width=_WIDTH if columns == 1 else 4.6 * columns, height=0.26 * rows + 1.3)
    least = min((float(v[v > 0].min()) for v in shares.values() if (v > 0).any()), default=0.01)
    left = min(10 ** math.floor(math.log10(100 * least) - 0.1), 1.0)
    for column, axes in enumerate(figure.subplots(1, columns, squeeze=False)[0]):
        names = classes[column * rows : (column + 1) * rows]
        for (part, values), color, marker in zip(shares.items(), (_BLUE, _ORANGE, _PARTS[1]), "o^s", strict=False):
            own = 100 * values[column * rows : (column + 1) * rows]
            places = np.flatnonzero(own > 0)
            if marker == "o":
                axes.barh(places, own[places] - left, left=left, color=color, height=0.6, alpha=0.25)
            axes.plot(own[places], places, marker, color=color, markersize=5, label=part)
        axes.set_xscale("log")
        axes.set_xlim(left, 130)
        axes.set_yticks(np.arange(len(names)), [_short(name) for name in names], parse_math=False)
        axes.set_ylim(rows - 0.4, -0.6)
        _clean(axes)
        axes.grid(axis="x", color="#e4e7eb", linewidth=0.8)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.set_xlabel("percent of the labelled pixels")
        if len(shares) > 1 and column == 0:
            axes.legend(fontsize=8, frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=len(shares))
    return _save(figure, path)


def confusion_chart(
    confusion: Num[np.ndarray, "classes classes"], classes: Sequence[str], path: str | os.PathLike
) -> Path:
    """Draws the confusion matrix by row: the share of each true class that was predicted as each class.

    Up to 20 classes carry the percentage in the cell. A class that truth does not have is a grey row.

    Args:
        confusion: pixel counts, rows true class, columns predicted class.
        classes: class names, in the order of their indices.
        path: the PNG to write.

    Raises:
        DataError: not as many names as rows.
    """
    from matplotlib.colors import PowerNorm

    count = len(classes)
    if confusion.shape != (count, count) or not count:
        shape = "x".join(map(str, confusion.shape))
        raise DataError(f"A confusion matrix of {shape} for {count} class names: give one name for each row.")
    shares = row_shares(confusion)
    annotated = count <= _ANNOTATED_CLASSES
    side = max(3.2, (0.4 if annotated else 0.15) * count)
    figure = _figure(width=side + 2.4, height=side + 1.8, dpi=_DPI if annotated else 100)
    axes = figure.add_subplot()
    axes.set_facecolor("#d9dce0")
    # The exponent lifts small shares: mistakes are mostly of a few percent, and those are looked for here.
    drawn = axes.imshow(shares, cmap="Blues", norm=PowerNorm(0.6, 0, 1), interpolation="nearest")
    font = 9 if annotated else 7
    names = [_short(name) for name in classes]
    axes.set_xticks(range(count), names, rotation=90, fontsize=font, parse_math=False)
    axes.set_yticks(range(count), names, fontsize=font, parse_math=False)
    axes.tick_params(length=0)
    if annotated:
        for row, column in np.argwhere(shares >= 0.005):
            share = shares[row, column]
            color = "white" if share > 0.4 else _INK
            axes.text(column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=8, color=color)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title("Confusion, percent of the true class", fontsize=12, color=_INK)
    bar = figure.colorbar(drawn, ax=axes, fraction=0.04, pad=0.02, aspect=40, ticks=[0, 0.25, 0.5, 0.75, 1])
    bar.ax.set_yticklabels(["0", "25", "50", "75", "100"])
    bar.outline.set_visible(False)
    return _save(figure, path)


def row_shares(confusion: Num[np.ndarray, "classes classes"]) -> Float[np.ndarray, "classes classes"]:
    """Each row of a confusion matrix divided by its sum, 0..1; a row without pixels is NaN."""
    counts = confusion.astype(np.float64)
    sums = counts.sum(axis=1, keepdims=True)
    return np.divide(counts, sums, out=np.full_like(counts, np.nan), where=sums > 0)


def _required(
    records: Sequence[Record], kind: str, key: str
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """`series`, or DataError where it is empty."""
    steps, values = series(records, kind, key)
    if not len(steps):
        present = {name for record in records if record.get("kind") == kind for name in record}
        raise DataError(f"No {kind!r} record has {key!r}. {did_you_mean(key, present - {'kind', 'step'})}")
    return steps, values


def _is_part(key: str) -> bool:
    """True for the loss of one head, such as "decode.loss_ce"; its last word starts with "loss"."""
    return "." in key and key.rpartition(".")[2].startswith("loss")


def _figure(width: float = _WIDTH, height: float = 3.6, dpi: int = _DPI) -> "Figure":
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=dpi, layout="constrained", facecolor="white")


def _clean(axes: "Axes") -> None:
    """Takes away what carries no information."""
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(_GREY)
    axes.tick_params(length=0, labelcolor=_INK)
    axes.set_axisbelow(True)


def _finish(axes: "Axes", steps: Float[np.ndarray, " n"], title: str, label: str) -> None:
    """Title, grid, whole-numbered step axis, and a legend where lines have names."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

    _clean(axes)
    axes.grid(color="#e4e7eb", linewidth=0.8)
    # One evaluation alone would otherwise stand on an axis of repeated or made-up steps.
    axes.xaxis.set_major_locator(
        FixedLocator(steps) if len(steps) == 1 else MaxNLocator(nbins=6, integer=True, min_n_ticks=1)
    )
    axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:,.0f}"))
    axes.set_xlabel("step")
    axes.set_ylabel(label)
    axes.set_title(title, fontsize=12, color=_INK)
    handles, _ = axes.get_legend_handles_labels()
    if len(handles) > 1:
        axes.legend(fontsize=8, frameon=False)


def _short(name: str, longest: int = 24) -> str:
    name = " ".join(name.split())
    return name if len(name) <= longest else name[: longest - 1] + "…"


def _save(figure: "Figure", path: str | os.PathLike) -> Path:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return write_whole(path, buffer.getvalue())
