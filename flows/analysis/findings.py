"""All facts of a run, in one order: what every kind of fact has to say.

facts = facts_of(RunEvidence.read(find_run("latest")), ablations=[])
"""

from __future__ import annotations

from collections.abc import Sequence

from flows.analysis.ablation import Ablation, ablation_facts
from flows.analysis.bottlenecks import bottleneck_facts
from flows.analysis.comparison import comparison_facts
from flows.analysis.evidence import RunEvidence
from flows.analysis.facts import Fact
from flows.analysis.integrity import data_facts, model_facts
from flows.analysis.performance import performance_facts


def facts_of(evidence: RunEvidence, ablations: Sequence[Ablation] = ()) -> tuple[Fact, ...]:
    """Deterministic: the same run and store give the same facts."""
    curves = evidence.curves()
    return (
        *(fact for step, lines in curves.items() for fact in performance_facts(step, lines)),
        *bottleneck_facts(evidence),
        *comparison_facts(evidence),
        *ablation_facts(ablations),
        *data_facts(evidence),
        *model_facts(evidence),
    )
