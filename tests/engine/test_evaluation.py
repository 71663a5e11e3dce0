"""Evaluation: the scores that follow from the predictions, in constant memory, compiled once for each size."""

import tracemalloc

import jax
import numpy as np
import pytest

from jaxseg.engine.evaluation import Evaluator
from jaxseg.engine.mesh import make_mesh
from jaxseg.errors import ConfigError, DataError
from jaxseg.inference import make_predict
from jaxseg.metrics.confusion import scores
from pixelwise import PREPROCESS, Memory, Pixelwise, variables

SIZES = [(12, 16), (10, 14), (12, 16), (12, 16), (10, 14), (12, 16), (12, 16)]


def keep(record, rng):
    return record


def evaluator(source, transform=keep, batch_size=3, model=None):
    return Evaluator(model or Pixelwise(), PREPROCESS, source, transform, batch_size, make_mesh())


def confusion_by_hand(source, transform=keep):
    """The confusion of each image, by loops."""
    found = []
    for index in range(len(source)):
        record = transform(source[index], None)
        label = record["label"]
        predict = jax.jit(make_predict(Pixelwise(), PREPROCESS, label.shape))
        prediction = np.asarray(predict(variables(), record["image"][None])[0][0])
        counts = np.zeros((4, 4), int)
        for truth, guess in zip(label.ravel(), prediction.ravel(), strict=True):
            if truth != 255:
                counts[truth, guess] += 1
        found.append(counts)
    return found


def test_scores_follow_from_the_predictions():
    source = Memory(SIZES, blank=(3,))
    told = []
    evaluation = evaluator(source)(variables(), told.append)
    by_hand = confusion_by_hand(source)
    np.testing.assert_array_equal(evaluation.confusion, sum(by_hand))
    assert evaluation.confusion.sum() == sum((source[i]["label"] != 255).sum() for i in range(len(source)))
    expected = scores(sum(by_hand))
    assert evaluation.metrics["mIoU"] == pytest.approx(100 * expected["mIoU"])
    assert evaluation.metrics["aAcc"] == pytest.approx(100 * expected["aAcc"])
    assert list(evaluation.metrics["IoU"]) == list(source.classes)
    of_images = [scores(counts)["mIoU"] if counts.sum() else np.nan for counts in by_hand]
    # An image without a labelled pixel has no score.
    assert np.isnan(evaluation.image_scores[3])
    np.testing.assert_allclose(evaluation.image_scores, of_images, rtol=1e-5)
    assert told == sorted(told)
    assert told[-1] == 7


def test_the_batch_size_changes_nothing():
    source = Memory(SIZES)
    first = evaluator(source, batch_size=1)(variables())
    for batch_size in (2, 5, 100):
        other = evaluator(source, batch_size=batch_size)(variables())
        np.testing.assert_array_equal(other.confusion, first.confusion)
        np.testing.assert_allclose(other.image_scores, first.image_scores, rtol=1e-6)


def test_scores_are_taken_at_the_size_of_the_labels():
    def halve(record, rng):
        return {**record, "image": record["image"][::2, ::2].copy()}

    source = Memory(SIZES)
    evaluation = evaluator(source, halve)(variables())
    np.testing.assert_array_equal(evaluation.confusion, sum(confusion_by_hand(source, halve)))


def test_one_program_for_each_size():
    source = Memory(SIZES * 4)
    evaluate = evaluator(source)
    for seed in range(3):
        evaluate(variables(seed))
    assert evaluate._step._cache_size() == 2


def test_memory_does_not_grow_with_the_images():
    def peak(count):
        evaluate = evaluator(Memory([(96, 128)] * count), batch_size=4)
        evaluate(variables())  # compiles
        arrays = len(jax.live_arrays())
        tracemalloc.start()
        evaluate(variables())
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return highest, len(jax.live_arrays()) - arrays

    (few, left), (many, left_by_many) = peak(20), peak(220)
    assert left_by_many <= left + 4
    assert many < few + 100 * 96 * 128  # the labels alone of 200 images more are twice that


def test_a_bad_file_is_named():
    def fail_at_five(record, rng):
        if record["meta"]["name"] == "image5":
            raise DataError("image5 is damaged")
        return record

    with pytest.raises(DataError, match="image5 is damaged"):
        evaluator(Memory(SIZES), fail_at_five)(variables())


@pytest.mark.parametrize(
    ("test_cfg", "words"),
    [
        ({"mode": "sldie"}, "Did you mean slide"),
        ({"mode": "slide"}, "model.test_cfg.crop_size=None must be a height and a width"),
        ({"mode": "slide", "crop_size": (4, 4)}, "model.test_cfg.stride=None"),
        ({"mode": "slide", "crop_size": (4, 4), "stride": (0, 2)}, "stride"),
        ({"mode": "slide", "crop_size": 4, "stride": (2, 2)}, "crop_size=4"),
        ({"mode": "whole", "crop_szie": (4, 4)}, "Did you mean crop_size"),
    ],
)
def test_a_test_cfg_that_does_not_work_is_refused_at_once(test_cfg, words):
    with pytest.raises(ConfigError, match=words):
        evaluator(Memory(SIZES), model=Pixelwise(test_cfg=test_cfg))
