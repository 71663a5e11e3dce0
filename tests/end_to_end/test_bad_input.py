"""What can't work ends before the first step, says why, and leaves the run folder alone."""

import gc
import shutil
from pathlib import Path

import folder
import numpy as np
import pytest
from PIL import Image

import runs

FOLDER = f"--config={folder.__file__}"
TINY = f"--config={runs.TINY}"


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return folder.write_folder(tmp_path_factory.mktemp("data") / "set")


@pytest.fixture
def data(good, tmp_path):
    """A copy of the data set, to be harmed."""
    return shutil.copytree(good, tmp_path / "data")


def refuse(verb: str, *words: str | Path) -> str:
    """Runs a verb that must fail as a user's mistake does; returns what it says."""
    ended = runs.call(verb, *words)
    assert ended.status == 2, (ended.out, ended.err)
    assert ended.err.startswith("error: ")
    assert "Traceback" not in ended.err
    assert "step 1/" not in ended.out
    return ended.err


def refuse_training(workdir: Path, *words: str | Path) -> str:
    said = refuse("train", f"--workdir={workdir}", *words)
    assert not workdir.exists()
    return said


def spoil_mask(path: Path, change) -> None:
    mask = np.array(Image.open(path))
    Image.fromarray(change(mask)).save(path)


def jpeg_cut_short(data: Path) -> None:
    path = data / "images" / "train" / "cut.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:700])
    shutil.copy(next((data / "annotations" / "train").iterdir()), data / "annotations" / "train" / "cut.png")


def first(data: Path, kind: str, part: str = "train") -> Path:
    return sorted((data / kind / part).iterdir())[0]


HARMS = {
    "no folder": (shutil.rmtree, ["data.root", "is not a folder", "images/train"]),
    "no images folder": (lambda data: shutil.rmtree(data / "images"), ["images", "does not exist", "data.image_dir"]),
    "image without mask": (
        lambda data: first(data, "annotations").unlink(),
        ["1 of 6 images", "have no mask", "add them"],
    ),
    "sizes differ": (
        lambda data: spoil_mask(first(data, "annotations"), lambda mask: mask[:-8]),
        ["40x64", "48x64", "must be equal"],
    ),
    "label out of range": (
        lambda data: spoil_mask(first(data, "annotations"), lambda mask: np.where(mask == 0, 77, mask)),
        ["holds 77", "0..5 or 255", "label_map"],
    ),
    "label out of range, validation": (
        lambda data: spoil_mask(first(data, "annotations", "val"), lambda mask: np.where(mask == 0, 6, mask)),
        ["holds 6", "0..5 or 255", "reduce_zero_label"],
    ),
    "colour mask": (
        lambda data: spoil_mask(first(data, "annotations"), lambda mask: np.stack([mask, mask * 20, mask * 30], -1)),
        ["is a colour picture", "class index"],
    ),
    "empty part": (
        lambda data: [path.unlink() for path in (data / "images" / "val").iterdir()],
        ["has no images", "data.val is empty"],
    ),
    "JPEG cut short": (jpeg_cut_short, ["cut.jpg is cut short", "again"]),
    "text as image": (
        lambda data: first(data, "images").write_text("not an image"),
        ["cannot be decoded", "damaged, or not an image"],
    ),
}


@pytest.mark.parametrize("name", HARMS)
def test_data(name, data, tmp_path):
    harm, says = HARMS[name]
    names = sorted(path.name for path in data.rglob("*.*"))
    harm(data)
    said = refuse_training(tmp_path / "run", FOLDER, f"--config.data.root={data}")
    assert str(data) in said
    for words in says:
        assert words in said
    if "is cut short" not in said and "data." not in said:
        assert any(file in said for file in names)


def test_crop_larger_than_every_image(data, tmp_path):
    transforms = "({'type': 'LoadImage'}, {'type': 'LoadAnnotations'}, {'type': 'RandomCrop', 'crop_size': (96, 96)})"
    said = refuse_training(
        tmp_path / "run", FOLDER, f"--config.data.root={data}", f"--config.data.train.transforms={transforms}"
    )
    assert "crop_size (96, 96) (h, w) is larger than every image" in said
    assert "'type': 'Pad'" in said


