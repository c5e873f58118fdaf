"""Compare two counts of words; part of examples/command.yaml."""

import json
import sys
from pathlib import Path

one, other = (
    json.loads((Path(folder) / "counts.json").read_text())["num_words"] for folder in sys.argv[1:]
)
difference = abs(one - other) / max(one, other)
Path("comparison.json").write_text(json.dumps({"relative_difference": difference}))
Path("summary.md").write_text(
    f"# Counts\n\n{one} words at white space, {other} at non-letters.\n\n"
    f"# Difference\n\n{difference:.1%} of the larger count.\n"
)
