"""One text for a statement, whether the application sent it or the server remembers it.

An application sends `SELECT * FROM t WHERE id = %(id_1)s::INTEGER`; pg_stat_statements keeps
`SELECT * FROM t WHERE id = $1::INTEGER`. Both normalise to the same text, and so to the same
fingerprint, which joins what the application measured with what the server counted.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

UNPARSABLE = "<withheld: unparsable>"
OVERSIZED = "(oversized)"
_MAX_TOKENS = 40_000
_MAX_CHARACTERS = 262_144

# A text that fits nowhere, hostile or cut off, must be read once and not again from each of its
# positions: runs of one class are possessive, and no other repetition has two ways to match.
# (Possessive groups would say more, but Python 3.11.2 matches them wrongly: gh-106052.)
_STRING = r"'[^']*+(?:''[^']*+)*"
_NAMED = r"%\([^()%]*+\)[sbt]"
_COMMA = r"\s*+,\s*+"
_PLAIN = rf"(?:\d++(?:\.\d++)?|{_STRING}'|{_NAMED}|\$\d++|\?)(?:::[^\W\d]\w*+)?"
_SIGNED = rf"(?:-\s*+(?=\d))?{_PLAIN}"
_TOKEN = re.compile(
    rf"""
      (?P<space>\s++|--[^\n]*+)
    | (?P<comment>/\*)
    | (?P<run>{_PLAIN}{_COMMA}(?:{_SIGNED}{_COMMA}){{7,999}}
        | (?:\(\s*+{_SIGNED}(?:{_COMMA}{_SIGNED})*\s*+\){_COMMA}){{4,999}})
    | (?P<escaped>[eE]'(?:[^'\\]++|\\(?:.|\Z)|'')*(?:'|\Z))
    | (?P<string>(?:[bBxXnN]|[uU]&)?{_STRING}(?:'|\Z))
    | (?P<dollar>\$(?P<tag>(?:[^\W\d]\w*+)?)\$.*?(?:\$(?P=tag)\$|\Z))
    | (?P<parameter>\$\d++ | {_NAMED} | (?<![\w)\]])%[sbt]\b | (?<![:\w\]]):[^\W\d]\w*+ | \?)
    | (?P<percent>%%)
    | (?P<number>0[xXoObB][0-9a-fA-F_]++
        | (?:\d[\d_]*+(?:\.[\d_]*+)?|\.\d[\d_]*+)(?:[eE][+-]?\d++)?)
    | (?P<word>[^\W\d][\w$]*+)
    | (?P<quoted>(?:[uU]&)?"[^"]*+(?:""[^"]*+)*(?:"|\Z))
    | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_LITERALS = {"escaped", "string", "dollar", "parameter", "number"}
_IN_A_RUN = re.compile(_SIGNED.replace("(?:::", "(::", 1))
_CLOSED = re.compile(
    rf"[eE]'(?:[^'\\]++|\\.|'')*'|(?:[bBxXnN]|[uU]&)?{_STRING}'|\$(\w*+)\$.*\$\1\$"
    r'|(?:[uU]&)?"[^"]*+(?:""[^"]*+)*"',
    re.DOTALL,
)
_QUOTED = {"escaped", "string", "dollar", "quoted"}
_CONSTANTS = {"TRUE", "FALSE", "NULL"}
# After these words a minus is a sign; after any other word it subtracts.
_BEFORE_A_SIGN = frozenset(
    """ALL AND ANY AS BETWEEN BY CASE DEFAULT DISTINCT ELSE END FROM HAVING ILIKE IN INTERVAL IS
    LIKE LIMIT NOT OFFSET ON OR RETURN RETURNING SELECT SET SOME THEN TO VALUES WHEN WHERE
    """.split()
) - {"END"}

# What may follow a type's first word: "with time zone", "(?, ?)", in any order and few.
_REST_OF_TYPE = r"(?: [A-Za-z]++| ?\(\?(?: ?, ?\?)*\)){0,7}"
_CAST = rf"(?:::[\w.\"]++{_REST_OF_TYPE}(?:\[\])*)?"
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

    def take(self, kind: str, token: str) -> None:
        if kind in ("space", "unclosed"):
            self.add_space()
        elif kind == "run":
            self.add_run(token)
        elif kind in _LITERALS:
            self.add_placeholder(is_number=kind == "number")
        elif self.is_constant(token):
            self.add_placeholder(is_number=False)
        elif token == "-" and self.expects_operand():
            self.add("-", minus_at=len(self.parts))
        else:
            self.add(token.replace("%%", "%") if kind in ("percent", "quoted") else token)

    def text(self) -> str:
        """Return what was taken, with lists of placeholders collapsed to one."""
        collapsed = _LISTS.sub(r"\1(?)", "".join(self.parts))
        return _ARRAYS.sub(r"\1[?]", collapsed).strip(" ;")

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

    def add_run(self, run: str) -> None:
        """Add a long row of literals at once: the loop over tokens is what takes the time."""
        if run[0].isdigit() and self.minus_at >= 0:
            del self.parts[self.minus_at :]
        text = " ".join(_IN_A_RUN.sub(r"?\1", run + "|").split())[:-1]
        self.add(text.rstrip())
        self.last = ","
        if text[-1] == " ":
            self.add_space()

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
    for kind, token in _tokens(text):
        output.take(kind, token)
    return output.text()


def storable(text: str) -> str:
    """Return the normalised text of what an application sent, or why it must not be kept.

    A literal or comment that nobody closed, a backslash where SQL has none, or a word that
    touches a number says that quotes are missing or were meant otherwise: what looks like a
    word may be part of a value. A text that is very long or has very many tokens is not read
    to its end: meanwhile the application waits for the interpreter.

    >>> storable("SELECT 'it\\'s a secret'"), storable("SELECT 1," + " a," * 99_999)
    ('<withheld: unparsable>', '(oversized)')
    """
    if len(text) > _MAX_CHARACTERS:
        return OVERSIZED
    output, before = _Output(), ""
    for count, (kind, token) in enumerate(_tokens(text)):
        if count >= _MAX_TOKENS:
            return OVERSIZED
        if kind == "unclosed" or token == "\\" or (before, kind) == ("number", "word"):
            return UNPARSABLE
        if kind in _QUOTED and not _CLOSED.fullmatch(token):
            return UNPARSABLE
        output.take(kind, token)
        before = kind
    return output.text()


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    """Yield (kind, token) to the end of the text; a comment is a space, or "unclosed"."""
    position, end = 0, len(text)
    while position < end:
        match = _TOKEN.match(text, position)
        assert match is not None  # any character is at least "other"
        position = match.end()
        kind, token = match.lastgroup or "", match.group()
        if kind == "comment":
            closed_at = _end_of_comment(text, position)
            kind, position = ("space", closed_at) if closed_at else ("unclosed", end)
        yield kind, token


def _end_of_comment(text: str, position: int) -> int:
    """Return where a comment ends whose `/*` has been read, 0 if nowhere; comments nest."""
    depth = 1
    for match in re.compile(r"/\*|\*/").finditer(text, position):
        depth += 1 if match.group() == "/*" else -1
        if not depth:
            return match.end()
    return 0


def fingerprint(text: str) -> int:
    """Return the signed 64-bit identity of a statement's normalised text."""
    return identity(normalise(text))


def identity(normalised: str) -> int:
    """Return the fingerprint of a text that is normalised already."""
    digest = hashlib.blake2b(normalised.encode("utf-8", "surrogatepass"), digest_size=8)
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
