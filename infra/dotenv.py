"""A `.env` file as labwright's settings read it, for set-up, which runs where python-dotenv is not.

    read_dotenv("export LABWRIGHT_HOME='/data' # not here", {})    # {"LABWRIGHT_HOME": "/data"}

Follows python-dotenv: `export`, quotes and their escapes, comments, `${NAME}` and `${NAME:-other}`;
a line that it cannot read is skipped. Standard library only.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping

_SPACE = r"[^\S\r\n]*"
_BINDING = re.compile(
    rf"""
    (?>(?:export[^\S\r\n]+)?)
    (?:'(?P<quoted>[^']+)'|(?P<key>(?!')[^=\#\s]+)) {_SPACE}
    (?P<equals>=
        (?:[^\S\r\n]+(?=\#)                        # nothing but a comment
        |  (?>{_SPACE}) (?:
              '(?P<single>(?:\\.|[^'\\])*)'
            | "(?P<double>(?:\\.|[^"\\])*)"
            | (?P<plain>(?!['"])[^\r\n]*)
        ))
    )?
    """,
    re.VERBOSE | re.DOTALL,
)
_END_OF_LINE = re.compile(rf"{_SPACE}(?:\#[^\r\n]*)?(?:\r\n|\n|\r|$)")
_REST_OF_LINE = re.compile(r"[^\r\n]*(?:\r\n|\n|\r|$)")
_VARIABLE = re.compile(r"\$\{(?P<name>[^\}:]*)(?::-(?P<default>[^\}]*))?\}")


def read_dotenv(text: str, variables: Mapping[str, str]) -> dict[str, str | None]:
    """Names to values, None where no `=` stands.

    `variables` are those that `${NAME}` may mean beside the file's own.
    """
    text = text.removeprefix("\ufeff")
    found: dict[str, str | None] = {}
    position = 0
    while (position := _skip_space(text, position)) < len(text):
        binding = _BINDING.match(text, position)
        position = binding.end() if binding else position
        end = _END_OF_LINE.match(text, position)
        if binding and end:
            value = _value(binding)
            known = {**variables, **found}
            found[binding["quoted"] or binding["key"]] = value and _expanded(value, known)
        end = end or _REST_OF_LINE.match(text, position)
        position = end.end() if end else len(text)
    return found


def _skip_space(text: str, position: int) -> int:
    return position + len(text[position:]) - len(text[position:].lstrip())


def _value(binding: re.Match[str]) -> str | None:
    """What stands after `=`; None where there is no `=`."""
    if not binding["equals"]:
        return None
    if binding["single"] is not None:
        return _unescaped(binding["single"], r"\\[\\']")
    if binding["double"] is not None:
        return _unescaped(binding["double"], r"\\[\\'\"abfnrtv]")
    return re.sub(r"\s+#.*", "", binding["plain"] or "").rstrip()


def _expanded(value: str, known: Mapping[str, str | None]) -> str:
    return _VARIABLE.sub(
        lambda found: known.get(found["name"], found["default"] or "") or "", value
    )


def _unescaped(text: str, escapes: str) -> str:
    return re.sub(escapes, lambda found: codecs.decode(found[0], "unicode-escape"), text)
