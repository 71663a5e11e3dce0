"""Converters of data sets: what MMSegmentation's make of the same archives, and whatever else an archive can be."""

import json
import os
import re
import runpy
import shlex
import shutil
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

import made_archives
from jaxseg.data import DATASETS, build_source, build_transforms
from jaxseg.data.converters import CONVERTERS, aerial, contents, convert, core, default_out, jobs, medical, scenes
from jaxseg.data.converters.archives import close_archives, open_inputs
from jaxseg.errors import DataError
from pixel_sums import pixel_sum

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "converters.md").read_text(encoding="utf-8")
TOOL = runpy.run_path(str(ROOT / "tools" / "convert_dataset.py"))
# Names and sums of pixels of MMSegmentation's converters, by `tools/make_conversion_fixture.py`.
REFERENCE = json.loads((Path(__file__).parent / "fixtures" / "conversions.json").read_text())
COMMANDS = {
    words[2]: words[3:]
    for line in re.findall(r"^python tools/convert_dataset.py .*", PAGE, re.MULTILINE)
    if "#" not in line and (words := shlex.split(line))
}
PARTS = {"LEVIRCD": ("train", "test"), "REFUGE": ("train", "val", "test"), "Cityscapes": ("train", "val", "test")}
LOAD = {
    "levircd": ("LoadMultipleRSImageFromFile", "LoadAnnotations"),
    "nyu": ("LoadImage", "LoadDepthAnnotation"),
}
REAL_DATA = Path(os.environ.get("JAXSEG_DATA", ROOT.parent / "shared" / "data"))
WHOLE = ("chase_db1", "drive", "hrf", "nyu", "stare")  # the made-up archives of these lack nothing
PICTURES = (".png", ".jpg", ".txt")


def files(folder: Path) -> dict[str, Path]:
    return {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.suffix in PICTURES}


def sums(folder: Path) -> dict[str, str]:
    return {name: pixel_sum(path) for name, path in files(folder).items()}


@pytest.fixture
def made(tmp_path, monkeypatch):
    """Makes the archives of a data set in ./downloads; their paths."""
    monkeypatch.chdir(tmp_path)

    def make(name: str) -> list[str]:
        made_archives.ARCHIVES[name](Path("downloads"))
        return [f"downloads/{file}" for file in CONVERTERS[name].example]

    return make


def command(name: str, *words: str, capsys: pytest.CaptureFixture[str] | None = None) -> str:
    """Runs the tool in this process; what it printed."""
    TOOL["run"](name, [*words, "--workers=1"])
    return capsys.readouterr().out if capsys else ""


@pytest.mark.parametrize("name", CONVERTERS)
def test_the_page_s_command_makes_what_the_reference_makes_and_the_row_reads_it(name, made, capsys):
    made(name)
    converter = CONVERTERS[name]
    said = command(name, *COMMANDS[name], *([] if name in WHOLE else ["--partial"]), capsys=capsys)
    found = sums(Path(converter.out))
    assert f"{converter.out}: {len(found)} files written, 0 were there" in said
    # Polygons look a little otherwise with every other release of Pillow; they have a test of their own.
    drawn = [path for path in found if path.endswith("_gtFine_labelTrainIds.png")]
    assert {path: total for path, total in found.items() if path not in drawn} == REFERENCE[name]
    assert json.loads(Path(converter.out, core.STAMP).read_text())["complete"] is (name in WHOLE)
    assert not list(Path(converter.out).rglob("*.part"))

    load = build_transforms([{"type": step} for step in LOAD.get(name, ("LoadImage", "LoadAnnotations"))])
    for part in PARTS.get(converter.dataset, ("train", "val")):
        source = build_source({"dataset": converter.dataset, "root": converter.out, part: {"split": part}}, part)
        assert len(source) > 0
        for i in range(len(source)):
            record = load(source[i], np.random.default_rng(0))
            assert record["label"].shape == record["image"].shape[:2] == record.get("image2", record["image"]).shape[:2]


