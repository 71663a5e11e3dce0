"""A run that is killed and started again ends exactly as one that was not."""

import random
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import runs

SWEEP_STEPS = 40


class Run:
    """A run in a process of its own, with a private compilation cache: a kill may leave half a file in it."""

    def __init__(self, folder: Path, *words: str):
        self.folder, self.workdir, self.log = folder, folder / "run", folder / "log.txt"
        folder.mkdir(parents=True, exist_ok=True)
        self.log.write_text("")
        words = ("-m", "jaxseg.train", *(words or runs.TINY_RUN))
        self.process = runs.start(words, folder, self.log, JAX_COMPILATION_CACHE_DIR=str(folder / "cache"))

    def said(self, text: str) -> bool:
        return text in self.log.read_text()

    def writing(self) -> set[Path]:
        """Checkpoints that are half-written."""
        return set(self.workdir.glob("checkpoints/*.orbax-checkpoint-tmp"))

    def wait(self, happened: Callable[[], object]) -> bool:
        """Waits until something happened, or until the run ended: then False."""
        began = time.monotonic()
        while not happened():
            if self.process.poll() is not None:
                assert self.process.returncode == 0, self.log.read_text()
                return False
            assert time.monotonic() - began < runs.LIMIT, self.log.read_text()
            time.sleep(0.01)
        return True

    def kill(self) -> bool:
        """Kills it with -9; False where the run ended just before."""
        self.process.kill()
        return self.process.wait() == -9

    def finish(self) -> None:
        assert self.process.wait(runs.LIMIT) == 0, self.log.read_text()


def with_cache(folder: Path) -> Path:
    """A folder with a copy of the compilation cache of all tests, as far as it is of use to the tiny recipe."""
    folder.mkdir(parents=True)
    (folder / "cache").mkdir()
    for name in ("train_step", "_count", "predict", "_lambda"):
        for file in Path(runs.environment()["JAX_COMPILATION_CACHE_DIR"]).glob(f"jit_{name}-*"):
            shutil.copy(file, folder / "cache")
    return folder


def test_killed_run_ends_as_unkilled(finished_run, tmp_path):
    folder = with_cache(tmp_path / "killed")
    run = Run(folder)
    assert run.wait(lambda: run.said("step 8/12  loss"))
    assert run.kill()
    assert not (run.workdir / "report").exists()
    left = max(step for step in runs.checkpoints(run.workdir))
    assert left in (4, 6, 8)

    run = Run(folder)
    run.finish()
    assert run.said(f"continued from step {left}\n")
    assert not run.said(f"step {left}/12  loss")
    runs.assert_same(run.workdir, finished_run)


def test_finished_run_started_again_changes_nothing(finished_run, tmp_path):
    shutil.copytree(finished_run, tmp_path / "run")
    before = {path: path.read_bytes() for path in (tmp_path / "run" / "checkpoints").rglob("*") if path.is_file()}
    ended = runs.call("train", f"--config={runs.TINY}", f"--workdir={tmp_path / 'run'}")
    assert ended.status == 0, ended.err
    assert "step 12/12  Demo val" in ended.out
    assert "loss" not in ended.out
    runs.assert_same(tmp_path / "run", finished_run)
    assert before == {path: path.read_bytes() for path in before}


