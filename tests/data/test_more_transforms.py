"""Rotations, colours, cut-outs, mosaics and depth against figures of the reference."""

import dataclasses
import json

import numpy as np
import pytest

from jaxseg.data import TRANSFORMS, build_transforms
from jaxseg.data.transforms import LABEL_LOADERS, NOT_NEEDED
from jaxseg.data.transforms.color import CLAHE, AdjustGamma, RandomGrayscale, Rerange, RGB2Gray
from jaxseg.data.transforms.depth import RandomDepthMix
from jaxseg.data.transforms.erase import RandomCutOut
from jaxseg.data.transforms.geometric import CenterCrop
from jaxseg.data.transforms.mix import Center, RandomMosaic
from jaxseg.data.transforms.resample import Window
from jaxseg.data.transforms.resize import SegRescale
from jaxseg.data.transforms.rotate import RandomRotate, RandomRotFlip, RotFlipParams
from jaxseg.errors import DataError
from transform_figures import FIXTURES, assert_equals, assert_rotated, given


def reference_fields():
    return json.loads((FIXTURES / "reference_transforms.json").read_text())


def test_every_transform_of_the_reference_is_here_or_not_needed():
    names = set(reference_fields())
    assert len(names) == 51
    assert names - set(TRANSFORMS) == set(NOT_NEEDED)
    assert set(TRANSFORMS) - names == {"LoadImage", "MixUp"}
    assert not set(TRANSFORMS) & set(NOT_NEEDED)
    assert all(reason for reason in NOT_NEEDED.values())
    assert set(LABEL_LOADERS) == {"LoadAnnotations", "LoadBiomedicalAnnotation", "LoadDepthAnnotation"}


# Fields whose defaults differ in form or on purpose; translating a config of the reference's gives what it means there.
OTHERWISE = {
    ("Pad", "pad_val"),  # of the image alone here
    ("RandomFlip", "prob"),  # it must be given there
    ("RandomFlip", "swap_seg_labels"),  # no pairs are () here
    ("RandomCutOut", "fill_in"),  # one number here
    ("RGB2Gray", "weights"),  # of red, green, blue here
    ("RandomResize", "scale"),  # may be anything there
    ("RandomResize", "keep_ratio"),
    ("ResizeShortestEdge", "max_size"),  # it must be given there
}


@pytest.mark.parametrize("name", [name for name in TRANSFORMS if name not in ("LoadImage", "MixUp")])
def test_fields_have_the_defaults_of_the_reference(name):
    own = {field.name: field for field in dataclasses.fields(TRANSFORMS[name]) if field.init}
    wanted = reference_fields()[name]
    shared = [field for field in own if field in wanted and (name, field) not in OTHERWISE]
    required = {field for field in shared if own[field].default is dataclasses.MISSING}
    assert required == {field for field in shared if wanted[field] == "..."}
    for field in set(shared) - required:
        default = own[field].default
        assert (list(default) if isinstance(default, tuple) else default) == wanted[field], field


@pytest.mark.parametrize(
    ("case", "transform"),
    [
        ("clahe", CLAHE(2.0, (4, 3))),
        ("gamma_up", AdjustGamma(1.7)),
        ("gamma_down", AdjustGamma(0.6)),
        ("rerange", Rerange(-1, 1.5)),
        ("gray", RGB2Gray(weights=(0.114, 0.587, 0.299))),  # the reference weights blue, green, red
        ("gray_weights", RGB2Gray(2, (0.3, 0.5, 0.2))),
        ("seg_rescale", SegRescale(0.4)),
        ("center", CenterCrop((20, 30))),
        ("center_large", CenterCrop((20, 60))),
    ],
)
def test_transforms_without_chance_equal_the_reference(reference_figures, rng, case, transform):
    result = transform(given(reference_figures), rng)
    assert_equals(reference_figures, case, result)
    assert transform.sizes((37, 53)) == (result["image"].shape[:2],) * 2
    second = given(reference_figures)
    second["image2"] = second["image"][::-1]
    both = transform(second, rng)
    if case in ("gamma_up", "gray", "center"):
        wanted = transform({**given(reference_figures), "image": second["image2"]}, rng)["image"]
        np.testing.assert_array_equal(both["image2"], wanted)


def test_an_image_of_one_value_is_reranged_to_the_lowest(rng):
    result = Rerange(-1, 1)({"image": np.full((3, 4, 3), 9, np.uint8)}, rng)["image"]
    np.testing.assert_array_equal(result, np.full((3, 4, 3), -1, np.float32))


