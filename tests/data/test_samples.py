"""Files of real data sets, a few of each, are found and read; needs a folder of them."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxseg.data import build_source, build_transforms
from jaxseg.data.nifti import read_nifti, write_nifti

REAL_DATA = Path(os.environ.get("JAXSEG_DATA", Path(__file__).parents[2] / ".." / "shared" / "data"))
SAMPLES = REAL_DATA / "samples" / "toolbox_fixtures"
pytestmark = pytest.mark.skipif(not SAMPLES.is_dir(), reason=f"needs {SAMPLES} (set JAXSEG_DATA)")
LOAD = ({"type": "LoadImage"}, {"type": "LoadAnnotations"})
TILES = {"image_dir": "img_dir", "label_dir": "ann_dir"}

# Folder and data set -> fields, and the split with how many records it has.
SETS = {
    ("bdd100k", "BDD100K"): ({}, {"train": 3, "val": 3}),
    ("cityscapes", "Cityscapes"): ({}, {"val": 1}),
    ("lip", "LIP"): ({}, {"train": 1, "val": 1}),
    ("mapillary", "MapillaryV1"): ({"image_dir": "images", "label_dir": "v1.2"}, {"train": 1}),
    ("mapillary", "MapillaryV2"): ({"image_dir": "images", "label_dir": "v2.0"}, {"train": 1}),
    ("potsdam", "Potsdam"): (TILES, {"train": 1}),
    ("synapse", "Synapse"): (TILES, {"train": 2}),
    ("vaihingen", "Vaihingen"): (TILES, {"train": 1}),
}


@pytest.mark.parametrize(("folder", "key"), SETS)
def test_pictures_and_masks_are_read(folder, key):
    fields, splits = SETS[folder, key]
    for part, count in splits.items():
        root = str(SAMPLES / f"pseudo_{folder}_dataset")
        source = build_source({"dataset": key, "root": root, **fields, part: {"split": part}}, part)
        assert len(source) == count
        for index in range(count):
            meta = source[index]["meta"]
            record = build_transforms(LOAD)(source[index], np.random.default_rng(0))
            assert record["image"].shape == (*source.size(index), 3)
            stored = np.array(Image.open(meta["label_path"])).astype(int)
            if source.reduce_zero_label:
                stored = np.where((stored == 0) | (stored == 255), 255, stored - 1)
            np.testing.assert_array_equal(record["label"], stored)


def test_split_files_with_other_suffixes():
    root = SAMPLES / "pseudo_dataset"
    fields = {"classes": tuple("abcdefg"), "image_dir": "imgs", "image_suffix": "_img.jpg", "label_dir": "gts"}
    for part in ("train", "val"):
        names = (root / "splits" / f"{part}.txt").read_text().split()
        data = {"dataset": "FolderDataset", "root": str(root), "label_suffix": "_gt.png", **fields}
        source = build_source({**data, part: {"split": part, "split_file": "splits/{split}.txt"}}, part)
        assert [source[index]["meta"]["name"] for index in range(len(source))] == names
        for index in range(len(source)):
            build_transforms(LOAD)(source[index], np.random.default_rng(0))


def test_depths(tmp_path):
    for folder in ("images", "annotations"):
        shutil.copytree(SAMPLES / "pseudo_nyu_dataset" / folder, tmp_path / folder / "train")
    source = build_source({"dataset": "NYU", "root": str(tmp_path), "train": {"split": "train"}}, "train")
    transforms = [{"type": "LoadImage"}, {"type": "LoadDepthAnnotation", "depth_rescale_factor": 0.001}]
    record = build_transforms(transforms)(source[0], np.random.default_rng(0))
    assert source.classes[record["meta"]["category_id"]] == "bookstore"
    assert record["label"].shape == record["image"].shape[:2] == source.size(0)
    assert 0.5 < np.median(record["label"]) < 10  # metres


def test_volumes_of_the_list(tmp_path):
    listing = json.loads((SAMPLES / "dataset.json").read_text())
    (tmp_path / "dataset.json").write_text(json.dumps(listing))
    image, label = (read_nifti(SAMPLES / f"biomedical{end}.nii.gz") for end in ("", "_ann"))
    for pair in listing["training"]:
        for name, volume in ((pair["image"], image), (pair["label"], label)):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            write_nifti(tmp_path / name, volume)
    data = {"dataset": "Decathlon", "root": str(tmp_path), "train": {"split": "train"}}
    source = build_source(data, "train")
    assert source.classes == ("background", "edema", "non-enhancing tumor", "enhancing tumour")
    transforms = [{"type": "LoadBiomedicalImageFromFile"}, {"type": "LoadBiomedicalAnnotation"}]
    record = build_transforms(transforms)(source[0], np.random.default_rng(0))
    assert record["image"].shape[:3] == record["label"].shape == source.size(0) == label.shape[::-1]
