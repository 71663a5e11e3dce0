"""The confusion matrix and its scores against the reference."""

import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.metrics import ConfusionMatrix, count_pixels, count_several, mean_iou, of_presence, scores, summary
from reference import FIXTURES, load_npz

META, ARRAYS = load_npz(FIXTURES / "metrics.npz")
BY_CLASS = ("IoU", "Acc", "Dice", "Precision", "Recall", "Fscore")

count = functools.partial(jax.jit, static_argnums=2)(count_pixels)


@pytest.mark.parametrize("case", range(len(META)))
def test_equals_the_reference(case):
    meta = META[case]
    classes = meta["num_classes"]
    by_image = count(ARRAYS["preds"][case], ARRAYS["labels"][case], classes)
    counts = np.asarray(by_image, np.int64).sum(0)

    intersect, union, predicted, labelled = ARRAYS["areas"][case][:, :classes]
    np.testing.assert_array_equal(np.diag(counts), intersect)
    np.testing.assert_array_equal(counts.sum(1), labelled)
    if meta["labels_outside"]:
        # The reference counts the prediction of a pixel whose label is no class; ours leaves the pixel out.
        assert (counts.sum(0) <= predicted).all()
        return
    np.testing.assert_array_equal(counts.sum(0), predicted)
    np.testing.assert_array_equal(counts.sum(0) + counts.sum(1) - np.diag(counts), union)

    result = scores(counts, meta["beta"], meta["nan_to_num"])
    for name in BY_CLASS:
        np.testing.assert_allclose(result[name], ARRAYS[name][case][:classes], rtol=1e-6, err_msg=name)
    np.testing.assert_allclose(result["aAcc"], ARRAYS["aAcc"][case], rtol=1e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        for name, value in meta["summary"].items():
            np.testing.assert_allclose(np.round(100 * result[name], 2), value, atol=0.011, err_msg=name)


def test_mean_iou_of_images():
    cases = [i for i, meta in enumerate(META) if meta["num_classes"] == 5 and not meta["labels_outside"]]
    labels, predictions = (np.concatenate(ARRAYS[name][cases]) for name in ("labels", "preds"))
    counts = count(predictions, labels, 5)
    values = np.asarray(mean_iou(counts))
    for matrix, value in zip(np.asarray(counts), values, strict=True):
        np.testing.assert_allclose(value, scores(matrix)["mIoU"], rtol=1e-6)


def test_nothing_to_judge():
    counts = np.zeros((3, 3), np.int64)
    assert np.isnan(mean_iou(jnp.asarray(counts)))
    result = scores(counts)
    assert all(np.isnan(result[name]).all() for name in ("IoU", "mIoU", "aAcc"))
    assert summary(counts, ["a", "b", "c"])["IoU"] == {"a": None, "b": None, "c": None}


def test_summary_leaves_out_absent_classes():
    counts = np.array([[8, 2, 0], [1, 9, 0], [0, 0, 0]])
    result = summary(counts, ["sky", "road", "car"])
    assert result["IoU"] == {"sky": pytest.approx(800 / 11), "road": pytest.approx(75.0), "car": None}
    assert result["Acc"] == {"sky": pytest.approx(80.0), "road": pytest.approx(90.0), "car": None}
    assert result["mIoU"] == pytest.approx((800 / 11 + 75) / 2)
    assert result["aAcc"] == pytest.approx(85.0)


def test_counts_beyond_32_bits():
    one = jnp.array([[2**31, 0], [3, 2**32 - 1]], jnp.uint32)
    add = jax.jit(ConfusionMatrix.add)
    state = ConfusionMatrix.empty(2)
    for _ in range(5):
        state = add(state, one)
    expected = np.array([[5 * 2**31, 0], [15, 5 * (2**32 - 1)]])
    np.testing.assert_array_equal(state.to_numpy(), expected)
    np.testing.assert_array_equal(state.merge(state).to_numpy(), 2 * expected)


def test_merging_parts_equals_counting_the_whole():
    labels, predictions = ARRAYS["labels"][:2].reshape(-1, 8, 10), ARRAYS["preds"][:2].reshape(-1, 8, 10)
    counts = count(predictions, labels, 9)
    whole = ConfusionMatrix.empty(9).add(counts.sum(0))
    parts = [ConfusionMatrix.empty(9).add(part) for part in counts]
    np.testing.assert_array_equal(functools.reduce(ConfusionMatrix.merge, parts).to_numpy(), whole.to_numpy())


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int16])
def test_label_types(dtype):
    labels = np.array([[[0, 1, 2, 255 if dtype == np.uint8 else 3]]], dtype)
    counts = count(np.array([[[0, 1, 1, 1]]], np.int32), labels, 3)
    np.testing.assert_array_equal(counts[0], [[1, 0, 0], [0, 1, 0], [0, 1, 0]])


def test_several_classes_a_pixel():
    rng = np.random.default_rng(0)
    truth, found = rng.integers(0, 2, (2, 2, 6, 7, 3))
    truth[0, 0] = 255
    truth[..., 2], found[..., 2] = 0, 0
    counts = count_several(jnp.asarray(found), jnp.asarray(truth))
    assert counts.shape == (2, 3, 2, 2)
    state = ConfusionMatrix.empty(3, multi_label=True).add(counts.sum(0)).to_numpy()
    both, either = (truth == 1) & (found == 1), (truth == 1) | ((found == 1) & (truth != 255))
    iou = both.sum((0, 1, 2))[:2] / either.sum((0, 1, 2))[:2]
    result = summary(state, ("a", "b", "c"))
    np.testing.assert_allclose([result["IoU"]["a"], result["IoU"]["b"]], 100 * iou, rtol=1e-6)
    assert result["IoU"]["c"] is None
    assert result["mIoU"] == pytest.approx(100 * iou.mean())
    assert result["aAcc"] == pytest.approx(100 * (truth == found)[truth != 255].mean())
    recall = both.sum((0, 1, 2))[:2] / (truth == 1).sum((0, 1, 2))[:2]
    np.testing.assert_allclose([result["Acc"]["a"], result["Acc"]["b"]], 100 * recall, rtol=1e-6)
    np.testing.assert_allclose(of_presence(counts)[:, 2], np.nan)
