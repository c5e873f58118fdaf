"""A run's folder: every path in it, its id, its life.

    <home>/runs/<ulid>/run.json            what is known of the run; replaced atomically
                       journal.jsonl       what happened, in order
                       spec/               the file as it was, its values resolved, the overrides
                       logs/<step>/        stdout.txt, stderr.txt, metrics.jsonl
                       report/             the page of the analysis
                       <ulid>_artifacts.zip

Whoever holds the lock on `lock` works in the folder: the run itself, or after its death the one
process that finishes its bookkeeping. The kernel frees the lock when its holder dies; the file is
removed when the run's last word is written.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from flows.experiment.record import RunReport
from tasks.errors import SpecError, StoreError
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
        except ValidationError as error:
            raise StoreError(
                f"{self.report_file} is damaged: {error.errors()[0]['msg']}"
            ) from error

    def write(self, report: RunReport) -> None:
        """Replace run.json; a crash leaves the old one or the new one."""
        with in_words("write", self.report_file, self.path):
            write_durably(self.report_file, report.model_dump_json(indent=1).encode())

    def release(self) -> None:
        """The run has ended: nobody needs to ask any more whether its process lives."""
        self._lock.unlink(missing_ok=True)


def runs_folder(home: Path | None = None) -> Path:
    return (home or settings().home) / "runs"


def all_runs(home: Path | None = None) -> list[RunFolder]:
    """Every run, oldest first."""
    runs = runs_folder(home)
    if not runs.is_dir():
        return []
    return [RunFolder(path) for path in sorted(runs.iterdir()) if (path / "run.json").exists()]


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
    return [RunFolder(lock.parent) for lock in sorted(runs_folder(home).glob(f"*/{LOCK}"))]
