"""What TensorFlow Datasets prepared is read without it, and what is not as it should be is named."""

import json
import pickle
import runpy
import zipfile
from pathlib import Path

import numpy as np
import pytest
from array_record.python.array_record_data_source import ArrayRecordDataSource
from array_record.python.array_record_module import ArrayRecordWriter

from jaxseg.data import build_source, build_transforms, check_source, eval_batches, train_batches
from jaxseg.data.tf_example import parse_example
from jaxseg.errors import ConfigError, DataError

TOOL = runpy.run_path(str(Path(__file__).parent / "make_tfds_fixture.py"))
CLASSES = TOOL["CLASSES"]
LOAD = ({"type": "LoadImage"}, {"type": "LoadAnnotations"})
TRAIN = "shapes-train.array_record-00000-of-00001"


@pytest.fixture
def prepared(tmp_path):
    """The folder of a version, as TensorFlow Datasets has written it."""
    folder = tmp_path / "shapes" / "1.0.0"
    with zipfile.ZipFile(TOOL["FIXTURE"]) as archive:
        archive.extractall(folder)
    return folder


def source_of(root, part="train", classes=CLASSES, split=None, **fields):
    data = {"dataset": "TFDS", "root": str(root), "classes": classes, **fields}
    return build_source({**data, part: {"split": split or part}}, part)


def numbers(source):
    return [int(source[index]["meta"]["name"].split()[1].removesuffix(".png")) for index in range(len(source))]


@pytest.mark.parametrize("label_key", [None, "segmentation_mask", "labeled", "packed", "plain"])
def test_pictures_are_those_that_were_stored(prepared, label_key):
    source = source_of(prepared, label_key=label_key)
    assert sorted(numbers(source)) == [0, 1, 2, 3, 4]
    for index, number in enumerate(numbers(source)):
        image, mask = TOOL["draw"](number)
        record = build_transforms(LOAD)(source[index], np.random.default_rng(0))
        np.testing.assert_array_equal(record["image"], image)
        np.testing.assert_array_equal(record["label"], mask)
        assert record["label"].dtype == np.uint8
        assert source.size(index) == mask.shape == record["meta"]["original_size"]


def test_names_of_classes_come_along(prepared):
    assert source_of(prepared, classes=None, label_key="labeled").classes == CLASSES
    with pytest.raises(ConfigError, match=r"data.classes is not set, and TFDS has none"):
        source_of(prepared, classes=None)


def test_stored_numbers_mean_what_the_config_says(prepared):
    plain, mapped = source_of(prepared), source_of(prepared, classes=("no", "yes"), label_map={2: 1, 1: 255})
    for index in range(5):
        expected = np.array([0, 255, 1])[plain[index]["label"]]
        np.testing.assert_array_equal(mapped[index]["label"], expected)
    reduced = source_of(prepared, classes=("disk", "box"), reduce_zero_label=True)
    np.testing.assert_array_equal(reduced[0]["label"], np.array([255, 0, 1])[plain[0]["label"]])
    with pytest.raises(DataError, match=r"00000-of-00001, example 0 holds 2, but labels must be 0..1 or 255"):
        source_of(prepared, classes=("no", "yes"))[0]


def test_parts_of_splits_by_their_numbers(prepared):
    assert len(source_of(prepared, "val")) == 3
    whole = numbers(source_of(prepared))
    for split, expected in {
        "train[:60%]": whole[:3],
        "train[60%:]": whole[3:],
        "train[-2:]": whole[-2:],
        "train[1:3]": whole[1:3],
        "train[:99]": whole,
    }.items():
        assert numbers(source_of(prepared, split=split)) == expected
    assert numbers(source_of(prepared, split=("validation", "train[:1]")))[3:] == whole[:1]
    with pytest.raises(DataError, match="selects nothing of its 5 examples"):
        source_of(prepared, split="train[3:2]")
    with pytest.raises(DataError, match=r"no split 'trian'. Did you mean train"):
        source_of(prepared, split="trian")


def test_several_files_follow_one_another(prepared):
    examples = [ArrayRecordDataSource(str(prepared / TRAIN))[index] for index in range(5)]
    whole = numbers(source_of(prepared))
    info = json.loads((prepared / "dataset_info.json").read_text())
    info["splits"][0]["shardLengths"] = ["2", "0", "3"]
    (prepared / "dataset_info.json").write_text(json.dumps(info))
    for number, stored in enumerate((examples[:2], [], examples[2:])):
        writer = ArrayRecordWriter(str(prepared / f"shapes-train.array_record-{number:05d}-of-00003"), "group_size:1")
        for example in stored:
            writer.write(example)
        writer.close()
    assert numbers(source_of(prepared)) == whole
    source = source_of(prepared, split="train[1:4]")
    assert numbers(source) == whole[1:4]
    assert numbers(pickle.loads(pickle.dumps(source))) == whole[1:4]
    with pytest.raises(IndexError):
        source[3]
    with pytest.raises(IndexError):
        source[-1]
    (prepared / "shapes-train.array_record-00002-of-00003").unlink()
    with pytest.raises(DataError, match=r"lacks 1 of 3 files of 'train': shapes-train.array_record-00002-of-00003"):
        source_of(prepared)


