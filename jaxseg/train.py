"""Trains a recipe: `python -m jaxseg.train --config configs/FILE.py[:RECIPE] --workdir DIR`.

Without --config it trains the demo: a small network on shapes that are drawn on the fly. Any field of the recipe
can be overridden, as in --config.optimizer.lr=0.02. Started again with the same --workdir, a run that was stopped
continues where its last checkpoint was, and ends exactly as if it had not been stopped.
"""

import argparse
import contextlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from jaxseg import config as run_config
from jaxseg.cli import Parser, main, set_compilation_cache
from jaxseg.data import build_source, build_transforms, check_source, train_batches
from jaxseg.engine.checkpoint import CHECKPOINT_FOLDER, Checkpointer, find_steps
from jaxseg.engine.evaluation import Evaluation, Evaluator
from jaxseg.engine.follow import follow_data
from jaxseg.engine.mesh import by_size, check_batch_size, make_mesh, replicated, to_devices
from jaxseg.engine.optim import build_optimizer
from jaxseg.engine.report import report_run
from jaxseg.engine.schedules import build_schedule
from jaxseg.engine.state import TrainState, parameter_count, take_over
from jaxseg.engine.stems import weights_for
from jaxseg.engine.step import make_train_step
from jaxseg.engine.weights import check_continues
from jaxseg.engine.writer import Timer, Writer, duration
from jaxseg.errors import ConfigError
from jaxseg.losses import check_losses
from jaxseg.models import build_model
from jaxseg.models.layers.platform import jit
from jaxseg.models.names import sample_shape
from jaxseg.text.vocabulary import with_vocabulary


def train_and_evaluate(config: ConfigDict, workdir: Path, callbacks: Sequence[Any] = ()) -> Evaluation:
    """Trains, evaluates, keeps checkpoints and writes a report.

    Args:
        config: A recipe.
        workdir: The run folder: config.json, metrics.jsonl, tensorboard/, checkpoints/, report/. A run that is
            there already is continued.
        callbacks: Objects of your own, with any of the methods `on_step(step, state, logs)`,
            `on_evaluation(step, evaluation)`, `on_checkpoint(step, state)`, `on_end(state, evaluation)`.

    Returns:
        The last evaluation.

    Raises:
        JaxsegError: The config, the data or a checkpoint can't be used; before the first step where it can be
            known by then.
    """
    run_config.check(config)
    followed: list[str] = []
    config, sources, transforms = prepare_data(config, workdir, followed.append)
    check_continues(workdir)
    run_config.check_same_run(config, workdir)
    mesh = make_mesh(config.mesh)
    check_batch_size(config.batch_size, jax.device_count())
    model = build_model(config.model)
    state, optimizer = initial_state(config, model, resumed=bool(find_steps(workdir / CHECKPOINT_FOLDER)))
    evaluator = Evaluator(
        model, config.preprocess, sources["val"], transforms["val"], config.eval_batch_size, mesh,
        config.data.read_threads,
    )  # fmt: skip
    notes = followed + [
        note
        for part, source in sources.items()
        for note in check_source(source, config.data[part].transforms, limit=config.data.check)
    ]
    workdir.mkdir(parents=True, exist_ok=True)
    run_config.save(config, workdir)

    state = jax.device_put(state, by_size(state, mesh))
    checkpoints = Checkpointer(workdir / CHECKPOINT_FOLDER, **config.checkpoint)
    state = checkpoints.restore(state, say=print) or state
    evaluator.model = model = with_vocabulary(model, state.variables)
    start = int(state.step)
    writer = Writer(workdir, config.total_steps, start)
    batches = train_batches(
        sources["train"], transforms["train"], batch_size=config.batch_size, seed=config.seed, start_step=start,
        process_index=jax.process_index(), process_count=jax.process_count(),
        num_workers=config.data.num_workers, read_threads=config.data.read_threads,
    )  # fmt: skip
    schedule = build_schedule(config.schedule, config.total_steps, config.epoch_steps)
    timer, began, evaluation = Timer(config.batch_size, config.total_steps), time.time(), None
    writer.say(describe(config, sources, notes, state, start, workdir))

    with contextlib.closing(checkpoints), contextlib.closing(writer), batches:
        train_step = None
        for step in range(start + 1, config.total_steps + 1):
            batch = to_devices(next(batches), mesh)
            if train_step is None:
                train_step = compile_step(config, model, optimizer, state, batch, mesh, writer)
                timer.reset(start)
            state, logs = train_step(state, batch)
            writer.advance(step)
            notify(callbacks, "on_step", step, state, logs)
            if every(config.log_every, step, config):
                log_step(writer, step, {**logs, "lr": schedule.rate(step - 1, config.optimizer.lr)}, timer)
            if every(config.evaluate_every, step, config):
                evaluation = evaluate(evaluator, state, step, writer, timer)
                notify(callbacks, "on_evaluation", step, evaluation)
            if every(config.evaluate_every, step, config) or every(config.checkpoint_every, step, config):
                scored = every(config.evaluate_every, step, config)
                checkpoints.save(state, evaluation.metrics if scored else None)
                notify(callbacks, "on_checkpoint", step, state)
        if evaluation is None:  # the run had ended already
            evaluation = evaluate(evaluator, state, start, writer, timer, write=False)
        writer.advance(int(state.step), "writing the report")
        facts = {"Steps": f"{int(state.step):,}", "Time since the last start": duration(time.time() - began)}
        report = report_run(
            workdir / "report", config, evaluator, state.variables, evaluation, workdir=workdir, facts=facts
        )
        writer.say(f"report: {report}")
        notify(callbacks, "on_end", state, evaluation)
    return evaluation


