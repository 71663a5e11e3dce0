"""Compares how fast jaxseg and MMSegmentation 1.2.2 read and transform training images.

    python tools/benchmark_input.py CONFIG ROOT --reference PYTHON

CONFIG is one of MMSegmentation's, of which both take their transforms and their batch size; ROOT holds the data set;
PYTHON is one that has mmsegmentation (its compiled operators are not needed). Each side is a process with its whole
loader: Grain here, PyTorch's DataLoader with the config's workers there. Both, and all that they start, are held to one
core. They take turns; a turn starts the loader, lets it fill up, and then measures some batches: processor time of all
the side's processes and the time on the clock, both an image. Medians over the turns are compared. What comes after
the loader (normalisation, the reference's padding) is left out.
"""

# The reference imports only after its operators are replaced, and draws from numpy.random itself.

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any


def ours(config_path: str, root: str) -> tuple[int, Any]:
    """Images a batch, and what makes an endless stream of batches."""
    from absl import flags

    from jaxseg.data import build_source, build_transforms, train_batches
    from jaxseg.mmseg import load_config

    flags.FLAGS.mark_as_parsed()
    config = load_config(config_path)
    with config.unlocked():
        config.data.root = root
    source = build_source(config.data, "train")
    transforms = build_transforms(config.data.train.transforms)

    def start() -> Iterator[Any]:
        return train_batches(source, transforms, batch_size=config.batch_size, seed=0)

    return config.batch_size, start


def theirs(config_path: str, root: str) -> tuple[int, Any]:
    """The same of the reference."""
    import unittest.mock

    sys.modules["mmcv._ext"] = unittest.mock.MagicMock()
    import mmseg.datasets  # noqa: F401
    from mmengine.config import Config
    from mmengine.registry import init_default_scope
    from mmengine.runner import Runner
    from mmengine.utils.dl_utils import set_multi_processing

    init_default_scope("mmseg")
    config = Config.fromfile(config_path, import_custom_modules=False)
    set_multi_processing(**config.env_cfg.mp_cfg)
    loader_config = config.train_dataloader
    dataset = loader_config.dataset
    while "dataset" in dataset:
        dataset = dataset.dataset
    dataset.data_root = root
    loader_config.persistent_workers = False

    def start() -> Iterator[Any]:
        return iter(Runner.build_dataloader(loader_config, seed=0))

    return loader_config.batch_size, start


def processor_time(pid: int) -> float:
    """Seconds that a process and all below it have used so far."""
    ticks = os.sysconf("SC_CLK_TCK")
    try:
        numbers = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total = (int(numbers[11]) + int(numbers[12])) / ticks
        for task in Path(f"/proc/{pid}/task").iterdir():
            total += sum(processor_time(int(child)) for child in (task / "children").read_text().split())
    except FileNotFoundError:  # it has ended
        return 0.0
    return total


def side(name: str, config: str, root: str, images: int) -> None:
    """Takes turns as the other end of the pipe says, and prints seconds of processor and clock an image."""
    size, start = {"ours": ours, "reference": theirs}[name](config, root)
    batches = -(-images // size)
    print(json.dumps({"batch_size": size}), flush=True)
    for _ in sys.stdin:
        stream = start()
        for _ in range(-(-16 // size)):
            next(stream)
        used, began = processor_time(os.getpid()), time.perf_counter()
        for _ in range(batches):
            next(stream)
        clock, used = time.perf_counter() - began, processor_time(os.getpid()) - used
        if hasattr(stream, "close"):
            stream.close()
        del stream
        print(json.dumps([used / (batches * size), clock / (batches * size)]), flush=True)


def ask(process: subprocess.Popen, question: str | None = None) -> Any:
    """Sends a line to a side, and returns its answer."""
    if question is not None:
        process.stdin.write(question + "\n")
        process.stdin.flush()
    while line := process.stdout.readline():
        if line.startswith(("[", "{")):
            return json.loads(line)
    process.errors.seek(0)
    lines = process.errors.read().splitlines()
    raise SystemExit("\n".join([*lines[-5:], f"This side ended: {' '.join(process.args)}"]))


def main() -> None:
    """Starts the sides, lets them take turns, prints the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="a config of MMSegmentation's")
    parser.add_argument("root", help="the folder of its data set")
    parser.add_argument("--reference", metavar="PYTHON", help="the Python that has mmsegmentation")
    parser.add_argument("--turns", type=int, default=7, help="turns of each side")
    parser.add_argument("--images", type=int, default=48, help="images of a turn")
    parser.add_argument("--core", type=int, default=0, help="the core that both are held to")
    parser.add_argument("--side", choices=("ours", "reference"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        side(args.side, args.config, args.root, args.images)
        return
    if not args.reference:
        parser.error("--reference is needed: the Python that has mmsegmentation")
    os.sched_setaffinity(0, {args.core})
    sides = {}
    for name, python in (("ours", sys.executable), ("reference", args.reference)):
        command = [python, __file__, args.config, args.root, "--side", name]
        errors = tempfile.TemporaryFile("w+")  # noqa: SIM115, it is read when a side ends too early
        # The two have packages of different versions.
        environment = dict(os.environ) if name == "ours" else {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        sides[name] = subprocess.Popen(
            [*command, "--images", str(args.images)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=errors, text=True, env=environment,
        )  # fmt: skip
        sides[name].errors = errors
    for name, process in sides.items():
        print(f"{name}: {ask(process)['batch_size']} images a batch", flush=True)
    turns = {name: [] for name in sides}
    for turn in range(args.turns):
        for name, process in sides.items():
            turns[name].append(ask(process, "go"))
        shown = "  ".join(f"{name} {1e3 * used[-1][0]:.1f} ms" for name, used in turns.items())
        print(f"turn {turn + 1}: processor time an image: {shown}", flush=True)
    for process in sides.values():
        process.stdin.close()
        process.wait()
    print(f"load average {' '.join(f'{value:.1f}' for value in os.getloadavg())}")
    for place, what in enumerate(("processor", "clock")):
        seconds = {name: median(turn[place] for turn in turns[name]) for name in turns}
        rates = ", ".join(f"{name} {1e3 * value:.2f} ms ({1 / value:.1f} images/s)" for name, value in seconds.items())
        print(f"{what} time an image: {rates}; ratio {seconds['reference'] / seconds['ours']:.2f}")


if __name__ == "__main__":
    main()
