"""Volumes that a dataset.json lists: its files are found, and what is wrong with it is said."""

import json

import numpy as np
import pytest

from jaxseg.data import build_source, build_transforms, eval_batches
from jaxseg.data.nifti import read_nifti, write_nifti
from jaxseg.errors import DataError

LISTING = {
    "name": "Small",
    "tensorImageSize": "4D",
    "modality": {"0": "T1", "1": "T2"},
    "labels": {"0": "background", "1": "edema", "2": "tumour"},
    "numTraining": 3,
    "numTest": 1,
    "training": [{"image": f"./imagesTr/V_{i:03d}.nii.gz", "label": f"./labelsTr/V_{i:03d}.nii.gz"} for i in (2, 0, 1)],
    "test": ["./imagesTs/V_009.nii.gz"],
}


@pytest.fixture
def volumes(tmp_path):
    """Volumes of two channels with masks; the shape of one is other than that of the rest."""
    rng = np.random.default_rng(0)
    for folder in ("imagesTr", "labelsTr", "imagesTs"):
        (tmp_path / folder).mkdir()
    for number in (0, 1, 2, 9):
        shape = (6, 5, 4) if number == 1 else (7, 5, 4)
        folder = "imagesTs" if number == 9 else "imagesTr"
        write_nifti(tmp_path / folder / f"V_{number:03d}.nii.gz", rng.random((*shape, 2), np.float32))
        label = rng.integers(0, 3, shape).astype(np.uint8)
        write_nifti(tmp_path / "labelsTr" / f"V_{number:03d}.nii.gz", label)
    (tmp_path / "dataset.json").write_text(json.dumps(LISTING))
    return tmp_path


def source_of(root, part="train", **fields):
    return build_source({"dataset": "Decathlon", "root": str(root), part: {"split": part, **fields}}, part)


def test_listed_files_are_found_in_their_order(volumes):
    source = source_of(volumes)
    assert source.name == "Decathlon training"
    assert source.classes == ("background", "edema", "tumour")
    assert source.label_map == {}
    metas = [source[index]["meta"] for index in range(len(source))]
    assert [meta["name"] for meta in metas] == ["V_002", "V_000", "V_001"]
    assert metas[2]["image_path"] == str(volumes / "imagesTr" / "V_001.nii.gz")
    assert metas[2]["num_classes"] == 3
    assert [source.size(index) for index in range(3)] == [(4, 5, 7), (4, 5, 7), (4, 5, 6)]
    assert read_nifti(metas[2]["image_path"]).shape == (6, 5, 4, 2)
    assert read_nifti(metas[2]["label_path"]).shape == (6, 5, 4)


def test_the_test_part_has_no_masks(volumes):
    source = source_of(volumes, "test")
    assert [source[0]["meta"][name] for name in ("name", "label_path")] == ["V_009", None]


def test_names_select_of_the_training_part(volumes):
    (volumes / "held_out.txt").write_text("V_001\nV_002.nii.gz\n")
    source = source_of(volumes, "val", split_file="held_out.txt")
    assert [source[index]["meta"]["name"] for index in range(len(source))] == ["V_001", "V_002"]
    assert source[0]["meta"]["label_path"].endswith("labelsTr/V_001.nii.gz")
    with pytest.raises(DataError, match=r"no part to validate on. List names of the training part"):
        source_of(volumes, "val")
    assert len(source_of(volumes, "val", split="training")) == 3
    (volumes / "held_out.txt").write_text("V_01\n")
    with pytest.raises(DataError, match=r"names 1 of 1 volumes .*: V_01. .*Did you mean V_0"):
        source_of(volumes, "val", split_file="held_out.txt")


def test_volumes_of_one_size_are_evaluated_together(volumes):
    load = build_transforms([{"type": "LoadBiomedicalImageFromFile"}, {"type": "LoadBiomedicalAnnotation"}])
    source = source_of(volumes)
    batches = list(eval_batches(source, load, batch_size=2))
    assert [batch["index"].tolist() for batch in batches] == [[0, 1], [2, -1]]
    assert [batch["image"].shape for batch in batches] == [(2, 4, 5, 7, 2), (2, 4, 5, 6, 2)]
    for batch in batches:
        for row, index in enumerate(batch["index"]):
            if index >= 0:
                stored = read_nifti(source[int(index)]["meta"]["label_path"])
                np.testing.assert_array_equal(batch["label"][row], stored.transpose(2, 1, 0))


@pytest.mark.parametrize(
    ("labels", "classes", "label_map"),
    [
        ({"background": 0, "liver": 1}, ("background", "liver"), {}),
        ({"1": "b", "0": "a"}, ("a", "b"), {}),
        ({"0": "a", "4": "c", "2": "b"}, ("a", "b", "c"), {0: 0, 2: 1, 4: 2}),
    ],
)
def test_labels_are_in_the_order_of_their_numbers(volumes, labels, classes, label_map):
    (volumes / "dataset.json").write_text(json.dumps(LISTING | {"labels": labels}))
    source = source_of(volumes)
    assert (source.classes, source.label_map) == (classes, label_map)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("{", "dataset.json is not valid JSON"),
        ("[]", "has labels None; they must be numbers with names"),
        ({"labels": {"a": "b"}}, "has labels {'a': 'b'}; they must be numbers with names"),
        ({"labels": {"0": "a", "b": 0}}, "every number must have a name of its own"),
        ({"labels": {}}, "every number must have a name"),
        ({"training": [3]}, "training has 3; it must be the path of an image"),
        ({"training": []}, "lists nothing as 'training'"),
        ({"training": [{"image": "./imagesTr/V_5.nii.gz", "label": "./labelsTr/V_000.nii.gz"}]}, "lists 1 of 2 files"),
    ],
)
def test_what_is_wrong_with_the_list_is_said(volumes, change, message):
    text = change if isinstance(change, str) else json.dumps(LISTING | change)
    (volumes / "dataset.json").write_text(text)
    with pytest.raises(DataError, match=message):
        source_of(volumes)


def test_missing_lists_and_parts_are_named(volumes):
    with pytest.raises(DataError, match=r"data.train.split is 'trainig'. Did you mean training"):
        source_of(volumes, split="trainig")
    (volumes / "dataset.json").unlink()
    with pytest.raises(DataError, match=r"Cannot read .*dataset.json, which lists the volumes"):
        source_of(volumes)
    with pytest.raises(DataError, match=r"it has dataset.json in it"):
        source_of("/nowhere")
