"""Writes `fixtures/transforms.npz`: what MMSegmentation 1.2.2 makes of small pictures.

Run with a Python that has mmsegmentation 1.2.2 (its compiled operators are not needed):

    python tests/data/make_fixtures.py

Arrays are named `<case>.image`, `<case>.label` and `<case>.params`; images are RGB here, though the reference
works in BGR. `params` are the numbers that the reference drew, in our order.
"""

# The reference draws from numpy.random itself, and imports only after its operators are replaced.
# ruff: noqa: E402, NPY002

import io
import sys
import unittest.mock
from pathlib import Path

sys.modules["mmcv._ext"] = unittest.mock.MagicMock()

import cv2
import mmcv
import numpy as np
from mmcv.transforms import Pad, RandomChoiceResize, RandomFlip, RandomResize
from mmengine.registry import init_default_scope
from mmseg.datasets import transforms as reference
from mmseg.datasets.transforms import transforms as reference_module
from PIL import Image

RANDOM = np.random
OUT = Path(__file__).parent / "fixtures" / "transforms.npz"


def picture(height, width, seed):
    """A picture with edges, gradients and some noise (RGB), and a label of blocks."""
    rng = np.random.default_rng(seed)
    image = cv2.resize(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8), (width, height), interpolation=cv2.INTER_CUBIC)
    image[height // 3 : height // 2, :, 1] = 250
    image[::7, ::5] = rng.integers(0, 256, 3)
    label = cv2.resize(rng.integers(0, 5, (6, 8), dtype=np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
    label[: height // 5] = 255
    return image, label


def record(image, label):
    return {"img": image[..., ::-1].copy(), "gt_seg_map": label.copy(), "seg_fields": ["gt_seg_map"],
            "img_shape": image.shape[:2]}  # fmt: skip


class Recorder:
    """numpy.random, with a note of everything drawn."""

    def __init__(self):
        self.drawn = []

    def __getattr__(self, name):
        def draw(*args, **kwargs):
            value = getattr(RANDOM, name)(*args, **kwargs)
            self.drawn.append(value)
            return value

        return draw


def distortion_params(drawn):
    """brightness, contrast, contrast first, saturation, hue; NaN for a step left out."""
    rest = list(drawn)

    def maybe():
        return rest.pop(0) if rest.pop(0) else np.nan

    brightness = maybe()
    first = rest.pop(0)
    contrast = maybe() if first else None
    saturation, hue = maybe(), maybe()
    if not first:
        contrast = maybe()
    assert not rest
    return np.array([brightness, contrast, first, saturation, hue], np.float64)


def main():
    init_default_scope("mmseg")  # where RandomChoiceResize finds the transform to resize with
    out = {}

    def keep(case, result, params=()):
        out[f"{case}.image"] = result["img"][..., ::-1]
        out[f"{case}.label"] = result["gt_seg_map"]
        out[f"{case}.params"] = np.asarray(params, np.float64)

    image, label = picture(37, 53, 0)
    out["input.image"], out["input.label"] = image, label

    resizes = {
        "resize_plain": {"scale": (40, 61)},
        "resize_keep": {"scale": (90, 50), "keep_ratio": True},
        "resize_factor": {"scale_factor": 0.7},
        "resize_factor_keep": {"scale_factor": (1.3, 0.9), "keep_ratio": True},
    }
    for case, fields in resizes.items():
        keep(case, reference.Resize(**fields)(record(image, label)))

    shortest_edges = {
        "shortest_edge": {"scale": 61, "max_size": 200},
        "shortest_edge_pair": {"scale": (45, 29), "max_size": 200},
        "shortest_edge_bound": {"scale": 48, "max_size": 60},
    }
    for case, fields in shortest_edges.items():
        keep(case, reference.ResizeShortestEdge(**fields)(record(image, label)))
    upright = image.transpose(1, 0, 2), label.T
    keep("shortest_edge_upright", reference.ResizeShortestEdge(48, 60)(record(*upright)))

    for divisor in (16, 32):
        keep(f"multiple_{divisor}", reference.ResizeToMultiple(size_divisor=divisor)(record(image, label)))
    # As for evaluation: what is loaded later keeps its size.
    keep("multiple_image", reference.ResizeToMultiple()(record(image, label) | {"seg_fields": []}))

    choices = {
        "choice_plain": {"scales": [(40, 61), (90, 50)]},
        "choice_keep": {"scales": [(40, 61), (90, 50), (53, 20)], "keep_ratio": True},
        "choice_edge": {"scales": [20, 45, 61, 90], "resize_type": "ResizeShortestEdge", "max_size": 100},
    }
    for case, fields in choices.items():
        for seed in range(2):
            np.random.seed(seed)
            result = RandomChoiceResize(**fields)(record(image, label))
            keep(f"{case}_{seed}", result, [result["scale_idx"]])

    for seed in range(4):
        np.random.seed(seed)
        transform = RandomResize(scale=(53, 37), ratio_range=(0.5, 2.0), keep_ratio=True)
        result = transform(record(image, label))
        keep(f"random_resize_{seed}", result, result["scale"])
        resized = {
            "img": result["img"].copy(),
            "gt_seg_map": result["gt_seg_map"].copy(),
            "seg_fields": ["gt_seg_map"],
        }
        recorder = Recorder()
        with unittest.mock.patch.object(reference_module.np, "random", recorder):
            crop = reference.RandomCrop(crop_size=(30, 28))(resized)
        keep(f"random_crop_{seed}", crop, [*result["scale"], *recorder.drawn])

    for direction in ("horizontal", "vertical", "diagonal"):
        flip = RandomFlip(prob=1.0, direction=direction, swap_seg_labels=[(1, 2)])
        keep(f"flip_{direction}", flip(record(image, label)))

    for case, fields in {"pad_size": {"size": (64, 48)}, "pad_divisor": {"size_divisor": 16}}.items():
        keep(case, Pad(pad_val={"img": (99, 103, 106), "seg": 255}, **fields)(record(image, label)))

    for seed in range(8):
        np.random.seed(seed + 100)
        recorder = Recorder()
        with unittest.mock.patch.object(reference_module, "random", recorder):
            result = reference.PhotoMetricDistortion()(record(image, label))
        keep(f"distortion_{seed}", result, distortion_params(recorder.drawn))

    # How the reference decides whether a window is mixed enough: its choice, then the windows it tried.
    np.random.seed(5)
    recorder = Recorder()
    with unittest.mock.patch.object(reference_module.np, "random", recorder):
        crop = reference.RandomCrop(crop_size=(16, 16), cat_max_ratio=0.35)
        box = crop.crop_bbox(record(image, label))
    out["crop_choice.params"] = np.array([box[0], box[2], *recorder.drawn], np.float64)

    for case, content in encoded_files().items():
        decoded = mmcv.imfrombytes(content, flag="color", channel_order="rgb", backend="cv2")
        out[f"{case}.file"] = np.frombuffer(content, np.uint8)
        out[f"{case}.decoded"] = decoded
    OUT.parent.mkdir(exist_ok=True)
    np.savez_compressed(OUT, **out)
    print(f"{OUT}: {len(out)} arrays, {OUT.stat().st_size} bytes, OpenCV {cv2.__version__}")


def encoded_files():
    """One small picture in several file formats."""
    small, _ = picture(18, 26, 3)
    pictures = {
        "jpeg": (Image.fromarray(small), {"format": "JPEG", "quality": 95}),
        "png": (Image.fromarray(small), {"format": "PNG"}),
        "png_grey": (Image.fromarray(small).convert("L"), {"format": "PNG"}),
        "png_palette": (Image.fromarray(small).quantize(16), {"format": "PNG"}),
        "png_alpha": (Image.fromarray(np.dstack([small, small[..., :1]])), {"format": "PNG"}),
        "tiff": (Image.fromarray(small), {"format": "TIFF"}),
        "bmp": (Image.fromarray(small), {"format": "BMP"}),
    }
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    pictures["jpeg_turned"] = (Image.fromarray(small), {"format": "JPEG", "quality": 95, "exif": exif})
    files = {}
    for case, (image, options) in pictures.items():
        buffer = io.BytesIO()
        image.save(buffer, **options)
        files[case] = buffer.getvalue()
    return files


if __name__ == "__main__":
    main()
