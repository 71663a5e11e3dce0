"""The check of a data set: each of many faults in one folder is found, with file and remedy; none in a clean one."""

import io
import json
import os
import shutil

import cv2
import numpy as np
import pytest
from PIL import Image

import runs
from checked_sets import CLASSES, FLAG, LOAD, TRAIN, Harmed, check, kinds, masks, only, recipe
from jaxseg.data import DemoSource, build_source, check_source, write_demo
from jaxseg.data.checking import KINDS, check_dataset, look_at
from jaxseg.data.checking.look import Header, Look, file_header, loading_steps
from jaxseg.data.checking.pictures import copy_findings, gradient_hash
from jaxseg.data.checking.reading import Task, read_all
from jaxseg.data.checking.report import write_check
from jaxseg.data.datasets import DATASETS
from jaxseg.data.masks import count_classes
from jaxseg.data.transforms import build_transforms
from jaxseg.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    return write_demo(tmp_path_factory.mktemp("clean") / "set", train=30, val=8, size=(56, 72))


@pytest.fixture(scope="module")
def harmed(clean, tmp_path_factory):
    root = shutil.copytree(clean, tmp_path_factory.mktemp("harmed") / "set")
    return root, Harmed(root).harm()


@pytest.fixture(scope="module")
def checked(harmed):
    return check(harmed[0])


def test_a_clean_folder_has_no_findings(clean):
    checked = check(clean)
    assert list(checked.findings) == []
    assert list(checked.parts) == ["train", "val"]
    assert "does not exist" in checked.skipped["test"]
    assert [len(part.looks) for part in checked.parts.values()] == [30, 8]


def test_each_fault_of_one_folder_is_found(harmed, checked):
    _, wanted = harmed
    assert len(wanted) >= 25
    found = {(finding.kind, finding.file): finding for finding in checked.findings}
    for kind, path, value, fix in wanted:
        assert (kind, path) in found, (kind, path)
        finding = found[kind, path]
        assert value in finding.value, finding
        assert fix in finding.fix, finding
        assert finding.severity == KINDS[kind].severity or kind == "binary_255"


def test_and_nothing_else(harmed, checked):
    _, wanted = harmed
    files = {path for _, path, _, _ in wanted}
    others = [f for f in checked.findings if f.file not in files and f.kind not in ("dominant_class",)]
    assert others == []
    severities = [finding.severity for finding in checked.findings]
    assert severities == sorted(severities, key=("error", "warning", "note").index)


@pytest.fixture
def folder(tmp_path):
    return write_demo(tmp_path / "set", train=12, val=4, size=(56, 72))


@pytest.mark.parametrize(
    ("change", "fields", "kind", "value", "fix"),
    [
        (lambda m: m + 1, {}, "values", "6 (", "Set data.reduce_zero_label=True: the masks count from 1 to 6"),
        (lambda m: m, {"classes": CLASSES[:5]}, "values", "5 (", "one too short"),
        (lambda m: m, {"classes": CLASSES[:4]}, "class_count", "4 names, numbers up to 5", "Give 6 names"),
        (lambda m: m, {"reduce_zero_label": True}, "off_by_one", "0 is ignored", "reduce_zero_label=False"),
        (lambda m: m * 50, {}, "values", "50 (", "{0: 0, 50: 1, 100: 2, 150: 3, 200: 4, 250: 5}"),
        (
            lambda m: np.maximum(m, 1), {}, "off_by_one", "no mask holds 0", "set data.reduce_zero_label=True"
        ),
        (
            lambda m: np.where(m > 0, 255, 0), {"classes": ("no", "yes")}, "binary_255", "none holds 1",
            "data.label_map = {255: 1}",
        ),
        (
            lambda m: np.where(m > 0, 255, 0), {"classes": ("no", "yes"), "ignore_index": 9}, "values", "255 (",
            "data.label_map = {255: 1}",
        ),
    ],
)  # fmt: skip
def test_numbers_that_all_masks_share(folder, change, fields, kind, value, fix):
    masks(folder, change)
    group = only(check(folder, ("train",), **fields), kind)
    assert value in group[0].value
    assert fix in group[0].fix


