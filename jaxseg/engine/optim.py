"""Optimizers, built from the config, with settings by parameter."""

import fnmatch
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array

from jaxseg.engine.layer_decay import rate_factor
from jaxseg.engine.schedules import build_schedule
from jaxseg.errors import ConfigError, did_you_mean
from jaxseg.models import build_model
from jaxseg.models.names import dotted_name, encoder, reference_name
from jaxseg.models.registry import Config, plain

# Fields of each optimizer and their defaults, in PyTorch's meaning where PyTorch has it. Others go by optax's names.
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "SGD": {"momentum": 0.0, "nesterov": False},
    "Adam": {"betas": (0.9, 0.999), "eps": 1e-8},
    "AdamW": {"betas": (0.9, 0.999), "eps": 1e-8},
    "LAMB": {"betas": (0.9, 0.999), "eps": 1e-6},
    "Adafactor": {"decay_rate": 0.8, "clipping_threshold": 1.0, "min_dim_size_to_factor": 128, "momentum": None},
    "Lion": {"betas": (0.9, 0.99)},
}
# Fields that all have, and their defaults.
COMMON_FIELDS = {
    "weight_decay": 0.0,
    "paramwise_cfg": None,
    "clip_grad": None,
    "accumulative_counts": 1,
    "freeze": (),
}
CLIP_FIELDS = {"norm": ("max_norm", "norm_type"), "value": ("clip_value",)}
# Of optax's optimizers: what is given by other fields here, and those that need more than gradients.
_OURS = ("learning_rate", "weight_decay", "weight_decay_mask", "weight_decay_rate", "mask")
_NEED_MORE = ("lbfgs", "noisy_sgd")
# Of `paramwise_cfg`: what decays by layers has no other rules.
LAYER_RULES = ("num_layers", "decay_rate", "decay_type")
RULES = (
    "custom_keys",
    "bias_lr_mult",
    "bias_decay_mult",
    "norm_decay_mult",
    "dwconv_decay_mult",
    "flat_decay_mult",
)


class ParameterSettings(NamedTuple):
    """Base learning rate and weight decay of one parameter, and whether it is trained at all."""

    lr: float
    weight_decay: float
    trained: bool = True


def build_optimizer(config: Config, params: Any) -> optax.GradientTransformation:
    """Builds the optimizer of a recipe.

    Args:
        config: A whole recipe. `config.optimizer` holds `type` (a key of OPTIMIZERS, or the name of any other of
            optax's, such as "adabelief") and its fields, `lr`, `weight_decay` (in SGD and Adam coupled: added to the
            gradient; else decoupled), `paramwise_cfg` and `freeze` (see `parameter_settings`), `clip_grad`
            ({"max_norm": ...}: of the global norm, of `norm_type` 1, 2 (the default) or inf; or {"type": "value",
            "clip_value": ...}; or None) and `accumulative_counts` (steps whose gradients are averaged for one update,
            at the rate of the last of them); `config.schedule` the pieces of the learning rate and the momentum over
            `config.total_steps`, those by epoch of `config.epoch_steps` steps each.
        params: The model's parameters.

    Returns:
        An optax transformation whose updates are to be added to the parameters.

    Raises:
        ConfigError: An unknown optimizer, field or rule.
    """
    optimizer = plain(config["optimizer"])
    kind = optimizer.get("type")
    fields = {**optimizer_defaults(optimizer), **_check_fields(optimizer)}
    settings = parameter_settings(config, params)
    pieces, total, epoch = plain(config["schedule"]), config["total_steps"], config.get("epoch_steps")
    rate, momentum = (build_schedule(pieces, total, epoch, of) for of in ("LR", "Momentum"))
    counts = fields["accumulative_counts"]

    decay = _add_weight_decay(jax.tree.map(lambda s: s.weight_decay, settings, is_leaf=_is_settings))
    of_momentum = None
    if any(str(piece.get("type")).endswith("Momentum") for piece in pieces):
        if not (fields.get("momentum") or "betas" in OPTIMIZERS.get(kind, {})) or kind == "Adafactor":
            raise ConfigError(f"schedule: {kind} has no momentum that a schedule could change")
        base = fields["betas"][0] if "betas" in fields else fields["momentum"]

        def of_momentum(update: Array) -> Array:
            return momentum(update * counts + counts - 1, base)

    rates = jax.tree.map(lambda s: s.lr, settings, is_leaf=_is_settings)
    chain = [
        *([_clip(fields["clip_grad"])] if fields["clip_grad"] else []),
        *_rule(kind, fields, decay, of_momentum),
        _scale_by_rate(lambda update, base: rate(update * counts + counts - 1, base), rates),
    ]
    if not all(s.trained for s in jax.tree.leaves(settings, is_leaf=_is_settings)):
        frozen = jax.tree.map(lambda s: not s.trained, settings, is_leaf=_is_settings)
        # First, so that clipping does not count them; last, so that weight decay does not move them.
        hold = optax.masked(optax.set_to_zero(), frozen)
        chain = [hold, *chain, hold]
    whole = optax.chain(*chain)
    return whole if counts == 1 else optax.MultiSteps(whole, counts).gradient_transformation()


