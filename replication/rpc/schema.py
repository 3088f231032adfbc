# SPDX-License-Identifier: Apache-2.0
"""Peer JSON -> dataclass, checked against the annotations. What a peer sends is hostile until it has passed here.

Known annotations: str, int, float, bool, UUID, dict (any JSON object), list[T], a nested dataclass, and `T | None`.
Fields without a default are required; unknown keys are ignored, so that a newer peer may say more. Strings and
lists are bounded; `field(metadata={"max": n})` sets another bound.
"""

from __future__ import annotations

import dataclasses
import types
import typing
import uuid
from typing import Any, TypeVar

STRING_CHARS_MAX = 4096
LIST_ITEMS_MAX = 4096
INT_MAX = 2**63 - 1

T = TypeVar("T")


class SchemaError(ValueError):
    """The payload is not what the call takes; the text names the place."""


def decode(cls: type[T], value: object) -> T:
    """Make a `cls` out of parsed JSON; raises `SchemaError`."""
    return typing.cast(T, _dataclass(cls, value, cls.__name__))


def _dataclass(cls: Any, value: object, place: str) -> object:
    if not isinstance(value, dict):
        raise SchemaError(f"{place}: an object is expected")
    hints = typing.get_type_hints(cls)
    arguments: dict[str, object] = {}
    for item in dataclasses.fields(cls):
        if item.name in value:
            bound = item.metadata.get("max")
            arguments[item.name] = _value(hints[item.name], value[item.name], f"{place}.{item.name}", bound)
        elif item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING:
            raise SchemaError(f"{place}.{item.name}: missing")
    return cls(**arguments)


def _value(hint: Any, value: object, place: str, bound: int | None) -> object:
    origin = typing.get_origin(hint)
    if origin in (types.UnionType, typing.Union):
        if value is None:
            return None
        (hint,) = (part for part in typing.get_args(hint) if part is not type(None))
        return _value(hint, value, place, bound)
    if origin is list:
        return _list(typing.get_args(hint)[0], value, place, bound)
    if hint is dict or origin is dict:
        return _expect(dict, value, place)
    if dataclasses.is_dataclass(hint):
        return _dataclass(hint, value, place)
    return _scalar(hint, value, place, bound)


def _list(hint: Any, value: object, place: str, bound: int | None) -> list[object]:
    items = typing.cast(list[object], _expect(list, value, place))
    if len(items) > (bound or LIST_ITEMS_MAX):
        raise SchemaError(f"{place}: more than {bound or LIST_ITEMS_MAX} items")
    return [_value(hint, item, f"{place}[{index}]", None) for index, item in enumerate(items)]


def _scalar(hint: Any, value: object, place: str, bound: int | None) -> object:
    if hint is uuid.UUID:
        return _uuid(value, place)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    _expect(hint, value, place)
    if isinstance(value, str) and len(value) > (bound or STRING_CHARS_MAX):
        raise SchemaError(f"{place}: longer than {bound or STRING_CHARS_MAX} characters")
    if isinstance(value, int) and abs(value) > (bound or INT_MAX):
        raise SchemaError(f"{place}: out of range")
    return value


def _uuid(value: object, place: str) -> uuid.UUID:
    try:
        return uuid.UUID(str(_expect(str, value, place))[:64])
    except ValueError as error:
        raise SchemaError(f"{place}: not a uuid") from error


def _expect(kind: type, value: object, place: str) -> object:
    # bool is an int in Python, not in JSON.
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise SchemaError(f"{place}: {kind.__name__} is expected")
    return value