def test_masks_of_0_1_and_an_ignored_255_are_sound(folder):
    masks(folder, lambda m: np.select([m == 5, m > 0], [255, 1], 0))
    assert not kinds(check(folder, ("train",), classes=("no", "yes"))) - {"background_only"}


def test_classes_without_a_pixel_and_one_that_dominates(folder):
    masks(folder, lambda m: np.where(m == 5, 0, m))
    masks(folder, lambda m: np.where(m == 5, 0, m), "val")
    found = {f.part: f for f in check(folder).findings if f.kind == "absent_class"}
    assert [found[part].severity for part in ("train", "val")] == ["warning", "note"]
    assert found["train"].value == "1 of 6 classes in none of 12 masks: 'cross' (5)"

    def corner(m):
        m = np.zeros_like(m)
        m[:4, :9] = 1
        return m

    masks(folder, corner)
    assert (
        "'a' has 99.1% of the labelled pixels"
        in only(check(folder, ("train",), classes=("a", "b")), "dominant_class")[0].value
    )


def test_heads_with_another_number_of_classes(folder):
    model = {"decode_head": ({"num_classes": 6}, {"num_classes": None}), "auxiliary_head": {"num_classes": 19}}
    (finding,) = only(check(folder, model=model), "class_count")
    assert "model.auxiliary_head.num_classes is 19" in finding.value
    assert "--config.model.auxiliary_head.num_classes=6" in finding.fix


def test_parts_with_other_classes(folder, tmp_path):
    test = {"split": "val", "split_file": None, "transforms": LOAD, "root": str(write_demo(tmp_path / "b", seed=3))}
    checked = check(folder, test=test | {"classes": (*CLASSES, "more")})
    assert list(checked.parts) == ["train", "val", "test"]
    assert list(checked.histograms) == ["train", "val"]
    assert write_check(checked, tmp_path / "out", "parts").is_file()


def test_parts_that_are_the_same_and_records_that_are_there_twice(folder):
    fields = {"test": {"split": "val", "split_file": None, "transforms": LOAD}}
    checked = check(folder, **fields)
    assert checked.skipped == {"test": "it has the records of val"}
    assert kinds(checked) == {"absent_class"}  # one of six, in four pictures
    train = {"split": ("train", "train"), "split_file": None, "transforms": TRAIN}
    checked = check(folder, ("train",), train=train)
    assert len(checked.parts["train"].source) == 24
    assert len(checked.parts["train"].looks) == 12
    assert not checked.findings


def test_parts_of_one_folder_by_lists(folder, tmp_path):
    for kind, suffix in (("images", ".png"), ("annotations", "_labels.png")):
        (tmp_path / "one" / kind).mkdir(parents=True)
        for path in (folder / kind / "train").iterdir():
            shutil.copy(path, tmp_path / "one" / kind / (path.stem + suffix))
    for path in list((tmp_path / "one" / "annotations").iterdir()):
        shutil.copy(path, path.with_name(path.name.replace("labels", "instances")))
    names = sorted(path.stem for path in (tmp_path / "one/images").iterdir())
    (tmp_path / "one" / "train.txt").write_text("\n".join(names[:6]))
    (tmp_path / "one" / "val.txt").write_text("\n".join(names[6:10]))
    parts = {part: {"split": part, "split_file": f"{part}.txt", "transforms": LOAD} for part in ("train", "val")}
    fields = {"image_dir": "images", "label_dir": "annotations", "label_suffix": ("_labels.png",)}
    assert not kinds(check(tmp_path / "one", ("train", "val"), **fields, **parts)) - {"absent_class"}
    (tmp_path / "one" / "val.txt").write_text("\n".join(names[5:10]))
    leak = only(check(tmp_path / "one", ("train", "val"), **fields, **parts), "leak")
    assert [os.path.basename(finding.file) for finding in leak] == [names[5] + ".png"]
    assert leak[0].value == "train lists this file, too"


