"""Data sets of MMSegmentation configs: where their files are, several in one, kinds of their own."""

import os
from pathlib import Path

import pytest

from jaxseg.data import build_source
from jaxseg.errors import ConfigError
from jaxseg.mmseg import translate


def leaf(**fields):
    pipeline = [{"type": "LoadImageFromFile"}, {"type": "LoadAnnotations"}]
    return {"type": "BaseSegDataset", "metainfo": {"classes": ("a", "b")}, "pipeline": pipeline} | fields


def data_of(config, *datasets):
    for part, dataset in zip(("train", "val", "test"), datasets, strict=False):
        config[f"{part}_dataloader"]["dataset"] = dataset
    return translate(config).config.data


def test_plain_data_set_without_folders(new):
    data = data_of(new, *[leaf(data_root="/data")] * 3)
    # All in one folder: images end in .jpg and masks in .png.
    assert (data.root, data.image_dir, data.label_dir) == ("/data", "", ".")
    assert (data.image_suffix, data.label_suffix) == ((".jpg",), (".png",))
    data = data_of(new, *[leaf(data_prefix={"img_path": "/a/images/", "seg_map_path": "/a/masks"})] * 3)
    assert (data.root, data.image_dir, data.label_dir) == (".", "/a/images", "/a/masks")
    data = data_of(new, leaf(), leaf(), leaf(data_prefix={"img_path": "images"}))
    assert (data.val.label_dir, data.test.label_dir) == (".", "")  # no masks there


def test_a_root_that_is_called_as_the_data_set(new):
    train = leaf(type="CityscapesDataset", data_root="data", metainfo=None)
    data = data_of(new, train, *[train | {"data_root": "Cityscapes"}] * 2)
    assert (data.dataset, data.root, data.val.root, data.test.root) == (
        "Cityscapes",
        "data",
        "Cityscapes",
        "Cityscapes",
    )
    assert "root" not in data.train


def test_classes_of_a_file(new, tmp_path):
    (tmp_path / "names.txt").write_text("sky\nroad\n\n")
    data = data_of(new, *[leaf(metainfo={"classes": str(tmp_path / "names.txt")})] * 3)
    assert data.classes == ("sky", "road")
    with pytest.raises(ConfigError, match=r"metainfo.classes='no.txt' is no file"):
        data_of(new, leaf(metainfo={"classes": "no.txt"}))


def test_data_sets_of_several_parts(new):
    cityscapes = leaf(type="CityscapesDataset", data_root="data/cityscapes", metainfo=None)
    parts = [
        cityscapes | {"data_prefix": {"img_path": f"leftImg8bit/{part}", "seg_map_path": f"gtFine/{part}"}}
        for part in ("train", "val")
    ]
    both = {"type": "RepeatDataset", "times": 4, "dataset": {"type": "ConcatDataset", "datasets": parts}}
    data = data_of(new, both, parts[1], parts[1])
    assert (data.dataset, data.train.split, data.val.split, data.test.split) == (
        "Cityscapes", ("train", "val"), "val", "val",
    )  # fmt: skip
    assert "train_dataloader.dataset.times" in translate(new).ignored
    other = parts[1] | {"pipeline": parts[1]["pipeline"][:1]}
    with pytest.raises(
        ConfigError, match=r"datasets\[1\].pipeline differs from train_dataloader.dataset.datasets\[0\]"
    ):
        data_of(new, {"type": "ConcatDataset", "datasets": [parts[0], other]})
    with pytest.raises(ConfigError, match="datasets is empty"):
        data_of(new, {"type": "ConcatDataset", "datasets": []})


# The folders of two data sets that are concatenated: root, images, masks, names of the images.
CONCATENATED = {
    "roots": (("one", "img", "ann", None), ("two", "img", "ann", None)),
    "folders": ((".", "img/site_a/x", "ann/site_a/x", None), (".", "img/site_b/x", "ann/site_b/x", None)),
    "both": (("one/a", "img/1", "ann/1", None), ("two", "img/1", "ann/1", None)),
    "names": (("one", "img", "ann", "a.txt"), ("one", "img", "ann", "b.txt")),
    "twice": (("one", "img", "ann", None), ("one", "img", "ann", None)),
}


