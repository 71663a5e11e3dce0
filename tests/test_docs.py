"""docs/add-a-model.md works as it is written: its files, its commands, its Python."""

import json
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import runs

PAGE = Path(__file__).parent.parent / "docs" / "add-a-model.md"
# A few steps on a few images: in the test, training is not to learn anything.
SHORT = ("--config.total_steps=2", "--config.batch_size=4", "--config.eval_batch_size=4", "--config.log_every=1")
SHORT_DEMO = (*SHORT, *(f"--config.data.demo.{part}=4" for part in ("train", "val", "test")))


def follow(page: Path, folder: Path, fields: tuple[str, ...] = SHORT_DEMO) -> dict[str, str]:
    """Writes the files of a page into a folder, runs its commands and its other Python there, in the page's order.

    Args:
        page: The page.
        folder: Where.
        fields: Of the recipe, added to every command that trains.

    Returns:
        What each command said, by the command, and by "python" what the other Python did.
    """
    said = {}
    for language, block in re.findall(r"^```(\w+)\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE):
        if language == "python" and (named := re.match(r"# (\w+\.py)(, continued)?\n", block)):
            with (folder / named[1]).open("a" if named[2] else "x") as file:
                file.write(block)
        elif language == "python":
            said["python"] = runs.python("-c", block, cwd=folder).out
        else:
            assert language == "sh"
            for line in block.splitlines():
                program, *words = shlex.split(line)
                assert program == "python"
                short = fields if "jaxseg.train" in words else ()
                said[line] = runs.python(*words, *short, cwd=folder).out
    return said


@pytest.fixture(scope="module")
def followed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    return folder, follow(PAGE, folder)


def test_a_run_scores_and_predictions_come_out(followed):
    folder, said = followed
    verbs = [word for line in said for word in line.split() if word.startswith("jaxseg.")]
    assert verbs == ["jaxseg.train", "jaxseg.evaluate", "jaxseg.data", "jaxseg.predict"]
    run = folder / "runs" / "mine"
    assert (run / "report" / "report.html").is_file()
    records = runs.records(run)
    assert all(record["decode.loss_mine"] > 0 for record in records if record["kind"] == "train")
    assert [record["step"] for record in records if record["kind"] == "val" and 0 <= record["mIoU"] <= 100] == [2]
    assert "all pixels" in next(out for line, out in said.items() if "evaluate" in line)
    overlays = list((folder / "predictions").glob("*_overlay.png"))
    assert len(overlays) == 2
    for path in overlays:
        label_map = np.array(Image.open(path.with_name(path.name.replace("_overlay", ""))))
        assert label_map.shape == (96, 128)
        assert label_map.max() < 6
    assert said["python"].startswith("(96, 128) ('background', ")


def test_a_run_names_its_classes_and_has_nothing_imported(followed, monkeypatch):
    folder, _ = followed
    model = json.loads((folder / "runs" / "mine" / "config.json").read_text())["model"]
    assert [model[part]["type"] for part in ("backbone", "decode_head")] == ["my_head.MyBackbone", "my_head.MyHead"]
    assert [loss["type"] for loss in model["decode_head"]["loss_decode"]] == ["CrossEntropyLoss", "MyLoss"]
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    status, _, err = runs.call("predict", "--workdir=runs/mine", "photos/images/val")
    assert status == 2
    assert "my_head" not in sys.modules
    assert err == (
        "error: model.backbone.type='my_head.MyBackbone' is not known. "
        "Import its module first: --import=my_head, or `import my_head` in Python.\n"
    )
