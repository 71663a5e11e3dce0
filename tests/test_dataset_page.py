"""docs/datasets.md says what the table of data sets says, and its Python does what it says."""

import importlib.util
import json
import re
import runpy
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxseg import config as run_config
from jaxseg.data import DATASETS, build_source
from jaxseg.data.nifti import write_nifti
from jaxseg.models import build_model
from jaxseg.train import prepare_data

TOOL = runpy.run_path(str(Path(__file__).parent.parent / "tools" / "make_dataset_page.py"))
TEXT = TOOL["PAGE"].read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)


def test_the_page_is_up_to_date():
    assert TOOL["page"](TEXT) == TEXT, "run tools/make_dataset_page.py"


def test_every_data_set_has_a_way_to_be_prepared():
    told = re.findall(r"^\| ([\w, ]+) \| [^|`]*`?", TEXT.partition("| data set | to prepare |")[2], re.MULTILINE)
    by_hand = {name for cell in told for name in cell.split(", ")}
    sections = {"Decathlon", "Demo", "FolderCDDataset", "FolderDataset", "TFDS"}
    assert by_hand | sections | set(TOOL["CONVERTERS"]) == set(DATASETS)
    assert not by_hand & set(TOOL["CONVERTERS"])


@pytest.mark.skipif(not importlib.util.find_spec("jaxseg.data.converters"), reason="needs jaxseg.data.converters")
def test_converters_are_those_that_there_are():
    from jaxseg.data.converters import CONVERTERS

    assert {converter.dataset: name for name, converter in CONVERTERS.items()} == TOOL["CONVERTERS"]


@pytest.fixture
def files(tmp_path, monkeypatch):
    """The page's files with a name, in a folder of their own; the Python that runs there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for block in BLOCKS:
        if named := re.match(r"# (\w+\.py)\n", block):
            Path(named[1]).write_text(block)
    return tmp_path


def test_the_example_of_several_data_sets(files, capsys):
    block = next(block for block in BLOCKS if "from mixed import" in block)
    exec(block, {})
    assert capsys.readouterr().out == (
        "22 2 x FolderDataset train + 5 x FolderDataset train of two + 2 x FolderDataset val of two\n"
    )
    config = run_config.load_recipe("mixed.py")
    run_config.check(config)
    assert len(build_source(config.data, "val")) == 4
    # The same from the command line, and from the run folder's JSON.
    text = re.search(r'--config.data.train.sources="(.*?)"', TEXT)[1]
    other = run_config.override(config, [("data.train.sources", text)])
    assert other.data.train.sources == config.data.train.sources[:2]
    Path("config.json").write_text(run_config.to_json(config))
    assert build_source(run_config.load_recipe("config.json").data, "train").repeats == (2, 5, 2)


def test_the_example_of_volumes(files):
    root = files / "Task09_Spleen"
    root.mkdir()
    for name in ("a", "b"):
        write_nifti(root / f"{name}.nii.gz", np.zeros((4, 3, 2), np.uint8))
    listing = [{"image": f"./{name}.nii.gz", "label": f"./{name}.nii.gz"} for name in ("a", "b")]
    labels = {"0": "background", "1": "spleen"}
    (root / "dataset.json").write_text(json.dumps({"labels": labels, "training": listing}))
    for part, name in (("train", "a"), ("val", "b")):
        (root / f"{part}.txt").write_text(f"{name}\n")
        source = build_source(run_config.load_recipe("volumes.py").data, part)
        assert (source.classes, source[0]["meta"]["name"], len(source)) == (("background", "spleen"), name, 1)


def test_the_example_of_two_dates(files):
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (2, 150, 160, 3), dtype=np.uint8)
    mask = (pictures[0].sum(-1) > pictures[1].sum(-1)).astype(np.uint8)
    for folder, picture in zip(("images", "images2", "annotations"), (*pictures, mask), strict=True):
        for part in ("train", "val"):
            (files / "pairs" / folder / part).mkdir(parents=True)
            Image.fromarray(picture).save(files / "pairs" / folder / part / "a.png")
    config = run_config.load_recipe("change.py")
    run_config.check(config)
    config, sources, transforms = prepare_data(config)
    record = transforms["train"](sources["train"][0], np.random.default_rng(0))
    assert record["image"].shape == (128, 128, 6)
    first, second = (record["image"][..., part].sum(-1) for part in (slice(3), slice(3, 6)))
    np.testing.assert_array_equal(record["label"], first > second)  # all three are cut and turned alike
    assert build_model(config.model).backbone.in_channels == len(config.preprocess.mean) == 6
    assert transforms["val"](sources["val"][0], np.random.default_rng(0))["image"].shape == (150, 160, 6)


def test_options_of_commands_are_fields():
    """Of the commands that need what cannot be had in a test."""
    config = run_config.load_recipe("configs/folder.py")
    commands = re.findall(r"^```sh\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
    options = [option for command in commands for option in re.findall(r"--config\.([\w.]+)=(\".*?\"|\S+)", command)]
    assert len(options) == 6
    changed = run_config.override(config, [(name, value.strip('"')) for name, value in options])
    assert changed.data.train.split == "train[:90%]"
    run_config.check(changed)
