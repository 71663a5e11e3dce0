"""Writes `fixtures/more_transforms.npz` and `fixtures/reference_transforms.json`: what MMSegmentation 1.2.2 makes.

Run with a Python that has mmsegmentation 1.2.2 (its compiled operators are not needed) and nibabel:

    python tests/data/make_transform_fixtures.py

Arrays are named `<case>.image`, `<case>.label` and `<case>.params`, as `make_fixtures.py` has them: images are RGB
here, though the reference works in BGR. Volumes are [z y x channels] here, and channels first in the reference.
"""

# The reference draws from numpy.random itself, and imports only after its operators are replaced.
# ruff: noqa: E402, NPY002

import gzip
import inspect
import io
import json
import sys
import tempfile
import unittest.mock
from pathlib import Path

sys.modules["mmcv._ext"] = unittest.mock.MagicMock()

import cv2
import mmcv.transforms as plain
import nibabel
import numpy as np
from make_fixtures import Recorder, picture, record
from mmseg.datasets import transforms as reference
from mmseg.datasets.transforms import transforms as module
from mmseg.registry import TRANSFORMS

FIXTURES = Path(__file__).parent / "fixtures"


def recorded(transform, given):
    """The result, and what was drawn for it, from both of the names that the reference has for numpy.random."""
    recorder = Recorder()
    with unittest.mock.patch.object(module, "random", recorder), unittest.mock.patch.object(
        module.np, "random", recorder
    ):  # fmt: skip
        result = transform(given)
    return result, recorder.drawn


def volume(seed=0, shape=(6, 8, 8), channels=2):
    rng = np.random.default_rng(seed)
    image = rng.normal(0, 1, (channels, *shape)).astype(np.float32)
    label = np.zeros(shape, np.uint8)
    label[1:3, 2:5, 1:4], label[4, 5:7, 5:7] = 1, 2
    return image, label


def volume_record(image, label):
    return {"img": image.copy(), "gt_seg_map": label.copy(), "img_shape": image.shape[1:], "img_path": "x"}


