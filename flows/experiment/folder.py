"""A run's folder: every path in it, its id, its life.

    <home>/runs/<ulid>/run.json            what is known of the run; replaced atomically
                       journal.jsonl       what happened, in order
                       spec/               the file as it was, and its values resolved
                       overrides.json      the overrides as they were typed, the owner's alone
                       logs/<step>/        stdout.txt, stderr.txt, metrics.jsonl
                       report/             the page of the analysis
                       <ulid>_artifacts.zip

Whoever holds the lock on `lock` works in the folder: the run itself, or after its death the one
process that finishes its bookkeeping. The kernel frees the lock when its holder dies; the file is
removed when the run's last word is written.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from flows.experiment.record import RunReport
from tasks.errors import Problem, SpecError, StoreError
from tasks.settings import settings
from tasks.store.failures import in_words
from tasks.store.files import write_durably

LATEST = "latest"
LOCK = "lock"


class RunFolder:
    """The paths of one run."""

    def __init__(self, path: Path):
        self.path = path
        self.id = path.name
        self.report_file = path / "run.json"
        self.overrides_file = path / "overrides.json"
        self.journal = path / "journal.jsonl"
        self.spec = path / "spec"
        self.logs = path / "logs"
        self.page = path / "report"
        self.bundle = path / f"{path.name}_artifacts.zip"
        self._lock = path / LOCK

    @classmethod
    def create(cls, home: Path | None = None) -> RunFolder:
        """A folder with a new id; two processes never get the same."""
        from ulid import ULID

        runs = runs_folder(home)
        try:
            runs.mkdir(parents=True, exist_ok=True)
            while True:
                path = runs / str(ULID())
                try:
                    path.mkdir()
                except FileExistsError:
                    continue
                return cls(path)
        except OSError as error:
            raise StoreError(f"cannot write to {runs}: {error.strerror}") from error

    @contextmanager
    def held(self, wait: bool = False) -> Iterator[bool]:
        """Hold the run's lock; where somebody else does, wait for it, or yield False at once.

        A new run waits: whoever looks for the dead holds every lock for a moment.
        """
        with in_words("write", self._lock, self.path):
            lock = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield False
            else:
                yield True
        finally:
            os.close(lock)

    def read(self) -> RunReport | None:
        """What run.json says; None for a run that died before it wrote any."""
        try:
            return RunReport.model_validate_json(self.report_file.read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(f"{self.report_file} cannot be read: {error.strerror}") from error
        except ValidationError as error:
            raise StoreError(
                f"{self.report_file} is damaged: {error.errors()[0]['msg']}"
            ) from error

    def write(self, report: RunReport) -> None:
        """Replace run.json; a crash leaves the old one or the new one."""
        with in_words("write", self.report_file, self.path):
            write_durably(self.report_file, report.model_dump_json(indent=1).encode())

    def keep_overrides(self, overrides: Sequence[str]) -> None:
        """Keep them for `resume`: run.json holds them without their secrets."""
        if overrides:
            write_durably(self.overrides_file, json.dumps(list(overrides)).encode(), 0o600)

    def overrides(self) -> tuple[str, ...]:
        """The overrides as they were typed; raises `SpecError` where they were damaged."""
        try:
            return tuple(str(typed) for typed in json.loads(self.overrides_file.read_bytes()))
        except FileNotFoundError:
            return ()
        except (OSError, ValueError, TypeError) as error:
            raise SpecError(f"{self.overrides_file} cannot be read: {error}") from error

    def release(self, may_resume: bool = True) -> None:
        """The run has ended: nobody needs to ask any more whether its process lives."""
        self._lock.unlink(missing_ok=True)
        if not may_resume:
            self.overrides_file.unlink(missing_ok=True)

    def discard_if_empty(self) -> None:
        """Remove what there is of a run that never came to say that it exists."""
        if not self.report_file.exists():
            shutil.rmtree(self.path, ignore_errors=True)


def runs_folder(home: Path | None = None) -> Path:
    return (home or settings().home) / "runs"


def all_runs(home: Path | None = None) -> list[RunFolder]:
    """Every run, oldest first."""
    return [RunFolder(path) for path in _entries(home) if _may_exist(path / "run.json")]


def find_run(name: str, home: Path | None = None) -> RunFolder:
    """The run of an id, of a unique beginning of one, or `latest`; raises `SpecError`."""
    runs = all_runs(home)
    if not runs:
        raise SpecError("there are no runs yet; type: labwright run FILE")
    if name == LATEST:
        return runs[-1]
    found = [run for run in runs if run.id.startswith(name.upper())]
    if len(found) == 1:
        return found[0]
    if not found:
        raise SpecError(f"there is no run '{name}'; type: labwright list")
    ids = ", ".join(run.id for run in found[-5:])
    raise SpecError(f"'{name}' begins the ids of {len(found)} runs: {ids}")


def unfinished_runs(home: Path | None = None) -> list[RunFolder]:
    """Runs that have not said their last word; whether they live, their locks tell."""
    return [RunFolder(path) for path in _entries(home) if os.path.exists(path / LOCK)]


def _entries(home: Path | None) -> list[Path]:
    """What lies in the folder of runs, oldest first; raises `SpecError` if that cannot be told."""
    runs = runs_folder(home)
    try:
        return sorted(runs.iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        message = f"cannot be listed: {error.strerror}; mend it, or set LABWRIGHT_HOME to another"
        raise SpecError([Problem(message, str(runs))]) from error


def _may_exist(path: Path) -> bool:
    """Also for what is barred: whoever reads it says so."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True
