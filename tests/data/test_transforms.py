"""Transforms against figures of the reference, and their own promises: purity, fused equals unfused."""

import copy
from pathlib import Path

import cv2
import numpy as np
import pytest

from jaxseg.data import TRANSFORMS, build_transforms
from jaxseg.data.transforms.color import PhotoMetricDistortion, PhotoMetricParams
from jaxseg.data.transforms.geometric import Pad, RandomCrop, RandomFlip
from jaxseg.data.transforms.loading import decode_image
from jaxseg.data.transforms.resample import (
    Window,
    _bilinear_window,
    resize_image,
    resize_image_window,
    resize_label,
    resize_label_window,
)
from jaxseg.data.transforms.resize import (
    RandomChoiceResize,
    RandomResize,
    RandomResizeCrop,
    Resize,
    ResizeShortestEdge,
    ResizeToMultiple,
)
from jaxseg.errors import ConfigError


@pytest.fixture(scope="module")
def reference():
    with np.load(Path(__file__).parent / "fixtures" / "transforms.npz") as arrays:
        return dict(arrays)


def given(reference):
    return {"image": reference["input.image"], "label": reference["input.label"], "meta": {}}


def assert_equals(reference, case, result):
    np.testing.assert_array_equal(result["image"], reference[f"{case}.image"])
    np.testing.assert_array_equal(result["label"], reference[f"{case}.label"])
    assert result["image"].dtype == result["label"].dtype == np.uint8


@pytest.mark.parametrize(
    ("case", "fields"),
    [
        ("resize_plain", {"scale": (40, 61)}),
        ("resize_keep", {"scale": (90, 50), "keep_ratio": True}),
        ("resize_factor", {"scale_factor": 0.7}),
        ("resize_factor_keep", {"scale_factor": (1.3, 0.9), "keep_ratio": True}),
    ],
)
def test_resize_equals_the_reference(reference, rng, case, fields):
    transform = Resize(**fields)
    result = transform(given(reference), rng)
    assert_equals(reference, case, result)
    assert transform.sizes((37, 53)) == (result["image"].shape[:2],) * 2


@pytest.mark.parametrize(
    ("case", "fields"),
    [
        ("shortest_edge", {"scale": 61, "max_size": 200}),
        ("shortest_edge_pair", {"scale": (45, 29), "max_size": 200}),
        ("shortest_edge_bound", {"scale": 48, "max_size": 60}),
        ("shortest_edge_upright", {"scale": 48, "max_size": 60}),
    ],
)
def test_shortest_edge_equals_the_reference(reference, rng, case, fields):
    record = given(reference)
    if case == "shortest_edge_upright":
        record = {**record, "image": record["image"].transpose(1, 0, 2).copy(), "label": record["label"].T.copy()}
    transform = ResizeShortestEdge(**fields)
    result = transform(record, rng)
    assert_equals(reference, case, result)
    assert transform.sizes(record["image"].shape[:2]) == (result["image"].shape[:2],) * 2


@pytest.mark.parametrize("divisor", [16, 32])
def test_resize_to_multiple_equals_the_reference(reference, rng, divisor):
    transform = ResizeToMultiple(divisor)
    result = transform(given(reference), rng)
    assert_equals(reference, f"multiple_{divisor}", result)
    assert transform.sizes((37, 53)) == (result["image"].shape[:2],) * 2


def test_labels_loaded_after_a_resize_keep_their_size(reference, rng):
    result = ResizeToMultiple()({"image": reference["input.image"], "meta": {}}, rng)
    assert_equals(reference, "multiple_image", {**result, "label": reference["input.label"]})


CHOICES = {
    "choice_plain": {"scales": ((40, 61), (90, 50))},
    "choice_keep": {"scales": ((40, 61), (90, 50), (53, 20)), "keep_ratio": True},
    "choice_edge": {"scales": (20, 45, 61, 90), "resize_type": "ResizeShortestEdge", "max_size": 100},
}


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("case", CHOICES)
def test_choice_of_scales_equals_the_reference(reference, case, seed):
    resize = RandomChoiceResize(**CHOICES[case])
    drawn = reference[f"{case}_{seed}.params"]
    result = resize(given(reference), Replayed(drawn.astype(int)))
    assert_equals(reference, f"{case}_{seed}", result)
    low, high = resize.sizes((37, 53))
    assert all(low[axis] <= result["image"].shape[axis] <= high[axis] for axis in (0, 1))


