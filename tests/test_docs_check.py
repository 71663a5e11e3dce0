"""docs/check.md works as it is written, and its table is the table of the code."""

import json
import re
import shlex
from pathlib import Path

import pytest

import runs
from jaxseg.data.checking import KINDS

PAGE = Path(__file__).parent.parent / "docs" / "check.md"


def test_all_kinds_are_in_the_table():
    rows = re.findall(r"^\| (error|warning|note) \| (.*) \| (.*) \|$", PAGE.read_text(), re.MULTILINE)
    assert rows == [(kind.severity, kind.title, kind.fix) for kind in KINDS.values()]


@pytest.fixture(scope="module")
def followed(tmp_path_factory):
    """Runs the commands and the Python of the page in its order; what each said, and the folder."""
    folder, said = tmp_path_factory.mktemp("page"), []
    for language, block in re.findall(r"^```(\w+)\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE):
        if language == "python":
            said.append(runs.python("-c", block, cwd=folder).out)
            continue
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line.split("&&")[0])
            assert words[0] == "python"
            said.append(runs.python(*words[1:], cwd=folder).out)
    return folder, said


def test_the_commands_of_the_page(followed):
    folder, (_, whole, first, python) = followed
    assert "80 records read" in whole
    assert "nothing found" in whole
    assert "36 records read" in first
    names = {path.name for path in (folder / "check").iterdir()}
    assert names == {"check.html", "check.json", "classes.png", "sheet_train.png", "sheet_val.png"}
    mean = json.loads((folder / "check" / "check.json").read_text())["parts"]["val"]["mean"]
    assert str(mean) in python
