"""Transforms of volumes against figures of the reference, by their statistics, and their files."""

import numpy as np
import pytest

from jaxseg.data import build_transforms
from jaxseg.data.nifti import write_nifti
from jaxseg.data.transforms.volumes import (
    BioMedical3DPad,
    BioMedical3DRandomCrop,
    BioMedical3DRandomFlip,
    BioMedicalGaussianBlur,
    BioMedicalGaussianNoise,
    BioMedicalRandomGamma,
    Box,
)
from jaxseg.errors import DataError
from transform_figures import COUNT, about, assert_equals, assert_uniform, drawn, given


def test_crops_of_volumes_equal_the_reference(reference_figures):
    box = Box(tuple(int(at) for at in reference_figures["volume_crop.params"]), (4, 5, 9))
    crop = BioMedical3DRandomCrop((4, 5, 9))
    assert_equals(reference_figures, "volume_crop", crop.apply(given(reference_figures, "volume"), box))
    assert crop.sizes((6, 8, 8)) == ((4, 5, 8),) * 2
    assert crop.sizes((8, 8)) == ((5, 8),) * 2


def test_borders_of_volumes_equal_the_reference(reference_figures, rng):
    pad = BioMedical3DPad((9, 11, 11), pad_val=-2.5, seg_pad_val=1)
    result = pad(given(reference_figures, "volume"), rng)
    assert_equals(reference_figures, "volume_pad", result, label=False)
    np.testing.assert_array_equal(result["label"][1:7, 1:9, 1:9], reference_figures["volume.label"])
    assert (result["label"] == 1).sum() == (reference_figures["volume.label"] == 1).sum() + 9 * 11 * 11 - 6 * 8 * 8
    assert pad.sizes((8, 12)) == ((11, 12),) * 2


@pytest.mark.parametrize("seed", range(3))
def test_flips_of_volumes_equal_the_reference(reference_figures, seed):
    axes = tuple(axis for axis, drawn in enumerate(reference_figures[f"volume_flip_{seed}.params"]) if drawn < 0.6)
    flip = BioMedical3DRandomFlip(0.6, (0, 1, 2), [(1, 2)])
    assert_equals(reference_figures, f"volume_flip_{seed}", flip.apply(given(reference_figures, "volume"), axes))


def test_noise_in_volumes_equals_the_reference(reference_figures):
    result = BioMedicalGaussianNoise().apply(
        given(reference_figures, "volume"), reference_figures["volume_noise.params"]
    )
    assert_equals(reference_figures, "volume_noise", result)


@pytest.mark.parametrize(
    ("case", "fields"),
    [
        ("volume_blur", {"prob_per_channel": 1.0}),
        ("volume_blur_once", {"prob_per_channel": 1.0, "different_sigma_per_channel": False}),
        ("volume_blur_alike", {"different_sigma_per_axis": False, "sigma_range": (0.7, 1.6)}),
    ],
)
def test_blurs_of_volumes_equal_the_reference(reference_figures, case, fields):
    class Replayed:
        def __init__(self, numbers):
            self.numbers = list(numbers)

        def random(self):
            return self.numbers.pop(0)

        def uniform(self, low, high):
            assert low <= self.numbers[0] <= high
            return self.numbers.pop(0)

    blur = BioMedicalGaussianBlur(prob=1.0, **fields)
    replayed = Replayed([0.0, *reference_figures[f"{case}.params"]])
    params = blur.draw(given(reference_figures, "volume"), replayed)
    assert replayed.numbers == []
    assert_equals(reference_figures, case, blur.apply(given(reference_figures, "volume"), params))


@pytest.mark.parametrize(
    ("case", "fields"),
    [
        ("volume_gamma", {}),
        ("volume_gamma_inverted", {"invert_image": True, "retain_stats": True}),
        ("volume_gamma_range", {"gamma_range": (0.4, 3.0)}),
        ("volume_gamma_channels", {"per_channel": True}),
    ],
)
def test_powers_of_volumes_equal_the_reference(reference_figures, case, fields):
    gammas = tuple(float(gamma) for gamma in reference_figures[f"{case}.params"])
    result = BioMedicalRandomGamma(**fields).apply(given(reference_figures, "volume"), gammas)
    assert_equals(reference_figures, case, result)


