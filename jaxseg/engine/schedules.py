"""Schedules of the learning rate and of the momentum, by the step or by the epoch.

A schedule is a sequence of pieces, each active from its step `begin` up to (not including) `end`. At every step
an active piece replaces the rate by a * rate + b (+ c * base_rate), whatever the pieces before it made of the
rate; so a warm-up may run beside a decay, and a rate outside every piece stays as it was. Because each step is
affine, so is the whole curve: rate(step) = a[step] * base_rate + b[step], with one pair of tables for parameters of
every base rate. A WarmupLR multiplies what the other pieces make of the rate, and has no part in how they go on.

The types whose names end in "Momentum" do the same to the momentum of SGD, or the first beta of Adam and its kin. A
piece with `by_epoch` counts epochs wherever it would count steps, and acts as an epoch begins.
"""

import bisect
import inspect
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxseg.errors import ConfigError, did_you_mean

# a, b and, where the base rate itself is added, c.
Affine = tuple[float, float] | tuple[float, float, float]


def _polynomial(t: int, n: int, power: float = 1.0, eta_min: float = 0.0) -> Affine:
    """eta_min + (rate - eta_min) (1 - t / n)^power."""
    a = (1 - 1 / (n - t + 1)) ** power
    return a, eta_min * (1 - a)


def _linear(t: int, n: int, start_factor: float = 1 / 3, end_factor: float = 1.0) -> Affine:
    """From start_factor to end_factor times the rate."""
    if t == 0:
        return start_factor, 0.0
    return 1 + (end_factor - start_factor) / (n * start_factor + (t - 1) * (end_factor - start_factor)), 0.0


def _constant(t: int, n: int, factor: float = 1 / 3) -> Affine:
    """`factor` times the rate, until the last step gives it back."""
    if t == 0:
        return factor, 0.0
    return (1 / factor if t == n else 1.0), 0.0


def _cosine(t: int, n: int, T_max: int | None = None, eta_min: float = 0.0) -> Affine:
    """A cosine from the rate to eta_min over T_max steps (Loshchilov & Hutter 2017), and back over the next."""
    period = n + 1 if T_max is None else T_max
    if (t - 1 - period) % (2 * period) == 0:  # after the lowest point, where the ratio below is 0 / 0
        c = (1 - math.cos(math.pi / period)) / 2
        return 1.0, -eta_min * c, c
    a = (1 + math.cos(math.pi * t / period)) / (1 + math.cos(math.pi * (t - 1) / period))
    return a, eta_min * (1 - a)


def _multi_step(t: int, n: int, milestones: Sequence[int] = (), gamma: float = 0.1) -> Affine:
    """Times gamma at every milestone."""
    return gamma ** list(milestones).count(t), 0.0


def _step(t: int, n: int, step_size: int = 1, gamma: float = 0.1) -> Affine:
    """Times gamma at every `step_size` steps."""
    return (gamma if t and t % step_size == 0 else 1.0), 0.0


def _exponential(t: int, n: int, gamma: float = 0.1) -> Affine:
    """Times gamma at every step."""
    return gamma, 0.0


def _cosine_restart(
    t: int,
    n: int,
    periods: Sequence[int] = (),
    restart_weights: Sequence[float] = (1.0,),
    eta_min: float | None = None,
    eta_min_ratio: float | None = None,
) -> Affine:
    """Cosines (Loshchilov & Hutter 2017) of these periods, each from its weight times the base rate down.

    That is down to eta_min, or to eta_min_ratio times the base rate.
    """
    if not periods or len(periods) != len(restart_weights) or (eta_min is None) == (eta_min_ratio is None):
        raise ConfigError(
            f"CosineRestartLR needs periods={periods!r} and restart_weights={restart_weights!r} of equal length, and "
            f"one of eta_min={eta_min!r} and eta_min_ratio={eta_min_ratio!r}"
        )
    ends = list(itertools.accumulate(periods))
    index = bisect.bisect_right(ends, t)
    if index == len(periods):
        return 1.0, 0.0
    period, t = periods[index], t - (ends[index] - periods[index])
    if t == 0:
        return 0.0, 0.0, restart_weights[index]
    a = (1 + math.cos(math.pi * t / period)) / (1 + math.cos(math.pi * (t - 1) / period))
    return a, (eta_min or 0.0) * (1 - a), (eta_min_ratio or 0.0) * (1 - a)


