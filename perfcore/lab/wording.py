"""A statement and its rewritten form, made runnable with the same values.

The new form takes the statement's own `$n`, may leave some out, and may ask for values that an
application has and a text has not: the keys of the last row shown (`:last_id`), or all keys at
once (`:keys`). Those are read from the lab's rows and from the statement's own values.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import psycopg
from psycopg.rows import TupleRow
from sqlglot import exp

from perfcore.advise.statement import Unparsable, parse, plannable
from perfcore.db import MARKER
from perfcore.errors import StatementRefused, TrialFailed
from perfcore.lab.parameters import ParameterSet, parameter_types
from perfcore.lab.prepared import Prepared

Connection = psycopg.Connection[TupleRow]

# Strings, quoted names and comments hold no parameters.
_VALUES = re.compile(
    r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|--[^\n]*|/\*.*?\*/|\$(\d+)(?!\w)|(?<![:\w\]]):([a-z_]\w*)",
    re.DOTALL,
)
_LAST = "last_"
_KEYS = "keys"
_MOST_DEPTH = 2_000  # rows before the page that is tried


@dataclass(frozen=True, slots=True)
class Wording:
    """A text whose parameters are numbered from 1, and which values they take."""

    text: str
    numbers: tuple[int, ...]  # of $1, $2, … in the list of all values, from 1

    @classmethod
    def of(cls, text: str) -> Wording:
        """Return the text with its parameters numbered without gaps.

        >>> Wording.of("SELECT 1 FROM t WHERE a = $3 AND b = $1")
        Wording(text='SELECT 1 FROM t WHERE a = $2 AND b = $1', numbers=(1, 3))
        """
        return cls(plannable(text), tuple(sorted({n for n, _ in _found(text) if n})))

    def values(self, every: Sequence[str | None]) -> tuple[str | None, ...]:
        """Return the values of this text's own parameters."""
        return tuple(every[n - 1] for n in self.numbers)


@dataclass(frozen=True, slots=True)
class Values:
    """Everything that both forms of a statement take for one set of parameters."""

    label: str
    every: tuple[str | None, ...]  # the statement's own, then those of the new form alone
    note: str = ""  # what they are, or why there are none
    is_usable: bool = True


@dataclass(frozen=True, slots=True)
class Pair:
    """A statement and its rewritten form."""

    baseline: Wording
    variant: Wording
    names: tuple[str, ...] = ()  # of values that only the new form takes

    @property
    def is_batch(self) -> bool:
        """Say whether the new form takes many keys at once: its gain are the calls it saves."""
        return _KEYS in self.names

    @property
    def pages(self) -> bool:
        """Say whether the new form goes on after a row instead of counting rows (keyset)."""
        return bool(self.names) and all(n.startswith(_LAST) for n in self.names)

    def reference(self) -> Wording:
        """Return the statement whose rows the new form promises.

        It is the statement itself. A keyset page promises the page of the order that it gives,
        which has no ties where the statement's may.
        """
        if not self.pages:
            return self.baseline
        tree, new = _tree(self.baseline.text), _tree(self.variant.text)
        order = new.args.get("order")
        if order is not None:
            tree.set("order", order.copy())
        return replace(self.baseline, text=tree.sql(dialect="postgres"))


def read_pair(statement_text: str, rewritten_sql: str) -> Pair:
    """Return both forms with their values in one list.

    The `$n` of the new form are those of `plannable(statement_text)`. Raises StatementRefused for
    a number that the statement does not have, and TrialFailed for a `:name` that nothing tells.
    """
    baseline = Wording.of(plannable(statement_text))
    count = len(baseline.numbers)
    names = tuple(dict.fromkeys(name for _, name in _found(rewritten_sql) if name))
    unknown = sorted({n for n, _ in _found(rewritten_sql) if n > count})
    if unknown:
        has = f"$1 to ${count}" if count else "no parameters"
        raise StatementRefused(
            f"the new form takes ${unknown[0]}, the statement has {has}",
            hint="use the statement's own numbers",
        )
    strange = [n for n in names if not n.startswith(_LAST) and n != _KEYS]
    if strange:
        raise TrialFailed(
            f"the new form takes :{strange[0]}, which only the application knows",
            hint="write a value of the lab in its place, or one of the statement's own $n",
        )
    return Pair(baseline, Wording.of(_numbered(rewritten_sql, names, count)), names)


def _found(text: str) -> list[tuple[int, str]]:
    """Return numbers and names of the values in a text, 0 and "" for what is the other."""
    pairs = ((int(m[1] or 0), m[2] or "") for m in _VALUES.finditer(text))
    return [p for p in pairs if p != (0, "")]


def _numbered(text: str, names: Sequence[str], count: int) -> str:
    places = {name: f"${count + n}" for n, name in enumerate(names, start=1)}
    return _VALUES.sub(lambda m: places[m[2]] if m[2] else m[0], text)


