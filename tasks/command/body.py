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
    }


def keep(spec: CommandSpec, work: Path, kept: Path) -> int:
    """Move what the patterns name to `kept`; one that names nothing fails."""
    kept.mkdir()
    num_files = 0
    for pattern in spec.outputs:
        found = [path for path in sorted(work.glob(pattern)) if _is_output(path, work)]
        found += [
            path
            for folder in work.glob(pattern)
            if folder.is_dir() and not folder.is_symlink()
            for path in sorted(folder.rglob("*"))
            if _is_output(path, work)
        ]
        if not found and pattern != EVERYTHING:
            raise RuntimeError(f"outputs: the script left nothing that matches '{pattern}'")
        for path in dict.fromkeys(found):
            target = kept / path.relative_to(work)
            if target.exists():
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            path.rename(target)
            num_files += 1
    return num_files


def _is_output(path: Path, work: Path) -> bool:
    """A regular file of the script's own: neither an input nor a link."""
    inside = path.relative_to(work)
    return path.is_file() and not path.is_symlink() and inside.parts[0] != INPUTS


if __name__ == "__main__":
    run_body(CommandSpec, main)