def test_the_page_and_the_descriptions_agree():
    assert set(COMMANDS) == set(CONVERTERS) == set(REFERENCE) == set(made_archives.ARCHIVES)
    for name, converter in CONVERTERS.items():
        assert [Path(word).name for word in COMMANDS[name]] == list(converter.example)
        usage = TOOL["usage"](name, converter)
        assert all(file in usage for file in (*converter.example, converter.out))
        assert converter.out + "/" in PAGE
        assert TOOL["find"](converter.dataset) == TOOL["find"](name.upper()) == name


@pytest.mark.parametrize(
    ("name", "folder", "total"), [("chase_db1", "chase_db1", 3327922167), ("drive", "drive", 3055604817)]
)
def test_the_real_archive_becomes_what_the_reference_makes_of_it(name, folder, total, tmp_path):
    if not (REAL_DATA / folder).is_dir():
        pytest.skip(f"needs {REAL_DATA / folder} (set JAXSEG_DATA)")
    convert(CONVERTERS[name], [REAL_DATA / folder], tmp_path)
    assert combined(tmp_path) == total


def combined(folder: Path) -> int:
    import zlib

    return zlib.crc32(json.dumps(sums(folder), sort_keys=True).encode())


def test_polygons_cover_what_they_are_drawn_over(made):
    made("cityscapes")
    convert(CONVERTERS["cityscapes"], ["downloads"], "out", partial=True)
    numbers = {name: label for label, name in enumerate(DATASETS["Cityscapes"].classes)}
    with zipfile.ZipFile("downloads/gtFine_trainvaltest.zip") as archive:
        scenes_ = [name for name in archive.namelist() if name.endswith(".json")]
        for name in scenes_:
            scene = json.loads(archive.read(name))
            expected = np.full((60, 70), 255)
            drawn = 0
            for thing in scene["objects"]:
                if thing.get("deleted") or thing["label"] == "license plate":
                    continue
                one = Image.new("1", (70, 60))
                ImageDraw.Draw(one).polygon([tuple(point) for point in thing["polygon"]], fill=1)
                label = "car" if thing["label"] == "cargroup" else thing["label"]
                expected[np.array(one)] = numbers.get(label, 255)
                drawn += 1
            assert drawn == 39
            mask = np.array(Image.open(Path("out", name.replace("_polygons.json", "_labelTrainIds.png"))))
            assert np.array_equal(mask, expected)
            assert len(np.unique(mask)) > 8
    assert len(scenes_) == 3


@pytest.mark.parametrize(
    ("scene", "message"),
    [
        (b'{"imgWidth": 4', "is damaged, or no file of polygons"),
        (b'{"imgWidth": 4, "imgHeight": 4}', "is damaged, or no file of polygons: KeyError"),
        (
            b'{"imgWidth": 4, "imgHeight": 4, "objects": [{"label": "raod", "polygon": [[0, 0], [1, 1]]}]}',
            "has an object 'raod'. Did you mean road",
        ),
    ],
)
def test_a_wrong_scene_is_an_error(scene, message):
    with pytest.raises(DataError, match=re.escape(message)):
        scenes.polygons(scene, "x.json")


def test_run_lengths_packed_and_plain():
    rng = np.random.default_rng(0)
    for size in ((1, 1), (3, 5), (40, 50), (300, 400)):
        for density in (0.0, 0.02, 0.5, 1.0):
            mask = rng.random(size) < density
            packed = {"size": list(size), "counts": made_archives._run_lengths(mask.astype(np.uint8))}
            assert np.array_equal(scenes.run_lengths(packed, "x", size), mask)
    plain = {"size": [2, 3], "counts": [1, 2, 3]}
    assert scenes.run_lengths(plain, "x", (2, 3)).tolist() == [[False, True, False], [True, False, False]]
    for counts in ([1, 2], "", "0", "?", [9, -3]):
        with pytest.raises(DataError, match="does not fill 3x2"):
            scenes.run_lengths({"size": [2, 3], "counts": counts}, "x", (2, 3))


