"""What is said of a loss curve: its shape is found under noise, and noise alone has none."""

from __future__ import annotations

import math
import random

import pytest

from flows.analysis.curves import End, shape_of, trend_of
from flows.analysis.performance import performance_facts

Curve = list[tuple[float, float]]


def falling(num_points: int = 60, noise: float = 0.02, seed: int = 0) -> Curve:
    """Fast at first, then ever slower."""
    rng = random.Random(seed)
    return [
        (float(10 * n), 3 + 4 * math.exp(-4 * n / num_points) + rng.gauss(0, noise))
        for n in range(num_points)
    ]


def flat_after(step: int, num_points: int = 60) -> Curve:
    curve = falling(num_points)
    level = curve[step][1]
    rng = random.Random(1)
    return [*curve[:step], *((x, level + rng.gauss(0, 0.02)) for x, _ in curve[step:])]


def test_a_falling_curve_is_falling_and_nothing_else() -> None:
    shape = shape_of(falling())
    assert shape is not None
    assert (shape.end, shape.spikes, shape.plateaus) == (End.FALLING, (), ())
    assert not shape.is_diverged
    assert not shape.has_risen
    assert shape.noise == pytest.approx(0.02, rel=0.5)


@pytest.mark.parametrize("noise", [0.0, 0.005, 0.1])
def test_noise_alone_is_no_spike_no_divergence_and_no_rise(noise: float) -> None:
    wrong = 0
    for seed in range(100):
        shape = shape_of(falling(noise=noise, seed=seed))
        assert shape is not None
        wrong += bool(shape.spikes) or shape.is_diverged or shape.has_risen
    assert wrong <= 1


@pytest.mark.parametrize("width", [1, 2])
def test_a_short_rise_is_one_spike_with_its_height(width: int) -> None:
    curve = falling()
    for n in range(30, 30 + width):
        curve[n] = (curve[n][0], curve[n][1] + 1.5 + (n == 30))
    shape = shape_of(curve)
    assert shape is not None
    (spike,) = shape.spikes
    assert spike.step == 300
    assert spike.value - spike.level == pytest.approx(2.5, abs=0.2)
    assert not shape.has_risen


def test_two_spikes_are_two() -> None:
    curve = falling()
    for n in (20, 40):
        curve[n] = (curve[n][0], curve[n][1] + 2)
    shape = shape_of(curve)
    assert shape is not None
    assert [spike.step for spike in shape.spikes] == [200, 400]


def test_a_plateau_is_found_where_it_lies_and_the_end_is_flat() -> None:
    shape = shape_of(flat_after(20))
    assert shape is not None
    (plateau,) = shape.plateaus
    assert plateau.begin == pytest.approx(200, abs=60)
    assert plateau.end == 590
    assert shape.end is End.FLAT


def test_a_plateau_in_the_middle_is_left_again() -> None:
    curve = flat_after(20, 60)[:40]
    curve += [(curve[-1][0] + 10 * n, curve[-1][1] - 0.05 * n) for n in range(1, 31)]
    shape = shape_of(curve)
    assert shape is not None
    (plateau,) = shape.plateaus
    assert plateau.end == pytest.approx(390, abs=40)
    assert shape.end is End.FALLING


def test_a_curve_that_turns_up_has_risen_and_one_above_its_start_diverged() -> None:
    curve = falling()
    risen = [*curve, *((600 + 10 * n, curve[-1][1] + 0.1 * n) for n in range(20))]
    shape = shape_of(risen)
    assert shape is not None
    assert (shape.has_risen, shape.is_diverged, shape.end) == (True, False, End.RISING)
    diverged = shape_of([*curve, *((600 + 10 * n, 4.0 + n) for n in range(20))])
    assert diverged is not None
    assert diverged.is_diverged


def test_a_value_that_is_no_number_is_divergence_at_its_step() -> None:
    shape = shape_of([*falling(20), (200.0, math.nan), (210.0, math.inf)])
    assert shape is not None
    assert (shape.not_finite_at, shape.is_diverged) == (200.0, True)
    assert math.isfinite(shape.last.value)


def test_of_few_points_no_trend_is_claimed() -> None:
    shape = shape_of([(0, 5.0), (1, 4.0), (2, 3.0)])
    assert shape is not None
    assert (shape.end, shape.plateaus, shape.spikes) == (End.UNKNOWN, (), ())
    assert shape_of([]) is None
    assert shape_of([(0, math.nan)]) is None


def test_a_trend_is_claimed_of_noise_as_seldom_as_its_level_says() -> None:
    from flows.analysis.curves import Point

    rng = random.Random(0)
    found = 0
    for _ in range(600):
        trend = trend_of([Point(n, rng.gauss(0, 1)) for n in range(20)])
        assert trend is not None
        found += trend.p_value < 0.05
    assert found / 600 < 0.08


def test_facts_carry_the_numbers_of_their_claims() -> None:
    lines = [{"step": int(x), "loss": y, "tokens_per_s": 3.0} for x, y in flat_after(20)]
    lines += [{"step": 0, "validation_loss": 7.0}, {"step": 590, "validation_loss": 7.5}]
    facts = list(performance_facts("train", lines))
    claims = [fact.claim for fact in facts]
    assert any("is on a plateau at" in claim for claim in claims)
    assert any("shows no trend at the end" in claim for claim in claims)
    (diverged,) = [fact for fact in facts if "diverged" in fact.claim]
    assert diverged.claim == (
        "held-out loss of train diverged: it ends at 7.5, above its first value of 7"
    )
    assert (diverged.numbers, diverged.needs_attention) == ({"last_level": 7.5, "first": 7}, True)
    assert diverged.source == "curve of step train, validation_loss"


def test_long_curves_are_described_in_a_moment() -> None:
    import time

    curve = falling(20_000)
    started = time.perf_counter()
    shape = shape_of(curve)
    assert shape is not None
    assert shape.end is End.FALLING
    assert time.perf_counter() - started < 10