def test_every_scale_is_chosen_as_often():
    resize = RandomChoiceResize(scales=(20, 45, (61, 90)), resize_type="ResizeShortestEdge")
    rng = np.random.default_rng(0)
    drawn = [resize.draw({}, rng) for _ in range(3000)]
    assert all(abs(drawn.count(scale) / 3000 - 1 / 3) < 0.03 for scale in resize.scales)
    assert resize.sizes((37, 53)) == ((20, 29), (61, 87))


@pytest.mark.parametrize("seed", range(4))
def test_random_resize_and_crop_equal_the_reference(reference, seed):
    resize = RandomResize((53, 37), (0.5, 2.0), keep_ratio=True)
    crop = RandomCrop((30, 28))
    width, height, top, left = (int(x) for x in reference[f"random_crop_{seed}.params"])
    resized = resize.apply(given(reference), (width, height))
    assert_equals(reference, f"random_resize_{seed}", resized)
    window = Window(top, left, 30, 28)
    assert_equals(reference, f"random_crop_{seed}", crop.apply(resized, window))
    fused = RandomResizeCrop(resize, crop).apply(given(reference), (resized["image"].shape[:2], window))
    assert_equals(reference, f"random_crop_{seed}", fused)


class Replayed:
    """A generator whose whole numbers are given beforehand."""

    def __init__(self, numbers):
        self.numbers = list(numbers)

    def integers(self, low, high=None):
        return self.numbers.pop(0)


def test_crop_chooses_the_window_the_reference_chooses(reference):
    top, left, *drawn = (int(x) for x in reference["crop_choice.params"])
    assert len(drawn) > 2  # more than one try, or the case would show nothing
    replayed = Replayed(drawn)
    window = RandomCrop((16, 16), cat_max_ratio=0.35).draw(given(reference), replayed)
    assert (window.top, window.left) == (top, left)
    assert replayed.numbers == []


@pytest.mark.parametrize("direction", ["horizontal", "vertical", "diagonal"])
def test_flip_equals_the_reference(reference, rng, direction):
    flip = RandomFlip(prob=1.0, direction=direction, swap_seg_labels=[(1, 2)])
    assert_equals(reference, f"flip_{direction}", flip(given(reference), rng))


@pytest.mark.parametrize(("case", "fields"), [("size", {"size": (48, 64)}), ("divisor", {"size_divisor": 16})])
def test_pad_equals_the_reference(reference, rng, case, fields):
    pad = Pad(pad_val=(106, 103, 99), **fields)
    assert_equals(reference, f"pad_{case}", pad(given(reference), rng))


@pytest.mark.parametrize("seed", range(8))
def test_distortion_equals_the_reference(reference, seed):
    drawn = [None if np.isnan(x) else float(x) for x in reference[f"distortion_{seed}.params"]]
    params = PhotoMetricParams(drawn[0], drawn[1], bool(drawn[2]), drawn[3], drawn[4] and int(drawn[4]))
    assert_equals(reference, f"distortion_{seed}", PhotoMetricDistortion().apply(given(reference), params))


@pytest.mark.parametrize("case", ["jpeg", "jpeg_turned", "png", "png_grey", "png_palette", "png_alpha", "tiff", "bmp"])
def test_decoding_equals_the_reference(reference, case):
    image = decode_image(reference[f"{case}.file"].tobytes(), case)
    wanted = reference[f"{case}.decoded"]
    assert image.shape == wanted.shape
    # JPEG leaves its last bit to the library; the others are exact.
    assert np.abs(image.astype(int) - wanted).max() <= (2 if "jpeg" in case else 0)


def test_every_branch_of_the_distortion_is_in_the_figures(reference):
    params = np.stack([reference[f"distortion_{seed}.params"] for seed in range(8)])
    assert (np.isnan(params).any(0) == [True, True, False, True, True]).all()
    assert not np.isnan(params).all(0).any()
    assert set(params[:, 2]) == {0, 1}


def test_windows_equal_cv2_resize_bit_for_bit():
    rng = np.random.default_rng(3)
    for _ in range(60):
        height, width, new_height, new_width = rng.integers(2, 120, 4)
        image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        size = (int(new_height), int(new_width))
        top, left = (int(rng.integers(0, side)) for side in size)
        window = Window(top, left, int(rng.integers(1, 50)), int(rng.integers(1, 50)))
        label = image[..., 0]
        for kind in (np.uint8, np.int32):
            np.testing.assert_array_equal(
                resize_label_window(label.astype(kind), size, window),
                window.of(resize_label(label.astype(kind), size)),
            )
        whole = window.of(resize_image(image, size))
        np.testing.assert_array_equal(resize_image_window(image, size, window), whole)
        if (height, width) != (2 * new_height, 2 * new_width):
            np.testing.assert_array_equal(_bilinear_window(image, image.shape[0], size, window.clipped(size)), whole)