def test_they_are_checked_trained_on_and_evaluated(prepared):
    source = source_of(prepared)
    assert check_source(source, LOAD)[0] == "TFDS train: 5 of 5 files read, images of 14x10, 12x16 (height x width)."
    crop = ({"type": "RandomCrop", "crop_size": (8, 8)},)
    streams = []
    for options in ({}, {"read_threads": 5}):
        with train_batches(source, build_transforms((*LOAD, *crop)), batch_size=4, seed=0, **options) as batches:
            streams.append([next(batches) for _ in range(3)])
    for here, there in zip(*streams, strict=True):
        assert here["image"].shape == (4, 8, 8, 3)
        np.testing.assert_array_equal(here["image"], there["image"])
    batches = list(eval_batches(source_of(prepared, "val"), build_transforms(LOAD), batch_size=2))
    assert sorted(index for batch in batches for index in batch["index"].tolist()) == [-1, 0, 1, 2]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"image_key": "imag"}, r"data.image_key is 'imag'. .* has no feature 'imag'. Did you mean image"),
        ({"image_key": "count"}, r"has no picture 'count'"),
        ({"masks": "colors", "mask_colors": {"#fff": 1}}, r"data.masks is 'colors'; TFDS has RGB images and masks of"),
        ({"channels": 4}, r"data.channels is 4; TFDS has RGB images"),
        ({"label_key": "label"}, r"data.label_key is 'label'. .* has no picture 'label'"),
        ({"label_key": "lable"}, r"no feature 'lable'. Did you mean labeled"),
    ],
)
def test_features_that_are_not_there_are_named(prepared, fields, message):
    with pytest.raises(ConfigError, match=message):
        source_of(prepared, **fields)


def test_without_a_mask(prepared):
    content = json.loads((prepared / "features.json").read_text())
    del content["featuresDict"]["features"]["segmentation_mask"]
    (prepared / "features.json").write_text(json.dumps(content))
    source = source_of(prepared)
    assert "label" not in source[0]
    with pytest.raises(DataError, match="has no mask"):
        build_transforms(LOAD)(source[0], np.random.default_rng(0))


def test_masks_of_another_size_are_named(prepared):
    with pytest.raises(DataError, match=r"example 0: the mask is \(2, 3\), but its image \(1\d, 1\d\)"):
        source_of(prepared, label_key="corner")[0]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("dataset_info.json", "{", "dataset_info.json is not valid JSON"),
        ("dataset_info.json", "[]", "holds no description"),
        ("dataset_info.json", '{"fileFormat": "tfrecord"}', "of the format 'tfrecord'; prepare it with .*array_record"),
        ("features.json", "{}", "data.image_key is 'image'"),
    ],
)
def test_descriptions_that_say_something_else(prepared, name, content, message):
    (prepared / name).write_text(content)
    with pytest.raises((DataError, ConfigError), match=message):
        source_of(prepared)


def test_the_folder_above_is_not_the_data_set(prepared):
    with pytest.raises(DataError, match=r"has no dataset_info.json.* Give one of the folders below it: shapes/1.0.0\."):
        source_of(prepared.parent.parent)
    with pytest.raises(DataError, match="which is not a folder"):
        source_of(prepared / "2.0.0")


def test_damaged_files_are_named(prepared):
    path = prepared / TRAIN
    stored = bytearray(path.read_bytes())
    for place in range(200, 60000, 50):
        stored[place] ^= 255
    path.write_bytes(stored)
    with pytest.raises(DataError, match=rf"{TRAIN}, example \d.* Copy or prepare the file again"):
        numbers(source_of(prepared))


def test_examples_hold_bytes_floats_and_whole_numbers(prepared):
    examples = ArrayRecordDataSource(str(prepared / TRAIN))
    for index in range(5):
        example = parse_example(examples[index], "it")
        number = int(example["file_name"][0].decode().split()[1].removesuffix(".png"))
        assert example["count"].tolist() == [-number]
        assert example["label"].tolist() == [1]
        assert example["boxes/side"].tolist() == [0.5] * (number % 3)
        np.testing.assert_array_equal(example["corner"], TOOL["draw"](number)[1][:2, :3].ravel())


@pytest.mark.parametrize("content", [b"\xff", b"\x0a\x10abc", b"\x0a\x03\x08\x01\x07", b"\x0b", b"\x0a\x02\x0a\x7f"])
def test_what_is_no_example_is_refused(content):
    with pytest.raises(DataError, match="it holds no example as TensorFlow Datasets writes it"):
        parse_example(content, "it")
