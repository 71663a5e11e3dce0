"""Runs that several tests look at."""

import shutil
from pathlib import Path

import folder
import pytest

import runs


@pytest.fixture(scope="session")
def folder_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on a folder of files, which are in `data` beside it; not to be written to."""

    def make(place: Path) -> None:
        data = folder.write_folder(place / "data")
        words = (f"--config={folder.__file__}", f"--workdir={place / 'run'}", f"--config.data.root={data}")
        ended = runs.call("train", *words)
        assert ended.status == 0, ended.err

    return runs.once(tmp_path_factory, "folder_run", make)


@pytest.fixture
def run_copy(finished_run: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, to be written to."""
    return shutil.copytree(finished_run, tmp_path / "copy")
