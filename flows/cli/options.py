"""Arguments and options that several commands share, worded once.

def show(run: Run = "latest", json: Json = False) -> None: ...
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

File = Annotated[
    Path, typer.Argument(help="Experiment file (YAML), such as examples/quickstart.yaml.")
]
Run = Annotated[str, typer.Argument(help="Id of a run, a unique beginning of one, or 'latest'.")]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Replace a value, such as steps.train.num_steps=300; VALUE is YAML. Repeatable.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
RunJson = Annotated[
    bool,
    typer.Option(
        "--json",
        help="Print one JSON object on stdout: id, status, steps, deliverables, report. For a "
        'wrong file: id null, status "invalid", problems.',
    ),
]
