"""The report of a run: one HTML file and its pictures, to be opened from disk or copied anywhere."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Integer, Num, UInt8

from jaxseg.errors import DataError
from jaxseg.visualize import charts, page
from jaxseg.visualize.files import write_png, write_whole
from jaxseg.visualize.overlay import panel
from jaxseg.visualize.palettes import Palette, palette_array

# What the evaluation reports in percent; other numbers are shown as they are.
_PERCENT = ("mIoU", "mAcc", "aAcc", "mDice", "mFscore", "mPrecision", "mRecall")
_SHOWN_AT_EACH_END = 6
_MOST_CONFUSED = 10
# With more classes than this, the confusion matrix needs the whole width of the page.
_SMALL_MATRIX = 12
# Two by two, a picture of this side is as sharp as the page is wide.
_TILE = 400


@dataclass(frozen=True, eq=False)
class Example:
    """One evaluated image.

    Attributes:
        name: what to call it, such as the file's name.
        image: RGB photo, 0..255.
        truth: true class indices, the ignore index where nobody knows; 0 or 1 for every class, where a pixel may have
            several.
        prediction: predicted class indices, in the same way.
        score: mean IoU over the classes of this image, 0..1; NaN where no pixel is labelled.
    """

    name: str
    image: UInt8[np.ndarray, "h w 3"]
    truth: Integer[np.ndarray, "h w *k"]
    prediction: Integer[np.ndarray, "h w *k"]
    score: float


def write_report(
    folder: Path,
    *,
    title: str,
    config_text: str,
    records: Sequence[charts.Record],
    metrics: Mapping[str, Any],
    confusion: Num[np.ndarray, "classes classes"] | None,
    classes: Sequence[str],
    palette: Palette,
    examples: Sequence[Example],
    ignore_index: int = 255,
    facts: Mapping[str, str] | None = None,
) -> Path:
    """Writes `report.html` and the pictures it shows into `folder`; sections without content are left out.

    The pictures are written first and the page last, each whole or not at all. A report that is already
    there is replaced, and pictures of it that the new one does not show are removed.

    Args:
        folder: where to write; made where it is missing.
        title: heading of the page.
        config_text: the complete configuration as text.
        records: the lines of metrics.jsonl; empty for a run that only evaluates.
        metrics: the evaluation to show: numbers, and dicts such as "IoU" from class name to percent, None
            where a class is absent.
        confusion: pixel counts, rows true class, columns predicted class.
        classes: class names, in the order of their indices.
        palette: one colour in 0..255 for each class.
        examples: evaluated images; of more than twelve, the six worst and the six best are shown.
        ignore_index: the label of pixels that do not count.
        facts: what else to say about the run, such as dataset, model, device, time.

    Returns:
        The path of `report.html`.

    Raises:
        DataError: arrays, class names and palette do not fit together.
    """
    folder = Path(folder)
    colors = palette_array(palette, len(classes))
    if confusion is not None and confusion.shape != (len(classes), len(classes)):
        raise DataError(f"The confusion matrix is {confusion.shape} for {len(classes)} classes.")
    sections = [
        page.section("Result", page.cards(_headline(metrics)), page.facts_table(list((facts or {}).items()))),
        page.section("Training", *_training(folder, records)),
        page.section("Classes", *_classes(folder, metrics, confusion, classes, colors)),
        page.section("Confusion", *_confusion(folder, confusion, classes, colors)),
        page.section("Examples", *_examples(folder, examples, classes, colors, ignore_index)),
        page.section("Configuration", page.details("Show the whole configuration", page.preformatted(config_text)))
        if config_text
        else "",
    ]
    text = page.page(title, sections)
    # File names can hold bytes that are no text; they must not cost the report.
    path = write_whole(folder / "report.html", text.encode("utf-8", "replace"))
    _remove_unshown(folder, text)
    return path


def _headline(metrics: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The single numbers of an evaluation, those in percent first and in a fixed order."""
    known = [(f"{key}, %", f"{_number(metrics[key]):.2f}") for key in _PERCENT if _is_number(metrics.get(key))]
    others = [
        (key, f"{value:,}" if isinstance(value, int) else f"{_number(value):.4g}")
        for key, value in metrics.items()
        if key not in _PERCENT and _is_number(value)
    ]
    return known + others


