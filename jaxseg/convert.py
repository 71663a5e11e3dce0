"""Converts trained models: `python -m jaxseg.convert --config CONFIG.py --checkpoint FILE.pth --out DIR`.

CONFIG.py is MMSegmentation's, of 0.x or 1.x; FILE.pth or FILE.safetensors was trained with it. Both are read, and
nothing in them is run. DIR is a folder that `evaluate`, `predict` and `jaxseg.load` take, and `--config.init_from`. It
gets a summary, conversion.json, of what became of every tensor and every field of the config.

Without --config, the config that MMSegmentation wrote into the file is taken. A recipe of jaxseg is given as
--config=FILE.py:NAME. --source says whose names the file has, where that can't be told from them: torchvision,
mmpretrain (backbones alone), authors (CGNet).

The way back: `python -m jaxseg.convert --to=mmseg --workdir DIR --out FILE.safetensors`.
"""

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

from jaxseg import config as run_config
from jaxseg.cli import Parser, main
from jaxseg.engine.weights import save_weights
from jaxseg.errors import CheckpointError, ConfigError
from jaxseg.inference import load_run
from jaxseg.mmseg import parse_overrides
from jaxseg.mmseg.convert import to_state_dict
from jaxseg.mmseg.pretrained import Pretrained, read_pretrained, read_published
from jaxseg.mmseg.safetensors import write_safetensors

SUMMARY = "conversion.json"


def save(model: Pretrained, checkpoint: str, out: Path) -> None:
    """Writes the folder of a converted model, whole or not at all.

    Args:
        model: What was read.
        checkpoint: The file, for the summary.
        out: The folder; it must not be there yet.

    Raises:
        ConfigError: There is something there already.
    """
    check_out(out)
    part = out.with_name(f".{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    run_config.save(model.config, part)
    save_weights(part, model.variables, model.step)
    (part / SUMMARY).write_text(json.dumps(summary(model, checkpoint), indent=1) + "\n")
    if out.is_dir():
        out.rmdir()
    part.rename(out)


def check_out(out: Path) -> None:
    """Refuses to write where something is already.

    Raises:
        ConfigError: It is a file, or a folder that is not empty.
    """
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise ConfigError(f"--out={out} is there already; give another place, or remove it first")


def summary(model: Pretrained, checkpoint: str) -> dict[str, Any]:
    """What became of every tensor and every field."""
    return {
        "checkpoint": str(checkpoint),
        "source": model.source,
        "step": model.step,
        "tensors": model.mapped,
        "left_as_initialised": model.initial,
        "counters": model.counters,
        "ignored_fields": model.ignored,
    }


def describe(model: Pretrained, out: Path) -> str:
    """The summary in a few lines."""
    parts = sorted({path.split("/")[1] for path in model.mapped.values()})
    lines = [
        f"{model.config.name or 'model'}: {len(model.mapped)} tensors of the format {model.source} fill "
        f"{', '.join(parts)}; {len(model.config.data.classes)} classes",
    ]
    if model.counters:
        lines.append(f"not needed: {len(model.counters)} counters of norm layers")
    if model.initial:
        lines.append(f"left as initialised: {', '.join(model.initial)}")
    if model.ignored:
        lines.append(f"{len(model.ignored)} fields of the config have no part in it; {SUMMARY} gives the reasons")
    return "\n".join([*lines, f"written: {out}"])


def write_back(workdir: str, step: int | None, out: Path) -> int:
    """Writes the variables of a run folder under the reference's names.

    Args:
        workdir: The run folder, or a converted one.
        step: Which checkpoint; None: the best.
        out: The .safetensors file to write.

    Returns:
        How many tensors it has.

    Raises:
        ConfigError: The file is there already, or is called otherwise.
    """
    if out.suffix != ".safetensors":
        raise ConfigError(f"--out={out} must end in .safetensors")
    if out.exists():
        raise ConfigError(f"--out={out} is there already; give another place, or remove it first")
    segmenter = load_run(workdir, step)
    tensors = to_state_dict(segmenter.model, segmenter.variables, segmenter.step or 0)
    converted = Path(workdir) / SUMMARY
    if converted.is_file():  # steps that the norm layers had counted
        tensors |= {name: tensors[name] * 0 + value for name, value in _counters(converted).items() if name in tensors}
    out.parent.mkdir(parents=True, exist_ok=True)
    meta = {"format": "pt", "classes": json.dumps(segmenter.classes), "palette": json.dumps(segmenter.palette)}
    write_safetensors(out, tensors, meta)
    return len(tensors)


def _counters(path: Path) -> dict[str, int]:
    try:
        return {str(name): int(value) for name, value in json.loads(path.read_text())["counters"].items()}
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise CheckpointError(f"{path} is damaged ({error}); remove it to go on without") from error


def make_parser() -> Parser:
    """The flags."""
    parser = Parser("convert", __doc__)
    parser.add_argument("--checkpoint", metavar="FILE", help=".pth or .safetensors, or the name of a published model")
    parser.add_argument("--config", dest="model", metavar="FILE.py", help="MMSegmentation's config, or FILE.py:NAME")
    parser.add_argument("--out", required=True, metavar="PATH", help="the folder (--to=mmseg: the file) to write")
    parser.add_argument(
        "--cfg-options", nargs="+", default=[], metavar="KEY=VALUE", help="other values for fields of the config"
    )
    parser.add_argument("--source", metavar="NAME", help="whose names the file has; default: told from them")
    parser.add_argument(
        "--new_classes", action="store_true", help="leave classifiers of another number of classes as initialised"
    )
    parser.add_argument("--to", default="jaxseg", choices=("jaxseg", "mmseg"), help="the way; default: jaxseg")
    parser.add_argument("--workdir", metavar="DIR", help="with --to=mmseg: the run folder")
    parser.add_argument("--step", type=int, metavar="N", help="with --to=mmseg: the checkpoint; default: the best")
    return parser


def run(args: argparse.Namespace) -> None:
    """Converts what the flags say."""
    out = Path(args.out)
    if args.to == "mmseg":
        if not args.workdir or args.checkpoint or args.model:
            raise ConfigError("--to=mmseg needs --workdir, and neither --checkpoint nor --config")
        print(f"{write_back(args.workdir, args.step, out)} tensors written: {out}")
        return
    if not args.checkpoint or args.workdir or args.step is not None:
        raise ConfigError("--checkpoint is needed; --workdir and --step are for --to=mmseg")
    check_out(out)
    config = args.model
    if config and (":" in config or not Path(config).is_file()):
        config = run_config.load_recipe(config)
        if args.cfg_options:
            raise ConfigError("--cfg-options is for configs of MMSegmentation; this is a recipe of jaxseg")
    published = not config and not Path(args.checkpoint).is_file()
    if published:
        model = read_published(args.checkpoint)
    else:
        model = read_pretrained(
            args.checkpoint, config, overrides=parse_overrides(args.cfg_options), source=args.source,
            new_classes=args.new_classes,
        )  # fmt: skip
    save(model, args.checkpoint, out)
    print(describe(model, out))


if __name__ == "__main__":
    main(make_parser(), run)
