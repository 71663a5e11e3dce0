"""Where a run's numbers go: the console, metrics.jsonl and TensorBoard."""

import json
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

METRICS_FILE = "metrics.jsonl"


class Writer:
    """Writes scalars of a run; only process 0 writes anything.

    A resumed run continues its files from the step of its checkpoint: later lines are dropped first, since they
    will be written again.

    Args:
        workdir: The run folder.
        total_steps: Number of steps of the run.
        start_step: Steps taken already.
    """

    def __init__(self, workdir: str | Path, total_steps: int, start_step: int = 0):
        self.active = jax.process_index() == 0
        self.total_steps = total_steps
        self._console = Console(quiet=not self.active, soft_wrap=True, highlight=False)
        if not self.active:
            return
        from tensorboardX import SummaryWriter

        workdir = Path(workdir)
        self._path = workdir / METRICS_FILE
        _rewind(self._path, start_step)
        self._board = SummaryWriter(str(workdir / "tensorboard"), purge_step=start_step + 1 if start_step else None)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
            transient=True,
        )
        self._task = self._progress.add_task("training", total=total_steps, completed=start_step)
        self._progress.start()

    def say(self, message: str) -> None:
        """Prints a line for people."""
        self._console.print(message, markup=False)

    def advance(self, step: int, doing: str = "training") -> None:
        """Moves the progress bar."""
        if self.active:
            self._progress.update(self._task, completed=step, description=doing)

    def write(self, step: int, kind: str, values: Mapping[str, Any]) -> None:
        """Writes one record.

        Args:
            step: Number of steps taken.
            kind: "train" or "val".
            values: Numbers, or mappings of them; None and NaN are written as null.
        """
        if not self.active:
            return
        record = {"step": step, "kind": kind, **_finite(values)}
        with self._path.open("a") as file:
            file.write(json.dumps(record) + "\n")
        for name, value in values.items():
            if isinstance(value, int | float) and math.isfinite(value):
                self._board.add_scalar(f"{kind}/{name}", value, step)
        self._board.flush()

    def close(self) -> None:
        """Ends the progress bar and closes the files."""
        if self.active:
            self._progress.stop()
            self._board.close()


class Timer:
    """Measures what passed between two reports: seconds a step, images a second, time to go."""

    def __init__(self, batch_size: int, total_steps: int):
        self.batch_size, self.total_steps = batch_size, total_steps
        self.reset(0)

    def reset(self, step: int) -> None:
        """Starts measuring at `step`; what came before (compilation, evaluation) does not count."""
        self._step, self._time = step, time.perf_counter()

    def lap(self, step: int) -> dict[str, float]:
        """Speed since the last lap or reset, and the seconds that the rest takes at this speed."""
        seconds = (time.perf_counter() - self._time) / max(step - self._step, 1)
        self.reset(step)
        return {
            "seconds_per_step": seconds,
            "images_per_second": self.batch_size / max(seconds, 1e-9),
            "eta_seconds": seconds * (self.total_steps - step),
        }


def read_records(workdir: str | Path) -> list[dict[str, Any]]:
    """The records of a run's metrics.jsonl, without a last line that was cut short."""
    path = Path(workdir) / METRICS_FILE
    records = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            records.append(json.loads(line))
        except ValueError:
            break
    return records


def duration(seconds: float) -> str:
    """A duration for people: "2h 05m", "3m 10s", "12s"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h {minutes:02d}m"
    return f"{minutes}m {rest:02d}s" if minutes else f"{rest}s"


def _rewind(path: Path, step: int) -> None:
    """Drops the records after `step`; the file is replaced at once or not at all."""
    kept = [record for record in read_records(path.parent) if record["step"] <= step]
    temporary = path.with_suffix(".tmp")
    temporary.write_text("".join(json.dumps(record) + "\n" for record in kept if step))
    os.replace(temporary, path)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
