"""The commands and their options; what they do lies in the modules beside, imported when used."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.export import export
from flows.cli.options import File, Json, Run, RunJson, Set
from flows.cli.publish import publish

app = typer.Typer(
    help="LLM research with verified artifacts: run, resume and compare experiments. "
    "Begin with: labwright doctor, then labwright run examples/quickstart.yaml.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
standards_app = typer.Typer(
    help="Recipes, evaluations, workloads and pipelines by name.", no_args_is_help=True
)
server_app = typer.Typer(help="The embedded Prefect server.", no_args_is_help=True)
app.command()(export)
app.command()(publish)
app.add_typer(standards_app, name="standards")
app.add_typer(server_app, name="server")


def _print_version(is_asked: bool) -> None:
    if is_asked:
        print(f"labwright {importlib.metadata.version('labwright')}")
        raise typer.Exit


@app.callback()
def labwright(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    pass


@app.command()
def run(
    file: File,
    overrides: Set = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only print what is cached and what would run.")
    ] = False,
    json: RunJson = False,
) -> None:
    """Run an experiment file; exits with 0 if all is done, 1 if not, 2 for a wrong file."""
    from flows.cli.run import dry_run as print_plan
    from flows.cli.run import run as run_file

    if dry_run:
        print_plan(file, overrides or [], as_json=json)
    else:
        raise typer.Exit(run_file(file, overrides or [], as_json=json))


@app.command()
def resume(run: Run = "latest", json: RunJson = False) -> None:
    """Go on with a run that did not finish: same id, same file, finished steps are kept."""
    from flows.cli.run import resume as resume_run

    raise typer.Exit(resume_run(run, as_json=json))


@app.command()
def validate(
    files: Annotated[list[Path], typer.Argument(help="Experiment files.")], overrides: Set = None
) -> None:
    """Check experiment files whole, without running anything."""
    from flows.cli.run import validate as validate_files

    validate_files(files, overrides or [])


@app.command(name="list")
def list_runs(
    json: Json = False,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Newest runs to list.")] = 20,
) -> None:
    """List runs, newest first."""
    from flows.cli.run import told_as_json
    from flows.cli.show import list_runs as print_runs

    with told_as_json(json):
        print_runs(limit, as_json=json)


@app.command()
def show(
    run: Run = "latest",
    lineage: Annotated[
        bool, typer.Option("--lineage", help="Print the runs before it and what each changed.")
    ] = False,
    json: Json = False,
) -> None:
    """Show a run: steps, deliverables, where results came from, where files lie."""
    from flows.cli.run import told_as_json
    from flows.cli.show import show_lineage, show_run

    with told_as_json(json):
        (show_lineage if lineage else show_run)(run, as_json=json)


@app.command()
def compare(
    runs: Annotated[list[str], typer.Argument(help="Ids of runs; the first is the baseline.")],
    match: Annotated[
        list[str] | None,
        typer.Option(
            "--match", metavar="A=B", help="Step A of the baseline is step B elsewhere. Repeatable."
        ),
    ] = None,
    no_worse_than: Annotated[
        str | None,
        typer.Option(metavar="SHARE", help="Also test whether each number lost less, e.g. 1%."),
    ] = None,
    correction: Annotated[
        str,
        typer.Option(
            metavar="holm|bh", help="Of p-values: any false claim (Holm), or their share (BH)."
        ),
    ] = "holm",
    json: Json = False,
) -> None:
    """Say what differs between runs: files, circumstances, results with intervals and p-values."""
    from flows.cli.compare import compare as compare_all
    from flows.cli.compare import parse_correction
    from flows.cli.run import told_as_json

    with told_as_json(json):
        status = compare_all(
            runs,
            match or [],
            as_json=json,
            correction=parse_correction(correction),
            no_worse_than=no_worse_than,
        )
    raise typer.Exit(status)


@app.command()
def analyze(
    target: Annotated[
        str, typer.Argument(metavar="RUN|DIR", help="A run, or a folder of runs or of their files.")
    ] = "latest",
    json: Json = False,
) -> None:
    """Say what a run shows, as facts with numbers; of a folder also what each change did."""
    from flows.cli.analyze import analyze as analyze_runs
    from flows.cli.run import told_as_json

    with told_as_json(json):
        analyze_runs(target, as_json=json)


@app.command()
def report(
    run: Run = "latest",
    out: Annotated[
        Path | None, typer.Option("--out", help="Where to write; else the run's own folder.")
    ] = None,
) -> None:
    """Write one HTML page of a run: results, plots, samples, facts, and where all came from."""
    from flows.cli.report import report as write_report

    write_report(run, out)


@app.command()
def reproduce(
    run: Run = "latest",
    step: Annotated[
        str | None, typer.Option("--step", help="Only this step, and what it needs.")
    ] = None,
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Also with inputs that are not as they were.")
    ] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the store of what comes out.")] = False,
    tolerance: Annotated[
        float, typer.Option("--tolerance", min=0, help="Share by which timings may differ.")
    ] = 0.25,
    json: Json = False,
) -> None:
    """Run it again in an empty store; exits with 0 if every number comes out as it did, else 1."""
    from flows.cli.reproduce import reproduce as reproduce_one
    from flows.cli.run import told_as_json
    from flows.reproduce import ReproductionOptions

    options = ReproductionOptions(step, anyway, keep, tolerance)
    with told_as_json(json):
        status = reproduce_one(run, options, as_json=json)
    raise typer.Exit(status)


@app.command()
def unpack(
    bundle: Annotated[Path, typer.Argument(help="The <id>_artifacts.zip of a run.")],
    to: Annotated[Path, typer.Option("--to", help="Folder to make, or an empty one.")],
) -> None:
    """Unpack a run's bundle safely, checking every file's sha256."""
    from flows.experiment.bundle import unpack_bundle
    from flows.experiment.record import counted

    manifest = unpack_bundle(bundle, to)
    print(f"{counted(len(manifest.files), 'verified file')} of run {manifest.run} in {to}")


@app.command(add_help_option=False)
def step(
    kind: Annotated[str, typer.Argument(help="Kind of step.")] = "",
    overrides: Set = None,
    json: Json = False,
    help_: Annotated[bool, typer.Option("--help", "-h", help="Print the step's fields.")] = False,
) -> None:
    """Run one step, without a file: `labwright step compress --help` prints its fields."""
    from flows.cli.step import print_fields, run_step

    if help_ or not kind:
        print_fields(kind)
    else:
        run_step(kind, overrides or [], as_json=json)


@standards_app.command(name="list")
def standards_list(json: Json = False) -> None:
    """List every standard."""
    from flows.cli.standards import print_standards

    print_standards(as_json=json)


@standards_app.command(name="show")
def standards_show(name: Annotated[str, typer.Argument(help="Name of a standard.")]) -> None:
    """Print each value of a standard, and where it comes from."""
    from flows.cli.standards import print_standard

    print_standard(name)


@server_app.command(name="start")
def server_start() -> None:
    """Start the server, or find the one that runs."""
    from flows.cli.server import start

    start()


@server_app.command(name="stop")
def server_stop() -> None:
    """Stop the server; runs go on without it, and are not shown in its history any more."""
    from flows.cli.server import stop

    stop()


@server_app.command(name="status")
def server_status() -> None:
    """Say whether the server runs, and where; exits with 1 if it does not."""
    from flows.cli.server import status

    raise typer.Exit(status())


@app.command()
def doctor(json: Json = False) -> None:
    """Say what is installed, what is missing, and what to type for it."""
    from flows.cli.doctor import doctor as examine

    raise typer.Exit(examine(as_json=json))
