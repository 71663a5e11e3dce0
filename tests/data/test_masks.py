"""What masks hold: two numbers, colours, several classes a pixel, numbers with a map."""

import pickle

import cv2
import numpy as np
import pytest
from PIL import Image

from jaxseg import config as run_config
from jaxseg.data import build_source, build_transforms, train_batches
from jaxseg.data.masks import describe, read_table, several_labels, to_bits
from jaxseg.data.transforms.loading import LoadAnnotations
from jaxseg.errors import ConfigError, DataError

COLORS = {"#000000": "nothing", "255 0 0": "road", "(0, 0, 255)": "car", "#808080": "ignore"}


def write(root, masks, kind="annotations", part="train"):
    """A data set of masks by the names of their files, of black images of their sizes."""
    for name, mask in masks.items():
        path = root / kind / part / name
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, mask) if path.suffix == ".npy" else Image.fromarray(mask).save(path)
        image = root / "images" / part / f"{path.name.split('.')[0].split('_')[0]}.png"
        image.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((*mask.shape[:2], 3), np.uint8)).save(image)
    return root


@pytest.fixture
def labels(tmp_path, make_config):
    """Makes the labels of a data set of masks, by fields of `config.data`."""

    def load(files, /, **fields):
        source = build_source(make_config(write(tmp_path / "set", files), **{"classes": None, **fields}), "train")
        return source, [LoadAnnotations()(source[i])["label"] for i in range(len(source))]

    return load


def test_zero_and_one_mean_what_zero_and_255_mean(labels):
    mask = np.random.default_rng(0).integers(0, 2, (8, 9), dtype=np.uint8)
    black_and_white = np.repeat(mask[..., None] * np.uint8(255), 3, axis=2)
    files = {"a.png": mask, "b.png": mask * np.uint8(255), "c.png": mask > 0, "d.png": black_and_white, "e.npy": mask}
    source, found = labels(files, masks="binary", classes=("vessel",))
    assert source.classes == ("background", "vessel")
    for label in found:
        assert label.dtype == np.uint8
        np.testing.assert_array_equal(label, mask)
    assert describe(source) == "masks: 0 is background, 1 or 255 is vessel"


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ((0, 7, 128), "holds 7, 128, but with data.masks=binary a mask holds 0 and 1, or 0 and 255"),
        ((0, 1, 255), "holds both 1 and 255"),
        (tuple(range(2, 20)), r"holds 2, 3, 4, 5, 6, \.\.\.,"),
    ],
)
def test_numbers_of_masks_that_are_not_of_two(labels, values, says):
    with pytest.raises(DataError, match=f"a.png {says}"):
        labels({"a.png": np.array([values], np.uint8)}, masks="binary")


def test_colours_become_classes(labels):
    picture = np.array([[[0, 0, 0], [255, 0, 0]], [[0, 0, 255], [128, 128, 128]]], np.uint8)
    source, found = labels({"a.png": picture}, mask_colors=COLORS)
    assert source.classes == ("nothing", "car", "road")  # black is 0, blue 255
    np.testing.assert_array_equal(found[0], [[0, 2], [1, 255]])
    assert found[0].dtype == np.uint8
    assert "#ff0000 is road" in describe(source)
    assert "#808080 is ignored" in describe(source)
    by_palette = {"masks": "colors", "classes": ("a", "b"), "palette": ((255, 0, 0), (0, 0, 0))}
    _, found = labels({"a.png": picture[:1]}, **by_palette)
    np.testing.assert_array_equal(found[0], [[1, 0]])


def test_unknown_colours_are_named_and_counted(labels):
    picture = np.zeros((4, 5, 3), np.uint8)
    picture[0, :3] = (250, 3, 3)
    picture[1, 0] = (9, 9, 9)
    with pytest.raises(DataError) as error:
        labels({"a.png": picture}, mask_colors=COLORS)
    assert "a.png holds colours that mean no class: #fa0303 (250 3 3) in 3 pixels, #090909 (9 9 9) in 1" in str(
        error.value
    )
    assert "The nearest to the first is #ff0000 (255 0 0), road" in str(error.value)