def test_boxes_hold_a_voxel_of_a_class_that_is_there(volume):
    boxes = drawn(BioMedical3DRandomCrop((3, 3, 3)), volume)
    classes = [set(np.unique(box.of(volume["label"]))) - {0} for box in boxes]
    assert all(classes)
    # Class 2 has fewer voxels than class 1, but is chosen as often; they lie apart.
    assert about(sum(2 in c for c in classes) / COUNT, 0.5)
    anywhere = drawn(BioMedical3DRandomCrop((3, 3, 3), keep_foreground=False), volume)
    assert {box.start for box in anywhere} == {(z, y, x) for z in range(4) for y in range(6) for x in range(6)}
    bare = {**volume, "label": np.zeros((6, 8, 8), np.uint8)}
    assert len({box.start for box in drawn(BioMedical3DRandomCrop((3, 3, 3)), bare)}) == 4 * 6 * 6


def test_axes_are_mirrored_by_themselves(volume):
    axes = drawn(BioMedical3DRandomFlip(0.3, (0, 2)), volume)
    assert about(sum(0 in a for a in axes) / COUNT, 0.3)
    assert about(sum(2 in a for a in axes) / COUNT, 0.3)
    assert about(sum(a == (0, 2) for a in axes) / COUNT, 0.09)
    assert not any(1 in a for a in axes)


def test_noise_has_the_asked_mean_and_spread(volume):
    noises = drawn(BioMedicalGaussianNoise(0.4, 2.0, 0.5), volume)
    some = [noise for noise in noises if noise is not None]
    assert about(len(some) / COUNT, 0.4)
    assert abs(np.mean(some) - 2) < 0.01
    spreads = np.array([noise.std() for noise in some])
    assert abs(spreads.mean() - 0.25) < 0.02
    assert spreads.min() < 0.01
    assert 0.45 < spreads.max() < 0.55


def test_blurs_are_drawn_for_channels_and_axes(volume):
    sigmas = drawn(BioMedicalGaussianBlur((0.5, 1.5), prob=0.5, prob_per_channel=0.4), volume)
    some = [s for s in sigmas if s]
    assert about(len(some) / COUNT, 0.5)
    assert about(np.mean([s[0] is not None for s in some]), 0.4, len(some))
    both = [s for s in some if None not in s]
    assert_uniform(np.ravel(both), 0.5, 1.5)
    assert all(s[0] != s[1] and len(set(s[0])) == 3 for s in both)
    alike = BioMedicalGaussianBlur(prob=1, prob_per_channel=1, different_sigma_per_channel=False)
    assert all(s[0] == s[1] for s in drawn(alike, volume, 20))


def test_powers_are_drawn_below_and_above_one(volume):
    powers = [p[0] for p in drawn(BioMedicalRandomGamma(0.5, (0.5, 2)), volume) if p]
    assert about(len(powers) / COUNT, 0.5)
    below = [power for power in powers if power < 1]
    assert about(len(below) / len(powers), 0.5, len(powers))
    assert_uniform(below, 0.5, 1)
    assert_uniform([power for power in powers if power >= 1], 1, 2)
    assert all(p[0] >= 1.2 for p in drawn(BioMedicalRandomGamma(1, (1.2, 2)), volume, 200))
    assert {len(p) for p in drawn(BioMedicalRandomGamma(1, per_channel=True), volume, 5)} == {2}


FILES = {
    "nifti": "LoadBiomedicalImageFromFile",
    "nifti_scaled": "LoadBiomedicalImageFromFile",
    "numpy": "LoadBiomedicalImageFromFile",
    "numpy_several": "LoadBiomedicalImageFromFile",
    "nifti_label": "LoadBiomedicalAnnotation",
    "numpy_label": "LoadBiomedicalAnnotation",
    "numpy_data": "LoadBiomedicalData",
}


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("case", FILES)
def test_files_read_as_the_reference_reads_them(reference_figures, tmp_path, case, turned):
    path = tmp_path / case
    path.write_bytes(reference_figures[f"{case}.file"].tobytes())
    more = {"with_seg": True} if case == "numpy_data" else {}
    config = {"type": FILES[case], "decode_backend": case.partition("_")[0], "to_xyz": turned, **more}
    meta = {"image_path": str(path), "label_path": str(path), "num_classes": 3, "ignore_index": 255}
    result = build_transforms((config,))({"meta": meta}, None)
    found = result["label" if "label" in case else "image"]
    wanted = reference_figures[f"{case}_{turned:d}.read"]
    # The reference writes a volume with a factor anew before it reads it, in 16 bits: that rounds.
    rounding = np.ptp(wanted) / 65535 if case == "nifti_scaled" else 0
    np.testing.assert_allclose(found, wanted.astype(np.float32), rtol=0, atol=rounding)
    assert found.dtype == (np.uint8 if "label" in case else np.float32)
    if more:
        np.testing.assert_array_equal(result["label"], reference_figures[f"{case}_{turned:d}.label"])


