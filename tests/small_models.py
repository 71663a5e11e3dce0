"""Models that are small enough to be compiled many times."""

from collections.abc import Iterable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from jaxseg.models import HEADS
from jaxseg.models.layers.conv_module import ConvModule
from reference import FIXTURES, load_npz

CLASSES = 5
# CLIP's table of merges, as far as the tests' classes need it.
MERGES = FIXTURES / "clip_merges.txt.gz"


class Pyramid(nn.Module):
    """A backbone of four strided convolutions: maps of strides 4 to 32 with 4, 8, 16 and 32 channels."""

    @nn.compact
    def __call__(self, x, train=False):
        outputs = []
        for i, channels in enumerate((4, 8, 16, 32)):
            block = ConvModule(channels, 3, 2, 1, norm_cfg={"type": "BN"}, act_cfg={"type": "ReLU"}, name=f"layer{i}")
            x = block(x[:, ::2, ::2] if i == 0 else x, train)
            outputs.append(x)
        return tuple(outputs)


def model_config(decode_head: Mapping[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    """An EncoderDecoder on `Pyramid`, with an FCN head unless another one is given."""
    head = decode_head or head_config("FCNHead", in_channels=16, in_index=2, num_convs=1)
    return {"type": "EncoderDecoder", "backbone": {"type": Pyramid}, "decode_head": head, **fields}


def head_config(kind: str, **fields: Any) -> dict[str, Any]:
    defaults = {"in_channels": 32, "in_index": 3, "channels": 8, "num_classes": CLASSES, "norm_cfg": {"type": "BN"}}
    if kind in MASK_HEADS:
        return {"type": kind, **MASK_HEADS[kind], **fields}
    known = HEADS[kind].__dataclass_fields__ if kind in HEADS else defaults
    return {"type": kind, **{name: value for name, value in defaults.items() if name in known}, **fields}


def _mask_head(pixel_decoder: Mapping[str, Any], mask: str, cost: Mapping[str, Any], **fields: Any) -> dict[str, Any]:
    """A head of queries, whose fields are others than those of most."""
    attention, ffn = {"embed_dims": 8, "num_heads": 2}, {"feedforward_channels": 12}
    layer = {"self_attn_cfg": attention, "cross_attn_cfg": attention, "ffn_cfg": ffn}
    costs = ({"type": "mmdet.ClassificationCost"}, cost, {"type": "mmdet.DiceCost", "pred_act": True})
    return {
        "in_channels": (4, 8, 16, 32),
        "feat_channels": 8,
        "out_channels": 8,
        "num_classes": CLASSES,
        "num_queries": 20,
        "pixel_decoder": {"norm_cfg": {"type": "GN", "num_groups": 2}, **pixel_decoder},
        "positional_encoding": {"num_feats": 4, "normalize": True},
        "transformer_decoder": {"num_layers": 2, "layer_cfg": layer},
        "loss_mask": {"type": mask, "use_sigmoid": True},
        "train_cfg": {"assigner": {"match_costs": costs}, **fields},
    }


_PLACES = {"embed_dims": 8, "num_heads": 2, "num_levels": 3, "num_points": 2}
MASK_HEADS = {
    "MaskFormerHead": _mask_head(
        {"type": "mmdet.PixelDecoder"},
        "mmdet.FocalLoss",
        {"type": "mmdet.FocalLossCost", "binary_input": True},
    ),
    "Mask2FormerHead": _mask_head(
        {
            "type": "mmdet.MSDeformAttnPixelDecoder",
            "encoder": {"num_layers": 1, "layer_cfg": {"self_attn_cfg": _PLACES, "ffn_cfg": {}}},
            "positional_encoding": {"num_feats": 4, "normalize": True},
        },
        "mmdet.CrossEntropyLoss",
        {"type": "mmdet.CrossEntropyLossCost"},
        num_points=50,
    ),
}


def random_variables(module: nn.Module, *inputs: Any, seed: int = 0, initial: bool = False) -> dict[str, Any]:
    """Variables that no symmetry or zero makes special; `initial`: as most modules begin."""
    shapes = flatten_dict(jax.eval_shape(module.init, jax.random.key(0), *inputs))
    rng = np.random.default_rng(seed)

    def draw(name, shape):
        if name == "kernel":
            fan = np.prod(shape[:-2]) * shape[-1] if initial else np.prod(shape[:-1])
            return rng.normal(0, (2 / fan) ** 0.5, shape)
        if initial:
            return np.full(shape, name in ("scale", "var"))
        if name in ("scale", "var"):
            return rng.uniform(0.5, 1.5, shape)
        return rng.normal(0, 0.1, shape)

    variables = {p: jnp.asarray(draw(p[-1], leaf.shape), leaf.dtype) for p, leaf in shapes.items()}
    return {"batch_stats": {}} | unflatten_dict(variables)


def random_batch(shape: tuple[int, int, int], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Normalised images [b h w 3], and labels [b h w] of which some are ignored."""
    rng = np.random.default_rng(seed)
    labels = np.where(rng.random(shape) < 0.1, 255, rng.integers(0, CLASSES, shape))
    return rng.normal(0, 1, (*shape, 3)).astype(np.float32), labels.astype(np.uint8)


def a_third(names: Iterable[str]) -> list[Any]:
    """Names as parameters of a test: every third is in every run, the others are slow."""
    return [name if i % 3 == 0 else pytest.param(name, marks=pytest.mark.slow) for i, name in enumerate(names)]


def relative_error(found: Any, expected: Any) -> float:
    """Norm of the difference of two arrays, relative to that of the second."""
    found, expected = (np.asarray(array, np.float64) for array in (found, expected))
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def san_config(**fields: Any) -> dict[str, Any]:
    """A SAN, whose classes have names."""
    meta, _ = load_npz(FIXTURES / "san.npz")
    return {**meta["config"], **fields}
