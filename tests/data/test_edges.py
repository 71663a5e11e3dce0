"""GenerateEdge, and how edges go on."""

import numpy as np
import pytest

from jaxseg.data import build_transforms
from jaxseg.data.loader import stack_records
from jaxseg.errors import ConfigError

LABEL = np.array([[0, 0, 1, 1, 1], [0, 0, 1, 255, 1], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]], np.uint8)
# What the reference makes of it, by the width.
EXPECTED = {
    1: [[0, 1, 1, 0, 0], [0, 1, 1, 0, 1], [0, 0, 1, 0, 1], [0, 0, 0, 0, 0]],
    2: [[0, 1, 1, 1, 0], [0, 1, 1, 1, 1], [0, 1, 1, 1, 1], [0, 0, 1, 1, 1]],
    3: [[1, 1, 1, 1, 1], [1, 1, 1, 1, 1], [1, 1, 1, 1, 1], [0, 1, 1, 1, 1]],
    4: [[1, 1, 1, 1, 1], [1, 1, 1, 1, 1], [1, 1, 1, 1, 1], [1, 1, 1, 1, 1]],
    5: [[1, 1, 1, 1, 1], [1, 1, 1, 1, 1], [1, 1, 1, 1, 1], [1, 1, 1, 1, 1]],
}  # fmt: skip


def run(*steps, label=LABEL):
    record = {"image": np.zeros((*label.shape, 3), np.uint8), "label": label, "meta": {}}
    return build_transforms(steps)(record, np.random.default_rng(0))


@pytest.mark.parametrize("width", [1, 2, 3, 4, 5])
def test_equals_the_reference(width):
    np.testing.assert_array_equal(run({"type": "GenerateEdge", "edge_width": width})["edge"], EXPECTED[width])


def test_edges_go_with_the_label():
    """They are flipped and padded as it is, and are in the batches."""
    edge = run({"type": "GenerateEdge"})["edge"]
    steps = ({"type": "GenerateEdge"}, {"type": "RandomFlip", "prob": 1.0}, {"type": "Pad", "size": (6, 6)})
    record = run(*steps)
    np.testing.assert_array_equal(record["edge"][:4, :5], edge[:, ::-1])
    assert (record["edge"][4:] == 255).all()
    batch = stack_records([record, record])
    assert batch["edge"].shape == (2, 6, 6)
    assert batch["edge"].dtype == np.uint8
    assert "edge" not in stack_records([run()])


def test_errors():
    with pytest.raises(ConfigError, match="edge_width is 0"):
        run({"type": "GenerateEdge", "edge_width": 0})
