"""What the operating system refuses, in words: which path, why, and what to do about it.

with in_words("keep the model", path, home):
    ...                                       # OSError becomes StoreError
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tasks.errors import StoreError

NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
NOT_ALLOWED = (errno.EACCES, errno.EPERM, errno.EROFS)


@contextmanager
def in_words(doing: str, path: Path, home: Path) -> Iterator[None]:
    """Turn an OSError of the body into a StoreError that says what to type."""
    try:
        yield
    except OSError as error:
        culprit = Path(os.fsdecode(error.filename)) if error.filename else path
        reason = error.strerror or str(error)
        raise StoreError(f"cannot {doing}: {culprit}: {reason}{_advice(error, home)}") from error


def _advice(error: OSError, home: Path) -> str:
    if error.errno in NO_SPACE:
        return (
            f"; free some space on the disk of {home}, or set LABWRIGHT_HOME to a folder on another"
        )
    if error.errno in NOT_ALLOWED:
        return (
            f"; give yourself access (`ls -ld {home}` shows its owner), or set LABWRIGHT_HOME to a "
            "folder that you may write to"
        )
    return ""
