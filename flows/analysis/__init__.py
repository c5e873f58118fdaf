"""What a run shows, as facts with their numbers; prose over them, where a language model is set up.

evidence = RunEvidence.read(find_run("latest"))
facts = facts_of(evidence)
"""

from flows.analysis.evidence import RunEvidence
from flows.analysis.facts import Fact, FactKind
from flows.analysis.findings import facts_of

__all__ = ["Fact", "FactKind", "RunEvidence", "facts_of"]
