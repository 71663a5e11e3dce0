"""Several devices, or several processes, compute what one device computes."""

import json
import shutil
import socket
from pathlib import Path

import numpy as np
import pytest

import runs

SCRIPT = Path(__file__).with_name("parallel.py")
PIXELS = 11 * 48 * 64  # of the validation part, none of them ignored


def found(out: str) -> dict:
    return json.loads(out.splitlines()[-1])


def assert_losses_equal(run: Path, other: Path) -> None:
    ours, theirs = runs.records(run), runs.records(other)
    assert [(r["step"], r["kind"]) for r in ours] == [(r["step"], r["kind"]) for r in theirs]
    assert len(ours) == 14
    for mine, other_one in zip(ours, theirs, strict=True):
        names = ("loss", "decode.loss_ce", "aux.loss_ce", "grad_norm") if mine["kind"] == "train" else ("mIoU", "aAcc")
        for name in names:
            assert mine[name] == pytest.approx(other_one[name], rel=1e-5), f"{name} of step {mine['step']}"


@pytest.fixture(scope="session")
def one_device(tmp_path_factory):
    """The same script on one device."""

    def make(folder):
        (folder / "out.txt").write_text(runs.python(SCRIPT, "run", cwd=folder).out)

    return runs.once(tmp_path_factory, "one_device", make)


def test_eight_devices_equal_one(one_device, tmp_path):
    several = "--xla_force_host_platform_device_count=8"
    eight = found(runs.python(SCRIPT, "run", cwd=tmp_path, XLA_FLAGS=several).out)
    one = found((one_device.parent / "out.txt").read_text())
    assert (one["devices"], eight["devices"]) == (1, 8)
    assert_losses_equal(tmp_path / "run", one_device)
    # 11 images in batches of 8: the last batch is filled up, which must not count.
    assert one["pixels"] == eight["pixels"] == PIXELS
    assert_evaluations_equal(eight["untrained"], one["untrained"])

    # A run of one device goes on with eight.
    shutil.copytree(one_device, tmp_path / "moved")
    shutil.rmtree(tmp_path / "moved" / "checkpoints" / "12")
    said = runs.python(SCRIPT, "moved", cwd=tmp_path, XLA_FLAGS=several).out
    assert "continued from step 10" in said
    assert_losses_equal(tmp_path / "moved", one_device)


def assert_evaluations_equal(ours: dict, theirs: dict) -> None:
    confusion, other = np.array(ours["confusion"]), np.array(theirs["confusion"])
    assert confusion.sum() == other.sum() == PIXELS
    assert (confusion.sum(0) > 0).sum() >= 4  # it predicts several classes
    assert np.abs(confusion - other).sum() <= 1e-4 * PIXELS  # a pixel may be on the edge between two classes
    assert ours["metrics"]["mIoU"] == pytest.approx(theirs["metrics"]["mIoU"], rel=1e-4)
    assert ours["batch_size"] == theirs["batch_size"] == 8
    np.testing.assert_allclose(ours["image_scores"], theirs["image_scores"], atol=1e-3)
    assert len(ours["image_scores"]) == 11


def test_two_processes_equal_one(one_device, tmp_path):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    logs = [tmp_path / f"process{index}.txt" for index in range(2)]
    processes = [runs.start((SCRIPT, "run", address, 2, index), tmp_path, log) for index, log in enumerate(logs)]
    try:
        for process, log in zip(processes, logs, strict=True):
            assert process.wait(runs.LIMIT) == 0, log.read_text()
    finally:
        for process in processes:
            process.kill()
    first, second = (found(log.read_text()) for log in logs)
    one = found((one_device.parent / "out.txt").read_text())
    assert first["devices"] == second["devices"] == 2
    assert_losses_equal(tmp_path / "run", one_device)
    for process in (first, second):
        assert process["pixels"] == PIXELS
        assert_evaluations_equal(process["untrained"], one["untrained"])
    # Process 0 alone writes what is not sharded, and talks.
    assert {"config.json.tmp", "metrics.jsonl", "report", "tensorboard"} <= set(first["written"])
    assert set(second["written"]) <= {"checkpoints"}
    assert "step 12/12" in logs[0].read_text()
    assert "step 12/12" not in logs[1].read_text()
    assert sorted(runs.checkpoints(tmp_path / "run")) == sorted(runs.checkpoints(one_device))
