"""PSANet's masks, from places relative to a pixel to places in the map."""

import jax
import numpy as np
import pytest

from jaxseg.models.heads.psa import unroll


@pytest.mark.parametrize("size", [(3, 4), (5, 1), (1, 1), (6, 3)])
@pytest.mark.parametrize("mask_size", [(5, 7), (4, 6), (1, 1), (3, 2), (13, 9)])
def test_unroll(size, mask_size):
    """At [y, x, i, j] what the pixel (y, x) says of (i, j), which is at its mask's (i - y, j - x) from the middle."""
    (height, width), (rows, columns) = size, mask_size
    masks = np.random.default_rng(0).normal(0, 1, (2, height, width, rows, columns)).astype(np.float32)
    expected = np.zeros((2, height, width, height, width), np.float32)
    for y, x, row, column in np.ndindex(height, width, rows, columns):
        i, j = row + y - (rows - 1) // 2, column + x - (columns - 1) // 2
        if 0 <= i < height and 0 <= j < width:
            expected[:, y, x, i, j] = masks[:, y, x, row, column]
    found = jax.jit(lambda masks: unroll(unroll(masks, 1, 3), 2, 4))(masks)
    np.testing.assert_array_equal(found, expected)
