"""Checks a data set: `python -m jaxseg.check --config configs/FILE.py[:RECIPE] --config.data.root=DIR`.

Reads every image and mask of the parts that the recipe has, as training would, and says what is wrong with which
file and what to do about it: files that can't be read or have no partner, masks of another size, numbers that are no
class, colour pictures or JPEG as masks, pictures that are in two parts. Writes a page with contact sheets, and
check.json. The exit status is 1 where there are errors (with --strict also warnings), else 0.
"""

import argparse
import sys
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from jaxseg.cli import Parser, main
from jaxseg.data.checking import SEVERITIES, CheckedData, check_dataset, common_folder, groups, shown, write_check
from jaxseg.errors import ConfigError

FOUND = 1  # the exit status where something was found
_STYLES = {"error": "bold red", "warning": "yellow", "note": "dim"}
_ROWS = 60  # of a table
_FILES = 3  # of one row


def findings_table(checked: CheckedData) -> Table:
    """What was found: a row for what is the same of several files, worst first."""
    root = common_folder(checked)
    table = Table("", "what", "part")
    for name in ("file", "value", "what to do"):
        table.add_column(name, overflow="fold")
    rows = groups(checked.findings)
    for group in rows[:_ROWS]:
        first = group[0]
        head = (Text(first.severity, _STYLES[first.severity]), first.title, first.part)
        for finding in group[:_FILES]:
            texts = [shown(text, root) for text in (finding.file, finding.value)]
            table.add_row(*head, *map(Text, texts), Text(first.fix if finding is first else ""))
            head = ("", "", "")
        if len(group) > _FILES:
            table.add_row(*head, f"and {len(group) - _FILES:,} more")
        table.add_section()
    if len(rows) > _ROWS:
        table.add_row("", f"{len(rows) - _ROWS} more rows: see the page")
    return table


def class_table(checked: CheckedData) -> Table:
    """Of each class its share of the labelled pixels and the images that have it, by part."""
    parts = checked.histograms
    table = Table("class")
    for part in parts:
        for name in (f"{part}: pixels, %", "images"):
            table.add_column(name, justify="right")
    first = next(iter(parts.values()), [])
    lines, order = len(first), range(len(first))
    if lines > _ROWS:  # the most frequent ones
        order = sorted(order, key=lambda index: -first[index]["pixels"])
    for index in order[:_ROWS]:
        rows = [own[index] for own in parts.values()]
        cells = [cell for row in rows for cell in (f"{100 * row['share']:.3f}", f"{row['images']:,}")]
        table.add_row(Text(rows[0]["name"]), *cells)
    if lines > _ROWS:
        table.add_row(f"{lines - _ROWS} more: see the page")
    return table


def make_parser() -> Parser:
    """The flags."""
    parser = Parser("check", __doc__)
    parser.add_config("configs/folder.py")
    parser.add_argument("--out", default="check", metavar="DIR", help="where the report goes; default: check")
    parser.add_argument("--parts", metavar="PART,...", help="of train, val, test; default: all that there are")
    parser.add_argument(
        "--limit", type=int, metavar="N", help="records of each part to read, evenly spread; default: all"
    )
    parser.add_argument("--workers", type=int, metavar="N", help="processes that read; default: one a core, 0: none")
    parser.add_argument("--strict", action="store_true", help="end with status 1 where there are warnings, too")
    return parser


def run(args: argparse.Namespace) -> None:
    """Checks what the flags say; ends the process with status 1 where there are errors."""
    for name in ("limit", "workers"):
        value, least = getattr(args, name), 1 if name == "limit" else 0
        if value is not None and value < least:
            raise ConfigError(f"--{name}={value}: it must be at least {least}.")
    parts = tuple(part.strip() for part in args.parts.split(",")) if args.parts else ()
    unknown = [part for part in parts if part not in ("train", "val", "test")]
    if unknown:
        raise ConfigError(f"--parts={args.parts}: {unknown[0]!r} is none of train, val, test.")
    columns = (TextColumn("reading"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        reading = bar.add_task("reading", total=None)
        checked = check_dataset(
            args.config, parts, limit=args.limit, workers=args.workers,
            progress=lambda done, total: bar.update(reading, completed=done, total=total),
        )  # fmt: skip
    console = Console()
    console.print(class_table(checked))
    if checked.findings:
        console.print(findings_table(checked))
    for part, why in checked.skipped.items():
        print(f"{part} was not read: {why}")
    read = sum(len(part.looks) for part in checked.parts.values())
    found = {severity: checked.count(severity) for severity in SEVERITIES}
    counts = ", ".join(f"{count:,} {severity}{'' if count == 1 else 's'}" for severity, count in found.items())
    print(f"{read:,} records read in {checked.seconds:.1f} s: {counts if checked.findings else 'nothing found'}")
    title = f"Check of {args.config.data.root or args.config.data.dataset}"
    print(f"report: {write_check(checked, Path(args.out), title)}")
    if checked.count("error") or (args.strict and checked.count("warning")):
        sys.exit(FOUND)


if __name__ == "__main__":
    main(make_parser(), run)
