"""The stream of a full augmenting pipeline over files: the same from any workers, processes, threads and steps."""

import itertools

import numpy as np
import pytest

from jaxseg.data import build_source, build_transforms, train_batches, write_demo
from jaxseg.data.datasets import DATASETS

TRANSFORMS = (
    {"type": "LoadImage"},
    {"type": "LoadAnnotations"},
    {"type": "RandomChoiceResize", "scales": (30, 44, 70, 90), "resize_type": "ResizeShortestEdge", "max_size": 150},
    {"type": "RandomCrop", "crop_size": (32, 40), "cat_max_ratio": 0.75},
    {"type": "RandomFlip", "prob": (0.25, 0.25), "direction": ("horizontal", "diagonal")},
    {"type": "PhotoMetricDistortion"},
    {"type": "GenerateEdge", "edge_width": 2},
    {"type": "Pad", "size": (32, 40), "pad_val": (124, 116, 104)},
)
STEPS, BATCH = 6, 4  # two passes over eleven pictures, and a bit


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    root = write_demo(tmp_path_factory.mktemp("stream") / "set", train=11, val=1, size=(40, 48))
    part = {"split": "train", "split_file": None}
    return build_source(
        {"dataset": "FolderDataset", "root": str(root), "classes": DATASETS["Demo"].classes, "train": part}, "train"
    )


def take(source, count=STEPS, **options):
    options = {"batch_size": BATCH, "seed": 11, **options}
    with train_batches(source, build_transforms(TRANSFORMS), **options) as batches:
        return list(itertools.islice(batches, count))


def joined(source, processes, **options):
    parts = [take(source, process_index=p, process_count=processes, **options) for p in range(processes)]
    return [{key: np.concatenate([b[key] for b in rows]) for key in rows[0]} for rows in zip(*parts, strict=True)]


def assert_same(first, second):
    assert len(first) == len(second)
    for step, (one, other) in enumerate(zip(first, second, strict=True)):
        assert one.keys() == other.keys() == {"image", "label", "edge"}
        for key in one:
            np.testing.assert_array_equal(one[key], other[key], err_msg=f"{key} of batch {step}")


@pytest.fixture(scope="module")
def stream(source):
    return take(source, read_threads=1, prefetch=1)


def test_the_stream_is_what_the_pipeline_makes_record_by_record(source, stream):
    """No two batches are equal, all pictures come, and everything is of the crop's size."""
    for batch in stream:
        assert batch["image"].shape == (BATCH, 32, 40, 3)
        assert batch["label"].shape == batch["edge"].shape == (BATCH, 32, 40)
    assert len({batch["image"].tobytes() for batch in stream}) == STEPS
    assert sum(batch["edge"].any() for batch in stream) > STEPS / 2
    plain = build_transforms(TRANSFORMS[:2])
    with train_batches(source, plain, batch_size=1, seed=11) as batches:
        names = [batch["image"].tobytes() for batch in itertools.islice(batches, 22)]
    assert len(set(names[:11])) == len(set(names[11:])) == 11
    assert names[:11] != names[11:]


@pytest.mark.parametrize("processes", [2, 4])
def test_processes(source, stream, processes):
    assert_same(joined(source, processes), stream)


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_resuming_at_every_step(source, stream, processes):
    for start in range(1, STEPS):
        assert_same(joined(source, processes, start_step=start, count=STEPS - start), stream[start:])


@pytest.mark.parametrize("workers", [1, 2])
def test_workers(source, stream, workers):
    assert_same(take(source, num_workers=workers), stream)


def test_workers_of_a_process_that_resumes(source, stream):
    wanted = [{key: value[2:] for key, value in batch.items()} for batch in stream[3:]]
    found = take(source, STEPS - 3, num_workers=2, start_step=3, process_index=1, process_count=2)
    assert_same(found, wanted)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("processes", [2, 4])
def test_workers_of_every_process_from_several_steps(source, stream, processes, workers):
    for start in (0, 1, 4):
        found = joined(source, processes, num_workers=workers, start_step=start, count=STEPS - start)
        assert_same(found, stream[start:])


@pytest.mark.parametrize(("threads", "prefetch"), [(1, 9), (2, 2), (8, 1)])
def test_threads(source, stream, threads, prefetch):
    assert_same(take(source, read_threads=threads, prefetch=prefetch), stream)


def test_fused_or_not(source, stream):
    apart = build_transforms(TRANSFORMS, fuse=False)
    with train_batches(source, apart, batch_size=BATCH, seed=11) as batches:
        assert_same(list(itertools.islice(batches, STEPS)), stream)
