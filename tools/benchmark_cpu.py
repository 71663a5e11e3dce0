r"""Seconds of forward passes and train steps of recipes on a CPU, beside the reference's, alternating in one run.

    python tools/benchmark_cpu.py --reference REFERENCE_VENV/bin/python --configs MMSEGMENTATION/configs

Both sides have the same recipes by the same names, float32 and as many threads, and take turns: one step here, one
there, so that both meet the same load. A forward pass is one in evaluation, up to logits at the images' size; a train
step is forward, losses, backward and the recipe's optimizer. Compiling and the first runs don't count.
tools/make_reference_fixtures.py says how to build the reference's virtual environment.
"""

import argparse
import json
import math
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import jax
import numpy as np
from random_labels import patches

from jaxseg import config as run_config
from jaxseg.cli import set_compilation_cache, use_huge_pages
from jaxseg.engine.state import parameter_count
from jaxseg.engine.step import make_train_step
from jaxseg.inference import encode_decode
from jaxseg.models import build_model
from jaxseg.models.layers.platform import jit
from jaxseg.train import initial_state

SIZE = (128, 256)
SQUARE = (128, 128)
# Name -> height and width of the images, such that a step takes about a second or less.
RECIPES = {
    "fcn_r18-d8_4xb2-80k_cityscapes-512x1024": SIZE,
    "pspnet_r18-d8_4xb2-80k_cityscapes-512x1024": SIZE,
    "deeplabv3plus_r18-d8_4xb2-80k_cityscapes-512x1024": SIZE,
    "fcn_hr18s_4xb2-40k_cityscapes-512x1024": SIZE,
    "mobilenet-v2-d8_fcn_4xb2-80k_cityscapes-512x1024": SIZE,
    "cgnet_fcn_4xb4-60k_cityscapes-680x680": SIZE,
    "unet-s5-d16_fcn_4xb4-160k_cityscapes-512x1024": (64, 128),
    "bisenetv2_fcn_4xb4-160k_cityscapes-1024x1024": SIZE,
    "fast_scnn_8xb4-160k_cityscapes-512x1024": SIZE,
    "stdc1_4xb12-80k_cityscapes-512x1024": SIZE,
    "ddrnet_23-slim_in1k-pre_2xb6-120k_cityscapes-1024x1024": SIZE,
    "erfnet_fcn_4xb4-160k_cityscapes-512x1024": SIZE,
    "swin-tiny-patch4-window7-in1k-pre_upernet_8xb2-160k_ade20k-512x512": SQUARE,
    "segformer_mit-b0_8xb2-160k_ade20k-512x512": SQUARE,
    "vit_deit-s16_upernet_8xb2-160k_ade20k-512x512": SQUARE,
    "convnext-tiny_upernet_8xb2-amp-160k_ade20k-512x512": SQUARE,
    "fpn_poolformer_s12_8xb4-40k_ade20k-512x512": SQUARE,
    "segnext_mscan-t_1xb16-adamw-160k_ade20k-512x512": SQUARE,
    "knet-s3_r50-d8_fcn_8xb2-adamw-80k_ade20k-512x512": SQUARE,
    "mask2former_r50_8xb2-160k_ade20k-512x512": SQUARE,
}
KINDS = ("forward", "train")


