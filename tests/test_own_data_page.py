"""docs/your-own-data.md works as it is written: its file, its commands."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import runs
from jaxseg import cli, train
from jaxseg.configs import folder
from jaxseg.data import check_source
from jaxseg.models import build_model
from test_docs import SHORT, follow

# Crops are smaller than the recipe's, too.
SMALL = (
    *SHORT,
    "--config.data.train.transforms[2].crop_size=(64, 64)",
    "--config.data.train.transforms[5].size=(64, 64)",
)
PAGE = Path(__file__).parent.parent / "docs" / "your-own-data.md"


def commands(text: str) -> list[list[str]]:
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return [shlex.split(line) for block in blocks for line in block.splitlines()]


def test_commands_of_the_page_start(tmp_path, monkeypatch):
    """Without training: the data of every command is read and checked, its recipe filled in, its model built."""
    monkeypatch.chdir(tmp_path)
    (text, [make_sets]) = PAGE.read_text(), re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.M)
    seen = {}

    def start(args):
        said = []
        config, sources, _ = train.prepare_data(args.config, None, said.append)
        build_model(config.model)
        for part, source in sources.items():
            check_source(source, config.data[part].transforms, limit=4)
        seen[args.workdir] = (config, "\n".join(said))

    for command in commands(text):
        match command[1:]:
            case ["-c", code]:
                exec(code)
            case ["make_sets.py"]:
                exec(make_sets)
            case ["-m", "jaxseg.train", *words]:
                cli.main(train.make_parser(), start, words)
            case ["-m", "jaxseg.predict", *_]:
                pass
            case other:
                pytest.fail(f"what is {other}?")
    assert set(seen) == {
        f"runs/{n}" for n in ["mine", "segformer", "binary", "colors", "map", "several", "weighted", "bands"]
    }
    said = {name.split("/")[1]: notes for name, (_, notes) in seen.items()}
    assert said["mine"] == ""
    assert said["binary"] == "masks: 0 is background, 1 or 255 is shape"
    assert "0000ff is triangle" in said["colors"]
    assert "2/3 is pointed" in said["map"]
    assert "losses: a sigmoid for every class" in said["several"]
    assert said["weighted"].startswith("class weights of the training masks: background 0.")
    assert "images: mean " in said["bands"]
    assert seen["runs/segformer"][0].model.backbone.type == "MixVisionTransformer"
    assert seen["runs/bands"][0].model.backbone.in_channels == 7


def test_the_page_lists_the_models():
    table = PAGE.read_text().split("| `model_name` |")[1].split("\n\n")[0]
    listed = [name for line in table.splitlines()[2:] for name in re.findall(r"`(\w+)`", line.split("|")[1])]
    assert sorted(listed) == sorted(folder.MODELS)


@pytest.mark.slow
def test_commands_of_the_page_run(tmp_path):
    """All of them, as processes, for two steps."""
    follow(PAGE, tmp_path, SMALL)
    for name in ("predictions", "several_predictions", "bands_predictions"):
        overlays = sorted((tmp_path / name).glob("*_overlay.png"))
        assert len(overlays) == 16
        assert np.array(Image.open(overlays[0])).shape == (96, 128, 3)
    for run in sorted((tmp_path / "runs").iterdir()):
        assert (run / "report" / "report.html").is_file()
        assert len(runs.records(run)) >= 3
