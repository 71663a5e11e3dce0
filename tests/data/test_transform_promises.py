"""What holds for all transforms: pure, any type and number of channels, clear errors."""

import copy
import inspect

import numpy as np
import pytest

from jaxseg.data import TRANSFORMS, build_transforms
from jaxseg.data.transforms import RandomTransform
from jaxseg.data.transforms.depth import RandomDepthMix
from jaxseg.data.transforms.resample import resize_image
from jaxseg.data.transforms.resize import SegRescale
from jaxseg.data.transforms.rotate import RandomRotate
from jaxseg.data.transforms.volumes import (
    BioMedical3DPad,
)
from jaxseg.errors import ConfigError, DataError

ADD = {"type": "AdjustGamma", "gamma": 2.0}
CROP = {"type": "CenterCrop", "crop_size": (20, 30)}
RANDOM = {
    "RandomRotate": {"prob": 0.9, "degree": 50, "pad_val": (1, 2, 3)},
    "RandomRotFlip": {},
    "RandomCutOut": {"prob": 0.9, "n_holes": 2, "cutout_shape": (9, 5), "seg_fill_in": 255},
    "RandomGrayscale": {"prob": 0.5},
    "PhotoMetricDistortion": {},
    "RandomApply": {"transforms": ({"type": "RandomRotate", "prob": 1.0, "degree": 9},)},
    "RandomChoice": {"transforms": (ADD, CROP)},
}
VOLUMES = {
    "BioMedical3DRandomCrop": {"crop_shape": 4},
    "BioMedical3DRandomFlip": {"prob": 0.5, "axes": (0, 1, 2), "swap_label_pairs": ((1, 2),)},
    "BioMedicalGaussianNoise": {"prob": 0.9},
    "BioMedicalGaussianBlur": {"prob": 0.9},
    "BioMedicalRandomGamma": {"prob": 0.9, "per_channel": True},
    "BioMedical3DPad": {"pad_shape": 11},
}
PLAIN = {"AdjustGamma": {"gamma": 2}, "CLAHE": {}, "Rerange": {}, "RGB2Gray": {}, "SegRescale": {"scale_factor": 0.5}}


@pytest.mark.parametrize("kind", [*RANDOM, *VOLUMES, *PLAIN])
def test_they_are_pure_functions_of_record_and_generator(record, volume, kind):
    before = volume if kind in VOLUMES else {**record, "image2": record["image"][:, ::-1].copy()}
    kept = copy.deepcopy(before)
    transform = build_transforms(({"type": kind, **{**RANDOM, **VOLUMES, **PLAIN}[kind]},))
    results = [transform(before, np.random.default_rng(seed)) for seed in (1, 1, *range(2, 12))]
    for name in ("image", "image2", "label"):
        if name in before:
            np.testing.assert_array_equal(results[0][name], results[1][name])
            np.testing.assert_array_equal(before[name], kept[name])
    assert before["meta"] == kept["meta"]
    assert all(result["label"].dtype == np.uint8 for result in results)
    different = {result["image"].tobytes() for result in results}
    assert len(different) > 1 if kind in {*RANDOM, *VOLUMES} - {"BioMedical3DPad"} else len(different) == 1
    if "image2" in before and kind not in PLAIN:
        # The second date goes the same way as the first.
        swapped = transform({**before, "image": before["image2"]}, np.random.default_rng(3))
        result = transform(before, np.random.default_rng(3))
        np.testing.assert_array_equal(result["image2"], swapped["image"])


def test_rotations_take_any_type_and_number_of_channels(record):
    rotate = RandomRotate(1.0, 30, pad_val=9, seg_pad_val=255)
    for image in (np.dstack([record["image"]] * 2), record["image"][..., :1], record["image"].astype(np.float32) / 7):
        result = rotate.apply({**record, "image": image}, 20.0)
        one = rotate.apply({**record, "image": np.ascontiguousarray(image[..., :1])}, 20.0)
        np.testing.assert_array_equal(result["image"][..., :1], one["image"])
        assert result["image"].dtype == image.dtype
        assert result["image"].shape == image.shape
        assert (result["image"][0, 0] == 9).all()
    wide = record["label"].astype(np.int32) + 70000
    several = np.eye(9, dtype=np.uint8)[record["label"]]
    result = rotate.apply({**record, "label": wide}, 20.0)["label"]
    plain = rotate.apply(record, 20.0)["label"]
    np.testing.assert_array_equal(np.where(plain == 255, 255, result - 70000), plain)
    layers = RandomRotate(1.0, 30, seg_pad_val=0).apply({**record, "label": several}, 20.0)["label"]
    np.testing.assert_array_equal(layers[..., 1] == 1, plain == 1)


