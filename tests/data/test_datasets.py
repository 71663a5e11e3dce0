"""The table of data sets: what it says is what the reference says, and files that lie as it has them are found."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxseg.data import DATASETS, build_source, build_transforms, eval_batches, train_batches
from jaxseg.data.datasets import REFERENCE_NAMES, WITHOUT_ROW
from jaxseg.data.transforms.loading import LoadAnnotations
from jaxseg.errors import DataError

FIXTURE = json.loads((Path(__file__).parent / "fixtures" / "datasets.json").read_text(encoding="utf-8"))
TYPES, LAYOUTS = FIXTURE["types"], FIXTURE["layouts"]

# Types of no data set in particular.
PLAIN = {"BaseCDDataset": "FolderCDDataset", "BaseSegDataset": "FolderDataset", "CustomDataset": "FolderDataset"}
# The files say what the classes are.
DESCRIBED = {"DecathlonDataset": ("Decathlon",)}
# Of MMSegmentation after 1.2.2.
LATER = {
    "HSIDrive20Dataset": {
        "classes": [
            "unlabelled", "road", "road marks", "vegetation", "painted metal", "sky", "concrete", "pedestrian", "water",
            "unpainted metal", "glass",
        ],
        "palette": [
            [0, 0, 0], [77, 77, 77], [255, 255, 255], [0, 255, 0], [255, 0, 0], [0, 0, 255], [102, 51, 0],
            [255, 255, 0], [0, 207, 250], [255, 166, 0], [0, 204, 204],
        ],
        "image_suffix": ".npy",
        "image_suffix2": None,
        "label_suffix": ".png",
        "reduce_zero_label": False,
        "ignore_index": 255,
    },
}  # fmt: skip
OF_ITS_OWN = {
    row: kind for kind, rows in REFERENCE_NAMES.items() if kind not in PLAIN and kind not in DESCRIBED for row in rows
}

# The reference's configs of data sets -> the row that a recipe names, if it is not that of the type.
ROWS = {"coco-stuff10k": "COCOStuff10k", "pascal_voc12_aug": "PascalVOC12Aug"}


def test_every_type_has_a_row():
    assert set(REFERENCE_NAMES) | set(WITHOUT_ROW) == {*TYPES, *LATER, "CustomDataset"}
    assert set(WITHOUT_ROW) == {"DSDLSegDataset"}
    assert {kind: REFERENCE_NAMES[kind] for kind in PLAIN} == {kind: (row,) for kind, row in PLAIN.items()}
    assert {kind: REFERENCE_NAMES[kind] for kind in DESCRIBED} == DESCRIBED
    assert {kind for kind in TYPES if not TYPES[kind]} == {*PLAIN, *DESCRIBED, *WITHOUT_ROW} - {"CustomDataset"}
    ours = {"CamVid", "Demo", "TFDS"}
    assert set(OF_ITS_OWN) | set(PLAIN.values()) | {"Decathlon"} | ours == set(DATASETS)


@pytest.mark.parametrize(("key", "kind"), OF_ITS_OWN.items())
def test_rows_equal_the_reference(key, kind):
    info, reference = DATASETS[key], (TYPES | LATER)[kind]
    assert list(info.classes) == reference["classes"]
    assert [list(color) for color in info.palette] == reference["palette"]
    assert info.image_suffix == (reference["image_suffix"],)
    assert info.image_suffix2 == ((reference["image_suffix2"],) if reference["image_suffix2"] else ())
    assert info.label_suffix == (reference["label_suffix"],)
    assert info.ignore_index == reference["ignore_index"]
    if key != "COCOStuff10k":  # its configs set it, see below
        assert info.reduce_zero_label == reference["reduce_zero_label"]
    assert not info.label_map


def lay_out(root, data_set, names):
    """Empty files where a data set of the reference looks for them; the paths of images, second ones, and masks."""
    suffixes = TYPES[data_set["type"]]
    images = [root / data_set["image_dir"] / (name + suffixes["image_suffix"]) for name in names]
    masks = [root / data_set["label_dir"] / (name + suffixes["label_suffix"]) for name in names]
    folder2, suffix2 = data_set["image_dir2"], suffixes.get("image_suffix2")
    seconds = [root / folder2 / (name + suffix2) for name in names] if folder2 else []
    for path in (*images, *seconds, *masks):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    if data_set["split_file"]:
        listed = root / data_set["split_file"]
        listed.parent.mkdir(parents=True, exist_ok=True)
        listed.write_text("\n".join(names) + "\n")
    return tuple([str(path) for path in paths] for paths in (images, seconds, masks))


@pytest.mark.parametrize("part", ["train", "val", "test"])
@pytest.mark.parametrize("name", LAYOUTS)
def test_files_are_found_where_the_reference_has_them(name, part, tmp_path):
    data_sets, images, seconds, masks = LAYOUTS[name][part], [], [], []
    for number, data_set in enumerate(data_sets):
        found = lay_out(tmp_path, data_set, [f"{number}a", f"{number}b"])
        images, seconds, masks = images + found[0], seconds + found[1], masks + found[2]

    key = ROWS.get(name, REFERENCE_NAMES[data_sets[0]["type"]][0])
    evaluated = "test" if name == "levir_256x256" else "val"  # where both are the same files
    split = evaluated if LAYOUTS[name]["val"] == data_sets else part
    data = {"dataset": key, "root": str(tmp_path), "classes": data_sets[0]["classes"], part: {"split": split}}
    source = build_source(data, part)
    records = [source[i]["meta"] for i in range(len(source))]
    assert [record["image_path"] for record in records] == images
    assert [record["label_path"] for record in records] == masks
    assert [record["image_path2"] for record in records if "image_path2" in record] == seconds

    reduced = data_sets[0]["reduce_zero_label"]
    assert source.reduce_zero_label == (
        TYPES[data_sets[0]["type"]]["reduce_zero_label"] if reduced is None else reduced
    )
    if data_sets[0]["classes"]:
        assert [list(color) for color in source.palette] == data_sets[0]["palette"]


def test_scenes_are_read_from_names(tmp_path):
    names = ["living_room_0001", "bathroom_12", "study_room_3", "kitchen", "attic_1"]
    lay_out(tmp_path, LAYOUTS["nyu"]["train"][0], names)
    source = build_source({"dataset": "NYU", "root": str(tmp_path), "train": {"split": "train"}}, "train")
    scenes = {record["name"]: record["category_id"] for record in (source[i]["meta"] for i in range(len(source)))}
    expected = dict(zip(names, ("living_room", "bathroom", "study_room", "kitchen"), strict=False))
    assert scenes == {name: source.classes.index(scene) for name, scene in expected.items()} | {"attic_1": -1}


def test_a_second_image_that_is_missing_is_named(tmp_path):
    _, seconds, _ = lay_out(tmp_path, LAYOUTS["levir_256x256"]["train"][0], ["a", "b"])
    data = {"dataset": "LEVIRCD", "root": str(tmp_path), "train": {"split": "train"}}
    Path(seconds[1]).unlink()
    with pytest.raises(DataError, match=r"1 of 2 images in .*A have no second image in .*B: b.png.*image_suffix2"):
        build_source(data, "train")
    shutil.rmtree(tmp_path / "train" / "B")
    with pytest.raises(DataError, match=r"train/B does not exist. Set data.image_dir2"):
        build_source(data, "train")


# Every row of folders, with files that the test writes.
FOLDERS = [key for key, info in DATASETS.items() if info.kind == "folder"]


@pytest.mark.parametrize("key", FOLDERS)
def test_what_is_written_into_the_folders_is_read_back(key, tmp_path):
    info, rng = DATASETS[key], np.random.default_rng(0)
    classes = info.classes or ("no", "yes")
    label = rng.integers(0, len(classes), (16, 24)).astype(np.uint8)
    label[0, :3] = 255
    stored = np.where(label == 255, 0, label + 1) if info.reduce_zero_label else label
    for part in ("train", "val", "test"):
        own = info.splits.get(part, part)
        for split in (own,) if isinstance(own, str) else own:
            folders = info.image_dir, info.image_dir2, info.label_dirs.get(split, info.label_dir)
            suffixes = info.image_suffix[0], (info.image_suffix2 or info.image_suffix)[0], info.label_suffix[0]
            for folder, suffix in zip(folders, suffixes, strict=True):
                path = tmp_path / folder.format(split=split) / f"{split}_1{suffix}"
                path.parent.mkdir(parents=True, exist_ok=True)
                if suffix == ".npy":
                    np.save(path, rng.random((16, 24, 25), np.float32))
                elif folder:
                    Image.fromarray(stored.astype(np.uint8)).save(path)
            if info.split_file:
                names = tmp_path / info.split_file.format(split=split)
                names.parent.mkdir(parents=True, exist_ok=True)
                names.write_text(f"{split}_1\n")
    for part in ("train", "val", "test"):
        data = {"dataset": key, "root": str(tmp_path), "classes": info.classes or classes, part: {"split": part}}
        source = build_source(data, part)
        assert len(source) == (2 if (key, part) == ("PascalVOC12Aug", "train") else 1)
        record = source[0]
        assert Path(record["meta"]["image_path"]).is_file()
        assert ("image_path2" in record["meta"]) == bool(info.image_dir2)
        assert source.size(0) == (16, 24)
        if not info.depth:
            np.testing.assert_array_equal(LoadAnnotations()(record)["label"], label)


def write_pictures(tmp_path, **pictures):
    """Writes a picture a path below the folder."""
    for name, picture in pictures.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path)


def test_two_dates_become_one_image_of_six_channels(tmp_path):
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (8, 9, 3), dtype=np.uint8) for _ in range(2)]
    mask = rng.integers(0, 2, (8, 9)).astype(np.uint8)
    write_pictures(tmp_path, **{"train/A/x.png": pictures[0], "train/B/x.png": pictures[1], "train/label/x.png": mask})
    data = {"dataset": "LEVIRCD", "root": str(tmp_path), "train": {"split": "train"}}
    transforms = [{"type": kind} for kind in ("LoadMultipleRSImageFromFile", "LoadAnnotations", "ConcatCDInput")]
    source = build_source(data, "train")
    with train_batches(source, build_transforms(transforms), batch_size=2, seed=0) as batches:
        batch = next(batches)
    np.testing.assert_array_equal(batch["image"], [np.concatenate(pictures, axis=-1)] * 2)
    np.testing.assert_array_equal(batch["label"], [mask] * 2)


def test_hyperspectral_pictures_have_all_their_bands(tmp_path):
    bands = np.random.default_rng(0).random((8, 9, 25), np.float32)
    write_pictures(tmp_path, **{"annotations/training/x.png": np.full((8, 9), 10, np.uint8)})
    (tmp_path / "images" / "training").mkdir(parents=True)
    np.save(tmp_path / "images" / "training" / "x.npy", bands)
    data = {"dataset": "HSIDrive20", "root": str(tmp_path), "channels": 25, "train": {"split": "train"}}
    transforms = build_transforms([{"type": "LoadImage"}, {"type": "LoadAnnotations"}])
    record = transforms(build_source(data, "train")[0], np.random.default_rng(0))
    np.testing.assert_array_equal(record["image"], bands)
    assert record["label"].max() == 10


def test_depths_are_read_in_metres(tmp_path):
    rng = np.random.default_rng(0)
    image, depth = rng.integers(0, 256, (8, 9, 3), dtype=np.uint8), rng.integers(500, 9999, (8, 9)).astype(np.uint16)
    write_pictures(tmp_path, **{"images/test/office_0001.jpg": image, "annotations/test/office_0001.png": depth})
    source = build_source({"dataset": "NYU", "root": str(tmp_path), "val": {"split": "val"}}, "val")
    transforms = [{"type": "LoadImage"}, {"type": "LoadDepthAnnotation", "depth_rescale_factor": 0.001}]
    (batch,) = eval_batches(source, build_transforms(transforms), batch_size=1)
    np.testing.assert_allclose(batch["label"][0], depth / 1000, rtol=1e-6)
    assert batch["label"].dtype == np.float32
    assert source.classes[batch["meta"][0]["category_id"]] == "office"


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
    images, *_ = lay_out(tmp_path / "night", night["test"][0], ["b"])
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
    joined = build_source(make_config(folder, train={"split": "val+train"}), "train")
    assert (joined.name, names(joined)) == (both.name, names(both))

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
