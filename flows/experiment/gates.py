"""What a gate that was not passed means for the steps after it, and for the run.

    held_back(["train", "gate"], results)      # None, or why a step after these must not begin
    gates_of(records)                          # every gate of a run, by the name of its step

The gate's own step is done and cached, whatever it says: asked again, it says the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tasks.registry import step_of
from tasks.spec import Result
from tasks.store import Record
from tasks.verdict import GateResult

KIND = "gate"


def held_back(upstream: Iterable[str], results: Mapping[str, Result]) -> str | None:
    """Which gate among the steps before says no, and its words."""
    for name in upstream:
        found = results.get(name)
        if isinstance(found, GateResult) and found.stops:
            return f"skipped: gate '{name}' was not passed: {found.summary}"
    return None


def gates_of(records: Mapping[str, Record]) -> dict[str, GateResult]:
    """What the gates of a run said."""
    found = {}
    for name, record in records.items():
        if record.step == KIND:
            result = step_of(KIND).result(record)
            assert isinstance(result, GateResult)
            found[name] = result
    return found


def not_passed(results: Mapping[str, Result]) -> list[str]:
    """One line for each gate that was not passed."""
    return [
        f"gate '{name}' was not passed: {found.summary}"
        for name, found in results.items()
        if isinstance(found, GateResult) and not found.passed
    ]
