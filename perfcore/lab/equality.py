"""Whether two wordings of a statement return the same rows, on a lab's real rows.

Rows are compared as multisets, so duplicates and NULLs count. Each side is read once, row by row,
and kept as a sum of hashes (AdHash, Bellare and Micciancio, "A New Paradigm for Collision-Free
Hashing", EUROCRYPT 1997): equal sums mean equal multisets, whatever their size. Which rows differ
is told by a signed count per hash. Where there are too many distinct rows, only hashes that begin
with enough zero bits are counted, on both sides alike (adaptive sampling, Flajolet, "On Adaptive
Sampling", Computing 1990): memory stays bounded, and what is found is still a real difference.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from enum import StrEnum

import psycopg
from psycopg.rows import TupleRow
from sqlglot import exp

from perfcore.advise.statement import Unparsable, parse
from perfcore.db import MARKER
from perfcore.errors import TrialFailed
from perfcore.lab.parameters import parameter_types
from perfcore.lab.prepared import Prepared, Row
from perfcore.lab.wording import Wording

Connection = psycopg.Connection[TupleRow]

MAX_ROWS = 1_000_000  # of one side
MAX_DISTINCT = 200_000  # hashes in memory, about 30 MB
MAX_EXAMPLES = 5  # rows shown of each side
MAX_VALUE_LETTERS = 60
TIMEOUT_S = 60
_HASH_BYTES = 16
_FLOAT_DIGITS = {700: 6, 701: 12}  # float4 and float8: a sum's last digits depend on the plan


class Sameness(StrEnum):
    """What a comparison came to."""

    SAME = "the same rows"
    DIFFERENT = "not the same rows"
    UNKNOWN = "not compared"


@dataclass(frozen=True, slots=True)
class RowDifference:
    """A row that one side returns more often than the other."""

    row: tuple[str | None, ...]
    times_before: int
    times_after: int


@dataclass(frozen=True, slots=True)
class Equality:
    """What two wordings returned with the same values."""

    sameness: Sameness
    summary: str  # a sentence
    rows_before: int = 0
    rows_after: int = 0
    missing: int = 0  # rows of the statement that the new form lacks
    surplus: int = 0  # rows that only the new form returns
    columns: tuple[str, ...] = ()  # that were compared
    examples: tuple[RowDifference, ...] = ()
    notes: tuple[str, ...] = ()
    is_error: bool = False  # one of them cannot run at all


@dataclass(frozen=True, slots=True)
class _Side:
    """One wording with its values."""

    wording: Wording
    values: tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class _Order:
    """What ORDER BY and LIMIT decide of the rows that are returned."""

    is_ordered: bool = False
    keys: tuple[int, ...] | None = None  # columns of the output; None where one is not there
    is_limited: bool = False


@dataclass
class _Digest:
    """One side's rows, in a few numbers."""

    count: int = 0
    total: int = 0
    sequence: object = field(default_factory=hashlib.blake2b)
    order: object = field(default_factory=hashlib.blake2b)


def compare(
    lab: Connection,
    before: tuple[Wording, Sequence[str | None]],
    after: tuple[Wording, Sequence[str | None]],
) -> Equality:
    """Return how the rows of the second wording compare with those of the first.

    Both run in one read-only snapshot that is rolled back. Where the first has an ORDER BY whose
    keys it returns, the order is compared by these keys: rows that tie may change places. Where
    LIMIT picks among ties, the whole results are compared instead.
    """
    one, other = _Side(before[0], tuple(before[1])), _Side(after[0], tuple(after[1]))
    with _snapshot(lab):
        try:
            return _compared(lab, one, other)
        except psycopg.errors.QueryCanceled:
            return _unknown(f"Not compared: a form takes more than {TIMEOUT_S} s.")
        except _TooMany:
            return _unknown(f"Not compared: more than {MAX_ROWS:,} rows.")


class _TooMany(Exception):
    """A side has more rows than are looked at."""


def _unknown(words: str) -> Equality:
    return Equality(Sameness.UNKNOWN, words)


@contextmanager
def _snapshot(lab: Connection) -> Iterator[None]:
    with lab.transaction(force_rollback=True):
        lab.execute(
            f"{MARKER} SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY; "
            f"SET LOCAL statement_timeout = '{TIMEOUT_S}s'; "
            "SET LOCAL plan_cache_mode = force_custom_plan; SET LOCAL jit = off"
        )
        yield


