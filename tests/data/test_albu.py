"""The adapter of albumentations: its transforms, our random numbers. Without the package, only what is said then."""

import sys
import types
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from jaxseg.data import build_transforms
from jaxseg.data.transforms import albu
from jaxseg.errors import ConfigError, DataError

FLIP = {"type": "HorizontalFlip", "p": 0.5}


@pytest.fixture(autouse=True)
def forget():
    """What is built with one package is not kept for another."""
    albu._built.cache_clear()
    yield
    albu._built.cache_clear()


def make(*transforms):
    return build_transforms(({"type": "Albu", "transforms": transforms},))


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "albumentations", None)
    with pytest.raises(ConfigError, match=r"pip install 'jaxseg\[albumentations\]'"):
        make(FLIP)


def test_an_old_package_is_named(monkeypatch):
    old = types.ModuleType("albumentations")
    old.__version__, old.Compose = "1.3.1", type("Compose", (), {})
    monkeypatch.setitem(sys.modules, "albumentations", old)
    with pytest.raises(ConfigError, match=r"2.0 or newer, .*; 1.3.1 is installed"):
        make(FLIP)


@pytest.fixture
def library(monkeypatch):
    monkeypatch.setenv("NO_ALBUMENTATIONS_UPDATE", "1")
    return pytest.importorskip("albumentations", minversion="2.0")


def test_the_result_is_that_of_albumentations_with_the_drawn_seed(library, record):
    configs = (
        {"type": "RandomBrightnessContrast", "p": 0.8, "brightness_limit": (-0.3, 0.3)},
        {
            "type": "OneOf",
            "p": 0.9,
            "transforms": [{"type": "HorizontalFlip", "p": 1}, {"type": "VerticalFlip", "p": 1}],
        },
    )
    transform = make(*configs).steps[0]
    plain = library.Compose(
        [
            library.RandomBrightnessContrast(p=0.8, brightness_limit=(-0.3, 0.3)),
            library.OneOf([library.HorizontalFlip(p=1), library.VerticalFlip(p=1)], p=0.9),
        ]
    )
    seen = set()
    for seed in range(12):
        plain.set_random_seed(seed)
        wanted = plain(image=record["image"], mask=record["label"])
        result = transform.apply(record, seed)
        np.testing.assert_array_equal(result["image"], wanted["image"])
        np.testing.assert_array_equal(result["label"], wanted["mask"])
        seen.add(result["label"].tobytes())
    assert len(seen) == 3


def test_random_numbers_are_ours_alone_in_any_thread(library, record):
    pipeline = make(FLIP, {"type": "RandomGamma", "p": 0.5})

    def run(seed):
        return pipeline(record, np.random.default_rng(seed))["image"].tobytes()

    results = [run(seed) for seed in range(40)]
    assert len(set(results)) > 10
    np.random.seed(0)  # noqa: NPY002, a generator of everyone's, which must not matter
    assert [run(seed) for seed in reversed(range(40))] == results[::-1]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(run, range(40))) == results


def test_both_dates_and_the_edges_go_the_same_way(library, record):
    pair = {**record, "image2": 255 - record["image"], "edge": record["label"] % 2}
    for seed in range(6):
        result = make(FLIP)(pair, np.random.default_rng(seed))
        np.testing.assert_array_equal(result["image2"], 255 - result["image"])
        np.testing.assert_array_equal(result["edge"], result["label"] % 2)
        assert result["image"].shape == record["image"].shape


def test_bad_configs_and_records_are_named(library, record):
    for transforms, message in (
        ([{"type": "HorizontalFlop"}], r"Albu.transforms\[0\].type is 'HorizontalFlop', .*Did you mean HorizontalFlip"),
        ([FLIP, {"p": 1}], r"Albu.transforms\[1\] must be a config with a `type`"),
        (
            [{"type": "RandomGamma", "gama_limit": (80, 120)}],
            "no field .gama_limit.. Did you mean gamma_limit",
        ),
        ([{"type": "OneOf", "transforms": [{"type": "Blr"}]}], r"Albu.transforms\[0\].transforms\[0\].type is 'Blr'"),
        ([{"type": "RandomGamma", "p": 7}], "albumentations cannot make RandomGamma"),
    ):
        with pytest.raises(ConfigError, match=message):
            make(*transforms)
    with pytest.raises(DataError, match="Albu works on images with uint8"):
        make(FLIP)({**record, "image": record["image"] / np.float32(255)}, np.random.default_rng(0))
