"""Optimizers, built from the config, with settings by parameter."""

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

# Fields of each optimizer and their defaults; what comes after the rate's sign is PyTorch's meaning of them.
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "SGD": {"momentum": 0.0, "nesterov": False},
    "Adam": {"betas": (0.9, 0.999), "eps": 1e-8},
    "AdamW": {"betas": (0.9, 0.999), "eps": 1e-8},
}
COMMON_FIELDS = ("type", "lr", "weight_decay", "paramwise_cfg", "clip_grad", "accumulative_counts")
CLIP_FIELDS = ("max_norm", "norm_type")
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
        config: A whole recipe. `config.optimizer` holds `type` (a key of OPTIMIZERS) and its fields, `lr`,
            `weight_decay` (coupled: added to the gradient; in AdamW decoupled), `paramwise_cfg` (see
            `parameter_settings`), `clip_grad` ({"max_norm": ...}: of the global norm, of `norm_type` 1, 2 (the
            default) or inf; or None) and `accumulative_counts` (steps whose gradients are averaged for one update, at
            the rate of the last of them); `config.schedule` the learning rate's pieces over `config.total_steps`.
        params: The model's parameters.

    Returns:
        An optax transformation whose updates are to be added to the parameters.

    Raises:
        ConfigError: An unknown optimizer, field or rule.
    """
    optimizer = plain(config["optimizer"])
    kind = optimizer.get("type")
    if kind not in OPTIMIZERS:
        raise ConfigError(f"optimizer.type={kind!r} is not known. {did_you_mean(str(kind), OPTIMIZERS)}")
    for name in optimizer:
        if name not in (*COMMON_FIELDS, *OPTIMIZERS[kind]):
            allowed = [*COMMON_FIELDS, *OPTIMIZERS[kind]]
            raise ConfigError(f"optimizer: {kind} has no field {name!r}. {did_you_mean(name, allowed)}")
    fields = {name: optimizer.get(name, default) for name, default in OPTIMIZERS[kind].items()}
    settings = parameter_settings(config, params)
    schedule = build_schedule(plain(config["schedule"]), config["total_steps"])

    counts = optimizer.get("accumulative_counts", 1)
    if not isinstance(counts, int) or counts < 1:
        raise ConfigError(f"optimizer.accumulative_counts={counts!r} must be a whole number, at least 1")

    decay = _add_weight_decay(jax.tree.map(lambda s: s.weight_decay, settings, is_leaf=_is_settings))
    if kind == "SGD":
        momentum = optax.trace(fields["momentum"], fields["nesterov"]) if fields["momentum"] else optax.identity()
        rule = [decay, momentum]
    else:
        adam = optax.scale_by_adam(*fields["betas"], eps=fields["eps"])
        rule = [decay, adam] if kind == "Adam" else [adam, decay]
    clip = optimizer.get("clip_grad")
    rates = jax.tree.map(lambda s: s.lr, settings, is_leaf=_is_settings)
    chain = [
        *([_clip_by_norm(**_check(clip, CLIP_FIELDS, "optimizer.clip_grad"))] if clip else []),
        *rule,
        _scale_by_rate(lambda update, rate: schedule(update * counts + counts - 1, rate), rates),
    ]
    if not all(s.trained for s in jax.tree.leaves(settings, is_leaf=_is_settings)):
        frozen = jax.tree.map(lambda s: not s.trained, settings, is_leaf=_is_settings)
        # First, so that clipping does not count them; last, so that weight decay does not move them.
        hold = optax.masked(optax.set_to_zero(), frozen)
        chain = [hold, *chain, hold]
    whole = optax.chain(*chain)
    return whole if counts == 1 else optax.MultiSteps(whole, counts).gradient_transformation()


def optimizer_defaults(config: Config) -> dict[str, Any]:
    """The fields that an optimizer of this type may leave out; none where the type is not known."""
    if config.get("type") not in OPTIMIZERS:
        return {}
    common = {"weight_decay": 0.0, "paramwise_cfg": None, "clip_grad": None, "accumulative_counts": 1}
    return OPTIMIZERS[config["type"]] | common


def parameter_settings(config: Config, params: Any) -> Any:
    """Settings of every parameter: a tree like `params` of ParameterSettings.

    `optimizer.paramwise_cfg` may hold `custom_keys` ({part of a name: {"lr_mult", "decay_mult"}}, the longest key
    that is part of the name wins, and no other rule applies then), `bias_lr_mult` and `bias_decay_mult` (biases
    of layers that are not norms), `norm_decay_mult` (scale and bias of norms), `dwconv_decay_mult` (kernel and bias
    of depthwise convolutions) and `flat_decay_mult` (other one-dimensional parameters). Names are the reference's,
    such as "backbone.layer1.0.conv1.weight"; "_" may stand for "." and the other way round.

    Or it holds `num_layers`, `decay_rate` and `decay_type`, see `layer_decay.rate_factor`; then biases and other
    one-dimensional parameters have no weight decay.

    Raises:
        ConfigError: An unknown rule.
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
        trained = not (frozen and "/".join(path).startswith(frozen))
        trained = trained and not (path[0] in frozen_norms and siblings["scale"] is not None)
        settings[path] = ParameterSettings(lr * lr_mult, weight_decay * decay_mult, trained)
    return unflatten_dict(settings)


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


def _clip_by_norm(max_norm: float, norm_type: float = 2) -> optax.GradientTransformation:
    """Scales all updates together, so that their norm is at most max_norm; with PyTorch's 1e-6 in the division."""
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