def test_windows_cover_an_image_and_stay_inside():
    assert contents.windows(5, 4, (3, 4), (3, 4)) == [(0, 0, 4, 3), (0, 2, 4, 5)]
    for height, width, size, stride in (
        (30, 41, (7, 9), (5, 9)),
        (7, 9, (7, 9), (1, 1)),
        (100, 64, (32, 32), (32, 32)),
    ):
        seen = np.zeros((height, width), int)
        for left, top, right, bottom in contents.windows(height, width, size, stride):
            assert 0 <= left < right <= width
            assert 0 <= top < bottom <= height
            assert (bottom - top, right - left) == size
            seen[top:bottom, left:right] += 1
        assert seen.min() == 1


def test_a_stride_moves_the_tiles(made):
    inputs = made("levircd")
    convert(CONVERTERS["levircd"], inputs, "out", options={"clip_size": 200, "stride_size": 150})
    names = [path.stem for path in sorted(Path("out/test/A").iterdir())]
    assert names == ["test_1_0_0_200_200", "test_1_0_56_200_256", "test_1_56_0_256_200", "test_1_56_56_256_256"]
    with zipfile.ZipFile(inputs[0]) as archive, archive.open("LEVIR-CD+/test/A/test_1.png") as file:
        whole = np.array(Image.open(file))
    tile = np.array(Image.open("out/test/A/test_1_0_56_200_256.png"))
    assert np.array_equal(tile, whole[56:256, 0:200])


def test_an_image_as_wide_as_a_tile_but_lower_is_filled_up(tmp_path):
    folder = tmp_path / "iSAID" / "val"
    (folder / "images").mkdir(parents=True)
    (folder / "Semantic_masks").mkdir()
    Image.new("RGB", (40, 30), (9, 8, 7)).save(folder / "images" / "P0001.png")
    Image.new("RGB", (40, 30), (0, 0, 63)).save(folder / "Semantic_masks" / "P0001_instance_color_RGB.png")
    options = {"patch_width": 40, "patch_height": 50, "overlap_area": 10}
    convert(CONVERTERS["isaid"], [tmp_path / "iSAID"], tmp_path / "out", options=options, partial=True)
    image = np.array(Image.open(tmp_path / "out/img_dir/val/P0001_0_50_0_40.png"))
    mask = np.array(Image.open(tmp_path / "out/ann_dir/val/P0001_0_50_0_40_instance_color_RGB.png"))
    assert image[:30].tolist() == [[[9, 8, 7]] * 40] * 30
    assert not image[30:].any()
    assert (mask[:30] == 1).all()
    assert (mask[30:] == 255).all()
    with pytest.raises(DataError, match="overlap_area is 40; it must be less than"):
        convert(CONVERTERS["isaid"], [tmp_path / "iSAID"], tmp_path / "x", options={**options, "overlap_area": 40})


def test_strange_colours_are_told(made, capsys):
    made("isaid")
    said = command("isaid", "downloads/iSAID", "--partial", capsys=capsys)
    assert re.search(
        r"note: .*P0003_instance_color_RGB.png: 6 pixels have no colour of a class, such as \(1, 2, 3\)", said
    )


def test_a_scan_has_a_split_of_its_own_if_a_list_says_so(made):
    made("synapse")
    with zipfile.ZipFile("downloads/RawData.zip", "a") as archive:
        archive.writestr("RawData/Training/train.txt", "img0008.nii.gz\n")
        archive.writestr("RawData/Training/val.txt", "img0005.nii.gz\n")
    convert(CONVERTERS["synapse"], ["downloads"], "out", partial=True)
    assert [path.name for path in sorted(Path("out/img_dir/train").iterdir())] == [
        f"case0008_slice00{i}.jpg" for i in range(3)
    ]