@pytest.mark.parametrize("name", CONCATENATED)
@pytest.mark.parametrize("absolute", [False, True])
def test_concatenated_data_sets_have_the_files_of_each(new, tmp_path, monkeypatch, name, absolute):
    monkeypatch.chdir(tmp_path)
    leaves, expected = [], []
    for number, (root, images, masks, names) in enumerate(CONCATENATED[name]):
        root = Path(tmp_path, root) if absolute else Path(root)
        for stem in ("first", f"second_{number}"):
            pair = root / images / f"{stem}.jpg", root / masks / f"{stem}.png"
            for file in pair:
                file.parent.mkdir(parents=True, exist_ok=True)
                file.touch()
        if names:
            (root / names).write_text(f"second_{number}\n")
        folders = {"data_prefix": {"img_path": images, "seg_map_path": masks}, "ann_file": names or ""}
        leaves.append(leaf(data_root=str(root), **folders))
    data = data_of(new, {"type": "ConcatDataset", "datasets": leaves}, *leaves)
    for dataset in leaves:
        expected += paths(data_of(new, *[dataset] * 3), "val")
    found = paths(data, "train")
    for place in (0, 1):
        assert [os.path.abspath(pair[place]) for pair in found] == [os.path.abspath(pair[place]) for pair in expected]
        assert {os.path.exists(pair[place]) for pair in found} == {True}


def paths(data, part):
    """Images and masks of a part."""
    source = build_source(data.to_dict(), part)
    metas = [source[index]["meta"] for index in range(len(source))]
    return [(meta["image_path"], meta["label_path"]) for meta in metas]


def test_several_data_sets_become_sources_with_weights(new):
    """Of several types and roots, repeated within and around."""
    classes = {"classes": ("road", "car"), "palette": [[128, 64, 128], [0, 0, 142]]}
    city = leaf(type="CityscapesDataset", data_root="data/city", metainfo=classes)
    city |= {"data_prefix": {"img_path": "leftImg8bit/train", "seg_map_path": "gtFine/train"}}
    own = leaf(data_root="data/own", metainfo=classes, data_prefix={"img_path": "a", "seg_map_path": "b"})
    other = own | {"data_root": "data/other"}

    def repeated(times, dataset):
        return {"type": "RepeatDataset", "times": times, "dataset": dataset}

    def together(*datasets):
        return {"type": "ConcatDataset", "datasets": list(datasets)}

    val = city | {"data_prefix": {"img_path": "leftImg8bit/val", "seg_map_path": "gtFine/val"}}
    data = data_of(new, repeated(7, together(city, repeated(3, own))), val, val)
    assert (data.dataset, data.root, data.image_dir, data.train.split) == ("Cityscapes", "data/city", None, "train")
    given = {"classes": ("road", "car"), "palette": ((128, 64, 128), (0, 0, 142))}
    plain = {"dataset": "FolderDataset", "image_dir": "a", "label_dir": "b", "split_file": "", "root": "data/own"}
    plain |= given | {"image_suffix": (".jpg",), "label_suffix": (".png",)}
    assert data.train.sources == ({"split": "train", **given}, {**plain, "weight": 3.0})
    assert (data.val.split, data.val.sources, data.val.classes) == ("val", (), ("road", "car"))

    # Only ratios matter; what entries of one data set have in common is the part's.
    data = data_of(new, together(repeated(4, repeated(2, own)), repeated(12, other)), own, own)
    assert data.train.sources == ({"weight": 2.0}, {"root": "data/other", "weight": 3.0})
    assert (data.root, data.image_dir, data.train.get("image_dir")) == ("data/own", "a", None)
    assert [transform["type"] for transform in data.train.transforms] == ["LoadImage", "LoadAnnotations", "Pad"]

    # Scores count every image once.
    data = data_of(new, own, together(own, repeated(2, other)), own)
    assert data.val.sources == ({}, {"root": "data/other"})


