"""Runs a user's command line in an empty folder and keeps what it leaves.

The script's own file is run where the user has it (so that what lies beside it can be imported), if
its bytes are still those that the identity was computed from; elsewhere its kept copy is run. Of
the caller's variables it sees those that programs need to start, its spec's and its placement's.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from tasks.artifacts import ArtifactKind, ArtifactRef, file_digest
from tasks.body import METRICS_FILE, BodyContext, ProgramFailed, run_body
from tasks.command.spec import EVERYTHING, CommandResult, CommandSpec, script_path
from tasks.command.variables import PROJECT, VARIABLES
from tasks.host import WITHIN

BASE_VARIABLES = (
    "PATH", "HOME", "USER", "LANG", "LC_ALL", "TZ", "TMPDIR", "SHELL",
    "LD_LIBRARY_PATH", "CUDA_HOME", "CUDA_VISIBLE_DEVICES", "SSL_CERT_FILE",
)  # fmt: skip
INPUTS = "inputs"


def main(spec: CommandSpec, context: BodyContext) -> CommandResult:
    """Run, then keep; raises RuntimeError with the exit code where it is not 0."""
    work = context.out / "work"
    (work / INPUTS).mkdir(parents=True)
    for name, ref in (spec.inputs or {}).items():
        (work / INPUTS / name).symlink_to(context.path(ref))
    argv = command_line(spec, context, work)
    try:
        code = subprocess.run(
            argv, cwd=work, env=variables(spec, context), stdin=subprocess.DEVNULL, check=False
        ).returncode
    except FileNotFoundError as error:
        raise ProgramFailed(f"there is no program '{argv[0]}'") from error
    except PermissionError as error:
        raise ProgramFailed(f"'{argv[0]}' is not executable; type: chmod +x {argv[0]}") from error
    if code:
        end = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with {code}"
        raise ProgramFailed(f"script {end}")
    kept = context.out / "outputs"
    num_files = keep(spec, work, kept)
    outputs = context.artifact(ArtifactKind.FOLDER, kept, "outputs")
    return CommandResult(outputs=outputs, num_files=num_files, size_bytes=outputs.size_bytes)


def command_line(spec: CommandSpec, context: BodyContext, work: Path) -> list[str]:
    """The spec's words, with the script's by absolute path."""
    argv = list(spec.argv())
    if spec.script_file is None:
        return argv
    word, content = spec.script_file.word, spec.script_file.content
    if not isinstance(content, ArtifactRef):
        raise TypeError("the script was not resolved to an artifact before the body started")
    original = script_path(argv[word], Path(os.environ.get(PROJECT, "/nowhere")))
    if original.is_file():
        if file_digest(original) != content.digest:
            raise RuntimeError(f"{argv[word]} was changed after the run had begun; run it again")
        argv[word] = str(original)
    else:
        copy = work / Path(argv[word]).name
        copy.write_bytes(context.path(content).read_bytes())
        copy.chmod(0o755)
        argv[word] = str(copy)
    return argv


def variables(spec: CommandSpec, context: BodyContext) -> dict[str, str]:
    """The environment of the script."""
    placed = [name for name in os.environ.get(VARIABLES, "").split(",") if name]
    names = (*BASE_VARIABLES, *placed)
    environment = {name: os.environ[name] for name in names if name in os.environ}
    environment["PATH"] = os.pathsep.join(
        [str(Path(sys.executable).parent), environment.get("PATH", os.defpath)]
    )
    return {
        **environment,
        "PYTHONUNBUFFERED": "1",
        PROJECT: os.environ.get(PROJECT, ""),
        "LABWRIGHT_METRICS": str(context.out / METRICS_FILE),
        **spec.environment,
        WITHIN: os.environ.get(WITHIN, ""),
    }


def keep(spec: CommandSpec, work: Path, kept: Path) -> int:
    """Move what the patterns name to `kept`; one that names nothing fails.

    What lies behind a link is somebody else's: it stays where it is, and counts as nothing.
    """
    kept.mkdir()
    num_files = 0
    for pattern in spec.outputs:
        matched = sorted(work.glob(pattern))
        found = [path for path in matched if _is_output(path, work)]
        found += [
            path
            for folder in matched
            if folder.is_dir() and _link_to(folder, work) is None
            for path in sorted(folder.rglob("*"))
            if _is_output(path, work)
        ]
        if not found and pattern != EVERYTHING:
            links = [link for path in matched if (link := _link_to(path, work)) is not None]
            why = f"; '{links[0].relative_to(work)}' is a link, copy what it names" if links else ""
            raise RuntimeError(f"outputs: the script left nothing that matches '{pattern}'{why}")
        for path in dict.fromkeys(found):
            target = kept / path.relative_to(work)
            if target.exists():
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            path.rename(target)
            num_files += 1
    return num_files


def _is_output(path: Path, work: Path) -> bool:
    """A regular file of the script's own: neither an input nor a link, nor behind one."""
    is_input = path.relative_to(work).parts[0] == INPUTS
    return path.is_file() and not is_input and _link_to(path, work) is None


def _link_to(path: Path, work: Path) -> Path | None:
    """The first link on the way from `work` to a path, itself included; None if there is none."""
    way = [path, *path.parents]
    below = reversed(way[: way.index(work)])
    return next((part for part in below if part.is_symlink()), None)


if __name__ == "__main__":
    run_body(CommandSpec, main)
