r"""Train MMSegmentation's own CGNet on CamVid, or time its train step: the other side of a comparison.

Runs in the environment that `make_reference_fixtures.py` describes::

    python tools/reference_camvid.py --time 10            # one JSON line: {"step_seconds": [...], ...}
    python tools/reference_camvid.py --serve              # a line "step" in, the seconds it took out
    python tools/reference_camvid.py --train --root CAMVID --steps 600

`--serve` lets another program alternate its own steps with these, so that both meet the same load.
CAMVID holds `images/{train,val}/*.jpg` and `annotations/{train,val}/*.png` with labels 0..10 and 11 = void.
"""

import argparse
import copy
import json
import logging
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

# mmcv-lite lacks the compiled operators; nothing here runs one, but the imports ask for them.
sys.modules["mmcv._ext"] = mock.MagicMock()

from mmengine.config import Config, ConfigDict  # noqa: E402
from mmengine.logging import MMLogger  # noqa: E402
from mmengine.runner import Runner  # noqa: E402
from mmengine.structures import PixelData  # noqa: E402
from mmseg.datasets import BaseSegDataset  # noqa: E402
from mmseg.registry import DATASETS, MODELS, OPTIM_WRAPPERS  # noqa: E402
from mmseg.structures import SegDataSample  # noqa: E402
from mmseg.utils import register_all_modules  # noqa: E402

# mmengine looks for the operators again when it builds an optimizer, and must find none.
del sys.modules["mmcv._ext"]

CLASSES = (
    "sky",
    "building",
    "pole",
    "road",
    "pavement",
    "tree",
    "sign symbol",
    "fence",
    "car",
    "pedestrian",
    "bicyclist",
)
BATCH = 8
CROP = (360, 360)
MEAN, STD = (105.658, 103.330, 99.625), (1.0, 1.0, 1.0)
OPTIMIZER = {"type": "Adam", "lr": 1e-3, "weight_decay": 5e-4}


@DATASETS.register_module()
class CamVid(BaseSegDataset):
    """CamVid's eleven classes and void; asking for the eleven makes void 255."""

    METAINFO = {"classes": (*CLASSES, "void")}  # noqa: RUF012


def model_config() -> ConfigDict:
    """The reference's CGNet with plain batch norm, eleven classes and no class weights."""
    base = resources.files("mmseg") / ".mim" / "configs" / "_base_" / "models" / "cgnet.py"
    model = Config.fromfile(str(base)).model
    norm = {"type": "BN", "eps": 1e-3, "requires_grad": True}
    model["backbone"]["norm_cfg"] = norm
    model["decode_head"].update(num_classes=len(CLASSES), norm_cfg=norm)
    model["decode_head"]["loss_decode"]["class_weight"] = None
    model["data_preprocessor"].update(mean=MEAN, std=STD, size=CROP, bgr_to_rgb=True, pad_val=0)
    return model


