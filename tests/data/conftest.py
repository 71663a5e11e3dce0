"""What the tests of data share: a small folder data set, its config, and the real data where there is any."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from ml_collections import ConfigDict

from jaxseg.data import write_demo
from jaxseg.data.datasets import DATASETS
from transform_figures import given

REAL_DATA = Path(os.environ.get("JAXSEG_DATA", Path(__file__).parents[2] / ".." / "shared" / "data"))


@pytest.fixture
def camvid():
    root = REAL_DATA / "camvid"
    if not root.is_dir():
        pytest.skip(f"needs CamVid in {root} (set JAXSEG_DATA)")
    return root


@pytest.fixture
def samples():
    root = REAL_DATA / "samples"
    if not root.is_dir():
        pytest.skip(f"needs the samples in {root} (set JAXSEG_DATA)")
    return root


@pytest.fixture
def folder(tmp_path):
    """A data set of ten train and five val pictures, 40x48."""
    return write_demo(tmp_path / "set", train=10, val=5, size=(40, 48))


LOAD = ({"type": "LoadImage"}, {"type": "LoadAnnotations"})


@pytest.fixture
def make_config():
    """Makes `config.data` of a folder; keywords override its fields."""

    def make(root, **fields):
        config = {
            "dataset": "FolderDataset",
            "root": str(root),
            "classes": DATASETS["Demo"].classes,
            "palette": None,
            "train": {"split": "train", "split_file": None, "transforms": LOAD},
            "val": {"split": "val", "split_file": None, "transforms": LOAD},
            "test": {"split": "test", "split_file": None, "transforms": LOAD},
        }
        return ConfigDict({**config, **fields})

    return make


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def record():
    """A loaded record, 60x80, smooth enough to look like a photo."""
    rng = np.random.default_rng(7)
    image = cv2.resize(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8), (80, 60))
    image[::5, ::3] = 200
    label = cv2.resize(rng.integers(0, 4, (6, 8), dtype=np.uint8), (80, 60), interpolation=cv2.INTER_NEAREST)
    return {"image": image, "label": label, "meta": {"name": "x", "image_path": "x.png"}}


@pytest.fixture(scope="session")
def reference_figures():
    """What the reference makes of small pictures and volumes; see make_transform_fixtures.py."""
    with np.load(Path(__file__).parent / "fixtures" / "more_transforms.npz") as arrays:
        return dict(arrays)


@pytest.fixture
def volume(reference_figures):
    """A loaded volume [z y x channels] of two channels, with its label."""
    return given(reference_figures, "volume")
