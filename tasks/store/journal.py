"""Journals: files that only grow, one checksummed line an entry, on the disk when `append` returns.

    with Journal.open(path) as journal:
        journal.append({"event": "started"})
    read_journal(path).entries

Each line carries the digest of the line before it, so that a changed, missing, doubled or moved
line shows. A last line without its end is what a power cut leaves: it was never acknowledged, is
reported, and is cut off when the journal is next opened to append. Everything else that is wrong is
`Corrupted` and names the line. One process appends at a time; anyone may read.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tasks.canonical import canonical_json
from tasks.errors import Corrupted, StoreError
from tasks.flock import try_lock
from tasks.store.failures import in_words
from tasks.store.files import make_folder, sync_folder, write_all

FIRST_LINK = hashlib.sha256(b"labwright-journal-1").hexdigest()


@dataclass(frozen=True)
class JournalContents:
    """What a journal holds."""

    entries: tuple[dict[str, Any], ...]
    torn: bytes  # an unfinished last line; empty where there is none
    num_bytes: int  # of the whole lines
    last_link: str


class Journal:
    """An open journal; made by `open`. Safe to share between threads."""

    def __init__(self, path: Path, fd: int, contents: JournalContents):
        self.path = path
        self.contents = contents  # as found when it was opened
        self._fd = fd
        self._num_bytes = contents.num_bytes
        self._link = contents.last_link
        self._guard = threading.Lock()

    @classmethod
    def open(cls, path: Path) -> Self:
        """Read it, cut off a torn last line, and append from there; creates it if it is not there.

        `StoreError` if another process has it open, `Corrupted` if it is damaged.
        """
        with in_words("open the journal", path, path.parent):
            make_folder(path.parent)
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                if not try_lock(fd):
                    raise StoreError(f"{path} is being written by another process")
                contents = read_journal(path)
                if contents.torn:
                    os.ftruncate(fd, contents.num_bytes)
                    os.fsync(fd)
                sync_folder(path.parent)
            except BaseException:
                os.close(fd)
                raise
        return cls(path, fd, contents)

    def append(self, entry: Mapping[str, Any]) -> None:
        """Add an entry; once this returns, it survives a power cut."""
        with self._guard, in_words("append to the journal", self.path, self.path.parent):
            line, link = _encode(entry, self._link)
            try:
                os.lseek(self._fd, self._num_bytes, os.SEEK_SET)
                write_all(self._fd, line)
                os.fsync(self._fd)
            except OSError:
                os.ftruncate(self._fd, self._num_bytes)  # a full disk leaves no half line
                raise
            self._num_bytes += len(line)
            self._link = link

    def close(self) -> None:
        """Let others append."""
        os.close(self._fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def read_journal(path: Path) -> JournalContents:
    """Every entry, verified; `Corrupted` names the first line that is not as written."""
    with in_words("read the journal", path, path.parent):
        data = path.read_bytes()
    *lines, torn = data.split(b"\n")
    entries: list[dict[str, Any]] = []
    link = FIRST_LINK
    for number, line in enumerate(lines, start=1):
        try:
            entry = json.loads(line)["entry"]
            expected, next_link = _encode(entry, link)
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise Corrupted(f"{path}:{number}", f"is not a journal entry: {error}") from error
        if expected != line + b"\n":
            reason = "does not match its checksum, or does not follow the line before it"
            raise Corrupted(f"{path}:{number}", reason)
        entries.append(entry)
        link = next_link
    return JournalContents(tuple(entries), torn, len(data) - len(torn), link)


def _encode(entry: Mapping[str, Any], previous: str) -> tuple[bytes, str]:
    """A line with its end, and the link that the next one carries on."""
    link = hashlib.sha256(previous.encode() + canonical_json(entry)).hexdigest()
    return canonical_json({"entry": entry, "link": link}) + b"\n", link
