"""Indexes that could serve a statement, from its shape and the columns' statistics.

Columns compared for equality come first, then one range or the order: the rule of every
B-tree advisor since Lahdenmäki and Leach, "Relational Database Index Design". Whether a
candidate is any good is not decided here but by the planner.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from psycopg import sql

from perfcore.advise.statement import (
    JoinKey,
    Key,
    Operator,
    OrderKey,
    Predicate,
    StatementShape,
    TableUse,
)
from perfcore.types import Catalog, ColumnInfo, IndexDefinition, IndexInfo, IndexKey, TableInfo

MAX_KEYS = 4
MAX_INCLUDED = 4
MAX_INCLUDED_BYTES = 64
MAX_KEY_BYTES = 500  # a B-tree entry must stay below a third of a page
RARE = 0.05  # share of the rows below which a value deserves an index of its own
RARE_TOGETHER = 0.10
RARE_NULL_TEST = 0.20
MOST_IN_STATE = 0.8  # and one on a state a fifth, because it needs fewer keys
MAX_STATES = 20  # distinct values of a column that tells a row's state
MIN_CORRELATION = 0.95
MOST_COMMON = 0.3  # share of the rows that may have one value where ranges of pages are told apart
MIN_HASHED_BYTES = 24
PAGE = 8192
MIN_BRIN_BYTES = 4 * 1024 * 1024
MOST_OF_TABLE = 0.3  # a partial index without NULLs must leave out at least as much
MAX_PER_USE = 24
STALE_SHARE = 0.2
STALE_ROWS = 1_000

_NOT_SORTABLE = (
    "json", "jsonb", "xml", "point", "box", "circle", "polygon", "tsvector", "tsquery",
)  # fmt: skip
_STRICT = (Operator.EQUAL, Operator.ANY, Operator.RANGE)  # never true of a NULL
_TEXTS = ("text", "character varying", "character", "citext", "name")
_PATTERNS = (Operator.LIKE, Operator.ILIKE, Operator.SIMILAR)
_NETWORKS = ("inet", "cidr")
_REGIONS = (*_NETWORKS, "point", "box", "circle", "polygon", "ltree", "cube", "seg")


@dataclass(frozen=True, slots=True)
class Candidate:
    """An index worth asking the planner about; `pattern` says which idea it comes from."""

    index: IndexDefinition
    pattern: str
    caveats: tuple[str, ...] = ()
    companions: tuple[IndexDefinition, ...] = ()  # the other branches of an OR


@dataclass(frozen=True, slots=True)
class Proposal:
    """The candidates of one statement and what was left out, by name of the reason."""

    candidates: tuple[Candidate, ...] = ()
    served_by: tuple[str, ...] = ()  # existing indexes that already do a candidate's work
    small_tables: tuple[str, ...] = ()
    stale_tables: tuple[str, ...] = ()  # whose statistics say nothing any more
    literals: Mapping[int, str] = field(default_factory=dict)  # $n -> SQL text to plan with


def propose(shape: StatementShape, catalog: Catalog, *, min_table_rows: int) -> Proposal:
    """Return the candidates of a statement, those an existing index serves left out."""
    found: dict[str, Candidate] = {}
    served: set[str] = set()
    small: set[str] = set()
    stale: set[str] = set()
    literals: dict[int, str] = {}
    for use in shape.uses:
        table = catalog.table(use.table, use.schema)
        if table is None:
            continue
        if rows_of(table) < min_table_rows:
            small.add(table.qualified_name)
            continue
        if is_stale(table):
            stale.add(table.qualified_name)
            continue
        maker = _Maker(table, use, catalog)
        for candidate in maker.candidates():
            if existing := serving(candidate.index, table):
                served.add(existing.name)
            else:
                found.setdefault(candidate.index.digest, candidate)
        literals |= maker.literals
        if unique := _unique_lookup(table, use):
            served.add(unique.name)
    return Proposal(
        tuple(found.values()),
        tuple(sorted(served)),
        tuple(sorted(small)),
        tuple(sorted(stale)),
        literals,
    )


def rows_of(table: TableInfo) -> float:
    """Return the planner's row count, or the counters' where that is missing or outdated."""
    if table.row_count < 0 or table.modified_since_analyze > table.row_count:
        return float(max(table.live_rows, table.row_count))
    return table.row_count


def is_stale(table: TableInfo) -> bool:
    """Say whether so much changed since the last ANALYZE that no cost can be believed."""
    changed = table.modified_since_analyze
    return table.row_count < 0 or changed > max(STALE_ROWS, STALE_SHARE * table.row_count)


def serving(index: IndexDefinition, table: TableInfo) -> IndexInfo | None:
    """Return an existing index whose leading keys are this one's, in this order and method."""
    for existing in table.indexes:
        if existing.is_valid and existing.method == index.method and _covers(existing, index):
            return existing
    return None


