"""Constants with their type before them, which lose it to pg_stat_statements.

It turns `interval '1 day'` into `interval $1`, which no longer parses: a parameter takes its
type after it.
"""

from __future__ import annotations

import re

_UNREAD = (  # that the parser does not take before a constant
    r"jsonpath|cidr|macaddr8?|line|lseg|box|path|polygon|circle|cube|seg|ltree|lquery|citext|"
    r"tsvector|tsquery"
)
_TYPE = (
    r"interval|date|time|timestamp|timestamptz|time(?:stamp)?\s+with(?:out)?\s+time\s+zone|"
    r"jsonb?|xml|inet|uuid|bytea|money|numeric|decimal|real|float[48]?|double\s+precision|"
    r"smallint|int(?:eger)?|int[248]|bigint|bool(?:ean)?|text|varchar|char|point|hstore|"
    r"(?:int4|int8|num|ts|tstz|date)(?:multi)?range|oid|reg(?:class|type|proc|role|namespace)|"
    + _UNREAD
)
_STRING = r"'(?:[^']|'')*'"
_PARAMETER = re.compile(rf"\b({_TYPE})\s+(\$\d+)(?!\w|\s*\()", re.IGNORECASE)
# A string is read over as a whole, and so are quoted names and comments.
_CONSTANT = re.compile(
    rf"\b(?P<type>{_UNREAD})\s+(?P<value>{_STRING})"
    rf"|{_STRING}|\"(?:[^\"]|\"\")*\"|--[^\n]*|/\*.*?\*/",
    re.IGNORECASE | re.DOTALL,
)


def with_casts(text: str) -> str:
    """Return the statement with the types of its parameters after them.

    >>> with_casts("SELECT now() - interval $1, inet $2")
    'SELECT now() - $1::interval, $2::inet'
    """
    return _PARAMETER.sub(r"\2::\1", text)


def with_casts_of_constants(text: str) -> str:
    """Return the statement with rare types of constants after them, as the parser reads it.

    >>> with_casts_of_constants("SELECT cidr '10.0.0.0/8', 'a box ''b'''")
    "SELECT '10.0.0.0/8'::cidr, 'a box ''b'''"
    """
    return _CONSTANT.sub(lambda m: f"{m['value']}::{m['type']}" if m["type"] else m[0], text)
