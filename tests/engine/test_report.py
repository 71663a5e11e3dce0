"""The report of an evaluation: which images it shows, and what it says of the run."""

import jax
import numpy as np
import pytest

from jaxseg.engine.evaluation import Evaluator
from jaxseg.engine.mesh import make_mesh, replicated
from jaxseg.engine.report import EXAMPLES, _examples, report_run
from pixelwise import PREPROCESS, Memory, Pixelwise, variables

CONFIG = {"name": "a run", "data": {"root": "here"}}


@pytest.fixture(scope="module")
def evaluated():
    evaluator = Evaluator(Pixelwise(), PREPROCESS, Memory([(24, 32)] * 20, blank=(4,)), lambda r, _: r, 4, make_mesh())
    held = jax.device_put(variables(), replicated(evaluator.mesh))
    return evaluator, held, evaluator(held)


def test_the_worst_and_the_best_images(evaluated):
    evaluator, held, evaluation = evaluated
    examples = _examples(evaluator, held, evaluation.image_scores)
    order = [int(i) for i in np.argsort(evaluation.image_scores) if i != 4]
    chosen = order[:EXAMPLES] + order[-EXAMPLES:]
    assert [example.name for example in examples] == [f"image{i}" for i in chosen]
    for example, index in zip(examples, chosen, strict=True):
        assert example.score == pytest.approx(evaluation.image_scores[index])
        right, counted = (example.prediction == example.truth).sum(), (example.truth != 255).sum()
        assert 0 < right < counted


def test_images_of_another_size_than_their_labels(evaluated):
    evaluator, held, _ = evaluated
    smaller = Evaluator(
        evaluator.model, PREPROCESS, Memory([(24, 32)] * 3),
        lambda record, _: {**record, "image": record["image"][::2, ::2].copy()}, 4, make_mesh(),
    )  # fmt: skip
    for example in _examples(smaller, held, smaller(held).image_scores):
        assert example.image.shape == (24, 32, 3)
        assert example.prediction.shape == example.truth.shape == (24, 32)


def test_report(evaluated, tmp_path):
    evaluator, held, evaluation = evaluated
    path = report_run(tmp_path / "report", CONFIG, evaluator, held, evaluation, facts={"Steps": "17"})
    text = path.read_text()
    for words in ("a run", "memory, 20 images", "12", "17", "1 x cpu", "&quot;root&quot;: &quot;here&quot;"):
        assert words in text
    assert f"{evaluation.metrics['mIoU']:.2f}" in text
    assert len(list((tmp_path / "report" / "examples").glob("*.png"))) == 2 * EXAMPLES


def test_the_first_process_writes_it(evaluated, tmp_path, monkeypatch):
    monkeypatch.setattr("jax.process_index", lambda: 1)
    assert report_run(tmp_path / "report", CONFIG, *evaluated) is None
    assert not (tmp_path / "report").exists()
