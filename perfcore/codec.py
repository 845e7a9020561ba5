"""JSON of the frozen dataclasses: what the store's jsonb columns and the API carry."""

from __future__ import annotations

import math
import types
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from datetime import UTC, datetime
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints
from uuid import UUID

from perfcore.errors import PerfcoreError

T = TypeVar("T")
_UNIONS = (Union, types.UnionType)


class CodecError(PerfcoreError, ValueError):
    """A value has no JSON form, or JSON does not fit the class asked for."""


def to_json(value: Any) -> Any:
    """Return a value of JSON types: dict, list, str, int, float, bool or None.

    Instants become ISO 8601 in UTC. Raises CodecError for a float that JSON cannot hold
    (nan, infinity), for an instant without a time zone and for any other type.

    >>> to_json((1, None, datetime(2026, 1, 1, tzinfo=UTC)))
    [1, None, '2026-01-01T00:00:00+00:00']
    """
    return _encode(value, "")


def from_json(cls: type[T], data: Any) -> T:
    """Return an instance of the class made from what `to_json` gave for it.

    A missing key takes the field's default and an unknown one is left out, so that rows
    written by an older or a newer version still read. Raises CodecError naming the field
    for anything else that does not fit.
    """
    result: T = _decode(cls, data, cls.__name__)
    return result


def _encode(value: Any, path: str) -> Any:
    if isinstance(value, Enum):
        return _encode(value.value, path)
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return _finite(value, path)
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise CodecError(f"{path or 'the value'} is {value}, an instant without a time zone")
        return value.astimezone(UTC).isoformat()
    if isinstance(value, (UUID, Path)):
        return str(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: _encode(getattr(value, f.name), f"{path}.{f.name}") for f in fields(value)}
    if isinstance(value, Mapping):
        return {_key(k, path): _encode(v, f"{path}.{k}") for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_encode(v, f"{path}[{n}]") for n, v in enumerate(value)]
    raise CodecError(f"{path or 'the value'} has no JSON form: {type(value).__name__}")


def _finite(value: float, path: str) -> float:
    if not math.isfinite(value):
        raise CodecError(f"{path or 'the value'} is {value}, and JSON has no such number")
    return value


def _key(key: Any, path: str) -> str:
    if not isinstance(key, str):
        raise CodecError(f"{path or 'the mapping'} has the key {key!r}; JSON wants text")
    return str(key)


@cache
def _hints(cls: type) -> dict[str, Any]:
    return get_type_hints(cls)


def _decode(wanted: Any, data: Any, path: str) -> Any:
    origin = get_origin(wanted)
    if wanted is Any or wanted is object:
        return data
    if origin in _UNIONS:
        return _decode_union(wanted, data, path)
    if wanted is None or wanted is type(None):
        return _expect(data is None, None, wanted, data, path)
    if origin is not None:
        return _decode_container(origin, get_args(wanted), data, path)
    if is_dataclass(wanted):
        return _decode_dataclass(wanted, data, path)
    return _decode_scalar(wanted, data, path)


def _decode_union(wanted: Any, data: Any, path: str) -> Any:
    choices = get_args(wanted)
    if data is None and type(None) in choices:
        return None
    for choice in choices:
        if choice is not type(None):
            try:
                return _decode(choice, data, path)
            except CodecError as error:
                failure = error
    raise failure


def _decode_container(origin: Any, args: tuple[Any, ...], data: Any, path: str) -> Any:
    if issubclass(origin, Mapping):
        _expect(isinstance(data, Mapping), None, origin, data, path)
        return {k: _decode(args[1], v, f"{path}.{k}") for k, v in data.items()}
    _expect(isinstance(data, list), None, origin, data, path)
    if origin is tuple and args[-1:] != (Ellipsis,):
        _expect(len(data) == len(args), None, f"{len(args)} values", data, path)
        return tuple(_decode(a, v, path) for a, v in zip(args, data, strict=True))
    _expect(issubclass(origin, Sequence), None, origin, data, path)
    values = [_decode(args[0], v, f"{path}[{n}]") for n, v in enumerate(data)]
    return tuple(values) if origin is not list else values


def _decode_dataclass(cls: Any, data: Any, path: str) -> Any:
    _expect(isinstance(data, Mapping), None, cls, data, path)
    given = {}
    for each in fields(cls):
        if each.name in data:
            wanted = _hints(cls)[each.name]
            given[each.name] = _decode(wanted, data[each.name], f"{path}.{each.name}")
        elif not _has_default(each):
            raise CodecError(f"{path}.{each.name} is missing")
    try:
        return cls(**given)
    except (TypeError, ValueError) as error:
        raise CodecError(f"{path}: {error}") from error


def _has_default(each: Field[Any]) -> bool:
    return each.default is not MISSING or each.default_factory is not MISSING


def _decode_scalar(wanted: Any, data: Any, path: str) -> Any:
    if wanted is float:
        number = isinstance(data, (int, float)) and not isinstance(data, bool)
        _expect(number, None, wanted, data, path)
        return _finite(float(data), path)
    if wanted is int:
        return _expect(isinstance(data, int) and not isinstance(data, bool), data, int, data, path)
    if wanted in (str, bool):
        return _expect(isinstance(data, wanted), data, wanted, data, path)
    try:
        if wanted is datetime:
            return datetime.fromisoformat(data)
        return wanted(data)  # Enum, UUID, Path
    except (TypeError, ValueError) as error:
        raise CodecError(f"{path} is {data!r}, not a {wanted.__name__}") from error


def _expect(fits: bool, result: Any, wanted: Any, data: Any, path: str) -> Any:
    if not fits:
        name = getattr(wanted, "__name__", str(wanted))
        raise CodecError(f"{path} is {data!r:.100}, not {name}")
    return result
