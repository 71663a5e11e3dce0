"""Learning-rate schedules, by the step.

A schedule is a sequence of pieces, each active from its step `begin` up to (not including) `end`. At every step
an active piece replaces the rate by a * rate + b (+ c * base_rate), whatever the pieces before it made of the
rate; so a warm-up may run beside a decay, and a rate outside every piece stays as it was. Because each step is
affine, so is the whole curve: rate(step) = a[step] * base_rate + b[step], with one pair of tables for parameters of
every base rate. A WarmupLR multiplies what the other pieces make of the rate, and has no part in how they go on.
"""

import inspect
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


# The reference's type -> (update at local step t of a piece of n + 1 steps, whether it acts at its first step).
PIECES: dict[str, tuple[Callable[..., Affine], bool]] = {
    "PolyLR": (_polynomial, False),
    "LinearLR": (_linear, True),
    "ConstantLR": (_constant, True),
    "CosineAnnealingLR": (_cosine, False),
    "MultiStepLR": (_multi_step, True),
    "StepLR": (_step, False),
    "ExponentialLR": (_exponential, False),
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


def build_schedule(pieces: Sequence[Mapping], total_steps: int) -> Schedule:
    """Builds the schedule of a run.

    Args:
        pieces: Dicts of `type` (a key of PIECES), `begin` (0), `end` (the end of the run) and that type's fields; or
            {"type": "WarmupLR", "end", "mode": "linear" | "exp" | "constant", "factor"}.
        total_steps: Number of steps of the run.

    Raises:
        ConfigError: An unknown type or field, or begin not before end.
    """
    scale, shift = np.ones(total_steps + 1), np.zeros(total_steps + 1)
    warmups = [_prepare_warmup(piece, i) for i, piece in enumerate(pieces) if piece.get("type") == WARMUP]
    prepared = [_prepare(piece, i, total_steps) for i, piece in enumerate(pieces) if piece.get("type") != WARMUP]
    a, b = 1.0, 0.0
    for step in range(total_steps + 1):
        for update, at_first, begin, end, fields in prepared:
            if begin <= step < end and (at_first or step > begin):
                times, plus, *of_base = update(step - begin, end - begin - 1, **fields)
                a, b = times * a + sum(of_base), times * b + plus
        warm = math.prod(warmup_factor(step, **fields) for fields in warmups if step < fields["end"])
        scale[step], shift[step] = warm * a, warm * b
    return Schedule(scale, shift)


def _prepare(piece: Mapping, index: int, total_steps: int):
    fields = dict(piece)
    where = f"schedule[{index}]"
    kind = fields.pop("type", None)
    if kind not in PIECES:
        raise ConfigError(f"{where}.type={kind!r} is not known. {did_you_mean(str(kind), [*PIECES, WARMUP])}")
    update, at_first = PIECES[kind]
    begin, end = fields.pop("begin", 0), fields.pop("end", None)
    # A piece that a shorter run never reaches is no mistake.
    end = max(total_steps, begin + 1) if end is None else end
    if not 0 <= begin < end:
        raise ConfigError(f"{where}: begin={begin} must be before end={end}")
    allowed = list(inspect.signature(update).parameters)[2:]
    for name in fields:
        if name not in allowed:
            raise ConfigError(f"{where}: {kind} has no field {name!r}. {did_you_mean(name, allowed)}")
    return update, at_first, begin, end, fields


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
    return {"begin": 0, "end": None} | {p.name: p.default for p in parameters if p.default is not p.empty}
