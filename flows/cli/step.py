"""`labwright step KIND`: one step by itself, outside of any experiment."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from rich.console import Console
from rich.table import Table
from rich.text import Text
from ulid import ULID

from flows.cli.fields import field_rows
from flows.cli.run import told_as_json
from flows.cli.terminal import duration_words, progress_words, stdout_console
from flows.experiment.overrides import apply_overrides
from flows.experiment.plan import spec_for_run
from flows.experiment.schema import RESERVED, StepHead
from flows.experiment.signals import cancelled_by_signals
from tasks.command import placed
from tasks.documents import Document
from tasks.errors import Problem, SpecError
from tasks.observer import Observer, observing
from tasks.problems import problems_from
from tasks.registry import STEPS, step_of
from tasks.spec import Placement, Spec
from tasks.step import Computed
from tasks.store import open_store


def print_fields(kind: str) -> None:
    """The fields of a step's spec and of its result; without a kind, the kinds."""
    console = stdout_console()
    if not kind:
        console.print("Usage: labwright step KIND [--set FIELD=VALUE]... [--json]\n")
        console.print("Run one step by itself. VALUE is YAML; paths are relative to this folder.\n")
        table = Table(box=None, pad_edge=False, show_header=False)
        for name in STEPS:
            doc = (step_of(name).spec_type.__doc__ or "").strip().splitlines()
            table.add_row(Text(name, style="bold"), Text(doc[0] if doc else ""))
        console.print(table)
        console.print("\nlabwright step KIND --help prints the fields of a kind.")
        return
    step = step_of(kind)
    fields = step.spec_type.model_fields
    required = "".join(f" --set {name}=VALUE" for name in fields if fields[name].is_required())
    usage = f"Usage: labwright step {kind}{required} [--set FIELD=VALUE]... [--json]\n"
    console.print(usage, markup=False, highlight=False)
    console.print(Text((step.spec_type.__doc__ or "").strip()))
    for title, model in (("fields", step.spec_type), ("result", step.result_type)):
        table = Table(box=None, pad_edge=False, title_justify="left", title=f"\n{title}")
        is_spec = model is step.spec_type
        for column in ("name", "type", "default", "what it is"):
            if is_spec or column != "default":
                table.add_column(column, overflow="fold", no_wrap=column == "name")
        for row in field_rows(model, is_within=not is_spec):
            cells = [Text(row.name, style="bold"), Text(row.type, style="cyan")]
            cells += [Text(row.default)] if is_spec else []
            table.add_row(*cells, Text(row.description))
        console.print(table)


def run_step(kind: str, overrides: Sequence[str], as_json: bool) -> None:
    """Run a step, or read it from the store; prints its result."""
    with told_as_json(as_json):
        step = step_of(kind)
        spec, placement = read_fields(kind, overrides)
    # What a script without declared inputs reads, nobody knows: it runs every time.
    spec = spec_for_run(spec, str(ULID()))
    watch = StepLines(Console(stderr=True))

    async def compute() -> Computed[Any]:
        async with cancelled_by_signals():
            with observing(watch):
                return await step.compute(spec, placed(placement, Path.cwd()))

    try:
        computed = asyncio.run(compute())
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    store = open_store()
    paths = {ref.name: str(store.materialize(ref)) for ref in computed.record.artifacts}
    if as_json:
        document = {
            "identity": computed.record.identity,
            "state": "cached" if computed.is_cached else "done",
            "seconds": round(computed.duration_s, 3),
            "result": computed.record.result,
            "artifacts": paths,
        }
        print(json.dumps(document))
        return
    how = "cached" if computed.is_cached else f"done in {duration_words(computed.duration_s)}"
    print(f"{kind} {computed.record.identity[:12]}: {how}")
    for name, value in computed.record.result.items():
        if isinstance(value, int | float | str | bool):
            print(f"  {name}: {value}")
    for name, path in paths.items():
        print(f"  {name}: {path}")


def read_fields(kind: str, overrides: Sequence[str]) -> tuple[Spec, Placement]:
    """The spec and placement that `--set` spells; raises `SpecError`."""
    here = Path.cwd()
    root = Document(here / "--set", "", {"steps": {"it": {}}}, {})
    document = apply_overrides(root, [f"steps.it.{override}" for override in overrides])
    fields = document.get(("steps", "it"))
    document = Document(here / "--set", "", fields, {})
    step = step_of(kind)
    try:
        head = StepHead.model_validate(
            {"kind": kind, **{k: v for k, v in fields.items() if k in RESERVED}}
        )
        own = {k: v for k, v in fields.items() if k not in RESERVED}
        spec: Spec = step.spec_type.model_validate(own, context={"base_dir": here})
    except ValidationError as error:
        problems = problems_from(error, document, (), step.spec_type)
        raise SpecError(
            Problem(problem.message, f"step {kind}", key=problem.key) for problem in problems
        ) from error
    return spec, head.placement


class StepLines(Observer):
    """Output and progress of the body, on stderr."""

    def __init__(self, console: Console):
        self._console = console

    def waiting(self, what: str | None) -> None:
        if what is not None:
            self._console.print(f"waiting for {what}", style="dim", markup=False, highlight=False)

    def output(self, stream: str, line: str) -> None:  # noqa: ARG002
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    async def progress(self, metrics: dict[str, Any]) -> None:
        words = progress_words(metrics)
        if words:
            self._console.print(words, style="dim", markup=False, highlight=False)

    def warned(self, message: str) -> None:
        self._console.print(message, style="yellow", markup=False)
