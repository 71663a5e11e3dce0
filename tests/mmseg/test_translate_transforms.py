"""Transforms of MMSegmentation's configs as ours: the same picture comes out, or it is said why none can."""

import sys

import numpy as np
import pytest

from jaxseg.data import build_transforms
from jaxseg.data.transforms import NOT_NEEDED, albu
from jaxseg.errors import ConfigError
from jaxseg.mmseg.fields import Fields
from jaxseg.mmseg.translate_transforms import mixing_fields, translate_transforms
from transform_figures import FIXTURES, assert_equals, assert_rotated


def translate(*configs, ignored=None):
    ignored = {} if ignored is None else ignored
    return translate_transforms([Fields(c, f"pipeline[{i}]", ignored) for i, c in enumerate(configs)], False)


@pytest.fixture(scope="module")
def figures():
    with np.load(FIXTURES / "more_transforms.npz") as arrays:
        return dict(arrays)


@pytest.mark.parametrize(
    ("case", "config", "params"),
    [
        ("clahe", {"type": "CLAHE", "clip_limit": 2.0, "tile_grid_size": (4, 3)}, None),
        ("gamma_up", {"type": "AdjustGamma", "gamma": 1.7}, None),
        ("rerange", {"type": "Rerange", "min_value": -1, "max_value": 1.5}, None),
        ("gray", {"type": "RGB2Gray"}, None),
        ("gray_weights", {"type": "RGB2Gray", "out_channels": 2, "weights": (0.2, 0.5, 0.3)}, None),
        ("seg_rescale", {"type": "SegRescale", "scale_factor": 0.4}, None),
        ("center", {"type": "CenterCrop", "crop_size": (30, 20)}, None),
        (
            "grayscale",
            {"type": "RandomGrayscale", "prob": 1.0, "keep_channels": True, "channel_weights": [1.0, 2.0, 1.5]},
            True,
        ),
        ("rotate_blue", {"type": "RandomRotate", "prob": 1.0, "degree": 90.0, "pad_val": 200}, float),
        (
            "rotate_filled",
            {
                "type": "RandomRotate", "prob": 1, "degree": (10.0, 60.0), "pad_val": (99, 103, 106), "seg_pad_val": 7,
            },
            float,
        ),
    ],
)  # fmt: skip
def test_translated_transforms_equal_the_reference(figures, case, config, params):
    (translated,) = translate(config)
    transform = build_transforms((translated,)).steps[0]
    record = {"image": figures["input.image"], "label": figures["input.label"], "meta": {}}
    if params is None:
        result = transform(record, np.random.default_rng(0))
    else:
        result = transform.apply(record, params(figures[f"{case}.params"][0]) if params is float else params)
    (assert_rotated if "rotate" in case else assert_equals)(figures, case, result)


@pytest.mark.parametrize(
    ("config", "wanted"),
    [
        ({"type": "RandomRotFlip", "degree": 20}, {"seg_interpolation": "bilinear", "degree": 20}),
        (
            {"type": "RandomCutOut", "prob": 1, "n_holes": 2, "cutout_shape": [(4, 8)], "fill_in": (1, 2, 3)},
            {"prob": 1, "n_holes": 2, "cutout_shape": ((4, 8),), "fill_in": (3, 2, 1)},
        ),
        ({"type": "RandomMosaic", "prob": 1, "pad_val": 114}, {"prob": 1, "pad_val": 114}),
        ({"type": "LoadMultipleRSImageFromFile", "to_float32": True}, {}),
        ({"type": "LoadSingleRSImageFromFile"}, {}),
        ({"type": "ConcatCDInput"}, {}),
        ({"type": "ConcatCDInput", "input_keys": ("img2", "img")}, {"second_first": True}),
        ({"type": "LoadDepthAnnotation", "depth_rescale_factor": 1e-3}, {"depth_rescale_factor": 1e-3}),
        ({"type": "LoadBiomedicalAnnotation", "to_float32": True, "to_xyz": True}, {"to_xyz": True}),
        ({"type": "BioMedical3DRandomCrop", "crop_shape": (4, 8, 8)}, {"crop_shape": (4, 8, 8)}),
        ({"type": "BioMedicalRandomGamma", "gamma_range": (0.7, 1.5)}, {"gamma_range": (0.7, 1.5)}),
        ({"type": "RandomDepthMix", "prob": 0.25}, {"prob": 0.25}),
    ],
)
def test_fields_become_ours(config, wanted):
    assert translate(config) == ({"type": config["type"], **wanted},)


