"""Variables by which a runner tells a command's body what is no part of its identity."""

from __future__ import annotations

from pathlib import Path

from tasks.spec import Placement

PROJECT = "LABWRIGHT_PROJECT"  # folder of the user's file
VARIABLES = "LABWRIGHT_VARIABLES"  # names of the placement's variables, which the script may see


def placed(placement: Placement, project: Path) -> Placement:
    """The placement of a command whose files lie in `project`."""
    environment = {
        **placement.environment,
        PROJECT: str(project),
        VARIABLES: ",".join(sorted(placement.environment)),
    }
    return placement.model_copy(update={"environment": environment})
