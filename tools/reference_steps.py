r"""Time the reference's forward passes and train steps on demand: the other side of `benchmark_cpu.py`.

Runs in the environment that `make_reference_fixtures.py` describes, and takes one JSON object a line, giving one back::

    {"build": CONFIG.py, "batch": 2, "size": [128, 256]}  ->  {"parameters": 12345}
    {"run": "forward"} or {"run": "train"}                ->  {"seconds": 0.123, "processor": 0.24, "idle": 0.01}

`processor` is the time of all processors that the step used; `idle` the processor time since the last answer, over the
wall time: what this process uses while others work. What goes wrong comes back as {"error": TEXT}. Weights are random,
and the optimizer is the config's own, in full precision.
"""

import argparse
import json
import logging
import os
import sys
import time
import warnings
from collections.abc import Callable

import numpy as np
import reference_environment
import torch
from random_labels import patches

# isort: split
import mmseg.models  # noqa: F401
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

reference_environment.without_operators()


def without_sync(value):
    """A config with plain batch norm for the one that wants GPUs."""
    if isinstance(value, dict):
        for key in value:
            value[key] = without_sync(value[key])
    elif isinstance(value, list | tuple):
        return type(value)(without_sync(item) for item in value)
    return "BN" if value == "SyncBN" else value


def build(path: str, batch: int, size: tuple[int, int]) -> tuple[int, dict[str, Callable[[], None]]]:
    """Number of parameters, and what can be run."""
    config = Config.fromfile(path)
    if "mmpretrain." in config.pretty_text:
        import mmpretrain.models  # noqa: F401
    config.optim_wrapper.update(type="OptimWrapper")  # in full precision
    config.optim_wrapper.pop("loss_scale", None)
    torch.manual_seed(0)
    model = MODELS.build(without_sync(config.model))
    wrapper = build_optim_wrapper(model, config.optim_wrapper)
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.normal(0, 1, (batch, 3, *size)).astype(np.float32))
    classes = model.decode_head.num_classes if hasattr(model.decode_head, "num_classes") else 2
    labels = patches(classes, (batch, size[0] // 8, size[1] // 8))[:, None].astype(np.int64)
    meta = {"ori_shape": size, "img_shape": size, "pad_shape": size, "padding_size": [0, 0, 0, 0]}
    samples = [
        SegDataSample(gt_sem_seg=PixelData(data=torch.from_numpy(label)), metainfo=dict(meta)) for label in labels
    ]

    def forward() -> None:
        model.eval()
        with torch.inference_mode():
            model.encode_decode(images, [dict(meta) for _ in range(batch)])

    def train() -> None:
        model.train()
        loss, logs = model.parse_losses(model.loss(images, samples))
        wrapper.update_params(loss)
        logs["loss"].item()

    return sum(parameter.numel() for parameter in model.parameters()), {"forward": forward, "train": train}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    torch.set_num_threads(parser.parse_args().threads)
    answers = os.fdopen(os.dup(1), "w")  # what the reference prints goes elsewhere
    os.dup2(2, 1)
    warnings.simplefilter("ignore")
    init_default_scope("mmseg")
    MMLogger.get_instance("reference", log_level=logging.ERROR)
    functions: dict[str, Callable[[], None]] = {}
    stopped = time.perf_counter(), time.process_time()
    for line in sys.stdin:
        command = json.loads(line)
        began, used = time.perf_counter(), time.process_time()
        idle = (used - stopped[1]) / max(began - stopped[0], 1e-9)
        try:
            if "build" in command:
                functions.clear()
                parameters, built = build(command["build"], command["batch"], tuple(command["size"]))
                functions.update(built)
                answer = {"parameters": parameters}
            else:
                functions[command["run"]]()
                answer = {"seconds": time.perf_counter() - began, "processor": time.process_time() - used, "idle": idle}
        except Exception as error:  # reported there
            answer = {"error": f"{type(error).__name__}: {error}"}
        stopped = time.perf_counter(), time.process_time()
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
