"""`labwright publish`: a run's model as a folder with its card, or as a repository of a hub.

labwright publish latest --to ./w8a8 --step w8a8
labwright publish latest --to lab/model-w8a8 --step w8a8       # with HF_TOKEN set
"""

from __future__ import annotations

import json
import os
import re
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.options import Json, Run

if TYPE_CHECKING:
    from flows.experiment import RunFolder

HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$")
HUB = "hub:"


def publish(
    run: Run,
    to: Annotated[
        str,
        typer.Option(
            "--to",
            help="New folder, or a hub id such as lab/model where there is no folder lab; "
            "./lab/model is always a folder, hub:lab/model always a hub id.",
        ),
    ],
    step: Annotated[str | None, typer.Option("--step", help="Step whose model it is.")] = None,
    license_: Annotated[
        str | None, typer.Option("--license", help="Licence of the base, e.g. apache-2.0.")
    ] = None,
    base_model: Annotated[
        str | None, typer.Option("--base-model", help="Hub id of the base model.")
    ] = None,
    public: Annotated[
        bool, typer.Option("--public", help="A new repository is for everybody to see.")
    ] = False,
    json_: Json = False,
) -> None:
    """Publish a run's model with a card that says how good it is and how to make it again."""
    from flows.experiment import find_run, finish_abandoned
    from flows.publish import card_of, choose, extras, measured_of
    from tasks.errors import StoreError
    from tasks.publish import publish_folder, render_card, upload_folder
    from tasks.publish.folder import refuse_taken
    from tasks.publish.hub import token_of
    from tasks.store import open_store

    repository = hub_id(to)
    token = token_of(os.environ) if repository else ""
    target = Path(to).expanduser()
    if repository is None:
        refuse_taken(target)
    finish_abandoned()
    folder = find_run(run)
    report = folder.read()
    if report is None:
        raise StoreError(f"{folder.path} holds no run.json")
    store = open_store()
    steps = measured_of(report, store)
    chosen = choose(report, steps, step)
    card = card_of(chosen, report, steps, store, license_=license_, base_model=base_model)
    files = extras(render_card(card), chosen, _experiment_text(folder))
    if repository is None:
        publish_folder(chosen.model, files, target, store)
        where = str(target)
    else:
        with tempfile.TemporaryDirectory(prefix="labwright-publish-") as scratch:
            staged = Path(scratch) / "model"
            publish_folder(chosen.model, files, staged, store)
            where = upload_folder(staged, repository, token, is_public=public)
    if json_:
        told = {"run": report.id, "step": chosen.step, "to": where, "license": card.license}
        print(json.dumps({**told, "base_model": card.base_model}))
        return
    print(f"{chosen.step} of run {report.id}: {where}")
    if card.license is None:
        print("the licence of its base is not known; add --license, e.g. --license apache-2.0")


def hub_id(to: str) -> str | None:
    """The repository that `--to` names; None where it is a folder."""
    if to.startswith(HUB):
        return to.removeprefix(HUB)
    is_folder = Path(to).exists() or Path(to).parent.is_dir()
    return to if HUB_ID.match(to) and not is_folder else None


def _experiment_text(folder: RunFolder) -> bytes | None:
    """The experiment file as the run's bundle has it: without secrets."""
    try:
        with zipfile.ZipFile(folder.bundle) as bundle:
            return bundle.read("spec/experiment.yaml")
    except (OSError, KeyError, zipfile.BadZipFile):
        return None
