"""Batches: the same from any number of threads and processes, and from any step on; of workers in test_stream."""

import itertools
import threading
import time

import numpy as np
import pytest
from PIL import Image

from jaxseg.data import build_source, build_transforms, eval_batches, train_batches
from jaxseg.data.demo import DemoSource
from jaxseg.errors import ConfigError, DataError

AUGMENT = (
    {"type": "LoadImage"},
    {"type": "LoadAnnotations"},
    {"type": "RandomResize", "scale": (48, 40), "ratio_range": (0.5, 2.0), "keep_ratio": True},
    {"type": "RandomCrop", "crop_size": (32, 32), "cat_max_ratio": 0.75},
    {"type": "RandomFlip", "prob": 0.5},
    {"type": "PhotoMetricDistortion"},
    {"type": "Pad", "size": (32, 32), "pad_val": 114},
)
LOAD = AUGMENT[:2]
SOURCE = DemoSource("train", 10, (40, 48), 0)


def take(count, source=SOURCE, transforms=AUGMENT, **options):
    options = {"batch_size": 4, "seed": 3, **options}
    with train_batches(source, build_transforms(transforms), **options) as batches:
        return list(itertools.islice(batches, count))


def assert_same(first, second):
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        assert one.keys() == other.keys()
        for key in one:
            np.testing.assert_array_equal(one[key], other[key])


@pytest.fixture(scope="module")
def stream():
    return take(7)


def test_batches_are_uint8_and_of_one_shape(stream):
    for batch in stream:
        assert batch["image"].shape == (4, 32, 32, 3)
        assert batch["label"].shape == (4, 32, 32)
        assert batch["image"].dtype == batch["label"].dtype == np.uint8


@pytest.mark.parametrize("threads", [1, 4])
def test_threads_do_not_matter(stream, threads):
    assert_same(take(7, read_threads=threads, prefetch=5), stream)


def test_resuming_does_not_matter(stream):
    assert_same(take(3, start_step=4), stream[4:])


def test_processes_share_the_global_batch(stream):
    parts = [take(7, process_index=p, process_count=2) for p in range(2)]
    joined = [{k: np.concatenate([a[k], b[k]]) for k in a} for a, b in zip(*parts, strict=True)]
    assert_same(joined, stream)
    assert_same(take(2, process_index=1, process_count=2, start_step=5), parts[1][5:])


def test_seed_and_pass_change_the_stream(stream):
    other = take(1, seed=4)
    assert (other[0]["image"] != stream[0]["image"]).any()
    plain = take(5, transforms=LOAD)  # two passes of ten
    images = np.concatenate([batch["image"] for batch in plain])
    passes = [{image.tobytes() for image in images[:10]}, {image.tobytes() for image in images[10:]}]
    assert passes[0] == passes[1]
    assert len(passes[0]) == 10
    assert any((a != b).any() for a, b in zip(images[:10], images[10:], strict=True))


def test_augmentation_differs_between_passes():
    one = DemoSource("train", 1, (40, 48), 0)
    first, second = take(2, source=one, batch_size=1)
    assert (first["image"] != second["image"]).any()


def test_batch_may_be_larger_than_the_source():
    batch = take(1, transforms=LOAD, batch_size=25)[0]
    assert batch["image"].shape[0] == 25
    assert len({image.tobytes() for image in batch["image"]}) == 10


@pytest.mark.parametrize("workers", [0, 2])
def test_a_bad_file_is_named(folder, make_config, workers):
    bad = folder / "images/train/train_00006.png"
    bad.write_bytes(bad.read_bytes()[:100])
    source = build_source(make_config(folder), "train")
    with pytest.raises(DataError, match=f"{bad} is cut short"):
        take(10, source=source, num_workers=workers)


def test_images_of_unequal_size_are_named(folder, make_config):
    for kind in ("images", "annotations"):
        path = folder / kind / "train/train_00002.png"
        Image.open(path).crop((0, 0, 30, 20)).save(path)
    source = build_source(make_config(folder), "train")
    with pytest.raises(DataError, match=r"train_0000\d.png is .*train_0000\d.png is .*'Pad'"):
        take(3, source=source, transforms=LOAD)


