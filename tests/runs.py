"""Runs of verbs for tests: in this process, or in one of their own."""

import contextlib
import fcntl
import importlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

TINY = Path(__file__).parent / "end_to_end" / "tiny.py"
TINY_RUN = (f"--config={TINY}", "--workdir=run")
TIMING = ("seconds_per_step", "images_per_second", "eta_seconds")
LIMIT = 300  # seconds that a process may take


class Outcome(NamedTuple):
    """How a verb ended, and what it said."""

    status: int
    out: str
    err: str


def call(verb: str, *words: str | Path) -> Outcome:
    """Runs a verb in this process."""
    module = importlib.import_module(f"jaxseg.{verb}")
    from jaxseg import cli

    status, out, err = 0, io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            cli.main(module.make_parser(), module.run, [str(word) for word in words])
        except SystemExit as end:
            status = end.code
    return Outcome(status or 0, out.getvalue(), err.getvalue())


def environment(**variables: str) -> dict[str, str]:
    """The environment of a process that a test starts."""
    return os.environ | {"PYTHONUNBUFFERED": "1", "COLUMNS": "200"} | variables


def start(words: Sequence[str | Path], cwd: Path, log: Path, **variables: str) -> subprocess.Popen:
    """Starts `python WORDS`, what it says going into a file."""
    with log.open("a") as file:
        return subprocess.Popen(
            [sys.executable, *map(str, words)], cwd=cwd, env=environment(**variables), stdout=file, stderr=file
        )


def command(verb: str, *words: str | Path, cwd: Path, expect: int = 0, **variables: str) -> Outcome:
    """Runs `python -m jaxseg.VERB WORDS` in a process of its own, and checks its exit status."""
    return python("-m", f"jaxseg.{verb}", *words, cwd=cwd, expect=expect, **variables)


def python(*words: str | Path, cwd: Path, expect: int = 0, **variables: str) -> Outcome:
    """Runs `python WORDS`, and checks its exit status."""
    done = subprocess.run(
        [sys.executable, *map(str, words)], cwd=cwd, env=environment(**variables), capture_output=True, text=True,
        timeout=LIMIT,
    )  # fmt: skip
    assert done.returncode == expect, f"exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return Outcome(done.returncode, done.stdout, done.stderr)


def once(factory: Any, name: str, make: Callable[[Path], Any]) -> Path:
    """`run` in a folder that `make` fills, once for all workers of a test session."""
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "done").exists():
            make(folder)
            (folder / "done").touch()
    return folder / "run"


def records(workdir: Path) -> list[dict[str, Any]]:
    """The records of metrics.jsonl without the fields that measure time."""
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if key not in TIMING} for line in lines]


def checkpoints(workdir: Path) -> dict[int, dict[str, Any]]:
    """Of every checkpoint the metadata: step, metrics, a checksum of every array."""
    folders = [path for path in (workdir / "checkpoints").iterdir() if path.name.isdigit()]
    return {int(path.name): json.loads((path / "metadata" / "metadata").read_text()) for path in folders}


def assert_same(run: Path, other: Path) -> None:
    """Two runs ended with the same state, bit for bit, and the same records."""
    ours, theirs = checkpoints(run), checkpoints(other)
    assert sorted(ours) == sorted(theirs)
    for step, metadata in theirs.items():
        assert ours[step]["checksums"] == metadata["checksums"], f"step {step}"
        assert ours[step]["metrics"] == metadata["metrics"], f"step {step}"
    names = next(iter(theirs.values()))["checksums"]
    assert {name.split("/")[1] for name in names} >= {"params", "batch_stats", "opt_state", "step"}
    assert records(run) == records(other)
    assert (run / "config.json").read_text() == (other / "config.json").read_text()
    assert (run / "report" / "report.html").is_file()
