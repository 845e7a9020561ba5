"""Who sent a statement, as a comment in its text tells: sqlcommenter's tags, and Marginalia's.

`SELECT 1 /*action='index',controller='orders',route='%2Forders'*/` is sqlcommenter's form
(https://google.github.io/sqlcommenter/spec/), `/*application:Shop,controller:orders*/` that of
Rails' Marginalia. Only comments before or behind the whole statement count.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from urllib.parse import unquote

_MAX_TEXT = 65_536
_MAX_COMMENT = 8_192
_MAX_VALUE = 200
# What a comment cannot begin in; what nobody closed takes the rest. A repetition is possessive or
# has one way to match (possessive groups would say more, but see perfcore.normalise).
_SKIPPED = re.compile(
    r"""
      (?<!\w)[eE]'(?:[^'\\]++|\\.|'')*(?:'|\\?\Z)
    | '[^']*+(?:'|\Z)
    | "[^"]*+(?:"|\Z)
    | (?<![\w$])\$(?P<tag>(?:[^\W\d]\w*+)?)\$.*?(?:\$(?P=tag)\$|\Z)
    | --[^\n]*+
    | (?P<comment>/\*)
    """,
    re.VERBOSE | re.DOTALL,
)
_EDGE = re.compile(r"/\*|\*/")
_PAIR = re.compile(r"\s*+([^\s=,'\"]{1,200})\s*+=\s*+'((?:[^'\\]++|\\.)*)'\s*+(,|\Z)", re.DOTALL)
_MARGINALIA = re.compile(r"\s*+(\w{1,60}):([^,]*+)(,|\Z)")
# Several writers name the same thing differently; the first that is there counts.
_NAMES: Mapping[str, tuple[str, ...]] = {
    "application": ("application", "app_name", "app"),
    "route": ("route",),
    "controller": ("namespaced_controller", "controller_with_namespace", "controller"),
    "action": ("action",),
    "job": ("job",),
    "framework": ("framework",),
    "db_driver": ("db_driver",),
    "location": ("source_location", "line"),
}
_KNOWN = frozenset(name for names in _NAMES.values() for name in names)


@dataclass(frozen=True, slots=True)
class Tags:
    """What the comment says, each empty where it does not; `traceparent` is left out."""

    application: str = ""
    route: str = ""
    controller: str = ""
    action: str = ""
    job: str = ""
    framework: str = ""
    db_driver: str = ""
    location: str = ""  # file and line in the application's code

    def __bool__(self) -> bool:
        return any(self.named())

    def named(self) -> list[tuple[str, str]]:
        """Return the tags that are there, as (name, value)."""
        pairs = ((f.name, str(getattr(self, f.name))) for f in fields(self))
        return [(name, value) for name, value in pairs if value]

    def words(self) -> str:
        """Return the tags in words; controller and action as Rails writes them.

        >>> Tags("shop", "/orders", "Orders", "index").words()
        'application shop, route /orders, controller Orders#index'
        """
        told = dict(self.named())
        if "controller" in told and "action" in told:
            told["controller"] += "#" + told.pop("action")
        return ", ".join(f"{_WORDS.get(name, name)} {value}" for name, value in told.items())


_WORDS = {"db_driver": "driver", "location": "from"}


def tags(text: str) -> Tags:
    """Return the tags of a statement's text, whatever the text is.

    >>> tags("SELECT 1 /*controller='orders',route='%2Forders%2F%3Cid%3E'*/").route
    '/orders/<id>'
    >>> tags("/*application:Shop,action:index*/ SELECT 1").application
    'Shop'
    """
    found: dict[str, str] = {}
    for comment in _around(text[:_MAX_TEXT]):
        for name, value in _pairs(comment[2:-2]).items():
            found.setdefault(name, value)
    return Tags(
        **{
            ours: next((found[n] for n in names if found.get(n)), "")
            for ours, names in _NAMES.items()
        }
    )


def without_tags(text: str) -> str:
    """Return the text without the comments that hold tags.

    >>> without_tags("SELECT 1 /*route='x'*/")
    'SELECT 1'
    """
    spans = [(a, b) for a, b in _comments(text[:_MAX_TEXT]) if _pairs(text[a + 2 : b - 2])]
    for start, end in reversed(spans):
        text = text[:start] + text[end:]
    return text.strip() if spans else text


def is_marked(text: str, marker: str) -> bool:
    """Say whether one of the text's comments is the marker: in a value or a tag it is none.

    >>> is_marked("SELECT 1 /* me */", "/* me */"), is_marked("/*a:/* me */*/ X", "/* me */")
    (True, False)
    """
    return marker in text and any(text[a:b] == marker for a, b in _comments(text))


def _around(text: str) -> list[str]:
    """Return the comments before the statement, and those behind it."""
    spans = list(_comments(text))
    before, at = [], 0
    for start, end in spans:
        if text[at:start].strip():
            break
        before.append(text[start:end])
        at = end
    behind, until = [], len(text)
    for start, end in reversed(spans[len(before) :]):
        if text[end:until].strip(" \t\r\n;"):
            break
        behind.append(text[start:end])
        until = start
    return before + behind


def _comments(text: str) -> Iterable[tuple[int, int]]:
    """Yield where the comments are that no value and no other comment holds; comments nest."""
    position = 0
    while match := _SKIPPED.search(text, position):
        position = match.end()
        if match["comment"]:
            closed_at = _end(text, position)
            if not closed_at:
                return
            yield match.start(), closed_at
            position = closed_at


def _end(text: str, position: int) -> int:
    """Return where a comment ends whose `/*` has been read, 0 if nowhere."""
    depth = 1
    for match in _EDGE.finditer(text, position):
        depth += 1 if match.group() == "/*" else -1
        if not depth:
            return match.end()
    return 0


def _pairs(comment: str) -> dict[str, str]:
    """Return a comment's known tags, none when it is anything but a list of tags."""
    if len(comment) > _MAX_COMMENT or "/*" in comment:
        return {}
    for pattern, read in ((_PAIR, _unescaped), (_MARGINALIA, str)):
        found, at = {}, 0
        while match := pattern.match(comment, at):
            found[unquote(match[1])] = _clean(read(match[2]))
            at = match.end()
            if not match[3] or at == len(comment):
                break
        if found and at == len(comment) and found.keys() & _KNOWN:
            return {name: value for name, value in found.items() if name in _KNOWN}
    return {}


def _unescaped(value: str) -> str:
    return unquote(re.sub(r"\\(.)", r"\1", value, flags=re.DOTALL), errors="replace")


def _clean(value: str) -> str:
    """Return a value on one line, without what no page can show."""
    plain = "".join(c if c.isprintable() else " " for c in value[: 4 * _MAX_VALUE])
    return " ".join(plain.split())[:_MAX_VALUE]
