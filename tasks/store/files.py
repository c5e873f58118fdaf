"""Durable writes. Every file that the store promises to keep goes through the functions here.

The order is always the same: write a new file, fsync it, give it its name in one atomic operation,
fsync the folder. A process or machine that stops anywhere in between leaves the old state or the
new one. Names and contents of what is half-made lie in a `Scratch` folder.

    write_durably(path, b"...")                      # replaces what was there
    publish_exclusively(temporary, path)             # False if somebody was first
"""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path

CHUNK_BYTES = 1 << 20
READ_ONLY = 0o444
KEPT_MTIME_NS = 1_000_000_000  # of every object, in 1970: any later write changes it


def write_durably(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Put a file there whole, or leave what was there; durable on return."""
    make_folder(path.parent)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        write_new(temporary, data, mode)
        os.replace(temporary, path)
    except BaseException:
        remove(temporary)
        raise
    sync_folder(path.parent)


def write_new(path: Path, data: bytes, mode: int) -> None:
    """Create a file and fsync it; FileExistsError if the name is taken."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        write_all(fd, data)
        os.fchmod(fd, mode)
        os.fsync(fd)
    finally:
        os.close(fd)


def copy_new(source: Path, target: Path) -> str:
    """Copy into a new, read-only, fsynced file; returns the digest of what was written."""
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(CHUNK_BYTES))
    fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with source.open("rb", buffering=0) as file:
            while num_bytes := file.readinto(buffer):
                digest.update(buffer[:num_bytes])
                write_all(fd, buffer[:num_bytes])
        seal(fd)
    finally:
        os.close(fd)
    return digest.hexdigest()


def seal(fd: int) -> None:
    """Make an open file what objects are: read-only, of a fixed age, on the disk."""
    os.fchmod(fd, READ_ONLY)
    os.utime(fd, ns=(KEPT_MTIME_NS, KEPT_MTIME_NS))
    os.fsync(fd)


def publish_exclusively(temporary: Path, path: Path) -> bool:
    """Give a finished file its name if nothing has it yet; says whether it was free."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    sync_folder(path.parent)
    return True


def write_all(fd: int, data: bytes | memoryview) -> None:
    """Write every byte; os.write may stop half-way."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]


def make_folder(folder: Path) -> None:
    """Create a folder and those above it, durably; fine if it exists."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    try:
        os.mkdir(folder)
    except FileExistsError:
        return
    sync_folder(folder.parent)


def sync_file(path: Path) -> None:
    """Make the content of a file durable that somebody else wrote."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def remove(path: Path) -> None:
    """Unlink a file that may not be there."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