def _anneal(start: float, end: float, share: float, strategy: str) -> float:
    """From start to end as the share goes from 0 to 1."""
    if strategy not in ("cos", "linear"):
        raise ConfigError(f"anneal_strategy={strategy!r} is not one of cos, linear")
    weight = share if strategy == "linear" else (1 - math.cos(math.pi * share)) / 2
    return start + (end - start) * weight


def _along(t: float, values: Sequence[float], ends: Sequence[float], strategy: str) -> float:
    """At step t of a curve that goes from each value to the next, and arrives there at that end."""
    phase = next((i for i, end in enumerate(ends) if t <= end), len(ends) - 1)
    begin = ends[phase - 1] if phase else 0.0
    share = (t - begin) / (ends[phase] - begin) if ends[phase] != begin else 1.0
    return _anneal(values[phase], values[phase + 1], share, strategy)


def _one_cycle(
    t: int,
    n: int,
    eta_max: float | None = None,
    total_steps: int | None = None,
    pct_start: float = 0.3,
    anneal_strategy: str = "cos",
    div_factor: float = 25.0,
    final_div_factor: float = 1e4,
    three_phase: bool = False,
) -> Affine:
    """From eta_max / div_factor up to eta_max, and down to final_div_factor of where it began (Smith & Topin 2017).

    Without eta_max the base rate is the highest. In three phases it comes back to where it began before it ends.
    """
    steps = n + 1 if total_steps is None else total_steps
    if not 0 <= pct_start <= 1 or t > steps:
        raise ConfigError(f"OneCycleLR: pct_start={pct_start!r} must be in 0..1, total_steps={steps} at least its end")
    first, least = 1 / div_factor, 1 / div_factor / final_div_factor
    peak = pct_start * steps - 1
    values, ends = ((first, 1.0, first, least), (peak, 2 * peak, steps - 1)) if three_phase else (
        (first, 1.0, least), (peak, steps - 1))  # fmt: skip
    share = _along(t, values, ends, anneal_strategy)
    return (0.0, 0.0, share) if eta_max is None else (0.0, eta_max * share)


def _one_cycle_momentum(
    t: int,
    n: int,
    base_momentum: float = 0.85,
    max_momentum: float = 0.95,
    pct_start: float = 0.3,
    anneal_strategy: str = "cos",
    three_phase: bool = False,
) -> Affine:
    """The other way round than the rate beside it: from the highest momentum down, and up again."""
    low, high, peak = base_momentum, max_momentum, pct_start * (n + 1) - 1
    values, ends = ((high, low, high, high), (peak, 2 * peak, n)) if three_phase else ((high, low, high), (peak, n))
    return 0.0, _along(t, values, ends, anneal_strategy)


def _cyclic(
    t: int,
    n: int,
    target_ratio: Sequence[float] = (10.0, 1e-4),
    cyclic_times: int = 1,
    step_ratio_up: float = 0.4,
    anneal_strategy: str = "cos",
    gamma: float = 1.0,
) -> Affine:
    """Cycles from the base rate to the first ratio of it and down to the second (Smith 2017).

    What the peaks are above the base rate shrinks by gamma from cycle to cycle.
    """
    period = (n + 1) // cyclic_times
    up = int(step_ratio_up * period)
    cycle, within = divmod(t, max(period, 1))
    high, low = 1 + (target_ratio[0] - 1) * gamma**cycle, target_ratio[1]
    if within < up:
        return 0.0, 0.0, _anneal(1.0, high, within / up, anneal_strategy)
    return 0.0, 0.0, _anneal(high, low, (within - up) / (period - up), anneal_strategy)


