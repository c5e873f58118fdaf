"""The store: content-addressed objects, exclusive records, leases. `open_store()` gives the user's.

store = open_store()
ref = store.put(Path("model"), ArtifactKind.MODEL, "quickstart")
folder = store.materialize(ref)      # verified, read-only
"""

from __future__ import annotations

from pathlib import Path

from tasks.settings import settings
from tasks.store.base import Lease, Record, Store
from tasks.store.local import LocalStore

__all__ = ["Lease", "LocalStore", "Record", "Store", "open_store"]


def open_store(home: Path | None = None) -> Store:
    """The store in `home`, by default in LABWRIGHT_HOME; writes nothing before something is put."""
    return LocalStore(home or settings().home)
