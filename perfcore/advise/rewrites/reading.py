"""What a parsed statement's names mean, and what the catalogue proves of its rows.

The proofs of uniqueness follow functional dependencies through equalities, as in Paulley and
Larson, "Exploiting uniqueness in query optimization" (ICDE 1994).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from sqlglot import exp

from perfcore.types import Catalog, ColumnInfo, TableInfo

Place = tuple[str, str]  # alias, column

INTEGERS = ("smallint", "integer", "bigint")
TEXTS = ("text", "character varying")
FLOATS = ("real", "double precision")
_EXACT_NUMBERS = (*INTEGERS, "numeric")
SIGNS: dict[type[exp.Expr], str] = {
    exp.EQ: "=",
    exp.GTE: ">=",
    exp.GT: ">",
    exp.LTE: "<=",
    exp.LT: "<",
    exp.NEQ: "<>",
}
FLIPPED = {"=": "=", ">=": "<=", ">": "<", "<=": ">=", "<": ">", "<>": "<>"}

# Functions whose value depends on their arguments and the transaction alone, besides those that
# the parser has a class of its own for.
_STABLE = frozenset(
    """
    age array_length btrim cardinality char_length character_length date_part decode div encode
    extract float8 int4 int8 jsonb_array_length jsonb_extract_path_text jsonb_typeof make_date
    make_interval make_timestamp make_timestamptz md5 octet_length position regexp_match
    regexp_replace reverse round similarity split_part starts_with strpos to_date to_number
    to_tsquery to_tsvector plainto_tsquery websearch_to_tsquery timezone unaccent width_bucket
    """.split()
)
_VOLATILE = (exp.Rand, exp.Randn, exp.Randstr, exp.Uuid, exp.NextValueFor)
EXACT_AGGREGATES = (  # whatever the order of the rows
    exp.Count,
    exp.Sum,
    exp.Avg,
    exp.Min,
    exp.Max,
    exp.LogicalAnd,
    exp.LogicalOr,
)
_SET_RETURNING = (exp.Unnest, exp.Explode, exp.GenerateSeries, exp.ExplodingGenerateSeries)


@dataclass(frozen=True, slots=True)
class Source:
    """One member of a FROM clause."""

    alias: str
    table: TableInfo | None  # None: no table of the catalogue
    node: exp.Expr
    join: exp.Join | None
    is_optional: bool  # an outer join may put NULLs in its place


@dataclass(frozen=True, slots=True)
class Field:
    """A column of a table, and the query whose FROM clause brings it in."""

    source: Source
    table: TableInfo
    column: ColumnInfo
    select: exp.Select

    @property
    def place(self) -> Place:
        return self.source.alias, self.column.name

    @property
    def is_never_null(self) -> bool:
        return self.column.not_null and not self.source.is_optional


class Reader:
    """Resolves the names of one statement."""

    def __init__(self, tree: exp.Expr, catalog: Catalog) -> None:
        self.catalog = catalog
        self._common = {_alias(cte) for cte in tree.find_all(exp.CTE)}

    def sources(self, select: exp.Select) -> tuple[Source, ...]:
        """Return the members of the FROM clause in their order."""
        first = select.args.get("from_")
        joins = select.args.get("joins") or []
        members = [(first.this, None)] if first is not None else []
        members += [(j.this, j) for j in joins]
        sides = [j.side if j is not None else "" for _, j in members]
        return tuple(
            Source(
                _alias(node),
                self._table(node),
                node,
                join,
                sides[n] in ("LEFT", "FULL") or any(s in ("RIGHT", "FULL") for s in sides[n + 1 :]),
            )
            for n, (node, join) in enumerate(members)
        )

    def only_table(self, select: exp.Expr | None) -> TableInfo | None:
        """Return the table of a query that reads nothing else, at its own level."""
        if not isinstance(select, exp.Select):
            return None
        sources = self.sources(select)
        return sources[0].table if len(sources) == 1 else None

    def field(self, column: exp.Expr | None) -> Field | None:
        """Return what a column's name stands for, None where that cannot be told."""
        if not isinstance(column, exp.Column) or isinstance(column.this, exp.Star):
            return None
        wanted, qualifier = name_of(column.this), name_of(column.args.get("table"))
        select = column.parent_select
        while isinstance(select, exp.Select):
            sources = self.sources(select)
            if not qualifier and _is_merged(wanted, sources):
                return None  # the column of neither table
            for source in sources:
                if qualifier and source.alias != qualifier:
                    continue
                info = source.table.column(wanted) if source.table else None
                if info is not None and source.table is not None:
                    return Field(source, source.table, info, select)
                if qualifier:
                    return None
            if any(s.table is None for s in sources) and not qualifier:
                return None
            select = select.parent_select
        return None

    def is_filled(self, field: Field) -> bool:
        """Say whether a column is never NULL in the rows that its query's WHERE lets pass."""
        if field.is_never_null:
            return True
        for part in where_conjuncts(field.select):
            found = [self.field(s.unnest()) for s in _strict(part)]
            if any(f and f.place == field.place and f.select is field.select for f in found):
                return True
        return False

    def fields(self, node: exp.Expr) -> list[Field | None]:
        """Return what each column below the node stands for, subqueries included."""
        return [self.field(c) for c in columns(node)]

    def keys(self, table: TableInfo) -> list[tuple[str, ...]]:
        """Return the column sets that no two rows of the table share, NULLs aside."""
        if table.qualified_name in self.catalog.inherited:
            return []
        names = {c.name for c in table.columns}
        return [
            i.keys
            for i in table.indexes
            if i.is_unique and i.is_valid and not i.predicate and set(i.keys) <= names
        ]

    def primary_key(self, table: TableInfo) -> tuple[str, ...]:
        if table.qualified_name in self.catalog.inherited:
            return ()
        return next((i.keys for i in table.indexes if i.is_primary), ())

    def determines(
        self, select: exp.Select, given: Iterable[Place], *, without_nulls: bool = False
    ) -> bool:
        """Say whether no two rows of FROM and WHERE agree in the given columns.

        Rows with NULL in one of them are left out of the question `without_nulls`.
        """
        sources = self.sources(select)
        if not sources or any(not _is_plain(s) for s in sources):
            return False
        closure = _Closure(self, select, sources, set(given), without_nulls)
        return closure.reaches_all()

    def listed(self, select: exp.Select) -> list[Place] | None:
        """Return the columns that stand bare in the select list, stars spelled out."""
        places: list[Place] = []
        for projection in select.expressions:
            node = projection.unalias()
            if node.is_star and isinstance(node, (exp.Star, exp.Column)):
                for source in self.sources(select):
                    wanted = name_of(node.args.get("table"))
                    if source.table is not None and wanted in ("", source.alias):
                        places += [(source.alias, c.name) for c in source.table.columns]
            elif returns_sets(node):
                return None
            elif (field := self.field(node)) is not None and field.select is select:
                places.append(field.place)
        return places

    def _table(self, node: exp.Expr) -> TableInfo | None:
        if not isinstance(node, exp.Table) or not isinstance(node.this, exp.Identifier):
            return None
        alias = node.args.get("alias")
        if alias is not None and alias.args.get("columns"):
            return None
        name, schema = name_of(node.this), name_of(node.args.get("db"))
        if not schema and (name in self._common or self.catalog.view(name) is not None):
            return None
        return self.catalog.table(name, schema)


