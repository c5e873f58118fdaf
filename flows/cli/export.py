"""`labwright export`: what a step of a run made, as files of one's own.

labwright export latest train.model --to ./model     # one output
labwright export latest train --to ./train           # all of them, in a folder
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.options import Json, Run


def export(
    run: Run,
    output: Annotated[
        str,
        typer.Argument(
            metavar="STEP[.FIELD]", help="A step, or one of its outputs as `labwright show` has it."
        ),
    ],
    to: Annotated[Path, typer.Option("--to", help="File or folder to make; must not exist.")],
    json_: Json = False,
) -> None:
    """Copy what a step made out of the store, verified; nothing is overwritten."""
    from flows.cli.run import told_as_json
    from flows.experiment import find_run, finish_abandoned
    from flows.experiment.outputs import export as export_all
    from flows.experiment.outputs import export_one, find_outputs, is_whole_step
    from tasks.errors import StoreError
    from tasks.store import open_store

    with told_as_json(json_):
        finish_abandoned()
        folder = find_run(run)
        report = folder.read()
        if report is None:
            raise StoreError(f"{folder.path} holds no run.json")
        store = open_store()
        found = find_outputs(report, output, store)
        target = to.expanduser()
        if is_whole_step(output):
            export_all(found, target, store)
        else:
            (ref,) = found.values()
            export_one(ref, target, store)
    if json_:
        print(json.dumps({"run": report.id, "to": str(target), "outputs": list(found)}))
        return
    print(f"{', '.join(found)} of run {report.id}: {target}")
