"""Views: artifacts laid out as folders of links into the objects, for bodies to read.

    views/<digest>/config.json -> ../../objects/ab/<sha256>     a folder artifact
    views/<digest>/<name>      -> ../../objects/ab/<sha256>     a file artifact, its suffix kept

A view holds no bytes of its own, except for files that must be executable, which are copies. It is
compared with its manifest each time that it is asked for, and made anew where it differs, under its
lock: a view that is right is never taken away from those who read it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tasks.artifacts import ArtifactRef, Manifest, ManifestEntry
from tasks.digests import DIGESTS
from tasks.store import files
from tasks.store.layout import Layout, safe_name
from tasks.store.scratch import scratch_path

EXECUTABLE = 0o555


class Views:
    """The views of one store; what they link to was verified by the caller."""

    def __init__(self, layout: Layout):
        self._layout = layout

    def of_file(self, ref: ArtifactRef) -> Path:
        """A link to a file artifact, under its readable name."""
        view = self._layout.view(ref.digest)
        link = view / safe_name(ref.name)
        if not self._is_link(link, ref.digest):
            with self._lock(ref.digest):
                if view.is_symlink() or not view.is_dir():
                    self._discard(view)
                    files.make_folder(view)
                temporary = scratch_path(self._layout.scratch)
                self._link(temporary, ref.digest, link)
                if link.is_dir() and not link.is_symlink():
                    self._discard(link)
                os.replace(temporary, link)
        return link

    def of_folder(self, ref: ArtifactRef, manifest: Manifest) -> Path:
        """A folder of links with the files of a manifest, and nothing else."""
        view = self._layout.view(ref.digest)
        if not self._is_right(view, manifest):
            with self._lock(ref.digest):
                if not self._is_right(view, manifest):  # else another has made it meanwhile
                    fresh = scratch_path(self._layout.scratch)
                    self._build(fresh, manifest, view)
                    self._discard(view)
                    files.make_folder(view.parent)
                    os.rename(fresh, view)
        return view

    @contextmanager
    def _lock(self, digest: str) -> Iterator[None]:
        """Keep every other process and thread from changing this view."""
        path = self._layout.view_lock(digest)
        files.make_folder(path.parent)
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _build(self, folder: Path, manifest: Manifest, view: Path) -> None:
        folder.mkdir()
        for entry in manifest.files:
            path = folder / entry.path
            path.parent.mkdir(parents=True, exist_ok=True)
            if entry.executable:
                shutil.copyfile(self._layout.object(entry.sha256), path)
                path.chmod(EXECUTABLE)
            else:
                self._link(path, entry.sha256, view / entry.path)

    def _is_right(self, view: Path, manifest: Manifest) -> bool:
        if view.is_symlink() or not view.is_dir():
            return False
        try:
            return self._holds(view, manifest)
        except FileNotFoundError:
            return False  # another, who found it wrong, takes it away at this moment

    def _holds(self, view: Path, manifest: Manifest) -> bool:
        found: set[str] = set()
        for folder, folders, names in os.walk(view):
            if any(os.path.islink(os.path.join(folder, name)) for name in folders):
                return False
            found.update(os.path.relpath(os.path.join(folder, name), view) for name in names)
        return found == {entry.path for entry in manifest.files} and all(
            self._is_laid_out(view, entry) for entry in manifest.files
        )

    def _is_laid_out(self, view: Path, entry: ManifestEntry) -> bool:
        path = view / entry.path
        if not entry.executable:
            return self._is_link(path, entry.sha256)
        status = os.lstat(path)
        is_runnable = stat.S_ISREG(status.st_mode) and bool(status.st_mode & stat.S_IXUSR)
        return is_runnable and DIGESTS.digest(path) == entry.sha256

    def _link(self, path: Path, digest: str, final: Path) -> None:
        """A link that is right once it lies at `final`; relative, so that a home can move."""
        os.symlink(os.path.relpath(self._layout.object(digest), final.parent), path)

    def _is_link(self, path: Path, digest: str) -> bool:
        expected = os.path.relpath(self._layout.object(digest), path.parent)
        return not path.parent.is_symlink() and path.is_symlink() and os.readlink(path) == expected

    def _discard(self, path: Path) -> None:
        """Take away what is wrong, in one step; bodies that read through it keep their files."""
        if os.path.lexists(path):
            aside = scratch_path(self._layout.scratch)
            os.rename(path, aside)
            self._discard_tree(aside)

    @staticmethod
    def _discard_tree(path: Path) -> None:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            files.remove(path)