def _compared(lab: Connection, one: _Side, other: _Side, part: str = "page") -> Equality:
    with (
        _prepared(lab, one, f"perfcore_before_{part}") as a,
        _prepared(lab, other, f"perfcore_after_{part}") as b,
    ):
        columns = _Columns.of(a.columns(), b.columns())
        if columns is None:
            names = [", ".join(n for n, _ in p.columns()) or "none" for p in (a, b)]
            return Equality(
                Sameness.DIFFERENT, f"Other columns: {names[0]} before, {names[1]} after."
            )
        order = _order(one.wording.text, columns.names)
        found = _Compared(lab, (a, one.values), (b, other.values), columns, order.keys or ())
        if (said := found.errors()) is not None:
            return said
        if found.are_same_rows:
            return _with_order(found, order, other.wording.text)
        if order.is_limited and found.before.count == found.after.count:
            return _without_limit(lab, one, other, found, order)
        return found.different()


@contextmanager
def _prepared(lab: Connection, side: _Side, name: str) -> Iterator[Prepared]:
    prepared = Prepared(lab, name, side.wording.text, parameter_types(lab, side.wording.text))
    try:
        yield prepared
    finally:
        prepared.close()


@dataclass(frozen=True, slots=True)
class _Columns:
    """The columns that both sides return, and where each side has them."""

    names: tuple[str, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]
    digits: tuple[int, ...]  # of floating-point numbers, 0 where the text counts
    notes: tuple[str, ...]

    @classmethod
    def of(
        cls, before: Sequence[tuple[str, int]], after: Sequence[tuple[str, int]]
    ) -> _Columns | None:
        """Pair the columns by place, or by name where one side leaves some out."""
        names, new = [n for n, _ in before], [n for n, _ in after]
        if len(names) == len(new):
            renamed = [f"{a} is called {b}" for a, b in zip(names, new, strict=True) if a != b]
            places = tuple(range(len(names)))
            return cls._made(before, places, places, [", ".join(renamed)] if renamed else [])
        small, large = sorted((names, new), key=len)
        if len(set(large)) < len(large) or not set(small) <= set(large) or not small:
            return None
        extra = ", ".join(n for n in large if n not in small)
        which = "only the new form returns" if large is new else "the new form leaves out"
        return cls._made(
            before,
            tuple(names.index(n) for n in small),
            tuple(new.index(n) for n in small),
            [f"{which} {extra}; the other columns were compared"],
        )

    @classmethod
    def _made(
        cls,
        columns: Sequence[tuple[str, int]],
        before: tuple[int, ...],
        after: tuple[int, ...],
        notes: Sequence[str],
    ) -> _Columns:
        digits = tuple(_FLOAT_DIGITS.get(columns[n][1], 0) for n in before)
        return cls(tuple(columns[n][0] for n in before), before, after, digits, tuple(notes))

    def of_row(self, row: Row, places: Sequence[int]) -> Row:
        """Return the compared values of a row, numbers rounded to what every plan agrees on."""
        return tuple(
            _rounded(row[place], digits) if digits else row[place]
            for place, digits in zip(places, self.digits, strict=True)
        )


def _rounded(value: str | None, digits: int) -> str | None:
    return None if value is None else f"{float(value):.{digits}g}"


