"""What stands in a file: values by dotted key, differences between values, headings of a text.

look_up({"a": {"b": 1}}, "a.b")                       # 1
differences({"a": 1.0}, {"a": 1.1}, tolerance=0.01, is_subset=False)
markdown_headings("# Results")                        # ["Results"]
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from html.parser import HTMLParser
from typing import Any

from tasks.errors import nearest


def look_up(data: Any, key: str) -> Any:
    """The value of a dotted key; KeyError carries a hint at the nearest name."""
    if isinstance(data, Mapping) and key in data:
        return data[key]
    for part in key.split("."):
        if isinstance(data, list) and part.isdecimal() and int(part) < len(data):
            data = data[int(part)]
        elif isinstance(data, Mapping) and part in data:
            data = data[part]
        else:
            valid = [str(name) for name in data] if isinstance(data, Mapping) else []
            raise KeyError(nearest(part, valid))
    return data


def differences(
    expected: Any, found: Any, tolerance: float, is_subset: bool, key: str = ""
) -> list[str]:
    """Where two values differ; numbers may by a relative tolerance, booleans are no numbers."""
    where = key or "the value"
    if isinstance(expected, Mapping) and isinstance(found, Mapping):
        lines = [f"{_join(key, name)} is missing" for name in expected if name not in found]
        if not is_subset:
            lines += [
                f"{_join(key, name)} was not expected" for name in found if name not in expected
            ]
        for name in expected:
            if name in found:
                lines += differences(
                    expected[name], found[name], tolerance, is_subset, _join(key, name)
                )
        return lines
    if isinstance(expected, list) and isinstance(found, list):
        if len(expected) != len(found):
            return [f"{where} has {len(found)} items, expected {len(expected)}"]
        return [
            line
            for index, (one, other) in enumerate(zip(expected, found, strict=True))
            for line in differences(one, other, tolerance, is_subset, _join(key, str(index)))
        ]
    if is_number(expected) and is_number(found):
        same = math.isclose(expected, found, rel_tol=tolerance, abs_tol=0.0)
    else:
        same = type(expected) is type(found) and expected == found
    return [] if same else [f"{where} is {found!r}, expected {expected!r}"]


def markdown_headings(text: str) -> list[str]:
    """Texts of `# …` lines outside of code, and of lines underlined with = or -."""
    headings: list[str] = []
    fence = ""
    previous = ""
    for line in text.splitlines():
        mark = re.match(r"\s*(```+|~~~+)", line)
        if mark and (not fence or mark[1].startswith(fence)):
            fence = "" if fence else mark[1]
        elif not fence:
            if found := re.match(r" {0,3}#{1,6}\s+(.*?)\s*#*\s*$", line):
                headings.append(found[1])
            elif re.match(r" {0,3}(=+|-{2,})\s*$", line) and previous.strip():
                headings.append(previous.strip())
        previous = line
    return headings


def html_headings(text: str) -> list[str]:
    """Texts of h1 to h6."""
    parser = _Headings()
    parser.feed(text)
    return ["".join(parts).strip() for parts in parser.headings]


class _Headings(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.headings: list[list[str]] = []
        self._depth = 0

    def handle_starttag(self, tag: str, attrs: Any) -> None:  # noqa: ARG002
        if re.fullmatch(r"h[1-6]", tag):
            self._depth += 1
            self.headings.append([])

    def handle_endtag(self, tag: str) -> None:
        if re.fullmatch(r"h[1-6]", tag) and self._depth:
            self._depth -= 1

    def handle_data(self, data: str) -> None:
        if self._depth:
            self.headings[-1].append(data)


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _join(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name


def folded(text: str) -> str:
    return " ".join(text.split()).casefold()
