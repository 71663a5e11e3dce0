"""Evaluates a trained model: `python -m jaxseg.evaluate --workdir RUN_FOLDER`.

Prints the scores by class and writes a report, with pictures, into the run folder (or into --out).
"""

import argparse
from pathlib import Path
from typing import Any

import jax
from rich.console import Console
from rich.table import Table

from jaxseg.cli import Parser, main, set_compilation_cache
from jaxseg.data import build_source, build_transforms, check_source
from jaxseg.engine.evaluation import Evaluation, Evaluator
from jaxseg.engine.mesh import make_mesh, replicated
from jaxseg.engine.report import report_run
from jaxseg.errors import DataError
from jaxseg.inference import Segmenter, load


def evaluate(segmenter: Segmenter, part: str = "test", root: str | None = None) -> tuple[Evaluator, Evaluation]:
    """Evaluates a model on a part of its data set.

    Args:
        segmenter: The model, with the recipe it was trained by.
        part: "train", "val" or "test"; its transforms are those of evaluation.
        root: Where the data set is; None: where it was in training.

    Raises:
        DataError: The data set, or a file of it, can't be used.
    """
    config = segmenter.config.copy_and_resolve_references()
    with config.unlocked():
        config.data.root = root or config.data.root
    transforms = config.data["val" if part == "train" else part].transforms
    try:
        source = build_source(config.data, part)
    except DataError as error:
        raise DataError(f"{error} Or choose another part with --part.") from error
    check_source(source, transforms, limit=config.data.check)
    mesh = make_mesh()
    evaluator = Evaluator(
        segmenter.ready_model, config.preprocess, source, build_transforms(transforms), config.eval_batch_size, mesh,
        config.data.read_threads,
    )  # fmt: skip
    return evaluator, evaluator(jax.device_put(segmenter.variables, replicated(mesh)))


def score_table(metrics: dict[str, Any]) -> Table:
    """The scores by class and their means, in percent."""
    table = Table("class", "IoU", "Acc")
    for name in metrics["IoU"]:
        table.add_row(
            name, *("absent" if metrics[key][name] is None else f"{metrics[key][name]:.2f}" for key in ("IoU", "Acc"))
        )
    table.add_section()
    table.add_row("mean", *("-" if metrics[key] is None else f"{metrics[key]:.2f}" for key in ("mIoU", "mAcc")))
    table.add_row("all pixels", "", f"{metrics['aAcc'] or 0:.2f}")
    return table


def make_parser() -> Parser:
    """The flags."""
    parser = Parser("evaluate", __doc__)
    parser.add_argument(
        "--workdir", required=True, metavar="DIR", help="the run folder, or the name of a published model"
    )
    parser.add_argument("--part", default="test", choices=("train", "val", "test"), help="of the data; default: test")
    parser.add_argument("--step", type=int, metavar="N", help="the checkpoint; default: the best")
    parser.add_argument("--data_root", metavar="DIR", help="where the data are, if not where they were in training")
    parser.add_argument("--out", metavar="DIR", help="where the report goes; default: report_PART in the run folder")
    return parser


def run(args: argparse.Namespace) -> None:
    """Evaluates what the flags say."""
    segmenter = load(args.workdir, args.step)
    set_compilation_cache(segmenter.config.compilation_cache)
    evaluator, evaluation = evaluate(segmenter, args.part, args.data_root)
    print(f"{evaluator.source.name}, {len(evaluator.source)} images, step {segmenter.step}")
    Console().print(score_table(evaluation.metrics))
    out = Path(args.out or Path(args.workdir) / f"report_{args.part}")
    facts = {"Checkpoint": f"step {segmenter.step}"}
    variables = jax.device_put(segmenter.variables, replicated(evaluator.mesh))
    print("report:", report_run(out, segmenter.config, evaluator, variables, evaluation, facts=facts))


if __name__ == "__main__":
    main(make_parser(), run)
