"""What a check leaves behind: check.json, contact sheets, and a page that shows all of it."""

import io
import json
import os
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from jaxseg.data.checking.dataset import CheckedData, CheckedPart
from jaxseg.data.checking.findings import KINDS, SEVERITIES, Finding, groups
from jaxseg.data.checking.look import Look
from jaxseg.data.sources import Source
from jaxseg.errors import DataError
from jaxseg.visualize import charts, page
from jaxseg.visualize.files import write_png, write_whole
from jaxseg.visualize.sheets import Tile, contact_sheet

COLORS = {"error": (190, 30, 30), "warning": (176, 96, 0), "note": (90, 98, 108)}
_TILES = 24  # of a sheet
_OF_A_KIND = 3  # tiles of one row of the table of findings
_FILES = 200  # that the page lists of one row


def write_check(checked: CheckedData, folder: Path, title: str) -> Path:
    """Writes check.json, the contact sheets and check.html into a folder, the page last.

    Returns:
        The path of the page.
    """
    folder = Path(folder)
    root = common_folder(checked)
    write_whole(folder / "check.json", json.dumps(as_json(checked), indent=1).encode("utf-8", "replace"))
    sheets = _sheets(checked, folder, root)
    sections = [
        page.section("Result", page.cards(_headline(checked)), page.facts_table(_facts(checked, root))),
        page.section("Findings", *_findings(checked, root)),
        page.section("Worst findings", *(sheets[:1] if checked.findings else [])),
        page.section("Classes", *_classes(checked, folder)),
        page.section("Images", *_images(checked)),
        page.section("Masks over images", *(sheets[1:] if checked.findings else sheets)),
    ]
    text = page.page(title, sections)
    path = write_whole(folder / "check.html", text.encode("utf-8", "replace"))
    for left in (*folder.glob("sheet_*.png"), folder / "classes.png"):  # of an earlier check
        if f'src="{left.name}"' not in text:
            left.unlink(missing_ok=True)
    return path


def as_json(checked: CheckedData) -> dict[str, Any]:
    """The whole check as JSON has it."""
    return {
        "counts": {severity: checked.count(severity) for severity in SEVERITIES},
        "seconds": round(checked.seconds, 2),
        "parts": {part: dict(found.statistics) for part, found in checked.parts.items()},
        "skipped": dict(checked.skipped),
        "findings": [
            {
                "severity": finding.severity,
                "kind": finding.kind,
                "title": finding.title,
                "part": finding.part,
                "file": finding.file,
                "value": finding.value,
                "fix": finding.fix,
            }
            for finding in checked.findings
        ],
    }


def common_folder(checked: CheckedData) -> str:
    """The folder that all files of all parts are in; "" where they have none."""
    folders = {os.path.dirname(p) for part in checked.parts.values() for p in _paths(part.looks)}
    try:
        return os.path.commonpath(folders) if folders else ""
    except ValueError:  # absolute and relative ones, or several drives
        return ""


def shown(text: str | None, root: str) -> str:
    """A path, or a text with paths in it, without the folder that all have in common."""
    return (text or "").replace(f"{root}/", "") if root else text or ""


def _paths(looks: Sequence[Look]) -> list[str]:
    return [path for look in looks for path in (look.image_path, look.label_path) if path]


def _headline(checked: CheckedData) -> list[tuple[str, str]]:
    records = sum(len(part.looks) for part in checked.parts.values())
    return [("records read", f"{records:,}"), *((f"{s}s", f"{checked.count(s):,}") for s in SEVERITIES)]


def _facts(checked: CheckedData, root: str) -> list[tuple[str, str]]:
    facts = [("Folder", root)] if root else []
    for part, found in checked.parts.items():
        read, all_ = len(found.looks), len(found.source)
        facts.append((part, f"{found.source.name}: {read:,} of {all_:,} records" if read < all_ else
                      f"{found.source.name}: {all_:,} records"))  # fmt: skip
    facts += [(part, f"not read: {why}") for part, why in checked.skipped.items()]
    return [*facts, ("Time", f"{checked.seconds:.1f} s")]