class Reference:
    """A process of the reference, which runs one thing at a time and waits."""

    def __init__(self, python: Path, threads: int):
        command = [str(python), str(Path(__file__).with_name("reference_steps.py")), "--threads", str(threads)]
        # Threads that spin while they wait for each other, OpenMP's way, cost it a hundredfold on a busy machine.
        environment = {"OMP_WAIT_POLICY": "PASSIVE"} | os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": ""}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def ask(self, **command: Any) -> dict[str, Any]:
        """The answer to a command; what went wrong there is raised here."""
        print(json.dumps(command), file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        answer = json.loads(line) if line else {"error": "the process ended"}
        if "error" in answer:
            raise RuntimeError(f"reference: {answer['error']}")
        return answer

    def close(self) -> None:
        """Ends the process, if it has not ended yet."""
        self._process.stdin.close()
        self._process.wait()

    def ended(self) -> bool:
        """Whether the process is gone."""
        return self._process.poll() is not None


def ours(recipe: str, batch: int, size: tuple[int, int]) -> tuple[int, dict[str, Callable[[], Callable[[], None]]]]:
    """Number of parameters, and functions that compile what can be run."""
    config = run_config.load_recipe(run_config.recipe_names()[recipe])
    with config.unlocked():
        config.init_from, config.batch_size, config.model.dtype = None, batch, None
    set_compilation_cache(config.compilation_cache)
    model = build_model(config.model)
    state, optimizer = initial_state(config, model)
    rng = np.random.default_rng(0)
    labels = patches(model.final_head.num_classes, (batch, size[0] // 8, size[1] // 8))
    pixels = jax.device_put(rng.integers(0, 256, (batch, *size, 3), np.uint8))
    images = jax.device_put(rng.normal(0, 1, (batch, *size, 3)).astype(np.float32))

    def forward() -> Callable[[], None]:
        variables = {"params": state.params, "batch_stats": state.batch_stats}
        compiled = jit(lambda v, x: encode_decode(model, v, x)).lower(variables, images).compile()
        return lambda: jax.block_until_ready(compiled(variables, images))

    def train() -> Callable[[], None]:
        data = {"image": pixels, "label": labels}
        step = make_train_step(model, optimizer, config.preprocess, config.seed)
        compiled = jit(step, donate_argnums=0).lower(state, data).compile()

        def run() -> None:
            nonlocal state
            state, logs = compiled(state, data)
            jax.block_until_ready((state, logs))

        return run

    return parameter_count(state.params), {"forward": forward, "train": train}


def measure(
    recipe: str, reference: Reference, configs: Path, args: argparse.Namespace, report: Callable[[dict[str, Any]], None]
) -> None:
    """Times the kinds asked for, one after the other, and reports each."""
    files = sorted(configs.rglob(f"{recipe}.py"))
    if not files:
        raise FileNotFoundError(f"--configs has no {recipe}.py")
    size = args.size or RECIPES.get(recipe, SIZE)
    their_parameters = reference.ask(build=str(files[0]), batch=args.batch, size=size)["parameters"]
    parameters, functions = ours(recipe, args.batch, size)
    for kind in args.kinds:
        began = time.perf_counter()
        run = functions[kind]()
        compiling = time.perf_counter() - began
        for _ in range(args.warm_up):
            run()
            reference.ask(run=kind)
        seconds, processor, idle = ({"jaxseg": [], "reference": []} for _ in range(3))
        for _ in range(args.steps):
            began, used = time.perf_counter(), time.process_time()
            run()
            seconds["jaxseg"].append(time.perf_counter() - began)
            processor["jaxseg"].append(time.process_time() - used)
            began, used = time.perf_counter(), time.process_time()
            answer = reference.ask(run=kind)
            seconds["reference"].append(answer["seconds"])
            processor["reference"].append(answer["processor"])
            idle["jaxseg"].append((time.process_time() - used) / (time.perf_counter() - began))
            idle["reference"].append(answer["idle"])
        medians = {side: statistics.median(values) for side, values in seconds.items()}
        used = {side: statistics.median(values) for side, values in processor.items()}
        report(
            {
                "recipe": recipe,
                "kind": kind,
                "size": size,
                "parameters": {"jaxseg": parameters, "reference": their_parameters},
                "compile_seconds": compiling,
                "seconds": seconds,
                "medians": medians,
                "ratio": medians["jaxseg"] / medians["reference"],
                "processor_seconds": used,
                "processor_ratio": used["jaxseg"] / used["reference"],
                "idle_cores": {side: statistics.median(values) for side, values in idle.items()},
            }
        )


def table(results: list[dict[str, Any]], failures: dict[str, str]) -> str:
    """What was measured, in Markdown."""
    lines = [
        "| recipe | images | kind | jaxseg | reference | ratio | of processor time |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for result in results:
        medians = result["medians"]
        name = re.sub(r"_(in1k-pre_)?\dxb\d+.*", "", result["recipe"])
        size = "x".join(map(str, result["size"]))
        lines.append(
            f"| {name} | {size} | {result['kind']} | {medians['jaxseg']:.3f} s | {medians['reference']:.3f} s "
            f"| {result['ratio']:.2f} | {result['processor_ratio']:.2f} |"
        )
    for kinds in (*([kind] for kind in KINDS), KINDS):
        of_kinds = [result for result in results if result["kind"] in kinds]
        if of_kinds:
            means = (
                math.exp(statistics.fmean(math.log(result[ratio]) for result in of_kinds))
                for ratio in ("ratio", "processor_ratio")
            )
            figures = " | ".join(f"{mean:.2f}" for mean in means)
            lines.append(f"| geometric mean of {len(of_kinds)} | | {' and '.join(kinds)} | | | {figures} |")
    return "\n".join([*lines, *(f"\nFailed: {recipe}: {error}" for recipe, error in failures.items())])


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reference", type=Path, required=True, help="Python of the reference's virtual environment")
    parser.add_argument("--configs", type=Path, required=True, help="the reference's folder of configs")
    parser.add_argument(
        "--recipes", nargs="+", metavar="PATTERN", help="of the recipes here, those that match; or names"
    )
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--steps", type=int, default=7, help="that count, of each kind and side")
    parser.add_argument("--warm-up", type=int, default=2, help="steps before, that don't")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--size", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"), help="of all images")
    parser.add_argument("--threads", type=int, default=2, help="threads, and processors, of each side")
    parser.add_argument("--out", type=Path, help="JSON file of all figures")
    args = parser.parse_args(argv)
    args.size = args.size and tuple(args.size)
    args.recipes = list(
        dict.fromkeys(
            recipe
            for pattern in args.recipes or ["*"]
            for recipe in [known for known in RECIPES if fnmatchcase(known, pattern)] or [pattern]
        )
    )
    return args


def main() -> None:
    args = parse()
    if hasattr(os, "sched_setaffinity"):  # XLA has a thread for every processor that it may use
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.threads])
    results, failures = [], {}
    setting = {
        "batch": args.batch, "steps": args.steps, "threads": args.threads,
        "jax": jax.__version__, "platform": platform.platform(), "load": [os.getloadavg()],
    }  # fmt: skip

    def write() -> None:
        setting["load"][1:] = [os.getloadavg()]
        if args.out:
            args.out.write_text(json.dumps({**setting, "results": results, "failures": failures}, indent=1))

    def report(result: dict[str, Any]) -> None:
        results.append(result)
        medians, idle = result["medians"], result["idle_cores"]
        print(
            f"{result['recipe']} {result['kind']}: {medians['jaxseg']:.3f} s and {medians['reference']:.3f} s, ratio "
            f"{result['ratio']:.2f}, of processor time {result['processor_ratio']:.2f}; "
            f"compiled in {result['compile_seconds']:.0f} s; processors used while waiting "
            f"{idle['jaxseg']:.2f} and {idle['reference']:.2f}",
            file=sys.stderr,
            flush=True,
        )
        write()

    reference = Reference(args.reference, args.threads)
    for recipe in args.recipes:
        if reference.ended():
            reference = Reference(args.reference, args.threads)
        try:
            measure(recipe, reference, args.configs, args, report)
        except Exception as error:  # the others are measured all the same
            failures[recipe] = f"{type(error).__name__}: {error}"
            print(f"{recipe}: {failures[recipe]}", file=sys.stderr, flush=True)
        jax.clear_caches()
    reference.close()
    write()
    print(table(results, failures))
    sys.exit(bool(failures))


if __name__ == "__main__":
    use_huge_pages()  # as the verbs do
    main()
