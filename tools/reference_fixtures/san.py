"""Figures of SAN, and of the texts that it classifies by."""

import gzip
import json
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from mmengine.config import ConfigDict
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from mmseg.utils import get_classes, get_predefined_templates, tokenizer

from reference_fixtures.common import IGNORE, fill_module, save_npz

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
