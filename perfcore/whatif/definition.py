"""Read a CREATE INDEX that somebody typed into the structure that Perfcore works with.

An exact small parser instead of a general one: what it does not know it refuses, and the
text of expressions is kept as it was written.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from perfcore.errors import PerfcoreError
from perfcore.types import IndexDefinition, IndexKey

_Item = TypeVar("_Item")

METHODS = ("btree", "hash", "gin", "gist", "spgist", "brin", "bloom")
MAX_LENGTH = 8192

_TOKEN = re.compile(
    r"""
    (?P<space>[ \t\n\r\f\v]+)
  | (?P<comment>--|/\*)
  | (?P<string>[eE]'(?:[^'\\]|\\.|'')*'|'(?:[^']|'')*')
  | (?P<quoted>"(?:[^"]|"")+")
  | (?P<word>[^\W\d][\w$]*)
  | (?P<number>\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)
  | (?P<other>[-+*/<>=~!@\#%^&|`?.,:()\[\]])
    """,
    re.VERBOSE | re.DOTALL,
)
_REFUSED_CLAUSES = {
    "with": "storage parameters (WITH) are not supported: leave them out",
    "tablespace": "TABLESPACE is not supported: leave it out",
    "nulls": "NULLS NOT DISTINCT is not supported: leave it out",
}


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    start: int
    end: int

    def is_word(self, *words: str) -> bool:
        return self.kind == "word" and self.text.lower() in words


def parse_create_index(text: str, default_schema: str = "public") -> IndexDefinition:
    """Return the index that a CREATE INDEX statement describes.

    Its name, CONCURRENTLY and IF NOT EXISTS are dropped: the structure makes its own name.
    Raises PerfcoreError for everything else than one CREATE INDEX, with what was expected
    and where.

    >>> parse_create_index("create index on Orders (lower(name) desc)").body()
    '"public"."orders" USING btree ((lower(name)) DESC)'
    """
    return _Parser(text).parse(default_schema)


class _Parser:
    def __init__(self, text: str) -> None:
        if len(text) > MAX_LENGTH:
            raise PerfcoreError(
                f"the CREATE INDEX has {len(text)} characters: at most {MAX_LENGTH} are read"
            )
        self.text = text.strip().rstrip(";").rstrip()
        self.tokens = _tokens(self.text)
        self.at = 0

    def parse(self, default_schema: str) -> IndexDefinition:
        self.expect("create")
        unique = self.accept("unique")
        self.expect("index")
        self.accept("concurrently")
        self.skip_name()
        self.accept("only")
        schema, table = self.table(default_schema)
        method = self.method()
        keys = tuple(self.listed(self.key))
        include = tuple(self.listed(self.identifier)) if self.accept("include") else ()
        if self.peek.is_word(*_REFUSED_CLAUSES):
            raise self.error(_REFUSED_CLAUSES[self.peek.text.lower()])
        predicate = self.predicate()
        return IndexDefinition(schema, table, keys, method, include, predicate, unique)

    @property
    def peek(self) -> _Token:
        end = len(self.text)
        return self.tokens[self.at] if self.at < len(self.tokens) else _Token("end", "", end, end)

    def take(self) -> _Token:
        token = self.peek
        self.at += 1
        return token

    def accept(self, word: str) -> bool:
        found = self.peek.is_word(word) or (self.peek.kind == "other" and self.peek.text == word)
        self.at += found
        return found

    def expect(self, word: str) -> None:
        if not self.accept(word):
            raise self.error(f"expected {word.upper()}")

    def error(self, what: str) -> PerfcoreError:
        found = f"found {self.peek.text!r}" if self.peek.text else "the text ends there"
        return PerfcoreError(
            f"not a CREATE INDEX that can be used: {what} at character "
            f"{self.peek.start + 1}, {found}",
            hint="CREATE INDEX ON table (column, …) [INCLUDE (…)] [WHERE …]",
        )

    def skip_name(self) -> None:
        if self.accept("if"):
            self.expect("not")
            self.expect("exists")
        if self.accept("on"):
            return
        self.identifier()
        if self.accept("."):
            self.identifier()
        self.expect("on")

    def identifier(self) -> str:
        token = self.peek
        if token.kind not in ("word", "quoted"):
            raise self.error("expected a name")
        self.take()
        return _name(token)

    def table(self, default_schema: str) -> tuple[str, str]:
        first = self.identifier()
        if self.accept("."):
            return first, self.identifier()
        return default_schema, first

    def method(self) -> str:
        if not self.accept("using"):
            return "btree"
        method = self.identifier()
        if method not in METHODS:
            self.at -= 1
            raise self.error(f"expected an index method ({', '.join(METHODS)})")
        return method

    def listed(self, item: Callable[[], _Item]) -> list[_Item]:
        self.expect("(")
        found = [item()]
        while self.accept(","):
            found.append(item())
        self.expect(")")
        return found

    def key(self) -> IndexKey:
        expression, is_expression = self.subject()
        if self.peek.is_word("collate"):
            raise self.error("COLLATE is not supported: leave it out")
        operator_class = self.operator_class()
        descending = self.direction()
        return IndexKey(expression, is_expression, descending, self.nulls_first(), operator_class)

    def subject(self) -> tuple[str, bool]:
        """Read a column, a function call or an expression in parentheses."""
        if self.peek.text == "(":
            inner = self.balanced()
            if not inner:
                self.at -= 1
                raise self.error("expected an expression")
            tokens = _tokens(inner)
            if len(tokens) == 1 and tokens[0].kind in ("word", "quoted"):
                return _name(tokens[0]), False
            return inner, True
        start = self.peek.start
        name = self.identifier()
        prefixed = False
        while self.accept("."):
            self.identifier()
            prefixed = True
        if self.peek.text != "(":
            if prefixed:
                raise self.error("expected a column of the table, without a prefix")
            return name, False
        self.balanced()
        return self.text[start : self.tokens[self.at - 1].end], True

    def balanced(self) -> str:
        """Read a group in parentheses; return the text between them."""
        start, depth = self.peek.end, 0
        while True:
            token = self.take()
            if token.kind == "end":
                raise self.error("a parenthesis is not closed")
            if token.kind == "other":
                depth += (token.text == "(") - (token.text == ")")
            if depth == 0:
                return self.text[start : token.start].strip()

    def operator_class(self) -> str:
        if self.peek.kind not in ("word", "quoted") or self.peek.is_word("asc", "desc", "nulls"):
            return ""
        start = self.peek.start
        self.identifier()
        if self.accept("."):
            self.identifier()
        if self.peek.text == "(":
            raise self.error("parameters of an operator class are not supported")
        return self.text[start : self.tokens[self.at - 1].end]

    def direction(self) -> bool:
        return not self.accept("asc") and self.accept("desc")

    def nulls_first(self) -> bool | None:
        if not self.accept("nulls"):
            return None
        if self.accept("first"):
            return True
        self.expect("last")
        return False

    def predicate(self) -> str:
        if not self.accept("where"):
            if self.peek.kind != "end":
                raise self.error("expected INCLUDE, WHERE or the end")
            return ""
        start, depth = self.peek.start, 0
        while (token := self.take()).kind != "end":
            if token.kind == "other":
                depth += (token.text == "(") - (token.text == ")")
            if depth < 0:
                self.at -= 1
                raise self.error("a parenthesis too many")
        if depth:
            raise self.error("a parenthesis is not closed")
        if start == len(self.text):
            raise self.error("expected a condition")
        return self.text[start:]


def _tokens(text: str) -> list[_Token]:
    tokens, at = [], 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None or match.lastgroup == "comment":
            what = "a comment" if match else repr(text[at])
            raise PerfcoreError(
                f"not a CREATE INDEX that can be used: {what} at character {at + 1} is not "
                "allowed; give one statement, without comments"
            )
        if match.lastgroup != "space":
            tokens.append(_Token(str(match.lastgroup), match.group(), at, match.end()))
        at = match.end()
    return tokens


def _name(token: _Token) -> str:
    if token.kind == "quoted":
        return token.text[1:-1].replace('""', '"')
    return token.text.lower()
