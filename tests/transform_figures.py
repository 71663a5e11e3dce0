"""Figures of the reference for the tests of transforms, and whether draws are as often as they should be."""

from pathlib import Path

import cv2
import numpy as np

FIXTURES = Path(__file__).parent / "data" / "fixtures"


def given(reference, name="input", **more):
    return {"image": reference[f"{name}.image"], "label": reference[f"{name}.label"], "meta": {"name": name}, **more}


def assert_equals(reference, case, result, label=True):
    wanted = reference[f"{case}.image"]
    np.testing.assert_array_equal(result["image"], wanted.astype(result["image"].dtype))
    assert result["image"].dtype == (np.float32 if wanted.dtype == np.float64 else wanted.dtype)
    if label:
        np.testing.assert_array_equal(result["label"], reference[f"{case}.label"])
        assert result["label"].dtype == np.uint8


def assert_rotated(reference, case, result):
    """As `assert_equals`, if OpenCV is that of the figures: 4 rounds the coordinates that it rotates to, 5 does not."""
    if cv2.__version__.partition(".")[0] == str(reference["opencv"]).partition(".")[0]:
        assert_equals(reference, case, result)
    wanted = reference[f"{case}.image"]
    assert result["image"].shape == wanted.shape
    assert np.abs(result["image"].astype(int) - wanted).max() <= 12
    assert np.abs(result["image"].astype(int) - wanted).mean() < 0.5
    off = np.abs(result["label"].astype(int) - reference[f"{case}.label"])
    assert (off > 0).mean() < 0.02 or off.max() <= 12  # nearest, or bilinear


COUNT = 4000


def drawn(transform, record, count=COUNT, seed=0):
    rng = np.random.default_rng(seed)
    return [transform.draw(record, rng) for _ in range(count)]


def about(found, wanted, count=COUNT):
    """Whether a share of `count` draws is within four standard deviations of its probability."""
    return abs(found - wanted) <= 4 * np.sqrt(wanted * (1 - wanted) / count)


def assert_uniform(values, low, high):
    """Within the range, reaching its ends, with the mean and the spread of equal chances."""
    values = np.asarray(values)
    assert values.min() >= low
    assert values.max() <= high
    extent = high - low
    assert abs(values.mean() - (low + high) / 2) < 4 * extent / np.sqrt(12 * len(values))
    assert abs(values.std() - extent / np.sqrt(12)) < 0.05 * extent
