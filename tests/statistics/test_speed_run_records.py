"""Public records as an independent check: the logged losses of the nanoGPT speed runs.

github.com/KellerJordan/modded-nanogpt publishes the final validation losses of every run of a
record and what follows from them: its own figures are here, and ours must equal them. Track 3 asks
that (3.28 - mean) * sqrt(n) >= 0.004 at a known sigma of 0.0013; track 1 that Student's t says
p < 0.01.
"""

from __future__ import annotations

import math
import re
from typing import NamedTuple

import pytest

from tasks.analyze.hypothesis_tests import mean_below_p_value

TARGET, SIGMA, RULE = 3.28, 0.0013, 0.004

# records/track_3_optimization/results/20260509_contra_muon_split_cooldown/README.md
SPLIT_COOLDOWN = """
| Seed | 3150 val | 3175 val |
| 1 | 3.27794 | 3.27723 |
| 2 | 3.27816 | 3.27747 |
| 3 | 3.28146 | 3.28075 |
| 4 | 3.27847 | 3.27776 |
| 5 | 3.27880 | 3.27808 |
| 6 | 3.28133 | 3.28062 |
| 7 | 3.27783 | 3.27713 |
| 8 | 3.27772 | 3.27702 |
| 9 | 3.27797 | 3.27726 |
| 10 | 3.27924 | 3.27856 |
"""
AT_3150, AT_3175 = (
    [float(row[place]) for row in re.findall(r"\| (3\.\d+) \| (3\.\d+) \|", SPLIT_COOLDOWN)]
    for place in (0, 1)
)


class Record(NamedTuple):
    """Final losses of its runs, and what the record itself says of them."""

    losses: list[float]
    mean: float
    precision: float  # (3.28 - mean) * sqrt(n)
    is_shown: bool


TRACK_3 = {
    "split cooldown, 3175 steps": Record(AT_3175, 3.278188, 0.00573005, is_shown=True),
    "split cooldown, 3150 steps": Record(AT_3150, 3.278892, 0.00350380, is_shown=False),
    # results/20260511_klsoap_h_lr_power_decay/README.md
    "KL-SOAP-H": Record(
        [3.27865, 3.27793, 3.27937, 3.27673, 3.27805], 3.278146, 0.00414567, is_shown=True
    ),
}


@pytest.mark.parametrize("record", TRACK_3.values(), ids=TRACK_3)
def test_a_record_is_shown_by_our_z_test_where_it_is_by_the_rule(record: Record) -> None:
    number = len(record.losses)
    mean = math.fsum(record.losses) / number
    assert mean == pytest.approx(record.mean, abs=1e-9)
    assert (TARGET - mean) * math.sqrt(number) == pytest.approx(record.precision, abs=1e-8)
    at_the_rule = mean_below_p_value([TARGET - RULE], TARGET, SIGMA)
    assert at_the_rule == pytest.approx(0.00105, abs=2e-5)
    found = mean_below_p_value(record.losses, TARGET, SIGMA)
    assert (found <= at_the_rule) is record.is_shown


def test_the_p_value_of_a_record_is_the_published_one() -> None:
    """'assuming sigma=0.0013, the one-sided z statistic is 4.4077, giving p=5.22e-06'."""
    assert mean_below_p_value(AT_3175, TARGET, SIGMA) == pytest.approx(5.22e-06, abs=5e-9)


# records/track_1_short: losses and the p-value that each record prints, to four digits.
TRACK_1 = [
    ([3.2779, 3.2779, 3.2789, 3.2778, 3.2789, 3.2785, 3.2806], 0.0053),
    ([3.2813, 3.2778, 3.2781, 3.2764, 3.277, 3.2787, 3.2767, 3.2807, 3.2769, 3.2774], 0.0030),
    ([3.2769, 3.2782, 3.2790, 3.2791, 3.2791, 3.2780, 3.2782], 0.0008),
    ([3.2796, 3.2781, 3.2798, 3.2793], 0.0632),  # a baseline run four times: shown by no one
]


@pytest.mark.parametrize(("losses", "published"), TRACK_1)
def test_students_t_of_a_record_is_the_published_one(losses: list[float], published: float) -> None:
    assert mean_below_p_value(losses, TARGET) == pytest.approx(published, abs=6e-5)


@pytest.mark.parametrize(
    ("values", "sd"), [([], 1.0), ([3.2], 0.0), ([3.2], None), ([3.2] * 4, None)]
)
def test_what_tells_no_spread_is_refused(values: list[float], sd: float | None) -> None:
    with pytest.raises(ValueError, match="spread"):
        mean_below_p_value(values, TARGET, sd)
