"""What is counted before training: pixels of the classes, mean and deviation of channels."""

import numpy as np
import pytest
from PIL import Image

from jaxseg.data import build_source
from jaxseg.data.statistics import channel_statistics, class_pixels, class_weights
from jaxseg.errors import DataError


@pytest.fixture
def source(tmp_path, make_config):
    """Makes a source of these images and masks."""

    def make(images, files, /, **fields):
        for i, (image, mask) in enumerate(zip(images, files, strict=True)):
            for kind in ("images", "annotations"):
                (tmp_path / kind / "train").mkdir(parents=True, exist_ok=True)
            np.save(tmp_path / "images" / "train" / f"{i}.npy", image)
            Image.fromarray(mask).save(tmp_path / "annotations" / "train" / f"{i}.png")
        return build_source(make_config(tmp_path, **fields), "train")

    return make


def test_weights_are_enets_and_weigh_one_on_average(source):
    masks = [np.array([[0, 0, 0, 1]], np.uint8), np.array([[0, 0, 2, 255]], np.uint8)]
    made = source([np.zeros((1, 4, 3), np.uint8)] * 2, masks, classes=("a", "b", "c", "d"), channels=3)
    counts, pixels = class_pixels(made)
    assert (counts.tolist(), pixels) == ([5, 1, 1, 0], 7)
    share = np.array([5, 1, 1, 0]) / 7
    expected = 1 / np.log(1.02 + share)
    expected /= (share * expected).sum()
    weights = class_weights(made)
    np.testing.assert_allclose(weights, expected, rtol=1e-4)
    assert weights == class_weights(made)
    assert sum(share * weights) == pytest.approx(1, rel=1e-4)


def test_weights_of_several_classes_a_pixel(source):
    masks = [np.array([[0, 1, 3, 1]], np.uint8)]
    made = source([np.zeros((1, 4, 3), np.uint8)], masks, classes=("a", "b"), channels=3, masks="multi-label")
    counts, pixels = class_pixels(made)
    assert (counts.tolist(), pixels) == ([3, 1], 4)
    share = np.array([3, 1]) / 4
    expected = 1 / np.log(1.02 + share)
    np.testing.assert_allclose(class_weights(made), expected * share.sum() / (share * expected).sum(), rtol=1e-4)


def test_no_labelled_pixel_has_no_weights(source):
    made = source([np.zeros((2, 2, 3), np.uint8)], [np.full((2, 2), 255, np.uint8)], classes=("a", "b"), channels=3)
    with pytest.raises(DataError, match="no pixel of any class in 1 masks"):
        class_weights(made)


def test_mean_and_deviation_of_every_channel(source):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 60000, (5, 6, 7), np.uint16) for _ in range(3)]
    for image in images:
        image[..., 4] = 9
    made = source(images, [np.zeros((5, 6), np.uint8)] * 3, classes=("a",), channels=7)
    mean, std = channel_statistics(made)
    values = np.concatenate([image.reshape(-1, 7) for image in images]).astype(np.float64)
    np.testing.assert_allclose(mean, values.mean(0), rtol=1e-5)
    np.testing.assert_allclose(np.delete(std, 4), np.delete(values.std(0), 4), rtol=1e-5)
    assert std[4] == 1.0


def test_images_of_unequal_types(source):
    images = [np.zeros((2, 2, 7), np.uint8), np.zeros((2, 2, 7), np.uint16)]
    made = source(images, [np.zeros((2, 2), np.uint8)] * 2, classes=("a",), channels=7)
    with pytest.raises(DataError, match=r"0.npy has 7 of uint8, .*1.npy has 7 of uint16"):
        channel_statistics(made)
