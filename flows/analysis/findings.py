"""All facts of a run, in one order: what every kind of fact has to say.

facts = facts_of(RunEvidence.read(find_run("latest")), ablations=[])
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from flows.analysis.ablation import Ablation, ablation_facts
from flows.analysis.bottlenecks import bottleneck_facts
from flows.analysis.comparison import comparison_facts
from flows.analysis.evidence import RunEvidence
from flows.analysis.facts import Fact, FactKind, plural
from flows.analysis.integrity import data_facts, model_facts
from flows.analysis.performance import performance_facts
from flows.analysis.serving import serving_facts
from flows.experiment.record import StepState


def facts_of(evidence: RunEvidence, ablations: Sequence[Ablation] = ()) -> tuple[Fact, ...]:
    """Deterministic: the same run and store give the same facts."""
    curves = evidence.curves()
    return (
        *run_facts(evidence),
        *(fact for step, lines in curves.items() for fact in performance_facts(step, lines)),
        *bottleneck_facts(evidence),
        *comparison_facts(evidence),
        *serving_facts(evidence),
        *ablation_facts(ablations),
        *data_facts(evidence),
        *model_facts(evidence),
    )


def run_facts(evidence: RunEvidence) -> Iterator[Fact]:
    """How many steps have a result, and the reasons of those that failed."""
    steps = evidence.report.steps
    num_done = sum(step.state.has_result for step in steps.values())
    yield Fact(
        kind=FactKind.RUN,
        claim=f"{num_done} of {plural(len(steps), 'step')} have a result; the run is "
        f"{evidence.report.status.value}",
        numbers={"num_done": num_done, "num_steps": len(steps)},
        source="run.json",
        needs_attention=num_done < len(steps),
    )
    for name, step in steps.items():
        if step.state is StepState.FAILED:
            why = (step.error or "").partition("\n")[0]
            yield Fact(
                kind=FactKind.RUN,
                claim=f"step {name} failed: {why}",
                numbers={},
                source="run.json",
                needs_attention=True,
            )
