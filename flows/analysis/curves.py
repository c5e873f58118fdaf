"""The shape of a loss curve, by definitions that noise and single wild points do not upset.

    shape = shape_of([(0, 7.6), (20, 7.1), ...])
    shape.end, shape.spikes, shape.plateaus, shape.is_diverged

All thresholds are shares of the curve's own fall (from its first value to its lowest level) or
multiples of its own noise: 1.4826 times the median distance of a point from the middle of its two
neighbours, over sqrt(1.5), which for independent noise is its standard deviation and does not see
the trend. Pure; steps must ascend.

    spike       above the medians of the five points before and of the five after, by more than six
                times the noise, 2% of the fall and 1% of those medians; neighbours are one spike.
                A rise of three points and more is none.
    plateau     a stretch of a fifth of the points or more over which the curve moves by less than
                1% of its fall, by the Theil-Sen slope (Sen 1968, J. American Statistical
                Association 63:1379); looked for only where the curve fell at all
    the end     the last quarter of the points, eight at least: falling or rising where the trend is
                significant at 1% (Mann 1945, Econometrica 13:245) and moves by more than 1% of the
                fall, else flat; with fewer points nothing is said
    risen       the last level lies above the lowest by more than 10% of the fall and three times
                the noise; a level is the median of five points, of one where there are under ten
    diverged    a value that is not a finite number, or a last level above the first value
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import NormalDist, median
from typing import NamedTuple

SPIKE_NEIGHBOURS = 5
SPIKE_NOISES = 6.0
MIN_TREND_POINTS = 8
MAX_TREND_POINTS = 60  # longer stretches are reduced to medians of equal blocks
PLATEAU_PART = 0.2
END_PART = 0.25
STILL = 0.01  # of the fall: less than this is no movement
RISEN = 0.1  # of the fall
SIGNIFICANT = 0.01


class Point(NamedTuple):
    """One logged value."""

    step: float
    value: float


class Spike(NamedTuple):
    """The highest point of a short rise, and the level that it rose from."""

    step: float
    value: float
    level: float


class Plateau(NamedTuple):
    """A stretch without movement, and the level that it is at."""

    begin: float
    end: float
    level: float


class End(StrEnum):
    """Where a curve was going when it ended."""

    FALLING = "falling"
    FLAT = "flat"
    RISING = "rising"
    UNKNOWN = "unknown"  # too few points to say


class Trend(NamedTuple):
    """How a stretch moves: Theil-Sen change over all of it, two-sided p-value of no trend."""

    change: float
    p_value: float


@dataclass(frozen=True)
class CurveShape:
    """What there is to say of a curve; all values are finite."""

    num_points: int
    first: Point
    last: Point
    lowest: Point
    last_level: float
    lowest_level: float
    noise: float
    spikes: tuple[Spike, ...]
    plateaus: tuple[Plateau, ...]
    end: End
    end_begin: float  # step at which the stretch begins that `end` is about
    end_change: float | None
    not_finite_at: float | None

    @property
    def fall(self) -> float:
        return self.first.value - self.lowest_level

    @property
    def has_risen(self) -> bool:
        rise = self.last_level - self.lowest_level
        return rise > max(RISEN * self.fall, 3 * self.noise, 0.0)

    @property
    def is_diverged(self) -> bool:
        above = self.num_points > 1 and self.last_level > self.first.value + 3 * self.noise
        return self.not_finite_at is not None or above


def shape_of(points: Sequence[tuple[float, float]]) -> CurveShape | None:
    """The shape of a curve of (step, value); None without a single finite value."""
    curve = [Point(step, value) for step, value in points if math.isfinite(value)]
    if not curve:
        return None
    wild = next((step for step, value in points if not math.isfinite(value)), None)
    width = 5 if len(curve) >= 10 else 1
    levels = [
        Point(curve[i + width - 1].step, median(point.value for point in curve[i : i + width]))
        for i in range(len(curve) - width + 1)
    ]
    lowest_level = min(level.value for level in levels)
    noise = _noise(curve)
    fall = curve[0].value - lowest_level
    tail = curve[-max(MIN_TREND_POINTS, math.ceil(END_PART * len(curve))) :]
    trend = trend_of(tail)
    return CurveShape(
        num_points=len(curve),
        first=curve[0],
        last=curve[-1],
        lowest=min(curve, key=lambda point: point.value),
        last_level=levels[-1].value,
        lowest_level=lowest_level,
        noise=noise,
        spikes=tuple(_spikes(curve, noise, fall)),
        plateaus=tuple(_plateaus(curve, fall)),
        end=_end(trend, fall),
        end_begin=tail[0].step,
        end_change=trend.change if trend else None,
        not_finite_at=wild,
    )


def trend_of(points: Sequence[Point]) -> Trend | None:
    """Theil-Sen change and Mann-Kendall p-value; None below `MIN_TREND_POINTS` points."""
    if len(points) < MIN_TREND_POINTS:
        return None
    blocks = _blocks(points)
    pairs = [(one, other) for i, one in enumerate(blocks) for other in blocks[i + 1 :]]
    slope = median((b.value - a.value) / (b.step - a.step) for a, b in pairs)
    score = sum((b.value > a.value) - (b.value < a.value) for a, b in pairs)
    n = len(blocks)
    deviation = math.sqrt(n * (n - 1) * (2 * n + 5) / 18)
    distance = max(0.0, abs(score) - 1) / deviation
    p_value = 2 * (1 - NormalDist().cdf(distance))
    return Trend(slope * (points[-1].step - points[0].step), p_value)


def _end(trend: Trend | None, fall: float) -> End:
    if trend is None:
        return End.UNKNOWN
    if trend.p_value > SIGNIFICANT or abs(trend.change) <= STILL * max(fall, 0.0):
        return End.FLAT
    return End.FALLING if trend.change < 0 else End.RISING


def _noise(curve: Sequence[Point]) -> float:
    """Robust standard deviation about the line between neighbours; 0 below three points."""
    off = [
        abs(here.value - (before.value + after.value) / 2)
        for before, here, after in zip(curve, curve[1:], curve[2:], strict=False)
    ]
    return 1.4826 * median(off) / math.sqrt(1.5) if off else 0.0


def _spikes(curve: Sequence[Point], noise: float, fall: float) -> Iterator[Spike]:
    found: list[tuple[int, Spike]] = []
    for i in range(3, len(curve) - 3):
        before = median(point.value for point in curve[max(0, i - SPIKE_NEIGHBOURS) : i])
        after = median(point.value for point in curve[i + 1 : i + 1 + SPIKE_NEIGHBOURS])
        level = max(before, after)
        height = curve[i].value - level
        if height > max(SPIKE_NOISES * noise, 0.02 * fall, 0.01 * abs(level)):
            found.append((i, Spike(*curve[i], level)))
    for place, (i, spike) in enumerate(found):
        neighbours = [other for j, other in found if abs(i - j) <= 1]
        is_first = all(j != i - 1 or other.value < spike.value for j, other in found[:place])
        if is_first and spike.value == max(other.value for other in neighbours):
            yield spike


def _plateaus(curve: Sequence[Point], fall: float) -> Iterator[Plateau]:
    width = max(MIN_TREND_POINTS, math.ceil(PLATEAU_PART * len(curve)))
    if fall <= 0 or len(curve) < 2 * width:
        return
    stride = max(1, len(curve) // 100)
    stretch: tuple[int, int] | None = None
    for begin in range(0, len(curve) - width + 1, stride):
        trend = trend_of(curve[begin : begin + width])
        if trend is None or abs(trend.change) > STILL * fall:
            continue
        if stretch is not None and begin <= stretch[1]:
            stretch = (stretch[0], begin + width)
            continue
        if stretch is not None:
            yield _plateau(curve, stretch)
        stretch = (begin, begin + width)
    if stretch is not None:
        yield _plateau(curve, stretch)


def _plateau(curve: Sequence[Point], stretch: tuple[int, int]) -> Plateau:
    points = curve[stretch[0] : stretch[1]]
    return Plateau(points[0].step, points[-1].step, median(point.value for point in points))


def _blocks(points: Sequence[Point]) -> list[Point]:
    """At most `MAX_TREND_POINTS` points, each the medians of equally many."""
    size = math.ceil(len(points) / MAX_TREND_POINTS)
    groups = [points[i : i + size] for i in range(0, len(points), size)]
    return [Point(median(p.step for p in g), median(p.value for p in g)) for g in groups]
