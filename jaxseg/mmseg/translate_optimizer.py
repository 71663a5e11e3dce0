"""Optimizer and schedule of an MMSegmentation config, as `config.optimizer` and `config.schedule`."""

import math
from typing import Any

from jaxseg.engine.optim import CLIP_FIELDS, LAYER_RULES, OPTIMIZERS, RULES
from jaxseg.engine.schedules import PIECES, WARMUP, build_schedule
from jaxseg.errors import ConfigError, did_you_mean
from jaxseg.mmseg.fields import Fields, is_number

PYTORCH = ("SGD", "Adam", "AdamW")  # the optimizers that do what PyTorch's of that name does
ENDLESS = 10**9  # the reference's `end` of a piece of the schedule that has none
CONSTRUCTORS = (
    "DefaultOptimWrapperConstructor",
    "LearningRateDecayOptimizerConstructor",
    "LayerDecayOptimizerConstructor",
)
# Fields of PyTorch's optimizers that have this value only here.
OPTIMIZER_CONSTANTS = {"dampening": 0, "amsgrad": False, "maximize": False}


def translate_optimizer(fields: Fields) -> tuple[dict[str, Any], bool]:
    """`config.optimizer` of `optim_wrapper`, and whether precision is mixed.

    Raises:
        ConfigError: A field has no counterpart; names it.
    """
    kind = fields.text("type", "OptimWrapper")
    if kind == "AmpOptimWrapper":
        fields.ignore("mixed precision is bfloat16 here, which needs no loss scale", "loss_scale", "dtype")
    elif kind != "OptimWrapper":
        raise ConfigError(
            f"{fields.name('type')}={kind!r} has no counterpart here; OptimWrapper and AmpOptimWrapper have"
        )
    constructor = fields.text("constructor", None) or CONSTRUCTORS[0]
    if constructor not in CONSTRUCTORS:
        raise ConfigError(
            f"{fields.name('constructor')}={constructor!r} has no counterpart here. "
            f"{did_you_mean(constructor, CONSTRUCTORS)}"
        )
    optimizer = _rule(fields.section("optimizer"))
    section = fields.section("paramwise_cfg", None)
    paramwise = _paramwise(section) if constructor == CONSTRUCTORS[0] else _by_layer(section, constructor)
    if (counts := fields.whole("accumulative_counts", 1)) != 1:
        optimizer["accumulative_counts"] = counts
    if "weight_decay" not in optimizer and optimizer["type"] == "AdamW":
        if paramwise is not None:  # its factors have nothing to multiply in the reference
            raise ConfigError(f"{fields.name('optimizer.weight_decay')} is missing")
        optimizer["weight_decay"] = 0.01  # PyTorch's default
    clip = fields.take("clip_grad", None)
    if clip is not None:
        section = Fields(clip, fields.name("clip_grad"), fields.ignored)
        clip = _clip(section)
    fields.done(("type", "optimizer", "paramwise_cfg", "clip_grad", "constructor", "accumulative_counts"))
    return optimizer | {"paramwise_cfg": paramwise, "clip_grad": clip}, kind == "AmpOptimWrapper"


def _clip(fields: Fields) -> dict[str, Any]:
    """`clip_grad`, by norm or by value."""
    kind = fields.text("type", "norm")
    if kind not in CLIP_FIELDS:
        raise ConfigError(f"{fields.name('type')}={kind!r} is not known. {did_you_mean(kind, CLIP_FIELDS)}")
    if kind == "value":
        clip = {"type": "value", "clip_value": fields.number("clip_value")}
        fields.done(CLIP_FIELDS["value"])
        return clip
    norm = {"norm_type": fields.take("norm_type")} if "norm_type" in fields else {}
    if norm and norm["norm_type"] not in (1, 2, math.inf, "inf"):
        raise ConfigError(f"{fields.name('norm_type')}={norm['norm_type']!r} is not one of 1, 2, inf")
    clip = {"max_norm": fields.number("max_norm")} | norm
    fields.done(CLIP_FIELDS["norm"])
    return clip