def test_parts_that_cannot_be_read(folder):
    with pytest.raises(DataError, match="is not a folder"):
        check(folder / "nothing")
    with pytest.raises(ConfigError, match=r"data\.classes is not set"):
        check(folder, classes=None)
    shutil.rmtree(folder / "images" / "val")
    (finding,) = only(check(folder), "part")
    assert finding.part == "val"
    assert "does not exist" in finding.value
    for path in (folder / "annotations" / "train").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="12 of 12 images"):
        check(folder)


def test_files_are_read_where_the_transforms_load_nothing(folder):
    Harmed(folder).path("mask", 0).write_bytes(b"")
    for transforms, loaded in (((), True), ((LOAD[0],), False)):
        train = {"split": "train", "split_file": None, "transforms": transforms}
        checked = check(folder, ("train",), train=train)
        assert ("unreadable" in kinds(checked)) == loaded
        assert all(look.size for look in checked.parts["train"].looks)


def test_transforms_that_make_no_batches(folder):
    train = {"split": "train", "split_file": None, "transforms": (*LOAD, {"type": "RandomCrop", "crop_size": (64, 64)})}
    checked = check(folder, ("train",), train=train)
    (batch,) = only(checked, "batch")
    assert "(64, 64) (h, w) is larger than every image" in batch.value
    assert "'Pad'" in batch.fix
    assert len(only(checked, "small_image")) == 12


def test_processes_see_what_threads_see(harmed, monkeypatch):
    monkeypatch.setattr("jaxseg.data.checking.reading._FEW", 3)
    source = build_source(recipe(harmed[0])["data"] | {"unpaired": []}, "train")
    steps = loading_steps(build_transforms(LOAD))
    task = Task(source, steps, tuple(range(len(source))), frozenset({2}))
    done = []
    (alone,), (together,) = read_all([task], 0), read_all([task], 2, lambda: done.append(1))
    assert len(done) == len(alone) == len(together) == len(source)
    for one, other in zip(alone, together, strict=True):
        assert (one.name, one.problem, one.value, one.header, one.digest) == (
            other.name, other.problem, other.value, other.header, other.digest,
        )  # fmt: skip
        np.testing.assert_equal((one.counts, one.sums, one.thumb), (other.counts, other.sums, other.thumb))


