r"""Compiles a recipe's train step for TPUs that are not there, and says what it would take of a chip.

    pip install libtpu
    python tools/compile_for_tpu.py --config mask2former.py:RECIPE --size 640 640 --config.model.dtype=bfloat16 \
        --topology v5e:4x4 --config.mesh.fsdp=16 --config.mesh.data=1 --config.batch_size=16

No weights are needed, no data and no TPU; a large model takes minutes.
"""

import argparse
import json
import os
from pathlib import Path

os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # else libtpu asks the cloud where it is

from jaxseg.cli import Parser, main
from jaxseg.engine.ahead import compile_train_step, topology_devices


def make_parser() -> Parser:
    parser = Parser("compile_for_tpu", __doc__)
    parser.add_config("configs/demo.py")
    parser.add_argument("--topology", default="v5e:4x4", metavar="NAME", help="the chips; default: v5e:4x4, 16 of v5e")
    parser.add_argument("--size", type=int, nargs=2, default=(512, 512), metavar=("HEIGHT", "WIDTH"), help="of crops")
    parser.add_argument("--out", type=Path, metavar="FILE", help="a JSON file for the figures")
    parser.add_argument("--hlo", type=Path, metavar="FILE", help="a text file for the compiled program")
    return parser


def run(args: argparse.Namespace) -> None:
    compiled, figures = compile_train_step(args.config, topology_devices(args.topology), tuple(args.size))
    print(f"{figures['parameters']:,} parameters; {figures['devices']}, mesh {figures['mesh']}")
    for kind, size in figures["memory"].items():
        print(f"  {kind}: {size / 2**20:,.0f} MB a chip")
    print(f"  {(figures['flops'] or 0) / 1e12:.2f} TFLOP a chip and step")
    for kind, found in figures["collectives"].items():
        print(f"  {found['count']} {kind}, {found['bytes'] / 2**20:,.0f} MB")
    print(f"  compiled in {figures['compile_seconds']:.0f} s")
    if args.out:
        args.out.write_text(json.dumps(figures | {"recipe": args.config.name}, indent=2) + "\n")
    if args.hlo:
        args.hlo.write_text(compiled.as_text())


if __name__ == "__main__":
    main(make_parser(), run)
