"""Decoding: what labels mean, and one clear error for each way a file can be wrong."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from jaxseg.data.transforms.loading import LoadAnnotations, LoadImage, image_size
from jaxseg.errors import DataError


def save(path, array, **options):
    Image.fromarray(array).save(path, **options)
    return str(path)


@pytest.fixture
def photo(record):
    return record["image"]


def load_mask(path, **meta):
    return LoadAnnotations()({"meta": {"label_path": str(path), "image_path": "i.png", **meta}})["label"]


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "webp"])
def test_lossless_images_come_back(tmp_path, photo, suffix):
    path = save(tmp_path / f"x.{suffix}", photo, **({"lossless": True} if suffix == "webp" else {}))
    record = LoadImage()({"meta": {"image_path": path}})
    np.testing.assert_array_equal(record["image"], photo)
    assert record["meta"]["original_size"] == (60, 80)
    assert image_size(path) == (60, 80)


def test_exif_orientation_is_obeyed_or_not(tmp_path, photo):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = save(tmp_path / "x.jpg", photo, exif=exif)
    meta = {"meta": {"image_path": path}}
    assert LoadImage()(meta)["image"].shape == (80, 60, 3)
    assert image_size(path) == (80, 60)
    assert LoadImage(color_type="color_ignore_orientation")(meta)["image"].shape == (60, 80, 3)


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "tif"])
@pytest.mark.parametrize("share", [0.0, 0.03, 0.5, 0.95])
def test_images_cut_short_are_errors(tmp_path, photo, suffix, share):
    path = tmp_path / f"x.{suffix}"
    options = {}
    if suffix == "jpg":  # a thumbnail has an end mark of its own
        thumbnail = io.BytesIO()
        Image.fromarray(photo[:16, :16]).save(thumbnail, format="JPEG")
        options["exif"] = b"Exif\0\0" + thumbnail.getvalue()
    save(path, np.tile(photo, (3, 3, 1)), **options)
    LoadImage()({"meta": {"image_path": str(path)}})
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(DataError, match=f"{path}.*(empty|cut short|cannot be decoded)"):
        LoadImage()({"meta": {"image_path": str(path)}})


def test_other_bad_images(tmp_path):
    text = tmp_path / "x.png"
    text.write_text("not an image")
    for read in (LoadImage(), lambda r: image_size(r["meta"]["image_path"])):
        with pytest.raises(DataError, match=r"x.png cannot be decoded"):
            read({"meta": {"image_path": str(text)}})
        with pytest.raises(DataError, match=r"Cannot read .*nowhere.png"):
            read({"meta": {"image_path": str(tmp_path / "nowhere.png")}})


def test_a_loaded_record_is_left_alone(record):
    loaded = LoadAnnotations()(LoadImage()(record))
    assert loaded["image"] is record["image"]
    assert loaded["label"] is record["label"]


def test_palette_masks_keep_their_indices(tmp_path):
    mask = np.arange(12, dtype=np.uint8).reshape(3, 4)
    picture = Image.fromarray(mask).convert("L")
    picture.putpalette([255 - i // 3 for i in range(768)])
    picture.save(tmp_path / "m.png")
    np.testing.assert_array_equal(load_mask(tmp_path / "m.png", num_classes=12), mask)
    picture.save(tmp_path / "m.gif")
    np.testing.assert_array_equal(load_mask(tmp_path / "m.gif", num_classes=12), mask)


def test_one_bit_and_sixteen_bit_masks(tmp_path):
    bits = np.eye(4, dtype=bool)
    np.testing.assert_array_equal(load_mask(save(tmp_path / "b.png", bits), num_classes=2), bits)
    wide = np.array([[0, 300], [65535, 7]], np.uint16)
    label = load_mask(save(tmp_path / "w.png", wide), num_classes=400, label_map={65535: 255})
    assert label.dtype == np.int32
    np.testing.assert_array_equal(label, [[0, 300], [255, 7]])
    narrow = load_mask(save(tmp_path / "n.png", wide % 8), num_classes=8)
    assert narrow.dtype == np.uint8


def test_reduce_zero_label_as_the_reference_does_it(tmp_path):
    raw = np.array([[0, 1, 2, 254, 255]], np.uint8)
    path = save(tmp_path / "m.png", raw)
    np.testing.assert_array_equal(load_mask(path, reduce_zero_label=True), [[255, 0, 1, 253, 255]])
    with pytest.raises(DataError, match=r"holds 254, but labels must be 1..2 \(0 is ignored"):
        load_mask(path, reduce_zero_label=True, num_classes=2)
    label = LoadAnnotations(reduce_zero_label=False)({"meta": {"label_path": path, "reduce_zero_label": True}})["label"]
    np.testing.assert_array_equal(label, raw)


def test_label_map_replaces_all_at_once(tmp_path):
    path = save(tmp_path / "m.png", np.array([[0, 1, 2, 11]], np.uint8))
    label = load_mask(path, label_map={0: 1, 1: 0, "11": 255}, num_classes=3)
    np.testing.assert_array_equal(label, [[1, 0, 2, 255]])


def test_negative_ignore_index(tmp_path):
    path = save(tmp_path / "m.png", np.array([[0, 1]], np.uint8))
    label = load_mask(path, label_map={1: -1}, num_classes=1, ignore_index=-1)
    assert label.dtype == np.int32
    np.testing.assert_array_equal(label, [[0, -1]])


@pytest.mark.parametrize(
    ("values", "meta", "message"),
    [
        ((0, 12), {"num_classes": 11}, r"holds 12, but labels must be 0..10 or 255 \(ignore_index\)"),
        ((1, 3), {"num_classes": 3}, "set reduce_zero_label"),
        ((0, 254), {"num_classes": 2}, r"label_map \{255: 1\}"),
        (tuple(range(20)), {"num_classes": 5}, r"holds 5, 6, 7, 8, 9, 10, 11, 12, \.\.\., but"),
        ((0, 255), {"num_classes": 2, "ignore_index": 254}, r"label_map \{255: 1\}"),
    ],
)
def test_numbers_that_are_no_class(tmp_path, values, meta, message):
    path = save(tmp_path / "m.png", np.array([values], np.uint8))
    with pytest.raises(DataError, match=f"{path} {message}" if message.startswith("holds") else message):
        load_mask(path, **meta)


def test_numbers_beyond_sixteen_bits(tmp_path):
    path = save(tmp_path / "m.tif", np.array([[0, 70000]], np.int32))
    with pytest.raises(DataError, match="holds 70000"):
        load_mask(path, num_classes=5)


def test_colour_masks_are_errors(tmp_path, photo):
    with pytest.raises(DataError, match=r"colour picture \(mode RGB\).*palette conversion"):
        load_mask(save(tmp_path / "m.png", photo))
    with pytest.raises(DataError, match="all equal: save one of them"):
        load_mask(save(tmp_path / "g.png", np.repeat(photo[..., :1], 3, axis=2)))


def test_mask_of_another_size(tmp_path):
    path = save(tmp_path / "m.png", np.zeros((6, 8), np.uint8))
    with pytest.raises(DataError, match=r"is 6x8 \(height x width\), but its image i.png is 5x8"):
        load_mask(path, original_size=(5, 8))
    with pytest.raises(DataError, match="turned by 90 degrees"):
        load_mask(path, original_size=(8, 6))


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_masks_cut_short_are_errors(tmp_path, share):
    path = tmp_path / "m.png"
    noise = np.random.default_rng(0).integers(0, 5, (90, 90), dtype=np.uint8)
    content = cv2.imencode(".png", noise)[1].tobytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(DataError, match=str(path)):
        load_mask(path)


def test_no_mask_is_an_error():
    record = {"meta": {"label_path": None, "image_path": "i.png"}}
    with pytest.raises(DataError, match=r"i.png has no mask; leave LoadAnnotations out"):
        LoadAnnotations()(record)
