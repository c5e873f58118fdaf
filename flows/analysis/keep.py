"""Where what was found out about a run is kept: beside the page of its analysis.

keep(run.page, FACTS_JSON, text)
"""

from __future__ import annotations

from pathlib import Path

from tasks.store.failures import in_words
from tasks.store.files import write_durably

FACTS_JSON = "facts.json"
FACTS_MARKDOWN = "facts.md"
RUN_PAGE = "run.html"


def keep(folder: Path, name: str, text: str) -> Path:
    """Write a file whole, replacing an older one; raises `StoreError` in words."""
    path = folder / name
    with in_words("write", path, folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_durably(path, text.encode())
    return path
