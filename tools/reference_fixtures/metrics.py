"""Figures of scores."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmseg.evaluation.metrics import IoUMetric

from reference_fixtures.common import IGNORE, save_npz


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