def test_halving_is_left_to_opencv():
    image = np.random.default_rng(0).integers(0, 256, (200, 160, 3), dtype=np.uint8)
    window = Window(10, 5, 8, 8)
    np.testing.assert_array_equal(
        resize_image_window(image, (100, 80), window), window.of(resize_image(image, (100, 80)))
    )


PIPELINE = (
    {"type": "RandomResize", "scale": (80, 60), "ratio_range": (0.5, 4.0), "keep_ratio": True},
    {"type": "RandomCrop", "crop_size": (32, 40), "cat_max_ratio": 0.6},
    {"type": "RandomFlip", "prob": (0.3, 0.3), "direction": ("horizontal", "vertical")},
    {"type": "PhotoMetricDistortion"},
    {"type": "Pad", "size": (32, 40), "pad_val": (1, 2, 3)},
)


CHOICE = {"type": "RandomChoiceResize", "scales": (30, 60, 240), "resize_type": "ResizeShortestEdge", "max_size": 300}


@pytest.mark.parametrize(
    "resize", [PIPELINE[0], CHOICE, {"type": "RandomChoiceResize", "scales": ((99, 44), (9, 240))}]
)
def test_fused_equals_unfused_and_draws_the_same(record, resize):
    pipeline = (resize, *PIPELINE[1:])
    fused, apart = build_transforms(pipeline), build_transforms(pipeline, fuse=False)
    assert isinstance(fused.steps[0], RandomResizeCrop)
    assert len(apart.steps) == len(pipeline)
    for seed in range(30):
        one, other = (p(record, np.random.default_rng(seed)) for p in (fused, apart))
        np.testing.assert_array_equal(one["image"], other["image"])
        np.testing.assert_array_equal(one["label"], other["label"])


def test_transforms_leave_their_input_alone(record):
    before = copy.deepcopy(record)
    for seed in range(10):
        for fuse in (True, False):
            build_transforms(PIPELINE, fuse=fuse)(record, np.random.default_rng(seed))
    np.testing.assert_array_equal(record["image"], before["image"])
    np.testing.assert_array_equal(record["label"], before["label"])
    assert record["meta"] == before["meta"]


def test_pipeline_knows_its_sizes(record):
    pipeline = build_transforms(PIPELINE[:2])
    low, high = pipeline.sizes((60, 80))
    assert (low, high) == ((30, 40), (32, 40))
    shapes = {pipeline(record, np.random.default_rng(seed))["image"].shape[:2] for seed in range(40)}
    assert all(low[axis] <= shape[axis] <= high[axis] for shape in shapes for axis in (0, 1))
    assert build_transforms(PIPELINE).sizes((60, 80)) == ((32, 40), (32, 40))
    assert pipeline.random
    assert not build_transforms(({"type": "Resize", "scale": 4},)).random


def test_a_record_without_label_goes_through(record):
    bare = {"image": record["image"], "meta": {}}
    result = build_transforms(PIPELINE)(bare, np.random.default_rng(0))
    assert result["image"].shape == (32, 40, 3)
    assert "label" not in result


def test_flip_probabilities():
    flip = RandomFlip(prob=(0.2, 0.5), direction=("horizontal", "vertical"))
    rng = np.random.default_rng(0)
    drawn = [flip.draw({}, rng) for _ in range(4000)]
    assert abs(drawn.count("horizontal") / 4000 - 0.2) < 0.03
    assert abs(drawn.count("vertical") / 4000 - 0.5) < 0.03


def test_two_scales_are_drawn_independently():
    resize = RandomResize(scale=((10, 40), (20, 30)))
    rng = np.random.default_rng(0)
    drawn = np.array([resize.draw({}, rng) for _ in range(500)])
    assert (drawn.min(0) == (10, 30)).all()
    assert (drawn.max(0) == (20, 40)).all()
    assert resize.sizes((5, 5)) == ((30, 10), (40, 20))


