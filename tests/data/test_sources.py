"""Sources: pairing, overriding, and what they say about folders that are not as they should be."""

import shutil

import pytest

from jaxseg.data import DATASETS, Source, build_source
from jaxseg.errors import ConfigError, DataError
from jaxseg.visualize.palettes import default_palette

DEMO = DATASETS["Demo"].classes


def test_pairs_are_made_by_stem_in_order(folder, make_config):
    source = build_source(make_config(folder), "train")
    assert isinstance(source, Source)
    assert len(source) == 10
    meta = source[3]["meta"]
    assert meta["name"] == "train_00003"
    assert meta["image_path"] == str(folder / "images/train/train_00003.png")
    assert meta["label_path"] == str(folder / "annotations/train/train_00003.png")
    assert meta["num_classes"] == 6
    assert meta["ignore_index"] == 255
    assert "image" not in source[3]
    assert source.size(0) == (40, 48)
    assert source.palette == default_palette(6)


def test_subfolders_and_upper_case_suffixes(folder, make_config):
    for kind in ("images", "annotations"):
        (folder / kind / "train" / "a").mkdir()
        shutil.move(folder / kind / "train" / "train_00001.png", folder / kind / "train" / "a" / "b.png")
    (folder / "images/train/a/b.png").rename(folder / "images/train/a/b.PNG")
    source = build_source(make_config(folder), "train")
    assert [source[i]["meta"]["name"] for i in range(2)] == ["a/b", "train_00000"]


def test_split_file_over_one_folder(folder, make_config):
    for kind in ("images", "annotations"):
        for path in (folder / kind / "train").iterdir():
            path.rename(folder / kind / path.name)
        shutil.rmtree(folder / kind / "train")
        shutil.rmtree(folder / kind / "val")
    (folder / "train.txt").write_text("train_00004\n\ntrain_00002.png\n")
    data = make_config(folder, train={"split": "train", "split_file": "{split}.txt"})
    source = build_source(data, "train")
    assert [source[i]["meta"]["name"] for i in range(len(source))] == ["train_00004", "train_00002"]

    (folder / "train.txt").write_text("train_00004\ntrain_0002\n")
    with pytest.raises(DataError, match=r"names 1 of 2 images.*train_0002.*Did you mean train_00002"):
        build_source(data, "train")
    (folder / "train.txt").write_text("\n")
    with pytest.raises(DataError, match="is empty"):
        build_source(data, "train")
    (folder / "train.txt").unlink()
    with pytest.raises(DataError, match="no such file"):
        build_source(data, "train")


def test_classes_from_a_file(folder, make_config, tmp_path):
    names = tmp_path / "names.txt"
    names.write_text("\n".join(DEMO) + "\n")
    assert build_source(make_config(folder, classes=str(names)), "train").classes == DEMO
    with pytest.raises(ConfigError, match="no such file"):
        build_source(make_config(folder, classes="nowhere.txt"), "train")


def test_label_map_keys_may_be_strings(folder, make_config):
    source = build_source(make_config(folder, label_map={"5": 0, "4": 255}), "train")
    assert source.label_map == {5: 0, 4: 255}


def test_selected_classes_map_the_rest_to_ignored(folder, make_config):
    data = make_config(folder, dataset="CamVid", classes=("car", "sky"), image_suffix=".png")
    source = build_source(data, "train")
    assert source.classes == ("car", "sky")
    assert source.palette == ((64, 0, 128), (128, 128, 128))
    assert source.label_map == {0: 1, 8: 0, **dict.fromkeys((1, 2, 3, 4, 5, 6, 7, 9, 10, 11), 255)}


def test_another_ignore_index_goes_into_the_map(folder, make_config):
    data = make_config(folder, dataset="CamVid", classes=None, ignore_index=100, image_suffix=(".png",))
    assert build_source(data, "train").label_map == {11: 100}


def test_images_without_labels(folder, make_config):
    shutil.rmtree(folder / "annotations")
    source = build_source(make_config(folder, label_dir=""), "train")
    assert source[0]["meta"]["label_path"] is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"dataset": "CamVidd"}, "'CamVidd'. Did you mean CamVid"),
        ({"root": "/nowhere"}, "'/nowhere', which is not a folder"),
        ({"root": ""}, "which is not a folder"),
        ({"image_dir": "image/{split}"}, "image/train does not exist.*Did you mean images"),
        ({"label_dir": "annotations/{split}x"}, "Did you mean train"),
        ({"image_suffix": ".jpg"}, "no images that end in .jpg.*image_suffix"),
        ({"label_suffix": "_mask.png"}, "10 of 10 images.*no mask.*train_00000.png, .*_mask.png"),
    ],
)
def test_what_is_missing_is_named(folder, make_config, fields, message):
    with pytest.raises(DataError, match=message):
        build_source(make_config(**{"root": folder, **fields}), "train")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"classes": None}, "data.classes is not set"),
        ({"classes": ("a", "b", "a")}, "'a' twice"),
        ({"dataset": "CamVid", "classes": ("cars",)}, "Did you mean car"),
        ({"palette": ((1, 2, 3),)}, "1 colours for 6 classes"),
        ({"label_map": {"x": 1}}, "label_map"),
        ({"label_map": {"3": 6}}, "maps to 6; allowed are the classes 0..5 and 255"),
        ({"val": None}, "data.val is not set"),
    ],
)
def test_fields_that_do_not_fit(folder, make_config, fields, message):
    with pytest.raises(ConfigError, match=message):
        build_source(make_config(folder, **fields), "val")


def test_an_image_without_mask_is_named(folder, make_config):
    (folder / "annotations/train/train_00007.png").unlink()
    with pytest.raises(DataError, match=r"1 of 10 images .*no mask.*train_00007.png"):
        build_source(make_config(folder), "train")


def test_two_files_of_one_name(folder, make_config):
    shutil.copy(folder / "images/train/train_00007.png", folder / "images/train/train_00007.jpg")
    with pytest.raises(DataError, match="has both"):
        build_source(make_config(folder), "train")


@pytest.mark.parametrize("name", DATASETS)
def test_every_row_is_consistent(name):
    info = DATASETS[name]
    assert len(info.palette) in (0, len(info.classes))
    assert len(set(info.classes)) == len(info.classes)
    assert all(0 <= part <= 255 for color in info.palette for part in color)
    assert isinstance(info.image_suffix, tuple)
    assert isinstance(info.label_suffix, tuple)


def test_camvid(camvid, make_config):
    data = make_config(camvid, dataset="CamVid", classes=None)
    assert [len(build_source(data, part)) for part in ("train", "val", "test")] == [367, 101, 233]
    assert build_source(data, "test").size(0) == (360, 480)
