"""What a run writes of its numbers, and what it says."""

import json
import math

import pytest

import runs
from jaxseg.engine.writer import Timer, Writer, duration, read_records


@pytest.fixture
def writer(tmp_path):
    with_closing = Writer(tmp_path, total_steps=10)
    yield with_closing
    with_closing.close()


def lines(folder):
    return (folder / "metrics.jsonl").read_text().splitlines()


def write(folder, steps, start=0, value=0.0):
    writer = Writer(folder, total_steps=100, start_step=start)
    for step in steps:
        writer.write(step, "train", {"loss": value + step})
    writer.close()


def test_records(tmp_path, writer):
    values = {"loss": 1.5, "grad_norm": math.nan, "lr": math.inf, "IoU": {"a": 50.0, "b": None, "c": math.nan}, "n": 3}
    writer.write(2, "val", values)
    (line,) = lines(tmp_path)
    assert "NaN" not in line
    record = {
        "step": 2, "kind": "val", "loss": 1.5, "grad_norm": None, "lr": None,
        "IoU": {"a": 50.0, "b": None, "c": None}, "n": 3,
    }  # fmt: skip
    assert json.loads(line) == record
    assert read_records(tmp_path) == [record]


def test_a_new_run_starts_with_no_records(tmp_path):
    write(tmp_path, range(1, 4))
    write(tmp_path, [])
    assert lines(tmp_path) == []


def test_a_resumed_run_drops_what_comes_again(tmp_path):
    write(tmp_path, range(1, 8))
    write(tmp_path, range(5, 7), start=4, value=10.0)
    assert [(r["step"], r["loss"]) for r in read_records(tmp_path)] == [
        (1, 1), (2, 2), (3, 3), (4, 4), (5, 15), (6, 16),
    ]  # fmt: skip
    assert not list(tmp_path.glob("*.tmp"))


def test_a_last_line_that_was_cut_short(tmp_path):
    write(tmp_path, range(1, 5))
    path = tmp_path / "metrics.jsonl"
    path.write_text(path.read_text()[:-12])
    assert [record["step"] for record in read_records(tmp_path)] == [1, 2, 3]
    write(tmp_path, [4, 5], start=3)
    assert [record["step"] for record in read_records(tmp_path)] == [1, 2, 3, 4, 5]
    assert len(lines(tmp_path)) == 5


def test_no_records(tmp_path):
    assert read_records(tmp_path) == []


def test_other_processes_write_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("jax.process_index", lambda: 1)
    writer = Writer(tmp_path / "run", total_steps=3)
    writer.say("hello")
    writer.advance(1)
    writer.write(1, "train", {"loss": 1.0})
    writer.close()
    assert not (tmp_path / "run").exists()
    assert capsys.readouterr().out == ""


def test_what_is_said_is_not_interpreted(writer, capsys):
    writer.say("[bold]a[/] step 1/2 " + "long " * 60)
    assert capsys.readouterr().out == "[bold]a[/] step 1/2 " + "long " * 60 + "\n"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (59.4, "59s"),
        (59.6, "1m 00s"),
        (190, "3m 10s"),
        (3600, "1h 00m"),
        (7505, "2h 05m"),
        (360000, "100h 00m"),
    ],
)
def test_duration(seconds, text):
    assert duration(seconds) == text


def test_timer(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    timer = Timer(batch_size=8, total_steps=50)
    timer.reset(10)
    now[0] += 20.0
    assert timer.lap(20) == {"seconds_per_step": 2.0, "images_per_second": 4.0, "eta_seconds": 60.0}
    now[0] += 1000.0
    timer.reset(20)  # an evaluation does not count
    now[0] += 5.0
    assert timer.lap(25) == {"seconds_per_step": 1.0, "images_per_second": 8.0, "eta_seconds": 25.0}
    assert timer.lap(25)["images_per_second"] > 0


def test_what_a_run_says(finished_run):
    said = (finished_run.parent / "out.txt").read_text().splitlines()
    facts = ("182,584 parameters", "24 train", "11 val", "6 classes", "1 x cpu", "batch 8", "run folder run")
    at = said.index("compiling the train step")
    for words in facts:
        assert any(words in line for line in said[:at]), words
    assert said[at + 1].startswith("compiled the train step in ")
    for words in ("step 1/12", "loss ", "acc ", "lr ", "s/step", "img/s", "eta "):
        assert words in said[at + 2]
    (last,) = [record for record in runs.records(finished_run) if record["kind"] == "val" and record["step"] == 12]
    scores = "  ".join(f"{name} {last[name]:.2f}" for name in ("mIoU", "mAcc", "aAcc"))
    assert said[-2] == f"step 12/12  Demo val: {scores}"
    assert said[-1] == "report: run/report/report.html"
