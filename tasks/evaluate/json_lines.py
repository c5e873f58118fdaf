"""Whatever lm-eval returns, as JSON that is equal on every machine.

NumPy scalars become numbers, what is not finite and lm-eval's "N/A" become null, tuples lists, and
paths of this run's folders placeholders.

    clean(np.float64(0.5)), clean({"acc_stderr,none": "N/A"})    # 0.5, {"acc_stderr,none": None}
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

NOT_AVAILABLE = "N/A"


def clean(value: Any, names: Mapping[str, str] | None = None) -> Any:
    """JSON data with `names` (path -> placeholder) put in for paths wherever text holds them."""
    names = names or {}
    match value:
        case None | bool() | int():
            return value
        case float():
            return float(value) if math.isfinite(value) else None
        case str():
            for path, name in names.items():
                value = value.replace(path, name)
            return None if value == NOT_AVAILABLE else str(value)
        case Mapping():
            return {str(key): clean(item, names) for key, item in value.items()}
        case list() | tuple():
            return [clean(item, names) for item in value]
        case set() | frozenset():
            return sorted((clean(item, names) for item in value), key=str)
        case _ if hasattr(value, "tolist"):  # NumPy scalars and arrays
            return clean(value.tolist(), names)
        case _:
            return f"<{type(value).__qualname__}>"


def write_json(path: Path, value: Any) -> Path:
    """One document, keys sorted."""
    text = json.dumps(value, allow_nan=False, ensure_ascii=False, indent=1, sort_keys=True)
    path.write_text(text + "\n", encoding="utf-8")
    return path


def write_json_lines(path: Path, values: Iterable[Any]) -> Path:
    """One document a line."""
    with path.open("w", encoding="utf-8") as file:
        for value in values:
            file.write(json.dumps(value, allow_nan=False, ensure_ascii=False) + "\n")
    return path
