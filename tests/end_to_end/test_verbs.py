"""What the commands take, print and write."""

import json
import re
import shutil
from pathlib import Path

import folder
import jax
import numpy as np
import pytest
from PIL import Image

import jaxseg
import runs
from jaxseg import cli
from jaxseg.config import load_recipe
from jaxseg.engine.state import take_over
from jaxseg.errors import CheckpointError, ConfigError, DataError
from jaxseg.models import build_model
from jaxseg.predict import find_images
from jaxseg.train import initial_state, prepare_data, train_and_evaluate

PSPNET = "pspnet_r50-d8_4xb2-40k_cityscapes-512x1024"


def parsed(verb: str, *words: str):
    """What a verb would run with."""
    module = __import__(f"jaxseg.{verb}", fromlist=["make_parser"])
    taken = []
    cli.main(module.make_parser(), taken.append, words)
    return taken[0]


@pytest.mark.parametrize(
    ("verb", "flags"),
    [
        ("train", ["--config", "--config.FIELD", "--workdir", "--import"]),
        ("evaluate", ["--workdir", "--part", "--step", "--data_root", "--out"]),
        ("predict", ["FILE_OR_FOLDER", "--workdir", "--step", "--out", "--tta"]),
    ],
)
def test_help(verb, flags):
    ended = runs.call(verb, "--help")
    assert ended.status == 0
    module = __import__(f"jaxseg.{verb}", fromlist=["make_parser"])
    assert module.__doc__.strip() in ended.out
    for flag in flags:
        assert flag in ended.out
    assert len(ended.out.splitlines()) < 40


def test_without_a_config_it_is_the_demo():
    assert parsed("train").config.name == "demo"
    assert parsed("train", "--config.total_steps=7").config.total_steps == 7