class _Compared:
    """Both sides' rows, read once."""

    def __init__(
        self,
        lab: Connection,
        one: tuple[Prepared, tuple[str | None, ...]],
        other: tuple[Prepared, tuple[str | None, ...]],
        columns: _Columns,
        keys: tuple[int, ...],
    ) -> None:
        self._lab = lab
        self._one, self._other = one, other
        self.columns = columns
        self._keys = keys
        self._tally = _Tally()
        self.before, self._error = self._read(one, columns.before, 1)
        self.after, self._new_error = self._read(other, columns.after, -1)

    def _read(
        self, side: tuple[Prepared, tuple[str | None, ...]], places: Sequence[int], sign: int
    ) -> tuple[_Digest, str]:
        digest = _Digest()
        try:
            with self._lab.transaction():
                for row in self._rows(side, places):
                    self._add(digest, row, sign)
        except psycopg.errors.QueryCanceled:
            raise
        except psycopg.Error as error:
            return digest, error.diag.message_primary or str(error)
        return digest, ""

    def _rows(
        self, side: tuple[Prepared, tuple[str | None, ...]], places: Sequence[int]
    ) -> Iterator[Row]:
        prepared, values = side
        for row in prepared.rows(values):
            yield self.columns.of_row(row, places)

    def _add(self, digest: _Digest, row: Row, sign: int) -> None:
        if digest.count >= MAX_ROWS:
            raise _TooMany
        hashed = _hash(row)
        digest.count += 1
        digest.total = (digest.total + int.from_bytes(hashed)) % (1 << (8 * _HASH_BYTES))
        digest.sequence.update(hashed)  # type: ignore[attr-defined]
        if self._keys:
            digest.order.update(_hash([row[k] for k in self._keys]))  # type: ignore[attr-defined]
        self._tally.add(hashed, sign)

    def errors(self) -> Equality | None:
        """Return what is to be said where a side ended in an error."""
        if not self._error and not self._new_error:
            return None
        if self._error and self._new_error:
            return replace(
                _unknown(f"Not compared: both end in an error: {self._error}."), is_error=True
            )
        which, words = ("the new form", self._new_error) if self._new_error else \
            ("the statement", self._error)  # fmt: skip
        return Equality(
            Sameness.DIFFERENT, f"Only {which} ends in an error: {words}.", is_error=True
        )

    @property
    def are_same_rows(self) -> bool:
        return (self.before.count, self.before.total) == (self.after.count, self.after.total)

    @property
    def are_same_sequence(self) -> bool:
        return _digests(self.before.sequence, self.after.sequence)

    @property
    def have_same_keys(self) -> bool:
        """Say whether the sort keys follow each other alike."""
        return _digests(self.before.order, self.after.order)

    def same(self, words: str, *notes: str) -> Equality:
        return Equality(
            Sameness.SAME, words, self.before.count, self.after.count,
            columns=self.columns.names, notes=(*self.columns.notes, *notes),
        )  # fmt: skip

    def different(self, words: str = "", *notes: str) -> Equality:
        """Return the difference with the first rows of it."""
        missing, surplus = self._tally.sums()
        if self._tally.share > 1:
            notes = (
                *notes,
                f"too many distinct rows to keep: one of {self._tally.share} was looked at, and "
                "the numbers of differing rows are estimates",
            )
        words = words or (
            f"{missing:,} {_rows_word(missing)} missing, {surplus:,} too many: "
            f"{self.before.count:,} before, {self.after.count:,} after."
        )
        return Equality(
            Sameness.DIFFERENT, words, self.before.count, self.after.count, missing, surplus,
            self.columns.names, tuple(self._examples()), (*self.columns.notes, *notes),
        )  # fmt: skip

    def _examples(self) -> Iterator[RowDifference]:
        """Read both sides again for some of the rows that differ."""
        wanted = self._tally.some(MAX_EXAMPLES)
        if not wanted:
            return
        seen: dict[bytes, list[int]] = {h: [0, 0] for h in wanted}
        texts: dict[bytes, Row] = {}
        for n, (side, places) in enumerate(
            ((self._one, self.columns.before), (self._other, self.columns.after))
        ):
            for row in self._rows(side, places):
                hashed = _hash(row)
                if hashed in seen:
                    seen[hashed][n] += 1
                    texts[hashed] = row
        for hashed in wanted:
            if hashed in texts:
                before, after = seen[hashed]
                yield RowDifference(tuple(map(_cut, texts[hashed])), before, after)


class _Tally:
    """How much more often each row comes on one side, of a share of all hashes."""

    def __init__(self) -> None:
        self._counts: dict[bytes, int] = {}
        self._bits = 0

    @property
    def share(self) -> int:
        """Return n where one of n distinct rows is looked at."""
        return 1 << self._bits

    def add(self, hashed: bytes, sign: int) -> None:
        if not self._is_kept(hashed):
            return
        count = self._counts.get(hashed, 0) + sign
        if count:
            self._counts[hashed] = count
        else:
            del self._counts[hashed]
        while len(self._counts) > MAX_DISTINCT:
            self._bits += 1
            self._counts = {h: n for h, n in self._counts.items() if self._is_kept(h)}

    def _is_kept(self, hashed: bytes) -> bool:
        return not self._bits or int.from_bytes(hashed[:8]) >> (64 - self._bits) == 0

    def sums(self) -> tuple[int, int]:
        """Return how many rows are missing and how many too many, of all."""
        missing = sum(n for n in self._counts.values() if n > 0)
        surplus = -sum(n for n in self._counts.values() if n < 0)
        return missing * self.share, surplus * self.share

    def some(self, most: int) -> list[bytes]:
        """Return a few hashes of missing rows and a few of those too many."""
        missing = [h for h, n in self._counts.items() if n > 0]
        surplus = [h for h, n in self._counts.items() if n < 0]
        return [*missing[:most], *surplus[:most]]


