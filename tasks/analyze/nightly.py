"""The verdict on tonight's benchmark, given the nights before: regressed, improved or same.

    nightly_verdict(history, tonight).outcome        # Outcome.REGRESSED
    nightly_verdict(history, tonight).reason         # "3.1% below the 24 nights since 2026-10-02 …"

A night's value is the mean of its repeats' logarithms, and the night is the unit: how much nights
differ is learned from nights, never from the repeats within one. Only nights of tonight's
environment count. What could blind the comparison is found first:

    drift     a slow change over the last `DRIFT_NIGHTS` that no single night shows (Mann 1945,
              Econometrica 13:245; slope by Sen 1968, JASA 63:1379); it counts as a change
    shift     an earlier step to another level: the nights before it are left out
    outliers  nights far off their median (Hampel 1974, JASA 69:383) are left out where enough stay:
              of a few nights, one is often far off by chance

Tonight is then compared with what is left by Student's prediction interval for one more night.
False alarms, power, drift, shifts and outliers are simulated in tests/statistics/test_nightly.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import date
from enum import StrEnum

import numpy as np
from pydantic import Field

from tasks.analyze.drift import find_drift, last_shift, without_outliers
from tasks.analyze.intervals import Floats
from tasks.spec import Frozen

MIN_NIGHTS = 8  # fewer tell too little about how much nights differ
MIN_SPREAD_NIGHTS = 3  # fewer do not even tell what drop they could have shown
ALPHA = 0.002  # each side: false alarms stay, with those of the drift, below 1 in 100 nights
POWER = 0.8  # with which the smallest visible drop is seen


class Night(Frozen):
    """One night's repeats of one benchmark."""

    date: date
    repeats: tuple[float, ...] = Field(min_length=1, description="Values above zero, one a repeat.")
    environment: Mapping[str, str] = Field(
        description="What must be equal for nights to be compared: hardware class, versions."
    )

    @property
    def level(self) -> float:
        """Mean of the logarithms; ValueError where a repeat is not above zero."""
        if min(self.repeats) <= 0:
            raise ValueError(f"{self.date}: a repeat is {min(self.repeats):g}, not above zero")
        return math.fsum(map(math.log, self.repeats)) / len(self.repeats)


class Outcome(StrEnum):
    """What tonight shows."""

    REGRESSED = "regressed"
    IMPROVED = "improved"
    SAME = "same"
    NOT_COMPARABLE = "not comparable"


class Drift(Frozen):
    """A slow change over the last nights."""

    change_per_night: float = Field(description="Relative, e.g. -0.0015.")
    change: float = Field(description="Relative, over all of `num_nights`.")
    num_nights: int = Field(description="Nights it was seen over.")
    p_value: float = Field(description="Of 'no trend' (Mann-Kendall, two-sided).")


class NightlyVerdict(Frozen):
    """Tonight against the nights before; relative changes, -0.03 is 3% less."""

    outcome: Outcome
    reason: str = Field(description="In words, with its numbers.")
    change: float | None = Field(description="Tonight over the level of the nights before, less 1.")
    low: float | None = Field(description="Lower end of the change's interval.")
    high: float | None = Field(description="Upper end of the change's interval.")
    confidence: float = Field(description="Nominal coverage of the interval.")
    smallest_visible: float | None = Field(
        description=f"The least relative worsening seen with a power of {POWER:.0%}."
    )
    drift: Drift | None = Field(default=None, description="A slow change, where there is one.")
    shifted_on: date | None = Field(default=None, description="First night of the present level.")
    num_nights: int = Field(description="Nights that tonight was compared with.")
    num_outliers: int = Field(description="Nights left out as far off.")
    num_other: int = Field(description="Nights left out as of another environment.")


