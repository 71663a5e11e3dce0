"""Figures of losses, of the sampler of hard pixels and of the accuracy."""

import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from mmseg.models.losses import CrossEntropyLoss, FocalLoss, accuracy
from mmseg.models.losses.focal_loss import py_sigmoid_focal_loss
from mmseg.registry import MODELS
from mmseg.structures.sampler import OHEMPixelSampler

from reference_fixtures.common import IGNORE, save_npz


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
