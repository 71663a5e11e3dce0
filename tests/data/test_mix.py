"""Transforms that mix records: what they take, what comes out, and that the stream never depends on who makes it."""

import dataclasses
from functools import partial

import numpy as np
import pytest

from jaxseg.data import build_transforms, train_batches
from jaxseg.data.demo import DemoSource
from jaxseg.data.transforms import Pipeline
from jaxseg.data.transforms.base import Transform, refuse_mixing
from jaxseg.data.transforms.mix import MixUp, MixUpParams, RandomMosaic
from jaxseg.engine.evaluation import Evaluator
from jaxseg.engine.mesh import make_mesh
from jaxseg.errors import ConfigError, DataError
from pixelwise import Pixelwise
from transform_figures import COUNT, about, assert_uniform, drawn

SOURCE = DemoSource("train", 7, (24, 32), 3)
STEPS = (
    {"type": "LoadImage"},
    {"type": "LoadAnnotations"},
    {"type": "RandomFlip"},
    {"type": "RandomMosaic", "prob": 0.7, "img_scale": (24, 32)},
    {"type": "MixUp", "prob": 0.5},
    {"type": "RandomCrop", "crop_size": (24, 24)},
)


class Numbered:
    """Records of one grey value each, their number; it notes which are read."""

    def __init__(self, count):
        self.count, self.read = count, []

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        assert type(index) is int
        self.read.append(index)
        level = np.full((4, 6), index, np.uint8)
        return {"image": level[..., None].repeat(3, 2), "label": level, "meta": {"name": str(index)}}


@dataclasses.dataclass(frozen=True)
class AddHundred(Transform):
    """What runs before the mixing step, on all."""

    def __call__(self, record, rng):
        return {**record, "image": record["image"] + 100}


def test_the_steps_before_run_on_the_others(rng):
    source = Numbered(50)
    steps = (AddHundred(), RandomMosaic(1.0, (4, 6), (1, 1)), AddHundred())
    result = build_transforms(steps).bind(source)(source[7], rng)
    assert result["image"].shape == (8, 12, 3)
    quarters = [
        result["label"][rows, columns] for rows in (slice(4), slice(4, 8)) for columns in (slice(6), slice(6, 12))
    ]
    found = [int(np.unique(quarter).item()) for quarter in quarters]
    assert found == source.read  # itself at the upper left, then the three in the order in which they were drawn
    np.testing.assert_array_equal(result["image"][..., 0], result["label"] + 200)
    assert result["meta"]["name"] == "7"


def test_others_are_drawn_evenly_and_only_where_they_are_needed():
    source = Numbered(10)
    pipeline = build_transforms((RandomMosaic(0.25, (4, 6)),)).bind(source)
    record = source[0]
    rng = np.random.default_rng(0)
    source.read.clear()
    results = [pipeline(record, rng) for _ in range(COUNT)]
    mixed = sum(result is not record for result in results)
    assert about(mixed / COUNT, 0.25)
    assert len(source.read) == 3 * mixed
    assert all(about(source.read.count(i) / len(source.read), 0.1, len(source.read)) for i in range(10))


def test_centres_of_mosaics_are_in_their_range(record):
    centers = [c for c in drawn(RandomMosaic(0.5, (40, 60), (0.5, 1.5)), record) if c is not None]
    assert about(len(centers) / COUNT, 0.5)
    assert_uniform([c.x + 0.5 for c in centers], 30, 90)
    assert_uniform([c.y + 0.5 for c in centers], 20, 60)


def test_weights_of_blends_are_of_beta(record):
    params = [p for p in drawn(MixUp(0.4, alpha=2.0), record) if p is not None]
    assert about(len(params) / COUNT, 0.4)
    weights = np.array([p.weight for p in params])
    assert abs(weights.mean() - 0.5) < 0.03
    assert abs(weights.var() - 1 / 20) < 0.006  # ab / ((a + b)^2 (a + b + 1))


