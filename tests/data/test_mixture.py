"""Several sources as one: what a pass holds, in which order, and what does not go together."""

from collections import Counter

import numpy as np
import pytest

from jaxseg.data import DATASETS, build_source, build_transforms, check_source, eval_batches, train_batches, write_demo
from jaxseg.errors import ConfigError, DataError

LOAD = ({"type": "LoadImage"}, {"type": "LoadAnnotations"})
DEMO = DATASETS["Demo"].classes


@pytest.fixture
def folders(tmp_path):
    """Two data sets: 5 + 2 and 3 + 2 pictures of 40x48."""
    return [
        write_demo(tmp_path / name, train=train, val=2, size=(40, 48), seed=seed)
        for seed, (name, train) in enumerate((("one", 5), ("two", 3)))
    ]


@pytest.fixture
def config(folders, make_config):
    """Makes `config.data` with the part train of these sources."""

    def make(*sources, **fields):
        return make_config(folders[0], **{"train": {"split": "train", "sources": sources, "transforms": LOAD}} | fields)

    return make


def paths(source):
    return [source[index]["meta"]["image_path"] for index in range(len(source))]


def of(folder, part, count):
    return [str(folder / "images" / part / f"{part}_{i:05d}.png") for i in range(count)]


def test_sources_follow_one_another(folders, config):
    one, two = folders
    source = build_source(config({}, {"root": str(two)}, {"root": str(two), "split": "val"}), "train")
    assert paths(source) == of(one, "train", 5) + of(two, "train", 3) + of(two, "val", 2)
    assert source.name == f"FolderDataset train + FolderDataset train of {two} + FolderDataset val of {two}"
    assert (source.classes, source.ignore_index, source.reduce_zero_label) == (DEMO, 255, False)
    assert source.size(7) == (40, 48)
    with pytest.raises(IndexError):
        source[10]
    assert check_source(source, LOAD)[0].startswith(source.name + ": 10 of 10 files read")


@pytest.mark.parametrize(
    ("weights", "repeats"),
    [((1, 1), (1, 1)), ((2.0, 2), (1, 1)), ((1, 3), (1, 3)), ((0.5, 1), (1, 2)), ((0.3, 1.25), (6, 25))],
)
def test_weights_are_how_often_each_image_comes(folders, config, weights, repeats):
    one, two = folders
    source = build_source(config({"weight": weights[0]}, {"root": str(two), "weight": weights[1]}), "train")
    counts = Counter(paths(source))
    assert counts == dict.fromkeys(of(one, "train", 5), repeats[0]) | dict.fromkeys(of(two, "train", 3), repeats[1])


def stream(source, batches, **options):
    def path_as_image(record, rng):
        number = int(record["meta"]["name"][-5:]) + (100 if "/two/" in record["meta"]["image_path"] else 0)
        return {"image": np.array([[[number, rng.integers(256)]]]), "label": None}

    with train_batches(source, path_as_image, seed=3, **options) as iterator:
        return np.stack([next(iterator)["image"].reshape(-1, 2) for _ in range(batches)])


def test_the_stream_holds_each_as_often_as_it_weighs_and_resumes(folders, config):
    source = build_source(config({}, {"root": str(folders[1]), "weight": 3.0}), "train")
    assert len(source) == 14
    whole = stream(source, 14, batch_size=2)
    for first in (0, 7):  # two passes, in different orders
        names = whole[first : first + 7, :, 0].ravel().tolist()
        assert Counter(names) == {0: 1, 1: 1, 2: 1, 3: 1, 4: 1, 100: 3, 101: 3, 102: 3}
    assert whole[:7, :, 0].tolist() != whole[7:, :, 0].tolist()
    assert len({tuple(pair) for pair in whole.reshape(-1, 2).tolist()}) > 24  # a generator for every draw
    np.testing.assert_array_equal(stream(source, 5, batch_size=2, start_step=9), whole[9:])
    np.testing.assert_array_equal(stream(source, 14, batch_size=2, read_threads=7, prefetch=5), whole)
    parts = [stream(source, 14, batch_size=2, process_index=i, process_count=2) for i in range(2)]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)