def test_one_may_become_several_or_none():
    crop = {"type": "CenterCrop", "crop_size": (30, 20), "auto_pad": True, "pad_cfg": {"type": "Pad", "pad_val": 7}}
    assert translate(crop) == (
        {"type": "Pad", "size": (20, 30), "pad_val": 7, "seg_pad_val": 255},
        {"type": "CenterCrop", "crop_size": (20, 30)},
    )
    ignored = {}
    gray, flip = {"type": "RGB2Gray"}, {"type": "RandomFlip", "prob": 0.5}
    both = translate({"type": "Compose", "transforms": [gray, flip]}, {"type": "PackSegInputs"}, ignored=ignored)
    assert [config["type"] for config in both] == ["RGB2Gray", "RandomFlip"]
    assert ignored == {"pipeline[1]": "batches are put together without PackSegInputs"}
    assert [translate({"type": kind})[0] for kind in ("LoadImageFromNDArray", "InferencerLoader")] == [
        {"type": "LoadImage"}
    ] * 2


def test_those_that_hold_others():
    flip, crop = {"type": "RandomFlip", "prob": 0.5}, {"type": "CenterCrop", "crop_size": (30, 20)}
    ours = {"type": "CenterCrop", "crop_size": (20, 30)}
    assert translate({"type": "RandomApply", "transforms": [flip, crop], "prob": 0.3}) == (
        {"type": "RandomApply", "transforms": (flip, ours), "prob": 0.3},
    )
    choice = {"type": "RandomChoice", "transforms": [[flip, crop], [crop]], "prob": [0.25, 0.75]}
    wanted = {"type": "RandomChoice", "transforms": ((flip, ours), (ours,)), "prob": (0.25, 0.75)}
    assert translate(choice) == (wanted,)
    with pytest.raises(ConfigError, match=r"pipeline\[0\].transforms\[0\]\[1\].crop_sise=4 has no counterpart"):
        translate({"type": "RandomChoice", "transforms": [[flip, {**crop, "crop_sise": 4}]]})


def test_albumentations_are_kept_as_they_are_with_and_without_the_package(monkeypatch):
    config = {"type": "Albu", "transforms": [{"type": "RandomGamma", "p": 0.2}], "update_pad_shape": False}
    wanted = ({"type": "Albu", "transforms": ({"type": "RandomGamma", "p": 0.2},)},)
    monkeypatch.setitem(sys.modules, "albumentations", None)
    albu._built.cache_clear()
    assert translate(config) == wanted
    with pytest.raises(ConfigError, match="needs the package albumentations"):
        build_transforms(wanted)
    monkeypatch.delitem(sys.modules, "albumentations")
    assert translate(config) == wanted


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"type": "RandomRotate", "prob": 2, "degree": 3}, r"pipeline\[0\]: RandomRotate.prob is 2"),
        ({"type": "RandomRotate", "prob": 1, "degree": 3, "angel": 3}, r"pipeline\[0\].angel=3 has no counterpart"),
        ({"type": "RandomRotat", "prob": 1}, "Did you mean RandomRotate"),
        ({"type": "RandomGrayscale"}, "keep_channels=False has no counterpart"),
        ({"type": "RandomGrayscale", "keep_channels": True, "color_format": "hsv"}, "color_format='hsv'"),
        ({"type": "ConcatCDInput", "input_keys": ("img", "img3")}, "must be 'img' and 'img2'"),
        ({"type": "LoadBiomedicalImageFromFile", "to_float32": False}, "to_float32=False has no counterpart"),
        ({"type": "Albu", "transforms": [], "keymap": {"img": "picture"}}, "keymap="),
        *(({"type": kind}, "has no counterpart here: ") for kind in NOT_NEEDED if kind in ("KeyMapper", "Normalize")),
    ],
)
def test_what_cannot_be_is_named(config, message):
    with pytest.raises(ConfigError, match=message):
        translate(config)


def test_mixing_wrappers():
    mosaic, flip = {"type": "RandomMosaic", "prob": 1.0}, {"type": "RandomFlip", "prob": 0.5}

    def read(**fields):
        return [inner.peek("type") for inner in mixing_fields(Fields(fields, "train.dataset", {}))]

    assert read(pipeline=[mosaic, flip]) == ["RandomMosaic", "RandomFlip"]
    assert read(pipeline=[flip, mosaic], skip_type_keys=["RandomFlip"]) == ["RandomMosaic"]
    with pytest.raises(ConfigError, match=r"train.dataset.pipeline\[1\]: a RandomMosaic must be the first"):
        read(pipeline=[flip, mosaic])
