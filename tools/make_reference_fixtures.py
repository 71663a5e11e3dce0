r"""Write the small figures of MMSegmentation 1.2.2 that the tests compare with.

Runs in an environment of its own, which holds the reference and none of jaxseg::

    python -m venv reference && . reference/bin/activate
    pip install torch==2.13.0 mmengine==0.10.7 mmcv-lite==2.1.0 "numpy<2.3" \
        prettytable ftfy regex scipy matplotlib
    pip install mmsegmentation==1.2.2 mmpretrain==1.2.0 --no-deps
    pip install einops importlib_metadata modelindex rich torchvision  # mmpretrain's
    python tools/make_reference_fixtures.py --out tests/fixtures [losses schedules ...]

Each function below writes one file, or a folder of them: `figures initialisation --case NAME` writes those of a head
or backbone that is new, and leaves the others. Arrays are in the reference's layout (N C H W) and in float64 unless
said otherwise; `meta` in an `.npz` is JSON bytes that lists the cases: `json.loads(bytes(npz["meta"]))`.
"""

import argparse
import gzip
import json
import logging
import sys
import types
import warnings
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

# mmcv-lite lacks the compiled operators; nothing here runs one, but the imports ask for them.
sys.modules["mmcv._ext"] = mock.MagicMock()

from mmengine.config import ConfigDict  # noqa: E402
from mmengine.logging import MMLogger  # noqa: E402
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper  # noqa: E402
from mmengine.registry import PARAM_SCHEDULERS, init_default_scope  # noqa: E402
from mmengine.structures import PixelData  # noqa: E402
from mmseg.evaluation.metrics import IoUMetric  # noqa: E402
from mmseg.models.decode_heads import psa_head  # noqa: E402
from mmseg.models.decode_heads.decode_head import BaseDecodeHead  # noqa: E402
from mmseg.models.losses import CrossEntropyLoss, FocalLoss, accuracy  # noqa: E402
from mmseg.models.losses import kldiv_loss as _kldiv_loss  # noqa: E402, F401  (not registered otherwise)
from mmseg.models.losses.focal_loss import py_sigmoid_focal_loss  # noqa: E402
from mmseg.registry import MODELS  # noqa: E402
from mmseg.structures import SegDataSample  # noqa: E402
from mmseg.structures.sampler import OHEMPixelSampler  # noqa: E402
from mmseg.utils import get_classes, get_predefined_templates, tokenizer  # noqa: E402


class PSAMask(torch.nn.Module):
    """The compiled operator of PSANet's head, from its definition."""

    def __init__(self, psa_type: str, mask_size: tuple[int, int]):
        super().__init__()
        self.psa_type, self.mask_size = psa_type, mask_size

    def forward(self, masks: torch.Tensor) -> torch.Tensor:
        """From masks around each pixel to places in the map; 0 where a mask does not reach."""
        (n, _, h, w), (rows, columns) = masks.shape, self.mask_size
        masks, out = masks.reshape(n, rows, columns, h, w), masks.new_zeros(n, h, w, h, w)
        for y, x, row, column in np.ndindex(h, w, rows, columns):
            i, j = row + y - (rows - 1) // 2, column + x - (columns - 1) // 2
            if 0 <= i < h and 0 <= j < w:
                place = (i, j, y, x) if self.psa_type == "collect" else (y, x, i, j)
                out[:, *place] = masks[:, row, column, y, x]
        return out.reshape(n, h * w, h, w)


psa_head.PSAMask = PSAMask

# mmengine looks for the operators again when it builds an optimizer, and must find none.
del sys.modules["mmcv._ext"]

IGNORE = 255
BN = {"type": "BN", "requires_grad": True}


def fill(key: str, shape: tuple[int, ...]) -> np.ndarray:
    """A weight as a function of its own name and shape, so that no weights file is needed."""
    rng = np.random.default_rng(zlib.crc32(key.encode()))
    leaf = key.rsplit(".", 1)[-1]
    if leaf == "running_mean":
        return rng.normal(0, 0.1, shape)
    if leaf == "running_var":
        return rng.uniform(0.5, 1.5, shape)
    if leaf == "bias" or leaf.endswith("_bias"):
        return rng.normal(0, 0.1, shape)
    if leaf == "weight" and len(shape) == 1:
        return rng.uniform(0.8, 1.2, shape)
    if len(shape) >= 2 and (leaf == "weight" or leaf.endswith("_weight")):
        return rng.normal(0, (2.0 / np.prod(shape[1:])) ** 0.5, shape)
    return rng.normal(0, 0.1, shape)


