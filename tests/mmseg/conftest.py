"""What tests of files share."""

import time

import pytest

from jaxseg.mmseg import load_checkpoint


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