def test_two_processes_make_the_same(made):
    inputs = made("potsdam")
    convert(CONVERTERS["potsdam"], inputs, "one", partial=True)
    progress = []
    report = convert(
        CONVERTERS["potsdam"], inputs, "two", partial=True, workers=2, on_progress=lambda *done: progress.append(done)
    )
    assert sums(Path("one")) == sums(Path("two"))
    assert report.written == 12
    assert progress == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_run_again_it_writes_only_what_is_not_whole(made):
    inputs = made("levircd")
    converter, out = CONVERTERS["levircd"], Path("out")
    convert(converter, inputs, out)
    before = sums(out)
    first, second, third = sorted(out.glob("train/A/*.png"))[:3]
    first.unlink()
    second.write_bytes(second.read_bytes()[:-1])
    third.write_bytes(b"")
    (out / "train/A/.x.png.99.part").write_bytes(b"half")
    times = {path: path.stat().st_mtime_ns for path in files(out).values()}
    report = convert(converter, inputs, out)
    assert (report.written, report.kept) == (3, len(before) - 3)
    assert sums(out) == before
    assert {path for path, time in times.items() if path.stat().st_mtime_ns == time} == set(times) - {second, third}
    assert not list(out.rglob("*.part"))
    assert convert(converter, inputs, out, overwrite=True).written == len(before)


def test_copies_are_whole_when_they_are_as_long(made):
    inputs = made("loveda")
    convert(CONVERTERS["loveda"], inputs, "out", partial=True)
    mask = Path("out/ann_dir/train/0.png")
    content = mask.read_bytes()
    mask.write_bytes(content[:40])
    assert convert(CONVERTERS["loveda"], inputs, "out", partial=True).written == 1
    assert mask.read_bytes() == content


def test_a_folder_of_other_tiles_or_another_set_is_refused(made):
    inputs = made("levircd")
    convert(CONVERTERS["levircd"], inputs, "out")
    with pytest.raises(DataError, match="made with clip_size=256, now it is 128; the files of both would mix"):
        convert(CONVERTERS["levircd"], inputs, "out", options={"clip_size": 128})
    with pytest.raises(DataError, match="out holds LEVIRCD, not LoveDA"):
        convert(CONVERTERS["loveda"], made("loveda"), "out", partial=True)


def test_of_a_set_that_is_laid_out_already_masks_are_made_beside_the_rest(made):
    made("cityscapes")
    for name in ("leftImg8bit_trainvaltest.zip", "gtFine_trainvaltest.zip"):
        zipfile.ZipFile(f"downloads/{name}").extractall("mine/cityscapes")
    photo = next(Path("mine").rglob("*_leftImg8bit.png"))
    before = photo.stat().st_mtime_ns
    for given in ("mine/cityscapes", "mine"):
        assert default_out(CONVERTERS["cityscapes"], [given]) == Path("mine/cityscapes")
    assert default_out(CONVERTERS["cityscapes"], ["downloads"]) == Path("data/cityscapes")
    report = convert(CONVERTERS["cityscapes"], ["mine"], "mine/cityscapes", partial=True, overwrite=True)
    assert (report.written, report.kept) == (6, 3)
    assert photo.stat().st_mtime_ns == before
    assert len(list(Path("mine").rglob("*_labelTrainIds.png"))) == 3
    assert Path("mine/cityscapes/train.txt").read_text() == "aachen/aachen_000000_000019\n"


def test_a_file_and_its_copy_in_an_archive_are_one(made):
    inputs = made("chase_db1")
    zipfile.ZipFile(inputs[0]).extractall("downloads/CHASEDB1")
    assert convert(CONVERTERS["chase_db1"], ["downloads"], "out").written == 84
    Path("downloads/CHASEDB1/Image_01L.jpg").write_bytes(b"another")
    with pytest.raises(DataError, match=r"CHASEDB1/Image_01L.jpg and .*CHASEDB1.zip/Image_01L.jpg would both become"):
        convert(CONVERTERS["chase_db1"], ["downloads"], "out")


