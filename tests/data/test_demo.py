"""The demo data set: the same from the same seed, every class in it, quick, and readable once written."""

import subprocess
import sys

import numpy as np
import pytest
from ml_collections import ConfigDict

from jaxseg.data import Source, build_source
from jaxseg.data.demo import DemoSource
from jaxseg.data.transforms.loading import LoadAnnotations, LoadImage
from jaxseg.errors import ConfigError


def config(**demo):
    parts = {part: {"split": part} for part in ("train", "val", "test")}
    return ConfigDict({"dataset": "Demo", **parts, **({"demo": demo} if demo else {})})


def test_defaults_and_options():
    source = build_source(config(), "train")
    assert isinstance(source, Source)
    assert (len(source), len(build_source(config(), "val"))) == (160, 32)
    assert source[0]["image"].shape == (96, 128, 3)
    small = build_source(config(size=(40, 48), train=3, seed=1), "train")
    assert (len(small), small.size(0)) == (3, (40, 48))
    assert small[2]["meta"]["name"] == "train_00002"
    with pytest.raises(IndexError):
        small[3]


def test_pictures_are_a_function_of_seed_part_and_index():
    first, again = DemoSource("train", 5), DemoSource("train", 9)
    np.testing.assert_array_equal(first[4]["image"], again[4]["image"])
    np.testing.assert_array_equal(first[4]["label"], again[4]["label"])
    others = (first[3], DemoSource("val", 5)[4], DemoSource("train", 5, seed=1)[4])
    for other in others:
        assert (other["image"] != first[4]["image"]).any()


def test_every_class_is_in_it():
    source = DemoSource("train", 40)
    counts = np.sum([np.bincount(source[i]["label"].ravel(), minlength=6) for i in range(40)], axis=0)
    share = counts / counts.sum()
    assert len(counts) == len(source.classes) == 6
    assert share[1:].min() > 0.01
    assert 0.5 < share[0] < 0.9


def test_loading_leaves_records_alone(rng):
    record = DemoSource("train", 1)[0]
    loaded = LoadAnnotations()(LoadImage()(record, rng), rng)
    assert loaded["image"] is record["image"]
    assert loaded["label"] is record["label"]


@pytest.mark.parametrize(
    ("demo", "message"),
    [
        ({"sise": (40, 40)}, "Did you mean size"),
        ({"size": (8, 40)}, "32 or more"),
        ({"train": 0}, "at least 1"),
    ],
)
def test_bad_options(demo, message):
    with pytest.raises(ConfigError, match=message):
        build_source(config(**demo), "train")


def test_unknown_split():
    data = config()
    data.train.split = "trian"
    with pytest.raises(ConfigError, match="Did you mean train"):
        build_source(data, "train")


def test_written_set_reads_back(folder, make_config):
    source, drawn = build_source(make_config(folder), "val"), DemoSource("val", 5, (40, 48))
    for index in range(5):
        record = LoadAnnotations()(LoadImage()(source[index]))
        np.testing.assert_array_equal(record["image"], drawn[index]["image"])
        np.testing.assert_array_equal(record["label"], drawn[index]["label"])


def test_importing_data_imports_neither_jax_nor_grain():
    code = "import sys, jaxseg.data; assert not {'jax', 'grain', 'flax'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
