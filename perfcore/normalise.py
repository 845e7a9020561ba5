"""One text for a statement, whether the application sent it or the server remembers it.

An application sends `SELECT * FROM t WHERE id = %(id_1)s::INTEGER`; pg_stat_statements keeps
`SELECT * FROM t WHERE id = $1::INTEGER`. Both normalise to the same text, and so to the same
fingerprint, which joins what the application measured with what the server counted.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field

_TOKEN = re.compile(
    r"""
      (?P<space>\s+|--[^\n]*)
    | (?P<comment>/\*)
    | (?P<escaped>[eE]'(?:[^'\\]|\\.|'')*(?:'|\Z))
    | (?P<string>(?:[bBxXnN]|[uU]&)?'(?:[^']|'')*(?:'|\Z))
    | (?P<dollar>\$(?P<tag>(?:[^\W\d]\w*)?)\$.*?(?:\$(?P=tag)\$|\Z))
    | (?P<parameter>\$\d+ | %\([^)]*\)[sbt] | (?<![\w)\]])%[sbt]\b | (?<![:\w\]]):[^\W\d]\w* | \?)
    | (?P<percent>%%)
    | (?P<number>0[xXoObB][0-9a-fA-F_]+ | (?:\d[\d_]*(?:\.[\d_]*)?|\.\d[\d_]*)(?:[eE][+-]?\d+)?)
    | (?P<word>[^\W\d][\w$]*)
    | (?P<quoted>(?:[uU]&)?"(?:[^"]|"")*(?:"|\Z))
    | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_LITERALS = {"escaped", "string", "dollar", "parameter", "number"}
_CONSTANTS = {"TRUE", "FALSE", "NULL"}
# After these words a minus is a sign; after any other word it subtracts.
_BEFORE_A_SIGN = frozenset(
    """ALL AND ANY AS BETWEEN BY CASE DEFAULT DISTINCT ELSE END FROM HAVING ILIKE IN INTERVAL IS
    LIKE LIMIT NOT OFFSET ON OR RETURN RETURNING SELECT SET SOME THEN TO VALUES WHEN WHERE
    """.split()
) - {"END"}

_CAST = r"(?:::[\w.\"]+(?: [A-Za-z]+){0,3}(?: ?\(\?(?: ?, ?\?)*\))?(?: [A-Za-z]+){0,3}(?:\[\])*)?"
_ITEMS = rf"\?{_CAST}(?: ?, ?\?{_CAST})*"
_ROW = rf"\( ?{_ITEMS} ?\)"
_LISTS = re.compile(
    rf"\b(IN ?|VALUES ?)(?:{_ROW}(?: ?, ?{_ROW})*|\( ?{_ROW}(?: ?, ?{_ROW})* ?\))", re.I
)
_ARRAYS = re.compile(rf"\b(ARRAY ?)\[ ?{_ITEMS} ?\]", re.I)


@dataclass(slots=True)
class _Output:
    """The text so far, and the last word, which decides what a minus or a NULL means."""

    parts: list[str] = field(default_factory=list)
    last: str = ""  # the last token that is no space
    minus_at: int = -1  # where in `parts` a minus stands that may be a sign

    def add(self, text: str, *, minus_at: int = -1) -> None:
        self.parts.append(text)
        self.last = text
        self.minus_at = minus_at

    def add_space(self) -> None:
        if self.parts and self.parts[-1] != " ":
            self.parts.append(" ")

    def add_placeholder(self, *, is_number: bool) -> None:
        if is_number and self.minus_at >= 0:
            del self.parts[self.minus_at :]
        self.add("?")

    def expects_operand(self) -> bool:
        """Return whether a minus here is a sign: nothing stands before it to subtract from."""
        if not self.last or self.last.upper() in _BEFORE_A_SIGN:
            return True
        return not (self.last[-1].isalnum() or self.last[-1] in '_$")]?')

    def is_constant(self, word: str) -> bool:
        """Return whether the server takes the word for a value: NULL, but not in IS NOT NULL."""
        if word.upper() == "ALL":
            return self.last.upper() == "LIMIT"
        return word.upper() in _CONSTANTS and self.last.upper() not in ("IS", "NOT")


def normalise(text: str) -> str:
    """Return the text without what differs between two executions of the same statement.

    Comments go, whitespace collapses, literals and placeholders become `?`, lists of them
    one `(?)`. Case stays. It is idempotent, and a text cut off in the middle is accepted.

    >>> normalise("SELECT a  FROM t WHERE b = -1 AND c IN ($1, $2 /* x */) AND d IS NOT NULL;")
    'SELECT a FROM t WHERE b = ? AND c IN (?) AND d IS NOT NULL'
    """
    output = _Output()
    position = 0
    while match := _TOKEN.match(text, position):
        position = match.end()
        kind, token = match.lastgroup or "", match.group()
        if kind == "comment":
            position = _end_of_comment(text, position)
            output.add_space()
        elif kind == "space":
            output.add_space()
        elif kind in _LITERALS:
            output.add_placeholder(is_number=kind == "number")
        elif output.is_constant(token):
            output.add_placeholder(is_number=False)
        elif token == "-" and output.expects_operand():
            output.add("-", minus_at=len(output.parts))
        else:
            output.add(token.replace("%%", "%") if kind in ("percent", "quoted") else token)
    collapsed = _LISTS.sub(r"\1(?)", "".join(output.parts))
    return _ARRAYS.sub(r"\1[?]", collapsed).strip(" ;")


def _end_of_comment(text: str, position: int) -> int:
    """Return where a comment ends whose `/*` has been read; PostgreSQL's comments nest."""
    depth = 1
    for match in re.compile(r"/\*|\*/").finditer(text, position):
        depth += 1 if match.group() == "/*" else -1
        if not depth:
            return match.end()
    return len(text)


def fingerprint(text: str) -> int:
    """Return the signed 64-bit identity of a statement's normalised text."""
    digest = hashlib.blake2b(normalise(text).encode("utf-8", "surrogatepass"), digest_size=8)
    return int.from_bytes(digest.digest(), "big", signed=True)


def fingerprint_hex(fp: int) -> str:
    """Return a fingerprint as 16 hex digits, the name of its series.

    >>> fingerprint_hex(-1), from_hex("ffffffffffffffff")
    ('ffffffffffffffff', -1)
    """
    return f"{fp & 0xFFFF_FFFF_FFFF_FFFF:016x}"


def from_hex(text: str) -> int:
    """Return the fingerprint that 16 hex digits stand for; ValueError for anything else."""
    if not re.fullmatch(r"[0-9a-f]{16}", text):
        raise ValueError(f"fingerprint {text!r}: it must be 16 hex digits")
    return int.from_bytes(bytes.fromhex(text), "big", signed=True)