class _Closure:
    """The columns that are settled once the given ones are."""

    def __init__(
        self,
        reader: Reader,
        select: exp.Select,
        sources: tuple[Source, ...],
        given: set[Place],
        without_nulls: bool,
    ) -> None:
        self.reader, self.select, self.sources = reader, select, sources
        self.settled = set(given)
        self.equated = set(given) if without_nulls else set()  # by "=", which no NULL passes
        # Where a column of the optional side is not NULL the outer join is an inner one.
        self.present = {alias for alias, _ in self.equated}
        self.rows: set[str] = set()  # the aliases whose row is settled
        self.pairs: list[tuple[Place, Place]] = []
        self._read_conditions()

    def reaches_all(self) -> bool:
        aliases = {s.alias for s in self.sources}
        before = -1
        while before != len(self.settled) + len(self.rows) and self.rows != aliases:
            before = len(self.settled) + len(self.rows)
            self._settle_rows()
            for known, other in self.pairs:
                if known in self.settled:
                    self.settled.add(other)
                    self.equated.add(other)
        return self.rows == aliases

    def _settle_rows(self) -> None:
        for source in self.sources:
            assert source.table is not None
            if source.alias not in self.rows and any(
                all(self._settles(source, source.table, c) for c in key)
                for key in self.reader.keys(source.table)
            ):
                self.rows.add(source.alias)
                self.settled |= {(source.alias, c.name) for c in source.table.columns}

    def _settles(self, source: Source, table: TableInfo, name: str) -> bool:
        info = table.column(name)
        place = (source.alias, name)
        is_never_null = place in self.equated or (info is not None and info.not_null)
        return place in self.settled and is_never_null

    def _read_conditions(self) -> None:
        for condition in conditions(self.select):
            optional = self._optional_side(condition)
            for conjunct in conjuncts(condition):
                if isinstance(conjunct, exp.EQ):
                    self._read_equality(conjunct, optional)
        for source in self.sources:
            for name in source.join.args.get("using") or () if source.join else ():
                self._read_using(source, name_of(name))

    def _optional_side(self, condition: exp.Expr) -> str:
        join = condition.parent
        if not isinstance(join, exp.Join) or join.side != "LEFT":
            return ""
        alias = _alias(join.this)
        return "" if alias in self.present else alias

    def _read_equality(self, node: exp.EQ, optional: str) -> None:
        sides = (node.this.unnest(), node.expression.unnest())
        for mine, other in (sides, sides[::-1]):
            field = self._own(mine)
            if field is None or (optional and field.source.alias != optional):
                continue
            theirs = self.reader.field(other)
            if theirs is None:
                if not is_constant(other) or _is_rounded(other, field):
                    continue
            elif not tells_apart(field.column, theirs.column):
                continue
            elif theirs.select is self.select:
                if theirs.place[0] != field.place[0]:
                    self.pairs.append((theirs.place, field.place))
                continue
            self.settled.add(field.place)
            self.equated.add(field.place)

    def _own(self, node: exp.Expr) -> Field | None:
        field = self.reader.field(node)
        return field if field is not None and field.select is self.select else None

    def _read_using(self, source: Source, name: str) -> None:
        for earlier in self.sources:
            if earlier is source:
                return
            mine = source.table.column(name) if source.table else None
            other = earlier.table.column(name) if earlier.table else None
            if mine and other and tells_apart(mine, other):
                self.pairs.append(((earlier.alias, name), (source.alias, name)))
                if source.join is not None and not source.join.side:
                    self.pairs.append(((source.alias, name), (earlier.alias, name)))


