"""Seconds of a CGNet train step beside the reference's, alternating in one run.

    python tools/benchmark_cgnet.py --reference_python=REFERENCE_VENV/bin/python

Both train the recipe `cgnet_camvid` (batch 8, crops of 360x360) on generated batches: forward, loss, backward and
update. tools/make_reference_fixtures.py says how to build the reference's virtual environment.
"""

import statistics
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
from absl import app, flags

from jaxseg import config as run_config
from jaxseg.cli import use_huge_pages
from jaxseg.engine.step import make_train_step
from jaxseg.models import build_model
from jaxseg.models.layers.platform import jit
from jaxseg.train import initial_state

_PYTHON = flags.DEFINE_string("reference_python", None, "Python of the reference's virtual environment.", required=True)
_STEPS = flags.DEFINE_integer("steps", 15, "Steps of each.")


def our_step():
    """A function that runs one step and returns its seconds."""
    config = run_config.load_recipe("cgnet.py:cgnet_camvid")
    model = build_model(config.model)
    state, optimizer = initial_state(config, model)
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 11, (config.batch_size, 45, 45), np.uint8).repeat(8, 1).repeat(8, 2)
    batch = {"image": rng.integers(0, 256, (config.batch_size, 360, 360, 3), np.uint8), "label": labels}
    step = jit(make_train_step(model, optimizer, config.preprocess, 0), donate_argnums=0).lower(state, batch).compile()

    def run() -> float:
        nonlocal state
        began = time.perf_counter()
        state, logs = step(state, batch)
        jax.block_until_ready((state, logs))
        return time.perf_counter() - began

    return run


def main(argv: Sequence[str]) -> None:
    script = Path(__file__).with_name("reference_camvid.py")
    reference = subprocess.Popen(
        [_PYTHON.value, str(script), "--serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )

    def reference_step() -> float:
        reference.stdin.write("step\n")
        reference.stdin.flush()
        return float(reference.stdout.readline())

    ours_step = our_step()
    ours_step(), reference_step()
    ours, theirs = [], []
    for _ in range(_STEPS.value):
        ours.append(ours_step())
        theirs.append(reference_step())
    reference.stdin.close()
    reference.wait()
    print("jaxseg   ", " ".join(f"{seconds:.2f}" for seconds in ours))
    print("reference", " ".join(f"{seconds:.2f}" for seconds in theirs))
    a, b = statistics.median(ours), statistics.median(theirs)
    print(f"medians {a:.3f} s and {b:.3f} s a step: ratio {a / b:.2f}")


if __name__ == "__main__":
    use_huge_pages()  # as the verbs do
    app.run(main)
