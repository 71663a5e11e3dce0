"""What tests of files share."""

import copy
import time

import pytest

from dialects import DIALECTS, NEW, OLD
from jaxseg.mmseg import load_checkpoint, read_config


@pytest.fixture
def read(tmp_path):
    """Reads bytes as a file."""

    def read_bytes(data: bytes, reader=load_checkpoint):
        # A new file each time: arrays of the last one may still be views into it.
        path = tmp_path / f"{time.monotonic_ns()}.pth"
        path.write_bytes(data)
        try:
            return reader(path)
        finally:
            path.unlink()

    return read_bytes


@pytest.fixture(scope="module")
def configs(tmp_path_factory):
    """The config of each dialect, resolved."""
    folder = tmp_path_factory.mktemp("configs")
    for name, text in zip(DIALECTS, (NEW, OLD), strict=True):
        (folder / f"{name}.py").write_text(text)
    return {name: read_config(folder / f"{name}.py") for name in DIALECTS}


@pytest.fixture
def new(configs):
    return copy.deepcopy(configs["new"])
