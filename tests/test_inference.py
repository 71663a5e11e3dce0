"""Whole images and sliding windows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.inference import SegmentationResult, encode_decode, make_predict, segment, to_labels
from pixelwise import PREPROCESS, Head, Pixelwise, variables


def images(height, width, count=2):
    return jnp.asarray(np.random.default_rng(0).normal(0, 1, (count, height, width, 3)), jnp.float32)


def test_whole_is_encode_decode():
    model, batch = Pixelwise(), images(13, 18)
    logits = segment(model, variables(), batch)
    assert logits.shape == (2, 13, 18, 4)
    np.testing.assert_array_equal(logits, encode_decode(model, variables(), batch))


def windows_by_hand(model, batch, crop, stride):
    """The reference's loop, with plain sums."""
    height, width = batch.shape[1:3]
    total = np.zeros((*batch.shape[:3], 4))
    count = np.zeros((height, width, 1))
    rows = max(height - crop[0] + stride[0] - 1, 0) // stride[0] + 1
    columns = max(width - crop[1] + stride[1] - 1, 0) // stride[1] + 1
    for row in range(rows):
        for column in range(columns):
            bottom, right = min(row * stride[0] + crop[0], height), min(column * stride[1] + crop[1], width)
            top, left = max(bottom - crop[0], 0), max(right - crop[1], 0)
            window = (slice(None), slice(top, bottom), slice(left, right))
            total[window] += np.asarray(encode_decode(model, variables(), batch[window]), np.float64)
            count[window[1:]] += 1
    assert (count > 0).all()
    return total / count


@pytest.mark.parametrize(
    ("size", "crop", "stride"),
    [
        ((20, 30), (8, 12), (5, 7)),  # windows that overlap and end at the border
        ((16, 24), (8, 12), (8, 12)),  # side by side
        ((6, 30), (8, 12), (5, 7)),  # lower than a window
        ((6, 7), (8, 12), (5, 7)),  # smaller than a window
        ((8, 12), (8, 12), (3, 3)),  # one window
        ((21, 13), (9, 12), (2, 1)),
    ],
)
def test_slide_is_the_mean_of_windows(size, crop, stride):
    model = Pixelwise(test_cfg={"mode": "slide", "crop_size": crop, "stride": stride})
    batch = images(*size)
    logits = segment(model, variables(), batch)
    np.testing.assert_allclose(logits, windows_by_hand(model, batch, crop, stride), atol=2e-5)
    if size > crop:
        assert np.abs(np.asarray(logits - encode_decode(model, variables(), batch))).max() > 0.1


def test_predict_normalises_and_resizes():
    pictures = np.random.default_rng(1).integers(0, 256, (2, 10, 14, 3), np.uint8)
    labels, logits = jax.jit(make_predict(Pixelwise(), PREPROCESS, (20, 21)))(variables(), pictures)
    assert labels.shape == (2, 20, 21)
    assert logits.shape == (2, 20, 21, 4)
    np.testing.assert_array_equal(labels, np.asarray(logits).argmax(-1))
    normal = (pictures - np.array(PREPROCESS["mean"])) / np.array(PREPROCESS["std"])
    same_size = jax.jit(make_predict(Pixelwise(), PREPROCESS))(variables(), pictures)[1]
    np.testing.assert_allclose(
        same_size, encode_decode(Pixelwise(), variables(), jnp.asarray(normal, jnp.float32)), atol=2e-5
    )


@pytest.mark.parametrize("threshold", [None, 0.3, 0.8])
def test_one_logit_has_a_threshold(threshold):
    logits = jnp.linspace(-4, 4, 20).reshape(1, 4, 5, 1)
    labels = to_labels(Pixelwise(decode_head=Head(num_classes=1, threshold=threshold)), logits)
    expected = 1 / (1 + np.exp(-np.asarray(logits[..., 0]))) > (0.3 if threshold is None else threshold)
    np.testing.assert_array_equal(labels, expected)
    assert 0 < labels.sum() < labels.size


def test_result_of_one_logit(tmp_path):
    logits = np.linspace(-3, 3, 20, dtype=np.float32).reshape(4, 5, 1)
    label_map = (logits[..., 0] > 0).astype(np.int32)
    image = np.zeros((4, 5, 3), np.uint8)
    result = SegmentationResult(label_map, logits, image, ("no", "yes"), ((0, 0, 0), (255, 0, 0)), "a/b")
    np.testing.assert_allclose(result.probabilities.sum(-1), 1, atol=1e-6)
    np.testing.assert_allclose(result.probabilities[..., 1], 1 / (1 + np.exp(-logits[..., 0])), atol=1e-6)
    assert result.save(tmp_path) == (tmp_path / "a/b.png", tmp_path / "a/b_overlay.png")
    assert result.save(tmp_path, "c") == (tmp_path / "c.png", tmp_path / "c_overlay.png")