def test_a_blend_takes_both_images_and_the_labels_with_their_weights(record):
    other = {**record, "image": 255 - record["image"], "label": record["label"] + 10}
    result = MixUp().apply(record, MixUpParams(0.3, 5), [other])
    wanted = np.rint(record["image"] * np.float32(0.3) + other["image"] * np.float32(0.7))
    np.testing.assert_array_equal(result["image"], wanted)
    own = result["label"] == record["label"]
    assert about(own.mean(), 0.3, own.size)
    np.testing.assert_array_equal(result["label"][~own], other["label"][~own])
    # Neither rows nor columns: every pixel is drawn by itself.
    assert all(abs(own.mean(axis) - 0.3).max() < 0.35 for axis in (0, 1))
    heavier = MixUp(label="heavier")
    assert (heavier.apply(record, MixUpParams(0.3, 5), [other])["label"] == other["label"]).all()
    assert (heavier.apply(record, MixUpParams(0.6, 5), [other])["label"] == record["label"]).all()


def test_a_blend_resizes_the_other_and_takes_what_there_is(record):
    small = {"image": record["image"][:20, :30], "label": record["label"][:20, :30], "meta": {}}
    result = MixUp().apply(record, MixUpParams(0.5, 1), [small])
    assert result["image"].shape == (60, 80, 3)
    assert result["label"].shape == (60, 80)
    layers = np.eye(4, dtype=np.uint8)[record["label"]]
    result = MixUp().apply({**record, "label": layers}, MixUpParams(0.5, 1), [{**record, "label": layers[::-1]}])
    assert result["label"].shape == (60, 80, 4)
    assert (result["label"].sum(-1) == 1).all()  # whole pixels, not layers, are chosen
    with pytest.raises(DataError, match=r"x.png has no label and cannot be mixed with x.png"):
        MixUp().apply(record, MixUpParams(0.5, 1), [{**record, "label": None}])


def test_a_pipeline_without_a_source_says_so(record, rng):
    pipeline = build_transforms((RandomMosaic(0.0),))
    for run in (pipeline, pipeline.steps[0]):
        with pytest.raises(ConfigError, match=r"RandomMosaic mixes a record with others: .*bind\(source\)"):
            run(record, rng)
    assert pipeline.random
    assert isinstance(pipeline.bind(SOURCE), Pipeline)
    assert pipeline.bind(SOURCE) == pipeline


def test_evaluation_refuses_them_beforehand():
    refuse_mixing(build_transforms(STEPS[:3]), "to evaluate with")
    refuse_mixing(lambda record, rng: record, "to evaluate with")
    evaluate = partial(Evaluator, Pixelwise(), {"mean": (0,), "std": (1,)}, SOURCE, batch_size=2, mesh=make_mesh())
    with pytest.raises(ConfigError, match=r"to evaluate with have a RandomMosaic, .* data.train.transforms"):
        evaluate(transform=build_transforms(STEPS))


def first(count, **options):
    pipeline = build_transforms(STEPS).bind(SOURCE)
    with train_batches(SOURCE, pipeline, batch_size=3, seed=5, **options) as batches:
        return [next(batches) for _ in range(count)]


def assert_same(batches, others):
    for batch, other in zip(batches, others, strict=True):
        for name in ("image", "label"):
            np.testing.assert_array_equal(batch[name], other[name])


@pytest.fixture(scope="module")
def stream():
    return first(8)


def test_the_stream_has_mosaics_and_blends_and_those_are_drawn_anew(stream):
    images = np.concatenate([batch["image"] for batch in stream])
    assert images.shape == (24, 24, 24, 3)
    assert len({image.tobytes() for image in images}) == 24  # seven records seen more than three times, none alike


@pytest.mark.parametrize("threads", [1, 4])
def test_the_stream_is_the_same_with_any_number_of_threads_and_after_a_stop(stream, threads):
    assert_same(first(8, read_threads=threads), stream)
    assert_same(first(3, read_threads=threads, start_step=5), stream[5:])


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_the_stream_is_the_same_with_any_number_of_workers(stream, workers):
    assert_same(first(3, num_workers=workers, start_step=2), stream[2:5])


def test_processes_have_their_parts_of_the_same_batches(stream):
    parts = [first(4, process_index=p, process_count=3) for p in range(3)]
    for step, batch in enumerate(stream[:4]):
        np.testing.assert_array_equal(np.concatenate([part[step]["image"] for part in parts]), batch["image"])