def _cyclic_momentum(
    t: int,
    n: int,
    target_ratio: Sequence[float] = (0.85 / 0.95, 1.0),
    cyclic_times: int = 1,
    step_ratio_up: float = 0.4,
    anneal_strategy: str = "cos",
    gamma: float = 1.0,
) -> Affine:
    """The same of the momentum, down first."""
    return _cyclic(t, n, target_ratio, cyclic_times, step_ratio_up, anneal_strategy, gamma)


_CURVES: dict[str, tuple[Callable[..., Affine], bool]] = {
    "Poly": (_polynomial, False),
    "Linear": (_linear, True),
    "Constant": (_constant, True),
    "CosineAnnealing": (_cosine, False),
    "CosineRestart": (_cosine_restart, True),
    "MultiStep": (_multi_step, True),
    "Step": (_step, False),
    "Exponential": (_exponential, False),
}
# The reference's type -> (update at local step t of a piece of n + 1 steps, whether it acts at its first step).
PIECES: dict[str, tuple[Callable[..., Affine], bool]] = {
    **{f"{name}LR": curve for name, curve in _CURVES.items()},
    "OneCycleLR": (_one_cycle, True),
    "CyclicLR": (_cyclic, True),
    **{f"{name}Momentum": curve for name, curve in _CURVES.items()},
    "OneCycleMomentum": (_one_cycle_momentum, True),
    "CyclicMomentum": (_cyclic_momentum, True),
}


def warmup_factor(step: int, end: int, mode: str = "linear", factor: float = 0.1) -> float:
    """What a WarmupLR multiplies the rate of a step before its `end` with: `factor` at step 0, or all the time."""
    return {
        "linear": factor + (1 - factor) * step / end,
        "exp": factor ** (1 - step / end),
        "constant": factor,
    }[mode]


WARMUP = "WarmupLR"
WARMUP_MODES = ("linear", "exp", "constant")


class Schedule(NamedTuple):
    """Tables of the rate at every step of a run: rate = scale[step] * base_rate + shift[step]."""

    scale: Float[np.ndarray, " steps"]
    shift: Float[np.ndarray, " steps"]

    def rate(self, step: int, base_rate: float) -> float:
        """The rate at a step, on the host."""
        return float(self.scale[step] * base_rate + self.shift[step])

    def __call__(self, step: Int[Array, ""], base_rate: float) -> Float[Array, ""]:
        """The rate at a step, under `jit`; beyond the last step, that of the last."""
        scale, shift = (jnp.asarray(table, float) for table in self)
        return jnp.take(scale, step, mode="clip") * base_rate + jnp.take(shift, step, mode="clip")


def build_schedule(
    pieces: Sequence[Mapping], total_steps: int, epoch_steps: int | None = None, of: str = "LR"
) -> Schedule:
    """Builds the schedule of a run.

    Args:
        pieces: Dicts of `type` (a key of PIECES), `begin` (0), `end` (the end of the run), `by_epoch` (False: begin,
            end and all else are in steps) and that type's fields; or
            {"type": "WarmupLR", "end", "mode": "linear" | "exp" | "constant", "factor"}.
        total_steps: Number of steps of the run.
        epoch_steps: Number of steps of an epoch, which pieces by epoch need.
        of: "LR" for the learning rate, "Momentum" for the momentum.

    Raises:
        ConfigError: An unknown type or field, begin not before end, values that are not allowed.
    """
    scale, shift = np.ones(total_steps + 1), np.zeros(total_steps + 1)
    warmups = [_prepare_warmup(piece, i) for i, piece in enumerate(pieces) if piece.get("type") == WARMUP]
    prepared = [
        _prepare(piece, i, total_steps, epoch_steps) for i, piece in enumerate(pieces) if piece.get("type") != WARMUP
    ]
    prepared = [piece for piece in prepared if piece.of == of]
    steps_first = sorted(prepared, key=lambda piece: piece.period > 1)  # a step is over before its epoch is
    a, b = 1.0, 0.0
    for step in range(total_steps + 1):
        for piece in steps_first if step else prepared:
            count, within = divmod(step, piece.period)
            if not within and piece.begin <= count < piece.end and (piece.at_first or count > piece.begin):
                local, last = count - piece.begin, piece.end - piece.begin - 1
                times, plus, *of_base = piece.update(local, last, **piece.fields)
                a, b = times * a + sum(of_base), times * b + plus
        factors = (warmup_factor(step, **fields) for fields in warmups if step < fields["end"])
        warm = math.prod(factors) if of == "LR" else 1.0
        scale[step], shift[step] = warm * a, warm * b
    return Schedule(scale, shift)


