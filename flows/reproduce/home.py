"""A home with an empty store, for as long as a reproduction takes.

    with empty_home(keep=False) as home:
        ...    # settings().home is it; records and artifacts of the user's home are not there

Environments, settings, caches of compilers and the leases of GPUs and of the host are the user's,
so that what measures time is alone on the machine here, too. The folder lies in the store's scratch
folder: should this process be killed, the next one to write there clears it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tasks.settings import settings
from tasks.store.failures import in_words
from tasks.store.files import make_folder
from tasks.store.scratch import scratch_path

SHARED_FOLDERS = ("cache", "gpus", "leases")
SHARED_IF_THERE = ("envs", "settings.yaml")
VARIABLE = "LABWRIGHT_HOME"


@contextmanager
def empty_home(name: str, *, keep: bool) -> Iterator[Path]:
    """Make `name`'s home the current one; it is removed at the end unless it is to be kept."""
    users = settings().home
    home = users / "reproductions" / name if keep else scratch_path(users / "scratch")
    with in_words("make a store for the reproduction", home, users):
        make_folder(home)
        for folder in SHARED_FOLDERS:
            make_folder(users / folder)
        for shared in (*SHARED_FOLDERS, *SHARED_IF_THERE):
            if (users / shared).exists():
                (home / shared).symlink_to(users / shared)
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = str(home)
    try:
        yield home
    finally:
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before
        if not keep:
            shutil.rmtree(home, ignore_errors=True)
