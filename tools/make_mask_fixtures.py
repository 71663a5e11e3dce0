r"""Write the figures of MMSegmentation's MaskFormer and Mask2Former heads that the tests compare with.

Runs in the environment of make_reference_fixtures.py, with MMDetection 3.3.0 besides, whose heads these are::

    pip install mmdet==3.3.0 --no-deps
    python tools/make_mask_fixtures.py --out tests/fixtures

What runs is the reference's code as it is: the head of mmseg on that of mmdet, its pixel decoder, its assigner
(SciPy's) and its losses, in float64. Of what is not installed, nothing is called: packages that mmdet imports are
stood in for, and deformable attention takes mmcv's form without compiled operators. Random points are `sequence`.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import reference_environment
import torch

# isort: split
from mmcv.ops.multi_scale_deform_attn import multi_scale_deformable_attn_pytorch
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.models.decode_heads.mask2former_head import Mask2FormerHead
from mmseg.models.decode_heads.maskformer_head import MaskFormerHead
from mmseg.structures import SegDataSample
from reference_fixtures import common, figures

reference_environment.without_operators()

HEADS = {"MaskFormerHead": MaskFormerHead, "Mask2FormerHead": Mask2FormerHead}
CLASSES = 5
CHANNELS = (6, 8, 12, 20)
SIZES = ((17, 25), (9, 13), (5, 7), (3, 4))
IMAGE = (67, 98)
GN = {"type": "GN", "num_groups": 4}
ATTENTION = {"embed_dims": 16, "num_heads": 4, "attn_drop": 0.0, "proj_drop": 0.0, "dropout_layer": None}
ATTENTION |= {"batch_first": True}
FFN = {"embed_dims": 16, "feedforward_channels": 24, "num_fcs": 2, "act_cfg": {"type": "ReLU"}, "ffn_drop": 0.0}
POSITIONS = {"num_feats": 8, "normalize": True}
DICE = {"type": "mmdet.DiceLoss", "use_sigmoid": True, "activate": True, "naive_dice": True, "eps": 1.0}


def head(kind: str, pixel_decoder: dict, mask: dict, mask_cost: dict, weights: Sequence[float], **more: Any) -> dict:
    """The config of a small head."""
    layer = {"self_attn_cfg": ATTENTION, "cross_attn_cfg": ATTENTION, "ffn_cfg": FFN}
    costs = [
        {"type": "mmdet.ClassificationCost", "weight": weights[0]},
        {**mask_cost, "weight": weights[1]},
        {"type": "mmdet.DiceCost", "weight": weights[2], "pred_act": True, "eps": 1.0},
    ]
    matching = {"assigner": {"type": "mmdet.HungarianAssigner", "match_costs": costs}}
    matching["sampler"] = {"type": "mmdet.MaskPseudoSampler"}
    return {
        "type": kind,
        "in_channels": CHANNELS,
        "feat_channels": 16,
        "out_channels": 16,
        "num_classes": CLASSES,
        "num_queries": 7,
        "pixel_decoder": {"norm_cfg": GN, "act_cfg": {"type": "ReLU"}, **pixel_decoder},
        "positional_encoding": POSITIONS,
        "transformer_decoder": {"num_layers": 3, "layer_cfg": layer},
        "loss_cls": {
            "type": "mmdet.CrossEntropyLoss",
            "loss_weight": weights[0],
            "class_weight": [1.0, 0.5, 2.0, 1.5, 1.0, 0.1],
        },
        "loss_mask": {**mask, "use_sigmoid": True, "loss_weight": weights[1]},
        "loss_dice": {**DICE, "loss_weight": weights[2]},
        "train_cfg": matching | more.pop("train_cfg", {}),
        **more,
    }


FOCAL = (
    {"type": "mmdet.FocalLoss", "gamma": 2.0, "alpha": 0.25},
    {"type": "mmdet.FocalLossCost", "binary_input": True},
)
ENTROPY = ({"type": "mmdet.CrossEntropyLoss"}, {"type": "mmdet.CrossEntropyLossCost", "use_sigmoid": True})
ENCODER = {"num_layers": 2, "layer_cfg": {"self_attn_cfg": ATTENTION, "ffn_cfg": FFN}}
PLACES = {"embed_dims": 16, "num_heads": 4, "num_levels": 3, "num_points": 2, "dropout": 0.0, "batch_first": True}
CASES = {
    "maskformer": head("MaskFormerHead", {"type": "mmdet.PixelDecoder"}, *FOCAL, (1.0, 20.0, 1.0)),
    "maskformer_encoder": head(
        "MaskFormerHead",
        {"type": "mmdet.TransformerEncoderPixelDecoder", "encoder": ENCODER, "positional_encoding": POSITIONS},
        *FOCAL,
        (1.0, 20.0, 1.0),
    ),
    "mask2former": head(
        "Mask2FormerHead",
        {
            "type": "mmdet.MSDeformAttnPixelDecoder",
            "num_outs": 3,
            "encoder": {"num_layers": 2, "layer_cfg": {"self_attn_cfg": PLACES, "ffn_cfg": FFN}},
            "positional_encoding": POSITIONS,
        },
        *ENTROPY,
        (2.0, 5.0, 5.0),
        train_cfg={"num_points": 60, "oversample_ratio": 3.0, "importance_sample_ratio": 0.75},
    ),
}


def build(config: dict[str, Any]) -> torch.nn.Module:
    """The head of a config."""
    fields = ConfigDict(common.tuples({key: value for key, value in config.items() if key != "type"}))
    return HEADS[config["type"]](**fields)


def sequence(*shape: Any, **options: Any) -> torch.Tensor:
    """Points that are spread evenly, in place of random ones; the same for every map."""
    shape = tuple(shape[0]) if len(shape) == 1 and not isinstance(shape[0], int) else shape
    points = np.modf(0.5 + np.arange(1, shape[-2] + 1)[:, None] * np.array([0.7548776662466927, 0.5698402909980532]))[0]
    return torch.from_numpy(np.broadcast_to(points, shape).copy())


def inputs() -> tuple[list[torch.Tensor], np.ndarray]:
    """Maps of two images, and labels: four classes and ignored pixels in one, only ignored ones in the other's half."""
    rng = np.random.default_rng(3)
    maps = [torch.from_numpy(rng.normal(0, 1, (3, c, *size))) for c, size in zip(CHANNELS, SIZES, strict=True)]
    coarse = rng.integers(0, CLASSES, (3, 5, 7))
    coarse[1] = np.where(coarse[1] < 3, 2, 4)
    labels = coarse.repeat(14, 1).repeat(14, 2)[:, : IMAGE[0], : IMAGE[1]]
    labels = np.where(rng.random(labels.shape) < 0.1, 255, labels)
    labels[2] = 255
    return [x.requires_grad_() for x in maps], labels.astype(np.uint8)


