"""Your own folder from the command line: masks of every kind, images of any channels; a run keeps what it counted."""

import json
import shutil
from pathlib import Path

import folder
import numpy as np
import pytest
from PIL import Image

import jaxseg
import runs
from jaxseg.config import load_recipe, save
from jaxseg.data import write_demo
from jaxseg.engine.weights import save_weights
from jaxseg.errors import DataError
from jaxseg.models import build_model
from jaxseg.train import initial_state, prepare_data

BASE = (f"--config={folder.__file__}", "--config.data.check=2")


def train(root: Path, *fields: str, workdir: str = "run") -> tuple[Path, runs.Outcome]:
    ended = runs.call("train", *BASE, f"--config.data.root={root}", f"--workdir={root / workdir}", *fields)
    assert ended.status == 0, ended.err
    return root / workdir, ended


def rewrite(root: Path, to: Path, mask=lambda mask: mask, image=None) -> Path:
    """A copy of a data set with other masks, and other images as arrays."""
    shutil.copytree(root, to, ignore=shutil.ignore_patterns("run*"))
    for path in sorted((to / "annotations").rglob("*.png")):
        Image.fromarray(mask(np.array(Image.open(path)))).save(path)
    for path in sorted((to / "images").rglob("*.png")) if image else ():
        np.save(path.with_suffix(".npy"), image(np.array(Image.open(path))))
        path.unlink()
    return to


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_demo(tmp_path_factory.mktemp("own") / "set", size=(48, 64), train=6, val=4)


def test_masks_of_0_1_and_of_0_255_train_to_the_same_loss(data, tmp_path):
    fields = ("--config.data.masks=binary", "--config.data.classes=background,thing")
    ones = rewrite(data, tmp_path / "ones", lambda mask: (mask > 0).astype(np.uint8))
    full = rewrite(data, tmp_path / "full", lambda mask: (mask > 0).astype(np.uint8) * np.uint8(255))
    (first, said), (second, _) = train(ones, *fields), train(full, *fields)
    assert "masks: 0 is background, 1 or 255 is thing" in said.out
    assert runs.records(first) == runs.records(second)
    assert [record["loss"] for record in runs.records(first) if record["kind"] == "train"]
    for step, metadata in runs.checkpoints(first).items():
        assert metadata["checksums"] == runs.checkpoints(second)[step]["checksums"]


def weights_for_rgb(root: Path, to: Path) -> Path:
    """A folder of initial weights of the model."""
    config = load_recipe(folder.__file__)
    with config.unlocked():
        config.data.root = str(root)
    config, _, _ = prepare_data(config)
    state, _ = initial_state(config, build_model(config.model))
    to.mkdir()
    save_weights(to, state.variables, 0)
    save(config, to)
    return to


def seven_bands(image):
    wide = np.concatenate([image, image[..., ::-1], image[..., :1]], axis=-1).astype(np.uint16)
    return wide * np.arange(1, 8, dtype=np.uint16) * np.uint16(30)