def _strict(part: exp.Expr) -> list[exp.Expr]:
    """Return what cannot be NULL where a condition is true."""
    negated = isinstance(part, exp.Not)
    test = part.this.unnest() if negated else part
    if isinstance(test, exp.Is) and isinstance(test.expression, exp.Null):
        return [test.this] if negated != bool(test.args.get("negate")) else []
    if type(part) in SIGNS and part.find(exp.All) is None:
        return [part.this, part.expression]
    return []


def tells_apart(one: ColumnInfo, other: ColumnInfo) -> bool:
    """Say whether "=" between two columns holds for one value of each only.

    Compared with a double, several whole numbers are equal to it; compared with a text, a citext
    is equal to fewer than among its own.
    """
    kinds = {bare_type(one.type), bare_type(other.type)}
    return len(kinds) == 1 or any(kinds <= set(alike) for alike in (_EXACT_NUMBERS, TEXTS))


def _is_rounded(constant: exp.Expr, field: Field) -> bool:
    """Say whether a constant is a double to which several values of the column are equal."""
    return is_inexact(constant) and bare_type(field.column.type) not in FLOATS


def is_inexact(node: exp.Expr) -> bool:
    """Say whether a node casts something to a floating-point number."""
    return any(c.to.this in (exp.DType.FLOAT, exp.DType.DOUBLE) for c in node.find_all(exp.Cast))


def _is_merged(name: str, sources: tuple[Source, ...]) -> bool:
    """Say whether a bare name is a USING column that an outer join takes from both sides."""
    joins = [s.join for s in sources if s.join is not None and s.join.side in ("RIGHT", "FULL")]
    return any(
        j.method == "NATURAL" or name in {name_of(u) for u in j.args.get("using") or ()}
        for j in joins
    )


def _is_plain(source: Source) -> bool:
    join = source.join
    if source.table is None:
        return False
    return join is None or (join.side in ("", "LEFT") and join.method != "NATURAL")


def _alias(node: exp.Expr) -> str:
    alias = node.args.get("alias")
    if alias is not None and alias.this is not None:
        return name_of(alias.this)
    return name_of(node.this) if isinstance(node, exp.Table) else ""


def name_of(identifier: exp.Expr | None) -> str:
    """Return a name as the catalogue has it: folded to lower case unless it is quoted."""
    if not isinstance(identifier, exp.Identifier):
        return ""
    return identifier.name if identifier.quoted else identifier.name.lower()


def columns(node: exp.Expr) -> list[exp.Column]:
    return [c for c in node.find_all(exp.Column) if not isinstance(c.this, exp.Star)]


