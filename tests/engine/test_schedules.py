"""Schedules against the reference, step by step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.engine.schedules import PIECES, build_schedule, piece_defaults
from jaxseg.errors import ConfigError
from reference import FIXTURES, load_json

FIGURES = load_json(FIXTURES / "schedules.json")
STEPS = FIGURES["steps"]
EPOCH = FIGURES["epoch_steps"]
CASES = FIGURES["cases"]
# Of older versions of the reference: see the tests of their formulas.
OLDER = {"CyclicLR", "CyclicMomentum", "OneCycleMomentum"}


def test_all_types_have_a_case():
    kinds = {piece["type"] for case in CASES for piece in case["schedulers"]}
    # One function makes the curves of both.
    kinds |= {kind.replace("LR", "Momentum") for kind in kinds - {"OneCycleLR"}}
    assert kinds | OLDER == set(PIECES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_equals_the_reference(case):
    schedule = build_schedule(case["schedulers"], STEPS, EPOCH)
    base = FIGURES["base_lr"]
    for base_rate, expected in ((base, case["lr"]), (10 * base, case["lr_tenfold_group"])):
        rates = [schedule.rate(step, base_rate) for step in range(STEPS)]
        np.testing.assert_allclose(rates, expected, rtol=1e-9, atol=1e-15)
    momentum = build_schedule(case["schedulers"], STEPS, EPOCH, of="Momentum")
    momenta = [momentum.rate(step, FIGURES["momentum"]) for step in range(STEPS)]
    np.testing.assert_allclose(momenta, case.get("momentum", [FIGURES["momentum"]] * STEPS), rtol=1e-9)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_under_jit(case):
    schedule = build_schedule(case["schedulers"], STEPS, EPOCH)
    rates = jax.jit(jax.vmap(lambda step: schedule(step, 0.01)))(jnp.arange(STEPS + 10))
    np.testing.assert_allclose(rates[:STEPS], case["lr"], rtol=1e-6, atol=1e-10)
    # A run that is continued beyond its end keeps the last rate.
    np.testing.assert_array_equal(rates[STEPS:], np.repeat(rates[STEPS], 10))


def test_no_pieces():
    schedule = build_schedule([], 10)
    assert {schedule.rate(step, 0.3) for step in range(10)} == {0.3}


def test_a_piece_without_end_lasts_for_the_run():
    piece = {"type": "PolyLR", "eta_min": 1e-4, "power": 0.9}
    whole, stated = build_schedule([piece], 30), build_schedule([{**piece, "begin": 0, "end": 30}], 30)
    np.testing.assert_array_equal(whole.scale, stated.scale)
    np.testing.assert_array_equal(whole.shift, stated.shift)
    assert whole.rate(29, 0.01) == pytest.approx(1e-4)


@pytest.mark.parametrize(
    ("pieces", "message"),
    [
        ([{"type": "PolyLr"}], r"schedule\[0\].type='PolyLr' is not known. Did you mean PolyLR"),
        ([{"type": "PolyLR"}, {"type": "PolyLR", "eta_mim": 0.0}], r"schedule\[1\].*'eta_mim'.*Did you mean eta_min"),
        ([{"begin": 0}], "type=None is not known"),
        ([{"type": "PolyLR", "begin": 10, "end": 10}], "begin=10 must be before end=10"),
        ([{"type": "PolyLR", "begin": 20, "end": 15}], "begin=20 must be before end=15"),
        ([{"type": "PolyLR", "by_epoch": True}], r"schedule\[0\].by_epoch=True needs to know how many steps an epoch"),
        ([{"type": "CosineRestartLR", "periods": (5, 6), "eta_min": 0.0}], "of equal length"),
        ([{"type": "OneCycleLR", "total_steps": 9}], "total_steps=9 at least its end"),
        ([{"type": "OneCycleLR", "anneal_strategy": "cosine"}], "anneal_strategy='cosine' is not one of cos, linear"),
        ([{"type": "WarmupLR"}], r"schedule\[0\].end=None must be the number of steps"),
        ([{"type": "WarmupLR", "end": 0}], r"schedule\[0\].end=0 must be the number of steps"),
        ([{"type": "WarmupLR", "end": 5, "mode": "expo"}], "mode='expo' is not known. Did you mean exp"),
        ([{"type": "PolyLR"}, {"type": "WarmupLR", "end": 5, "factor": 0}], r"schedule\[1\].factor=0 must be above 0"),
        ([{"type": "WarmupLR", "end": 5, "begin": 1}], "WarmupLR has no field 'begin'"),
    ],
)
def test_errors(pieces, message):
    with pytest.raises(ConfigError, match=message):
        build_schedule(pieces, 20)


def test_a_piece_beyond_the_end_of_a_short_run_does_nothing():
    warmup = {"type": "LinearLR", "start_factor": 0.1, "begin": 0, "end": 10}
    short = build_schedule((warmup, {"type": "PolyLR", "begin": 10}), 4)
    assert [short.rate(step, 1.0) for step in range(4)] == pytest.approx([0.1, 0.2, 0.3, 0.4])


@pytest.mark.parametrize(
    ("mode", "factors"),
    [
        ("linear", [0.2, 0.4, 0.6, 0.8, 1, 1]),
        ("constant", [0.2, 0.2, 0.2, 0.2, 1, 1]),
        ("exp", [0.2, 0.2**0.75, 0.2**0.5, 0.2**0.25, 1, 1]),
    ],
)
def test_warmup_multiplies_the_curve_beside_it(mode, factors):
    curve = [{"type": "PolyLR", "power": 0.9, "eta_min": 1e-4}]
    warmup = {"type": "WarmupLR", "end": 4, "mode": mode, "factor": 0.2}
    alone, warmed = build_schedule(curve, 6), build_schedule([*curve, warmup], 6)
    for base in (0.01, 0.3):
        rates = [warmed.rate(step, base) / alone.rate(step, base) for step in range(6)]
        assert rates == pytest.approx(factors)
    rates = jax.jit(jax.vmap(lambda step: warmed(step, 0.01)))(jnp.arange(6))
    np.testing.assert_allclose(rates, [warmed.rate(step, 0.01) for step in range(6)], rtol=1e-6)


def test_cycles():
    """Two of ten steps, four of them up; the second goes up half as far."""
    cycles = {"type": "CyclicLR", "target_ratio": (3.0, 0.5), "cyclic_times": 2, "anneal_strategy": "linear"}
    schedule = build_schedule([{**cycles, "gamma": 0.5}], 20)
    expected = [1, 1.5, 2, 2.5, *np.linspace(3, 0.5, 7)[:6], 1, 1.25, 1.5, 1.75, *np.linspace(2, 0.5, 7)[:6]]
    np.testing.assert_allclose([schedule.rate(step, 1.0) for step in range(20)], expected)
    momentum = build_schedule([{"type": "CyclicMomentum"}], 20, of="Momentum")
    assert momentum.rate(8, 0.95) == pytest.approx(0.85)
    assert momentum.rate(0, 0.95) == pytest.approx(0.95)
    assert momentum.rate(19, 0.95) == pytest.approx(0.95, abs=0.005)


def test_momentum_of_one_cycle_is_lowest_where_the_rate_is_highest():
    pieces = [{"type": "OneCycleLR", "eta_max": 0.1}, {"type": "OneCycleMomentum"}]
    rate, momentum = (build_schedule(pieces, 41, of=of) for of in ("LR", "Momentum"))
    rates, momenta = ([schedule.rate(step, 0.5) for step in range(41)] for schedule in (rate, momentum))
    assert np.argmax(rates) == np.argmin(momenta)
    assert (momenta[0], momenta[40]) == pytest.approx((0.95, 0.95))
    assert min(momenta) == pytest.approx(0.85, abs=1e-3)
    # Without the highest rate, it is the optimizer's.
    own = build_schedule([{"type": "OneCycleLR"}], 41)
    np.testing.assert_allclose([own.rate(step, 0.1) for step in range(41)], rates)


def test_warmup_of_defaults():
    warmup = {"type": "WarmupLR", "end": 2}
    assert piece_defaults(warmup) == {"mode": "linear", "factor": 0.1}
    left_out, stated = build_schedule([warmup], 4), build_schedule([warmup | piece_defaults(warmup)], 4)
    assert [left_out.rate(step, 1.0) for step in range(4)] == pytest.approx([0.1, 0.55, 1, 1])
    np.testing.assert_array_equal(left_out.scale, stated.scale)