def test_seven_channels_of_sixteen_bits_train_with_a_stem_for_rgb(data, tmp_path):
    bands = rewrite(data, tmp_path / "bands", image=seven_bands)
    rgb = weights_for_rgb(data, tmp_path / "rgb")
    weights = "--config.model.decode_head.loss_decode.class_weight=auto"
    fields = ("--config.data.channels=7", f"--config.init_from={rgb}", weights)
    run, said = train(bands, *fields)
    assert "backbone/stem_0/kernel repeated for 7 channels, times 3/7" in said.out
    assert "PhotoMetricDistortion is for RGB of 8 bits and is left out" in said.out
    config = json.loads((run / "config.json").read_text())
    assert config["model"]["backbone"]["in_channels"] == 7
    images = [np.load(path) for path in sorted((bands / "images" / "train").iterdir())]
    assert images[0].dtype == np.uint16
    np.testing.assert_allclose(config["preprocess"]["mean"], np.mean(images, axis=(0, 1, 2)), rtol=1e-4)
    counted = config["model"]["decode_head"]["loss_decode"]["class_weight"]
    assert len(counted) == 6
    assert (run / "report" / "report.html").is_file()

    # It goes on with what it counted.
    whole = runs.checkpoints(run)[4]["checksums"]
    shutil.rmtree(run / "checkpoints" / "4")
    train(bands, *fields)
    assert json.loads((run / "config.json").read_text()) == config
    assert runs.checkpoints(run)[4]["checksums"] == whole

    ended = runs.call("predict", f"--workdir={run}", f"--out={tmp_path / 'out'}", bands / "images" / "val")
    assert ended.status == 0, ended.err
    names = sorted(path.stem for path in (bands / "images" / "val").iterdir())
    for name in names:
        overlay = np.array(Image.open(tmp_path / "out" / f"{name}_overlay.png"))
        assert overlay.shape == (*np.load(bands / "images" / "val" / f"{name}.npy").shape[:2], 3)
    assert len(np.unique(overlay)) > 20
    segmenter = jaxseg.load(run)
    result = segmenter.predict(images[0])
    assert result.label_map.shape == (48, 64)
    assert result.overlay().shape == (48, 64, 3)
    with pytest.raises(DataError, match=r"array \[height width 7\] of uint8, uint16 or float32"):
        segmenter.predict(images[0][..., :3])
    ended = runs.call("predict", f"--workdir={run}", f"--out={tmp_path / 'no'}", data / "images" / "val")
    assert ended.status == 2
    assert "has 3 channels (48x64 pixels, uint8), but data.channels is 7" in ended.err


def test_several_classes_a_pixel(data, tmp_path):
    """One file an image with bits, from training to pictures."""
    round_ones, edgy_ones = (1, 4), (2, 3, 4, 5)
    bits = rewrite(
        data,
        tmp_path / "bits",
        lambda mask: (np.isin(mask, round_ones) + 2 * np.isin(mask, edgy_ones)).astype(np.uint8),
    )
    run, said = train(bits, "--config.data.masks=multi-label", "--config.data.classes=round,edgy")
    assert "masks: any of 2 classes at every pixel: round, edgy" in said.out
    scores = [record for record in runs.records(run) if record["kind"] == "val"][-1]
    assert sorted(scores["IoU"]) == ["edgy", "round"]
    page = (run / "report" / "report.html").read_text()
    assert "round" in page
    assert "confusion.png" not in page
    assert list((run / "report" / "examples").glob("*.png"))
    ended = runs.call("predict", f"--workdir={run}", f"--out={tmp_path / 'out'}", "--tta", bits / "images" / "val")
    assert ended.status == 0, ended.err
    labels = [np.array(Image.open(path)) for path in (tmp_path / "out").glob("*[0-9].png")]
    assert len(labels) == 4
    assert max(label.max() for label in labels) <= 3
    ended = runs.call("evaluate", f"--workdir={run}", "--part=val")
    assert ended.status == 0, ended.err
    assert "edgy" in ended.out


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        (("--config.data.masks=binary", "--config.data.classes=a,b"), "holds 2, "),
        (("--config.data.mask_colors={'#000000': 'background', '#ffffff': 'disk'}",), "colours that mean no class"),
        (("--config.data.label_map={0: 'background', 1: 'dsk'}",), "Did you mean disk?"),
        (("--config.data.channels=4",), "has 3 channels (48x64 pixels, uint8), but data.channels is 4"),
        (("--config.model.decode_head.loss_decode.class_weight=atuo",), "class_weight is 'atuo'"),
        (("--config.data.masks=multi-label", "--config.data.classes=a,b"), "2 classes need numbers of 0..3"),
    ],
)
def test_what_can_not_work_is_said_before_the_first_step(data, tmp_path, fields, says):
    ended = runs.call("train", *BASE, f"--config.data.root={data}", f"--workdir={tmp_path / 'run'}", *fields)
    assert ended.status == 2
    assert says in ended.err
    assert "Traceback" not in ended.err
    assert not (tmp_path / "run").exists()