def test_grey_pictures_equal_the_reference(reference_figures, rng):
    gray = RandomGrayscale(1.0, (1.5, 2.0, 1.0))
    assert_equals(reference_figures, "grayscale", gray(given(reference_figures), rng))
    assert gray.apply(given(reference_figures), False)["image"] is reference_figures["input.image"]


@pytest.mark.parametrize(
    ("case", "fields"),
    [
        ("rotate", {}),
        ("rotate_filled", {"pad_val": (106, 103, 99), "seg_pad_val": 7}),
        ("rotate_blue", {"pad_val": (0, 0, 200)}),
        ("rotate_center", {"center": (10.0, 20.5)}),
        ("rotate_bound", {"auto_bound": True}),
    ],
)
def test_rotations_equal_the_reference(reference_figures, case, fields):
    angle = float(reference_figures[f"{case}.params"][0])
    transform = RandomRotate(1.0, angle, **fields)
    assert_rotated(reference_figures, case, transform.apply(given(reference_figures), angle))
    low, high = transform.sizes((37, 53))
    shape = reference_figures[f"{case}.image"].shape[:2]
    assert all(low[axis] <= shape[axis] <= high[axis] for axis in (0, 1))


@pytest.mark.parametrize("seed", range(4))
def test_rotations_with_mirrors_equal_the_reference(reference_figures, seed):
    angle, quarters, axis = reference_figures[f"rot_flip_{seed}.params"]
    params = RotFlipParams(quarters=int(quarters), axis=int(axis)) if np.isnan(angle) else RotFlipParams(float(angle))
    result = RandomRotFlip(seg_interpolation="bilinear").apply(given(reference_figures), params)
    assert_rotated(reference_figures, f"rot_flip_{seed}", result)
    result = RandomRotFlip().apply(given(reference_figures), params)
    assert set(np.unique(result["label"])) <= {*np.unique(reference_figures["input.label"]), 0}


@pytest.mark.parametrize(
    ("case", "fields"),
    [
        ("cut_shape", {"n_holes": 3, "cutout_shape": (12, 7)}),
        (
            "cut_shapes",
            {
                "n_holes": (2, 5), "cutout_shape": ((12, 7), (4, 20)), "fill_in": (7, 8, 9), "seg_fill_in": 255,
            },
        ),
        ("cut_ratio", {"n_holes": 2, "cutout_ratio": (0.4, 0.21), "seg_fill_in": 3}),
    ],
)  # fmt: skip
def test_cut_outs_equal_the_reference(reference_figures, case, fields):
    class Replayed:
        def __init__(self, numbers):
            self.numbers = [int(number) for number in numbers]

        def random(self):
            return 0.0

        def integers(self, low, high=None):
            number = self.numbers.pop(0)
            assert (low if high else 0) <= number < (high or low)
            return number

    replayed = Replayed(reference_figures[f"{case}.params"])
    cut = RandomCutOut(1.0, **fields)
    windows = cut.draw(given(reference_figures), replayed)
    assert replayed.numbers == []
    assert_equals(reference_figures, case, cut.apply(given(reference_figures), windows))


@pytest.mark.parametrize("seed", range(3))
def test_mosaics_equal_the_reference(reference_figures, seed):
    mosaic = RandomMosaic(1.0, (32, 40), pad_val=60, center_ratio_range=(0.4, 1.6))
    center = Center(*(int(at) for at in reference_figures[f"mosaic_{seed}.params"]))
    result = mosaic.apply(given(reference_figures), center, [given(reference_figures, f"other_{i}") for i in range(3)])
    assert_equals(reference_figures, f"mosaic_{seed}", result)
    assert mosaic.sizes((37, 53)) == ((64, 80), (64, 80))
    assert RandomMosaic(0.5, (32, 40)).sizes((37, 99)) == ((37, 80), (64, 99))


@pytest.mark.parametrize(("seed", "scale"), [(0, 0.001), (1, 1.0)])
def test_depths_in_the_image_equal_the_reference(reference_figures, seed, scale):
    class Replayed:
        def __init__(self, numbers):
            self.numbers = [0.0, *numbers]

        def random(self):
            return self.numbers.pop(0)

    depth = reference_figures[f"depth_{seed}.label"]
    record = given(reference_figures, label=depth, meta={"depth_rescale_factor": scale})
    mix = RandomDepthMix(1.0)
    params = mix.draw(record, Replayed(reference_figures[f"depth_mix_{seed}.params"]))
    result = mix.apply(record, params)
    assert_equals(reference_figures, f"depth_mix_{seed}", result, label=False)
    assert (result["image"] != record["image"]).any()
    assert result["label"] is depth