def test_labels_of_several_classes_a_pixel_go_through(record):
    """A class for each number of the plain label, so that the layers must come out as that does."""
    steps = (
        {"type": "RandomResize", "scale": (90, 70), "ratio_range": (0.7, 2), "keep_ratio": True},
        {"type": "RandomCrop", "crop_size": (24, 30), "cat_max_ratio": 0.5},
        {"type": "RandomFlip"},
        {"type": "RandomRotFlip"},
        {"type": "RandomRotate", "prob": 0.5, "degree": 30, "seg_pad_val": 0},
        {"type": "RandomCutOut", "prob": 0.5, "n_holes": 2, "cutout_shape": (9, 5)},
        {"type": "Pad", "size": (40, 40), "seg_pad_val": 0},
    )
    layers = {**record, "label": np.stack([record["label"] == value for value in range(1, 4)], -1).astype(np.uint8)}
    # Class 0 is no layer, so a window that is mixed by the one count need not be by the other: without class 0.
    plain = {**record, "label": np.where(record["label"] == 0, 255, record["label"]).astype(np.uint8)}
    for seed in range(12):
        one = build_transforms(steps)(plain, np.random.default_rng(seed))
        other = build_transforms(steps)(layers, np.random.default_rng(seed))
        np.testing.assert_array_equal(one["image"], other["image"])
        assert other["label"].shape == (40, 40, 3)
        for layer in range(3):
            np.testing.assert_array_equal(other["label"][..., layer] == 1, one["label"] == layer + 1)


def test_classes_that_change_places_in_a_mirror(record, rng):
    flip = build_transforms(({"type": "RandomFlip", "prob": 1.0, "swap_seg_labels": ((1, 2),)},))
    edge = (record["label"] == 1).astype(np.uint8)
    result = flip({**record, "edge": edge}, rng)
    np.testing.assert_array_equal(result["label"] == 2, record["label"][:, ::-1] == 1)
    np.testing.assert_array_equal(result["edge"], edge[:, ::-1])  # edges are no classes
    layers = np.eye(4, dtype=np.uint8)[record["label"]]
    several = flip({**record, "label": layers}, rng)["label"]
    np.testing.assert_array_equal(several, np.eye(4, dtype=np.uint8)[result["label"]])


def test_images_of_one_channel_keep_it(record, rng):
    grey = {**record, "image": record["image"][..., :1]}
    for step in ({"type": "Resize", "scale": (40, 30)}, {"type": "AdjustGamma"}, {"type": "CLAHE"}, *LAST_AXIS):
        assert build_transforms((step,))(grey, rng)["image"].ndim == 3
    np.testing.assert_array_equal(
        resize_image(grey["image"], (30, 40))[..., 0], resize_image(record["image"], (30, 40))[..., 0]
    )