def _rule(fields: Fields) -> dict[str, Any]:
    """The optimizer itself."""
    kind = fields.text("type")
    if kind not in PYTORCH:
        raise ConfigError(f"{fields.name('type')}={kind!r} has no equal here. {did_you_mean(kind, PYTORCH)}")
    optimizer = {"type": kind, "lr": fields.number("lr")}
    if (decay := fields.number("weight_decay", None)) is not None:
        optimizer["weight_decay"] = decay
    for name, default in OPTIMIZERS[kind].items():
        read = {bool: fields.flag, float: fields.number, tuple: fields.items}[type(default)]
        if name in fields:
            optimizer[name] = read(name)
            if isinstance(default, tuple) and (len(optimizer[name]) != 2 or not all(map(is_number, optimizer[name]))):
                raise ConfigError(f"{fields.name(name)}={optimizer[name]!r} must be two numbers")
    for name, value in OPTIMIZER_CONSTANTS.items():
        fields.expect(name, value)
    fields.done((*OPTIMIZERS[kind], "lr", "weight_decay"))
    return optimizer


def _paramwise(fields: Fields) -> dict[str, Any] | None:
    """Factors of the rate and the decay by parameter."""
    if not fields:
        return None
    fields.ignore("no parameter is there twice", "bypass_duplicate")
    rules: dict[str, Any] = {}
    if "custom_keys" in fields:
        keys, custom = fields.section("custom_keys", None), {}
        for key, value in keys.rest().items():
            section = Fields(value, keys.name(key), fields.ignored)
            # In names, "_" stands for "." here.
            custom[key.replace(".", "_")] = {
                name: section.number(name) for name in ("lr_mult", "decay_mult") if name in section
            }
            section.ignore("the reference does not read it, but decay_mult", "wd_mult")
            section.done(("lr_mult", "decay_mult"))
        rules["custom_keys"] = custom
    rules |= {name: fields.number(name) for name in RULES if name in fields}
    fields.done(RULES)
    return rules


def _by_layer(fields: Fields, constructor: str) -> dict[str, Any]:
    """What `layer_decay` needs; the older constructor names the rate otherwise, and has no other kind."""
    older = constructor == CONSTRUCTORS[2]
    rules = {
        "num_layers": fields.whole("num_layers"),
        "decay_rate": fields.number("layer_decay_rate" if older else "decay_rate"),
    }
    if older:
        fields.ignore("this constructor has one kind of decay", "decay_type")
    rules["decay_type"] = "layer_wise" if older else fields.text("decay_type", "layer_wise")
    fields.done(LAYER_RULES)
    return rules


# Fields of pieces that may be something else than numbers.
_NOT_NUMBERS = {
    "mode": str,
    "anneal_strategy": str,
    "three_phase": bool,
    "eta_min": type(None),
    "total_steps": type(None),
}


def translate_schedule(pieces: list[Fields], total_steps: int) -> tuple[dict[str, Any], ...]:
    """`config.schedule` of `param_scheduler`.

    Raises:
        ConfigError: A field has no counterpart; names it.
    """
    translated = []
    for fields in pieces:
        kind = fields.text("type")
        if kind not in (*PIECES, WARMUP):
            raise ConfigError(f"{fields.name('type')}={kind!r} is not known. {did_you_mean(kind, PIECES)}")
        if fields.flag("by_epoch", True):
            raise ConfigError(f"{fields.name('by_epoch')}=True has no counterpart here: runs are counted in steps")
        fields.ignore("logs have the rate", "verbose")
        fields.expect("last_step", -1)
        fields.expect("convert_to_iter_based", False)
        piece = {"type": kind}
        end = fields.number("end", None)
        end = ENDLESS if end is None or end > ENDLESS else int(end)
        for name, value in fields.rest().items():
            other = name in _NOT_NUMBERS and isinstance(value, _NOT_NUMBERS[name])
            if not other and not all(map(is_number, value if isinstance(value, tuple) else (value,))):
                raise ConfigError(f"{fields.name(name)}={value!r} must be a number")
            if name in ("factor", "start_factor") and not 0 < value <= 1:
                raise ConfigError(f"{fields.name(name)}={value!r} must be above 0, at most 1")
            piece[name] = value
        # Up to the end of the run, however long that is made, unless the curve depends on it.
        curve = kind.removesuffix("LR").removesuffix("Momentum")
        if kind == "OneCycleLR" and "eta_max" not in piece:
            raise ConfigError(f"{fields.name('eta_max')} is missing")
        period = {"CosineAnnealing": "T_max", "OneCycle": "total_steps"}.get(curve)
        lasts = curve in ("Poly", "Linear", "Constant") or (period is not None and piece.get(period) is None)
        if end != total_steps and (lasts or end != ENDLESS):
            piece["end"] = end
        try:
            build_schedule([piece], 1)
        except (TypeError, ValueError, ArithmeticError) as error:
            raise ConfigError(f"{fields.where}: {error}") from error
        translated.append(piece)
    return tuple(translated)
