"""The report of a run: what visualize draws, gathered."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxseg import config as run_config
from jaxseg.engine.evaluation import Evaluation, Evaluator
from jaxseg.engine.mesh import to_hosts
from jaxseg.engine.state import parameter_count
from jaxseg.engine.writer import read_records
from jaxseg.inference import make_predict
from jaxseg.models.layers.platform import jit
from jaxseg.models.registry import Config
from jaxseg.visualize.bands import as_picture
from jaxseg.visualize.report import Example, write_report

EXAMPLES = 6  # of the best and of the worst images


def report_run(
    folder: Path,
    config: Config,
    evaluator: Evaluator,
    variables: Mapping[str, Any],
    evaluation: Evaluation,
    workdir: Path | None = None,
    facts: Mapping[str, str] | None = None,
) -> Path | None:
    """Writes the report of an evaluation, with the curves of the run if there is one.

    Args:
        folder: Where the report goes; report.html is in it then.
        config: The recipe.
        evaluator: Made the evaluation; its model and source are used for the pictures.
        variables: What was evaluated.
        evaluation: The evaluation.
        workdir: The run folder, whose records are drawn; None: no curves.
        facts: Lines for the table of facts.

    Returns:
        The path of report.html; None on processes other than the first.
    """
    variables = to_hosts(variables)  # by all processes together; afterwards process 0 goes on without the others
    if jax.process_index() != 0:
        return None
    source = evaluator.source
    device = jax.devices()[0]
    table = {
        "Recipe": config["name"],
        "Data": f"{source.name}, {len(source)} images",
        "Parameters": f"{parameter_count(variables['params']):,}",
        "Devices": f"{jax.device_count()} x {device.device_kind}",
        **(facts or {}),
    }
    return write_report(
        folder,
        title=config["name"] or "Run",
        config_text=run_config.to_json(config),
        records=read_records(workdir) if workdir else [],
        metrics=evaluation.metrics,
        confusion=evaluation.confusion if evaluation.confusion.ndim == 2 else None,
        classes=source.classes,
        palette=source.palette,
        examples=_examples(evaluator, variables, evaluation.image_scores),
        ignore_index=source.ignore_index,
        facts=table,
    )


def _examples(evaluator: Evaluator, variables: Mapping[str, Any], scores: np.ndarray) -> list[Example]:
    """The images with the lowest and the highest scores, with their predictions."""
    order = [int(i) for i in np.argsort(scores, kind="stable") if np.isfinite(scores[i])]
    chosen = sorted({*order[:EXAMPLES], *order[-EXAMPLES:]}, key=order.index)
    compiled: dict[tuple[int, int], Any] = {}
    examples = []
    for index in chosen:
        record = evaluator.transform(evaluator.source[index], np.random.default_rng(index))
        truth, image = record["label"], record["image"]
        if truth.shape not in compiled:
            several = truth.ndim == 3
            compiled[truth.shape] = jit(make_predict(evaluator.model, evaluator.preprocess, truth.shape[:2], several))
        labels, _ = compiled[truth.shape](variables, image[None])
        image = as_picture(image)
        if image.shape[:2] != truth.shape[:2]:
            image = _fit(image, truth.shape[:2])
        examples.append(Example(record["meta"]["name"], image, truth, np.asarray(labels[0]), float(scores[index])))
    return examples


def _fit(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    import cv2

    return cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_AREA)