LAST_AXIS = ({"type": "RandomRotate", "prob": 1.0, "degree": 10}, {"type": "Pad", "size": (70, 90), "pad_val": 3})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"type": "RandomRotate", "prob": 2, "degree": 3}, "prob is 2; it must be a probability"),
        ({"type": "RandomRotate", "prob": True, "degree": 3}, "prob is True"),
        ({"type": "RandomRotate", "prob": 1, "degree": -3}, "degree is -3; one number must be positive"),
        ({"type": "RandomRotate", "prob": 1, "degree": (3, 1)}, r"degree is \(3, 1\); it must be \(lowest, highest\)"),
        ({"type": "RandomRotate", "prob": 1, "degree": 3, "center": 4}, "center is 4"),
        ({"type": "RandomRotate", "prob": 1, "degree": 3, "center": (1, 2), "auto_bound": True}, "no meaning"),
        ({"type": "RandomRotate", "prob": 1, "degree": 3, "pad_val": (1, None, 3)}, "pad_val"),
        ({"type": "RandomRotFlip", "seg_interpolation": "bilinar"}, "Did you mean bilinear"),
        ({"type": "RandomRotFlip", "flip_prob": -0.1}, "flip_prob is -0.1"),
        ({"type": "CLAHE", "clip_limit": "high"}, "clip_limit is 'high'"),
        ({"type": "CLAHE", "tile_grid_size": (8,)}, "tiles across"),
        ({"type": "Rerange", "min_value": 3, "max_value": 3}, "first below the second"),
        ({"type": "RGB2Gray", "out_channels": 0}, "out_channels is 0"),
        ({"type": "RGB2Gray", "weights": ()}, "a number for each channel"),
        ({"type": "RandomGrayscale", "channel_weights": (1, -1, 0)}, "sum must be positive"),
        ({"type": "AdjustGamma", "gamma": 0}, "gamma is 0"),
        ({"type": "SegRescale", "scale_factor": 0}, "scale_factor is 0"),
        ({"type": "RandomCutOut", "prob": 1, "n_holes": (3, 1), "cutout_shape": (4, 4)}, "fewest, most"),
        ({"type": "RandomCutOut", "prob": 1, "n_holes": 1}, "either cutout_shape or cutout_ratio"),
        ({"type": "RandomCutOut", "prob": 1, "n_holes": 1, "cutout_shape": (4, 0)}, r"\(width, height\)"),
        ({"type": "RandomCutOut", "prob": 1, "n_holes": 1, "cutout_ratio": (4, 1)}, "shares of the image's"),
        ({"type": "RandomCutOut", "prob": 1, "n_holes": 1, "cutout_ratio": (1, 1), "seg_fill_in": -1}, "seg_fill_in"),
        ({"type": "RandomMosaic", "prob": 1, "img_scale": (4, 4, 4)}, "img_scale"),
        ({"type": "RandomMosaic", "prob": 1, "center_ratio_range": (0.5, 3)}, "at least 0 and at most 2"),
        ({"type": "MixUp", "alpha": 0}, "alpha is 0"),
        ({"type": "MixUp", "label": "heavyer"}, "Did you mean heavier"),
        ({"type": "RandomDepthMix", "prob": None}, "prob is None"),
        ({"type": "LoadDepthAnnotation", "decode_backend": "nifty"}, "Did you mean nifti"),
        ({"type": "LoadDepthAnnotation", "depth_rescale_factor": 0}, "depth_rescale_factor is 0"),
        ({"type": "LoadBiomedicalData", "decode_backend": "nump"}, "Did you mean numpy"),
        ({"type": "BioMedical3DRandomCrop", "crop_shape": (4, 4)}, r"\(z, y, x\)"),
        ({"type": "BioMedical3DPad", "pad_shape": 0}, "pad_shape is 0"),
        ({"type": "BioMedical3DRandomFlip", "prob": 1, "axes": (0, 3)}, r"axes is \(0, 3\)"),
        ({"type": "BioMedicalGaussianNoise", "std": -1}, "not negative"),
        ({"type": "BioMedicalGaussianBlur", "sigma_range": (2, 1)}, "sigma_range"),
        ({"type": "BioMedicalRandomGamma", "gamma_range": 2}, "gamma_range is 2"),
        ({"type": "BioMedicalRandomGamma", "per_channel": True, "retain_stats": True}, "no meaning"),
        ({"type": "RandomApply", "transforms": ()}, "a list of transforms"),
        ({"type": "RandomApply", "transforms": ({"type": "MixUp"},)}, "put it by itself"),
        ({"type": "RandomApply", "transforms": ({"type": "RandomFlp"},)}, "Did you mean RandomFlip"),
        ({"type": "RandomChoice", "transforms": (ADD, CROP), "prob": (0.5, 0.4)}, "2 probabilities, together 1"),
        ({"type": "ConcatCDInput", "second_first": 1}, "second_first is 1"),
    ],
)
def test_bad_fields_say_what_is_wrong(fields, message):
    with pytest.raises(ConfigError, match=message):
        build_transforms((fields,))


def test_bad_records_are_named(record, volume, rng):
    floats = {**record, "image": record["image"].astype(np.float32)}
    for step in ({"type": "PhotoMetricDistortion"}, {"type": "AdjustGamma"}, {"type": "CLAHE"}):
        with pytest.raises(DataError, match=rf"{step['type']} works on images with .*x.png is float32 \[60, 80, 3\]"):
            build_transforms((step,))(floats, rng)
    with pytest.raises(DataError, match=r"works on volumes .* but x.png is \[60, 80, 3\]"):
        BioMedical3DPad(9)(record, rng)
    with pytest.raises(DataError, match="RandomDepthMix needs a depth"):
        RandomDepthMix(1.0)(record, rng)
    with pytest.raises(ConfigError, match="pad_val has 2 values, but images have 3 channels"):
        RandomRotate(1.0, 9, pad_val=(1, 2)).apply(record, 3.0)
    with pytest.raises(ConfigError, match=r"pad_val is \(300,\), but images are uint8"):
        build_transforms(({"type": "Pad", "size": 99, "pad_val": 300},))(record, rng)
    with pytest.raises(ConfigError, match="leaves nothing of a label"):
        SegRescale(0.001)(record, rng)
    with pytest.raises(DataError, match="has no second image"):
        build_transforms(({"type": "ConcatCDInput"},))(record, rng)
    for label in (None, record["label"].astype(np.float32), np.dstack([record["label"]] * 2)):
        with pytest.raises(DataError, match=r"GenerateEdge needs a label with one class a pixel, which x.png"):
            build_transforms(({"type": "GenerateEdge"},))({**record, "label": label}, rng)


def test_every_random_transform_has_its_halves_and_is_tested_here():
    kinds = {kind for kind in TRANSFORMS.values() if issubclass(kind, RandomTransform)}
    for kind in kinds:
        assert inspect.signature(kind.draw).parameters.keys() == {"self", "record", "rng"}
        assert list(inspect.signature(kind.apply).parameters)[:3] == ["self", "record", "params"]
    elsewhere = {"RandomCrop", "RandomFlip", "RandomResize", "RandomChoiceResize", "Albu", "RandomMosaic", "MixUp"}
    assert {kind.__name__ for kind in kinds} == {*RANDOM, *VOLUMES, *elsewhere, "RandomDepthMix"} - {"BioMedical3DPad"}