def test_a_file_a_class_a_bit_a_class_and_a_band_a_class_are_the_same(tmp_path, make_config, labels):
    several = np.random.default_rng(0).integers(0, 2, (8, 9, 3), dtype=np.uint8)
    names = ("sky", "tree", "bird")
    _, bits = labels({"a.png": to_bits(several)}, masks="multi-label", classes=names)
    _, array = labels({"a.npy": several}, masks="multi-label", classes=names, label_suffix=(".npy",))
    by_folder = write(
        tmp_path / "folders", {f"{name}/a.png": several[..., k] * np.uint8(255) for k, name in enumerate(names)}
    )
    by_suffix = write(tmp_path / "suffixes", {f"a_{name}.png": several[..., k] for k, name in enumerate(names)})
    found = [bits[0], array[0]]
    for root, fields in (
        (by_folder, {"label_dir": "annotations/{split}/{class}"}),
        (by_suffix, {"label_suffix": ("_{class}.png",)}),
    ):
        source = build_source(make_config(root, classes=names, masks="multi-label", **fields), "train")
        source = pickle.loads(pickle.dumps(source))  # worker processes get it so
        found.append(LoadAnnotations()(source[0])["label"])
        assert source.classes == names
    for label in found:
        assert label.dtype == np.uint8
        np.testing.assert_array_equal(label, several)
    (by_folder / "annotations/train/tree/a.png").unlink()
    config = make_config(by_folder, classes=names, masks="multi-label", label_dir="annotations/{split}/{class}")
    with pytest.raises(DataError, match=r"1 of 3 masks are missing: a \(tree\)"):
        build_source(config, "train")


def test_bad_masks_of_several_classes(labels):
    names = {"masks": "multi-label", "classes": ("a", "b")}
    with pytest.raises(DataError, match=r"a.png holds 4, .*2 classes need numbers of 0..3"):
        labels({"a.png": np.full((2, 3), 4, np.uint8)}, **names)
    with pytest.raises(DataError, match="x has 3 bands, but there are 2 classes"):
        several_labels([np.zeros((2, 2, 3), np.uint8)], ["x"], 2)
    with pytest.raises(DataError, match=r"x is 2x2 .height x width., but y is 2x3"):
        several_labels([np.zeros((2, 2), np.uint8), np.zeros((2, 3), np.uint8)], ["x", "y"], 2)


def test_labels_of_several_classes_go_through_the_transforms(tmp_path, make_config):
    several = np.random.default_rng(0).integers(0, 2, (40, 50, 5), dtype=np.uint8)
    root = write(tmp_path / "set", {"a.npy": several})
    config = make_config(root, classes=tuple("abcde"), masks="multi-label", label_suffix=(".npy",))
    steps = [
        {"type": "LoadImage"}, {"type": "LoadAnnotations"},
        {"type": "Resize", "scale_factor": 0.5}, {"type": "RandomCrop", "crop_size": 16},
        {"type": "RandomFlip", "prob": 1.0}, {"type": "Pad", "size": 24},
    ]  # fmt: skip
    with train_batches(build_source(config, "train"), build_transforms(steps), batch_size=2, seed=0) as batches:
        label = next(batches)["label"]
    assert label.shape == (2, 24, 24, 5)
    assert set(np.unique(label[:, :16, :16])) == {0, 1}
    assert (label[:, 16:] == 255).all()


def test_a_map_of_numbers_by_names(labels):
    mask = np.array([[0, 7, 9, 12]], np.uint8)
    table = {"0": "nothing", "7": "road", "9": 1, "10": "tree", "12": "ignore"}
    source, found = labels({"a.png": mask}, label_map=table)
    assert source.classes == ("nothing", "road", "tree")
    np.testing.assert_array_equal(found[0], [[0, 1, 1, 255]])
    assert describe(source) == "masks: 0 is nothing, 1/7/9 is road, 2/10 is tree, 12/255 is ignored"


def test_what_is_printed_of_reduce_zero_label(labels):
    source, _ = labels({"a.png": np.ones((1, 2), np.uint8)}, reduce_zero_label=True, classes=("a", "b"))
    assert describe(source) == "masks: 1 is a, 2 is b, 0/255 is ignored"
    source, _ = labels({"a.png": np.ones((1, 2), np.uint8)}, classes=("a", "b"))
    assert describe(source) == ""