def test_closing_ends_the_threads():
    before = threading.active_count()
    batches = train_batches(SOURCE, build_transforms(AUGMENT), batch_size=2, seed=0)
    next(batches)
    batches.close()
    batches.close()
    with pytest.raises(StopIteration):
        next(batches)
    deadline = time.monotonic() + 10
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.02)
    assert threading.active_count() <= before


@pytest.mark.parametrize("options", [{"batch_size": 0}, {"batch_size": 5, "process_count": 2}, {"process_index": 1}])
def test_bad_options(options):
    with pytest.raises(ConfigError, match=r"batch_size|process_index"):
        train_batches(SOURCE, build_transforms(LOAD), **{"batch_size": 2, "seed": 0, **options})
    with pytest.raises(ConfigError, match=r"batch_size|process_index"):
        eval_batches(SOURCE, build_transforms(LOAD), **{"batch_size": 2, **options})


@pytest.fixture
def mixed(folder, make_config):
    """Five pictures, the third of them smaller."""
    for kind in ("images", "annotations"):
        path = folder / kind / "val/val_00002.png"
        Image.open(path).crop((0, 0, 30, 20)).save(path)
    return build_source(make_config(folder), "val")


RESIZE = (LOAD[0], {"type": "Resize", "scale": (96, 80), "keep_ratio": True}, LOAD[1])


def test_evaluation_groups_by_size(mixed):
    batches = list(eval_batches(mixed, build_transforms(RESIZE), batch_size=3))
    assert [batch["index"].tolist() for batch in batches] == [[0, 1, 3], [4, -1, -1], [2, -1, -1]]
    assert [batch["image"].shape for batch in batches] == [(3, 80, 96, 3)] * 2 + [(3, 64, 96, 3)]
    # Masks that are loaded after the resize keep their own size.
    assert [batch["label"].shape for batch in batches] == [(3, 40, 48)] * 2 + [(3, 20, 30)]
    last = batches[-1]
    assert last["index"].dtype == np.int32
    assert (last["image"][1:] == 0).all()
    assert (last["label"][1:] == 255).all()
    assert last["meta"][0]["name"] == "val_00002"
    assert last["meta"][0]["original_size"] == (20, 30)
    assert last["meta"][1:] == [{}, {}]


def test_evaluation_in_processes_is_the_same(mixed):
    whole = list(eval_batches(mixed, build_transforms(RESIZE), batch_size=4, read_threads=1))
    parts = [
        list(eval_batches(mixed, build_transforms(RESIZE), batch_size=4, process_index=p, process_count=4))
        for p in range(4)
    ]
    assert {len(part) for part in parts} == {len(whole)}
    for number, batch in enumerate(whole):
        for key in ("image", "label", "index"):
            joined = np.concatenate([part[number][key] for part in parts])
            np.testing.assert_array_equal(joined, batch[key])
        assert [meta for part in parts for meta in part[number]["meta"]] == batch["meta"]


def test_evaluation_without_labels(folder, make_config):
    source = build_source(make_config(folder, label_dir=""), "val")
    batch = next(iter(eval_batches(source, build_transforms(LOAD[:1]), batch_size=2)))
    assert "label" not in batch
    with pytest.raises(DataError, match="has no mask"):
        next(iter(eval_batches(source, build_transforms(LOAD), batch_size=2)))


def test_evaluation_names_a_bad_file(folder, make_config):
    bad = folder / "annotations/val/val_00003.png"
    bad.write_bytes(bad.read_bytes()[:60])
    source = build_source(make_config(folder), "val")
    with pytest.raises(DataError, match=str(bad)):
        list(eval_batches(source, build_transforms(LOAD), batch_size=2))


def test_evaluation_may_be_left_early(mixed):
    batches = eval_batches(mixed, build_transforms(LOAD), batch_size=1)
    next(batches)
    batches.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("eval_batches")]


def test_empty_sources_are_errors():
    empty = DemoSource("train", 0)
    for make in (
        lambda: train_batches(empty, build_transforms(()), batch_size=1, seed=0),
        lambda: eval_batches(empty, build_transforms(()), batch_size=1),
    ):
        with pytest.raises(DataError, match="empty"):
            make()
