"""The logs of one attempt: gathered in a folder, free of secrets, copied to whoever watches.

logs = AttemptLogs(staging, scrubber)
logs.finish()       # stdout.txt, stderr.txt and metrics.jsonl in staging/logs
logs.kept()         # where a person should look after a failure
"""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import dataclass
from pathlib import Path

from tasks.body import METRICS_FILE
from tasks.observer import observers, warn
from tasks.scrubbing import Scrubber


@dataclass(frozen=True)
class AttemptLogs:
    """What a body wrote while it ran in a staging folder."""

    staging: Path
    scrubber: Scrubber

    @property
    def folder(self) -> Path:
        return self.staging / "logs"

    def finish(self) -> None:
        """Gather the logs in one folder, and keep secrets out of them."""
        with contextlib.suppress(FileNotFoundError):
            shutil.copyfile(self.staging / "out" / METRICS_FILE, self.folder / METRICS_FILE)
        for log in self.folder.glob("*"):
            self.scrubber.file(log)

    def kept(self) -> Path:
        """Where a person should look after a failure: the watcher's copy, or where they are."""
        try:
            self.finish()
        except OSError:  # the disk that is full may be the reason that we are here
            return self.folder
        return self.copy() or self.folder

    def copy(self) -> Path | None:
        """Give each observer that wants one a copy; returns the last that could be made."""
        copy = None
        for observer in observers():
            if observer.log_folder is not None:
                try:
                    shutil.copytree(self.folder, observer.log_folder, dirs_exist_ok=True)
                except (OSError, shutil.Error) as error:
                    warn(f"the logs could not be copied to {observer.log_folder}: {error}")
                else:
                    copy = observer.log_folder
        return copy