def entries(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The state dict; what it has twice, because a module is shared, by the first name only."""
    state, seen = module.state_dict(), set()
    return {key: value for key, value in state.items() if not (value.data_ptr() in seen or seen.add(value.data_ptr()))}


def fill_module(module: torch.nn.Module) -> torch.nn.Module:
    """Put `fill` into every floating point entry of the state dict, rounded to float32."""
    for key, value in entries(module).items():
        if value.is_floating_point():
            value.copy_(torch.from_numpy(fill(key, tuple(value.shape)).astype(np.float32)))
    return module


def build(config: dict[str, Any]) -> torch.nn.Module:
    """Build from a copy: the reference writes into the dicts that it is given (CGNet's `act_cfg`)."""
    if config["type"].startswith("mmpretrain."):
        import mmpretrain.models  # noqa: F401  (registers them)
    return MODELS.build(json.loads(json.dumps(config), object_hook=_tuples))


def _tuples(config: dict[str, Any]) -> dict[str, Any]:
    """JSON has lists only; CGNet insists on tuples and takes them everywhere."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in config.items()}


def save_npz(path: Path, meta: Any, arrays: dict[str, np.ndarray]) -> None:
    np.savez_compressed(path, meta=np.frombuffer(json.dumps(meta).encode(), np.uint8), **arrays)


def save_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, separators=(",", ":")) + "\n")


def _loss_inputs() -> dict[str, np.ndarray]:
    """Logits and labels that the cases share; `weight` is one weight a pixel, exact in float32."""
    rng = np.random.default_rng(0)
    size = (2, 5, 7)
    logits = rng.normal(0, 2, (2, 5, 5, 7))
    label = rng.integers(0, 5, size)
    label_ignored = np.where(rng.random(size) < 0.2, IGNORE, label)
    binary = rng.integers(0, 2, size)
    return {
        "logits": logits,
        "logits_1": rng.normal(0, 2, (2, 1, 5, 7)),
        "logits_square": rng.normal(0, 2, (2, 5, 5, 5)),
        "label": label,
        "label_ignored": label_ignored,
        "label_one_image_ignored": np.stack([label[0], np.full(size[1:], IGNORE)]),
        "label_all_ignored": np.full(size, IGNORE),
        "label_square": label_ignored[:, :, :5],
        "label_binary": np.where(rng.random(size) < 0.2, IGNORE, binary),
        "label_binary_clean": binary,
        "weight": rng.uniform(0, 2, size).astype(np.float32).astype(np.float64),
    }


def _loss_cases() -> list[dict[str, Any]]:
    """Constructor `kwargs`, call settings and the names of the inputs, one dict a case."""
    cases = []

    def add(name: str, label: str, logits: str = "logits", call: dict | None = None, **more: Any) -> None:
        weight = more.pop("weight", None)
        call = {"ignore_index": IGNORE, **(call or {})}
        cases.append({"name": name, "kwargs": more, "call": call, "logits": logits, "label": label, "weight": weight})

    class_weight = [0.5, 1.0, 2.0, 0.25, 1.5]
    for sigmoid in (False, True):
        for non_ignore in (False, True):
            mode = {"use_sigmoid": sigmoid, "avg_non_ignore": non_ignore}
            tag = f"{'sigmoid' if sigmoid else 'softmax'}{'_avg_non_ignore' if non_ignore else ''}"
            for label in ("label", "label_ignored", "label_one_image_ignored", "label_all_ignored"):
                add(f"{tag}/{label}", label, **mode)
            add(f"{tag}/weight", "label_ignored", weight="weight", **mode)
            add(f"{tag}/loss_weight", "label_ignored", loss_weight=0.4, **mode)
            for reduction in ("sum", "none"):
                add(f"{tag}/{reduction}", "label_ignored", reduction=reduction, **mode)
                pixels = {"weight": "weight", "reduction": reduction}
                add(f"{tag}/{reduction}_weight", "label_ignored", **pixels, **mode)
            add(f"{tag}/ignore_in_range", "label", call={"ignore_index": 2}, **mode)
            add(f"{tag}/class_weight", "label", class_weight=class_weight, **mode)
            add(f"{tag}/class_weight_ignored", "label_ignored", class_weight=class_weight, **mode)
            add(f"{tag}/avg_factor", "label_ignored", call={"avg_factor": 10.0}, **mode)
            if sigmoid:
                # One weight a class is broadcast against the last axis, the width. Kept to document it.
                square = {"logits": "logits_square", "class_weight": class_weight}
                add(f"{tag}/class_weight_on_width", "label_square", **square, **mode)
                for label in ("label_binary_clean", "label_binary", "label_all_ignored", "label"):
                    add(f"{tag}_1/{label}", label, "logits_1", **mode)
                add(f"{tag}_1/weight", "label_binary", "logits_1", weight="weight", **mode)
                add(f"{tag}_1/class_weight", "label_binary", "logits_1", class_weight=[3.0], **mode)
                add(f"{tag}_1/none", "label_binary", "logits_1", reduction="none", **mode)
                add(f"{tag}_1/sum", "label_binary", "logits_1", reduction="sum", **mode)
            else:
                # Ignored pixels and class weights can be combined only where ignore_index is a class.
                both = {"class_weight": class_weight, **mode}
                add(f"{tag}/class_weight_ignore_in_range", "label", call={"ignore_index": 2}, **both)
                add(f"{tag}/class_weight_weight", "label", weight="weight", **both)
                add(f"{tag}/class_weight_ignored_sum", "label_ignored", reduction="sum", **both)
                add(f"{tag}/class_weight_ignored_none", "label_ignored", reduction="none", **both)
    return cases


def _attempt(case: dict[str, Any], call: Callable[[], torch.Tensor]) -> torch.Tensor | None:
    """Run the reference in float64; where it fails, the failure is the figure (first line of the message)."""
    try:
        # The sigmoid branch casts labels and masks to float32, and its results with them.
        with mock.patch.object(torch.Tensor, "float", torch.Tensor.double):
            return call()
    except (AssertionError, IndexError, RuntimeError, ValueError) as problem:
        case["error"] = f"{type(problem).__name__}: {str(problem).partition(chr(10))[0]}"
        return None


def losses(folder: Path) -> None:
    """CrossEntropyLoss values and gradients (of their sum, where unreduced), OHEM weights, pixel accuracy."""
    inputs = _loss_inputs()
    tensors = {name: torch.from_numpy(value) for name, value in inputs.items()}
    arrays = dict(inputs)

    cross_entropy = _loss_cases()
    for case in cross_entropy:
        logits = tensors[case["logits"]].clone().requires_grad_()
        weight = tensors[case["weight"]] if case["weight"] else None
        loss = CrossEntropyLoss(**case["kwargs"])
        label = tensors[case["label"]]
        value = _attempt(case, lambda: loss(logits, label, weight=weight, **case["call"]))  # noqa: B023
        if value is not None:
            value.sum().backward()
            arrays[f"{case['name']}/loss"] = value.detach().numpy()
            arrays[f"{case['name']}/grad"] = logits.grad.numpy()

    ohem = []
    class_weight = [0.5, 1.0, 2.0, 0.25, 1.5]
    plain, weighted = {"type": "CrossEntropyLoss"}, {"type": "CrossEntropyLoss", "class_weight": class_weight}
    sigmoid = {"type": "CrossEntropyLoss", "use_sigmoid": True}
    for label in ("label", "label_ignored", "label_one_image_ignored", "label_all_ignored"):
        for kwargs in (
            {"thresh": 0.7, "min_kept": 2},
            {"thresh": 0.1, "min_kept": 8},
            {"thresh": 0.01, "min_kept": 5},
            {"thresh": 0.7, "min_kept": 100000},
            {"thresh": None, "min_kept": 2},
            {"thresh": None, "min_kept": 12},
            {"thresh": None, "min_kept": 100000},
        ):
            ohem.append({"kwargs": kwargs, "loss_decode": [plain], "label": label})
    for loss_decode in ([weighted], [plain, weighted], [sigmoid]):
        ohem.append({"kwargs": {"thresh": None, "min_kept": 6}, "loss_decode": loss_decode, "label": "label_ignored"})
    for i, case in enumerate(ohem):
        case["name"] = f"ohem_{i:02d}"
        modules = torch.nn.ModuleList(MODELS.build(config) for config in case["loss_decode"])
        context = types.SimpleNamespace(ignore_index=IGNORE, loss_decode=modules)
        sampler = OHEMPixelSampler(context, **case["kwargs"])
        label = tensors[case["label"]][:, None]
        weight = _attempt(case, lambda: sampler.sample(tensors["logits"], label))  # noqa: B023
        if weight is not None:
            arrays[case["name"]] = weight.numpy().astype(np.uint8)

    accuracies = []
    for label in ("label", "label_ignored", "label_one_image_ignored", "label_all_ignored"):
        for topk in (1, 2, 5):
            for ignore_index in (None, IGNORE):
                value = accuracy(tensors["logits"], tensors[label], topk=topk, ignore_index=ignore_index)
                accuracies.append({"label": label, "topk": topk, "ignore_index": ignore_index, "value": value.item()})
    meta = {"cross_entropy": cross_entropy, "ohem": ohem, "accuracy": accuracies}
    save_npz(folder / "losses.npz", meta, arrays)


def _focal(logits: torch.Tensor, label: torch.Tensor, loss_weight: float = 1.0, **kwargs: Any) -> torch.Tensor:
    """What FocalLoss computes where its operator is compiled. Its own way without it mistakes the classes."""
    FocalLoss(loss_weight=loss_weight, **kwargs)  # checks them
    classes, flat = logits.shape[1], logits.permute(0, 2, 3, 1).reshape(-1, logits.shape[1])
    label = label.reshape(-1, 1)
    valid = label != IGNORE
    target = label == (torch.ones(1) if classes == 1 else torch.arange(classes))
    loss = loss_weight * py_sigmoid_focal_loss(flat, target, valid_mask=valid, **kwargs)
    if loss.ndim:
        loss = loss.reshape(logits.shape[0], *logits.shape[2:], classes).permute(0, 3, 1, 2)
    return loss


def _of_one_target(kind: str) -> Callable[..., torch.Tensor]:
    """A loss that is not called as those of labels are."""
    return lambda logits, label, **kwargs: MODELS.build({"type": kind, **kwargs})(logits, label)


# Losses that have a file each: their type (or what computes them), constructor `kwargs`, names of logits and labels.
WEIGHTS = [0.5, 1.0, 2.0, 0.25, 1.5]
LABELS = ("label", "label_ignored", "label_one_image_ignored", "label_all_ignored")
LOSS_CASES: dict[str, tuple[str | Callable[..., torch.Tensor], list[tuple[dict[str, Any], str, str]]]] = {
    "dice": (
        "DiceLoss",
        [
            *(
                ({"use_sigmoid": sigmoid, "naive_dice": naive}, "logits", label)
                for sigmoid in (False, True)
                for naive in (False, True)
                for label in LABELS
            ),
            *(({"use_sigmoid": sigmoid}, "logits_1", "label_binary") for sigmoid in (False, True)),
            *(({"reduction": reduction}, "logits", "label_ignored") for reduction in ("sum", "none")),
            ({"activate": False}, "logits", "label_ignored"),
            ({"ignore_index": 2, "use_sigmoid": False}, "logits", "label_ignored"),
            ({"ignore_index": None, "loss_weight": 3.0, "eps": 0.1}, "logits", "label_ignored"),
        ],
    ),
    "focal": (
        _focal,
        [
            *(({}, "logits", label) for label in LABELS),
            ({"gamma": 1.5, "alpha": 0.25, "loss_weight": 2.0}, "logits", "label_ignored"),
            ({"gamma": 0.0, "alpha": [0.1, 0.9, 0.5, 0.0, 1.0]}, "logits", "label_ignored"),
            ({"class_weight": WEIGHTS}, "logits", "label_ignored"),
            *(({"reduction": reduction}, "logits", "label_ignored") for reduction in ("sum", "none")),
            ({}, "logits_1", "label_binary"),
        ],
    ),
    "hausdorff": (
        "HuasdorffDisstanceLoss",
        [
            *(({}, "logits", label) for label in LABELS),
            *(({"reduction": reduction, "loss_weight": 0.5}, "logits", "label") for reduction in ("sum", "none")),
            ({}, "logits", "label_binary_clean"),
            ({}, "logits_2", "label_binary"),
            ({}, "logits_2", "label_everywhere"),
            ({"class_weight": WEIGHTS}, "logits", "label"),
        ],
    ),
    "kl_divergence": (
        _of_one_target("KLDivLoss"),
        [({"temperature": t, "reduction": r}, "logits", "scores") for t in (1.0, 2.5) for r in ("mean", "sum", "none")],
    ),
    "lovasz": (
        "LovaszLoss",
        [
            *(
                ({"classes": classes, "per_image": per_image, "reduction": reduction}, "logits", label)
                for classes in ("present", "all", [1, 3])
                for per_image, reduction in ((False, "none"), (True, "mean"))
                for label in LABELS
            ),
            ({"reduction": "none"}, "logits", "label_few"),
            ({"per_image": True, "reduction": "sum", "loss_weight": 2.0}, "logits", "label_ignored"),
            ({"per_image": True, "reduction": "none"}, "logits", "label_few"),
            ({"reduction": "none", "class_weight": WEIGHTS}, "logits", "label_ignored"),
            ({"reduction": "none", "class_weight": WEIGHTS, "classes": [4, 0]}, "logits", "label_few"),
            *(
                ({"loss_type": "binary", "per_image": per_image, "reduction": reduction}, "logits_1", label)
                for per_image, reduction in ((False, "none"), (True, "mean"), (True, "none"))
                for label in ("label_binary", "label_binary_clean", "label_all_ignored")
            ),
        ],
    ),
    "ohem_cross_entropy": (
        lambda logits, label, **fields: MODELS.build({"type": "OhemCrossEntropy", **fields})(logits, label),
        [
            *(({"thres": 0.7, "min_kept": 2}, "logits", label) for label in LABELS[:3]),
            ({"thres": 0.01, "min_kept": 20}, "logits", "label_ignored"),
            ({"thres": 0.3, "min_kept": 0}, "logits", "label_ignored"),
            ({"min_kept": 100000, "class_weight": WEIGHTS, "loss_weight": 0.4}, "logits", "label_ignored"),
        ],
    ),
    "silog": (
        _of_one_target("SiLogLoss"),
        [
            *(({"reduction": reduction}, "depth", "depth_label") for reduction in ("mean", "sum", "none")),
            ({"eps": 0.5, "loss_weight": 2.0}, "depth", "depth_label"),
            ({}, "depth", "depth_none"),
        ],
    ),
    "tversky": (
        "TverskyLoss",
        [
            *(({}, "logits", label) for label in LABELS),
            ({"alpha": 0.6, "beta": 0.4, "smooth": 0.1, "loss_weight": 2.0}, "logits", "label_ignored"),
            ({"class_weight": WEIGHTS}, "logits", "label_ignored"),
            ({"ignore_index": 2}, "logits", "label"),
        ],
    ),
}


def _more_loss_inputs() -> dict[str, np.ndarray]:
    """Those of the losses above, besides those that all share."""
    rng, size = np.random.default_rng(1), (2, 5, 7)
    some = rng.random(size) < 0.7
    depth = np.where(some, rng.uniform(0.1, 8, size), 0)[:, None]
    return {
        "logits_2": rng.normal(0, 2, (2, 2, 5, 7)) + np.array([[[[0.0]], [[4.0]]]]),
        "label_everywhere": np.stack([np.ones(size[1:], int), np.arange(35).reshape(5, 7) % 6 != 2]).astype(int),
        "label_few": np.where(
            rng.random(size) < 0.2, IGNORE, np.where(some, 1, 3) - (np.arange(2) == 1)[:, None, None]
        ),
        "scores": rng.normal(0, 2, (2, 5, 5, 7)),
        "depth": rng.uniform(-0.5, 8, (2, 1, 5, 7)),
        "depth_label": depth,
        "depth_none": depth * np.array([1, 0])[:, None, None, None],
    }


def one_loss(folder: Path, names: Sequence[str] = ()) -> None:
    """Values and gradients (of the sum, where unreduced) of losses other than cross entropy, a file each."""
    for name, (kind, cases) in LOSS_CASES.items():
        if names and name not in names:
            continue
        inputs = _loss_inputs() | _more_loss_inputs()
        arrays, meta = {}, []
        for i, (kwargs, logits_name, label_name) in enumerate(cases):
            case = {"name": f"{i:02d}", "kwargs": kwargs, "logits": logits_name, "label": label_name}
            meta.append(case)
            logits = torch.from_numpy(inputs[logits_name]).requires_grad_()
            label = torch.from_numpy(inputs[label_name])

            def value_of(logits=logits, label=label, kwargs=kwargs) -> torch.Tensor:
                if callable(kind):  # noqa: B023
                    return kind(logits, label, **kwargs)  # noqa: B023
                return MODELS.build({"type": kind, **kwargs})(logits, label, ignore_index=IGNORE)  # noqa: B023

            value = _attempt(case, value_of)
            if value is not None:
                value.sum().backward()
                arrays[f"{case['name']}/loss"] = value.detach().numpy()
                arrays[f"{case['name']}/grad"] = logits.grad.numpy()
            arrays |= {key: inputs[key] for key in (logits_name, label_name)}
        save_npz(folder / "one_loss" / f"{name}.npz", meta, arrays)


SCHEDULES: dict[str, list[dict[str, Any]]] = {
    "poly": [{"type": "PolyLR", "power": 0.9, "eta_min": 1e-4, "begin": 0, "end": 40}],
    "poly_power_1_from_5": [{"type": "PolyLR", "power": 1.0, "eta_min": 0.0, "begin": 5, "end": 40}],
    "warmup_then_poly": [
        {"type": "LinearLR", "start_factor": 1e-6, "begin": 0, "end": 10},
        {"type": "PolyLR", "power": 0.9, "eta_min": 0.0, "begin": 10, "end": 60},
    ],
    "warmup_during_poly": [
        {"type": "LinearLR", "start_factor": 0.1, "begin": 0, "end": 10},
        {"type": "PolyLR", "power": 0.9, "eta_min": 1e-4, "begin": 0, "end": 50},
    ],
    "warmup_then_poly_gap": [
        {"type": "LinearLR", "start_factor": 0.1, "begin": 0, "end": 10},
        {"type": "PolyLR", "power": 0.9, "eta_min": 1e-4, "begin": 20, "end": 60},
    ],
    "linear": [{"type": "LinearLR", "start_factor": 0.5, "end_factor": 0.1, "begin": 3, "end": 30}],
    "constant": [{"type": "ConstantLR", "factor": 0.1, "begin": 0, "end": 12}],
    "constant_from_5": [{"type": "ConstantLR", "factor": 0.5, "begin": 5, "end": 12}],
    "multi_step": [{"type": "MultiStepLR", "milestones": [10, 30, 31], "gamma": 0.1, "begin": 0, "end": 60}],
    "warmup_during_multi_step": [
        {"type": "LinearLR", "start_factor": 0.001, "begin": 0, "end": 15},
        {"type": "MultiStepLR", "milestones": [10, 30], "gamma": 0.5},
    ],
    "step": [{"type": "StepLR", "step_size": 7, "gamma": 0.5, "begin": 0, "end": 40}],
    "cosine": [{"type": "CosineAnnealingLR", "T_max": 50, "eta_min": 1e-4, "begin": 0, "end": 50}],
    "warmup_then_cosine": [
        {"type": "LinearLR", "start_factor": 0.01, "begin": 0, "end": 10},
        {"type": "CosineAnnealingLR", "T_max": 40, "eta_min": 0.0, "begin": 10, "end": 50},
    ],
    "cosine_short_period": [{"type": "CosineAnnealingLR", "T_max": 20, "eta_min": 1e-4}],
    "exponential": [{"type": "ExponentialLR", "gamma": 0.95, "begin": 0, "end": 40}],
    "one_cycle": [{"type": "OneCycleLR", "eta_max": 0.05, "total_steps": 71, "pct_start": 0.3}],
}


def schedules(folder: Path, steps: int = 70) -> None:
    """Learning rate of every step for two parameter groups: the base rate and ten times that."""
    cases = []
    for name, configs in SCHEDULES.items():
        groups = [{"params": [torch.zeros(1, requires_grad=True)], "lr": lr} for lr in (0.01, 0.1)]
        optimizer = torch.optim.SGD(groups, lr=0.01)
        schedulers = [
            PARAM_SCHEDULERS.build({**config, "by_epoch": False}, default_args={"optimizer": optimizer})
            for config in configs
        ]
        rates = []
        for _ in range(steps):
            rates.append([group["lr"] for group in optimizer.param_groups])
            optimizer.step()
            for scheduler in schedulers:
                scheduler.step()
        rates = np.array(rates).T.tolist()
        cases.append({"name": name, "schedulers": configs, "lr": rates[0], "lr_tenfold_group": rates[1]})
    save_json(folder / "schedules.json", {"base_lr": 0.01, "steps": steps, "cases": cases})


OPTIMIZERS: dict[str, dict[str, Any]] = {
    "sgd": {"type": "SGD", "lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4},
    "sgd_nesterov": {"type": "SGD", "lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4, "nesterov": True},
    "sgd_plain": {"type": "SGD", "lr": 0.1},
    "adam": {"type": "Adam", "lr": 0.01, "weight_decay": 5e-2},
    "adam_eps": {"type": "Adam", "lr": 0.01, "eps": 1e-3, "betas": [0.8, 0.99]},
    "adamw": {"type": "AdamW", "lr": 0.01, "betas": [0.9, 0.999], "weight_decay": 0.05},
}

PARAMWISE: dict[str, dict[str, Any]] = {
    "head_tenfold": {"custom_keys": {"head": {"lr_mult": 10.0}}},
    "longest_key_first": {
        "custom_keys": {
            "backbone": {"lr_mult": 0.1, "decay_mult": 0.5},
            "backbone.layer4": {"lr_mult": 0.3},
            "backbone.layer4.1.bn2": {"lr_mult": 0.7, "decay_mult": 0.0},
        }
    },
    "equal_length_keys": {"custom_keys": {"conv2": {"lr_mult": 3.0}, "conv1": {"lr_mult": 2.0}}},
    "norm": {"norm_decay_mult": 0.0},
    "bias": {"bias_lr_mult": 2.0, "bias_decay_mult": 0.0},
    "norm_and_bias": {"norm_decay_mult": 0.5, "bias_lr_mult": 2.0, "bias_decay_mult": 0.25},
    "custom_beats_norm": {
        "custom_keys": {"decode_head": {"lr_mult": 10.0}, "bn1": {"decay_mult": 2.0}},
        "norm_decay_mult": 0.0,
        "bias_lr_mult": 2.0,
    },
    "depthwise_and_flat": {"dwconv_decay_mult": 0.0, "flat_decay_mult": 0.1, "norm_decay_mult": 0.5},
}

MODELS_FOR_PARAMWISE: dict[str, dict[str, Any]] = {
    "fcn_r18": {
        "type": "EncoderDecoder",
        "backbone": {"type": "ResNet", "depth": 18, "stem_channels": 8, "base_channels": 8, "norm_cfg": BN},
        "decode_head": {
            "type": "FCNHead",
            "in_channels": 64,
            "channels": 16,
            "num_convs": 1,
            "num_classes": 5,
            "norm_cfg": BN,
        },
    },
    "cgnet": {
        "type": "EncoderDecoder",
        "backbone": {"type": "CGNet", "num_blocks": [2, 2], "norm_cfg": BN},
        "decode_head": {
            "type": "FCNHead",
            "in_channels": 256,
            "in_index": 2,
            "channels": 256,
            "num_convs": 0,
            "concat_input": False,
            "num_classes": 5,
        },
    },
}


def optimizers(folder: Path, steps: int = 5) -> None:
    """Parameters after each step for given gradients; parameter-wise rates and decays of two models."""
    rng = np.random.default_rng(1)
    shapes = {"kernel": (3, 4), "bias": (4,)}
    start = {name: rng.normal(0, 1, shape) for name, shape in shapes.items()}
    gradients = [{name: rng.normal(0, 1, shape) for name, shape in shapes.items()} for _ in range(steps)]

    updates = []
    for name, config in OPTIMIZERS.items():
        for clip in (None, {"max_norm": 1.0}, {"max_norm": 1000.0}, {"max_norm": 0.5, "norm_type": 1}):
            params = {key: torch.tensor(value, requires_grad=True) for key, value in start.items()}
            kwargs = {key: value for key, value in config.items() if key != "type"}
            optimizer = getattr(torch.optim, config["type"])(params.values(), **kwargs)
            wrapper = OptimWrapper(optimizer, clip_grad=dict(clip) if clip else None)
            trace = []
            for gradient in gradients:
                for key, param in params.items():
                    param.grad = torch.tensor(gradient[key])
                wrapper.step()
                trace.append({key: param.detach().numpy().tolist() for key, param in params.items()})
            updates.append({"name": name, "optimizer": config, "clip_grad": clip, "params": trace})

    paramwise = []
    for model_name, model_config in MODELS_FOR_PARAMWISE.items():
        model = build(model_config)
        names = {id(param): key for key, param in model.named_parameters()}
        for name, rules in PARAMWISE.items():
            wrapper_config = {
                "type": "OptimWrapper",
                "optimizer": {"type": "SGD", "lr": 0.01, "momentum": 0.9, "weight_decay": 5e-4},
            }
            wrapper = DefaultOptimWrapperConstructor(wrapper_config, dict(rules))(model)
            figures = {
                names[id(param)]: [group["lr"], group["weight_decay"]]
                for group in wrapper.optimizer.param_groups
                for param in group["params"]
            }
            paramwise.append({"name": name, "model": model_name, "paramwise_cfg": rules, "params": figures})
    content = {
        "start": {key: value.tolist() for key, value in start.items()},
        "gradients": [{key: value.tolist() for key, value in gradient.items()} for gradient in gradients],
        "updates": updates,
        "base": {"lr": 0.01, "weight_decay": 5e-4},
        "models": MODELS_FOR_PARAMWISE,
        "paramwise": paramwise,
    }
    save_json(folder / "optimizers.json", content)


def metrics(folder: Path, cases: int = 60, images: int = 3, size: tuple[int, int] = (8, 10)) -> None:
    """Areas and per-class scores of random label maps; arrays are padded to nine classes with NaN."""
    widest = 9
    rng = np.random.default_rng(2)
    meta: list[dict[str, Any]] = []
    arrays: dict[str, list[np.ndarray]] = {"labels": [], "preds": [], "areas": []}
    for i in range(cases):
        classes = int(rng.integers(2, widest + 1))
        present = rng.permutation(classes)[: rng.integers(1, classes + 1)]
        predicted = rng.permutation(classes)[: rng.integers(1, classes + 1)]
        labels = rng.choice(present, (images, *size))
        preds = np.where(rng.random(labels.shape) < 0.5, labels, rng.choice(predicted, labels.shape))
        labels = np.where(rng.random(labels.shape) < rng.choice([0.0, 0.1, 0.6]), IGNORE, labels)
        outside = i % 10 == 7  # labels that are neither a class nor ignored
        if outside:
            labels = np.where(rng.random(labels.shape) < 0.1, classes + 1, labels)
        if i >= cases - 4:
            labels = np.full_like(labels, IGNORE)
        nan_to_num = [None, None, 0, -1][i % 4]
        beta = [1, 1, 1, 2][i % 4]
        metric = IoUMetric(iou_metrics=["mIoU", "mDice", "mFscore"], nan_to_num=nan_to_num, beta=beta)
        metric.dataset_meta = {"classes": [str(c) for c in range(classes)]}
        samples = [
            {
                "pred_sem_seg": {"data": torch.from_numpy(pred)[None]},
                "gt_sem_seg": {"data": torch.from_numpy(label)[None]},
            }
            for pred, label in zip(preds, labels, strict=True)
        ]
        metric.process({}, samples)
        areas = [sum(area) for area in zip(*metric.results, strict=True)]
        scores = metric.total_area_to_metrics(*areas, metric.metrics, nan_to_num, beta)
        summary = {key: float(value) for key, value in metric.compute_metrics(metric.results).items()}

        def pad(value: np.ndarray, classes: int = classes) -> np.ndarray:
            return np.pad(np.asarray(value, np.float64), (0, widest - classes), constant_values=np.nan)

        arrays["labels"].append(labels.astype(np.uint8))
        arrays["preds"].append(preds.astype(np.uint8))
        arrays["areas"].append(np.stack([pad(area.numpy()) for area in areas]))
        for key, value in scores.items():
            arrays.setdefault(key, []).append(value if key == "aAcc" else pad(value))
        meta.append(
            {
                "num_classes": classes,
                "nan_to_num": nan_to_num,
                "beta": beta,
                "labels_outside": outside,
                "summary": summary,
            }
        )
    save_npz(folder / "metrics.npz", meta, {key: np.stack(value) for key, value in arrays.items()})


def _resnet(depth: int, kind: str = "ResNet", **more: Any) -> dict[str, Any]:
    return {"type": kind, "depth": depth, "stem_channels": 16, "base_channels": 16, "norm_cfg": BN, **more}


def _unet(**more: Any) -> dict[str, Any]:
    return {"type": "UNet", "base_channels": 8, "norm_cfg": BN, **more}


D8 = {"dilations": [1, 1, 2, 4], "strides": [1, 2, 1, 1]}
EVEN, ODD = [1, 3, 64, 96], [1, 3, 61, 93]


def _resnest(**more: Any) -> dict[str, Any]:
    return _resnet(50, "ResNeSt", **more)


def _hrnet(**more: Any) -> dict[str, Any]:
    extra = {
        f"stage{i}": {
            "num_modules": modules,
            "num_branches": i,
            "block": "BOTTLENECK" if i == 1 else "BASIC",
            "num_blocks": [1] * i,
            "num_channels": [4, 8, 12, 16][:i],
        }
        for i, modules in enumerate((1, 1, 2, 1), start=1)
    }
    return {"type": "HRNet", "norm_cfg": BN, "extra": extra, **more}


def _vit(kind: str = "VisionTransformer", **more: Any) -> dict[str, Any]:
    sizes = {"img_size": [48, 64], "patch_size": 8, "embed_dims": 12, "num_layers": 3, "num_heads": 3}
    return {"type": kind, **sizes, **more}


def _convnext(**more: Any) -> dict[str, Any]:
    arch = {"depths": [1, 2, 1], "channels": [8, 12, 16]}
    return {"type": "mmpretrain.ConvNeXt", "arch": arch, "out_indices": [0, 2], "gap_before_final_norm": False, **more}


def _poolformer(**more: Any) -> dict[str, Any]:
    arch = {"layers": [1, 2, 1, 1], "embed_dims": [8, 12, 16, 20], "mlp_ratios": [2, 4, 3, 2]}
    arch["layer_scale_init_value"] = 0.5
    return {"type": "mmpretrain.PoolFormer", "arch": arch, **more}


def _swin(**more: Any) -> dict[str, Any]:
    small = {"embed_dims": 8, "window_size": 3, "depths": [2, 1, 2, 1], "num_heads": [1, 2, 2, 4]}
    return {"type": "SwinTransformer", **small, **more}


BACKBONES: dict[str, tuple[dict[str, Any], list[int]]] = {
    "r18": (_resnet(18), EVEN),
    "r18_full_width": (_resnet(18, stem_channels=64, base_channels=64), EVEN),
    "r34": (_resnet(34), EVEN),
    "r50": (_resnet(50), EVEN),
    "r101_d8": (_resnet(101, **D8), EVEN),
    "r152": (_resnet(152), EVEN),
    "r50_odd": (_resnet(50), ODD),
    "r18_d8_odd": (_resnet(18, **D8), ODD),
    "r50_contract_dilation": (_resnet(50, contract_dilation=True, **D8), EVEN),
    "r18_contract_dilation": (_resnet(18, contract_dilation=True, **D8), EVEN),
    "r50_multi_grid": (_resnet(50, multi_grid=[1, 2, 4], **D8), EVEN),
    "r50_multi_grid_contract": (_resnet(50, multi_grid=[1, 2, 4], contract_dilation=True, **D8), EVEN),
    "r50_caffe": (_resnet(50, style="caffe"), EVEN),
    "r50_avg_down_odd": (_resnet(50, avg_down=True), ODD),
    "r50_deep_stem": (_resnet(50, deep_stem=True), EVEN),
    "r50_out_indices": (_resnet(50, out_indices=[1, 3]), EVEN),
    "r50_three_stages": (
        _resnet(50, num_stages=3, strides=[1, 2, 2], dilations=[1, 1, 1], out_indices=[0, 2]),
        EVEN,
    ),
    "r18_stem_wider_than_base": (_resnet(18, stem_channels=32), EVEN),
    "r50_group_norm": (_resnet(50, norm_cfg={"type": "GN", "num_groups": 4}), EVEN),
    "r50_v1c_d8": (_resnet(50, "ResNetV1c", contract_dilation=True, **D8), EVEN),
    "r18_v1c_odd": (_resnet(18, "ResNetV1c"), ODD),
    "r101_v1d": (_resnet(101, "ResNetV1d"), EVEN),
    "r50_v1d_d8_odd": (_resnet(50, "ResNetV1d", **D8), ODD),
    "cgnet": ({"type": "CGNet", "norm_cfg": {**BN, "eps": 1e-3}}, EVEN),
    "cgnet_short": ({"type": "CGNet", "num_blocks": [3, 7], "norm_cfg": {**BN, "eps": 1e-3}}, EVEN),
    "erfnet": (
        {"type": "ERFNet", "enc_stage_non_bottlenecks": [1, 2], "enc_non_bottleneck_dilations": [2, 4]},
        ODD,
    ),
    "unet": (_unet(), EVEN),
    "unet_conv_first": (
        _unet(
            upsample_cfg={
                "type": "InterpConv",
                "conv_first": True,
                "kernel_size": 3,
                "padding": 1,
                "upsample_cfg": {"scale_factor": 2, "mode": "nearest"},
            }
        ),
        EVEN,
    ),
    "unet_deconv": (_unet(upsample_cfg={"type": "DeconvModule"}, enc_dilations=[1, 1, 2, 2, 1]), EVEN),
    "unet_strides": (
        _unet(
            strides=[1, 2, 1, 1, 2],
            downsamples=[True, False, True, True],
            dec_num_convs=[1, 2, 3, 2],
            dec_dilations=[1, 2, 1, 3],
            upsample_cfg={"type": "DeconvModule", "kernel_size": 2},
        ),
        EVEN,
    ),
    "cgnet_odd": ({"type": "CGNet", "num_blocks": [2, 3], "norm_cfg": {**BN, "eps": 1e-3}}, ODD),
    "hrnet_odd": (_hrnet(), ODD),
    "hrnet_finest_only": (_hrnet(multiscale_output=False), EVEN),
    "mit_odd": (
        {
            "type": "MixVisionTransformer",
            "embed_dims": 8,
            "num_layers": [1, 2, 1, 1],
            "qkv_bias": False,
            "mlp_ratio": 2,
        },
        ODD,
    ),
    "mobilenet_v2_odd": ({"type": "MobileNetV2", "norm_cfg": BN, "widen_factor": 0.5}, ODD),
    "mobilenet_v3_large_odd": (
        {"type": "MobileNetV3", "norm_cfg": BN, "arch": "large", "out_indices": [1, 3, 16]},
        ODD,
    ),
    "mobilenet_v3_large": (
        {"type": "MobileNetV3", "norm_cfg": BN, "arch": "large", "out_indices": [0, 7, 13], "reduction_factor": 2},
        EVEN,
    ),
    "mobilenet_v3_small_odd": ({"type": "MobileNetV3", "norm_cfg": BN, "reduction_factor": 2}, ODD),
    "resnest_odd": (_resnest(), ODD),
    "resnest_groups": (_resnest(groups=2, base_width=32, reduction_factor=2, **D8), EVEN),
    "resnest_one_result": (_resnest(radix=1, avg_down_stride=False), EVEN),
    "resnext_odd": (_resnet(50, "ResNeXt", groups=2, base_width=32), ODD),
    "resnext_d8_caffe": (_resnet(50, "ResNeXt", groups=4, base_width=8, style="caffe", **D8), EVEN),
    "mscan_odd": (
        {
            "type": "MSCAN",
            "embed_dims": [8, 12, 16, 20],
            "mlp_ratios": [2, 2, 3, 2.5],
            "depths": [1, 2, 1, 1],
            "attention_kernel_sizes": [3, [1, 5], [1, 7], [3, 9]],
            "attention_kernel_paddings": [1, [0, 2], [0, 3], [1, 4]],
            "act_cfg": {"type": "ReLU"},
            "norm_cfg": BN,
        },
        ODD,
    ),
    "pcpvt_odd": (
        {
            "type": "PCPVT",
            "embed_dims": [8, 12, 16, 20],
            "num_heads": [1, 2, 4, 5],
            "depths": [1, 2, 1, 1],
            "qkv_bias": True,
            "norm_cfg": {"type": "LN", "eps": 1e-3},
        },
        ODD,
    ),
    "svt_odd": (
        {
            "type": "SVT",
            "embed_dims": [8, 12, 16],
            "num_heads": [1, 2, 4],
            "depths": [2, 3, 2],
            "qkv_bias": True,
            "windiow_sizes": [7, 5, 3],
        },
        ODD,
    ),
    "svt_one_side": (
        {"type": "SVT", "embed_dims": [8, 12], "num_heads": [1, 2], "depths": [2, 2], "windiow_sizes": [4, 2]},
        [2, 3, 48, 52],
    ),
    "fast_scnn_odd": (
        {"type": "FastSCNN", "norm_cfg": BN, "align_corners": True, "dw_act_cfg": "default", "out_indices": [2, 0]},
        ODD,
    ),
    "beit_norms": (_vit("BEiT", out_indices=[0, 2], patch_norm=True, final_norm=True, qv_bias=False), [2, 3, 55, 66]),
    "beit": (_vit("BEiT", num_fcs=3), [2, 3, 48, 64]),
    "mae": (_vit("MAE", out_indices=[1, 2]), [2, 3, 48, 64]),
    "vit_norms_odd": (
        _vit(out_indices=[0, 2], out_origin=True, patch_norm=True, patch_bias=True, pre_norm=True, final_norm=True),
        ODD,
    ),
    "vit_no_class_token_odd": (
        _vit(with_cls_token=False, patch_pad="same", interpolate_mode="bilinear", qkv_bias=False, num_fcs=3),
        ODD,
    ),
    "vit_as_many_patches": (_vit(norm_cfg={"type": "LN", "eps": 1e-3}, act_cfg={"type": "ReLU"}), [1, 3, 96, 32]),
    "convnext": (_convnext(), EVEN),
    "convnext_v2_odd": (
        _convnext(use_grn=True, layer_scale_init_value=0.0, linear_pw_conv=False, stem_patch_size=2, out_indices=1),
        ODD,
    ),
    "poolformer": (_poolformer(out_indices=[0, 2, 4]), EVEN),
    "poolformer_odd": (_poolformer(pool_size=5, in_patch_size=5, down_pad=0, out_indices=-1), ODD),
    "swin": (_swin(), EVEN),
    "swin_odd": (_swin(qkv_bias=False, qk_scale=0.3, patch_norm=False, out_indices=[1, 3], strides=[4, 2, 1, 2]), ODD),
    "swin_positions": (_swin(use_abs_pos_embed=True, pretrain_img_size=[64, 96], mlp_ratio=2), EVEN),
    "swin_patches": (_swin(patch_size=2, strides=[2, 3, 2, 2]), ODD),
}

LEVELS = [[2, 8, 33, 25], [2, 12, 17, 13], [2, 16, 9, 7], [2, 20, 5, 4]]
MAP = [[2, 24, 13, 17]]
WINDOWED = [[1, 4, 130, 161], [1, 6, 100, 121], [1, 8, 67, 71]]


def _head(kind: str, shapes: list[list[int]], **more: Any) -> tuple[dict[str, Any], list[list[int]]]:
    channels = [shape[1] for shape in shapes]
    inputs = {"in_channels": channels[0], "in_index": 0}
    if len(channels) > 1:
        inputs = {"in_channels": channels, "in_index": list(range(len(channels)))}
    base = {"type": kind, "channels": 16, "num_classes": 6, "norm_cfg": BN, "dropout_ratio": 0.1}
    return {**base, **inputs, **more}, shapes


POOLS = {"pool_scales": [1, 2, 3, 6]}
TWO_MAPS = [[2, 12, 13, 17], [2, 24, 13, 17]]
HEADS: dict[str, tuple[dict[str, Any], list[list[int]]]] = {
    f"{name}{'_align_corners' if align else ''}": _head(kind, shapes, align_corners=align, **more)
    for align in (False, True)
    for name, kind, shapes, more in (
        ("fcn_resize_concat", "FCNHead", LEVELS, {"input_transform": "resize_concat", "num_convs": 1}),
        ("fcn_no_convs", "FCNHead", MAP, {"num_convs": 0, "channels": 24, "concat_input": False}),
        ("fcn_dilated", "FCNHead", MAP, {"kernel_size": 3, "dilation": 6, "num_convs": 2}),
        ("upernet", "UPerHead", LEVELS, POOLS),
        ("psp", "PSPHead", MAP, POOLS),
        ("enc", "EncHead", LEVELS, {"num_codes": 5, "add_lateral": True}),
        ("aspp", "ASPPHead", MAP, {"dilations": [1, 2, 6]}),
        (
            "sep_aspp_alone",
            "DepthwiseSeparableASPPHead",
            MAP,
            {"dilations": [2, 6], "c1_in_channels": 0, "c1_channels": 0},
        ),
        ("sep_fcn", "DepthwiseSeparableFCNHead", MAP, {"dw_act_cfg": "default", "kernel_size": 5}),
        ("gc", "GCHead", MAP, {"pooling_type": "avg", "fusion_types": ["channel_mul", "channel_add"]}),
        ("gc_attention", "GCHead", MAP, {"concat_input": False}),
        ("lraspp", "LRASPPHead", WINDOWED, {"input_transform": "multiple_select"}),
        ("setr_up", "SETRUPHead", MAP, {"num_convs": 2, "up_scale": 3, "kernel_size": 1}),
        ("setr_mla", "SETRMLAHead", [[2, 12, 9, 7], [2, 24, 9, 7]], {"mla_channels": 8, "up_scale": 2}),
    )
}
# Those that resize nothing.
HEADS["ann"] = _head("ANNHead", TWO_MAPS, project_channels=8, query_scales=[1, 1], key_pool_scales=[1, 2, 5])
HEADS["apc"] = _head("APCHead", MAP, pool_scales=[1, 3, 5], fusion=False)
HEADS["cc"] = _head("CCHead", MAP, recurrence=3, concat_input=False)
HEADS["da"] = _head("DAHead", MAP, pam_channels=4)
HEADS["dm"] = _head("DMHead", MAP, filter_sizes=[1, 2, 4, 5], fusion=True)
# Where align_corners makes no difference.
HEADS |= {
    "dnl": _head("DNLHead", MAP, use_scale=False, temperature=0.25),
    "dnl_dot_product": _head("DNLHead", MAP, mode="dot_product", concat_input=False),
    "ema": _head("EMAHead", MAP, ema_channels=12, num_bases=5, num_stages=2, momentum=0.2, concat_input=False),
    "isa": _head("ISAHead", MAP, isa_channels=8, down_factor=[4, 6]),
    "nl": _head("NLHead", MAP, use_scale=False, reduction=3),
    "nl_concatenation": _head("NLHead", MAP, mode="concatenation", norm_cfg=None),
    "nl_dot_product": _head("NLHead", MAP, mode="dot_product"),
    "nl_gaussian": _head("NLHead", MAP, mode="gaussian", concat_input=False),
    "segmenter": _head(
        "SegmenterMaskTransformerHead",
        MAP,
        num_layers=2,
        num_heads=3,
        embed_dims=12,
        mlp_ratio=2,
        qkv_bias=False,
        norm_cfg={"type": "LN", "eps": 1e-4},
    ),
    "segformer": _head("SegformerHead", LEVELS, interpolate_mode="bicubic", act_cfg={"type": "GELU"}),
    "psa": _head("PSAHead", MAP, mask_size=[5, 8], normalization_factor=None),
    "psa_collect": _head("PSAHead", [[2, 24, 8, 10]], mask_size=[11, 9], psa_type="collect", shrink_factor=1),
    "psa_collect_compact": _head("PSAHead", MAP, mask_size=[7, 9], psa_type="collect", compact=True),
    "psa_compact": _head("PSAHead", [[2, 24, 12, 17]], mask_size=[6, 8], compact=True, psa_softmax=False),
    "psa_distribute": _head("PSAHead", [[2, 24, 8, 10]], mask_size=[3, 21], psa_type="distribute"),
}


def _kernel_update(updator: dict[str, Any], **more: Any) -> dict[str, Any]:
    updator = {"type": "KernelUpdator", "in_channels": 8, "feat_channels": 8, "norm_cfg": {"type": "LN"}, **updator}
    base = {"type": "KernelUpdateHead", "num_heads": 4, "feedforward_channels": 12, "in_channels": 16}
    return {**base, "out_channels": 16, "kernel_updator_cfg": updator, **more}


HEADS["knet"] = (
    {
        "type": "IterativeDecodeHead",
        "num_stages": 2,
        "kernel_generate_head": _head("FCNHead", MAP, num_convs=1)[0],
        "kernel_update_head": [
            _kernel_update(
                {"gate_norm_act": True, "activate_out": True, "gate_sigmoid": False, "act_cfg": {"type": "GELU"}},
                feat_transform_cfg={"kernel_size": 3, "norm_cfg": BN},
                feat_gather_stride=2,
                mask_transform_stride=2,
                with_ffn=False,
            ),
            _kernel_update({}, mask_transform_stride=2, num_mask_fcs=1, num_ffn_fcs=3, dropout=0.1),
        ],
    },
    MAP,
)

PLAIN = [[2, channels, 9, 7] for channels in (8, 12, 16, 20)]
NECKS: dict[str, tuple[dict[str, Any], list[list[int]]]] = {
    "feature2pyramid": ({"type": "Feature2Pyramid", "embed_dim": 8, "norm_cfg": BN}, [[2, 8, 9, 7]] * 4),
    "feature2pyramid_small": (
        {"type": "Feature2Pyramid", "embed_dim": 8, "rescales": [2, 1, 0.5, 0.25], "norm_cfg": BN},
        [[2, 8, 9, 7]] * 4,
    ),
    "mla": ({"type": "MLANeck", "in_channels": [8, 12, 16, 20], "out_channels": 6}, PLAIN),
    "mla_norm": (
        {
            "type": "MLANeck",
            "in_channels": [8, 12, 16, 20],
            "out_channels": 6,
            "norm_cfg": BN,
            "act_cfg": {"type": "ReLU"},
        },
        PLAIN,
    ),
    "multilevel": ({"type": "MultiLevelNeck", "in_channels": [8, 12, 16, 20], "out_channels": 6}, PLAIN),
    "multilevel_one": (
        {"type": "MultiLevelNeck", "in_channels": [12], "out_channels": 6, "norm_cfg": BN, "act_cfg": {"type": "ReLU"}},
        PLAIN[1:2],
    ),
}


def _build_part(config: dict[str, Any]) -> torch.nn.Module:
    """As `build`; but necks insist on lists."""
    necks = [neck["type"] for neck, _ in NECKS.values()]
    return MODELS.build(dict(config)) if config["type"] in necks else build(config)


def _figures(name: str, module: torch.nn.Module, shapes: list[list[int]], samples: int) -> tuple[dict, dict]:
    """Run in float64 and float32; describe every output by mean, std and values at seeded places."""
    seed = zlib.crc32(name.encode())
    rng = np.random.default_rng(seed)
    inputs = [torch.from_numpy(rng.normal(0, 1, shape).astype(np.float32)) for shape in shapes]
    fill_module(module).eval()
    is_head = isinstance(module, BaseDecodeHead) or hasattr(module, "kernel_generate_head")
    is_backbone = len(shapes) == 1 and shapes[0][1] == 3

    def run(dtype: torch.dtype) -> list[np.ndarray]:
        values = [value.to(dtype) for value in inputs]
        outputs = module.to(dtype)(values[0] if is_backbone else values)
        if is_head:  # its logits, and of EncNet's head not those of the classes in the image
            outputs = [outputs[0] if isinstance(outputs, tuple) else outputs]
        return [output.numpy() for output in outputs]

    with torch.no_grad():
        coarse, exact = run(torch.float32), run(torch.float64)
    outputs, arrays = [], {}
    for i, (value, rough) in enumerate(zip(exact, coarse, strict=True)):
        places = np.random.default_rng(i).integers(0, value.size, samples)
        arrays[str(i)] = value.reshape(-1)[places]
        error = float(np.abs(value - rough).max() / value.std())
        outputs.append(
            {
                "shape": list(value.shape),
                "mean": value.mean(),
                "std": value.std(),
                "torch_f32_err": error,
            }
        )
    keys = [[key, list(value.shape)] for key, value in entries(module).items()]
    case = {"name": name, "input_seed": seed, "input_shapes": shapes, "outputs": outputs, "keys": keys}
    return case, arrays


def figures(folder: Path, names: Sequence[str] = (), samples: int = 200) -> None:
    """Eval-mode outputs of backbones and heads whose weights are `fill`, a file a case.

    Inputs of a case: `rng = default_rng(input_seed)`, then for each shape in turn `rng.normal(0, 1, shape)`
    as float32. Sampled values of output i:
    `output.reshape(-1)[default_rng(i).integers(0, output.size, samples)]`.
    """
    for part, table in (("backbone", BACKBONES), ("head", HEADS), ("neck", NECKS)):
        for name, (config, shapes) in table.items():
            if not names or name in names:
                case, arrays = _figures(name, _build_part(config), [shapes] if part == "backbone" else shapes, samples)
                meta = {"part": part, "samples": samples, "config": config, **case}
                save_npz(folder / "figures" / f"{name}.npz", meta, arrays)


INITIALISATION: dict[str, dict[str, Any]] = {
    "r18_zero_init_residual": {"type": "ResNet", "depth": 18, "norm_cfg": BN, "zero_init_residual": True},
    "r18_no_zero_init": _resnet(18, zero_init_residual=False),
    "r50_v1c": _resnet(50, "ResNetV1c"),
    "cgnet": BACKBONES["cgnet"][0],
    "ann": HEADS["ann"][0],
    "apc": HEADS["apc"][0],
    "cc": HEADS["cc"][0],
    "da": HEADS["da"][0],
    "dm": HEADS["dm"][0],
    "hrnet": BACKBONES["hrnet_odd"][0],
    "mit": BACKBONES["mit_odd"][0],
    "mobilenet_v2": BACKBONES["mobilenet_v2_odd"][0],
    "mobilenet_v3": BACKBONES["mobilenet_v3_small_odd"][0],
    "resnest": _resnest(groups=2, base_width=32),
    "resnext": BACKBONES["resnext_odd"][0],
    "mscan": BACKBONES["mscan_odd"][0],
    "knet": HEADS["knet"][0],
    "light_ham": _head("LightHamHead", LEVELS, ham_channels=16, norm_cfg={"type": "GN", "num_groups": 4})[0],
    "pcpvt": BACKBONES["pcpvt_odd"][0],
    "svt": BACKBONES["svt_odd"][0],
    "fcn": HEADS["fcn_dilated"][0],
    "fcn_no_convs": HEADS["fcn_no_convs"][0],
    "psp": HEADS["psp"][0],
    "upernet": HEADS["upernet"][0],
    "gc": HEADS["gc_attention"][0],
    "dnl": HEADS["dnl"][0],
    "ema": HEADS["ema"][0],
    "enc": HEADS["enc"][0],
    "isa": HEADS["isa"][0],
    "nl": HEADS["nl"][0],
    "psa": HEADS["psa"][0],
    "nl_concatenation": HEADS["nl_concatenation"][0],
    "segformer": HEADS["segformer"][0],
    "aspp": HEADS["aspp"][0],
    "fast_scnn": BACKBONES["fast_scnn_odd"][0],
    "sep_fcn": HEADS["sep_fcn"][0],
    "segmenter": {**HEADS["segmenter"][0], "embed_dims": 48, "init_std": 0.1},
    "setr_mla": HEADS["setr_mla"][0],
    "setr_up": HEADS["setr_up"][0],
    "sep_aspp_alone": HEADS["sep_aspp_alone"][0],
    "erfnet": BACKBONES["erfnet"][0],
    "unet": BACKBONES["unet_deconv"][0],
    "beit": _vit("BEiT", embed_dims=48, init_values=0.25),
    "mae": _vit("MAE", embed_dims=48, init_values=0.5),
    "vit": _vit(embed_dims=48, patch_bias=True, final_norm=True),
    "feature2pyramid": NECKS["feature2pyramid"][0],
    "mla": NECKS["mla"][0],
    "multilevel": NECKS["multilevel"][0],
    "convnext_v2": BACKBONES["convnext_v2_odd"][0],
    "poolformer": BACKBONES["poolformer"][0],
    "swin": BACKBONES["swin_positions"][0],
}


def initialisation(folder: Path, names: Sequence[str] = (), seeds: int = 5) -> None:
    """Mean, std, smallest and largest value of every entry of the state dict, pooled over the seeds; a file a case."""
    for name, config in INITIALISATION.items():
        if names and name not in names:
            continue
        pooled: dict[str, list[np.ndarray]] = {}
        for seed in range(seeds):
            torch.manual_seed(seed)
            module = _build_part(config)
            if hasattr(module, "init_weights"):
                module.init_weights()
            for key, value in entries(module).items():
                if value.is_floating_point():
                    pooled.setdefault(key, []).append(value.numpy().astype(np.float64))
        params = {}
        for key, values in pooled.items():
            stacked = np.stack(values)
            figures = (stacked.mean(), stacked.std(), stacked.min(), stacked.max())
            mean, std, low, high = (float(f"{figure:.6g}") for figure in figures)
            shape = list(values[0].shape)
            params[key] = {"shape": shape, "mean": mean, "std": std, "min": low, "max": high}
        content = {"name": name, "config": config, "seeds": seeds, "params": params}
        save_json(folder / "initialisation" / f"{name}.json", content)


def points(folder: Path) -> None:
    """What a PointHead draws, loses and refines, given all random numbers; gradients of the sum of the losses.

    Sampled values of the refined logits: `logits.reshape(-1)[default_rng(0).integers(0, logits.size, 1000)]`.
    """
    rng = np.random.default_rng(5)
    shapes = {"map_0": (2, 8, 33, 25), "map_1": (2, 12, 17, 13), "previous": (2, 6, 11, 9)}
    arrays = {name: rng.normal(0, 1, shape) for name, shape in shapes.items()}
    arrays |= {"many": rng.uniform(0, 1, (2, 120, 2)), "rest": rng.uniform(0, 1, (2, 10, 2))}
    labels = rng.integers(0, 6, (2, 47, 61))
    arrays["label"] = np.where(rng.random(labels.shape) < 0.1, IGNORE, labels).astype(np.uint8)
    train_cfg = {"num_points": 40, "oversample_ratio": 3, "importance_sample_ratio": 0.75}
    test_cfg = {"subdivision_steps": 2, "subdivision_num_points": 300, "scale_factor": 2}
    fields = {"type": "PointHead", "in_channels": [8, 12], "in_index": [0, 1], "channels": 16, "num_classes": 6}
    cases = []
    for align_corners in (False, True):
        for each in (True, False):
            config = {**fields, "align_corners": align_corners, "coarse_pred_each_layer": each, "dropout_ratio": 0}
            name = f"refined_{len(cases)}"
            head = fill_module(MODELS.build(dict(config))).double()
            inputs = {key: torch.from_numpy(arrays[key]).requires_grad_() for key in shapes}
            maps = [inputs["map_0"], inputs["map_1"]]
            samples = []
            for label in arrays["label"]:
                sample = SegDataSample()
                sample.gt_sem_seg = PixelData(data=torch.from_numpy(label.astype(np.int64))[None])
                samples.append(sample)
            drawn = [torch.from_numpy(arrays[key]) for key in ("many", "rest")]
            with (
                mock.patch.object(torch, "rand", side_effect=drawn),
                mock.patch.object(torch.Tensor, "float", torch.Tensor.double),
            ):
                found = head.loss(maps, inputs["previous"], samples, ConfigDict(train_cfg))
            sum(value for key, value in found.items() if "loss" in key).backward()
            norms = {key: float(param.grad.norm()) for key, param in head.named_parameters()}
            norms |= {key: float(value.grad.norm()) for key, value in inputs.items()}
            with (
                torch.no_grad(),
                mock.patch.object(torch, "float", torch.float64),
                mock.patch.object(torch.Tensor, "float", torch.Tensor.double),
                mock.patch.object(head, "predict_by_feat", lambda logits, metas: logits),
            ):
                refined = head.predict(maps, inputs["previous"], [], ConfigDict(test_cfg)).numpy()
            places = np.random.default_rng(0).integers(0, refined.size, 1000)
            arrays[name] = refined.reshape(-1)[places]
            keys = [[key, list(value.shape)] for key, value in head.state_dict().items()]
            values = {key: float(value) for key, value in found.items()}
            cases.append({"config": config, "keys": keys, "losses": values, "grad_norms": norms})
    save_npz(folder / "points.npz", {"train_cfg": train_cfg, "test_cfg": test_cfg, "cases": cases}, arrays)


SAN: dict[str, Any] = {
    "type": "MultimodalEncoderDecoder",
    "encoder_resolution": 0.5,
    "image_encoder": {
        "type": "VisionTransformer",
        "img_size": [32, 48],
        "patch_pad": 0,
        "embed_dims": 8,
        "num_layers": 3,
        "num_heads": 2,
        "out_origin": True,
        "out_indices": [0, 1, 2],
        "output_cls_token": True,
        "pre_norm": True,
        "act_cfg": {"type": "QuickGELU"},
        "frozen_exclude": ["pos_embed"],
    },
    "text_encoder": {
        "type": "CLIPTextEncoder",
        "vocabulary": ["wall-other", "potted plant", "TV's", "caf\u00e9 No. 42", "road"],
        "embed_dims": 8,
        "num_layers": 2,
        "num_heads": 2,
        "output_dims": 6,
        "norm_cfg": {"type": "LN", "eps": 1e-5},
    },
    "decode_head": {
        "type": "SideAdapterCLIPHead",
        "num_classes": 5,
        "deep_supervision_idxs": [3],
        "san_cfg": {
            "in_channels": 3,
            "clip_channels": 8,
            "embed_dims": 12,
            "num_queries": 7,
            "cfg_encoder": {"num_encode_layer": 4, "num_heads": 3, "mlp_ratio": 2},
            "cfg_decoder": {
                "num_heads": 2,
                "num_layers": 1,
                "embed_channels": 5,
                "mlp_channels": 9,
                "num_mlp": 3,
                "rescale": True,
            },
            "norm_cfg": {"type": "LN", "eps": 1e-6},
        },
        "maskgen_cfg": {
            "sos_token_num": 7,
            "num_layers": 2,
            "embed_dims": 8,
            "num_heads": 2,
            "out_dims": 6,
            "act_cfg": {"type": "QuickGELU"},
            "norm_cfg": {"type": "LN", "eps": 1e-5},
        },
        "train_cfg": {
            "num_points": 40,
            "oversample_ratio": 3.0,
            "importance_sample_ratio": 0.75,
            "assigner": {
                "type": "HungarianAssigner",
                "match_costs": [
                    {"type": "ClassificationCost", "weight": 2.0},
                    {"type": "CrossEntropyLossCost", "weight": 5.0, "use_sigmoid": True},
                    {"type": "DiceCost", "weight": 5.0, "pred_act": True, "eps": 1.0},
                ],
            },
        },
        "loss_decode": [
            {
                "type": "CrossEntropyLoss",
                "loss_name": "loss_cls_ce",
                "loss_weight": 2.0,
                "class_weight": [1.0, 1.0, 1.0, 1.0, 1.0, 0.1],
            },
            {"type": "CrossEntropyLoss", "use_sigmoid": True, "loss_name": "loss_mask_ce", "loss_weight": 5.0},
            {
                "type": "DiceLoss",
                "ignore_index": None,
                "naive_dice": True,
                "eps": 1,
                "loss_name": "loss_mask_dice",
                "loss_weight": 5.0,
            },
        ],
    },
    "test_cfg": {"mode": "whole"},
}
TEXTS = [
    "Hello,  World!! it's 2 o'clock -- they'll   we've don't",
    "a &amp;amp; b &lt;c&gt; under_score-dash/slash",
    "x\u00b2 \u00bd Stra\u00dfe \u6f22\u5b57 \U0001f600",
    "word " * 100,
    "",
]


def text(folder: Path) -> None:
    """Tokens of texts; and CLIP's table of merges, without those that the tests don't need (empty lines)."""
    encoder, used = tokenizer._tokenizer, set()

    class Recorder(dict):
        def __contains__(self, pair: object) -> bool:
            found = super().__contains__(pair)
            return bool(found) and not used.add(pair)

    ranks, encoder.bpe_ranks = encoder.bpe_ranks, Recorder(encoder.bpe_ranks)
    encoder.cache.clear()
    names = [*get_classes("coco-stuff164k"), *SAN["text_encoder"]["vocabulary"]]
    templates = [template for set_name in ("imagenet", "vild") for template in get_predefined_templates(set_name)]
    tokenizer.tokenize([*names, *(template.format("x") for template in templates)])
    tokens = tokenizer.tokenize([*TEXTS, *names]).numpy().astype(np.int32)
    lines = [" ".join(pair) if pair in used else "" for pair in ranks]
    table = gzip.compress("\n".join(["#version: 0.2", *lines, ""]).encode(), mtime=0)
    (folder / "clip_merges.txt.gz").write_bytes(table)
    save_npz(folder / "text.npz", {"texts": [*TEXTS, *names]}, {"tokens": tokens})


def san(folder: Path) -> None:
    """A small SAN: scores, losses and norms of gradients; random points are the first of a sequence, each time.

    Sampled values of the scores: `scores.reshape(-1)[default_rng(0).integers(0, scores.size, 1000)]`.
    """
    config = json.loads(json.dumps(SAN))
    model = MODELS.build(ConfigDict(config))
    fill_module(model).double()
    shape = (2, 3, 80, 112)
    rng = np.random.default_rng(3)
    images = torch.from_numpy(rng.normal(0, 1, shape).astype(np.float32)).double()
    labels = np.repeat(np.repeat(rng.integers(0, 5, (2, 5, 7)), 16, 1), 16, 2)
    labels[0][labels[0] == 2] = IGNORE
    samples = []
    for label in labels:
        sample = SegDataSample()
        sample.gt_sem_seg = PixelData(data=torch.from_numpy(label.astype(np.int64))[None])
        samples.append(sample)

    def rand(*size: Any, **_: Any) -> torch.Tensor:
        shape = size[0] if len(size) == 1 else size
        steps = np.arange(1, shape[-2] + 1)[:, None] * np.array([0.7548776662466927, 0.5698402909980532])
        return torch.from_numpy(np.broadcast_to(np.modf(0.5 + steps)[0], tuple(shape)).copy())

    keys = [[key, list(value.shape)] for key, value in model.state_dict().items()]
    with torch.no_grad():
        scores = model.eval().encode_decode(images, [{"img_shape": shape[2:]}]).numpy()
        embeddings = model.text_encoder().numpy()
    with (
        mock.patch.object(torch, "rand", rand),
        mock.patch.object(torch, "float", torch.float64),
        mock.patch.object(torch.Tensor, "float", torch.Tensor.double),
    ):
        found = model.train().loss(images, samples)
    sum(found.values()).backward()
    meta = {
        "config": SAN,
        "keys": keys,
        "input_shape": shape,
        "input_seed": 3,
        "losses": {key: float(value) for key, value in found.items()},
        "grad_norms": {key: float(p.grad.norm()) for key, p in model.named_parameters() if p.requires_grad},
    }
    places = np.random.default_rng(0).integers(0, scores.size, 1000)
    arrays = {"scores": scores.reshape(-1)[places], "embeddings": embeddings, "label": labels.astype(np.uint8)}
    save_npz(folder / "san.npz", meta, arrays)


FIXTURES: dict[str, Callable[..., None]] = {
    function.__name__: function
    for function in (losses, one_loss, schedules, optimizers, metrics, figures, initialisation, points, san, text)
}

FOLDERS = ("figures", "initialisation", "one_loss")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help=f"which to write, of {', '.join(FIXTURES)}; default: all")
    parser.add_argument("--case", action="append", default=[], help=f"of {', '.join(FOLDERS)}; default: all")
    parser.add_argument("--out", type=Path, default=Path("tests/fixtures"))
    args = parser.parse_args()
    unknown = set(args.names) - set(FIXTURES)
    if unknown:
        parser.error(f"unknown fixture {', '.join(sorted(unknown))}; known are {', '.join(FIXTURES)}")
    warnings.simplefilter("ignore")
    init_default_scope("mmseg")  # where UNet looks for its parts
    MMLogger.get_instance("fixtures", log_level=logging.CRITICAL)
    args.out.mkdir(parents=True, exist_ok=True)
    for name in args.names or FIXTURES:
        if name in FOLDERS:
            (args.out / name).mkdir(exist_ok=True)
            FIXTURES[name](args.out, args.case)
        else:
            FIXTURES[name](args.out)
        print("wrote", name)


if __name__ == "__main__":
    main()
