"""Figures of backbones, heads and necks: what they compute, and their initial weights."""

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.registry import MODELS

from reference_fixtures.common import BN, build, entries, fill_module, save_json, save_npz
from reference_fixtures.parts import BACKBONES, HEADS, LEVELS, NECKS, head_case, resnest, resnet, vit


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
    "r18_no_zero_init": resnet(18, zero_init_residual=False),
    "r50_v1c": resnet(50, "ResNetV1c"),
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
    "resnest": resnest(groups=2, base_width=32),
    "resnext": BACKBONES["resnext_odd"][0],
    "mscan": BACKBONES["mscan_odd"][0],
    "knet": HEADS["knet"][0],
    "light_ham": head_case("LightHamHead", LEVELS, ham_channels=16, norm_cfg={"type": "GN", "num_groups": 4})[0],
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
    "beit": vit("BEiT", embed_dims=48, init_values=0.25),
    "mae": vit("MAE", embed_dims=48, init_values=0.5),
    "vit": vit(embed_dims=48, patch_bias=True, final_norm=True),
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