@pytest.mark.parametrize("name", ["levircd", "chase_db1", "isaid"])
def test_the_archives_may_lie_in_the_folder_of_the_result(name, made):
    made(name)
    shutil.copytree("downloads", "out")
    convert(CONVERTERS[name], ["out"], "out", partial=True)
    before = sums(Path("out"))
    assert before == REFERENCE[name]
    assert convert(CONVERTERS[name], ["out"], "out", partial=True).written == 0
    assert sums(Path("out")) == before


def test_missing_files_are_named_before_anything_is_written(made):
    made("drive")
    with pytest.raises(
        DataError, match=r"20 of 60 files of DRIVE can't be made: images/validation/01.png, .*--partial"
    ):
        convert(CONVERTERS["drive"], ["downloads/training.zip"], "out")
    assert not Path("out").exists()
    convert(CONVERTERS["drive"], ["downloads/training.zip"], "out", partial=True)
    assert json.loads(Path("out", core.STAMP).read_text())["complete"] is False
    made("loveda")
    with pytest.raises(DataError, match=r"There are 2 files for img_dir/train of LoveDA, it has 2522.*--partial"):
        convert(CONVERTERS["loveda"], ["downloads/Train.zip"], "x")
    made("levircd")
    with zipfile.ZipFile("downloads/LEVIR-CD+.zip", "a") as archive:
        archive.writestr("LEVIR-CD+/train/A/train_2.png", b"")
    with pytest.raises(DataError, match="train/B of LEVIRCD lacks 1 files: train_2"):
        convert(CONVERTERS["levircd"], ["downloads/LEVIR-CD+.zip"], "x")


@pytest.mark.parametrize(
    ("name", "removed", "message"),
    [
        (
            "nyu",
            "nyu/kitchen_0028b/rgb_00045.jpg",
            "nyu_train.txt names kitchen_0028b/rgb_00045.jpg, which is not there",
        ),
        ("nyu", "nyu/nyu_test.txt", "There is no nyu_test.txt among the files. Did you mean nyu_train.txt"),
        ("coco_stuff10k", "imageLists/test.txt", "There is no imageLists/test.txt among the files"),
    ],
)
def test_a_member_that_is_missing_is_named(name, removed, message, made):
    inputs = made(name)
    with zipfile.ZipFile(inputs[0]) as archive:
        members = {member: archive.read(member) for member in archive.namelist() if member != removed}
    made_archives._zip(Path(inputs[0]), members)
    with pytest.raises(DataError, match=re.escape(message)):
        convert(CONVERTERS[name], inputs, "out", partial=True)


@pytest.mark.parametrize(("name", "given"), [("hrf", "drive"), ("voc_aug", "drive"), ("drive", "stare")])
def test_another_set_s_archive_is_recognised(name, given, made):
    inputs = made(given)
    with pytest.raises(DataError, match=f"ook like {given}: convert them with that"):
        convert(CONVERTERS[name], inputs, "out", others=CONVERTERS)
    with pytest.raises(DataError, match=r"There is no VOC2012|Needed: .*zip"):
        convert(CONVERTERS[name], inputs, "out")
    assert not Path("out").exists()


def test_damaged_members_are_reported_together_and_made_on_the_next_run(made):
    inputs = made("chase_db1")
    with zipfile.ZipFile(inputs[0]) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    whole = Path(inputs[0]).read_bytes()
    members["Image_03L.jpg"] = members["Image_03L.jpg"][:-30]
    members["Image_04L_1stHO.png"] = b"not a picture"
    made_archives._zip(Path(inputs[0]), members)
    with pytest.raises(DataError, match=r"2 of 84 files could not be converted") as caught:
        convert(CONVERTERS["chase_db1"], inputs, "out")
    assert "Image_03L.jpg is cut short" in str(caught.value)
    assert "Image_04L_1stHO.png cannot be decoded" in str(caught.value)
    assert len(files(Path("out"))) == 82
    assert json.loads(Path("out", core.STAMP).read_text())["complete"] is False
    Path(inputs[0]).write_bytes(whole)
    report = convert(CONVERTERS["chase_db1"], inputs, "out")
    assert (report.written, report.kept) == (2, 82)
    assert sums(Path("out")) == REFERENCE["chase_db1"]