def _findings(checked: CheckedData, root: str) -> list[str]:
    """A row for what is the same of several files, and the list of these files."""
    if not checked.findings:
        return [page.paragraph("Nothing was found.")]
    rows, lists = [], []
    for group in groups(checked.findings):
        first = group[0]
        red, green, blue = COLORS[first.severity]
        severity = f'<b style="color: rgb({red}, {green}, {blue})">{first.severity}</b>'
        files = escape(shown(first.file, root))
        files += f" and {len(group) - 1:,} more" if len(group) > 1 else ""
        rows.append(
            [
                severity,
                escape(first.title),
                first.part,
                files,
                escape(shown(first.value, root)),
                escape(shown(first.fix, root)),
            ]
        )
        if len(group) > 1:
            text = "\n".join(f"{shown(finding.file, root)}: {shown(finding.value, root)}" for finding in group[:_FILES])
            more = f"\nand {len(group) - _FILES} more, see check.json" if len(group) > _FILES else ""
            summary = f"{len(group):,} x {first.title}, {first.part}"
            lists.append(page.details(summary, page.preformatted(text + more)))
    head = ["", "What", "Part", "File", "Value", "Remedy"]
    return [page.table(head, rows, "Findings", text_columns=6, wrap=True), *lists]


def _classes(checked: CheckedData, folder: Path) -> list[str]:
    """The histogram: of each part the pixels of each class, their share, and the images that have it."""
    parts = checked.histograms
    if not parts:
        return []
    first = next(iter(checked.parts.values())).source
    shares = {part: np.array([row["share"] for row in rows]) for part, rows in parts.items()}
    charts.class_share_chart(shares, first.classes, folder / "classes.png")
    head = ["Class", *(f"{part}: {what}" for part in parts for what in ("pixels", "share, %", "images"))]
    rows = []
    for index, name in enumerate(first.classes):
        cells = []
        for own in parts.values():
            row = own[index]
            cells += [f"{row['pixels']:,}", f"{100 * row['share']:.3f}", f"{row['images']:,}"]
        rows.append([page.swatch(first.palette[index]) + escape(name), *cells])
    ignored = []
    for part in parts:
        figures = checked.parts[part].statistics
        ignored += [f"{figures['ignored']:,}", f"{100 * figures['ignored'] / max(figures['pixels'], 1):.3f}", ""]
    rows.append(["ignored (of all pixels)", *ignored])
    chart = page.figure(
        "classes.png", "Share of the labelled pixels of each class, logarithmic", "Click for full size."
    )
    table = page.table(head, rows, "Pixels by class")
    if len(rows) > charts.BARS_PER_COLUMN:
        table = page.details(f"Show the table of {len(rows) - 1} classes", table)
    return [chart, table]


def _images(checked: CheckedData) -> list[str]:
    """Sizes, forms, mean and standard deviation of each part."""
    rows = []
    for part, found in checked.parts.items():
        figures = found.statistics
        sizes = ", ".join(f"{s['height']}x{s['width']} ({s['images']:,})" for s in figures["sizes"][:5])
        more = len(figures["sizes"]) > 5
        forms = ", ".join(f"{form} ({count:,})" for form, count in figures["forms"].items())
        channels = [", ".join(str(value) for value in figures.get(name, ())) for name in ("mean", "std")]
        rows.append([part, sizes + (", ..." if more else ""), escape(forms), *channels])
    head = ["Part", "Height x width (images)", "Form", "Mean", "Standard deviation"]
    remark = "Mean and standard deviation a channel, of every n-th row and column of each image."
    return [page.table(head, rows, "Images", text_columns=5, wrap=True), page.paragraph(remark)]