OVERRIDES = {
    "--config.modle.x=1": ["config has no field 'modle'", "Did you mean model?"],
    "--config.model.decode_head.chanels=3": ["config.model.decode_head has no field 'chanels'", "channels"],
    "--config.optimizer.lrr=1": ["config.optimizer has no field 'lrr'", "Did you mean lr?"],
    "--config.schedule[7].power=1": ["config.schedule has 2 items"],
    "--config.schedule[1].pwer=1": ["config.schedule[1] has no field 'pwer'", "Did you mean power?"],
    "--config.name.x=1": ["config.name", "no fields of its own"],
    "--config.total_steps=abc": ["--config.total_steps=abc", "a whole number"],
    "--config.total_steps=2.5": ["--config.total_steps=2.5", "a whole number"],
    "--config.total_steps": ["--config.total_steps=", "a whole number"],
    "--config.total_steps=None": ["config.total_steps=None", "a whole number"],
    "--config.optimizer.lr=fast": ["--config.optimizer.lr=fast", "a number"],
    "--config.optimizer.nesterov=maybe": ["--config.optimizer.nesterov=maybe", "true or false"],
    "--config.preprocess.mean=3": ["--config.preprocess.mean=3", "a tuple"],
    "--config.preprocess.mean=1,2": ["config.preprocess", "every channel"],
    "--config.model.test_cfg=whole": ["--config.model.test_cfg=whole", "a dict"],
    "--config.batch_size=0": ["config.batch_size=0", "at least 1"],
    "--config.eval_batch_size=-1": ["config.eval_batch_size=-1", "at least 1"],
    "--config.log_every=0": ["config.log_every=0", "at least 1"],
    "--config.seed=-1": ["config.seed=-1", "0..2147483647"],
    "--config.checkpoint.keep=0": ["config.checkpoint.keep=0", "at least 1"],
    "--config.checkpoint.metric=mIou": ["config.checkpoint.metric='mIou'", "Did you mean mIoU"],
    "--config.checkpoint.metric=IoU/dsk": ["config.checkpoint.metric='IoU/dsk'", "IoU/disk"],
    "--config.model.decode_head.num_classes=4": ["model.decode_head.num_classes is 4", "has 6 classes", "=6"],
    "--config.model.backbone.type=ResNet19": ["ResNet19", "Did you mean ResNet"],
    "--config.model.backbone.depth=19": ["depth", "19"],
    "--config.model.test_cfg.mode=slid": ["mode", "slid", "slide"],
    "--config.optimizer.type=SDG": ["optimizer.type='SDG'", "Did you mean SGD?"],
    "--config.schedule[1].type=PoliLR": ["schedule[1].type='PoliLR'", "PolyLR"],
    "--config.data.dataset=Demoo": ["data.dataset is 'Demoo'", "Did you mean Demo?"],
    "--config.data.train.transforms[1].type=RandomCorp": ["RandomCorp", "RandomCrop"],
    "--config.init_from=nowhere": ["init_from=nowhere is no folder, no file, and no published model"],
}


@pytest.mark.parametrize("word", OVERRIDES)
def test_override(word, tmp_path):
    said = refuse_training(tmp_path / "run", TINY, word)
    for words in OVERRIDES[word]:
        assert words in said


RECIPES = {
    "config.totl_steps = 5": ["config.totl_steps is not a known field", "total_steps"],
    "config.model.decode_head.chanels = 8": ["model.decode_head", "'chanels'", "channels"],
    "config.model.backbone.stem_chanels = 8": ["model.backbone", "'stem_chanels'", "stem_channels"],
    "config.model.decode_haed = {}": ["model", "'decode_haed'", "decode_head"],
    "config.model.decode_head.loss_decode.loss_wieght = 1.0": ["loss_wieght", "loss_weight"],
    "config.optimizer.lrr = 0.1": ["optimizer", "'lrr'", "lr"],
    "config.optimizer.paramwise_cfg = {'bias_lr_multt': 1}": ["bias_lr_multt", "bias_lr_mult"],
    "config.schedule = ({'type': 'PolyLR', 'pwer': 1},)": ["schedule[0]", "'pwer'", "power"],
    "config.data.trian = {}": ["config.data.trian is not a known field", "train"],
    "config.data.val.transfroms = ()": ["config.data.val.transfroms is not a known field", "transforms"],
    "config.data.demo.trian = 3": ["trian", "train"],
    "config.checkpoint.keep_bets = 1": ["config.checkpoint.keep_bets is not a known field", "keep_best"],
    "config.data.train.transforms = ({'type': 'RandomFlip', 'porb': 1},)": ["RandomFlip", "'porb'", "prob"],
    "config.batch_size = 'eight'": ["recipe.py, line 6", "batch_size"],
    "config.batch_size = undefined": ["recipe.py, line 6", "undefined"],
    "config.batch_size = (": ["recipe.py, line 6", "SyntaxError"],
    "config = None": ["recipe.py", "must return a ConfigDict"],
    "del config.seed": ["config.seed is missing"],
}


@pytest.mark.parametrize("line", RECIPES)
def test_recipe(line, tmp_path):
    path = tmp_path / "recipe.py"
    path.write_text(
        f"import sys\nsys.path.append({str(runs.TINY.parent)!r})\nimport tiny\n"
        f"def get_config():\n    config = tiny.get_config()\n    {line}\n    return config\n"
    )
    said = refuse_training(tmp_path / "run", f"--config={path}")
    for words in RECIPES[line]:
        assert words in said