def damage(run: Path, step: int) -> None:
    """Flips a byte in the largest file of a checkpoint."""
    files = [path for path in (run / "checkpoints" / str(step)).rglob("*") if path.is_file()]
    largest = max(files, key=lambda path: path.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(content)


def test_damaged_checkpoint_is_replaced(finished_run, run_copy):
    damage(run_copy, 12)
    (run_copy / "metrics.jsonl").write_text((run_copy / "metrics.jsonl").read_text()[:-30])
    ended = runs.call("train", f"--config={runs.TINY}", f"--workdir={run_copy}")
    assert ended.status == 0, ended.err
    assert f"Checkpoint {run_copy}/checkpoints/12 is damaged: the checksum of " in ended.out
    assert "continued from step 10\n" in ended.out
    assert "step 11/12" in ended.out
    assert "step 10/12" not in ended.out
    runs.assert_same(run_copy, finished_run)
    assert {path.name for path in (run_copy / "checkpoints").iterdir()} == {"10", "12", "damaged-12"}


def test_all_checkpoints_damaged(run_copy):
    for step in (10, 12):
        damage(run_copy, step)
    records = (run_copy / "metrics.jsonl").read_text()
    ended = runs.call("train", f"--config={runs.TINY}", f"--workdir={run_copy}")
    assert ended.status == 2
    assert "error: No checkpoint in" in ended.err
    assert "steps [12, 10] are all damaged" in ended.err
    assert (run_copy / "metrics.jsonl").read_text() == records
    assert {path.name for path in (run_copy / "checkpoints").iterdir()} == {"10", "12"}


def test_interrupted_run_says_so_without_a_traceback(tmp_path):
    folder = with_cache(tmp_path / "stopped")
    run = Run(folder)
    assert run.wait(lambda: run.said("step 3/12  loss"))
    run.process.send_signal(subprocess.signal.SIGINT)
    assert run.process.wait(60) == 130
    assert "Traceback" not in run.log.read_text()
    assert run.said("stopped")


def kill_at(run: Run, moment: str, rng: random.Random, usual_seconds: float) -> bool:
    """Kills a run at a moment of a kind; False where it ended before."""
    done = max(runs.checkpoints(run.workdir), default=0) if (run.workdir / "checkpoints").exists() else 0
    evaluated = next((step for step in range(10, SWEEP_STEPS + 1, 10) if step > done), SWEEP_STEPS)
    some_step = min(done + rng.randint(1, 9), SWEEP_STEPS)
    stale = run.writing()  # of the kill before
    # What to wait for, and at most how many seconds more.
    waits = {
        "any time": (lambda: True, usual_seconds),
        "imports": (lambda: True, 2.0),
        "data": (lambda: run.said("run folder"), 0.05),
        "compiling": (lambda: run.said("compiling the train step"), 1.0),
        "step": (lambda: run.said(f"step {some_step}/{SWEEP_STEPS}  loss"), 0.2),
        "checkpoint": (lambda: run.writing() - stale, 0.03),
        "evaluation": (lambda: run.said(f"step {evaluated}/{SWEEP_STEPS}  loss"), 0.3),
        "report": (lambda: run.said(f"step {SWEEP_STEPS}/{SWEEP_STEPS}  Demo val"), 1.0),
    }
    happened, at_most = waits[moment]
    if not run.wait(happened):
        return False
    time.sleep(rng.uniform(0, at_most))
    return run.kill()


def where(run: Run) -> str:
    """What a killed run was at."""
    lines = [line for line in run.log.read_text().splitlines() if line.strip()]
    last = lines[-1] if lines else ""
    step = re.match(r"step (\d+)/\d+  (loss)?", last)
    report = run.workdir / "report"
    if report.exists() and not (report / "report.html").exists():
        at = "report"
    elif not step:
        at = {"": "imports and data", "compiling the train step": "compiling"}.get(last, "data")
    elif not step[2]:
        at = "step or report" if int(step[1]) == SWEEP_STEPS else "step"
    else:
        at = "evaluation" if int(step[1]) % 10 == 0 else "step"
    return f"{at} ({step[0].split()[1]})" if step else at


@pytest.mark.slow
def test_twenty_kills(tmp_path):
    words = (f"--config={runs.TINY}:{SWEEP_STEPS}", "--workdir=run", "--config.evaluate_every=10")
    Run(tmp_path / "unkilled", *words).finish()
    shutil.rmtree(tmp_path / "unkilled" / "run")
    began = time.monotonic()
    unkilled = Run(tmp_path / "unkilled", *words)
    unkilled.finish()
    usual_seconds = time.monotonic() - began

    kinds = ["imports", "data", "compiling", "step", "checkpoint", "evaluation", "report"]
    others = ["checkpoint", "step", "compiling", "evaluation", "checkpoint", "checkpoint", "report"]
    landed = []
    kills = 0
    for number, chain in enumerate([kinds, others, ["any time"] * 20]):
        rng = random.Random(number)
        folder = tmp_path / f"chain{number}"
        for moment in chain:
            if kills == 20:
                break
            run = Run(folder, *words)
            killed = kill_at(run, moment, rng, usual_seconds)
            kills += killed
            half = "; a checkpoint half-written" if run.writing() else ""
            landed.append(f"chain {number}, {moment}: {where(run) + half if killed else 'it had ended'}")
            if not killed:
                runs.assert_same(run.workdir, unkilled.workdir)
                shutil.rmtree(folder / "run")
        run = Run(folder, *words)
        run.finish()
        assert not run.said("Traceback")
        assert not run.said("damaged")
        runs.assert_same(run.workdir, unkilled.workdir)
    print("\n".join(landed))
    assert kills == 20, landed