def _hash(row: Iterable[str | None]) -> bytes:
    return hashlib.blake2b(repr(tuple(row)).encode(), digest_size=_HASH_BYTES).digest()


def _digests(one: object, other: object) -> bool:
    return bool(one.digest() == other.digest())  # type: ignore[attr-defined]


def _cut(value: str | None) -> str | None:
    if value is None or len(value) <= MAX_VALUE_LETTERS:
        return value
    return value[: MAX_VALUE_LETTERS - 1] + "…"


def _rows_word(count: int) -> str:
    return "row is" if count == 1 else "rows are"


def _with_order(found: _Compared, order: _Order, new_text: str) -> Equality:
    """Return the verdict on equal multisets: the order may still differ."""
    counted = f"{found.before.count:,} row{'' if found.before.count == 1 else 's'}"
    if not order.is_ordered:
        return found.same(f"The same {counted}, duplicates and NULLs included.")
    notes = () if _is_ordered(new_text) else (
        "the new form has no ORDER BY at its end: the order it returns is not promised",
    )  # fmt: skip
    if found.are_same_sequence:
        return found.same(f"The same {counted} in the same order.", *notes)
    if order.keys is None:
        return found.same(
            f"The same {counted}, duplicates and NULLs included.",
            "the order was not compared: it sorts by what it does not return",
            *notes,
        )
    if found.have_same_keys:
        return found.same(
            f"The same {counted}, in the same order but for rows that ORDER BY does not tell "
            "apart.", *notes,
        )  # fmt: skip
    return found.different(f"The same {counted}, in another order.", *notes)


def _without_limit(
    lab: Connection, one: _Side, other: _Side, page: _Compared, order: _Order
) -> Equality:
    """Compare the whole results, where LIMIT may have picked others among rows that tie."""
    if order.keys and not page.have_same_keys:
        return page.different()
    try:
        whole = _compared(lab, _unlimited(one), _unlimited(other), "whole")
    except (_TooMany, psycopg.errors.QueryCanceled, TrialFailed):
        return _unknown(
            "Not compared: the pages differ, which LIMIT allows where rows tie, and without it "
            "there are too many rows."
        )
    if whole.sameness is not Sameness.SAME:
        return whole
    if order.is_ordered and order.keys is None:
        return _unknown(
            f"Without LIMIT both return the same {whole.rows_before:,} rows. The pages differ: "
            "whether only among ties cannot be told, for it sorts by what it does not return."
        )
    return page.same(
        f"Without LIMIT both return the same {whole.rows_before:,} rows; LIMIT picks "
        f"{page.before.count:,} of them, and its order leaves ties.",
        *whole.notes,
    )


def _unlimited(side: _Side) -> _Side:
    tree = parse(side.wording.text)
    for part in ("limit", "offset"):
        tree.set(part, None)
    wording = Wording.of(tree.sql(dialect="postgres"))
    return _Side(wording, wording.values(side.values))


def _is_ordered(text: str) -> bool:
    with suppress(Unparsable):
        return parse(text).args.get("order") is not None
    return False


def _order(text: str, columns: Sequence[str]) -> _Order:
    """Read from the statement what decides the order of its rows."""
    try:
        tree = parse(text)
    except Unparsable:
        # What cannot be read is taken to promise no order, and said so by the caller's notes.
        return _Order()
    order = tree.args.get("order")
    limited = any(tree.args.get(part) is not None for part in ("limit", "offset"))
    if order is None:
        return _Order(is_limited=limited)
    places = [_place(o.this, tree, columns) for o in order.expressions]
    known = tuple(p for p in places if p is not None)
    return _Order(True, known if len(known) == len(places) else None, limited)


def _place(key: exp.Expr, tree: exp.Expr, columns: Sequence[str]) -> int | None:
    """Return which output column a key of ORDER BY is, None where that is not certain."""
    if isinstance(key, exp.Literal) and re.fullmatch(r"\d+", key.name):
        place = int(key.name) - 1
        return place if 0 <= place < len(columns) else None
    projections = tree.args.get("expressions") or []
    has_star = any(isinstance(p, exp.Star) for p in projections)
    # A bare name means the output's column of that name before any table's.
    if isinstance(key, exp.Column) and (has_star or not key.table):
        return list(columns).index(key.name) if columns.count(key.name) == 1 else None
    if len(projections) != len(columns) or any(p.is_star for p in projections):
        return None
    return next((n for n, p in enumerate(projections) if p.unalias() == key), None)