def test_a_depth_reads_as_the_reference_reads_it(reference_figures, tmp_path):
    path = tmp_path / "depth.png"
    path.write_bytes(reference_figures["depth.file"].tobytes())
    load = build_transforms(({"type": "LoadDepthAnnotation", "depth_rescale_factor": 1e-3},))
    result = load({"meta": {"label_path": str(path)}}, None)
    np.testing.assert_array_equal(result["label"], reference_figures["depth.read"])
    assert result["meta"]["depth_rescale_factor"] == 1e-3


def test_depths_are_read_in_metres(tmp_path, record):
    import cv2

    stored = np.random.default_rng(0).integers(0, 10000, (60, 80)).astype(np.uint16)
    cv2.imwrite(str(tmp_path / "depth.png"), stored)
    np.save(tmp_path / "depth.npy", stored.astype(np.float32))
    meta = {"label_path": str(tmp_path / "depth.png"), "original_size": (60, 80)}
    bare = {"image": record["image"], "meta": meta}
    load = {"type": "LoadDepthAnnotation", "depth_rescale_factor": 0.001}
    result = build_transforms((load,))(bare, None)
    np.testing.assert_array_equal(result["label"], stored.astype(np.float32) * np.float32(0.001))
    assert result["label"].dtype == np.float32
    as_array = {"image": record["image"], "meta": {**meta, "label_path": str(tmp_path / "depth.npy")}}
    array = build_transforms(({**load, "decode_backend": "numpy"},))(as_array, None)
    np.testing.assert_array_equal(array["label"], result["label"])
    crop = {"type": "RandomCrop", "crop_size": (20, 20)}
    steps = (load, {"type": "RandomFlip"}, {"type": "RandomDepthMix", "prob": 1.0}, crop)
    mixed = build_transforms(steps)(bare, np.random.default_rng(0))
    assert mixed["label"].shape == (20, 20)
    assert set(np.unique(mixed["label"])) <= set(np.unique(result["label"]))
    with pytest.raises(DataError, match=r"depth.png is 60x80, but its image .* is 5x5"):
        build_transforms((load,))({**bare, "meta": {**meta, "original_size": (5, 5)}}, None)


def test_pairs_of_dates_are_read_and_joined(tmp_path, record):
    import cv2

    paths = [str(tmp_path / name) for name in ("a.png", "b.png", "c.png")]
    second = 255 - record["image"]
    for path, image in zip(paths, (record["image"], second, second[1:]), strict=True):
        cv2.imwrite(path, image[..., ::-1])
    pair = {"meta": {"image_path": paths[0], "image_path2": paths[1]}}
    load = {"type": "LoadMultipleRSImageFromFile"}
    result = build_transforms((load,))(pair, None)
    np.testing.assert_array_equal(result["image"], record["image"])
    np.testing.assert_array_equal(result["image2"], second)
    flip = {"type": "RandomFlip", "prob": 1.0}
    joined = build_transforms((load, flip, {"type": "ConcatCDInput"}))(pair, np.random.default_rng(0))
    np.testing.assert_array_equal(joined["image"], np.dstack([record["image"], second])[:, ::-1])
    assert "image2" not in joined
    turned = build_transforms((load, {"type": "ConcatCDInput", "second_first": True}))(pair, None)
    np.testing.assert_array_equal(turned["image"], np.dstack([second, record["image"]]))
    single = build_transforms(({"type": "LoadSingleRSImageFromFile"},))(pair, None)
    np.testing.assert_array_equal(single["image"], record["image"])
    with pytest.raises(DataError, match=r"a.png is uint8 \[60, 80, 3\], but .*c.png is uint8 \[59, 80, 3\]"):
        build_transforms((load,))({"meta": {"image_path": paths[0], "image_path2": paths[2]}}, None)
    with pytest.raises(DataError, match="has no second image"):
        build_transforms((load,))({"meta": {"image_path": paths[0]}}, None)


def test_windows_of_other_types_are_cut_out_of_the_whole(record):
    image = record["image"].astype(np.float32)
    fused = build_transforms(
        ({"type": "RandomResize", "scale": (800, 600), "ratio_range": (1, 2)}, {"type": "RandomCrop", "crop_size": 16})
    )
    for seed in range(3):
        one = fused({**record, "image": image}, np.random.default_rng(seed))["image"]
        other = fused(record, np.random.default_rng(seed))["image"]
        assert one.dtype == np.float32
        assert np.abs(one - other).max() <= 1
    assert Window(0, 0, 2, 2).of(image).shape == (2, 2, 3)
