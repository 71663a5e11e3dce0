"""Checkpoints: written aside by Orbax, verified when read.

A checkpoint holds the variables, what only training needs, and a JSON of metadata with a checksum of every array.
Orbax makes a checkpoint visible only when it is complete, so a killed run leaves none that is half-written; the
checksums find what happened to the files later.
"""

import json
import logging
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict

from jaxseg.engine.mesh import to_hosts
from jaxseg.engine.state import TrainState
from jaxseg.errors import CheckpointError

CHECKPOINT_FOLDER = "checkpoints"  # in the run folder
_LOG = logging.getLogger(__name__)


class Checkpointer:
    """The checkpoints of a run, in a folder of their own.

    Args:
        folder: Where they are; made when the first is saved.
        keep: How many of the latest to keep.
        keep_best: How many of the best to keep besides.
        metric: Name of the metric that tells which is best; larger is better.
    """

    def __init__(self, folder: str | Path, keep: int = 2, keep_best: int = 1, metric: str = "mIoU"):
        import orbax.checkpoint as ocp

        self.folder = Path(folder).absolute()
        self._ocp = ocp
        self._kept = _LatestAndBest(keep, keep_best, scores(self.folder, metric))
        self._metric = metric
        options = ocp.CheckpointManagerOptions(preservation_policy=self._kept, cleanup_tmp_directories=True)
        self._manager = ocp.CheckpointManager(self.folder, options=options)

    def save(self, state: TrainState, metrics: Mapping[str, Any] | None = None) -> None:
        """Starts writing a checkpoint; returns once the arrays are copied.

        Args:
            state: The state to save, under its own step; a step that is there already is left as it is.
            metrics: Scores of this state, if it was evaluated.
        """
        step = int(state.step)
        if step in self._manager.all_steps():
            return
        items = _items(state)
        metadata = {"step": step, "metrics": _numbers(metrics), "checksums": _checksums(items)}
        args = {name: self._ocp.args.StandardSave(item) for name, item in items.items()}
        args["metadata"] = self._ocp.args.JsonSave(metadata)
        self._kept.scores[step] = _score(metadata, self._metric)
        self._manager.save(step, args=self._ocp.args.Composite(**args))

    def restore(self, state: TrainState, say: Callable[[str], None] = _LOG.warning) -> TrainState | None:
        """The newest checkpoint that is whole, in the shardings of `state`; None where there is none.

        A damaged checkpoint is renamed to `damaged-<step>`, and the one before it is tried.

        Args:
            state: A state of the same shapes, whose shardings are used.
            say: Told about damaged checkpoints.

        Raises:
            CheckpointError: There are checkpoints, and none is whole.
        """
        damaged = []
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                items = read_items(self.folder, step, _items(state))
            except CheckpointError as error:
                damaged.append(step)
                say(f"{error} Trying the checkpoint before it.")
                continue
            for bad in damaged:
                self._set_aside(bad)
            training = items["training"]
            return state.replace(
                step=training["step"],
                opt_state=training["opt_state"],
                ema_params=training["ema_params"],
                params=items["variables"]["params"],
                batch_stats=items["variables"]["batch_stats"],
            )
        if damaged:
            raise CheckpointError(
                f"No checkpoint in {self.folder} is whole: steps {damaged} are all damaged. Copy one back from "
                "elsewhere, or remove the run folder to start anew."
            )
        return None

    def close(self) -> None:
        """Waits for what is being written."""
        self._manager.wait_until_finished()
        self._manager.close()

    def _set_aside(self, step: int) -> None:
        if jax.process_index() == 0:
            target = self.folder / f"damaged-{step}"
            for number in range(1, 1000):
                if not target.exists():
                    break
                target = self.folder / f"damaged-{step}.{number}"
            (self.folder / str(step)).rename(target)
        if jax.process_count() > 1:
            from jax.experimental import multihost_utils

            multihost_utils.sync_global_devices("set a damaged checkpoint aside")
        self._kept.scores.pop(step, None)
        self._manager.reload()


class _LatestAndBest:
    """Which checkpoints stay: an Orbax policy that knows the scores of checkpoints of earlier starts, too."""

    def __init__(self, latest: int, best: int, scores: dict[int, float | None]):
        self.latest, self.best, self.scores = latest, best, scores

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        """Of each checkpoint, in the order of their steps."""
        steps = [info.step for info in checkpoints]
        ranked = sorted((self.scores[step], step) for step in steps if self.scores.get(step) is not None)
        kept = {*sorted(steps)[-self.latest :], *(step for _, step in ranked[len(ranked) - self.best :])}
        return [step in kept for step in steps]