@pytest.fixture
def meta(tmp_path):
    return {
        "name": "scan",
        "image_path": str(tmp_path / "scan.nii.gz"),
        "label_path": str(tmp_path / "label.nii.gz"),
        "num_classes": 3,
        "ignore_index": 255,
    }


def test_volumes_are_read_with_their_axes_turned(reference_figures, meta, tmp_path):
    image, label = reference_figures["volume.image"], reference_figures["volume.label"]
    write_nifti(meta["image_path"], np.ascontiguousarray(image.transpose(2, 1, 0, 3)))
    write_nifti(meta["label_path"], label.transpose(2, 1, 0).astype(np.float32))
    load = ({"type": "LoadBiomedicalImageFromFile"}, {"type": "LoadBiomedicalAnnotation"})
    result = build_transforms(load)({"meta": meta}, None)
    np.testing.assert_array_equal(result["image"], image)
    np.testing.assert_array_equal(result["label"], label)
    assert (result["image"].dtype, result["label"].dtype) == (np.float32, np.uint8)
    assert result["meta"]["original_size"] == (6, 8, 8)
    turned = build_transforms([{**step, "to_xyz": True} for step in load])({"meta": meta}, None)
    np.testing.assert_array_equal(turned["image"], image.transpose(2, 1, 0, 3))
    np.testing.assert_array_equal(turned["label"], label.transpose(2, 1, 0))

    arrays = {**meta, "image_path": str(tmp_path / "a.npy"), "label_path": str(tmp_path / "b.npy")}
    np.save(arrays["image_path"], np.moveaxis(image, -1, 0).astype(np.float64))
    np.save(arrays["label_path"], label)
    result = build_transforms([{**step, "decode_backend": "numpy"} for step in load])({"meta": arrays}, None)
    np.testing.assert_array_equal(result["image"], image)
    np.testing.assert_array_equal(result["label"], label)

    one_file = {**meta, "image_path": str(tmp_path / "c.npy")}
    np.save(one_file["image_path"], np.concatenate([np.moveaxis(image, -1, 0), label[None]]))
    result = build_transforms(({"type": "LoadBiomedicalData", "with_seg": True},))({"meta": one_file}, None)
    np.testing.assert_array_equal(result["image"], image)
    np.testing.assert_array_equal(result["label"], label)
    assert "label" not in build_transforms(({"type": "LoadBiomedicalData"},))({"meta": one_file}, None)


def test_bad_volumes_are_named(reference_figures, meta, tmp_path):
    load = ({"type": "LoadBiomedicalImageFromFile"}, {"type": "LoadBiomedicalAnnotation"})

    def run(**fields):
        build_transforms(load)({"meta": {**meta, **fields}}, None)

    label = reference_figures["volume.label"].transpose(2, 1, 0)
    write_nifti(meta["image_path"], reference_figures["volume.image"][..., 0].transpose(2, 1, 0).copy())
    write_nifti(meta["label_path"], label[:-1].copy())
    with pytest.raises(DataError, match=r"label.nii.gz is 6x8x7, but its image .*scan.nii.gz is 6x8x8"):
        run()
    write_nifti(meta["label_path"], label + 1)
    with pytest.raises(DataError, match=r"label.nii.gz holds 3, but labels must be 0\.\.2"):
        run()
    write_nifti(meta["label_path"], label + np.float32(0.25))
    with pytest.raises(DataError, match=r"label.nii.gz holds .*, but labels are whole numbers"):
        run()
    with pytest.raises(DataError, match="has no label"):
        run(label_path=None)
    (tmp_path / "x.npy").write_bytes(b"no array")
    with pytest.raises(DataError, match=r"x.npy cannot be read as a NumPy file"):
        build_transforms(({"type": "LoadBiomedicalData"},))({"meta": {"image_path": str(tmp_path / "x.npy")}}, None)
    np.save(tmp_path / "x.npy", np.ones((4, 4)))
    with pytest.raises(DataError, match=r"x.npy has the shape \(4, 4\); it must hold channels"):
        build_transforms(({"type": "LoadBiomedicalData"},))({"meta": {"image_path": str(tmp_path / "x.npy")}}, None)
