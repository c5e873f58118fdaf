"""Canonical JSON: equal values give equal bytes, in every process, on every machine and Python.

Keys are sorted, text is UTF-8, there is no white space, and floats are written as the shortest text
that reads back as the same float. As bodies receive their spec as JSON, what JSON cannot tell apart
is equal here too: a tuple is its list, an Enum its value, a set its sorted list. What JSON does
tell apart stays apart: 1 and 1.0, 0.0 and -0.0. What JSON cannot say is refused, never guessed:
NaN, infinities, lone surrogates, and any type not listed here.

    canonical_json({"b": {3, 1}, "a": 0.1}) == b'{"a":0.1,"b":[1,3]}'
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from datetime import date
from enum import Enum
from pathlib import PurePath
from typing import Any

from pydantic import BaseModel

Reduce = Callable[[BaseModel], Any]


def canonical_json(value: Any, reduce: Reduce | None = None) -> bytes:
    """The one encoding of a value; ValueError or TypeError names the place of what has none.

    `reduce` may replace a model by the plain value that stands for it, or return it unchanged.
    """
    document = _plain(value, reduce, "")
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode()


def _plain(value: Any, reduce: Reduce | None, where: str) -> Any:
    if reduce is not None and isinstance(value, BaseModel):
        value = reduce(value)
    if isinstance(value, Enum):
        value = value.value
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return _encodable(value, where)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{where or 'value'}: {value} is not a finite number")
        return value
    if isinstance(value, PurePath):
        return _encodable(value.as_posix(), where)
    if isinstance(value, date):  # a datetime is one too
        return value.isoformat()
    if isinstance(value, BaseModel):
        value = {name: getattr(value, name) for name in type(value).model_fields}
    if isinstance(value, Mapping):
        return _plain_mapping(value, reduce, where)
    if isinstance(value, list | tuple):
        return [_plain(item, reduce, f"{where}[{n}]") for n, item in enumerate(value)]
    if isinstance(value, set | frozenset):
        return sorted((_plain(item, reduce, where) for item in value), key=canonical_json)
    raise TypeError(f"{where or 'value'}: {type(value).__name__} has no canonical JSON")


def _plain_mapping(value: Mapping[Any, Any], reduce: Reduce | None, where: str) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for original, item in value.items():
        key = original.value if isinstance(original, Enum) else original
        if isinstance(key, int) and not isinstance(key, bool):
            key = str(key)
        if not isinstance(key, str):
            raise TypeError(f"{where or 'value'}: key {original!r} is no text")
        if key in plain:
            raise ValueError(f"{where or 'value'}: two keys are both written as {key!r}")
        place = f"{where}.{key}" if where else key
        plain[_encodable(key, where)] = _plain(item, reduce, place)
    return plain


def _encodable(text: str, where: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{where or 'value'}: {text!r} is not valid Unicode") from error
    return text
