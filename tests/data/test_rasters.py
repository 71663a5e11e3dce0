"""Images as they are stored, in every kind of file; what is wrong with one is an error that says so."""

import io
import sys

import cv2
import numpy as np
import pytest
from PIL import Image

from jaxseg.data import build_source, build_transforms, train_batches
from jaxseg.data.rasters import Header, decode_raster, read_header
from jaxseg.data.transforms.loading import LoadImage, image_size
from jaxseg.errors import DataError


def bands(channels, dtype, low=0):
    values = np.random.default_rng(channels).integers(low, 200, (20, 30, channels))
    return values.astype(dtype) if np.dtype(dtype).kind != "f" else (values / 7).astype(dtype)


def tiff(array, **options):
    tifffile = pytest.importorskip("tifffile", reason="needs tifffile (pip install 'jaxseg[tiff]')")
    if "compression" in options:
        pytest.importorskip("imagecodecs", reason="needs imagecodecs (pip install 'jaxseg[tiff]')")
    file = io.BytesIO()
    tifffile.imwrite(file, array, photometric="minisblack", **options)
    return file.getvalue()


def npy(array, **options):
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "float64", "int16", ">u2", "bool"])
def test_arrays_come_back(dtype):
    array = bands(7, dtype)
    content = npy(array)
    image = decode_raster(content, "x.npy", 7)
    np.testing.assert_array_equal(image, array.astype(image.dtype))
    expected = {"uint8": np.uint8, "bool": np.uint8, "uint16": np.uint16, ">u2": np.uint16}.get(dtype, np.float32)
    assert image.dtype == expected
    assert image.dtype.isnative
    assert read_header(content, "x.npy")[:3] == (20, 30, 7)


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"bigtiff": True, "byteorder": ">"},
        {"tile": (16, 16), "compression": "deflate", "predictor": True},
        {"compression": "lzw", "predictor": True},
    ],
    ids=["plain", "big", "deflate", "lzw"],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_tiffs_of_many_bands_come_back(planar, options, dtype):
    array = bands(7, dtype)
    content = tiff(array if planar == "contig" else array.transpose(2, 0, 1), planarconfig=planar, **options)
    image = decode_raster(content, "x.tif", 7)
    np.testing.assert_array_equal(image, array)
    assert image.dtype == dtype
    assert read_header(content, "x.tif") == Header(20, 30, 7, np.dtype(dtype).name)


def test_pictures_of_sixteen_bits_keep_them_and_their_order():
    array = bands(3, np.uint16) * 300
    content = cv2.imencode(".png", array[..., ::-1])[1].tobytes()
    np.testing.assert_array_equal(decode_raster(content, "x.png", 3), array)
    four = bands(4, np.uint8)
    file = io.BytesIO()
    Image.fromarray(four, "RGBA").save(file, format="PNG")
    np.testing.assert_array_equal(decode_raster(file.getvalue(), "x.png", 4), four)
    grey = cv2.imencode(".png", array[..., 0])[1].tobytes()
    np.testing.assert_array_equal(decode_raster(grey, "x.png", 1)[..., 0], array[..., 0])


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (npy(bands(4, np.uint8)), "has 4 channels .20x30 pixels, uint8., but data.channels is 7"),
        (npy(bands(4, np.uint8).transpose(2, 0, 1)), "has 30 channels"),
        (npy(np.zeros((7, 20, 30))), "Its first axis has 7: save it as .height width bands."),
        (npy(np.zeros((2, 3, 4, 5))), r"holds an array of shape \(2, 3, 4, 5\)"),
        (npy(np.full((20, 30, 7), 2**30)), "from 1073741824 to 1073741824, which float32 can't hold"),
        (npy(np.full((20, 30, 7), np.nan)), "holds 4200 values that are no numbers"),
        (npy(np.zeros((20, 30, 7), complex)), "holds values of type complex128"),
        (npy(np.array([{}] * 6).reshape(2, 3, 1), allow_pickle=True), "cannot be decoded"),
        (npy(bands(7, np.uint8))[:900], "cannot be decoded: .*damaged or cut short"),
        (b"\x93NUMPY\x01", "damaged or cut short"),
        (b"II*\0\x00\x10", "its header is damaged"),
        (b"nothing at all", "damaged, or not an image"),
    ],
)
def test_bad_files_are_errors(content, says):
    with pytest.raises(DataError, match=f"x.dat .*{says}"):
        decode_raster(content, "x.dat", 7)