def test_what_is_printed_of_several_sources(tmp_path, make_config):
    root = write(tmp_path / "set", {"a.png": np.ones((1, 2), np.uint8)})
    config = make_config(root, classes=("a", "b"))
    config.train.sources = ({"label_map": {7: "b"}}, {"masks": "binary"})
    said = describe(build_source(config, "train")).splitlines()
    assert [line.partition(": ")[2] for line in said] == [
        "masks: 0 is a, 1/7 is b, 255 is ignored", "masks: 0 is a, 1 or 255 is b"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"masks": "binry"}, "data.masks is 'binry'. Did you mean binary?"),
        ({"masks": "binary", "classes": ("a", "b", "c")}, "there are 3 classes"),
        ({"masks": "binary", "label_map": {255: 1}}, "data.label_map is for masks of indices"),
        ({"masks": "binary", "reduce_zero_label": True}, "data.reduce_zero_label is for masks of indices"),
        ({"masks": "binary", "mask_colors": COLORS}, "leave one of the two out"),
        ({"masks": "colors", "classes": ("a", "b")}, "set data.mask_colors"),
        ({"label_map": {0: "rode"}, "classes": ("road",)}, "maps to 'rode', which is no class. Did you mean road?"),
        ({"label_map": {0: 3}, "classes": ("road",)}, r"maps to 3; allowed are the classes 0\.\.0 and 255"),
        ({"label_map": {"x": "road"}, "classes": ("road",)}, "has 'x' for a number stored in masks"),
        ({"mask_colors": {"#00": "a"}}, "has '#00' for a colour; write '#ff8000' or '255 128 0'"),
        ({"mask_colors": {"#000000": "a", "0 0 0": "b"}}, r"has #000000 \(0 0 0\) for two classes"),
        ({"channels": 0, "classes": ("a",)}, "data.channels is 0"),
    ],
)
def test_contradictions_are_errors_before_files_are_read(labels, fields, says):
    with pytest.raises(ConfigError, match=says):
        labels({"a.png": np.zeros((2, 3), np.uint8)}, **fields)


@pytest.mark.parametrize(
    ("text", "table"),
    [
        ("0 nothing\n7: big road\n9,ignore\n", {"0": "nothing", "7": "big road", "9": "ignore"}),
        ("name,r,g,b\nsky,70,130,180\nbig road,128,64,128\n", {"70 130 180": "sky", "128 64 128": "big road"}),
        ("# ours\n64 128 64\t\tAnimal\n\n192 0 128 Archway\n", {"64 128 64": "Animal", "192 0 128": "Archway"}),
        ("#ff0000 road\n0x00ff00;tree 2\n", {"#ff0000": "road", "0x00ff00": "tree 2"}),
    ],
)
def test_maps_from_text_files(tmp_path, text, table):
    path = tmp_path / "map.txt"
    path.write_text(text)
    assert read_table(path) == table
    config = run_config.override(run_config.load_recipe("configs/folder.py"), [("data.label_map", str(path))])
    assert dict(config.data.label_map) == table


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("0 a\nroad\n", "line 2: 'road' is no number or colour with a class"),
        ("0 a\n0 b\n", "line 2: 0 comes twice"),
        ("name,r,g,b\n", "has no line with a number or colour"),
    ],
)
def test_text_files_that_are_no_maps(tmp_path, text, says):
    path = tmp_path / "map.txt"
    path.write_text(text)
    with pytest.raises(ConfigError, match=f"map.txt.*{says}"):
        read_table(path)


def test_bands_of_a_mask_are_not_cut_to_one(tmp_path):
    tifffile = pytest.importorskip("tifffile", reason="needs tifffile (pip install 'jaxseg[tiff]')")
    path = tmp_path / "m.tif"
    tifffile.imwrite(path, np.ones((2, 8, 9), np.uint8), planarconfig="separate", photometric="minisblack")
    with pytest.raises(DataError, match=r"m.tif (holds 2 numbers a pixel|cannot be decoded)"):
        LoadAnnotations()({"meta": {"label_path": str(path)}})
    cv2.imwrite(str(tmp_path / "f.tif"), np.ones((3, 4), np.float32))
    with pytest.raises(DataError, match=r"f.tif holds floating-point numbers"):
        LoadAnnotations()({"meta": {"label_path": str(tmp_path / "f.tif")}})
