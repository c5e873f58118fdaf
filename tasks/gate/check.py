"""What must hold of a gate's result, looked at outside of the process that judged.

A gate is passed only by numbers: each criterion is judged again from the interval that is written.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tasks.gate.judge import Measured, gate_result, judge
from tasks.gate.spec import GateSpec, limit_of
from tasks.verdict import GateResult


def check(spec: GateSpec, result: GateResult, _open_artifact: Callable[[Any], Path]) -> None:
    """ValueError unless verdicts follow from their numbers, and the gate's from the verdicts."""
    if result.criteria.keys() != spec.criteria.keys():
        raise ValueError("the criteria that were judged are not those that were asked for")
    for name, found in result.criteria.items():
        asked = spec.criteria[name]
        limit, threshold = limit_of(asked), asked.threshold
        if (found.kind, found.limit, found.threshold) != (asked.kind, limit, threshold):
            held = f"as {found.kind}, {found.limit} {found.threshold}"
            raise ValueError(f"'{name}' was judged {held}, not {asked.kind}, {limit} {threshold}")
        again = judge(Measured(found.number, found.low, found.high), limit, threshold)
        if again is not found.verdict:
            raise ValueError(f"'{name}' is said to be {found.verdict}, its numbers say {again}")
    if gate_result(result.criteria, spec.inconclusive, spec.stop) != result:
        raise ValueError("the gate's verdict does not follow from those of its criteria")