@pytest.mark.parametrize("config", [f"configs/pspnet.py:{PSPNET}", f"pspnet.py:{PSPNET}", f"pspnet:{PSPNET}"])
def test_recipes_are_found_from_anywhere(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    args = parsed("train", f"--config={config}", "--config.optimizer.lr", "0.5", "--workdir", "here")
    assert args.config.name == PSPNET
    assert args.config.model.decode_head.type == "PSPHead"
    assert args.config.optimizer.lr == 0.5
    assert args.workdir == "here"


def test_a_recipe_of_ones_own_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(runs.TINY, tmp_path / "demo.py")
    assert parsed("train", "--config=demo.py").config.name == "tiny"
    assert parsed("train", "--config", "demo.py:30").config.total_steps == 30


def test_every_listed_model_loads():
    names = jaxseg.list_models()
    assert PSPNET in names
    assert {"demo", "folder", "cgnet_camvid"} <= set(names)
    assert jaxseg.list_models("cgnet*") == sorted(name for name in names if name.startswith("cgnet"))
    assert load_recipe(f"pspnet.py:{PSPNET}").is_locked


def test_run_folder(finished_run):
    config = json.loads((finished_run / "config.json").read_text())
    assert set(config) == set(load_recipe(str(runs.TINY)).keys())
    assert config["data"]["classes"] == ["background", "disk", "box", "triangle", "ring", "cross"]
    assert config["model"]["decode_head"]["num_classes"] == 6
    records = [json.loads(line) for line in (finished_run / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records if record["kind"] == "train"] == list(range(1, 13))
    assert [record["step"] for record in records if record["kind"] == "val"] == [6, 12]
    for record in records:
        wanted = {"loss", "lr", "decode.loss_ce", "decode.acc_seg", "aux.loss_ce", "grad_norm", *runs.TIMING}
        assert set(record) >= (wanted if record["kind"] == "train" else {"mIoU", "mAcc", "aAcc", "IoU", "Acc"})
    assert sorted(runs.checkpoints(finished_run)) == [10, 12]
    assert {path.name for path in finished_run.iterdir()} == {
        "config.json", "metrics.jsonl", "tensorboard", "checkpoints", "report",
    }  # fmt: skip
    assert_report(finished_run / "report", curves=True)


def assert_report(report: Path, curves: bool) -> None:
    page = (report / "report.html").read_text()
    linked = set(re.findall(r'(?:src|href)="([^"#:]+)"', page))
    assert linked
    for name in linked:
        assert (report / name).is_file(), name
        if name.endswith(".png"):
            Image.open(report / name).verify()
    assert ("loss.png" in linked) == curves
    assert {"class_iou.png", "confusion.png"} <= linked
    assert any(name.startswith("examples/") for name in linked)


def test_tensorboard_events(finished_run):
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.record_writer import RecordWriter  # noqa: F401  (the format's other half)

    (path,) = (finished_run / "tensorboard").iterdir()
    content, found = path.read_bytes(), {}
    while content:
        length = int.from_bytes(content[:8], "little")
        event = Event.FromString(content[12 : 12 + length])
        for value in event.summary.value:
            found.setdefault(value.tag, {})[event.step] = value.simple_value
        content = content[16 + length :]
    losses = {record["step"]: record["loss"] for record in runs.records(finished_run) if record["kind"] == "train"}
    assert found["train/loss"] == pytest.approx(losses)
    assert set(found["val/mIoU"]) == {6, 12}


def test_evaluate(finished_run, tmp_path):
    ended = runs.call("evaluate", f"--workdir={finished_run}", "--part=val", f"--out={tmp_path / 'report'}")
    assert ended.status == 0, ended.err
    (last,) = [record for record in runs.records(finished_run) if record["kind"] == "val" and record["step"] == 12]
    assert "Demo val, 11 images, step 12" in ended.out
    rows = {cells[0]: cells[1:] for line in ended.out.splitlines() if len(cells := re.split(r"\s*│\s*", line)[1:-1])}
    for name in last["IoU"]:
        iou, acc = rows[name]
        assert iou == f"{last['IoU'][name]:.2f}"
        assert acc == f"{last['Acc'][name]:.2f}"
    assert rows["mean"] == [f"{last['mIoU']:.2f}", f"{last['mAcc']:.2f}"]
    assert rows["all pixels"][1] == f"{last['aAcc']:.2f}"
    assert_report(tmp_path / "report", curves=False)


def test_evaluate_files_elsewhere(folder_run, tmp_path):
    workdir = shutil.copytree(folder_run, tmp_path / "run")
    moved = shutil.copytree(folder_run.parent / "data", tmp_path / "moved")
    ended = runs.call("evaluate", f"--workdir={workdir}", f"--data_root={moved}", "--step=4")
    assert ended.status == 0, ended.err
    assert "FolderDataset val, 5 images, step 4" in ended.out
    assert_report(workdir / "report_test", curves=False)


@pytest.fixture
def pictures(tmp_path):
    """Images of all kinds, by name, and their sizes."""
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 256, (60, 80, 3), np.uint8)
    kinds = {
        "photo.jpg": Image.fromarray(colours),
        "sub/photo.png": Image.fromarray(colours[:48, :64]),
        "sub/photo.jpg": Image.fromarray(colours[:31, :45]),
        "sub/deeper/grey.png": Image.fromarray(colours[..., 0]),
        "palette.png": Image.fromarray(colours).quantize(16),
        "alpha.png": Image.fromarray(rng.integers(0, 256, (33, 97, 4), np.uint8), "RGBA"),
        "small.bmp": Image.fromarray(colours[:9, :7]),
        "binary.tif": Image.fromarray(colours[..., 0]).convert("1"),
    }
    for name, image in kinds.items():
        path = tmp_path / "pictures" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
    return tmp_path / "pictures", {name: image.size for name, image in kinds.items()}


def test_predict(finished_run, pictures, tmp_path):
    place, sizes = pictures
    shutil.copy(place / "photo.jpg", tmp_path / "single.JPG")
    out = tmp_path / "out"
    ended = runs.call("predict", f"--workdir={finished_run}", f"--out={out}", place, tmp_path / "single.JPG")
    assert ended.status == 0, ended.err
    assert f"9 label maps and overlays in {out}" in ended.out
    expected = {
        "photo": "photo.jpg", "sub/photo.png": "sub/photo.png", "sub/photo.jpg": "sub/photo.jpg",
        "sub/deeper/grey": "sub/deeper/grey.png", "palette": "palette.png", "alpha": "alpha.png",
        "small": "small.bmp", "binary": "binary.tif", "single": "photo.jpg",
    }  # fmt: skip
    found = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert found == {f"{name}{end}.png" for name in expected for end in ("", "_overlay")}
    for name, source in expected.items():
        with Image.open(out / f"{name}.png") as labels, Image.open(out / f"{name}_overlay.png") as overlay:
            assert labels.size == overlay.size == sizes[source]
            assert (labels.mode, overlay.mode) == ("L", "RGB")
            assert np.array(labels).max() < 6
    assert (out / "photo.png").read_bytes() == (out / "single.png").read_bytes()


def test_predict_names(tmp_path):
    for name in ("all/a/x.png", "all/b/x.png", "all/c/x.jpg", "all/c/x.png", "d/y.png", "d/y_overlay.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).touch()
    out = tmp_path / "out"

    def found(*paths, out=out):
        return find_images([str(tmp_path / path) for path in paths], out)

    assert set(found("all")) == {"a/x", "b/x", "c/x.jpg", "c/x.png"}
    assert found("all/a", "all/a/x.png") == {"x": tmp_path / "all/a/x.png"}
    with pytest.raises(DataError, match=r"a/x.png and .*b/x.png would both become .*out/x.png"):
        found("all/a", "all/b")
    with pytest.raises(DataError, match=r"d/y.png and .*d/y_overlay.png would both become .*out/y_overlay.png"):
        found("d")
    with pytest.raises(DataError, match=r"a/x.png is an image, and a result would replace it"):
        found("all/a", "d/y.png", out=tmp_path / "all" / "a")
    # The results of an earlier call are not segmented in their turn.
    (tmp_path / "all" / "out").mkdir()
    (tmp_path / "all" / "out" / "z.png").touch()
    assert set(found("all", out=tmp_path / "all" / "out")) == {"a/x", "b/x", "c/x.jpg", "c/x.png"}


@pytest.fixture(scope="module")
def segmenter(finished_run):
    return jaxseg.load(str(finished_run))


def test_segmenter(segmenter, pictures):
    place, sizes = pictures
    path = place / "sub" / "photo.png"
    result = segmenter.predict(path)
    array = np.array(Image.open(path))
    width, height = sizes["sub/photo.png"]
    assert result.label_map.shape == (height, width)
    assert result.logits.shape == result.probabilities.shape == (height, width, 6)
    np.testing.assert_allclose(result.probabilities.sum(-1), 1, atol=1e-5)
    assert (result.probabilities >= 0).all()
    np.testing.assert_array_equal(result.label_map, result.probabilities.argmax(-1))
    np.testing.assert_array_equal(result.image, array)
    assert result.name == "photo"
    assert result.overlay().shape == array.shape
    for same in (str(path), array, Image.open(path)):
        np.testing.assert_array_equal(segmenter.predict(same).logits, result.logits)
    several = segmenter.predict([path, place / "photo.jpg"])
    assert [one.label_map.shape for one in several] == [(48, 64), (60, 80)]
    np.testing.assert_array_equal(several[0].logits, result.logits)
    assert segmenter.step == 12


def test_segmenter_averages_over_flips(segmenter):
    image = np.random.default_rng(1).integers(0, 256, (48, 64, 3), np.uint8)
    plain, mirrored = segmenter.predict(image), segmenter.predict(np.ascontiguousarray(image[:, ::-1]))
    averaged = segmenter.predict(image, tta=True)
    expected = (plain.probabilities + mirrored.probabilities[:, ::-1]) / 2
    np.testing.assert_allclose(averaged.probabilities, expected, atol=1e-6)
    np.testing.assert_allclose(averaged.probabilities.sum(-1), 1, atol=1e-5)
    np.testing.assert_array_equal(averaged.label_map, averaged.probabilities.argmax(-1))
    assert np.abs(plain.probabilities - expected).max() > 1e-4


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((4, 4, 4), np.uint8), 3]
)
def test_segmenter_refuses_what_is_no_image(segmenter, image):
    with pytest.raises(DataError, match="uint8 array"):
        segmenter.predict(image)