def test_a_process_that_is_killed_is_no_riddle(tmp_path, monkeypatch):
    (tmp_path / "deadly_source.py").write_text(
        "import os\nfrom jaxseg.data import DemoSource\n"
        "class Deadly(DemoSource):\n    def __getitem__(self, index):\n        os._exit(3)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("jaxseg.data.checking.reading._FEW", 3)
    import deadly_source

    with pytest.raises(DataError, match=r"was killed.*--workers=0"):
        read_all([Task(deadly_source.Deadly(), (), tuple(range(8)))], 1)


class Arrays(DemoSource):
    """Images of five channels and 16 bits, several labels a pixel: as other sources may have them."""

    def __getitem__(self, index):
        record = super().__getitem__(index)
        image = np.concatenate([record["image"], record["image"][..., :2]], axis=2).astype(np.uint16) * 200
        label = np.stack([record["label"] == k for k in range(6)], axis=2).astype(np.uint8)
        label[..., 0] = 1
        return {**record, "image": image, "label": label}


def test_other_arrays_than_pictures_and_their_masks(tmp_path, monkeypatch):
    monkeypatch.setattr("jaxseg.data.checking.reading._FEW", 1)  # a source of this file can't travel: threads
    source = Arrays("train", 3)
    look = look_at(source, 1, ())
    label = source[1]["label"]
    assert look.counts.tolist() == label.sum(axis=(0, 1)).tolist()
    assert (look.channels, look.pixels, len(look.sums)) == (5, label.shape[0] * label.shape[1], 5)
    monkeypatch.setattr("jaxseg.data.checking.dataset.build_source", lambda data, part: source)
    checked = check_dataset(recipe(tmp_path), ("train",), workers=1)
    assert not kinds(checked) - {"absent_class"}
    assert write_check(checked, tmp_path / "out", "arrays").is_file()


def test_counts_and_means_are_those_of_the_files(clean):
    figures = check(clean, ("train",)).parts["train"].statistics
    images = np.stack([cv2.imread(str(p))[..., ::-1] for p in sorted((clean / "images/train").iterdir())])
    labels = np.stack([np.array(Image.open(p)) for p in sorted((clean / "annotations/train").iterdir())])
    np.testing.assert_allclose(figures["mean"], images.mean(axis=(0, 1, 2)), atol=1e-3)  # no stride at this size
    np.testing.assert_allclose(figures["std"], images.std(axis=(0, 1, 2)), atol=1e-3)
    for row in figures["classes"]:
        own = labels == row["index"]
        assert row["pixels"] == own.sum()
        assert row["images"] == own.any(axis=(1, 2)).sum()
        assert row["share"] == pytest.approx(own.mean())
    assert figures["sizes"] == [{"height": 56, "width": 72, "images": 30}]
    assert figures["forms"] == {"3 channels of 8 bits": 30}


def test_what_files_say_of_themselves():
    image = np.zeros((5, 7, 3), np.uint8)

    def header(picture, kind, **options):
        buffer = io.BytesIO()
        picture.save(buffer, format=kind, **options)
        return file_header(buffer.getvalue())

    assert header(Image.fromarray(image), "PNG") == Header("PNG", (5, 7), 3, 8, 1)
    assert header(Image.fromarray(image).convert("LA"), "PNG").form == "2 channels of 8 bits"
    assert header(Image.fromarray(image[..., 0]).convert("1"), "PNG").form == "1 channel of 8 bits"
    exif = Image.Exif()
    exif[0x0112] = 6
    assert header(Image.fromarray(image), "JPEG", exif=exif) == Header("JPEG", (5, 7), 3, 8, 6)
    assert header(Image.fromarray(image), "PNG", exif=exif).orientation == 6
    assert header(Image.fromarray(image[..., 0].astype(np.uint16)), "TIFF") == Header("TIFF", (5, 7), 1, 16, 1)
    wide = cv2.imencode(".png", image.astype(np.uint16))[1].tobytes()
    assert file_header(wide).form == "3 channels of 16 bits"
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((5, 7, 9), np.float32))
    assert file_header(buffer.getvalue()) == Header("NumPy", (5, 7), 9, 32, 1)
    assert file_header(b"nothing") is None
    assert file_header(buffer.getvalue()[:40]) is None


def test_class_counts():
    label = np.array([[0, 1, 255], [2, 2, 7]])
    for kind in (np.uint8, np.int32):
        assert count_classes(label.astype(kind), 3, 255).tolist() == [1, 1, 2]
    assert count_classes(label.astype(np.uint8), 9, 7).tolist() == [1, 1, 2, 0, 0, 0, 0, 0, 0]
    assert count_classes(np.array([[-1, 300]]), 301, -1)[300] == 1


def test_near_copies_but_not_likenesses():
    rng = np.random.default_rng(0)
    photo = cv2.resize(rng.integers(0, 256, (5, 5), dtype=np.uint8), (16, 16), interpolation=cv2.INTER_CUBIC)
    brighter = np.clip(photo * 0.8 + 40, 0, 255).astype(np.uint8)
    shifted = np.roll(photo, 2, axis=1)
    flat = np.full((16, 16), 90, np.uint8)

    def look(name, thumb):
        return Look(name, image_path=name, digest=name.encode(), thumb=thumb)

    thumbs = {"photo": photo, "shifted": shifted, "flat": flat, "flat too": flat + 1, "mirrored": photo[:, ::-1]}
    looks = [look(name, thumb) for name, thumb in thumbs.items()]
    found = copy_findings({"train": looks, "val": [look("brighter", brighter)]})
    assert [(f.kind, f.file, f.value) for f in found] == [
        ("near_leak", "brighter", "nearly the same as photo of train")
    ]
    hashes = gradient_hash(np.stack([photo, brighter, shifted]))
    differing = np.bitwise_count(hashes[0] ^ hashes)
    assert differing[1] <= 4 < differing[2]


