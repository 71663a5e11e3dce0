"""The table of data sets: what it says is what the reference says, and files that lie as it has them are found."""

import json
from pathlib import Path

import pytest

from jaxseg.data import DATASETS, build_source
from jaxseg.data.datasets import REFERENCE_NAMES

FIXTURE = json.loads((Path(__file__).parent / "fixtures" / "datasets.json").read_text(encoding="utf-8"))
TYPES, LAYOUTS = FIXTURE["types"], FIXTURE["layouts"]

# Types of no data set in particular.
PLAIN = ("BaseSegDataset", "CustomDataset")
ROW_TYPES = {row: kind for kind, rows in REFERENCE_NAMES.items() if kind not in PLAIN for row in rows}

# The reference's configs of data sets -> the row that a recipe names, if it is not that of the type.
ROWS = {"coco-stuff10k": "COCOStuff10k", "pascal_voc12_aug": "PascalVOC12Aug"}


def test_every_type_has_a_row():
    assert set(REFERENCE_NAMES) == {*TYPES, *PLAIN}
    assert {REFERENCE_NAMES[kind] for kind in PLAIN} == {("FolderDataset",)}
    assert set(ROW_TYPES) | {"CamVid", "Demo", "FolderDataset"} == set(DATASETS)


@pytest.mark.parametrize(("key", "kind"), ROW_TYPES.items())
def test_rows_equal_the_reference(key, kind):
    info, reference = DATASETS[key], TYPES[kind]
    assert list(info.classes) == reference["classes"]
    assert [list(color) for color in info.palette] == reference["palette"]
    assert info.image_suffix == (reference["image_suffix"],)
    assert info.label_suffix == (reference["label_suffix"],)
    assert info.ignore_index == reference["ignore_index"]
    if key != "COCOStuff10k":  # its configs set it, see below
        assert info.reduce_zero_label == reference["reduce_zero_label"]
    assert not info.label_map


def lay_out(root, data_set, names):
    """Empty files where a data set of the reference looks for them; the paths of images and masks, in order."""
    suffixes = TYPES[data_set["type"]]
    images = [root / data_set["image_dir"] / (name + suffixes["image_suffix"]) for name in names]
    masks = [root / data_set["label_dir"] / (name + suffixes["label_suffix"]) for name in names]
    for path in (*images, *masks):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    if data_set["split_file"]:
        listed = root / data_set["split_file"]
        listed.parent.mkdir(parents=True, exist_ok=True)
        listed.write_text("\n".join(names) + "\n")
    return [str(path) for path in images], [str(path) for path in masks]


@pytest.mark.parametrize("part", ["train", "val", "test"])
@pytest.mark.parametrize("name", LAYOUTS)
def test_files_are_found_where_the_reference_has_them(name, part, tmp_path):
    data_sets, images, masks = LAYOUTS[name][part], [], []
    for number, data_set in enumerate(data_sets):
        found = lay_out(tmp_path, data_set, [f"{number}a", f"{number}b"])
        images, masks = images + found[0], masks + found[1]

    key = ROWS.get(name, REFERENCE_NAMES[data_sets[0]["type"]][0])
    split = "val" if LAYOUTS[name]["val"] == data_sets else part
    data = {"dataset": key, "root": str(tmp_path), "classes": data_sets[0]["classes"], part: {"split": split}}
    source = build_source(data, part)
    records = [source[i]["meta"] for i in range(len(source))]
    assert [record["image_path"] for record in records] == images
    assert [record["label_path"] for record in records] == masks

    reduced = data_sets[0]["reduce_zero_label"]
    assert source.reduce_zero_label == (
        TYPES[data_sets[0]["type"]]["reduce_zero_label"] if reduced is None else reduced
    )
    if data_sets[0]["classes"]:
        assert [list(color) for color in source.palette] == data_sets[0]["palette"]


def test_mapillary_without_its_last_class(tmp_path):
    layout = LAYOUTS["mapillary_v1_65"]["val"][0]
    lay_out(tmp_path, layout, ["a"])
    classes = DATASETS["MapillaryV1"].classes[:65]
    assert list(classes) == layout["classes"]
    source = build_source(
        {"dataset": "MapillaryV1", "root": str(tmp_path), "classes": classes, "val": {"split": "val"}}, "val"
    )
    assert source.label_map == {**{index: index for index in range(65)}, 65: 255}


def test_names_of_the_folders_themselves_are_splits_too(tmp_path):
    layout = LAYOUTS["ade20k"]["train"][0]
    lay_out(tmp_path, layout, ["a"])
    data = {"dataset": "ADE20K", "root": str(tmp_path), "train": {"split": "training"}}
    assert build_source(data, "train").name == "ADE20K training"


def test_a_part_may_be_of_another_data_set(tmp_path):
    night = next(layout for name, layout in LAYOUTS.items() if "night-driving" in name)
    lay_out(tmp_path / "city", night["train"][0], ["a"])
    images, _ = lay_out(tmp_path / "night", night["test"][0], ["b"])
    test = {"dataset": "NightDriving", "root": str(tmp_path / "night"), "split": "test"}
    data = {"dataset": "Cityscapes", "root": str(tmp_path / "city"), "train": {"root": None}, "test": test}
    assert build_source(data, "train").name == "Cityscapes train"
    source = build_source(data, "test")
    assert source.name == "NightDriving test"
    assert source[0]["meta"]["image_path"] == images[0]


def names(source):
    return [source[index]["meta"]["name"] for index in range(len(source))]


def test_several_splits_and_several_files_follow_one_another(folder, make_config):
    both = build_source(make_config(folder, train={"split": ("val", "train")}), "train")
    assert both.name == "FolderDataset val+train"
    assert len(both) == 15
    assert names(both)[4:6] == ["val_00004", "train_00000"]

    (folder / "one.txt").write_text("train_00004\n")
    (folder / "two.txt").write_text("train_00002\ntrain_00001\n")
    data = make_config(folder, train={"split": "train", "split_file": ("two.txt", "one.txt")})
    assert names(build_source(data, "train")) == ["train_00002", "train_00001", "train_00004"]


def test_a_folder_of_masks_in_the_config_holds_for_all_splits(tmp_path):
    for data_set, name in zip(LAYOUTS["pascal_voc12_aug"]["train"], ("a", "b"), strict=True):
        lay_out(tmp_path, {**data_set, "label_dir": "masks"}, [name])
    data = {"dataset": "PascalVOC12Aug", "root": str(tmp_path), "label_dir": "masks", "train": {"split": "train"}}
    source = build_source(data, "train")
    assert source.name == "PascalVOC12Aug train+aug"
    assert [source[index]["meta"]["label_path"] for index in range(2)] == [
        str(tmp_path / "masks" / f"{name}.png") for name in "ab"
    ]