def nightly_verdict(
    history: Sequence[Night],
    tonight: Night,
    *,
    higher_is_better: bool = True,
    alpha: float = ALPHA,
    confidence: float = 0.95,
) -> NightlyVerdict:
    """Whether tonight is worse, better or as the nights of `history`, oldest first.

    Raises ValueError where nights are not in the order of their dates or a repeat is not above 0.
    """
    dates = [night.date for night in (*history, tonight)]
    if dates != sorted(dates):
        raise ValueError("nights must be in the order of their dates, tonight last")
    nights = [night for night in history if night.environment == tonight.environment]
    num_other = len(history) - len(nights)

    def answer(outcome: Outcome, reason: str, **found: object) -> NightlyVerdict:
        absent = {
            "change": None,
            "low": None,
            "high": None,
            "smallest_visible": None,
            "num_nights": len(nights),
            "num_outliers": 0,
        }
        return NightlyVerdict.model_validate(
            absent
            | {
                "outcome": outcome,
                "reason": reason,
                "confidence": confidence,
                "num_other": num_other,
            }
            | found
        )

    levels = np.array([night.level for night in nights])
    now = tonight.level
    if len(nights) < MIN_NIGHTS:
        few = f"{len(nights)} earlier nights in tonight's environment, {MIN_NIGHTS} needed"
        few += _what_differs(history, tonight)
        if len(nights) < MIN_SPREAD_NIGHTS or np.ptp(levels) == 0:
            return answer(Outcome.NOT_COMPARABLE, few)
        _, spread, degrees = _prediction(levels, now, nights, tonight)
        smallest = _smallest_visible(spread, degrees, alpha, higher_is_better)
        few += f"; of these, only {_worsening(smallest, higher_is_better)} would stand out"
        return answer(Outcome.NOT_COMPARABLE, few, smallest_visible=smallest)
    trend = find_drift(np.append(levels, now))
    start = 0 if trend is not None else last_shift(levels)
    if start and trend is None:
        trend = find_drift(np.append(levels[start:], now))
    kept = without_outliers(levels[start:])
    if len(kept) < MIN_NIGHTS:  # then the far ones count, and widen what is taken as usual
        kept = levels[start:]
    num_outliers = len(levels) - start - len(kept)
    if np.ptp(kept) == 0:
        equal = f"the {len(kept)} nights to compare with are equal, and tell no spread"
        return answer(
            Outcome.NOT_COMPARABLE, equal, num_nights=len(kept), num_outliers=num_outliers
        )
    change, spread, degrees = _prediction(kept, now, nights, tonight)
    from scipy import stats

    alarm = float(stats.t.ppf(1 - alpha, degrees))
    half = float(stats.t.ppf((1 + confidence) / 2, degrees)) * spread
    smallest = _smallest_visible(spread, degrees, alpha, higher_is_better)
    found: dict[str, object] = {
        "change": math.expm1(change),
        "low": math.expm1(change - half),
        "high": math.expm1(change + half),
        "smallest_visible": smallest,
        "shifted_on": nights[start].date if start else None,
        "num_nights": len(kept),
        "num_outliers": num_outliers,
    }
    against = f"{math.expm1(change):+.1%} against {len(kept)} nights"
    if start:
        against += f" since {nights[start].date}, when the level shifted"
    drift = None
    if trend is not None:
        drift = Drift(
            change_per_night=math.expm1(trend.slope),
            change=math.expm1(trend.slope * (trend.num_nights - 1)),
            num_nights=trend.num_nights,
            p_value=trend.p_value,
        )
        found["drift"] = drift
    is_sudden = abs(change) > alarm * spread
    if is_sudden:
        outcome = Outcome.IMPROVED if (change > 0) == higher_is_better else Outcome.REGRESSED
        reason = f"{against}; nights differ by less"
    elif drift is not None:
        outcome = Outcome.IMPROVED if (drift.change > 0) == higher_is_better else Outcome.REGRESSED
        reason = (
            f"a slow drift of {drift.change:+.1%} over {drift.num_nights} nights, "
            f"{drift.change_per_night:+.2%} a night"
        )
    else:
        outcome = Outcome.SAME
        reason = f"{against}; {_worsening(smallest, higher_is_better)} would have been seen"
    return answer(outcome, reason, **found)


def _prediction(
    kept: Floats, now: float, nights: Sequence[Night], tonight: Night
) -> tuple[float, float, int]:
    """Tonight less the mean of the nights kept, its standard error, and degrees of freedom."""
    variance = float(kept.var(ddof=1))
    usual = float(np.median([len(night.repeats) for night in nights]))
    if len(tonight.repeats) < usual:  # fewer repeats than usual: tonight is less certain
        within = [np.log(night.repeats).var(ddof=1) for night in nights if len(night.repeats) > 1]
        if within:
            variance += float(np.mean(within)) * (1 / len(tonight.repeats) - 1 / usual)
        else:
            variance *= usual / len(tonight.repeats)
    spread = math.sqrt(variance + float(kept.var(ddof=1)) / len(kept))
    return now - float(kept.mean()), spread, len(kept) - 1


def _smallest_visible(spread: float, degrees: int, alpha: float, higher_is_better: bool) -> float:
    """The relative worsening that raises the alarm with a power of `POWER`."""
    from scipy import stats

    quantiles = float(stats.t.ppf(1 - alpha, degrees)) + float(stats.t.ppf(POWER, degrees))
    return abs(math.expm1(quantiles * spread * (-1 if higher_is_better else 1)))


def _worsening(change: float, higher_is_better: bool) -> str:
    return f"a {'drop' if higher_is_better else 'rise'} of {change:.1%}"


def _what_differs(history: Sequence[Night], tonight: Night) -> str:
    """Which parts of the environment of the last other night differ from tonight's."""
    others = [night for night in history if night.environment != tonight.environment]
    if not others:
        return ""
    last, now = others[-1].environment, tonight.environment
    changed = [
        f"{key} was {last.get(key, 'absent')} and is {now.get(key, 'absent')}"
        for key in sorted({*last, *now})
        if last.get(key) != now.get(key)
    ]
    return f"; since {others[-1].date} " + ", ".join(changed)