def _covers(existing: IndexInfo, index: IndexDefinition) -> bool:
    count = len(index.keys)
    if plain(existing.predicate) != plain(index.predicate) or len(existing.keys) < count:
        return False
    if [plain(k) for k in existing.keys[:count]] != [plain(k.expression) for k in index.keys]:
        return False
    has = existing.opclasses or ("",) * len(existing.keys)
    if list(has[:count]) != [k.operator_class for k in index.keys]:
        return False
    if not set(index.include) <= set(existing.include) | set(existing.keys):
        return False
    down = existing.descending or (False,) * len(existing.keys)
    turned = {bool(k.descending) != bool(d) for k, d in zip(index.keys, down, strict=False)}
    # Read backwards, an index with every direction turned serves just as well.
    return len(turned) == 1


def redundant_with(index: IndexDefinition, table: TableInfo) -> list[IndexInfo]:
    """Return existing indexes that the new one would do all the work of."""
    keys = [plain(k.expression) for k in index.keys]
    available = set(index.include) | {k.expression for k in index.keys}
    return [
        e
        for e in table.indexes
        if e.method == index.method == "btree"
        and not (e.is_unique or e.is_constraint or e.is_replica_identity)
        and plain(e.predicate) == plain(index.predicate)
        and [plain(k) for k in e.keys] == keys[: len(e.keys)]
        and not any(e.opclasses)
        and not any(e.descending)
        and set(e.include) <= available
    ]


