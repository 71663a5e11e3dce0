"""Figures of PointRend's head."""

from pathlib import Path
from unittest import mock

import numpy as np
import torch
from mmengine.config import ConfigDict
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

from reference_fixtures.common import IGNORE, fill_module, save_npz


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
