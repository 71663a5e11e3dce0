"""Lays out a data set as its archives come for training.

    python tools/convert_dataset.py                      what there is
    python tools/convert_dataset.py drive --help         where to get one, which files, and what becomes of them
    python tools/convert_dataset.py drive training.zip test.zip --out data/DRIVE --workers 4

Archives are read as they are; folders with their content, or with the archives in them, will do too. Run again, it
goes on where it was stopped.
"""

import argparse
import os
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from jaxseg import cli
from jaxseg.data.converters import CONVERTERS, Converter, convert, default_out
from jaxseg.errors import DataError, did_you_mean

PROGRAM = "python tools/convert_dataset.py"
MOST_WORKERS = 8  # unless more are asked for: of large images one takes a gigabyte of memory
_NOTES = 10  # at most this many are printed


def usage(name: str, converter: Converter) -> str:
    """What is printed above the flags of one data set."""
    return f"""{converter.title}

get:       {converter.download}
run:       {PROGRAM} {name} {" ".join(converter.example)}
makes:     {converter.out}/: {converter.layout}
read with: --config.data.dataset={converter.dataset} --config.data.root={converter.out}"""


class Parser(cli.Parser):
    """The flags of one data set; a data set has no classes of the user's to import."""

    def __init__(self, name: str, converter: Converter):
        argparse.ArgumentParser.__init__(
            self,
            prog=f"{PROGRAM} {name}",
            description=usage(name, converter),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        self.set_defaults(modules=[])


def make_parser(name: str, converter: Converter) -> Parser:
    """The flags of one data set."""
    parser = Parser(name, converter)
    parser.add_argument("inputs", nargs="+", metavar="FILE", help="the archives, or folders that hold them")
    where = " or, where the files lie as they will afterwards, beside them" if converter.marker else ""
    parser.add_argument("--out", metavar="DIR", help=f"folder of the result; default: {converter.out}{where}")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = min(cores, MOST_WORKERS)
    parser.add_argument("--workers", type=int, default=workers, metavar="N", help=f"processes; default: {workers}")
    parser.add_argument("--partial", action="store_true", help="take what is there, though files are missing")
    parser.add_argument("--overwrite", action="store_true", help="write files anew that are there already")
    for option in converter.options:
        default = "" if option.default is None else f"; default: {option.default}"
        flag = f"--{option.name.replace('_', '-')}"
        parser.add_argument(flag, type=int, default=option.default, metavar="N", help=option.usage + default)
    return parser


def find(word: str) -> str:
    """The name of a converter, of its name or of its data set's in any spelling.

    Raises:
        DataError: there is none.
    """
    folded = "".join(filter(str.isalnum, word)).lower()
    for name, converter in CONVERTERS.items():
        if folded in (name.replace("_", ""), converter.dataset.lower()):
            return name
    raise DataError(f"No data set is called {word!r} here. {did_you_mean(word, CONVERTERS)}")


def run(name: str, argv: Sequence[str]) -> None:
    """Converts one data set as the words of a command say."""
    converter = CONVERTERS[name]

    def work(args: argparse.Namespace) -> None:
        out = args.out or default_out(converter, args.inputs)
        console = Console(stderr=True)
        columns = (TextColumn("[progress.description]{task.description}"), BarColumn(), MofNCompleteColumn())
        with Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal) as bar:
            task = bar.add_task(converter.dataset, total=None)
            report = convert(
                converter,
                args.inputs,
                out,
                workers=args.workers,
                options={option.name: getattr(args, option.name) for option in converter.options},
                partial=args.partial,
                overwrite=args.overwrite,
                others=CONVERTERS,
                on_progress=lambda done, total: bar.update(task, completed=done, total=total),
            )
        for message in report.notes[:_NOTES]:
            print(f"note: {message}")
        if len(report.notes) > _NOTES:
            print(f"note: and {len(report.notes) - _NOTES} more of the kind")
        print(f"{out}: {report.written} files written, {report.kept} were there")
        print(f"Use it with --config.data.dataset={converter.dataset} --config.data.root={out}")

    cli.main(make_parser(name, converter), work, argv)


def main() -> None:
    words = sys.argv[1:]
    if not words or words[0] in ("-h", "--help"):
        print(__doc__.strip(), end="\n\n")
        for name, converter in CONVERTERS.items():
            print(f"  {name:<16}{converter.title}")
        return
    try:
        name = find(words[0])
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    run(name, words[1:])


if __name__ == "__main__":
    main()
