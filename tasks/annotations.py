"""What stands in the type of a field: the members of a union, and whether one is a model.

list(members_of(Annotated[int, Gt(0)] | None))      # [int, NoneType]
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Annotated, Any, TypeGuard, Union, get_args, get_origin

from pydantic import BaseModel


def members_of(annotation: Any) -> Iterator[Any]:
    """The members of a union, else the type itself, without `Annotated`."""
    if get_origin(annotation) is Annotated:
        yield from members_of(get_args(annotation)[0])
    elif get_origin(annotation) in (Union, types.UnionType):
        for member in get_args(annotation):
            yield from members_of(member)
    else:
        yield annotation


def is_model(member: Any) -> TypeGuard[type[BaseModel]]:
    return isinstance(member, type) and issubclass(member, BaseModel)
