"""Figures of schedules and optimizers."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from mmengine.registry import PARAM_SCHEDULERS

from reference_fixtures.common import BN, build, save_json

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
