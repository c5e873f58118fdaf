"""A run again, from what was kept of it: does each number come out as it did?

found = await reproduce_run(find_run("latest"), watchers=[watcher])
found.is_reproduced, found.steps["train"].verdict

The steps run in a store of their own, so that nothing is served from the cache, on the code as it
is now. What their inputs were is checked by digest first.
"""

from flows.reproduce.again import ReproductionOptions, reproduce_run
from flows.reproduce.record import Likeness, Reproduction, StepReproduction, reproductions_of

__all__ = [
    "Likeness",
    "Reproduction",
    "ReproductionOptions",
    "StepReproduction",
    "reproduce_run",
    "reproductions_of",
]