def _training(folder: Path, records: Sequence[charts.Record]) -> list[str]:
    """Charts by step, and a sentence on length, loss and speed."""
    steps, loss = charts.series(records, "train", "loss")
    figures = []
    if len(steps):
        charts.loss_chart(records, folder / "loss.png")
        words = f"Training loss by step, from {loss[0]:.3g} to {loss[-1]:.3g}"
        figures.append(page.figure("loss.png", words))
    evaluated, scores = charts.series(records, "val", "mIoU")
    if len(evaluated):
        charts.metric_chart(records, folder / "miou.png", "mIoU")
        words = f"mIoU in percent over {len(evaluated)} evaluations, the last {scores[-1]:.2f}"
        figures.append(page.figure("miou.png", words))
    if len(charts.series(records, "train", "lr")[0]):
        charts.learning_rate_chart(records, folder / "learning_rate.png")
        figures.append(page.figure("learning_rate.png", "Learning rate by step"))
    sentence = ""
    if len(steps):
        sentence = f"{steps[-1]:,.0f} steps; the last recorded loss is {loss[-1]:.4g}."
        speeds = charts.series(records, "train", "images_per_second")[1]
        if np.isfinite(speeds).any():
            sentence += f" Median speed: {np.nanmedian(speeds):.3g} images per second."
        sentence = page.paragraph(sentence)
    return [sentence, page.pair(*figures)]


def _classes(
    folder: Path,
    metrics: Mapping[str, Any],
    confusion: Num[np.ndarray, "classes classes"] | None,
    classes: Sequence[str],
    colors: UInt8[np.ndarray, "colors 3"],
) -> list[str]:
    """A chart of IoU and a table of all that was measured by class."""
    measured = {key: value for key, value in metrics.items() if isinstance(value, Mapping)}
    if not measured:
        return []
    chart = ""
    if "IoU" in measured:
        iou = np.array([_number(measured["IoU"].get(name)) for name in classes])
        charts.class_iou_chart(iou, classes, folder / "class_iou.png")
        chart = page.figure("class_iou.png", "IoU of each class in percent, the best on top")
    head = ["Class", *(f"{key}, %" for key in measured)]
    pixels = None
    if confusion is not None and confusion.sum() > 0:
        pixels = 100 * confusion.sum(axis=1) / confusion.sum()
        head.append("Pixels, %")
    rows = []
    for index, name in enumerate(classes):
        cells = [_percent_cell(column.get(name)) for column in measured.values()]
        if pixels is not None:
            cells.append(f"{pixels[index]:.2f}")
        rows.append([_named(classes, colors, index), *cells])
    listed = page.table(head, rows, "Measures by class")
    if len(classes) > charts.BARS_PER_COLUMN:
        return [chart, page.details(f"Show the table of {len(classes)} classes", listed)]
    return [page.pair(chart, listed)]


def _confusion(
    folder: Path,
    confusion: Num[np.ndarray, "classes classes"] | None,
    classes: Sequence[str],
    colors: UInt8[np.ndarray, "colors 3"],
) -> list[str]:
    """The matrix as a picture, and the mistakes that cost the most pixels as a table."""
    if confusion is None or confusion.sum() == 0:
        return []
    charts.confusion_chart(confusion, classes, folder / "confusion.png")
    chart = page.figure(
        "confusion.png",
        f"Confusion matrix of {len(classes)} classes: share of each true class predicted as each class",
        "Rows: true class. Columns: prediction. Click for full size.",
    )
    mistakes = confusion.astype(np.float64)
    np.fill_diagonal(mistakes, 0)
    shares = charts.row_shares(confusion)
    rows = []
    for flat in np.argsort(-mistakes, axis=None, kind="stable")[:_MOST_CONFUSED]:
        true, predicted = divmod(int(flat), len(classes))
        if mistakes[true, predicted] > 0:
            rows.append(
                [
                    _named(classes, colors, true),
                    _named(classes, colors, predicted),
                    f"{100 * shares[true, predicted]:.1f}",
                    f"{100 * mistakes[true, predicted] / mistakes.sum():.1f}",
                ]
            )
    if not rows:
        return [chart]
    head = ["True", "Predicted as", "Of the class, %", "Of all errors, %"]
    listed = "<h3>Most frequent mistakes</h3>\n" + page.table(head, rows, "Mistakes", text_columns=2)
    if len(classes) > _SMALL_MATRIX:
        return [chart, listed]
    return [page.pair(chart, f"<div>{listed}</div>")]