def _rule(
    kind: str, fields: Mapping[str, Any], decay: optax.GradientTransformation, momentum: Callable | None
) -> list[optax.GradientTransformation]:
    """What becomes of a gradient up to its learning rate; `momentum` is of the update, where it is not constant."""
    if kind not in OPTIMIZERS:
        make = getattr(optax, kind)
        own = {name: fields[name] for name in _optax_fields(kind) if name in fields}
        none = {"weight_decay": 0.0} if "weight_decay" in inspect.signature(make).parameters else {}
        return [make(learning_rate=1.0, **own, **none), optax.scale(-1.0), decay]

    def scheduled(make: Callable, name: str, value: float, **others: Any) -> optax.GradientTransformation:
        if momentum is None:
            return make(**{name: value}, **others)
        return optax.inject_hyperparams(make, static_args=("nesterov",))(**{name: momentum}, **others)

    if kind == "SGD":
        plain_sgd = not fields["momentum"] and momentum is None
        trace = scheduled(optax.trace, "decay", fields["momentum"], nesterov=fields["nesterov"])
        return [decay] if plain_sgd else [decay, trace]
    if kind == "Adafactor":
        scale = optax.scale_by_factored_rms(
            decay_rate=fields["decay_rate"], min_dim_size_to_factor=fields["min_dim_size_to_factor"]
        )
        clip, ema = fields["clipping_threshold"], fields["momentum"]
        return [
            scale,
            *([optax.clip_by_block_rms(clip)] if clip else []),
            *([optax.ema(ema, debias=False)] if ema else []),
            decay,
        ]
    beta1, beta2 = fields["betas"]
    if kind == "Lion":
        return [scheduled(optax.scale_by_lion, "b1", beta1, b2=beta2), decay]
    adam = scheduled(optax.scale_by_adam, "b1", beta1, b2=beta2, eps=fields["eps"])
    return {"Adam": [decay, adam], "AdamW": [adam, decay], "LAMB": [adam, decay, optax.scale_by_trust_ratio()]}[kind]


def _optax_fields(kind: str) -> tuple[str, ...]:
    """The fields of an optimizer of optax's; none where there is none of that name."""
    make = getattr(optax, kind, None) if kind.isidentifier() and kind.islower() and kind[0] != "_" else None
    if kind in _NEED_MORE or not inspect.isfunction(make) or kind.startswith("scale_by"):
        return ()
    names = tuple(inspect.signature(make).parameters)
    return tuple(name for name in names if name not in _OURS) or ("",) if "learning_rate" in names else ()


def _check_fields(optimizer: Mapping[str, Any]) -> Mapping[str, Any]:
    """`config.optimizer`, if its type and all its fields are known."""
    kind = optimizer.get("type")
    allowed = OPTIMIZERS.get(kind) or _optax_fields(str(kind))
    if not allowed:
        alike = {name.casefold() for name in OPTIMIZERS}
        known = (*OPTIMIZERS, *(name for name in dir(optax) if _optax_fields(name) and name not in alike))
        raise ConfigError(f"optimizer.type={kind!r} is not known. {did_you_mean(str(kind), known)}")
    for name in optimizer:
        if name not in ("type", "lr", *COMMON_FIELDS, *allowed):
            hint = did_you_mean(name, ["lr", *COMMON_FIELDS, *allowed])
            raise ConfigError(f"optimizer: {kind} has no field {name!r}. {hint}")
    counts = optimizer.get("accumulative_counts", 1)
    if not isinstance(counts, int) or counts < 1:
        raise ConfigError(f"optimizer.accumulative_counts={counts!r} must be a whole number, at least 1")
    return optimizer


