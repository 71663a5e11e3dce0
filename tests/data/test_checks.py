"""The look at the data before training: all that is wrong, in one message, before the first step."""

import time

import numpy as np
import pytest
from PIL import Image

from jaxseg.data import build_source, check_source
from jaxseg.data.demo import DemoSource
from jaxseg.errors import DataError

LOAD = ({"type": "LoadImage"}, {"type": "LoadAnnotations"})
RESIZE = {"type": "RandomResize", "scale": (48, 40), "ratio_range": (0.5, 2.0), "keep_ratio": True}


def crop(height, width):
    return {"type": "RandomCrop", "crop_size": (height, width)}


def test_all_problems_are_in_one_message(folder, make_config):
    images, masks = folder / "images/train", folder / "annotations/train"
    (images / "train_00000.png").write_bytes(b"")
    cut = images / "train_00001.png"
    cut.write_bytes(cut.read_bytes()[:200])
    Image.new("L", (7, 5)).save(masks / "train_00002.png")
    Image.new("RGB", (48, 40), (1, 2, 3)).save(masks / "train_00003.png")
    Image.new("L", (48, 40), 77).save(masks / "train_00004.png")
    source = build_source(make_config(folder), "train")
    with pytest.raises(DataError) as raised:
        check_source(source, LOAD)
    message = str(raised.value)
    assert "5 problem(s) in 10 of 10 files" in message
    for number, text in enumerate(("empty", "cut short", "5x7", "colour picture", "holds 77")):
        line = next(line for line in message.splitlines() if f"train_0000{number}.png" in line)
        assert text in line


def test_at_most_ten_are_listed(folder, make_config):
    for path in (folder / "images/train").iterdir():
        path.write_bytes(b"")
    source = build_source(make_config(folder), "train")
    source_and_more = DemoSource("train", 3, (40, 48))
    assert check_source(source_and_more, LOAD)
    with pytest.raises(DataError, match="10 problem"):
        check_source(source, (*LOAD, crop(8, 8)))
    with pytest.raises(DataError, match=r"4 problem.*4 of 10 files"):
        check_source(source, LOAD, limit=4)


@pytest.mark.parametrize(
    "transforms",
    [
        (crop(40, 48),),
        (RESIZE, crop(20, 24)),
        (RESIZE, crop(64, 64), {"type": "Pad", "size": (64, 64)}),
        (RESIZE, crop(64, 64), {"type": "RandomFlip"}, {"type": "Pad", "size": 64}),
        ({"type": "Resize", "scale": (64, 64)}, crop(64, 64)),
        ({"type": "RandomFlip"},),
    ],
)
def test_pipelines_that_make_batches(transforms):
    notes = check_source(DemoSource("train", 4, (40, 48)), (*LOAD, *transforms))
    assert "4 of 4 files read, images of 40x48" in notes[0]


@pytest.mark.parametrize(
    ("transforms", "message"),
    [
        ((RESIZE, crop(21, 24)), r"\(21, 24\) \(h, w\) is larger than 4 of 4 images can be.*\(20, 24\) and \(80, 96\)"),
        ((RESIZE, crop(100, 100)), r"\(100, 100\) \(h, w\) is larger than every image after.*'size': \(100, 100\)"),
        ((crop(50, 20), {"type": "Pad", "size": (30, 30)}), "reduce crop_size"),
        ((RESIZE,), r"between \(20, 24\) and \(80, 96\).*RandomCrop"),
    ],
)
def test_pipelines_that_cannot(transforms, message):
    with pytest.raises(DataError, match=message):
        check_source(DemoSource("train", 4, (40, 48)), (*LOAD, *transforms))


def test_evaluation_pipelines_may_give_many_sizes(folder, make_config):
    for kind in ("images", "annotations"):
        path = folder / kind / "val/val_00002.png"
        Image.open(path).crop((0, 0, 30, 20)).save(path)
    source = build_source(make_config(folder), "val")
    notes = check_source(source, LOAD)
    assert "40x48, 20x30" in notes[0]
    with pytest.raises(DataError, match=r"larger than 1 of 5 images"):
        check_source(source, (*LOAD, crop(32, 32)))


def test_masks_of_0_and_255(folder, make_config):
    for path in (folder / "annotations/val").iterdir():
        mask = np.array(Image.open(path))
        Image.fromarray(np.where(mask > 0, 255, 0).astype(np.uint8)).save(path)
    data = make_config(folder, classes=("nothing", "thing"))
    with pytest.raises(DataError, match=r"no pixel of 'thing'.*label_map \{255: 1\}"):
        check_source(build_source(data, "val"), LOAD)
    data = make_config(folder, classes=("nothing", "thing"), label_map={"255": 1})
    assert len(check_source(build_source(data, "val"), LOAD)) == 1


def test_absent_classes_are_noted(folder, make_config):
    data = make_config(folder, classes=("a", "b", "c", "d", "e", "f", "extra"))
    notes = check_source(build_source(data, "val"), LOAD)
    assert any("no pixel of" in note and "extra" in note for note in notes)
    data = make_config(folder, label_map={"0": 255, "1": 255, "5": 255})
    notes = check_source(build_source(data, "val"), LOAD)
    assert any("of the pixels are ignored" in note for note in notes)


def test_camvid_is_sound_and_quickly_so(camvid, make_config):
    data = make_config(camvid, dataset="CamVid", classes=None)
    start = time.perf_counter()
    for part in ("train", "val"):
        assert check_source(build_source(data, part), (*LOAD, crop(360, 360)))
    assert time.perf_counter() - start < 20  # 0.7 s on two free cores