def _examples(
    folder: Path,
    examples: Sequence[Example],
    classes: Sequence[str],
    colors: UInt8[np.ndarray, "colors 3"],
    ignore_index: int,
) -> list[str]:
    """Panels of the worst and the best images, under a legend of the classes in them."""
    ranked = sorted((item for item in examples if math.isfinite(item.score)), key=lambda item: item.score)
    if not ranked:
        return []
    # Few examples are split in the middle, so that none is shown twice.
    count = min(_SHOWN_AT_EACH_END, (len(ranked) + 1) // 2)
    groups = {"worst": ranked[:count], "best": ranked[count:][::-1][:_SHOWN_AT_EACH_END]}
    shown = [item for group in groups.values() for item in group]
    present = np.unique(np.concatenate([_present(part) for e in shown for part in (e.truth, e.prediction)]))
    indices = [int(index) for index in present if 0 <= index < len(classes) and index != ignore_index]
    parts = [
        page.paragraph(
            "Errors are red, ignored pixels grey. Images are ranked by their mean IoU; the share of wrong "
            "pixels stands above the errors."
        ),
        page.legend_list(
            [classes[index] for index in indices],
            colors[indices].tolist(),
            any((item.truth == ignore_index).any() for item in shown),
        ),
    ]
    for group, members in groups.items():
        figures = []
        for rank, item in enumerate(members, start=1):
            address = f"examples/{group}_{rank:02d}.png"
            drawn = panel(
                item.image,
                item.truth,
                item.prediction,
                colors,
                ignore_index=ignore_index,
                columns=2,
                tile_size=_TILE,
            )
            write_png(folder / address, drawn)
            words = f"{item.name}: image, truth, prediction and errors"
            figures.append(page.figure(address, words, f"{item.name}: mean IoU {100 * item.score:.1f} %"))
        if figures:
            parts += [f"<h3>{group.capitalize()}</h3>", page.pair(*figures)]
    return parts


def _present(labels: Integer[np.ndarray, "h w *k"]) -> Integer[np.ndarray, " n"]:
    """The classes in a label map."""
    return np.unique(labels) if labels.ndim == 2 else np.flatnonzero((labels == 1).any((0, 1)))


def _remove_unshown(folder: Path, text: str) -> None:
    """Removes pictures that an earlier report left under our own names and this page does not show."""
    ours = ("loss.png", "miou.png", "learning_rate.png", "class_iou.png", "confusion.png")
    left = [folder / name for name in ours]
    for group in ("worst", "best"):
        left += (folder / "examples").glob(f"{group}_[0-9][0-9].png")
    for path in left:
        if f'src="{path.relative_to(folder).as_posix()}"' not in text:
            path.unlink(missing_ok=True)


def _named(classes: Sequence[str], colors: UInt8[np.ndarray, "colors 3"], index: int) -> str:
    """A class as HTML: its colour and its name."""
    return page.swatch(colors[index].tolist()) + escape(classes[index])


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def _number(value: float | int | np.number | None) -> float:
    """A measure as float; None, which JSON has for NaN, is NaN."""
    return math.nan if value is None else float(value)


def _percent_cell(value: float | int | np.number | None) -> str:
    number = _number(value)
    return "absent" if math.isnan(number) else f"{number:.2f}"