def test_a_flipped_byte_in_an_archive_is_seen(made):
    inputs = made("loveda")
    content = bytearray(Path(inputs[0]).read_bytes())
    content[60] ^= 1
    Path(inputs[0]).write_bytes(content)
    with pytest.raises(DataError, match=r"0.png cannot be read: .*Download .*Train.zip again"):
        convert(CONVERTERS["loveda"], inputs, "out", partial=True)


@pytest.mark.parametrize("member", ["../out.png", "a/../../out.png", "/out.png", "C:/out.png", "..\\out.png"])
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_names_that_lead_out_of_the_archive_are_refused(member, kind, tmp_path):
    path = tmp_path / f"archive.{kind}"
    {"zip": made_archives._zip, "tar": made_archives._tar}[kind](path, {"inside.png": b"1", member: b"1"})
    with pytest.raises(DataError, match="leads out of its folder"):
        open_inputs([path])


def test_lists_can_not_name_files_outside(made):
    inputs = made("nyu")
    with zipfile.ZipFile(inputs[0]) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["nyu/nyu_test.txt"] = b"../../bathroom/rgb_00045.jpg bathroom/sync_depth_00045.png 518\n"
    made_archives._zip(Path(inputs[0]), members)
    with pytest.raises(DataError, match="which is not there"):
        convert(CONVERTERS["nyu"], inputs, "out")
    with pytest.raises(DataError, match="out of the folder"):
        jobs._safe("a/../../b.png")


def test_links_in_archives_are_not_followed(tmp_path):
    (tmp_path / "secret.png").write_bytes(b"secret")
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE):
            info = tarfile.TarInfo(f"link{kind!r}.png")
            info.type, info.linkname = kind, str(tmp_path / "secret.png")
            archive.addfile(info)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        info = zipfile.ZipInfo("link.png")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "secret.png")
    assert len(open_inputs([tmp_path / "a.tar", tmp_path / "a.zip"])) == 0


