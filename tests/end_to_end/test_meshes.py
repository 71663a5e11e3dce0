"""Parameters that are split over devices: training is what it is on one, and checkpoints fit all meshes."""

import json
from pathlib import Path

import pytest

import runs

SCRIPT = Path(__file__).with_name("meshes.py")


@pytest.mark.parametrize(
    "names", [("both",), pytest.param(("data", "both", "fsdp"), marks=pytest.mark.slow)], ids=["one", "all"]
)
def test_meshes_equal_one_device(names, tmp_path):
    out = runs.python(SCRIPT, tmp_path, *names, cwd=tmp_path, XLA_FLAGS="--xla_force_host_platform_device_count=8").out
    found = json.loads(out.splitlines()[-1])
    one = found["losses"].pop("one")
    assert len(one) == 20
    assert one[-1]["loss"] < 0.97 * one[0]["loss"]  # it does train
    for name, losses in found["losses"].items():
        assert found[name]["compiled"] == 1
        for step, (ours, theirs) in enumerate(zip(losses, one, strict=True)):
            for log in ("loss", "decode.loss_ce"):
                assert ours[log] == pytest.approx(theirs[log], rel=1e-5), f"{log} of step {step} on {name}"
        share = {"data": 1, "both": 4, "fsdp": 8}[name]
        for held, whole in zip(found[name]["held"], found[name]["whole"], strict=True):
            assert whole / share <= held <= 1.25 * whole / share + 2**18  # small ones are everywhere
    assert len(found["restored"]) == 2 * len(names)
    assert all(found["restored"].values())
