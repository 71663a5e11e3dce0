"""Evaluates and trains the tiny recipe: `parallel.py WORKDIR [ADDRESS COUNT INDEX]`, the latter of several processes.

The last line that it prints is a JSON of what it found.
"""

import json
import os
import sys
from pathlib import Path

import jax

if len(sys.argv) > 2:
    jax.distributed.initialize(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))

import numpy as np

from jaxseg import config as run_config
from jaxseg.engine.evaluation import Evaluator
from jaxseg.engine.mesh import make_mesh, replicated
from jaxseg.models import build_model
from jaxseg.train import initial_state, prepare_data, train_and_evaluate

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def watch(workdir: Path) -> set[str]:
    """Notes what Python code writes into a folder from now on; the arrays of checkpoints are not written by it."""
    written = set()

    def note(event, args):
        writing = event == "open" and (set(args[1] or "") & set("wax+") or (args[2] or 0) & WRITES)
        if (writing or event == "os.rename") and isinstance(args[0], str | bytes | os.PathLike):
            path = Path(os.path.abspath(os.fsdecode(args[0])))
            if path.is_relative_to(workdir.absolute()):
                written.add(path.relative_to(workdir.absolute()).parts[0])

    sys.addaudithook(note)
    return written


def evaluate_untrained(config) -> dict:
    """Scores of the initial parameters, with the class layer enlarged so that all classes occur."""
    config, sources, transforms = prepare_data(config)
    model = build_model(config.model)
    variables = initial_state(config, model)[0].variables
    rng = np.random.default_rng(0)
    for name, scale in (("kernel", 1.0), ("bias", 0.1)):
        layer = variables["params"]["decode_head"]["conv_seg"]
        layer[name] = rng.normal(0, scale, layer[name].shape).astype(np.float32)
    mesh = make_mesh()
    evaluator = Evaluator(model, config.preprocess, sources["val"], transforms["val"], config.eval_batch_size, mesh)
    found = evaluator(jax.device_put(variables, replicated(mesh)))
    return {
        "metrics": found.metrics,
        "confusion": found.confusion.tolist(),
        "image_scores": found.image_scores.tolist(),
        "batch_size": evaluator.batch_size,
    }


if __name__ == "__main__":
    recipe = run_config.load_recipe(str(Path(__file__).with_name("tiny.py")))
    workdir = Path(sys.argv[1])
    untrained = evaluate_untrained(recipe)
    written = watch(workdir)
    evaluation = train_and_evaluate(recipe, workdir)
    found = {
        "untrained": untrained,
        "devices": jax.device_count(),
        "pixels": int(evaluation.confusion.sum()),
        "written": sorted(written),
    }
    print(json.dumps(found), flush=True)
    if jax.process_count() > 1:
        jax.distributed.shutdown()