_PIECE = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|\s+|[^'\"\s]+")


def _plain_piece(match: re.Match[str]) -> str:
    text = match[0]
    if text.startswith("'"):
        return text
    if text.startswith('"'):
        return text[1:-1] if re.fullmatch(r"[a-z_][a-z0-9_$]*", text[1:-1]) else text
    return "" if text.isspace() else text.lower()


def plain(expression: str) -> str:
    """Return an expression without the spaces, quotes and outer brackets that do not matter.

    >>> plain('(lower("email"))') == plain("LOWER( email )"), plain("a = 'A B'")
    (True, "a='A B'")
    """
    text = _PIECE.sub(_plain_piece, expression)
    while text.startswith("(") and text.endswith(")") and _balanced(text[1:-1]):
        text = text[1:-1]
    return text


def _balanced(text: str) -> bool:
    depth = 0
    for letter in text:
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if depth < 0:
            return False
    return depth == 0


def _unique_lookup(table: TableInfo, use: TableUse) -> IndexInfo | None:
    """Return a unique index that already finds the one row the statement wants."""
    bound = {p.key.expression for p in use.predicates if p.operator is Operator.EQUAL}
    bound |= {j.key.expression for j in use.joins}
    for index in table.indexes:
        whole = index.is_unique and index.is_valid and not index.predicate
        if whole and set(index.keys) <= bound:
            return index
    return None


class _Maker:
    """Makes the candidates of one appearance of a table."""

    def __init__(self, table: TableInfo, use: TableUse, catalog: Catalog) -> None:
        self.table = table
        self.use = use
        self.catalog = catalog
        self.literals: dict[int, str] = {}
        by_selectivity = sorted(
            self._of(Operator.EQUAL), key=lambda p: (-self._distinct(p.key), p.key)
        )
        self.equals = _unique_keys(p.key for p in by_selectivity)
        self.anys = _unique_keys(p.key for p in self._of(Operator.ANY))
        self.ranges = _unique_keys(p.key for p in self._of(Operator.RANGE))

    def candidates(self) -> list[Candidate]:
        """Return at most MAX_PER_USE candidates, the likelier ideas first."""
        if any(
            i.is_unique and i.is_valid and not i.predicate and set(i.keys) <= self._equal_names()
            for i in self.table.indexes
        ):
            return []
        found: dict[str, Candidate] = {}
        for candidate in self._ideas():
            found.setdefault(candidate.index.digest, candidate)
        self._ask_for_common_values()
        return list(found.values())[:MAX_PER_USE]

    def _ask_for_common_values(self) -> None:
        """Plan an ordered and limited search with values that many rows have.

        The generic plan takes the average value, of which there are few rows to sort; but
        the keys that many rows have are also those that are asked for most.
        """
        if not (self.use.order_by and self.use.has_limit):
            return
        for predicate in self._of(Operator.EQUAL):
            column = self._column(predicate.key)
            if column and column.most_common_values and predicate.parameter:
                value = column.most_common_values[len(column.most_common_values) // 2]
                literal = sql.Literal(value).as_string(None)
                self.literals.setdefault(predicate.parameter, literal)

    def _ideas(self) -> Iterator[Candidate]:
        yield from self._partial()
        yield from self._gin()
        yield from self._gist()
        btrees = [c for c in self._btrees() if c is not None]
        yield from btrees
        yield from self._without_nulls(btrees)
        yield from self._covering(btrees)
        yield from self._alternatives()
        yield from self._brin()
        yield from self._hash()

    # B-trees

    def _btrees(self) -> Iterator[Candidate | None]:
        order = self._order()
        if order and (self.equals or (self.use.has_limit and not self._guessed())):
            yield self._btree([*map(OrderKey, self.equals), *order], "ordered")
        for ranged in self.ranges[:2]:
            yield self._btree(map(OrderKey, [*self.equals, ranged]), "range")
        if self.equals:
            yield self._btree(map(OrderKey, self.equals), "equality")
        if self.anys:
            yield self._btree(map(OrderKey, [*self.equals, *self.anys]), "equality")
        for key in (*self.equals, *self.anys)[:3]:
            yield self._btree([OrderKey(key)], "equality")
        yield from self._joins(order)
        if self.use.group_by and not order:
            yield self._btree(map(OrderKey, [*self.equals, *self.use.group_by]), "grouping")
        for predicate in self._of(Operator.LIKE):
            # Without case there is no order to search in.
            if re.match(r"'[^%_]", predicate.literal) and self._is_text(predicate.key):
                yield self._btree([OrderKey(predicate.key)], "prefix", "text_pattern_ops")

    def _guessed(self) -> bool:
        """Say whether the planner can only guess how many rows match.

        Walking a whole order until enough rows match is then a gamble that looks cheap.
        """
        guesses = (
            Operator.JSON_CONTAINS,
            Operator.JSON_EXISTS,
            Operator.JSON_PATH,
            Operator.OVERLAP,
            Operator.SIMILAR,
            Operator.TEXT_SEARCH,
            Operator.LIKE,
            Operator.ILIKE,
        )
        return any(p.operator in guesses for p in self.use.predicates)

    def _joins(self, order: list[OrderKey]) -> Iterator[Candidate | None]:
        yield from self._joined_together()
        for join in _unique_joins(self.use.joins):
            yield self._btree([OrderKey(join.key)], "join")
            if self.equals:
                yield self._btree(map(OrderKey, [*self.equals, join.key]), "join")
                yield self._btree(map(OrderKey, [join.key, *self.equals]), "join")
            if order and self.use.has_limit:
                yield self._btree([OrderKey(join.key), *map(OrderKey, self.equals), *order], "join")
            elif self.ranges:
                yield self._btree(map(OrderKey, [join.key, *self.equals, self.ranges[0]]), "join")

    def _joined_together(self) -> Iterator[Candidate | None]:
        """Propose all the columns that join one other table, the most selective first."""
        others: dict[str, list[Key]] = {}
        for join in self.use.joins:
            others.setdefault(join.other_table, []).append(join.key)
        for other in sorted(others):
            keys = sorted(set(others[other]), key=lambda k: (-self._distinct(k), k))
            if len(keys) > 1:
                yield self._btree(map(OrderKey, keys), "join")

    def _order(self) -> list[OrderKey]:
        """Return the order without keys that an equality holds constant."""
        fixed = {*self.equals}
        order = [o for o in self.use.order_by if o.key not in fixed]
        if all(o.descending and o.nulls_first is None for o in order) and not self.equals:
            # A plain ascending index read backwards is the same, and the usual one.
            return [OrderKey(o.key) for o in order]
        return order

    def _btree(
        self, keys: Iterable[OrderKey], pattern: str, operator_class: str = ""
    ) -> Candidate | None:
        index_keys: dict[str, IndexKey] = {}
        for order in keys:
            if not self._sortable(order.key):
                return None
            index_keys.setdefault(
                order.key.expression,
                IndexKey(
                    order.key.expression,
                    order.key.is_expression,
                    order.descending,
                    order.nulls_first,
                    operator_class,
                ),
            )
        if not index_keys or len(index_keys) > MAX_KEYS:
            return None
        if any(k.is_expression for k in index_keys.values()):
            pattern = "expression"
        return Candidate(self._definition(tuple(index_keys.values())), pattern)

    def _covering(self, plain_ones: Sequence[Candidate]) -> Iterator[Candidate]:
        """Add what else the statement reads, so that the heap need not be visited."""
        if self.use.reads_all_columns:
            return
        for candidate in plain_ones[:2]:
            index = candidate.index
            served = serving(index, self.table)
            if served is not None and served.is_unique:
                continue  # it finds one row: to visit it costs next to nothing
            keys = {k.expression for k in index.keys}
            missing = tuple(c for c in self.use.columns if c not in keys)
            widths = [self._width(c) for c in missing]
            if not missing or len(missing) > MAX_INCLUDED or sum(widths) > MAX_INCLUDED_BYTES:
                continue
            if not any(k.is_expression for k in index.keys):
                definition = self._definition(index.keys, include=missing)
                yield Candidate(definition, "covering", _covering_caveats())

    def _alternatives(self) -> Iterator[Candidate]:
        branches: list[IndexDefinition] = []
        for branch in self.use.alternatives:
            made = self._for_branch(branch)
            if made is None:
                return
            if serving(made, self.table) is None:
                branches.append(made)
        for n, index in enumerate(branches):
            others = tuple(b for m, b in enumerate(branches) if m != n)
            yield Candidate(index, "one branch of an OR", companions=others)

    def _for_branch(self, branch: Sequence[Predicate]) -> IndexDefinition | None:
        for predicate in branch:
            for candidate in self._gin_for(predicate):
                return candidate.index
        usable = (Operator.EQUAL, Operator.ANY, Operator.RANGE)
        ordered = sorted(
            (p for p in branch if p.operator in usable), key=lambda p: usable.index(p.operator)
        )
        made = self._btree((OrderKey(p.key) for p in ordered), "equality")
        return made.index if made else None

    def _without_nulls(self, plain_ones: Sequence[Candidate]) -> Iterator[Candidate]:
        """Leave out the rows that no comparison finds, where they are most of the table."""
        for candidate in plain_ones:
            first = candidate.index.keys[0]
            column = None if first.is_expression else self.table.column(first.expression)
            compared = {p.key.expression for p in self.use.predicates if p.operator in _STRICT}
            compared |= {j.key.expression for j in self.use.joins}
            if column and (column.null_fraction or 0) > MOST_OF_TABLE and column.name in compared:
                where = f"{sql.Identifier(column.name).as_string(None)} IS NOT NULL"
                yield replace(candidate, index=replace(candidate.index, predicate=where))

    # Partial indexes

    def _partial(self) -> Iterator[Candidate]:
        for predicate in self.use.predicates:
            column = self._column(predicate.key)
            if column is None:
                continue
            where = _null_test(predicate, column) or _truth_test(predicate, column)
            if where:
                yield from self._partial_on(predicate.key, where, ())
            elif predicate.operator is Operator.EQUAL and predicate.parameter:
                yield from self._rare_values(predicate, column)
        yield from self._states()

    def _states(self) -> Iterator[Candidate]:
        """Propose an index on the rows in the state that the statement asks for.

        Each test alone may leave most rows ("not deleted", "a question"), and all of them
        together few: then they need be no keys.
        """
        tests: dict[Key, tuple[str, float]] = {}
        for predicate in self.use.predicates:
            column = self._column(predicate.key)
            test = column and (
                _null_test(predicate, column, 1)
                or _truth_test(predicate, column, 1)
                or _list_test(predicate, column)
                or _difference(predicate, column)
            )
            if column and test:
                tests.setdefault(predicate.key, (test, _share_of(predicate, column)))
        if not tests or math.prod(share for _, share in tests.values()) > MOST_IN_STATE:
            return
        where = " AND ".join(test for test, _ in tests.values())
        rest = [k for k in self.equals if k not in tests]
        tails = [self._order(), *([OrderKey(r)] for r in self.ranges if r not in tests)]
        tails.append([OrderKey(g) for g in self.use.group_by if g not in self.equals])
        tails = [t for t in tails if t] or [[]]
        for tail in tails[:2]:
            keys = [*map(OrderKey, rest), *tail] or [OrderKey(next(iter(tests)))]
            if made := self._btree(keys, "partial"):
                yield Candidate(self._definition(made.index.keys, predicate=where), "partial")
        for join in _unique_joins(self.use.joins)[:2]:
            if made := self._btree([OrderKey(join.key), *map(OrderKey, rest)], "partial"):
                yield Candidate(self._definition(made.index.keys, predicate=where), "partial")

    def _partial_on(
        self, tested: Key, where: str, caveats: tuple[str, ...], leading: tuple[Key, ...] = ()
    ) -> Iterator[Candidate]:
        rest = [k for k in self.equals if k != tested]
        tail = self._order() or [OrderKey(r) for r in self.ranges if r != tested][:1]
        keys = [*map(OrderKey, leading), *map(OrderKey, rest), *tail]
        keys += [OrderKey(tested)] if not keys else []
        made = self._btree(keys, "partial")
        if made is not None:
            definition = self._definition(made.index.keys, predicate=where)
            yield Candidate(definition, "partial", caveats)

    def _rare_values(self, predicate: Predicate, column: ColumnInfo) -> Iterator[Candidate]:
        """Propose an index on the rows with the rare values of a skewed column.

        pg_stat_statements hides which value is asked for. On a queue ("pending") it is the
        rare one, and nothing else in the statement narrows the search as well.
        """
        pairs = list(zip(column.most_common_values, column.most_common_freqs, strict=False))
        rare = [(value, share) for value, share in pairs if 0 < share < RARE]
        total = sum(share for _, share in rare)
        # Only where the list of common values is the whole column is the rest known to be rare.
        complete = sum(share for _, share in pairs) + (column.null_fraction or 0.0) > 0.99
        if not rare or total > RARE_TOGETHER or not complete or len(rare) > 5:
            return
        others = [k for k in self.equals if k != predicate.key]
        if any(1 / max(self._distinct(k), 1) < total for k in others) or self.use.joins:
            return
        column_sql = sql.Identifier(column.name).as_string(None)
        values = [sql.Literal(value).as_string(None) for value, _ in rare]
        single = len(values) == 1
        where = (
            f"{column_sql} = {values[0]}" if single else f"{column_sql} IN ({', '.join(values)})"
        )
        caveat = (
            f"It serves only {where.replace(column_sql, column.name)}, {100 * total:.1f} % of the "
            "rows; calls with another value are not helped. pg_stat_statements does not show "
            "which values are asked for: check that before applying it."
        )
        made = list(
            self._partial_on(predicate.key, where, (caveat,), () if single else (predicate.key,))
        )
        if made:
            commonest = max(rare, key=lambda pair: pair[1])[0]
            self.literals[predicate.parameter] = sql.Literal(commonest).as_string(None)
        yield from made

    # Other methods

    def _gin(self) -> Iterator[Candidate]:
        for predicate in self.use.predicates:
            yield from self._gin_for(predicate)

    def _gin_for(self, predicate: Predicate) -> Iterator[Candidate]:
        column = self._column(predicate.key)
        kind = column.type if column else ""
        paths = (Operator.JSON_CONTAINS, Operator.JSON_PATH)
        if predicate.operator in paths and kind == "jsonb":
            yield self._gin_on(predicate.key, "jsonb", "jsonb_path_ops")
        elif predicate.operator is Operator.JSON_EXISTS and kind == "jsonb":
            yield self._gin_on(predicate.key, "jsonb", "")
        elif predicate.operator is Operator.OVERLAP and _has_elements(kind):
            yield self._gin_on(predicate.key, "array", "")
        elif predicate.operator is Operator.TEXT_SEARCH and self._is_vector(predicate.key):
            yield self._gin_on(predicate.key, "text search", "")
        # Without the extension it is a change of the schema, which `advise.rewrites` offers whole.
        elif predicate.operator in _PATTERNS and self._has_trigrams(predicate.key):
            anchored = re.match(r"'[^%_]", predicate.literal)
            if predicate.operator is not Operator.LIKE or not anchored:
                caveat = "Patterns with fewer than three letters in a row gain nothing."
                yield self._gin_on(predicate.key, "trigram", "gin_trgm_ops", (caveat,))

    def _gin_on(
        self, key: Key, pattern: str, operator_class: str, caveats: tuple[str, ...] = ()
    ) -> Candidate:
        keys = (IndexKey(key.expression, key.is_expression, operator_class=operator_class),)
        slow = "Writes to a GIN index cost several times those to a B-tree."
        return Candidate(self._definition(keys, method="gin"), pattern, (*caveats, slow))

    def _gist(self) -> Iterator[Candidate]:
        """Propose a search tree of regions: of ranges, shapes and networks, or by distance."""
        for predicate in self._of(Operator.OVERLAP):
            if (kind := self._region(predicate.key)) is None:
                continue
            yield self._gist_on((), predicate.key, kind)
            if self.equals and "btree_gist" in self.catalog.extensions:
                yield self._gist_on(self.equals[:2], predicate.key, kind)
            if kind in _NETWORKS:
                # A constant network is a range of addresses to a B-tree, too.
                ordered = self._btree(map(OrderKey, [*self.equals, predicate.key]), "range")
                yield from (c for c in (ordered,) if c)
        for key in self.use.nearest if self.use.has_limit else ():
            column = self._column(key)
            if column and column.type.startswith(_TEXTS):
                yield self._gist_on((), key, "gist_trgm_ops")
            elif (kind := self._region(key)) is not None or "btree_gist" in self.catalog.extensions:
                yield self._gist_on((), key, kind or "")

    def _gist_on(self, leading: Sequence[Key], key: Key, kind: str) -> Candidate:
        operator_class = "inet_ops" if kind in _NETWORKS else kind if kind.endswith("_ops") else ""
        keys = [IndexKey(k.expression, k.is_expression) for k in leading]
        keys.append(IndexKey(key.expression, key.is_expression, operator_class=operator_class))
        return Candidate(self._definition(tuple(keys), method="gist"), "region")

    def _region(self, key: Key) -> str | None:
        """Return the type of a key whose values are regions, None for any other."""
        column = self._column(key)
        if column is not None:
            base = column.type.rpartition(".")[2].strip('"')
            return base if base in _REGIONS or base.endswith("range") else None
        made = re.match(r"(\w+)\(", key.expression)
        kind = made[1].lower() if made else ""
        return kind if kind in _REGIONS or kind.endswith("range") else None

    def _hash(self) -> Iterator[Candidate]:
        """Propose a hash of a wide value that is only ever asked for whole."""
        for key in self.equals[:1]:
            column = self._column(key)
            wide = column is not None and (column.avg_width_bytes or 0) >= MIN_HASHED_BYTES
            if wide and self._distinct(key) > 0.5 * rows_of(self.table):
                caveat = "A hash index finds equal values only: it serves no range, order or join."
                definition = self._definition((IndexKey(key.expression),), method="hash")
                yield Candidate(definition, "hash", (caveat,))

    def _brin(self) -> Iterator[Candidate]:
        if self.table.table_bytes < MIN_BRIN_BYTES:
            return
        led = {i.keys[0] for i in self.table.indexes if i.is_valid and i.method == "btree"}
        equals = [k for k in self.equals if k.expression not in led]
        for key in dict.fromkeys((*self.ranges, *equals)):
            column = self._column(key)
            if column and _lies_in_order(column):
                caveat = (
                    f"It works while rows arrive in the order of {column.name} (correlation now "
                    f"{column.correlation:.3f})."
                )
                definition = self._definition((IndexKey(key.expression),), method="brin")
                definition = replace(definition, pages_per_range=self._pages_per_range())
                yield Candidate(definition, "brin", (caveat,))

    def _pages_per_range(self) -> int | None:
        """Return a range that makes some hundreds of a smaller table; PostgreSQL's takes 128."""
        pages = self.table.table_bytes // PAGE
        fitting = [p for p in (64, 32, 16, 8) if pages // p <= 1_000]
        return None if pages // 128 > 500 else min(fitting, default=None)

    # What the catalogue knows

    def _definition(
        self,
        keys: tuple[IndexKey, ...],
        *,
        method: str = "btree",
        include: tuple[str, ...] = (),
        predicate: str = "",
    ) -> IndexDefinition:
        return IndexDefinition(self.table.schema, self.table.name, keys, method, include, predicate)

    def _of(self, operator: Operator) -> list[Predicate]:
        return [p for p in self.use.predicates if p.operator is operator]

    def _equal_names(self) -> set[str]:
        return {k.expression for k in self.equals}

    def _column(self, key: Key) -> ColumnInfo | None:
        return None if key.is_expression else self.table.column(key.expression)

    def _distinct(self, key: Key) -> float:
        """Return the estimated number of distinct values; an expression is taken as selective."""
        column = self._column(key)
        if column is None or column.n_distinct is None:
            return rows_of(self.table) if key.is_expression else 1.0
        if column.n_distinct < 0:
            return -column.n_distinct * rows_of(self.table)
        return column.n_distinct

    def _sortable(self, key: Key) -> bool:
        column = self._column(key)
        if column is None:
            return key.is_expression
        return column.type not in _NOT_SORTABLE and self._width(column.name) <= MAX_KEY_BYTES

    def _width(self, name: str) -> int:
        column = self.table.column(name)
        return (column.avg_width_bytes or 16) if column else 16

    def _is_text(self, key: Key) -> bool:
        column = self._column(key)
        return column is None or column.type.startswith(_TEXTS)

    def _has_trigrams(self, key: Key) -> bool:
        return self._is_text(key) and "pg_trgm" in self.catalog.extensions

    def _is_vector(self, key: Key) -> bool:
        column = self._column(key)
        if column is None:
            return key.expression.startswith("to_tsvector(")
        return column.type == "tsvector"


def _lies_in_order(column: ColumnInfo) -> bool:
    """Say whether ranges of the table's pages hold different values.

    Where most rows have one value, correlation is that of these: every range holds it, and the
    others lie anywhere.
    """
    in_order = abs(column.correlation or 0.0) >= MIN_CORRELATION
    common = max(column.most_common_freqs, default=0.0)
    return in_order and common < MOST_COMMON and not column.type.startswith(_TEXTS)


def _has_elements(kind: str) -> bool:
    return kind.endswith("[]") or kind.rpartition(".")[2] == "hstore"


def _covering_caveats() -> tuple[str, ...]:
    return (
        "Index-only scans need a recent VACUUM, and updates of an included column can no longer "
        "be HOT.",
    )


def _null_test(predicate: Predicate, column: ColumnInfo, most: float = RARE_NULL_TEST) -> str:
    name = sql.Identifier(column.name).as_string(None)
    share = column.null_fraction
    if share is None:
        return ""
    if predicate.operator is Operator.IS_NULL and share < most:
        return f"{name} IS NULL"
    if predicate.operator is Operator.NOT_NULL and 1 - share < most:
        return f"{name} IS NOT NULL"
    return ""


def _share_of(predicate: Predicate, column: ColumnInfo) -> float:
    """Return the share of the rows that pass a test of a state."""
    nulls = column.null_fraction or 0.0
    if predicate.operator is Operator.IS_NULL:
        return nulls
    if predicate.operator is Operator.NOT_NULL:
        return 1 - nulls
    if predicate.operator is Operator.DIFFERENT:
        return 1 - nulls - _share_of(replace(predicate, operator=Operator.ANY), column)
    shares = dict(zip(column.most_common_values, column.most_common_freqs, strict=False))
    if predicate.literals:
        return sum(shares.get(v.strip("'"), 0.0) for v in predicate.literals)
    value = predicate.literal.strip("'")
    if column.type == "boolean":
        value = "t" if predicate.literal.lower() == "true" else "f"
    return shares.get(value, 0.0)


def _truth_test(predicate: Predicate, column: ColumnInfo, most: float | None = None) -> str:
    if predicate.operator is not Operator.EQUAL or not predicate.literal:
        return ""
    name = sql.Identifier(column.name).as_string(None)
    shares = dict(zip(column.most_common_values, column.most_common_freqs, strict=False))
    if column.type == "boolean":
        wanted = predicate.literal.lower() == "true"
        limit = RARE_NULL_TEST if most is None else most
        if shares.get("t" if wanted else "f", 0.0) < limit:
            return name if wanted else f"NOT {name}"
        return ""
    # A constant of the statement may be one example of many: only of a column with few values,
    # a status or a kind, is it likely to be asked for again.
    complete = sum(shares.values()) + (column.null_fraction or 0.0) > 0.99
    if not complete or len(shares) > MAX_STATES:
        return ""
    share = shares.get(predicate.literal.strip("'"), None)
    limit = RARE if most is None else most
    return f"{name} = {predicate.literal}" if share is not None and share < limit else ""


def _list_test(predicate: Predicate, column: ColumnInfo) -> str:
    """Return the test of a list of states, empty where they are not the states of a column."""
    if predicate.operator is not Operator.ANY or not _are_states(predicate.literals, column):
        return ""
    name = sql.Identifier(column.name).as_string(None)
    return f"{name} IN ({', '.join(predicate.literals)})"


def _difference(predicate: Predicate, column: ColumnInfo) -> str:
    """Return the test that leaves some states of a column out."""
    values = predicate.literals or ((predicate.literal,) if predicate.literal else ())
    if predicate.operator is not Operator.DIFFERENT or not _are_states(values, column):
        return ""
    name = sql.Identifier(column.name).as_string(None)
    return (
        f"{name} NOT IN ({', '.join(values)})" if predicate.literals else f"{name} <> {values[0]}"
    )


def _are_states(values: Sequence[str], column: ColumnInfo) -> bool:
    """Say whether these are constants of a column of which statistics know every value."""
    shares = dict(zip(column.most_common_values, column.most_common_freqs, strict=False))
    complete = sum(shares.values()) + (column.null_fraction or 0.0) > 0.99
    known = all(v.strip("'") in shares for v in values)
    return bool(values) and known and complete and len(shares) <= MAX_STATES


def _unique_keys(keys: Iterable[Key]) -> tuple[Key, ...]:
    return tuple(dict.fromkeys(keys))


def _unique_joins(joins: Iterable[JoinKey]) -> list[JoinKey]:
    return list({j.key: j for j in joins}.values())