def bare_type(name: str) -> str:
    """Return a type without its length.

    >>> bare_type("character varying(20)"), bare_type("numeric(10,2)"), bare_type("bigint")
    ('character varying', 'numeric', 'bigint')
    """
    return re.sub(r"\(\d+(,\s*-?\d+)?\)", "", name)


def array_type(name: str) -> str:
    """Return the type of an array of such values, which no length cuts.

    >>> array_type("character varying(20)"), array_type("character(3)"), array_type("bit(8)")
    ('character varying[]', 'bpchar[]', 'bit(8)[]')
    """
    if name.startswith("bit("):
        return f"{name}[]"
    kind = bare_type(name)
    return {"character": "bpchar", "bit varying": "varbit"}.get(kind, kind) + "[]"


def conditions(select: exp.Select) -> Iterator[exp.Expr]:
    """Yield WHERE and every ON."""
    if (where := select.args.get("where")) is not None:
        yield where.this
    for join in select.args.get("joins") or ():
        if (on := join.args.get("on")) is not None:
            yield on


def conjuncts(node: exp.Expr | None) -> list[exp.Expr]:
    """Return the parts that AND joins, in their order."""
    return _flat(node, exp.And)


def disjuncts(node: exp.Expr | None) -> list[exp.Expr]:
    """Return the parts that OR joins, in their order."""
    return _flat(node, exp.Or)


def _flat(node: exp.Expr | None, kind: type[exp.Expr]) -> list[exp.Expr]:
    if node is None:
        return []
    bare = node.unnest()
    if isinstance(bare, kind):
        return [*_flat(bare.this, kind), *_flat(bare.expression, kind)]
    return [bare]


def positive(node: exp.Expr) -> list[exp.Expr]:
    """Return the parts below AND and OR: in a WHERE their NULL counts as false."""
    bare = node.unnest()
    if isinstance(bare, (exp.And, exp.Or)):
        return [*positive(bare.this), *positive(bare.expression)]
    return [bare]


def tested(tree: exp.Expr) -> Iterator[exp.Expr]:
    """Yield the positive parts of every WHERE of a statement."""
    for select in selects(tree):
        if (where := select.args.get("where")) is not None:
            yield from positive(where.this)


def where_conjuncts(select: exp.Expr) -> list[exp.Expr]:
    where = select.args.get("where")
    return conjuncts(where.this) if where is not None else []


def selects(tree: exp.Expr) -> Iterator[exp.Select]:
    """Yield the queries of a statement, the outermost first."""
    yield from tree.find_all(exp.Select)


def is_constant(node: exp.Expr) -> bool:
    """Say whether a node has one value while the statement runs, whatever the row."""
    return not node.find(exp.Column, exp.Query, exp.Star) and is_stable(node)


def is_stable(node: exp.Expr) -> bool:
    """Say whether evaluating a node once more or once less changes nothing."""
    if node.find(*_VOLATILE) is not None:
        return False
    return all(a.name.lower() in _STABLE for a in node.find_all(exp.Anonymous))


def returns_sets(node: exp.Expr) -> bool:
    return node.find(*_SET_RETURNING) is not None or not is_stable(node)


def parameter(node: exp.Expr | None) -> str:
    """Return "$n" where a node is a parameter, empty where it is not."""
    bare = node.unnest() if node is not None else None
    return f"${bare.this.name}" if isinstance(bare, exp.Parameter) else ""


def number(node: exp.Expr | None) -> float | None:
    """Return the value of a numeric literal."""
    if isinstance(node, exp.Neg) and (inside := number(node.this)) is not None:
        return -inside
    if isinstance(node, exp.Literal) and not node.is_string:
        return float(node.name)
    return None


def is_aggregating(select: exp.Select) -> bool:
    """Say whether a query makes groups, or one row of all."""
    if select.args.get("group") is not None or select.args.get("having") is not None:
        return True
    places = [*select.expressions, *(select.args.get("order") or exp.Order()).expressions]
    return any(
        a.parent_select is select and not isinstance(a.parent, exp.Window)
        for p in places
        for a in p.find_all(exp.AggFunc)
    )


def has_windows(select: exp.Expr) -> bool:
    return any(w.parent_select is select for w in select.find_all(exp.Window))


def is_bare(select: exp.Expr | None, *allowed: str) -> bool:
    """Say whether a query has FROM, WHERE and a select list, and else only what is allowed."""
    if not isinstance(select, exp.Select):
        return False
    clauses = ("group", "having", "distinct", "order", "limit", "offset", "windows", "with_")
    if any(select.args.get(c) is not None for c in clauses if c not in allowed):
        return False
    return "group" in allowed or not is_aggregating(select)
