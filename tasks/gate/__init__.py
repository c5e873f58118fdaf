"""Gate: whether what was measured is good enough to go on, as a typed verdict.

    gate:
      kind: gate
      criteria:
        quality:
          kind: recovery
          metric: heldout_text/bits_per_byte
          baseline: {scores: "${steps.before.scores}", samples: "${steps.before.samples}"}
          variant: {scores: "${steps.after.scores}", samples: "${steps.after.samples}"}
    benchmark: {kind: benchmark, after: [gate], ...}    # not begun unless the gate was passed

`spec.py` says what is asked, `measures.py` makes numbers with intervals out of what
other steps measured, `judge.py` turns them into verdicts.
"""

from tasks.gate.check import check
from tasks.gate.spec import GateSpec
from tasks.step import research_step
from tasks.verdict import CriterionVerdict, GateResult, Verdict

gate = research_step(
    name="gate",
    spec=GateSpec,
    result=GateResult,
    body="tasks.gate.body",
    packages=("numpy", "scipy"),
    check=check,
)

__all__ = ["CriterionVerdict", "GateResult", "GateSpec", "Verdict", "gate"]
