"""How training went, from its curves: what the shapes of `curves` say in words.

facts = list(performance_facts("train", lines))
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from flows.analysis.curves import CurveShape, End, shape_of
from flows.analysis.evidence import LOSSES
from flows.analysis.facts import Fact, FactKind, digits, plural

NAMES = {
    "loss": "training loss",
    "train_loss": "training loss",
    "validation_loss": "held-out loss",
    "eval_loss": "held-out loss",
}
MAX_LISTED = 3


def performance_facts(step: str, lines: Sequence[Mapping[str, Any]]) -> Iterator[Fact]:
    """Facts of every loss in a step's curve; `lines` are those of its metrics.jsonl."""
    for key in LOSSES:
        points = [
            (float(line["step"]), float(line[key]))
            for line in lines
            if isinstance(line.get(key), int | float)
        ]
        shape = shape_of(sorted(dict(points).items()))
        if shape is not None:
            source = f"curve of step {step}, {key}"
            yield from _of_shape(f"{NAMES[key]} of {step}", shape, source)
        elif points:
            yield Fact(
                kind=FactKind.PERFORMANCE,
                claim=f"no {NAMES[key]} of {step} is a finite number",
                numbers={"num_points": len(points)},
                source=f"curve of step {step}, {key}",
                needs_attention=True,
            )


def _of_shape(what: str, shape: CurveShape, source: str) -> Iterator[Fact]:
    def fact(claim: str, needs_attention: bool = False, **numbers: float) -> Fact:
        return Fact(
            kind=FactKind.PERFORMANCE,
            claim=f"{what} {claim}",
            numbers={name: _whole(value) for name, value in numbers.items()},
            source=source,
            needs_attention=needs_attention,
        )

    first, last, lowest = shape.first, shape.last, shape.lowest
    yield fact(
        f"went from {digits(first.value)} at step {first.step:g} to {digits(last.value)} at step "
        f"{last.step:g}; its lowest of {plural(shape.num_points, 'value')} is "
        f"{digits(lowest.value)} at step {lowest.step:g}",
        first=first.value,
        first_step=first.step,
        last=last.value,
        last_step=last.step,
        lowest=lowest.value,
        lowest_step=lowest.step,
        num_points=shape.num_points,
    )
    if shape.not_finite_at is not None:
        yield fact(
            f"diverged: it is no finite number at step {shape.not_finite_at:g}",
            True,
            step=shape.not_finite_at,
        )
    elif shape.is_diverged:
        yield fact(
            f"diverged: it ends at {digits(shape.last_level)}, above its first value of "
            f"{digits(first.value)}",
            True,
            last_level=shape.last_level,
            first=first.value,
        )
    elif shape.has_risen:
        rise = shape.last_level - shape.lowest_level
        yield fact(
            f"rose by {digits(rise)} from its lowest level of {digits(shape.lowest_level)} to "
            f"{digits(shape.last_level)} at the end",
            True,
            rise=rise,
            lowest_level=shape.lowest_level,
            last_level=shape.last_level,
        )
    for spike in shape.spikes[:MAX_LISTED]:
        yield fact(
            f"spikes to {digits(spike.value)} at step {spike.step:g}, "
            f"{digits(spike.value - spike.level)} above the level around it",
            True,
            value=spike.value,
            step=spike.step,
            height=spike.value - spike.level,
            level=spike.level,
        )
    if len(shape.spikes) > MAX_LISTED:
        yield fact(f"has {len(shape.spikes)} spikes in all", True, num_spikes=len(shape.spikes))
    for plateau in shape.plateaus:
        yield fact(
            f"is on a plateau at {digits(plateau.level)} from step {plateau.begin:g} to "
            f"{plateau.end:g}",
            begin_step=plateau.begin,
            end_step=plateau.end,
            level=plateau.level,
        )
    yield from _end(fact, shape)


def _end(fact: Any, shape: CurveShape) -> Iterator[Fact]:
    change = shape.end_change
    if change is None or shape.not_finite_at is not None:
        return
    words = {
        End.FALLING: f"still falls at the end: by {digits(-change)}",
        End.RISING: f"rises at the end: by {digits(change)}",
        End.FLAT: f"shows no trend at the end: it moves by {digits(change)}",
    }[shape.end]
    yield fact(
        f"{words} from step {shape.end_begin:g} to {shape.last.step:g}",
        shape.end is End.RISING,
        change=change,
        begin_step=shape.end_begin,
        end_step=shape.last.step,
    )


def _whole(value: float) -> int | float:
    """Steps and counts without a point."""
    return int(value) if float(value).is_integer() else value
