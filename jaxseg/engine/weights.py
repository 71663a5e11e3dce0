"""Weights without a run: a folder of variables to use, and to start runs from, but not to continue.

`weights.safetensors` holds the variables by their paths, `weights.json` the step and a checksum of each.
"""

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from jaxseg.errors import CheckpointError
from jaxseg.mmseg.checkpoint import load_checkpoint
from jaxseg.mmseg.safetensors import write_safetensors

WEIGHTS_FILE = "weights.safetensors"
FACTS_FILE = "weights.json"


def holds_weights(folder: str | Path) -> bool:
    """Whether a folder holds weights without a run."""
    return (Path(folder) / WEIGHTS_FILE).is_file()


def save_weights(folder: str | Path, variables: Mapping[str, Any], step: int) -> None:
    """Writes variables into a folder; each is in memory only while it is written.

    Args:
        folder: Where; it is there already.
        variables: {"params": ..., "batch_stats": ...}.
        step: Training steps behind them.
    """
    arrays = flatten_dict(dict(variables), sep="/")
    checksums = write_safetensors(Path(folder) / WEIGHTS_FILE, arrays, {"format": "jaxseg"})
    facts = {"step": step, "checksums": checksums}
    (Path(folder) / FACTS_FILE).write_text(json.dumps(facts, indent=1) + "\n")


def read_weights(folder: str | Path) -> tuple[dict[str, Any], int]:
    """The variables in a folder, and the steps behind them.

    Raises:
        CheckpointError: A file is missing or damaged; names it.
    """
    arrays, path = load_checkpoint(Path(folder) / WEIGHTS_FILE), Path(folder) / FACTS_FILE
    try:
        facts = json.loads(path.read_text())
        step, checksums = int(facts["step"]), dict(facts["checksums"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} can't be read ({error}): convert the weights again.") from error
    found = {name: zlib.crc32(array.reshape(-1).view(np.uint8)) for name, array in arrays.items()}
    for name in sorted(found.keys() | checksums.keys()):
        if found.get(name) != checksums.get(name):
            file = Path(folder) / WEIGHTS_FILE
            raise CheckpointError(f"{file} is damaged: the checksum of {name} is wrong. Convert the weights again.")
    return {"params": {}, "batch_stats": {}} | unflatten_dict(arrays, sep="/"), step


def check_continues(folder: str | Path) -> None:
    """Refuses a folder of weights where a run should be continued.

    Raises:
        CheckpointError: It holds weights without a run.
    """
    if holds_weights(folder):
        raise CheckpointError(
            f"{folder} holds converted weights, not a run that can be continued. To train from them: "
            f"--config.init_from={folder} and another --workdir."
        )