def optimizer_defaults(config: Config) -> dict[str, Any]:
    """The fields that an optimizer of this type may leave out; none where the type is not known."""
    kind = str(config.get("type"))
    return {**OPTIMIZERS.get(kind, {}), **COMMON_FIELDS} if kind in OPTIMIZERS or _optax_fields(kind) else {}


def parameter_settings(config: Config, params: Any) -> Any:
    """Settings of every parameter: a tree like `params` of ParameterSettings.

    `optimizer.paramwise_cfg` may hold `custom_keys` ({part of a name: {"lr_mult", "decay_mult"}}, the longest key
    that is part of the name wins, and no other rule applies then), `bias_lr_mult` and `bias_decay_mult` (biases
    of layers that are not norms), `norm_decay_mult` (scale and bias of norms), `dwconv_decay_mult` (kernel and bias
    of depthwise convolutions) and `flat_decay_mult` (other one-dimensional parameters). Names are the reference's,
    such as "backbone.layer1.0.conv1.weight"; "_" may stand for "." and the other way round.

    Or it holds `num_layers`, `decay_rate` and `decay_type`, see `layer_decay.rate_factor`; then biases and other
    one-dimensional parameters have no weight decay.

    `optimizer.freeze` has patterns of names that are not trained, such as "backbone.*" or "*.bn1.*".

    Raises:
        ConfigError: An unknown rule, or a pattern that no name fits.
    """
    optimizer = plain(config["optimizer"])
    model = build_model(config["model"])
    rules = dict(_check(optimizer.get("paramwise_cfg") or {}, (*RULES, *LAYER_RULES), "optimizer.paramwise_cfg"))
    by_layer = {name: rules.pop(name) for name in LAYER_RULES if name in rules}
    if by_layer and (rules or not {"num_layers", "decay_rate"} <= by_layer.keys()):
        raise ConfigError(
            f"optimizer.paramwise_cfg={optimizer['paramwise_cfg']!r}: decay by layers needs num_layers and decay_rate, "
            "and has no other rules"
        )
    custom = {
        _plain_name(key): _check(value, ("lr_mult", "decay_mult"), f"optimizer.paramwise_cfg.custom_keys[{key!r}]")
        for key, value in (rules.pop("custom_keys", None) or {}).items()
    }
    keys = sorted(sorted(custom), key=len, reverse=True)
    lr, weight_decay = optimizer["lr"], optimizer.get("weight_decay", 0.0)
    frozen, frozen_norms = model.frozen_parameters(), model.frozen_norms()
    flat = flatten_dict(params)
    held = _matching(optimizer.get("freeze") or (), {path: reference_name(path) for path in flat})

    settings = {}
    for path, leaf in flat.items():
        name = _plain_name(reference_name(path))
        key = next((key for key in keys if key in name), None)
        siblings = {other: flat.get((*path[:-1], other)) for other in ("scale", "kernel")}
        if by_layer:
            lr_mult = rate_factor(type(encoder(model)).__name__, dotted_name(model, path), **by_layer)
            decay_mult = 0.0 if leaf.ndim == 1 else 1.0
        elif key is not None:
            lr_mult, decay_mult = custom[key].get("lr_mult", 1.0), custom[key].get("decay_mult", 1.0)
        else:
            lr_mult, decay_mult = _general_rules(rules, path[-1] == "bias", leaf.ndim, **siblings)
        trained = path not in held and not (frozen and "/".join(path).startswith(frozen))
        trained = trained and not (path[0] in frozen_norms and siblings["scale"] is not None)
        settings[path] = ParameterSettings(lr * lr_mult, weight_decay * decay_mult, trained)
    return unflatten_dict(settings)