def test_mixing_wrappers_add_their_pipeline(new):
    inner = leaf(data_prefix={"img_path": "a", "seg_map_path": "b"})
    mixed = {"type": "MultiImageMixDataset", "dataset": inner, "pipeline": [{"type": "RandomFlip", "prob": 0.5}]}
    data = data_of(new, {"type": "RepeatDataset", "times": 2, "dataset": mixed}, inner, inner)
    assert [transform["type"] for transform in data.train.transforms][:3] == [
        "LoadImage", "LoadAnnotations", "RandomFlip",
    ]  # fmt: skip
    mosaic = {"type": "RandomMosaic", "prob": 1.0, "img_scale": (32, 64)}
    both = mixed | {"pipeline": [*mixed["pipeline"], mosaic], "skip_type_keys": ["RandomFlip"]}
    data = data_of(new, both, inner, inner)
    assert [transform["type"] for transform in data.train.transforms][2:] == ["RandomMosaic", "Pad"]
    assert data.train.transforms[2]["img_scale"] == (32, 64)
    with pytest.raises(ConfigError, match=r"pipeline\[1\]: a RandomMosaic must be the first"):
        data_of(new, {**both, "skip_type_keys": None}, inner, inner)


def test_two_images_depths_and_volumes(new):
    levir = leaf(type="LEVIRCDDataset", data_root="data/levir", metainfo=None)
    levir = [
        levir | {"data_prefix": {"img_path": f"{part}/A", "img_path2": f"{part}/B", "seg_map_path": f"{part}/label"}}
        for part in ("train", "test")
    ]
    data = data_of(new, levir[0], levir[1], levir[1])
    assert (data.dataset, data.train.split, data.val.split, data.test.split) == ("LEVIRCD", "train", "test", "test")
    assert (data.image_dir, data.image_dir2, data.image_suffix2, data.train.sources) == (None, None, None, ())

    moved = levir[0] | {"data_prefix": {"img_path": "x", "img_path2": "y", "seg_map_path": "z"}, "img_suffix2": ".tif"}
    data = data_of(new, moved, moved, moved)
    assert (data.image_dir, data.image_dir2, data.label_dir, data.image_suffix2) == ("x", "y", "z", (".tif",))
    base = moved | {"type": "BaseCDDataset", "metainfo": {"classes": ("same", "changed")}}
    data = data_of(new, base, base, base)
    assert (data.dataset, data.image_suffix, data.image_suffix2) == ("FolderCDDataset", (".jpg",), (".tif",))

    nyu = [leaf(type="NYUDataset", data_root="data/nyu", metainfo=None) for _ in range(2)]
    for dataset, part in zip(nyu, ("train", "test"), strict=True):
        dataset["data_prefix"] = {"img_path": f"images/{part}", "depth_map_path": f"annotations/{part}"}
        dataset["pipeline"] = dataset["pipeline"][:1]
    data = data_of(new, nyu[0], nyu[1], nyu[1])
    assert (data.dataset, data.train.split, data.val.split, data.test.split) == ("NYU", "train", "val", "val")
    del nyu[0]["data_prefix"]
    data = data_of(new, nyu[0], nyu[0], nyu[0])
    assert (data.image_dir, data.label_dir) == ("images", "annotations")

    volumes = leaf(type="DecathlonDataset", data_root="data/brats", ann_file="dataset.json", metainfo=None)
    data = data_of(new, volumes, volumes | {"test_mode": True}, volumes | {"test_mode": True})
    assert (data.dataset, data.root, data.train.split, data.val.split) == ("Decathlon", "data/brats", "train", "test")

    with pytest.raises(ConfigError, match=r"'DSDLSegDataset' has no counterpart here. It reads descriptions"):
        data_of(new, leaf(type="DSDLSegDataset"), levir[0])