def case_figures(config: dict[str, Any]) -> dict[str, Any]:
    """Losses of every layer, and the norms of the gradients of their sum."""
    module = common.fill_module(build(config)).double()
    maps, labels = inputs()
    samples = []
    for label in labels:
        sample = SegDataSample(metainfo={"img_shape": IMAGE})
        sample.gt_sem_seg = PixelData(data=torch.from_numpy(label.astype(np.int64))[None])
        samples.append(sample)
    with (
        mock.patch.object(torch, "rand", sequence),
        mock.patch.object(torch.Tensor, "float", torch.Tensor.double),
    ):
        found = module.loss(maps, samples, None)
    sum(found.values()).backward()
    norms = {key: float(param.grad.norm()) for key, param in module.named_parameters()}
    norms |= {f"map_{i}": float(x.grad.norm()) for i, x in enumerate(maps)}
    with torch.no_grad(), mock.patch.object(torch.Tensor, "float", torch.Tensor.double):
        scores = module.predict(maps, [sample.metainfo for sample in samples], None).numpy()
    return {
        "config": config,
        "keys": [[key, list(value.shape)] for key, value in module.state_dict().items()],
        "losses": {key: float(value.detach()) for key, value in found.items()},
        "grad_norms": norms,
        "scores": [float(scores.mean()), float(scores.std()), *scores.reshape(-1)[:: scores.size // 50].tolist()],
    }


def attention() -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Deformable attention by itself: the result, and the gradients of its product with `cotangent`."""
    rng = np.random.default_rng(4)
    sizes, (batch, queries, heads, channels, points) = [(5, 7), (3, 4), (2, 1)], (2, 6, 3, 4, 2)
    count = sum(h * w for h, w in sizes)
    arrays = {
        "values": rng.normal(0, 1, (batch, count, heads, channels)),
        "places": rng.uniform(-0.3, 1.3, (batch, queries, heads, len(sizes), points, 2)),
        "weights": rng.uniform(0, 1, (batch, queries, heads, len(sizes), points)),
        "cotangent": rng.normal(0, 1, (batch, queries, heads * channels)),
    }
    tensors = {name: torch.from_numpy(array).requires_grad_() for name, array in arrays.items()}
    result = multi_scale_deformable_attn_pytorch(
        tensors["values"], torch.tensor(sizes), tensors["places"], tensors["weights"]
    )
    (result * tensors["cotangent"]).sum().backward()
    arrays["result"] = result.detach().numpy()
    arrays |= {f"grad_{name}": tensors[name].grad.numpy() for name in ("values", "places", "weights")}
    return {"sizes": sizes}, arrays


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("tests/fixtures"))
    args = parser.parse_args()
    init_default_scope("mmseg")
    _, labels = inputs()
    meta = {"sizes": SIZES, "cases": {name: case_figures(config) for name, config in CASES.items()}}
    common.save_npz(args.out / "masks.npz", meta, {"label": labels})
    common.save_npz(args.out / "deformable_attention.npz", *attention())
    with mock.patch.object(figures, "_build_part", build), mock.patch.object(figures, "INITIALISATION", CASES):
        figures.initialisation(args.out)


if __name__ == "__main__":
    main()