def _matching(patterns: str | Sequence[str], names: Mapping[tuple[str, ...], str]) -> set[tuple[str, ...]]:
    """The paths whose names fit a pattern."""
    found: set[tuple[str, ...]] = set()
    for pattern in (patterns,) if isinstance(patterns, str) else patterns:
        fits = {path for path, name in names.items() if fnmatch.fnmatchcase(_plain_name(name), _plain_name(pattern))}
        if not fits:
            raise ConfigError(
                f"optimizer.freeze has {pattern!r}, which no parameter's name fits. "
                + did_you_mean(pattern, sorted(names.values()))
            )
        found |= fits
    return found


def _general_rules(rules: Mapping, is_bias: bool, ndim: int, scale: Any, kernel: Any) -> tuple[float, float]:
    """Multipliers of a parameter whose layer has that scale (or None) and kernel (or None)."""
    is_norm = scale is not None
    lr_mult = rules.get("bias_lr_mult", 1.0) if is_bias and not is_norm else 1.0
    if is_norm and "norm_decay_mult" in rules:
        return lr_mult, rules["norm_decay_mult"]
    if is_bias and "bias_decay_mult" in rules:
        return lr_mult, rules["bias_decay_mult"]
    is_depthwise = kernel is not None and kernel.ndim == 4 and kernel.shape[2] == 1
    if is_depthwise and "dwconv_decay_mult" in rules:
        return lr_mult, rules["dwconv_decay_mult"]
    return lr_mult, rules.get("flat_decay_mult", 1.0) if ndim == 1 else 1.0


def _clip(fields: Mapping[str, Any]) -> optax.GradientTransformation:
    """By the norm of all gradients together, with PyTorch's 1e-6 in the division; or each number by itself."""
    kind = fields.get("type", "value" if "clip_value" in fields else "norm")
    if kind not in CLIP_FIELDS:
        raise ConfigError(f"optimizer.clip_grad.type={kind!r} is not known. {did_you_mean(str(kind), CLIP_FIELDS)}")
    needed = CLIP_FIELDS[kind][0]
    _check(fields, ("type", *CLIP_FIELDS[kind]), "optimizer.clip_grad")
    if not isinstance(fields.get(needed), int | float) or not fields[needed] > 0:
        raise ConfigError(f"optimizer.clip_grad.{needed}={fields.get(needed)!r} must be a number above 0")
    if kind == "value":
        return optax.clip(fields["clip_value"])
    max_norm, norm_type = fields["max_norm"], fields.get("norm_type", 2)
    if norm_type not in (1, 2, math.inf, "inf"):
        raise ConfigError(f"optimizer.clip_grad.norm_type={norm_type!r} is not one of 1, 2, inf")

    def update(updates, state, params=None):
        factor = jnp.minimum(max_norm / (optax.tree.norm(updates, ord=norm_type) + 1e-6), 1.0)
        return jax.tree.map(lambda u: u * factor, updates), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def _check(fields: Mapping, allowed: Sequence[str], where: str) -> Mapping:
    """The fields, if all of them are known."""
    for name in fields:
        if name not in allowed:
            raise ConfigError(f"{where} has no field {name!r}. {did_you_mean(name, allowed)}")
    return fields


def _add_weight_decay(decay: Any) -> optax.GradientTransformation:
    """Adds each parameter times its own decay to its update."""

    def update(updates, state, params=None):
        return jax.tree.map(lambda u, p, d: u + d * p if d else u, updates, params, decay), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


class RateState(NamedTuple):
    """Number of updates so far."""

    count: jax.Array


def _scale_by_rate(schedule: Callable[[Array, float], Array], rates: Any) -> optax.GradientTransformation:
    """Multiplies each update by minus its parameter's learning rate at this step."""

    def update(updates, state, params=None):
        distinct = {rate: schedule(state.count, rate) for rate in set(jax.tree.leaves(rates))}
        updates = jax.tree.map(lambda u, rate: -distinct[rate] * u, updates, rates)
        return updates, RateState(state.count + 1)

    return optax.GradientTransformation(lambda params: RateState(jnp.zeros((), jnp.int32)), update)


def _is_settings(value: Any) -> bool:
    return isinstance(value, ParameterSettings)


def _plain_name(name: str) -> str:
    return name.replace(".", "_")