def main():
    out = {}
    out["opencv"] = np.array(cv2.__version__)
    image, label = picture(37, 53, 0)
    out["input.image"], out["input.label"] = image, label

    def keep(case, result, params=()):
        found = np.asarray(result["img"])
        out[f"{case}.image"] = np.ascontiguousarray(found[..., ::-1])
        out[f"{case}.label"] = result["gt_seg_map"]
        out[f"{case}.params"] = np.asarray(params, np.float64)

    plain_cases = {
        "clahe": reference.CLAHE(clip_limit=2.0, tile_grid_size=(4, 3)),
        "gamma_up": reference.AdjustGamma(gamma=1.7),
        "gamma_down": reference.AdjustGamma(gamma=0.6),
        "rerange": reference.Rerange(min_value=-1, max_value=1.5),
        "gray": reference.RGB2Gray(),
        "gray_weights": reference.RGB2Gray(out_channels=2, weights=(0.2, 0.5, 0.3)),
        "seg_rescale": reference.SegRescale(scale_factor=0.4),
        "center": plain.CenterCrop(crop_size=(30, 20)),
        "center_large": plain.CenterCrop(crop_size=(60, 20)),
        "grayscale": plain.RandomGrayscale(prob=1.0, keep_channels=True, channel_weights=(1.0, 2.0, 1.5)),
    }
    for case, transform in plain_cases.items():
        keep(case, transform(record(image, label)))

    rotations = {
        "rotate": {"degree": 40.0},
        "rotate_filled": {"degree": (10.0, 60.0), "pad_val": (99, 103, 106), "seg_pad_val": 7},
        "rotate_blue": {"degree": 90.0, "pad_val": 200},  # of one number OpenCV fills the first channel only
        "rotate_center": {"degree": 30.0, "center": (10.0, 20.5)},
        "rotate_bound": {"degree": 80.0, "auto_bound": True},
    }
    for case, fields in rotations.items():
        np.random.seed(3)
        result, drawn = recorded(reference.RandomRotate(prob=1.0, **fields), record(image, label))
        keep(case, result, drawn[1:])

    for seed in range(4):
        np.random.seed(seed)
        result, drawn = recorded(reference.RandomRotFlip(seed < 2, 1.0, degree=30), record(image, label))
        # An angle; or quarter turns and an axis.
        keep(f"rot_flip_{seed}", result, [drawn[1], -1, -1] if seed < 2 else [np.nan, *drawn[2:]])

    cuts = {
        "cut_shape": {"n_holes": 3, "cutout_shape": (12, 7)},
        "cut_shapes": {"n_holes": (2, 5), "cutout_shape": [(12, 7), (4, 20)], "fill_in": (9, 8, 7), "seg_fill_in": 255},
        "cut_ratio": {"n_holes": 2, "cutout_ratio": (0.4, 0.21), "seg_fill_in": 3},
    }
    for case, fields in cuts.items():
        np.random.seed(4)
        result, drawn = recorded(reference.RandomCutOut(prob=1.0, **fields), record(image, label))
        keep(case, result, drawn[1:])

    others = [picture(40, 30, 1), picture(20, 64, 2), picture(50, 50, 3)]
    for i, (other_image, other_label) in enumerate(others):
        out[f"other_{i}.image"], out[f"other_{i}.label"] = other_image, other_label
    for seed in range(3):
        np.random.seed(seed)
        given = record(image, label) | {"mix_results": [record(*other) for other in others]}
        mosaic = reference.RandomMosaic(prob=1.0, img_scale=(32, 40), pad_val=60, center_ratio_range=(0.4, 1.6))
        result, _ = recorded(mosaic, given)
        keep(f"mosaic_{seed}", result, [mosaic.center_x, mosaic.center_y])

    depth = cv2.resize(np.random.default_rng(1).integers(0, 10000, (6, 8)).astype(np.float32), (53, 37))
    for seed, scale in enumerate((0.001, 1.0)):
        np.random.seed(seed)
        out[f"depth_{seed}.label"] = depth * np.float32(scale)
        given = record(image, label) | {"gt_depth_map": out[f"depth_{seed}.label"], "depth_rescale_factor": scale}
        result, drawn = recorded(reference.RandomDepthMix(prob=1.0), given)
        keep(f"depth_mix_{seed}", result, drawn[1:])

    volumes(out)
    files(out)
    np.savez_compressed(FIXTURES / "more_transforms.npz", **out)
    names = {**plain.TRANSFORMS.module_dict, **TRANSFORMS.module_dict}
    fields = {name: defaults(names[name]) for name in sorted(names)}
    (FIXTURES / "reference_transforms.json").write_text(json.dumps(fields, indent=1) + "\n")
    size = (FIXTURES / "more_transforms.npz").stat().st_size
    print(f"{len(out)} arrays, {size} bytes, OpenCV {cv2.__version__}; {len(names)} transforms")


def defaults(kind):
    """The fields that a transform may leave out, with what they are then; and "..." for those it may not."""
    fields = inspect.signature(kind.__init__).parameters.values()
    return {
        field.name: "..." if field.default is field.empty else field.default
        for field in fields
        if field.name != "self" and field.kind not in (field.VAR_KEYWORD, field.VAR_POSITIONAL)
    }


def volumes(out):
    """The transforms of volumes."""
    image, label = volume()
    out["volume.image"], out["volume.label"] = np.moveaxis(image, 0, -1), label

    def keep(case, result, params=()):
        out[f"{case}.image"] = np.moveaxis(result["img"], 0, -1)
        out[f"{case}.label"] = result["gt_seg_map"]
        out[f"{case}.params"] = np.asarray(params, np.float64)

    np.random.seed(0)
    crop = reference.BioMedical3DRandomCrop(crop_shape=(4, 5, 9), keep_foreground=False)
    result, drawn = recorded(crop, volume_record(image, label))
    keep("volume_crop", result, drawn)

    pad = reference.BioMedical3DPad(pad_shape=(9, 11, 11), pad_val=-2.5, seg_pad_val=1)
    given = volume_record(image, label)
    pad._pad_img(given)  # the label comes out empty there
    keep("volume_pad", given)

    for seed in range(3):
        np.random.seed(seed)
        flip = reference.BioMedical3DRandomFlip(prob=0.6, axes=(0, 1, 2), swap_label_pairs=[(1, 2)])
        result, drawn = recorded(flip, volume_record(image, label))
        keep(f"volume_flip_{seed}", result, drawn)

    np.random.seed(1)
    result, drawn = recorded(
        reference.BioMedicalGaussianNoise(prob=1.0, mean=0.3, std=2.0), volume_record(image, label)
    )
    keep("volume_noise", result, np.moveaxis(drawn[2], 0, -1))

    blurs = {
        "volume_blur": {"prob_per_channel": 1.0},
        "volume_blur_once": {"prob_per_channel": 1.0, "different_sigma_per_channel": False},
        "volume_blur_alike": {"prob_per_channel": 0.5, "different_sigma_per_axis": False, "sigma_range": (0.7, 1.6)},
    }
    for case, fields in blurs.items():
        np.random.seed(2)
        result, drawn = recorded(reference.BioMedicalGaussianBlur(prob=1.0, **fields), volume_record(image, label))
        keep(case, result, drawn[1:])

    gammas = {
        "volume_gamma": {},
        "volume_gamma_inverted": {"invert_image": True, "retain_stats": True},
        "volume_gamma_range": {"gamma_range": (0.4, 3.0)},
    }
    for case, fields in gammas.items():
        np.random.seed(5)
        result, drawn = recorded(reference.BioMedicalRandomGamma(prob=1.0, **fields), volume_record(image, label))
        keep(case, result, drawn[2:])
    # The reference stops with per_channel, so each channel alone.
    results, params = [], []
    for channel in range(2):
        given = volume_record(image[channel : channel + 1], label)
        result, drawn = recorded(reference.BioMedicalRandomGamma(prob=1.0), given)
        results.append(result["img"])
        params.append(drawn[2])
    keep("volume_gamma_channels", {**result, "img": np.concatenate(results)}, params)