def test_a_tiff_without_its_reader(monkeypatch):
    content = tiff(bands(7, np.uint16), planarconfig="contig")
    monkeypatch.setitem(sys.modules, "tifffile", None)
    with pytest.raises(DataError, match=r"7 channels of uint16.*pip install 'jaxseg\[tiff\]'"):
        decode_raster(content, "x.tif", 7)


@pytest.mark.parametrize(
    ("name", "content", "channels"),
    [
        ("x.npy", npy(bands(3, np.uint8)), 3),
        ("x.png", cv2.imencode(".png", bands(3, np.uint16))[1].tobytes(), 3),
        ("x.png", cv2.imencode(".png", bands(1, np.uint16))[1].tobytes(), 1),
    ],
)
def test_what_rgb_can_not_hold_is_not_cut_to_it(tmp_path, name, content, channels):
    path = tmp_path / name
    path.write_bytes(content)
    assert image_size(str(path)) == (20, 30)
    with pytest.raises(DataError, match=f"{name} has {channels} channel.* data.channels={channels}"):
        LoadImage()({"meta": {"image_path": str(path)}})
    record = LoadImage()({"meta": {"image_path": str(path), "channels": channels}})
    assert record["image"].shape == (20, 30, channels)
    assert record["meta"]["original_size"] == (20, 30)
    assert LoadImage(color_type="unchanged")({"meta": {"image_path": str(path)}})["image"].shape[2] == channels


def test_tiffs_of_many_bands_are_not_cut_to_rgb(tmp_path):
    path = tmp_path / "x.tif"
    path.write_bytes(tiff(bands(7, np.uint8).transpose(2, 0, 1), planarconfig="separate"))
    assert image_size(str(path)) == (20, 30)
    with pytest.raises(DataError, match=r"x.tif has 7 channels of uint8.* data.channels=7"):
        LoadImage()({"meta": {"image_path": str(path)}})


@pytest.mark.parametrize("channels", [1, 7])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_batches_keep_channels_and_type(tmp_path, make_config, channels, dtype):
    """Also where an image is resized, cut, turned over and padded with a mean, which may be negative in floats."""
    for part in ("images", "annotations"):
        (tmp_path / part / "train").mkdir(parents=True)
    for name in "ab":
        image = np.full((40, 50, channels), 9).astype(dtype)
        image[..., -1] = 200 if dtype == np.uint8 else 999
        np.save(tmp_path / "images" / "train" / f"{name}.npy", image)
        Image.fromarray(np.zeros((40, 50), np.uint8)).save(tmp_path / "annotations" / "train" / f"{name}.png")
    fill = tuple(-2.5 if dtype == np.float32 else 3.0 for _ in range(channels))
    steps = [
        {"type": "LoadImage"}, {"type": "LoadAnnotations"},
        {"type": "RandomResize", "scale": (50, 40), "ratio_range": (0.9, 1.5), "keep_ratio": True},
        {"type": "RandomCrop", "crop_size": 32}, {"type": "RandomFlip", "prob": 1.0},
        {"type": "Pad", "size": 64, "pad_val": fill},
    ]  # fmt: skip
    source = build_source(make_config(tmp_path, classes=("a", "b"), channels=channels), "train")
    with train_batches(source, build_transforms(steps), batch_size=2, seed=0) as batches:
        images = next(batches)["image"]
    assert images.dtype == dtype
    assert images.shape == (2, 64, 64, channels)
    np.testing.assert_allclose(images[:, :32, :32, -1], 200 if dtype == np.uint8 else 999, rtol=1e-6)
    np.testing.assert_allclose(images[:, 40:], np.broadcast_to(np.asarray(fill, dtype), images[:, 40:].shape))