def prepare_data(
    config: ConfigDict, workdir: Path | None = None, say: Callable[[str], Any] = lambda text: None
) -> tuple[ConfigDict, dict[str, Any], dict[str, Any]]:
    """Sources and transforms of both parts, and the config with what follows from the data filled in.

    That is the names and colours of the classes, the steps of an epoch, `num_classes` of the heads that leave it open,
    and what `follow_data` fills in: it takes what was counted from the run in `workdir`, and tells `say` what it does.

    Raises:
        ConfigError: A head has another number of classes than the data.
    """
    sources = {part: build_source(config.data, part) for part in ("train", "val")}
    config = follow_data(config, sources["train"], workdir, say)
    transforms = {part: build_transforms(config.data[part].transforms).bind(sources[part]) for part in sources}
    source = sources["train"]
    run_config.check_metric(config.checkpoint.metric, source.classes)
    config = config.copy_and_resolve_references()
    with config.unlocked():
        config.data.classes, config.data.palette = source.classes, source.palette
        config.epoch_steps = config.epoch_steps or -(-len(source) // config.batch_size)
        text = config.model.get("text_encoder") or {"vocabulary": ()}
        if text.get("dataset_name") is None and text.get("vocabulary") is None:
            text["vocabulary"] = source.classes
        for name in ("decode_head", "auxiliary_head"):
            several = isinstance(config.model.get(name), tuple | list)
            for i, head in enumerate(config.model[name] if several else [config.model.get(name) or {}]):
                found, where = head.get("num_classes"), f"model.{name}" + (f"[{i}]" if several else "")
                if head and found is None:
                    head["num_classes"] = len(source.classes)
                elif head and found != len(source.classes):
                    raise ConfigError(
                        f"{where}.num_classes is {found}, but {source.name} has {len(source.classes)} classes: "
                        f"set --config.{where}.num_classes={len(source.classes)}"
                    )
    return config.lock(), sources, transforms


def initial_state(config: ConfigDict, model: Any, resumed: bool = False) -> tuple[TrainState, Any]:
    """The state at step 0, of the seed or of `config.init_from` (unless resumed), and the optimizer."""
    for head in model.heads().values():
        check_losses(head)  # what is wrong with them is known before the first step
    images = jnp.zeros((*sample_shape(model)[:3], len(config.preprocess.mean)))
    variables = jit(lambda key: model.init(key, images), once=True)(jax.random.key(config.seed))
    if config.init_from and not resumed:
        weights = weights_for(config.init_from, config, model, say=print)
        variables = take_over(variables, weights, config.init_from, say=print)
    variables = {"batch_stats": {}, **variables}
    optimizer = build_optimizer(config, variables["params"])
    opt_state = jit(optimizer.init, once=True)(variables["params"])
    return TrainState(jnp.zeros((), jnp.int32), variables["params"], variables["batch_stats"], opt_state), optimizer


def compile_step(config, model, optimizer, state, batch, mesh, writer) -> Any:
    """The train step, compiled for the shapes at hand."""
    writer.advance(int(state.step), "compiling")
    writer.say("compiling the train step")
    began = time.time()
    step = make_train_step(model, optimizer, config.preprocess, config.seed)
    out = by_size(state, mesh), replicated(mesh)
    compiled = jit(step, donate_argnums=0, out_shardings=out).lower(state, batch).compile()
    writer.say(f"compiled the train step in {duration(time.time() - began)}")
    return compiled


def every(steps: int, step: int, config: ConfigDict) -> bool:
    """Whether it is time: every so many steps, and at the last."""
    return step % steps == 0 or step == config.total_steps


def log_step(writer: Writer, step: int, logs: dict[str, Any], timer: Timer) -> None:
    """Writes the logs of a step, and how fast the steps since the last log were."""
    values = {name: float(value) for name, value in logs.items()} | timer.lap(step)
    writer.write(step, "train", values)
    accuracies = [name for name in values if name.startswith("decode") and "acc" in name]
    accuracy = f"acc {values[max(accuracies)]:.1f}  " if accuracies else ""  # the last head's; masks have none
    writer.say(
        f"step {step}/{writer.total_steps}  loss {values['loss']:.4f}  {accuracy}"
        f"lr {values['lr']:.2e}  {values['seconds_per_step']:.3f} s/step  "
        f"{values['images_per_second']:.1f} img/s  eta {duration(values['eta_seconds'])}"
    )


def evaluate(
    evaluator: Evaluator, state: TrainState, step: int, writer: Writer, timer: Timer, write=True
) -> Evaluation:
    """Evaluates and writes the scores."""
    evaluation = evaluator(state.variables, lambda done: writer.advance(step, f"evaluating {done}"))
    if write:
        writer.write(step, "val", evaluation.metrics)
    scores = "  ".join(f"{name} {evaluation.metrics[name] or 0:.2f}" for name in ("mIoU", "mAcc", "aAcc"))
    writer.say(f"step {step}/{writer.total_steps}  {evaluator.source.name}: {scores}")
    timer.reset(step)
    return evaluation


def describe(
    config: ConfigDict, sources: dict[str, Any], notes: list[str], state: TrainState, start: int, workdir: Path
) -> str:
    """What is about to happen, in a few lines."""
    device = jax.devices()[0]
    heads = config.model.decode_head
    head = heads[-1] if isinstance(heads, tuple | list) else heads
    encoder = config.model.get("image_encoder") or config.model.backbone
    backbone, head = (run_config.type_name(part["type"]) for part in (encoder, head))
    counts = ", ".join(f"{len(source)} {part}" for part, source in sources.items())
    lines = [
        f"{config.name}: {backbone} + {head}, "
        f"{parameter_count(state.params):,} parameters; {config.data.dataset}: {counts} images, "
        f"{len(sources['train'].classes)} classes",
        *notes,
        f"{jax.device_count()} x {device.device_kind}; batch {config.batch_size} over all devices",
        f"run folder {workdir}" + (f", continued from step {start}" if start else ""),
    ]
    return "\n".join(lines)


def notify(callbacks: Sequence[Any], event: str, *args: Any) -> None:
    """Calls a method of every callback that has it."""
    for callback in callbacks:
        getattr(callback, event, lambda *_: None)(*args)


def make_parser() -> Parser:
    """The flags."""
    parser = Parser("train", __doc__)
    parser.add_config("configs/demo.py")
    parser.add_argument("--workdir", metavar="DIR", help="the run folder; default: runs/ and the recipe's name")
    return parser


def run(args: argparse.Namespace) -> None:
    """Trains as the flags say."""
    set_compilation_cache(args.config.compilation_cache)
    train_and_evaluate(args.config, Path(args.workdir or f"runs/{args.config.name or 'run'}"))


if __name__ == "__main__":
    main(make_parser(), run)