def files(out):
    """What the reference reads in files; the files themselves are kept, too."""
    rng = np.random.default_rng(9)
    volume, label = rng.integers(-500, 500, (4, 3, 2)).astype(np.int16), rng.integers(0, 3, (4, 3, 2)).astype(np.uint8)
    image = nibabel.Nifti1Image(volume, np.eye(4))
    image.header.set_slope_inter(0.5, 3)
    packed = {
        "nifti": gzip.compress(nibabel.Nifti1Image(volume, np.eye(4)).to_bytes(), mtime=0),
        "nifti_scaled": gzip.compress(image.to_bytes(), mtime=0),
        "nifti_label": gzip.compress(nibabel.Nifti1Image(label, np.eye(4)).to_bytes(), mtime=0),
    }
    contents = {
        "numpy": volume.astype(np.float64) / 3,
        "numpy_several": rng.normal(size=(2, 4, 3, 2)),
        "numpy_label": label,
        "numpy_data": np.concatenate([rng.normal(size=(2, 4, 3, 2)), label[None]]),
    }
    for name, array in contents.items():
        buffer = io.BytesIO()
        np.save(buffer, array)
        packed[name] = buffer.getvalue()
    packed["depth"] = cv2.imencode(".png", rng.integers(0, 2**16, (5, 7)).astype(np.uint16))[1].tobytes()
    with tempfile.TemporaryDirectory() as folder:
        for name, content in packed.items():
            out[f"{name}.file"] = np.frombuffer(content, np.uint8)
            (Path(folder) / name).write_bytes(content)

        def run(kind, name, **fields):
            path = str(Path(folder) / name)
            keys = ("img_path", "seg_map_path", "depth_map_path")
            return getattr(reference, kind)(**fields)(dict.fromkeys(keys, path) | {"seg_fields": []})

        for turned in (False, True):
            for name, backend in (
                ("nifti", "nifti"),
                ("nifti_scaled", "nifti"),
                ("numpy", "numpy"),
                ("numpy_several", "numpy"),
            ):
                result = run("LoadBiomedicalImageFromFile", name, decode_backend=backend, to_xyz=turned)
                out[f"{name}_{turned:d}.read"] = np.moveaxis(result["img"], 0, -1)
            for name, backend in (("nifti_label", "nifti"), ("numpy_label", "numpy")):
                result = run("LoadBiomedicalAnnotation", name, decode_backend=backend, to_xyz=turned)
                out[f"{name}_{turned:d}.read"] = result["gt_seg_map"]
            result = run("LoadBiomedicalData", "numpy_data", with_seg=True, to_xyz=turned)
            out[f"numpy_data_{turned:d}.read"] = np.moveaxis(result["img"], 0, -1)
            out[f"numpy_data_{turned:d}.label"] = result["gt_seg_map"]
        out["depth.read"] = run("LoadDepthAnnotation", "depth", depth_rescale_factor=1e-3)["gt_depth_map"]


if __name__ == "__main__":
    main()
