"""Prints a complete config, every default included: `python -m jaxseg.print_config --config FILE.py[:NAME]`.

The output is JSON with sorted fields, so two configs can be compared with `diff`; written to a file, it is itself what
--config takes. With --mmseg FILE.py it is the recipe that a config of MMSegmentation translates to; what of that config
has no part in it goes to stderr, with the reasons.
"""

import argparse
import sys

from jaxseg import config as run_config
from jaxseg.cli import Parser, main
from jaxseg.mmseg import parse_overrides, translate_file


def make_parser() -> Parser:
    """The flags."""
    parser = Parser("print_config", __doc__)
    parser.add_config("configs/demo.py")
    parser.add_argument("--mmseg", metavar="FILE.py", help="a config of MMSegmentation to translate; it is never run")
    parser.add_argument(
        "--cfg-options", nargs="+", default=[], metavar="KEY=VALUE", help="other values for fields of --mmseg"
    )
    return parser


def run(args: argparse.Namespace) -> None:
    """Prints what the flags say."""
    config = args.config
    if args.mmseg:
        config, ignored = translate_file(args.mmseg, parse_overrides(args.cfg_options))
        for field, reason in ignored.items():
            print(f"ignored: {field}: {reason}", file=sys.stderr)
    print(run_config.to_json(config))


if __name__ == "__main__":
    main(make_parser(), run)