def read_items(folder: Path, step: int, like: Mapping[str, Any]) -> dict[str, Any]:
    """Reads items of a checkpoint and compares every array with its checksum.

    Args:
        folder: The folder of the checkpoints.
        step: Which one.
        like: The items to read ("variables", "training"), as trees of arrays or of shapes; arrays are restored
            in their shardings.

    Raises:
        CheckpointError: A file is missing, cut short or changed; names the checkpoint and the array.
    """
    import orbax.checkpoint as ocp

    path = Path(folder).absolute() / str(step)
    metadata = read_metadata(folder, step)
    items = {}
    for name, tree in like.items():
        try:
            with ocp.StandardCheckpointer() as reader:
                items[name] = reader.restore(path / name, jax.tree.map(ocp.utils.to_shape_dtype_struct, tree))
        except Exception as error:  # Orbax and TensorStore raise whatever their parts raise
            logging.getLogger("asyncio").addFilter(_is_not_orbax)
            reason = str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
            raise CheckpointError(f"Checkpoint {path} is damaged: {name} can't be read ({reason}).") from error
    found = _checksums(items)
    for array, value in found.items():
        if metadata["checksums"].get(array) != value:
            raise CheckpointError(f"Checkpoint {path} is damaged: the checksum of {array} is wrong.")
    return items


def read_metadata(folder: str | Path, step: int) -> dict[str, Any]:
    """`step`, `metrics` and `checksums` of a checkpoint.

    Raises:
        CheckpointError: It can't be read.
    """
    path = Path(folder) / str(step) / "metadata" / "metadata"
    try:
        metadata = json.loads(path.read_text())
        if metadata["step"] != step or not isinstance(metadata["checksums"], dict):
            raise ValueError("it is not what was written")
        return metadata | {"metrics": dict(metadata["metrics"] or {})}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"Checkpoint {path.parents[1]} is damaged: its metadata can't be read ({error})."
        ) from error


def scores(folder: str | Path, metric: str, say: Callable[[str], None] = lambda _: None) -> dict[int, float | None]:
    """The metric of every checkpoint; None where it was not evaluated.

    Args:
        folder: The folder of the checkpoints.
        metric: Such as "mIoU", or "IoU/road" of a class.
        say: Told about checkpoints whose metadata can't be read; they have None, too.
    """
    found: dict[int, float | None] = {}
    for step in find_steps(folder):
        try:
            found[step] = _score(read_metadata(folder, step), metric)
        except CheckpointError as error:
            say(str(error))
            found[step] = None
    return found


def find_steps(folder: str | Path) -> list[int]:
    """Steps of the complete checkpoints in a folder, ascending."""
    folder = Path(folder)
    return sorted(int(path.name) for path in folder.glob("*") if path.name.isdigit()) if folder.is_dir() else []


def best_step(folder: str | Path, metric: str = "mIoU") -> int:
    """The step with the best metric, or the latest where none was evaluated.

    Raises:
        CheckpointError: There is no checkpoint.
    """
    found = scores(folder, metric, say=_LOG.warning)
    if not found:
        raise CheckpointError(f"{folder} holds no checkpoint.")
    scored = [(score, step) for step, score in found.items() if score is not None]
    return max(scored)[1] if scored else max(found)


def _is_not_orbax(record: logging.LogRecord) -> bool:
    """Keeps asyncio from printing what became of the other arrays when one can't be read."""
    return "orbax" not in record.getMessage()


def _items(state: TrainState) -> dict[str, Any]:
    training = {"step": state.step, "opt_state": state.opt_state, "ema_params": state.ema_params}
    return {"variables": state.variables, "training": training}


def _checksums(items: Mapping[str, Any]) -> dict[str, int]:
    sums = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(dict(items)):
        array = np.ascontiguousarray(to_hosts(leaf))
        sums[jax.tree_util.keystr(path, simple=True, separator="/")] = zlib.crc32(array.view(np.uint8).reshape(-1))
    return sums


def _numbers(metrics: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if metrics is None else {key: value for key, value in metrics.items() if not hasattr(value, "shape")}


def _score(metadata: Mapping[str, Any], metric: str) -> float | None:
    return flatten_dict(metadata["metrics"] or {}, sep="/").get(metric)
