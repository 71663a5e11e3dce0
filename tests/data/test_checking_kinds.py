"""The check of data sets of every kind, of any bytes, and of many files."""

import shutil
import time

import cv2
import numpy as np
import pytest
from PIL import Image

from checked_sets import CLASSES, LOAD, Harmed, check, kinds, only, recipe
from jaxseg.data import build_source, write_demo
from jaxseg.data.checking import look_at
from jaxseg.data.checking.look import loading_steps
from jaxseg.data.checking.report import write_check
from jaxseg.data.transforms import build_transforms


@pytest.fixture
def folder(tmp_path):
    return write_demo(tmp_path / "set", train=12, val=4, size=(56, 72))


def test_several_data_sets_in_a_part(folder, tmp_path):
    other = write_demo(tmp_path / "other", train=6, val=4, size=(56, 72), seed=1)
    (folder / "annotations/train/train_00003.png").unlink()
    (other / "annotations/train/train_00002.png").write_bytes(b"")
    train = {"transforms": LOAD, "sources": ({"root": str(folder)}, {"root": str(other), "weight": 3.0})}
    checked = check(folder, ("train",), train=train)
    part = checked.parts["train"]
    assert len(part.looks) == 11 + 6 < len(part.source)
    assert {(f.kind, f.file) for f in checked.findings if f.severity == "error"} == {
        ("image_without_mask", str(folder / "images/train/train_00003.png")),
        ("unreadable", str(other / "annotations/train/train_00002.png")),
    }


def test_masks_of_colours(folder):
    colours = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0], [255, 0, 255]], np.uint8)
    for path in (folder / "annotations" / "train").iterdir():
        Image.fromarray(colours[np.array(Image.open(path))]).save(path)
    fields = {"mask_colors": {" ".join(map(str, colour)): index for index, colour in enumerate(colours)}}
    assert not check(folder, ("train",), **fields).findings
    path = Harmed(folder).change("mask", 4, lambda m: np.where(m == 255, 250, m).astype(np.uint8))
    (finding,) = only(check(folder, ("train",), **fields), "values")
    assert finding.file == str(path)
    assert "#fa" in finding.value
    assert "data.mask_colors" in finding.fix


def test_a_file_a_class(folder):
    for path in (folder / "annotations" / "train").iterdir():
        mask = np.array(Image.open(path))
        for index, name in enumerate(CLASSES):
            place = folder / name / "train" / path.name
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(((mask == index) * 255).astype(np.uint8)).save(place)
    fields = {"masks": "multi-label", "label_dir": "{class}/{split}"}
    checked = check(folder, ("train",), **fields)
    assert not checked.findings
    assert [row["images"] > 0 for row in checked.parts["train"].statistics["classes"]] == [True] * 6
    (folder / "ring" / "train" / "train_00002.png").write_bytes(b"no picture")
    (finding,) = check(folder, ("train",), **fields).findings
    assert finding.kind == "unreadable"
    assert finding.file == str(folder / "ring/train/train_00002.png")


def test_two_images_a_mask(folder):
    shutil.copytree(folder / "images", folder / "images2")
    for path in (folder / "annotations" / "train").iterdir():
        Image.fromarray((np.array(Image.open(path)) > 2).astype(np.uint8)).save(path)
    load = ({"type": "LoadMultipleRSImageFromFile"}, {"type": "LoadAnnotations"})
    fields = {"dataset": "FolderCDDataset", "classes": ("same", "changed")}
    fields["train"] = {"split": "train", "split_file": None, "transforms": load}
    assert not kinds(check(folder, ("train",), **fields)) - {"background_only", "dominant_class"}
    second = folder / "images2/train/train_00003.png"
    second.write_bytes(second.read_bytes()[:300])
    (finding,) = only(check(folder, ("train",), **fields), "unreadable")
    assert finding.file == str(second)
    Harmed(folder).change("mask", 5, lambda m: m[:-1])
    (finding,) = only(check(folder, ("train",), **fields), "size_mismatch")
    assert finding.value == "mask 55x72, image 56x72"


def test_whatever_bytes_a_file_has_the_check_goes_on(folder):
    """Files with bytes turned, cut, repeated: what can't be loaded is a finding, and nothing else happens."""
    rng = np.random.default_rng(0)
    for number in range(12):
        for kind, suffix in (("image", ".png"), ("mask", ".tif")):
            path = Harmed(folder).path(kind, number)
            with Image.open(path) as picture:
                picture.save(path.with_suffix(suffix))
            if suffix != ".png":
                path.unlink()
            content = bytearray(path.with_suffix(suffix).read_bytes())
            for place in rng.integers(0, len(content), 1 + number):
                content[place] = rng.integers(256)
            path.with_suffix(suffix).write_bytes(bytes(content[: len(content) - 17 * (number % 3)]))
    checked = check(folder, ("train",))
    assert len(checked.parts["train"].looks) == 12
    assert sum(look.problem is not None for look in checked.parts["train"].looks) >= 6
    assert write_check(checked, folder / "out", "fuzz").is_file()


@pytest.mark.slow
def test_ten_thousand_records_take_two_cores_less_than_a_minute(tmp_path):
    """Photos of 512x512 with as much detail that their JPEGs have 80 kB or more, and masks of blobs."""
    rng = np.random.default_rng(0)
    for kind in ("images", "annotations"):
        (tmp_path / kind / "train").mkdir(parents=True)
    for number in range(100):
        image = cv2.resize(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8), (512, 512), interpolation=cv2.INTER_CUBIC)
        image = np.clip(image + rng.normal(0, 8, image.shape), 0, 255).astype(np.uint8)
        label = cv2.resize(rng.integers(0, 6, (16, 16), dtype=np.uint8), (512, 512), interpolation=cv2.INTER_NEAREST)
        path = tmp_path / "images/train" / f"{number}.jpg"
        cv2.imwrite(str(path), image, [cv2.IMWRITE_JPEG_QUALITY, 90])
        cv2.imwrite(str(tmp_path / "annotations/train" / f"{number}.png"), label)
    assert path.stat().st_size > 80_000
    source = build_source(recipe(tmp_path)["data"], "train")
    steps = loading_steps(build_transforms(LOAD))
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        began = time.process_time()
        for index in range(100):
            assert look_at(source, index, steps).problem is None
        seconds = time.process_time() - began
    finally:
        cv2.setNumThreads(threads)
    assert seconds / 100 < 2 * 60 / 10_000  # 6 ms measured