def test_recipe_names(tmp_path):
    said = refuse_training(tmp_path / "run", "--config=demoo.py")
    assert "--config=demoo.py: no such file" in said
    assert "Did you mean demo.py or dmnet.py or danet.py?" in said
    said = refuse_training(tmp_path / "run", "--config=configs/cgnet.py:cgnet_camvit")
    assert "There is no recipe 'cgnet_camvit'" in said
    assert "cgnet_camvid" in said
    said = refuse_training(tmp_path / "run", "--config=pspnet.py")
    assert "Give the name of a recipe after a colon" in said
    said = refuse_training(tmp_path / "run", "--config=demo.py:big")
    assert "takes no name" in said
    (tmp_path / "empty.py").write_text("x = 1\n")
    said = refuse_training(tmp_path / "run", f"--config={tmp_path / 'empty.py'}")
    assert "get_config" in said
    said = refuse_training(tmp_path / "run", f"--config={tmp_path}")
    assert "no such file" in said


def test_workdir_of_another_config(finished_run, tmp_path):
    shutil.copytree(finished_run, tmp_path / "run")
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    said = refuse("train", TINY, f"--workdir={tmp_path / 'run'}", "--config.optimizer.lr=0.5", "--config.seed=4")
    assert "holds a run of another config" in said
    assert "optimizer.lr: 0.02 there, 0.5 here" in said
    assert "seed: 0 there, 4 here" in said
    assert "log_every" not in said
    assert "another --workdir" in said
    assert before == {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}


def test_workdir_that_is_a_file(tmp_path):
    (tmp_path / "file").write_text("mine")
    assert "is a file" in refuse("train", TINY, f"--workdir={tmp_path / 'file'}")
    assert (tmp_path / "file").read_text() == "mine"


def test_batch_that_devices_cannot_share(tmp_path):
    ended = runs.command(
        "train", TINY, f"--workdir={tmp_path / 'run'}", "--config.batch_size=6", cwd=tmp_path, expect=2,
        XLA_FLAGS="--xla_force_host_platform_device_count=4",
    )  # fmt: skip
    assert ended.err.startswith("error: batch_size=6 must be a multiple of the 4 devices")
    assert "such as 4 or 8" in ended.err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("verb", ["evaluate", "predict"])
def test_not_a_run(verb, tmp_path, good):
    images = [good / "images" / "val"] if verb == "predict" else []
    said = refuse(verb, f"--workdir={tmp_path}", *images)
    assert f"{tmp_path} is not a run folder" in said
    (tmp_path / "config.json").write_text("{")
    assert "is not valid JSON" in refuse(verb, f"--workdir={tmp_path}", *images)


def test_run_without_checkpoint(finished_run, tmp_path):
    shutil.copy(finished_run / "config.json", tmp_path)
    said = refuse("evaluate", f"--workdir={tmp_path}")
    assert "holds no checkpoint" in said
    assert "step 99; there are [10, 12]" in refuse("evaluate", f"--workdir={finished_run}", "--step=99")


# Orbax leaves coroutines behind when a file can't be read.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_damaged_best_checkpoint(finished_run, tmp_path):
    run = shutil.copytree(finished_run, tmp_path / "run")
    largest = max((run / "checkpoints" / "12" / "variables").rglob("*"), key=lambda path: path.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:1000])
    said = refuse("evaluate", f"--workdir={run}")
    assert f"Checkpoint {run}/checkpoints/12 is damaged" in said
    assert "Choose another as step: [10]" in said
    gc.collect()
    assert runs.call("evaluate", f"--workdir={run}", "--step=10").status == 0


def test_what_predict_cannot_read(finished_run, good, tmp_path):
    workdir = f"--workdir={finished_run}"
    assert "missing.jpg: no such file or folder" in refuse("predict", workdir, tmp_path / "missing.jpg")
    (tmp_path / "notes.txt").write_text("not an image")
    said = refuse("predict", workdir, tmp_path / "notes.txt", f"--out={tmp_path / 'out'}")
    assert "notes.txt cannot be decoded" in said
    assert not (tmp_path / "out").exists()
    assert "holds no image" in refuse("predict", workdir, tmp_path)
    assert "required: FILE_OR_FOLDER" in refuse("predict", workdir)


def test_flags():
    said = refuse("train", "--wrokdir=x")
    assert "--wrokdir means nothing here. Did you mean --workdir?" in said
    assert "--help" in said
    assert "demo.py means nothing here" in refuse("train", "demo.py")
    assert "required: --workdir" in refuse("evaluate")
    assert "'tset'" in refuse("evaluate", "--workdir=x", "--part=tset")
    assert "--step: invalid int value: 'best'" in refuse("evaluate", "--workdir=x", "--step=best")
    assert "--config.total_steps means nothing here" in refuse("evaluate", "--workdir=x", "--config.total_steps=3")


def test_exit_status_of_the_command(tmp_path):
    ended = runs.command("train", TINY, "--workdir=run", "--config.modle.x=1", cwd=tmp_path, expect=2)
    assert ended.err == "error: config has no field 'modle'. Did you mean model?\n"
    assert ended.out == ""
    assert list(tmp_path.iterdir()) == []