def test_labels_with_many_classes_keep_int32(record):
    wide = {**record, "label": record["label"].astype(np.int32) + 300}
    result = build_transforms(PIPELINE)(wide, np.random.default_rng(1))
    assert result["label"].dtype == np.int32
    assert result["label"].max() >= 300


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"type": "RandomCropp", "crop_size": 4}, "Did you mean RandomCrop?"),
        ({"type": "RandomCrop", "crop_sise": 4}, "Did you mean crop_size?"),
        ({"type": "RandomCrop"}, "needs the field crop_size"),
        ({"crop_size": 4}, "needs a `type`"),
        ({"type": "RandomCrop", "crop_size": (4, 4, 4)}, r"\(height, width\)"),
        ({"type": "RandomCrop", "crop_size": (4, -4)}, r"\(height, width\)"),
        ({"type": "RandomCrop", "crop_size": 4, "cat_max_ratio": 2}, "cat_max_ratio is 2"),
        ({"type": "Resize"}, "scale"),
        ({"type": "Resize", "scale": (1.5, 2)}, r"\(width, height\)"),
        ({"type": "Resize", "scale_factor": 0.0}, "must be positive"),
        ({"type": "RandomResize", "scale": (8, 8)}, "ratio_range is None"),
        ({"type": "RandomResize", "scale": (8, 8), "ratio_range": (2, 1)}, "smallest, largest"),
        ({"type": "RandomResize", "scale": ((8, 8),)}, "one .* or two"),
        ({"type": "ResizeShortestEdge"}, "needs the field scale"),
        ({"type": "ResizeShortestEdge", "scale": 0}, "ResizeShortestEdge.scale is 0"),
        ({"type": "ResizeShortestEdge", "scale": 8, "max_size": 0.5}, "ResizeShortestEdge.max_size is 0.5"),
        ({"type": "ResizeToMultiple", "size_divisor": (32, 32)}, "size_divisor is .32, 32."),
        ({"type": "RandomChoiceResize", "scales": (32, 64)}, "must be a list of pairs"),
        ({"type": "RandomChoiceResize", "scales": ()}, "scales is .*; it must be a list of pairs"),
        ({"type": "RandomChoiceResize", "scales": ((8, 0),)}, "scales is .8, 0."),
        ({"type": "RandomChoiceResize", "scales": 9, "resize_type": "ResizeShortestEdge"}, "a list of lengths"),
        ({"type": "RandomChoiceResize", "scales": ((8, 8),), "max_size": 9}, "max_size has no meaning"),
        (
            {"type": "RandomChoiceResize", "scales": (8,), "resize_type": "ResizeShort"},
            "Did you mean ResizeShortestEdge?",
        ),
        ({"type": "RandomFlip", "prob": 1.5}, "prob is 1.5"),
        ({"type": "RandomFlip", "direction": "horizontl"}, "Did you mean horizontal?"),
        ({"type": "Pad"}, "size or size_divisor"),
        ({"type": "Pad", "size": 4, "pad_val": float("inf")}, "0..255"),
        ({"type": "Pad", "size": 4, "pad_val": "black"}, "0..255"),
        ({"type": "Pad", "size_divisor": 0}, "at least 1"),
        ({"type": "PhotoMetricDistortion", "contrast_range": (2, 1)}, "contrast_range"),
        ({"type": "PhotoMetricDistortion", "hue_delta": 0}, "hue_delta"),
        ({"type": "LoadImage", "color_type": "grey"}, "color_type is 'grey'"),
    ],
)
def test_bad_configs_say_what_is_wrong(config, message):
    with pytest.raises(ConfigError, match=message):
        build_transforms((config,))


def test_ones_own_transform_can_be_given(record, rng):
    class Invert(TRANSFORMS["Pad"]):
        def __call__(self, record, rng):
            return {**record, "image": 255 - record["image"]}

    for config in ({"type": Invert, "size": 4}, Invert(size=4)):
        result = build_transforms((config,))(record, rng)
        np.testing.assert_array_equal(result["image"], 255 - record["image"])


def test_resizing_to_nothing_is_an_error(record, rng):
    with pytest.raises(ConfigError, match="leaves nothing"):
        Resize(scale_factor=0.001)(record, rng)


def test_grey_border_of_opencv_is_never_shared(record, rng):
    result = Pad(size=(60, 80))(record, rng)
    assert result["image"] is record["image"]  # nothing to add, nothing copied
    assert cv2.countNonZero(Pad(size=(61, 80))(record, rng)["image"][60, :, 0]) == 0
