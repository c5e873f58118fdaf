"""A journal gives back exactly what was appended, or says which line is wrong."""

from __future__ import annotations

import errno
import os
import random
import threading
from pathlib import Path

import pytest

from tasks.errors import Corrupted, StoreError
from tasks.store.journal import Journal, read_journal

ENTRIES = [{"event": "trial", "number": n, "loss": n / 7, "text": "zwölf\n"} for n in range(6)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "campaign" / "journal.jsonl"
    with Journal.open(path) as journal:
        for entry in ENTRIES:
            journal.append(entry)
    return path


def test_entries_are_read_back_and_appended_to(path: Path) -> None:
    with Journal.open(path) as journal:
        assert list(journal.contents.entries) == ENTRIES
        journal.append({"event": "end"})
    contents = read_journal(path)
    assert list(contents.entries) == [*ENTRIES, {"event": "end"}]
    assert contents.torn == b""


def test_torn_last_line_is_reported_and_cut_off(path: Path) -> None:
    whole = path.read_bytes()
    last_start = whole.rstrip(b"\n").rfind(b"\n") + 1
    for length in range(last_start + 1, len(whole)):
        path.write_bytes(whole[:length])
        contents = read_journal(path)
        assert list(contents.entries) == ENTRIES[:-1]
        assert contents.torn == whole[last_start:length]
    with Journal.open(path) as journal:
        assert journal.contents.torn
        journal.append(ENTRIES[-1])
    assert path.read_bytes() == whole


def test_any_flipped_bit_in_a_whole_line_is_reported_by_its_number(path: Path) -> None:
    rng = random.Random(1)
    whole = path.read_bytes()
    for _ in range(300):
        position = rng.randrange(8 * (len(whole) - 1))
        damaged = bytearray(whole)
        damaged[position // 8] ^= 1 << position % 8
        path.write_bytes(damaged)
        line = whole[: position // 8].count(b"\n") + 1
        with pytest.raises(Corrupted, match=rf"journal\.jsonl:({line}|{line + 1}): "):
            read_journal(path)
        with pytest.raises(Corrupted):
            Journal.open(path)


@pytest.mark.parametrize("change", ["drop", "double", "swap"])
def test_lines_that_moved_are_noticed(path: Path, change: str) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    changed = {
        "drop": lines[:2] + lines[3:],
        "double": lines[:3] + lines[2:],
        "swap": [*lines[:2], lines[3], lines[2], *lines[4:]],
    }[change]
    path.write_bytes(b"".join(changed))
    with pytest.raises(Corrupted, match=r"journal\.jsonl:[34]: .* does not follow"):
        read_journal(path)


def test_one_process_appends_at_a_time(path: Path) -> None:
    with Journal.open(path):
        with pytest.raises(StoreError, match="is being written by another process"):
            Journal.open(path)
        assert len(read_journal(path).entries) == len(ENTRIES)
    Journal.open(path).close()


def test_threads_share_an_open_journal(path: Path) -> None:
    with Journal.open(path) as journal:

        def append(number: int) -> None:
            for turn in range(5):
                journal.append({"thread": number, "turn": turn})

        threads = [threading.Thread(target=append, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(read_journal(path).entries) == len(ENTRIES) + 30


def test_full_disk_leaves_no_half_line(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = path.read_bytes()
    real_write = os.write

    def full(fd: int, data: bytes) -> int:
        real_write(fd, bytes(data)[:10])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with Journal.open(path) as journal:
        monkeypatch.setattr(os, "write", full)
        with pytest.raises(StoreError, match="No space left on device"):
            journal.append({"event": "lost"})
        monkeypatch.undo()
        assert path.read_bytes() == whole
        journal.append({"event": "kept"})
    assert read_journal(path).entries[-1] == {"event": "kept"}


def test_number_that_is_none_is_refused(path: Path) -> None:
    whole = path.read_bytes()
    with Journal.open(path) as journal, pytest.raises(ValueError, match="nan is not a finite"):
        journal.append({"loss": float("nan")})
    assert path.read_bytes() == whole


def test_missing_journal_is_said(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"cannot read the journal: .*No such file"):
        read_journal(tmp_path / "nowhere.jsonl")
