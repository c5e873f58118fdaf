"""Two or more runs side by side: what differs in their files, their surroundings, their results.

found = compare_runs([find_run("01M7…"), find_run("latest")], matches={})
found.others[0].rows        # each number with its interval, or the reason why there is none
"""

from flows.compare.comparison import RunComparison, RunDifference, compare_runs
from flows.compare.subjects import find_runs

__all__ = ["RunComparison", "RunDifference", "compare_runs", "find_runs"]
