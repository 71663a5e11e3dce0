r"""Write the small figures of MMSegmentation 1.2.2 that the tests compare with.

Runs in an environment of its own, which holds the reference and none of jaxseg::

    python -m venv reference && . reference/bin/activate
    pip install torch==2.13.0 mmengine==0.10.7 mmcv-lite==2.1.0 "numpy<2.3" \
        prettytable ftfy regex scipy matplotlib
    pip install mmsegmentation==1.2.2 mmpretrain==1.2.0 --no-deps
    pip install einops "importlib_metadata<8" rich  # mmpretrain's; what else it imports is stood in for
    python tools/make_reference_fixtures.py --out tests/fixtures [losses schedules ...]

Each function of `reference_fixtures` that is named below writes one file, or a folder of them: `figures initialisation
--case NAME` writes those of a head or backbone that is new, and leaves the others. Arrays are in the reference's layout
(N C H W) and in float64 unless said otherwise; `meta` in an `.npz` is JSON bytes that lists the cases:
`json.loads(bytes(npz["meta"]))`.
"""

import argparse
import logging
import warnings
from collections.abc import Callable
from pathlib import Path

import reference_environment

# isort: split
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from mmseg.models.losses import kldiv_loss as _kldiv_loss  # noqa: F401  (not registered otherwise)
from reference_fixtures.figures import figures, initialisation
from reference_fixtures.losses import losses, one_loss
from reference_fixtures.metrics import metrics
from reference_fixtures.optimization import optimizers, schedules
from reference_fixtures.points import points
from reference_fixtures.san import san, text

reference_environment.without_operators()

FIXTURES: dict[str, Callable[..., None]] = {
    function.__name__: function
    for function in (losses, one_loss, schedules, optimizers, metrics, figures, initialisation, points, san, text)
}

FOLDERS = ("figures", "initialisation", "one_loss")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help=f"which to write, of {', '.join(FIXTURES)}; default: all")
    parser.add_argument("--case", action="append", default=[], help=f"of {', '.join(FOLDERS)}; default: all")
    parser.add_argument("--out", type=Path, default=Path("tests/fixtures"))
    args = parser.parse_args()
    unknown = set(args.names) - set(FIXTURES)
    if unknown:
        parser.error(f"unknown fixture {', '.join(sorted(unknown))}; known are {', '.join(FIXTURES)}")
    warnings.simplefilter("ignore")
    init_default_scope("mmseg")  # where UNet looks for its parts
    MMLogger.get_instance("fixtures", log_level=logging.CRITICAL)
    args.out.mkdir(parents=True, exist_ok=True)
    for name in args.names or FIXTURES:
        if name in FOLDERS:
            (args.out / name).mkdir(exist_ok=True)
            FIXTURES[name](args.out, args.case)
        else:
            FIXTURES[name](args.out)
        print("wrote", name)


if __name__ == "__main__":
    main()