def _tree(text: str) -> exp.Expr:
    try:
        return parse(text)
    except Unparsable as error:
        raise TrialFailed(f"the statement could not be parsed: {error}") from error


def values_of(lab: Connection, pair: Pair, each: ParameterSet) -> Values:
    """Return what both forms take, read from the lab where the new form takes more.

    Raises TrialFailed where a value cannot be read.
    """
    if not pair.names:
        return Values(each.label, each.values)
    if pair.pages:
        return _page(lab, pair, each)
    keys = _keys(pair, each)
    note = f":keys is an array of {len(keys)} values"
    if len(keys) == 1:
        note = ":keys is an array of one value: what one call for many keys saves does not show"
    return Values(each.label, (*each.values, array_literal(keys)), note)


def array_literal(values: Sequence[str | None]) -> str:
    r"""Return PostgreSQL's text for an array.

    >>> print(array_literal(["a", None, 'b"c\\']))
    {"a",NULL,"b\"c\\"}
    """
    quoted = (
        "NULL" if v is None else '"' + v.replace("\\", "\\\\").replace('"', '\\"') + '"'
        for v in values
    )
    return "{" + ",".join(quoted) + "}"


def _keys(pair: Pair, each: ParameterSet) -> list[str | None]:
    """Return the values for which the new form has one array: those that it no longer takes."""
    gone = [n for n in range(1, len(each.values) + 1) if n not in pair.variant.numbers]
    if gone:
        return [each.values[n - 1] for n in gone]
    lists = [n for n in _tree(pair.baseline.text).find_all(exp.In) if n.expressions]
    items = max((n.expressions for n in lists), key=len, default=[])
    if not items:
        raise TrialFailed("the new form takes :keys, and the statement has no list of values")
    return [None if isinstance(i, exp.Null) else str(i.name) for i in items]


def _page(lab: Connection, pair: Pair, each: ParameterSet) -> Values:
    """Return a page's depth and the keys of the row before it."""
    tree = _tree(pair.reference().text)
    offset, order = tree.args.get("offset"), tree.args.get("order")
    if offset is None or order is None or not isinstance(tree, exp.Select):
        raise TrialFailed("the new form goes on after a row, and the statement has no OFFSET")
    rows = _count(lab, tree, each)
    values, depth = _depth(offset.expression, each, rows)
    if depth < 1 or depth >= rows:
        note = f"{rows} rows in the lab, so there is no page after row {max(depth, 1)}"
        return Values(each.label, values, note, is_usable=False)
    last = tree.copy()
    assert isinstance(last, exp.Select)
    keys = [o.this.copy() for o in order.expressions]
    last.set("expressions", keys)
    last = last.limit(1, copy=False).offset(depth - 1, copy=False)
    found = _rows(lab, last, replace(each, values=values))[0]
    by_name = dict(zip((f"{_LAST}{k.name}" for k in keys), found, strict=True))
    missing = [n for n in pair.names if n not in by_name]
    if missing:
        raise TrialFailed(f"the new form takes :{missing[0]}, and does not order by it")
    words = f"the page after row {depth}"
    return Values(each.label, (*values, *(by_name[n] for n in pair.names)), words)


def _depth(offset: exp.Expr, each: ParameterSet, rows: int) -> tuple[tuple[str | None, ...], int]:
    """Return the values and how many rows lie before the page; a parameter is set to a page."""
    if not isinstance(offset, exp.Parameter):
        return each.values, int(offset.name) if offset.name.isdigit() else 0
    place = int(offset.name) - 1
    given = int(each.values[place] or 0)
    depth = given if 0 < given < rows else min(_MOST_DEPTH, rows // 2)
    values = list(each.values)
    values[place] = str(depth)
    return tuple(values), depth


def _count(lab: Connection, tree: exp.Select, each: ParameterSet) -> int:
    """Return the statement's rows without its LIMIT, as far as a page may lie deep."""
    whole = tree.copy()
    for part in ("order", "offset"):
        whole.set(part, None)
    whole.set("expressions", [exp.Literal.number(1)])
    return len(_rows(lab, whole.limit(2 * _MOST_DEPTH, copy=False), each))


def _rows(lab: Connection, tree: exp.Expr, each: ParameterSet) -> list[tuple[str | None, ...]]:
    wording = Wording.of(tree.sql(dialect="postgres"))
    prepared = Prepared(lab, "perfcore_page", wording.text, parameter_types(lab, wording.text))
    try:
        with lab.transaction(force_rollback=True):
            lab.execute(f"{MARKER} SET TRANSACTION READ ONLY; SET LOCAL statement_timeout = '60s'")
            return list(prepared.rows(wording.values(each.values)))
    finally:
        prepared.close()