def test_worker_processes_change_nothing(folders, config):
    source = build_source(config({"weight": 0.5}, {"root": str(folders[1])}), "train")
    batches = []
    for workers in (0, 1):
        with train_batches(source, build_transforms(LOAD), batch_size=3, seed=1, num_workers=workers) as iterator:
            batches.append([next(iterator) for _ in range(4)])
    for here, there in zip(*batches, strict=True):
        for key in ("image", "label"):
            np.testing.assert_array_equal(here[key], there[key])


def test_masks_mean_what_their_own_source_says(folders, config):
    two = {"root": str(folders[1]), "label_map": {5: 0}}
    source = build_source(config({}, two), "train")
    assert source.label_map == {}
    records = [build_transforms(LOAD)(source[i], np.random.default_rng(0)) for i in range(8)]
    plain = build_source(config({}, {"root": str(folders[1])}), "train")
    for i, record in enumerate(records):
        label = build_transforms(LOAD)(plain[i], np.random.default_rng(0))["label"]
        np.testing.assert_array_equal(record["label"], label if i < 5 else np.where(label == 5, 0, label))
    same = build_source(config(two, {**two, "split": "val"}), "train")
    assert same.label_map == {5: 0}


def test_a_mixture_may_be_generated(make_config):
    train = {"split": "train", "sources": ({"dataset": "Demo"}, {"dataset": "Demo", "split": "val", "weight": 3})}
    data = make_config("", dataset="Demo", demo={"train": 4, "val": 2, "size": (32, 32)}, train=train)
    source = build_source(data, "train")
    assert [source[index]["meta"]["name"] for index in (0, 3, 4, 9)] == [
        "train_00000", "train_00003", "val_00000", "val_00001",
    ]  # fmt: skip
    assert len(source) == 10


def test_another_data_set_has_its_own_folders(folders, config):
    camvid = {"dataset": "CamVid", "root": str(folders[1]), "image_suffix": (".png",)}
    fields = {"classes": DATASETS["CamVid"].classes, "image_dir": "images/train", "label_dir": "annotations/train"}
    source = build_source(config({"split": "none"}, camvid, **fields), "train")
    assert paths(source) == of(folders[0], "train", 5) + of(folders[1], "train", 3)
    assert source[6]["meta"]["label_map"] == {11: 255}
    assert source[0]["meta"]["label_map"] == {}


def test_evaluation_takes_every_image_once(folders, config):
    val = {"split": "val", "sources": ({}, {"root": str(folders[1])}), "transforms": LOAD}
    source = build_source(config(val=val), "val")
    batches = list(eval_batches(source, build_transforms(LOAD), batch_size=3))
    assert [batch["index"].tolist() for batch in batches] == [[0, 1, 2], [3, -1, -1]]
    weighed = {**val, "sources": ({}, {"root": str(folders[1]), "weight": 2})}
    with pytest.raises(ConfigError, match=r"data.val.sources\[1\].weight is 2; to evaluate, every image is taken once"):
        build_source(config(val=weighed), "val")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("two", r"sources\[1\] is 'two'; it must be a dict"),
        ({"wieght": 2}, r"sources\[1\] has no field 'wieght'. Did you mean weight\?"),
        ({"weight": 0}, r"sources\[1\].weight is 0; it must be a positive number with at most two decimals"),
        ({"weight": -1.0}, "weight is -1.0"),
        ({"weight": "2"}, "weight is '2'"),
        ({"weight": float("inf")}, "weight is inf"),
        ({"weight": 0.333}, "weight is 0.333"),
        ({"weight": 1e9}, "weights 1.0, 1000000000.0 are too far apart"),
        ({"classes": DEMO[:-1], "label_map": {5: 0}}, "It has 5 classes, and sources.0. has 6"),
        ({"classes": (*DEMO[:-1], "star")}, "It has 'star' as class 5, and sources.0. has 'cross'. Set data.classes"),
        ({"ignore_index": 100}, "ignore_index is 100, but that of sources.0. is 255"),
        ({"masks": "multi-label"}, "data.masks is 'multi-label' for some sources only"),
        ({"palette": ((1, 2, 3),)}, r"data.train.sources\[1\]: data.palette has 1 colours"),
    ],
)
def test_what_does_not_go_together_is_named(config, entry, message):
    with pytest.raises(ConfigError, match=message):
        build_source(config({}, entry), "train")


def test_a_source_that_is_not_there_is_named(config):
    with pytest.raises(DataError, match="'/nowhere', which is not a folder"):
        build_source(config({}, {"root": "/nowhere"}), "train")