def test_load_refuses(tmp_path, finished_run):
    with pytest.raises(ConfigError, match="not a run folder"):
        jaxseg.load(str(tmp_path))
    with pytest.raises(CheckpointError, match="no step 3"):
        jaxseg.load(str(finished_run), step=3)
    assert jaxseg.load(str(finished_run), step=10).step == 10


def test_harmless_changes_on_resume(run_copy):
    words = (f"--config={runs.TINY}", f"--workdir={run_copy}")
    changed = ("--config.log_every=3", "--config.checkpoint.keep=1", "--config.data.read_threads=1")
    ended = runs.call("train", *words, *changed)
    assert ended.status == 0, ended.err
    assert json.loads((run_copy / "config.json").read_text())["log_every"] == 3
    ended = runs.call("train", *words, "--config.checkpoint.metric=IoU/disk", "--config.checkpoint_every=5")
    assert ended.status == 0, ended.err


def test_start_from_another_run(run_copy, tmp_path):
    config = load_recipe(str(runs.TINY))
    with config.unlocked():
        config.init_from = str(run_copy)
    config, _, _ = prepare_data(config)
    state, _ = initial_state(config, build_model(config.model))
    there = jaxseg.load(str(run_copy)).variables
    for ours, theirs in zip(jax.tree.leaves(state.variables), jax.tree.leaves(there), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert int(state.step) == 0

    words = (f"--config={runs.TINY}", f"--config.init_from={run_copy}", f"--workdir={tmp_path / 'second'}")
    assert runs.call("train", *words).status == 0
    first, second = (runs.records(path)[0]["loss"] for path in (run_copy, tmp_path / "second"))
    assert second < first - 0.1
    # Once it runs, the other run is not needed any more.
    shutil.rmtree(run_copy)
    assert runs.call("train", *words).status == 0


def test_start_from_a_run_of_other_classes():
    ours = {"params": {"a": {"kernel": np.zeros((3, 2))}, "conv_seg": {"kernel": np.zeros((2, 5))}}}
    theirs = {"params": {"a": {"kernel": np.ones((3, 2))}, "conv_seg": {"kernel": np.ones((2, 7))}}}
    said = []
    taken = take_over(ours, theirs, "there", said.append)
    assert taken["params"]["a"]["kernel"].all()
    assert not taken["params"]["conv_seg"]["kernel"].any()
    assert said == ["there has other classes: params/conv_seg/kernel start anew"]
    wrong = {"params": {**theirs["params"], "a": {"kernel": np.ones((4, 2))}}}
    with pytest.raises(ConfigError, match=r"init_from=there is of another model: .* params/a/kernel \(\(4, 2\)"):
        take_over(ours, wrong, "there", said.append)
    with pytest.raises(ConfigError, match=r"params/b \(\(1,\) there, missing here\)"):
        take_over(ours, {"params": {**theirs["params"], "b": np.ones(1)}}, "there", said.append)


def test_callbacks(folder_run, tmp_path):
    events = []

    class Record:
        def on_step(self, step, state, logs):
            events.append(("step", step, int(state.step)))

        def on_evaluation(self, step, evaluation):
            events.append(("evaluation", step, evaluation.confusion.sum() > 0))

        def on_checkpoint(self, step, state):
            events.append(("checkpoint", step))

        def on_end(self, state, evaluation):
            events.append(("end", int(state.step)))

    config = load_recipe(folder.__file__)
    with config.unlocked():
        config.data.root = str(folder_run.parent / "data")
    train_and_evaluate(config, tmp_path / "run", callbacks=[Record(), object()])
    assert events == [
        ("step", 1, 1), ("step", 2, 2), ("checkpoint", 2), ("step", 3, 3), ("step", 4, 4), ("evaluation", 4, True),
        ("checkpoint", 4), ("end", 4),
    ]  # fmt: skip
