"""Records: one file for each finished step, which vouches for itself.

A record's file is the canonical JSON of the record with the checksum of it. It is read only if it
is, byte for byte, what would be written for the record that it holds, and if it lies where that
record belongs: a flipped bit, a cut file and two files that changed places all show.

    records.commit(record)                    # exclusively: the first writer's stands
    records.read("train", identity)           # None, the record, or Corrupted
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from tasks.canonical import canonical_json
from tasks.errors import Corrupted
from tasks.store import files
from tasks.store.base import Record
from tasks.store.layout import Layout
from tasks.store.objects import set_aside
from tasks.store.scratch import scratch_file

RECORD_FORMAT = "labwright-record-1"


class Records:
    """The records of one store. Raises OSError where the disk refuses."""

    def __init__(self, layout: Layout):
        self._layout = layout

    def read(self, step: str, identity: str) -> Record | None:
        """The record, verified; None if there is none; `Corrupted` if it is not as written."""
        path = self._layout.record(step, identity)
        what = f"record {step}/{identity}"
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            if os.path.lexists(path):
                raise Corrupted(what, f"{path} is a link to nothing") from None
            return None
        except (IsADirectoryError, NotADirectoryError) as error:
            raise Corrupted(what, f"{path} is not a file") from error
        record = decode(data, what, path)
        if (record.step, record.identity) != (step, identity):
            raise Corrupted(what, f"{path} holds the record {record.step}/{record.identity}")
        return record

    def commit(self, record: Record) -> Record:
        """Publish a record, or return the intact one that stands; a damaged one is set aside."""
        path = self._layout.record(record.step, record.identity)
        files.make_folder(path.parent)
        with scratch_file(self._layout.scratch) as temporary:
            files.write_new(temporary, encode(record), files.READ_ONLY)
            while not files.publish_exclusively(temporary, path):
                try:
                    standing = self.read(record.step, record.identity)
                except Corrupted:
                    self.set_aside(record.step, record.identity)
                else:
                    if standing is not None:
                        files.sync_folder(path.parent)  # its writer may have died before it could
                        return standing
        return record

    def set_aside(self, step: str, identity: str) -> None:
        """Rename a record to `<name>.corrupt-<n>`; fine if another process did so already."""
        try:
            set_aside(self._layout.record(step, identity))
        except FileNotFoundError:
            return


def encode(record: Record) -> bytes:
    """The bytes of a record's file."""
    body = {"format": RECORD_FORMAT, "record": record}
    checksum = hashlib.sha256(canonical_json(body)).hexdigest()
    return canonical_json({"checksum": checksum, **body}) + b"\n"


def decode(data: bytes, what: str, path: Path) -> Record:
    """The record that `encode` made these bytes of; `Corrupted` for any other bytes."""
    try:
        document: Any = json.loads(data)
        written_in = document["format"]
        if written_in != RECORD_FORMAT:
            raise Corrupted(what, f"{path} has the format {written_in!r}, not {RECORD_FORMAT!r}")
        record = Record.model_validate(document["record"])
        is_as_written = encode(record) == data
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise Corrupted(what, f"{path} is not a record: {_first_line(error)}") from error
    if not is_as_written:
        raise Corrupted(what, f"{path} does not match its checksum")
    return record


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".partition("\n")[0]