def test_the_look_before_training_warns_too(harmed, clean):
    root = shutil.copytree(clean, harmed[0].parent / "warned")
    path = Harmed(root).change("mask", 3, lambda m: np.full_like(m, 255))
    notes = check_source(build_source(recipe(root)["data"], "train"), LOAD)
    assert any(str(path) in note and "Annotate it" in note for note in notes)
    with pytest.raises(DataError, match=r"python -m jaxseg\.check"):
        check_source(build_source(recipe(harmed[0])["data"] | {"unpaired": []}, "train"), LOAD)


def test_the_verb(harmed, tmp_path):
    root, wanted = harmed
    words = (FLAG, f"--config.data.root={root}", f"--out={tmp_path / 'out'}", "--workers=0")
    ended = runs.call("check", *words)
    assert ended.status == 1, ended
    assert "13 errors" in ended.out
    found = json.loads((tmp_path / "out" / "check.json").read_text())
    assert found["counts"]["error"] == 13
    assert {(f["kind"], f["file"]) for f in found["findings"]} >= {(kind, path) for kind, path, _, _ in wanted}
    page = (tmp_path / "out" / "check.html").read_text()
    for name in ("sheet_findings.png", "sheet_train.png", "sheet_val.png", "classes.png"):
        assert f'src="{name}"' in page
        assert cv2.imread(str(tmp_path / "out" / name)).shape[1] > 300
    assert str(root) not in page.split("<h2>Findings</h2>")[1]  # paths are relative to it


def test_how_the_verb_ends(clean, harmed, tmp_path):
    words = (FLAG, f"--out={tmp_path / 'out'}", "--config.data.train.transforms=()", "--config.data.val.transforms=()")
    ended = runs.call("check", *words, f"--config.data.root={clean}")
    assert ended.status == 0
    assert "38 records read" in ended.out
    assert "nothing found" in ended.out
    ended = runs.call("check", *words, f"--config.data.root={clean}", "--limit=5", "--parts=val")
    assert "5 records read" in ended.out
    for kind in ("images", "annotations"):
        shutil.copytree(clean / kind, tmp_path / "set" / kind)
    (tmp_path / "set/images/train/other.jpg").write_bytes((clean / "images/train/train_00000.png").read_bytes())
    shutil.copy(clean / "annotations/train/train_00000.png", tmp_path / "set/annotations/train/other.png")
    twice = (*words, f"--config.data.root={tmp_path / 'set'}")
    assert runs.call("check", *twice).status == 0
    assert runs.call("check", *twice, "--strict").status == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--limit=0",), "--limit=0: it must be at least 1"),
        (("--workers=-1",), "--workers=-1: it must be at least 0"),
        (("--parts=train,valid",), "'valid' is none of train, val, test"),
        (("--config.data.root=nowhere",), "'nowhere', which is not a folder"),
    ],
)
def test_flags_that_cannot_be_used(words, message, tmp_path):
    ended = runs.call("check", FLAG, f"--out={tmp_path / 'out'}", *words)
    assert ended.status == 2
    assert message in ended.err
    assert not (tmp_path / "out").exists()


def test_a_colour_picture_of_ade20k_is_named(tmp_path, samples):
    for kind, suffix in (("images", ".jpg"), ("annotations", ".png")):
        (tmp_path / kind / "train").mkdir(parents=True)
        for name in ("ADE_train_00000001", "ADE_train_00009317"):
            shutil.copy(samples / f"{name}{suffix}", tmp_path / kind / "train")
    classes = DATASETS["ADE20K"].classes
    checked = check(tmp_path, ("train",), classes=classes, reduce_zero_label=True)
    (finding,) = only(checked, "colour_mask")
    assert finding.file.endswith("annotations/train/ADE_train_00009317.png")


def test_camvid_is_sound(camvid):
    fields = {"dataset": "CamVid", "classes": None}
    checked = check_dataset(recipe(camvid, **fields), limit=60)
    assert not kinds(checked) - {"near_duplicate"}  # frames of a car that waits