def make_step(warm_up: int = 2) -> Callable[[], float]:
    """A train step on synthetic batches that are already normalised; it returns its seconds."""
    MMLogger.get_instance("reference", log_level=logging.ERROR)  # standard output holds the figures only
    torch.manual_seed(0)
    model = MODELS.build(model_config())
    model.init_weights()
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), OPTIMIZER["lr"], weight_decay=OPTIMIZER["weight_decay"])
    wrapper = OPTIM_WRAPPERS.build({"type": "OptimWrapper", "optimizer": optimizer})
    rng = np.random.default_rng(0)
    batches = []
    for _ in range(4):
        images = rng.integers(0, 256, (BATCH, 3, *CROP), dtype=np.uint8).astype(np.float32)
        images = torch.from_numpy(images - np.array(MEAN, np.float32)[:, None, None])
        labels = rng.integers(0, len(CLASSES) + 1, (BATCH, 1, CROP[0] // 8, CROP[1] // 8))
        labels = np.where(labels == len(CLASSES), 255, labels).repeat(8, 2).repeat(8, 3)
        samples = [SegDataSample(gt_sem_seg=PixelData(data=torch.from_numpy(label))) for label in labels]
        batches.append((images, samples))

    def step() -> float:
        images, samples = batches[0]
        batches.append(batches.pop(0))
        start = time.perf_counter()
        loss, logs = model.parse_losses(model.loss(images, samples))
        wrapper.update_params(loss)
        logs["loss"].item()
        return time.perf_counter() - start

    for _ in range(warm_up):
        step()
    return step


def time_steps(steps: int) -> None:
    step = make_step()
    seconds = [step() for _ in range(steps)]
    report = {"step_seconds": seconds, "median": float(np.median(seconds)), "batch": BATCH, "crop": CROP}
    print(json.dumps({**report, "threads": torch.get_num_threads(), "torch": torch.__version__}), flush=True)


def serve() -> None:
    step = make_step()
    for line in sys.stdin:
        if line.strip() != "step":
            break
        print(step(), flush=True)


def train(root: Path, steps: int, val_images: int | None, work_dir: str, workers: int, seed: int) -> None:
    """The whole recipe through the reference's Runner; prints the last validation as one JSON line."""
    load = [{"type": "LoadImageFromFile"}, {"type": "LoadAnnotations"}]
    augment = [
        {"type": "RandomResize", "scale": (480, 360), "ratio_range": (0.5, 2.0), "keep_ratio": True},
        {"type": "RandomCrop", "crop_size": CROP},
        {"type": "RandomFlip", "prob": 0.5},
    ]

    def loader(split: str, batch: int, pipeline: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        dataset = {
            "type": "CamVid",
            "data_root": str(root),
            "metainfo": {"classes": CLASSES},
            "data_prefix": {"img_path": f"images/{split}", "seg_map_path": f"annotations/{split}"},
            "pipeline": [*load, *pipeline, {"type": "PackSegInputs"}],
            **more,
        }
        training = split == "train"
        sampler = {"type": "InfiniteSampler" if training else "DefaultSampler", "shuffle": training}
        workers_config = {"num_workers": workers, "persistent_workers": workers > 0}
        return {"batch_size": batch, "dataset": dataset, "sampler": sampler, **workers_config}

    poly = {"type": "PolyLR", "power": 0.9, "eta_min": 1e-4, "begin": 0, "end": steps, "by_epoch": False}
    runner = Runner(
        model=model_config(),
        work_dir=work_dir,
        train_dataloader=loader("train", BATCH, augment),
        val_dataloader=loader("val", 1, [], test_mode=True, indices=val_images),
        val_evaluator={"type": "IoUMetric", "iou_metrics": ["mIoU"]},
        train_cfg={"type": "IterBasedTrainLoop", "max_iters": steps, "val_interval": steps},
        val_cfg={"type": "ValLoop"},
        optim_wrapper={"type": "OptimWrapper", "optimizer": copy.deepcopy(OPTIMIZER)},
        param_scheduler=[poly],
        default_hooks={"checkpoint": {"type": "CheckpointHook", "by_epoch": False, "interval": steps}},
        log_processor={"by_epoch": False, "window_size": 10},
        randomness={"seed": seed},
        default_scope="mmseg",
    )
    start = time.perf_counter()
    runner.train()
    scores = {name: runner.message_hub.get_scalar(f"val/{name}").current() for name in ("mIoU", "aAcc", "mAcc")}
    print(json.dumps({**scores, "steps": steps, "seed": seed, "seconds": time.perf_counter() - start}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    mode = parser.add_mutually_exclusive_group(required=True)
    mode.add_argument("--time", type=int, metavar="N", help="time N train steps on synthetic batches")
    mode.add_argument("--serve", action="store_true", help='run one train step for every line "step" on stdin')
    mode.add_argument("--train", action="store_true", help="train on CamVid and validate")
    parser.add_argument("--root", type=Path, help="CamVid's folder, for --train")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--val-images", type=int, help="validate on the first so many images only")
    parser.add_argument("--work-dir", help="for logs and the checkpoint; default: a new temporary folder")
    parser.add_argument("--workers", type=int, default=2, help="processes that load data")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    if args.train and args.root is None:
        parser.error("--train needs --root")
    warnings.simplefilter("ignore")
    register_all_modules()
    torch.set_num_threads(args.threads)
    if args.time is not None:
        time_steps(args.time)
    elif args.serve:
        serve()
    else:
        work_dir = args.work_dir or tempfile.mkdtemp(prefix="reference_camvid_")
        train(args.root, args.steps, args.val_images, work_dir, args.workers, args.seed)


if __name__ == "__main__":
    main()
