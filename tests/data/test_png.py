"""PNGs: the quick decoder gives what the others give or leaves it to them, and rows below a crop are not decoded."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from jaxseg.data import build_transforms, train_batches
from jaxseg.data.demo import DemoSource
from jaxseg.data.transforms import png, windowed
from jaxseg.data.transforms.loading import LoadAnnotations, LoadImage, decode_image, decode_mask
from jaxseg.data.transforms.png import decode_plain_png, read_png_header
from jaxseg.data.transforms.resample import Window, resize_image, resize_image_window, rows_needed
from jaxseg.data.transforms.windowed import LoadResizeCrop, read_windows
from jaxseg.errors import DataError

needs_decoder = pytest.mark.skipif(png._decoder() is None, reason="needs kornia-rs")


def encode(array, mode=None, **options):
    out = io.BytesIO()
    picture = Image.fromarray(array)
    (picture.convert(mode) if mode else picture).save(out, "PNG", **options)
    return out.getvalue()


def with_chunk(content, kind, data):
    """A PNG with one chunk more, after its header."""
    chunk = struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return content[:33] + chunk + content[33:]


@pytest.fixture
def photo(record):
    return np.ascontiguousarray(record["image"])


@pytest.fixture
def files(photo):
    """PNGs, and the channels of the plain ones."""
    text = PngInfo()
    text.add_text("Comment", "IEND eXIf", zip=True)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    rgb, grey = encode(photo), encode(photo[..., 0])
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return {
        "rgb": (rgb, 3),
        "grey": (grey, 1),
        "text": (encode(photo, pnginfo=text), 3),
        "dots": (encode(photo, dpi=(300, 300)), 3),
        "profile": (encode(photo, icc_profile=profile), 3),
        "gamma": (with_chunk(rgb, b"gAMA", struct.pack(">I", 100000)), 3),
        "gamma of a grey one": (with_chunk(grey, b"gAMA", struct.pack(">I", 20000)), 1),
        "alpha": (encode(photo, "RGBA"), None),
        "palette": (encode(photo, "P"), None),
        "two colours": (encode(photo, "1"), None),
        "16 bits": (cv2.imencode(".png", photo[..., 0].astype(np.uint16) * 257)[1].tobytes(), None),
        "transparent colour": (encode(photo, transparency=(1, 2, 3)), None),
        "transparent grey": (encode(photo[..., 0], transparency=7), None),
        "turned": (encode(photo, exif=exif), None),
        "background": (with_chunk(rgb, b"bKGD", bytes(6)), None),
    }


def test_headers(files, photo):
    for name, (content, channels) in files.items():
        assert read_png_header(content) == (*photo.shape[:2], channels), name
        for end in (len(content) - 1, len(content) - 12, len(content) // 2, 20, 3, 0):
            assert read_png_header(content[:end]) is None, name
    interlaced = bytearray(files["rgb"][0])
    interlaced[28] = 1
    assert read_png_header(bytes(interlaced)).channels is None
    assert read_png_header(b"\xff\xd8" + bytes(50)) is None


@needs_decoder
def test_the_quick_decoder_changes_nothing(files, monkeypatch):
    pictures = {name: content for name, (content, _) in files.items() if name != "16 bits"}  # which is no photo
    quick = {name: decode_image(content, name) for name, content in pictures.items()}
    masks = {name: decode_mask(files[name][0], name) for name in ("grey", "gamma of a grey one", "palette", "16 bits")}
    for name, (content, channels) in files.items():
        assert (decode_plain_png(content, 3) is not None) == (channels == 3), name
        assert (decode_plain_png(content, 1) is not None) == (channels == 1), name
    monkeypatch.setattr(png, "_decoder", lambda: None)
    for name, content in pictures.items():
        assert decode_plain_png(content, 3) is None
        np.testing.assert_array_equal(quick[name], decode_image(content, name), err_msg=name)
    for name, mask in masks.items():
        other = decode_mask(files[name][0], name)
        np.testing.assert_array_equal(mask, other, err_msg=name)
        assert mask.dtype == other.dtype


@needs_decoder
def test_rows_from_the_top(files, photo):
    for rows in (1, 7, 59, 60, 61):
        np.testing.assert_array_equal(decode_plain_png(files["rgb"][0], 3, rows), photo[:rows])
        np.testing.assert_array_equal(decode_plain_png(files["grey"][0], 1, rows), photo[:rows, :, 0])


def test_damage_is_an_error_with_either_decoder(files, monkeypatch):
    for _ in range(2):
        for name, decode in (("rgb", decode_image), ("grey", decode_mask)):
            content = files[name][0]
            for at in (len(content) // 3, len(content) // 2, len(content) - 40):
                bad = content[:at] + bytes([content[at] ^ 0x55]) + content[at + 1 :]
                with pytest.raises(DataError, match=r"x\.png .*(cut short|cannot be decoded)"):
                    decode(bad, "x.png")
                with pytest.raises(DataError, match=r"x\.png .*(cut short|cannot be decoded)"):
                    decode(content[:at], "x.png")
        monkeypatch.setattr(png, "_decoder", lambda: None)


def test_another_version_of_the_decoder_is_not_used(monkeypatch):
    kornia = pytest.importorskip("kornia_rs.io")
    for other in (lambda *_: np.zeros((5, 7, 3), np.uint8), lambda content: 1 / 0):
        png._installed.cache_clear()
        monkeypatch.setattr(kornia, "decode_image_png_u8", other)
        assert png._decoder() is None
    png._installed.cache_clear()


@needs_decoder
def test_many_threads_do_not_wait_for_each_other(files, monkeypatch):
    monkeypatch.setattr(png, "_threads", 1)
    for threads, quick in ((8, False), (2, True)):
        with train_batches(DemoSource("train", 2), build_transforms(()), batch_size=1, seed=0, read_threads=threads):
            assert (decode_plain_png(files["rgb"][0], 3) is not None) == quick


def test_windows_of_first_rows_equal_cv2_resize_bit_for_bit():
    rng = np.random.default_rng(5)
    less = 0
    for _ in range(80):
        height, width, new_height, new_width = (int(x) for x in rng.integers(2, 150, 4))
        image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        size = (new_height, new_width)
        top, left = (int(rng.integers(0, side)) for side in size)
        window = Window(top, left, int(rng.integers(1, 40)), int(rng.integers(1, 40)))
        rows = rows_needed(height, size, window)
        found = resize_image_window(image[:rows], size, window, height)
        np.testing.assert_array_equal(found, window.of(resize_image(image, size)))
        less += rows < height
    assert less > 20


CROP = (
    {"type": "LoadImage"},
    {"type": "LoadAnnotations"},
    {"type": "RandomResize", "scale": (80, 60), "ratio_range": (0.5, 4.0), "keep_ratio": True},
    {"type": "RandomCrop", "crop_size": (24, 30), "cat_max_ratio": 0.6},
    {"type": "RandomFlip", "prob": 0.5},
)


@pytest.fixture
def on_disk(tmp_path, record):
    """Makes a record whose files are those of `record`, in a format."""

    def make(suffix, mode="RGB"):
        paths = {"image_path": str(tmp_path / f"x{mode}.{suffix}"), "label_path": str(tmp_path / "y.png")}
        Image.fromarray(record["image"]).convert(mode).save(paths["image_path"])
        Image.fromarray(record["label"]).save(paths["label_path"])
        return {"meta": {"name": "x", "num_classes": 4, "ignore_index": 255, **paths}}

    return make


@needs_decoder
@pytest.mark.parametrize(
    ("suffix", "mode"), [("png", "RGB"), ("png", "L"), ("png", "RGBA"), ("png", "P"), ("jpg", "RGB")]
)
def test_reading_windows_changes_nothing(on_disk, suffix, mode):
    given = on_disk(suffix, mode)
    apart, windows = build_transforms(CROP, fuse=False), read_windows(build_transforms(CROP))
    assert isinstance(windows.steps[0], LoadResizeCrop)
    assert windows.random
    for seed in range(25):
        one, other = (pipeline(given, np.random.default_rng(seed)) for pipeline in (apart, windows))
        assert one.keys() == other.keys()
        assert one["meta"] == other["meta"]
        for key in ("image", "label"):
            np.testing.assert_array_equal(one[key], other[key])
            assert one[key].dtype == other[key].dtype
    assert given.keys() == {"meta"}


@needs_decoder
def test_reading_windows_reads_less(on_disk, monkeypatch):
    given, asked = on_disk("png"), []

    def spy(content, channels, rows, header):
        asked.append(rows)
        return decode_plain_png(content, channels, rows, header)

    monkeypatch.setattr(windowed, "decode_plain_png", spy)
    windows = read_windows(build_transforms(CROP))
    for seed in range(25):
        windows(given, np.random.default_rng(seed))
    assert len(asked) == 25
    assert max(asked) <= 60
    assert np.mean(asked) < 50


@needs_decoder
def test_reading_windows_names_bad_files(on_disk):
    windows = read_windows(build_transforms(CROP))
    for name in ("image_path", "label_path"):
        given = on_disk("png")
        path = given["meta"][name]
        with open(path, "rb") as file:
            content = file.read()
        for bad in (content[:-60], content[:100], b"", content[:70] + b"no" + content[72:]):
            with open(path, "wb") as file:
                file.write(bad)
            with pytest.raises(DataError, match=path):
                windows(given, np.random.default_rng(0))
    given["meta"]["label_path"] = None
    with pytest.raises(DataError, match="has no mask"):
        windows(given, np.random.default_rng(0))


def test_stated_channels_are_read_as_they_are(on_disk):
    given = on_disk("png", "RGBA")
    given["meta"]["channels"] = 4
    pipelines = build_transforms(CROP, fuse=False), read_windows(build_transforms(CROP))
    one, other = (pipeline(given, np.random.default_rng(0)) for pipeline in pipelines)
    assert one["image"].shape[2] == 4
    np.testing.assert_array_equal(one["image"], other["image"])
    given = on_disk("png")
    given["meta"]["channels"] = 4
    for pipeline in pipelines:
        with pytest.raises(DataError, match="channels"):
            pipeline(given, np.random.default_rng(0))


def test_pictures_at_hand_are_taken(record):
    windows = read_windows(build_transforms(CROP))
    out = windows(record, np.random.default_rng(0))
    np.testing.assert_array_equal(out["image"], build_transforms(CROP)(record, np.random.default_rng(0))["image"])


def test_only_what_is_known_is_replaced(monkeypatch):
    class Mine(LoadImage):
        pass

    def function(record, rng):
        return record

    as_stored = {"type": "LoadImage", "color_type": "color_ignore_orientation"}
    for first in (Mine(), as_stored, LoadAnnotations()):
        pipeline = build_transforms((first, *CROP[1:]))
        assert read_windows(pipeline) is pipeline
    for steps in (CROP[:2], CROP[:3], (*CROP[:2], *CROP[3:])):
        pipeline = build_transforms(steps)
        assert read_windows(pipeline) is pipeline
    assert read_windows(function) is function
    monkeypatch.setattr(png, "_decoder", lambda: None)
    pipeline = build_transforms(CROP)
    assert read_windows(pipeline) is pipeline
