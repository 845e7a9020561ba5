"""What the API may be asked: one table of parameters validates requests and documents them."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from perfcore.errors import PerfcoreError

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
EARLIEST = datetime(1970, 1, 2, tzinfo=UTC)
LATEST = datetime(2200, 1, 1, tzinfo=UTC)
INSTANT_HINT = "write an instant with its zone (2026-01-31T09:00:00Z) or relative to now (-1h)"
INT64 = 2**63


class RequestRefused(PerfcoreError):
    """The request cannot be answered as it was made."""

    def __init__(self, message: str, *, field: str, hint: str, status: int = 422) -> None:
        super().__init__(message, hint=hint)
        self.field = field
        self.status = status


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter: how its text is read, what OpenAPI says of it, what holds without it.

    `parse` raises ValueError with the remedy as its message.
    """

    name: str
    parse: Callable[[str, datetime], Any]
    schema: Mapping[str, Any]
    help: str
    default: Any = None
    in_path: bool = False

    def document(self) -> dict[str, Any]:
        """Return the parameter as OpenAPI describes it."""
        return {
            "name": self.name,
            "in": "path" if self.in_path else "query",
            "required": self.in_path,
            "description": self.help,
            "schema": dict(self.schema),
        }


def instant(name: str, help: str) -> Parameter:
    """Return a parameter that is an instant: ISO 8601 with a zone, "now", or relative as "-1h"."""
    return Parameter(name, _instant, {"type": "string", "examples": ["-1h"]}, help)


def whole(
    name: str,
    help: str,
    least: int = -INT64,
    most: int = INT64 - 1,
    *,
    default: int | None = None,
    in_path: bool = False,
) -> Parameter:
    """Return a parameter that is a whole number within bounds."""

    def parse(text: str, now: datetime) -> int:
        if not re.fullmatch(r"-?[0-9]{1,20}", text) or not least <= int(text) <= most:
            raise ValueError(f"write a whole number from {least} to {most}")
        return int(text)

    schema: dict[str, Any] = {"type": "integer", "minimum": least, "maximum": most}
    if default is not None:
        schema["default"] = default
    return Parameter(name, parse, schema, help, default, in_path)


def identity(name: str, help: str, *, in_path: bool = False) -> Parameter:
    """Return a parameter that is a signed 64-bit integer, documented as text.

    A bound of 2^63 in a schema, and the value in a generated client, would be rounded.
    """
    parse = whole(name, help).parse
    schema = {"type": "string", "pattern": "^-?[0-9]{1,19}$"}
    return Parameter(name, parse, schema, f"{help} A signed 64-bit integer.", in_path=in_path)


def number(name: str, help: str, least: float, most: float, *, default: float) -> Parameter:
    """Return a parameter that is a finite number within bounds."""

    def parse(text: str, now: datetime) -> float:
        plain = re.fullmatch(r"-?[0-9]{1,30}(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,3})?", text)
        value = float(text) if plain else math.nan
        if not least <= value <= most:
            raise ValueError(f"write a number from {least:g} to {most:g}")
        return value

    schema = {"type": "number", "minimum": least, "maximum": most, "default": default}
    return Parameter(name, parse, schema, help, default)


def choice(name: str, help: str, words: Iterable[str], *, default: str | None = None) -> Parameter:
    """Return a parameter that is one of some words."""
    known = tuple(words)

    def parse(text: str, now: datetime) -> str:
        if text not in known:
            raise ValueError(f"write one of {', '.join(known)}")
        return text

    schema: dict[str, Any] = {"type": "string", "enum": list(known)}
    if default is not None:
        schema["default"] = default
    return Parameter(name, parse, schema, help, default)


def text(name: str, help: str, *, in_path: bool = False) -> Parameter:
    """Return a parameter that is any text PostgreSQL can hold, up to 500 characters."""

    def parse(given: str, now: datetime) -> str:
        if not given or len(given) > 500 or "\x00" in given or not _is_unicode(given):
            raise ValueError("write 1 to 500 characters, none of them NUL")
        return given

    return Parameter(
        name, parse, {"type": "string", "minLength": 1, "maxLength": 500}, help, in_path=in_path
    )


def _is_unicode(given: str) -> bool:
    return not any("\ud800" <= c <= "\udfff" for c in given)


def _instant(text: str, now: datetime) -> datetime:
    if text == "now":
        return now
    relative = re.fullmatch(r"-([0-9]{1,9})([smhdw])", text)
    try:
        if relative:
            span = timedelta(seconds=int(relative[1]) * _UNITS_S[relative[2]])
            return _bounded(now - span)
        # A plus sign that was not percent-encoded arrives as a space.
        at = datetime.fromisoformat(re.sub(r" (\d\d:?\d\d)$", r"+\1", text))
        if at.tzinfo is None:
            raise ValueError
        return _bounded(at.astimezone(UTC))
    except (ValueError, OverflowError):
        raise ValueError(INSTANT_HINT) from None


def _bounded(at: datetime) -> datetime:
    if not EARLIEST <= at <= LATEST:
        raise ValueError
    return at


def read_parameters(
    known: Sequence[Parameter],
    path: Mapping[str, str],
    query: Sequence[tuple[str, str]],
    now: datetime,
) -> dict[str, Any]:
    """Return the values by name, defaults included.

    Raises RequestRefused for a parameter that does not exist, comes twice or does not parse.
    """
    given = dict(path)
    names = [p.name for p in known if not p.in_path]
    for name, value in query:
        if name not in names:
            near = difflib.get_close_matches(name, names, 1)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(names) or 'none'}"
            raise RequestRefused(
                f"{_shown(name)} is not a parameter here", field=_cut(name), hint=hint
            )
        if name in given:
            raise RequestRefused(f"{name} is given twice", field=name, hint="give it once")
        given[name] = value
    return {p.name: _value(p, given, now) for p in known}


def _value(parameter: Parameter, given: Mapping[str, str], now: datetime) -> Any:
    if parameter.name not in given:
        return parameter.default
    try:
        return parameter.parse(given[parameter.name], now)
    except ValueError as error:
        raise RequestRefused(
            f"{parameter.name} is {_shown(given[parameter.name])}",
            field=parameter.name,
            hint=str(error),
        ) from None


def _cut(value: str) -> str:
    return value if len(value) <= 60 else value[:60] + "…"


def _shown(value: str) -> str:
    return ascii(_cut(value)) if not _is_unicode(value) else repr(_cut(value))