class _Piece(NamedTuple):
    """A piece whose fields are checked; one by epoch has an epoch's steps as its period."""

    update: Callable[..., Affine]
    at_first: bool
    begin: int
    end: int
    fields: dict[str, Any]
    period: int
    of: str


def _prepare(piece: Mapping, index: int, total_steps: int, epoch_steps: int | None) -> _Piece:
    fields = dict(piece)
    where = f"schedule[{index}]"
    kind = fields.pop("type", None)
    if kind not in PIECES:
        raise ConfigError(f"{where}.type={kind!r} is not known. {did_you_mean(str(kind), [*PIECES, WARMUP])}")
    update, at_first = PIECES[kind]
    by_epoch = fields.pop("by_epoch", False)
    if by_epoch and not epoch_steps:
        raise ConfigError(f"{where}.by_epoch={by_epoch!r} needs to know how many steps an epoch has")
    period = epoch_steps if by_epoch else 1
    begin, end = fields.pop("begin", 0), fields.pop("end", None)
    # A piece that a shorter run never reaches is no mistake.
    end = max(-(-total_steps // period), begin + 1) if end is None else end
    if not 0 <= begin < end:
        raise ConfigError(f"{where}: begin={begin} must be before end={end}")
    allowed = list(inspect.signature(update).parameters)[2:]
    for name in fields:
        if name not in allowed:
            raise ConfigError(f"{where}: {kind} has no field {name!r}. {did_you_mean(name, allowed)}")
    of = "Momentum" if kind.endswith("Momentum") else "LR"
    return _Piece(update, at_first, begin, end, fields, period, of)


def _prepare_warmup(piece: Mapping, index: int) -> dict:
    fields = {name: value for name, value in piece.items() if name != "type"}
    where = f"schedule[{index}]"
    for name in fields:
        if name not in (allowed := ("end", "mode", "factor")):
            raise ConfigError(f"{where}: {WARMUP} has no field {name!r}. {did_you_mean(name, allowed)}")
    if fields.get("mode", "linear") not in WARMUP_MODES:
        mode = fields["mode"]
        raise ConfigError(f"{where}.mode={mode!r} is not known. {did_you_mean(str(mode), WARMUP_MODES)}")
    if not isinstance(fields.get("end"), int) or fields["end"] < 1:
        raise ConfigError(f"{where}.end={fields.get('end')!r} must be the number of steps to warm up")
    factor = fields.get("factor", 0.1)
    if not isinstance(factor, int | float) or not 0 < factor <= 1:
        raise ConfigError(f"{where}.factor={factor!r} must be above 0, at most 1")
    return fields


def piece_defaults(piece: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that a piece of this type may leave out; none where the type is not known."""
    kind = piece.get("type")
    if kind == WARMUP:
        return {"mode": "linear", "factor": 0.1}
    if kind not in PIECES:
        return {}
    parameters = list(inspect.signature(PIECES[kind][0]).parameters.values())[2:]
    return {"begin": 0, "end": None, "by_epoch": False} | {
        p.name: p.default for p in parameters if p.default is not p.empty
    }
