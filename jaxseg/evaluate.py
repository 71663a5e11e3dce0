"""Evaluates a trained model: `python -m jaxseg.evaluate --workdir RUN_FOLDER`.

Prints the scores by class and writes a report, with pictures, into the run folder (or into --out).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from absl import flags
from rich.console import Console
from rich.table import Table

from jaxseg.cli import main, set_compilation_cache
from jaxseg.data import build_source, build_transforms, check_source
from jaxseg.engine.evaluation import Evaluation, Evaluator
from jaxseg.engine.mesh import make_mesh, replicated
from jaxseg.engine.report import report_run
from jaxseg.inference import Segmenter, load_run

_WORKDIR = flags.DEFINE_string("workdir", None, "The run folder.", required=True)
_PART = flags.DEFINE_enum("part", "test", ["train", "val", "test"], "The part of the data set to evaluate on.")
_STEP = flags.DEFINE_integer("step", None, "The checkpoint. Default: the best.")
_ROOT = flags.DEFINE_string("data_root", None, "Where the data set is, if not where it was in training.")
_OUT = flags.DEFINE_string("out", None, "Where the report goes. Default: report_PART in the run folder.")


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
    source = build_source(config.data, part)
    check_source(source, transforms, limit=config.data.check)
    mesh = make_mesh()
    evaluator = Evaluator(
        segmenter.model, config.preprocess, source, build_transforms(transforms), config.eval_batch_size, mesh,
        config.data.read_threads,
    )  # fmt: skip
    return evaluator, evaluator(jax.device_put(segmenter.variables, replicated(mesh)))


def score_table(metrics: dict[str, Any], title: str) -> Table:
    """The scores by class and their means, in percent."""
    table = Table("class", "IoU", "Acc", title=title)
    for name in metrics["IoU"]:
        table.add_row(
            name, *("absent" if metrics[key][name] is None else f"{metrics[key][name]:.2f}" for key in ("IoU", "Acc"))
        )
    table.add_section()
    table.add_row("mean", *("-" if metrics[key] is None else f"{metrics[key]:.2f}" for key in ("mIoU", "mAcc")))
    table.add_row("all pixels", "", f"{metrics['aAcc'] or 0:.2f}")
    return table


def run(argv: Sequence[str]) -> None:
    """Evaluates what the flags say."""
    segmenter = load_run(_WORKDIR.value, _STEP.value)
    set_compilation_cache(segmenter.config.compilation_cache)
    evaluator, evaluation = evaluate(segmenter, _PART.value, _ROOT.value)
    title = f"{evaluator.source.name}, {len(evaluator.source)} images, step {segmenter.step}"
    Console().print(score_table(evaluation.metrics, title))
    out = Path(_OUT.value or Path(_WORKDIR.value) / f"report_{_PART.value}")
    facts = {"Checkpoint": f"step {segmenter.step}"}
    variables = jax.device_put(segmenter.variables, replicated(evaluator.mesh))
    print("report:", report_run(out, segmenter.config, evaluator, variables, evaluation, facts=facts))


if __name__ == "__main__":
    main(run, __doc__)