def _sheets(checked: CheckedData, folder: Path, root: str) -> list[str]:
    """Draws the sheets; returns them as HTML, that of the findings first if there are any."""
    drawn = []
    if checked.findings:
        tiles = [tile for tile in (_tile_of(f, checked, root) for f in _chosen(checked.findings)) if tile is not None]
        words = "Files with findings, the worst first"
        drawn.append(_sheet(tiles, next(iter(checked.parts.values())).source, folder / "sheet_findings.png", words))
    for part, found in checked.parts.items():
        places = np.unique(np.linspace(0, len(found.looks) - 1, _TILES).round().astype(int))
        looks = [found.looks[place] for place in places]
        tiles = [_tile(found, look, shown(look.image_path, root) or look.name) for look in looks]
        words = f"{part}: {len(tiles)} of {len(found.source):,} records, evenly spread"
        drawn.append(_sheet(tiles, found.source, folder / f"sheet_{part}.png", words))
    return [sheet for sheet in drawn if sheet]


def _sheet(tiles: Sequence[Tile], source: Source, path: Path, words: str) -> str:
    if not tiles:
        path.unlink(missing_ok=True)
        return ""
    write_png(path, contact_sheet(tiles, source.classes, source.palette, source.ignore_index))
    return page.figure(path.name, words, f"{words}. Click for full size.")


def _chosen(findings: Sequence[Finding]) -> list[Finding]:
    """The findings to show: a few of each row, so that one frequent fault does not hide the others."""
    chosen = []
    for group in groups(findings):
        chosen += [finding for finding in group if finding.file is not None][:_OF_A_KIND]
    return chosen[:_TILES]


def _tile_of(finding: Finding, checked: CheckedData, root: str) -> Tile | None:
    """A finding's file, as far as it can be shown."""
    if KINDS[finding.kind] is KINDS["other_file"]:
        return None
    text, color = f"{finding.title}: {finding.value}", COLORS[finding.severity]
    text, title = shown(text, root), shown(finding.file, root)
    if finding.other is not None:  # both pictures, to be compared
        pictures = [_any_picture(file) for file in (finding.file, finding.other)]
        return Tile(pictures[0], mask=pictures[1], title=title, text=text, color=color)
    part = checked.parts.get(finding.part)
    for look in part.looks if part is not None else ():
        if finding.file in (look.image_path, look.label_path, look.name):
            return _tile(part, look, title, text, color)
    return Tile(_any_picture(finding.file), title=title, text=text, color=color)


def _tile(
    part: CheckedPart, look: Look, title: str, text: str = "", color: tuple[int, int, int] = COLORS["note"]
) -> Tile:
    """Image and label of a record; what can't be loaded is shown as it is stored, if it can be decoded."""
    image = label = mask = None
    try:
        record = _record(part, look)
        image, label = record.get("image"), record.get("label")
    except (DataError, LookupError):
        image = _any_picture(look.image_path)
        mask = _any_picture(look.label_path)
    if image is not None and image.ndim == 4:  # the middle of a volume
        image, label = (None if array is None else array[len(array) // 2] for array in (image, label))
    if label is not None and label.ndim != 2:
        label = np.where(label.any(axis=2), label.argmax(axis=2), part.source.ignore_index)
    if label is not None and not np.issubdtype(label.dtype, np.integer):
        label, mask = None, label
    return Tile(image, label, mask, title, text, color)


def _record(part: CheckedPart, look: Look) -> Mapping[str, Any]:
    """The record of a look, loaded."""
    record, rng = part.source[look.index], np.random.default_rng(0)
    for step in part.steps:
        record = step(record, rng)
    return record


def _any_picture(path: str | None) -> np.ndarray | None:
    """A picture file as it is, grey levels stretched; None where it is none."""
    try:
        with Image.open(io.BytesIO(Path(path or "").read_bytes())) as picture:
            stored = np.array(picture.convert("RGB") if picture.mode in ("P", "RGB", "RGBA", "CMYK") else picture)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None
    return stored.astype(np.float32) if stored.ndim == 2 else stored