def test_bombs_and_secrets_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("jaxseg.data.converters.archives._BOMB_BYTES", 100_000)
    made_archives._zip(tmp_path / "bomb.zip", {"a.png": bytes(1_000_000)})
    with pytest.raises(DataError, match=r"a.png unpacks \d+ bytes to 1000000"):
        open_inputs([tmp_path / "bomb.zip"])
    made_archives._tar(tmp_path / "bomb.tgz", {"a.png": bytes(3_000_000)}, "w:gz")
    with pytest.raises(DataError, match=r"a.png lies 3000512 bytes deep"):
        open_inputs([tmp_path / "bomb.tgz"])
    made_archives._zip(tmp_path / "locked.zip", {"a.png": b"1"})
    content = bytearray((tmp_path / "locked.zip").read_bytes())
    content[content.index(b"PK\1\2") + 8] |= 1
    (tmp_path / "locked.zip").write_bytes(content)
    with pytest.raises(DataError, match=r"a.png is encrypted"):
        open_inputs([tmp_path / "locked.zip"])
    monkeypatch.setattr("jaxseg.data.converters.archives.MAX_BYTES", 10)
    made_archives._tar(tmp_path / "large.tar", {"a.png": bytes(11)})
    with pytest.raises(DataError, match=r"a.png has 11 bytes, more than the 10"):
        open_inputs([tmp_path / "large.tar"])[0].read()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.zip", b"PK\3\4 and no more", "is damaged, cut short, or no zip or tar archive"),
        ("a.zip", b"\n<!DOCTYPE html><html>", "is a web page, not an archive: perhaps the page to log in was saved"),
        ("a.tgz", b"\x1f\x8b\x08\0\0\0\0\0", "is damaged, cut short"),
        ("a.7z", b"7z\xbc\xaf\x27\x1c", "is a 7z archive, which is not read here. Extract it"),
    ],
)
def test_what_is_no_archive_is_told_apart(name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        open_inputs([tmp_path / name])


def test_packed_tar_archives_of_every_kind_are_read(tmp_path):
    members = {f"folder/{i}.png": bytes([i]) * (1000 + i) for i in range(5)} | {
        "__MACOSX/._0.png": b"",
        ".DS_Store": b"",
    }
    for mode, name in (("w", "a.tar"), ("w:gz", "b.tgz"), ("w:bz2", "c.tar.bz2"), ("w:xz", "d.tar.xz")):
        made_archives._tar(tmp_path / name, members, mode)
        found = open_inputs([tmp_path / name])
        assert [(file.path, file.read()) for file in found] == [
            (f"{name}/{member}", content) for member, content in members.items() if member.startswith("folder")
        ]
        assert found[1].read() == members["folder/1.png"]  # backwards too
    close_archives()


def test_the_command_says_what_is_wrong(made, capsys, monkeypatch):
    made("drive")
    for words, message in (
        (("drive", "downloads/trainign.zip"), "trainign.zip does not exist. In .*Did you mean training.zip"),
        (("levircd", "downloads", "--clip-size=0"), "clip_size is 0; it must be 1 or more"),
        (("drive", "downloads", "--clip-size=9"), "--clip-size means nothing here"),
        (("driev", "downloads"), "No data set is called 'driev' here. Did you mean drive"),
    ):
        monkeypatch.setattr(
            "sys.argv", ["convert_dataset.py", *words, "--workers=1"] if words[0] != "driev" else ["", *words]
        )
        with pytest.raises(SystemExit) as end:
            TOOL["main"].__globals__["main"]()
        assert end.value.code == 2
        assert re.search(message, capsys.readouterr().err)
    monkeypatch.setattr("sys.argv", ["convert_dataset.py"])
    TOOL["main"]()
    assert all(name in capsys.readouterr().out for name in ("chase_db1",))


def test_a_region_without_runs_does_not_end_the_others(made):
    inputs = made("pascal_context")
    merged = json.loads(Path(inputs[1]).read_text())
    del merged["annos_segmentation"][0]["segmentation"]["counts"]
    Path(inputs[1]).write_text(json.dumps(merged))
    with pytest.raises(
        DataError, match=r"1 of 8 files .*\n  - .*2008_000002.png cannot be converted: KeyError\('counts'\)"
    ):
        convert(CONVERTERS["pascal_context"], inputs, "out", partial=True)
    assert len(files(Path("out"))) == 7


def test_a_full_disk_leaves_nothing_half_written(made, monkeypatch):
    inputs = made("loveda")

    def no_space(source: Path, target: Path) -> None:
        if Path(target).suffix == ".png":
            raise OSError(28, "No space left on device")
        shutil.move(source, target)

    monkeypatch.setattr("os.replace", no_space)
    with pytest.raises(DataError, match=r"Cannot write .*0.png: No space left on device"):
        convert(CONVERTERS["loveda"], inputs, "out", partial=True)
    assert [path.name for path in Path("out").rglob("*") if path.is_file()] == [core.STAMP]


def test_parts_are_what_their_order_makes_them_in_the_reference():
    # The reference takes the first so many of the sorted names.
    stare = sorted((*medical._STARE_TRAINING, *medical._STARE_VALIDATION))
    assert tuple(stare[:10]) == medical._STARE_TRAINING
    counts = {name: len(CONVERTERS[name].expected) for name in ("chase_db1", "drive", "hrf", "stare", "synapse")}
    assert counts == {"chase_db1": 84, "drive": 60, "hrf": 90, "stare": 60, "synapse": 60}
    sizes = {
        name: tuple(map(len, splits.values())) for name, splits in (("p", aerial._POTSDAM), ("v", aerial._VAIHINGEN))
    }
    assert sizes == {"p": (24, 14), "v": (16, 17)}
