"""What a statement asks of each table: predicates, joins, orders and limits, names resolved.

The text is pg_stat_statements' own, so constants are `$n` and a list may read
`$1 /*, ... */`. Only what an index could serve is kept; everything else a statement
does is left to the planner.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.optimizer.scope import Scope, traverse_scope

from perfcore.errors import PerfcoreError
from perfcore.typed_constants import with_casts, with_casts_of_constants
from perfcore.types import Catalog, TableInfo


class Unparsable(PerfcoreError):
    """The statement's text could not be parsed."""


class Operator(StrEnum):
    """How a key is compared, as far as an index cares."""

    EQUAL = "="
    ANY = "in"  # IN (...), = ANY (...)
    DIFFERENT = "<>"  # and NOT IN
    RANGE = "range"
    LIKE = "like"
    ILIKE = "ilike"  # and patterns that no order of the text can serve
    JSON_CONTAINS = "json contains"  # @>
    JSON_EXISTS = "json exists"  # ?, ?|, ?&
    JSON_PATH = "json path"  # @?, and @@ with a path
    OVERLAP = "overlap"  # @>, <@, && of arrays; those, <<, -|- … of ranges, shapes, networks
    SIMILAR = "similar"  # % of trigrams
    TEXT_SEARCH = "text search"  # @@
    IS_NULL = "is null"
    NOT_NULL = "is not null"


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """A column, or an expression over columns of one table."""

    expression: str
    is_expression: bool = False
    columns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Predicate:
    """A key and how it is compared; `literal` is SQL text where the statement holds a constant."""

    operator: Operator
    key: Key
    literal: str = ""
    parameter: int = 0  # n of the $n it is compared with, 0 when with something else
    literals: tuple[str, ...] = ()  # of a list that holds nothing but constants


@dataclass(frozen=True, slots=True)
class JoinKey:
    """A key equated with another table's column."""

    key: Key
    other_table: str  # schema.table
    other_column: str


@dataclass(frozen=True, slots=True)
class OrderKey:
    """One key of an order; `nulls_first` is None for PostgreSQL's default."""

    key: Key
    descending: bool = False
    nulls_first: bool | None = None


@dataclass(frozen=True, slots=True)
class TableUse:
    """One appearance of a table in a statement, under its alias."""

    schema: str
    table: str
    alias: str
    predicates: tuple[Predicate, ...] = ()
    alternatives: tuple[tuple[Predicate, ...], ...] = ()  # the branches of an OR
    joins: tuple[JoinKey, ...] = ()
    order_by: tuple[OrderKey, ...] = ()  # the leading keys that lie on this table
    has_limit: bool = False
    nearest: tuple[Key, ...] = ()  # ordered by the distance to something else (<->)
    group_by: tuple[Key, ...] = ()
    columns: tuple[str, ...] = ()  # all that the statement reads of it
    reads_all_columns: bool = False  # "*"

    @property
    def qualified_name(self) -> str:
        return f"{self.schema}.{self.table}"


@dataclass(frozen=True, slots=True)
class StatementShape:
    """What a statement does, by table."""

    command: str  # select, insert, update, delete, other
    uses: tuple[TableUse, ...] = ()
    unknown_relations: tuple[str, ...] = ()  # views, catalogues, tables since dropped
    written_table: str = ""  # schema.table of INSERT, UPDATE, DELETE
    written_columns: tuple[str, ...] = ()  # of UPDATE

    def uses_of(self, qualified_name: str) -> tuple[TableUse, ...]:
        """Return the appearances of one table."""
        return tuple(u for u in self.uses if u.qualified_name == qualified_name)


_COMMANDS = (
    (exp.Insert, "insert"),
    (exp.Update, "update"),
    (exp.Delete, "delete"),
    (exp.Merge, "merge"),
    (exp.Query, "select"),
)
_WRITES = (exp.Insert, exp.Update, exp.Delete, exp.Merge)
_READABLE = ("select", "with", "update", "delete", "insert", "table", "values", "merge")
# A "$1" outside of strings, quoted names and comments.
_TOKEN = re.compile(
    r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|--[^\n]*|/\*.*?\*/|\$(\d+)(?!\w)", re.DOTALL
)
_LIMIT = re.compile(r"\b(LIMIT|OFFSET|FETCH\s+(?:FIRST|NEXT))\s+\$(\d+)(?!\w)", re.IGNORECASE)
_EXTRACT = re.compile(r"\bextract\s*\(\s*(\$\d+)\s+from\s+", re.IGNORECASE)


def first_word(text: str) -> str:
    """Return the statement's first keyword in lower case, past comments and brackets.

    >>> first_word("/* a */ (SELECT 1)")
    'select'
    """
    bare = re.sub(r"/\*.*?\*/|--[^\n]*", " ", text, flags=re.DOTALL).lstrip(" \t\r\n(")
    match = re.match(r"[A-Za-z]+", bare)
    return match.group().lower() if match else ""


def plannable(
    text: str, *, limit_rows: int | None = None, literals: Mapping[int, str] | None = None
) -> str:
    """Return the text in a form that the server plans, its parameters numbered from 1.

    pg_stat_statements puts `$1` where the grammar wants a constant (`interval $1`): such
    places become casts. With `limit_rows` a parameter of LIMIT becomes that number and
    one of OFFSET 0: the planner's guess for an unknown LIMIT is a tenth of all rows.
    `literals` gives SQL text to put in place of a `$n`.

    >>> plannable("SELECT a FROM t WHERE b = $1 LIMIT $2", limit_rows=20)
    'SELECT a FROM t WHERE b = $1 LIMIT 20'
    >>> plannable("SELECT a FROM t WHERE b = $1 AND c = $2", literals={1: "'x'"})
    "SELECT a FROM t WHERE b = 'x' AND c = $1"
    >>> plannable("SELECT now() - interval $1")
    'SELECT now() - $1::interval'
    """
    literals = literals or {}
    text = _EXTRACT.sub(r"pg_catalog.extract(\1, ", text)
    text = with_casts(text)
    if limit_rows is not None:
        text = _LIMIT.sub(lambda m: f"{m[1]} {0 if m[1].upper() == 'OFFSET' else limit_rows}", text)
    numbers = {int(m[1]) for m in _TOKEN.finditer(text) if m[1]} - set(literals)
    new = {old: n for n, old in enumerate(sorted(numbers), start=1)}

    def renumber(match: re.Match[str]) -> str:
        if match[1] is None:
            return match[0]
        old = int(match[1])
        return f"${new[old]}" if old in new else literals[old]

    return _TOKEN.sub(renumber, text)


# Operators that the parser does not know, by one that an index serves in the same way.
_OTHERS = dict.fromkeys(("<<=", "&<", "<<|", "&<|", "<^", "~=", "-|-"), "<@") | dict.fromkeys(
    (">>=", "&>", "|>>", "|&>", ">^"), "@>"
)
_FOREIGN = re.compile(
    r"(?P<kept>'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|--[^\n]*|/\*.*?\*/)"
    r"|(?P<operator>[-+*/<>=~!@#%^&|?]+)",
    re.DOTALL,
)


def _familiar(text: str) -> str:
    """Return the text with known operators for those that the parser does not know.

    >>> _familiar("SELECT 1 FROM t WHERE a <<= '10.0.0.0/8'")
    "SELECT 1 FROM t WHERE a <@ '10.0.0.0/8'"
    """
    return _FOREIGN.sub(lambda m: _OTHERS.get(m["operator"] or "", m[0]), text)


def parse(text: str) -> exp.Expr:
    """Return the syntax tree; raises Unparsable with the place that was not understood."""
    text = with_casts_of_constants(plannable(text))
    readable = _TOKEN.sub(lambda m: m[0] + " " if m[1] else m[0], text)
    try:
        # With a `$1` before it the parser chokes on an empty string at the very end.
        trees = sqlglot.parse(readable + " ", dialect="postgres")
    except (SqlglotError, RecursionError) as error:
        raise Unparsable(str(error).split("\n")[0][:200]) from error
    if len(trees) != 1 or not isinstance(trees[0], exp.Expr):
        raise Unparsable("it is not one statement")
    return trees[0]


def read_statement(text: str, catalog: Catalog) -> StatementShape:
    """Return the statement's shape, its names resolved against the catalogue.

    Raises Unparsable when the parser does not understand the text. A statement that is
    neither a query nor a write (SET, BEGIN, DDL) comes back with the command "other".
    """
    if first_word(text) not in _READABLE:
        return StatementShape("other")
    tree = parse(_familiar(text))
    command = next((c for kind, c in _COMMANDS if isinstance(tree, kind)), "other")
    try:
        tree = _without_views(tree, catalog)
        reader = _Reader(catalog, text)
        for query in (_as_query(tree), *_inner_writes(tree)):
            for scope in traverse_scope(query):
                reader.read(scope)
    # Of a tree that nobody foresaw the parser's own helpers ask for what is not there.
    except (SqlglotError, RecursionError, AttributeError, KeyError, TypeError) as error:
        raise Unparsable(str(error).split("\n")[0][:200]) from error
    return StatementShape(
        command=command,
        uses=tuple(reader.uses()),
        unknown_relations=tuple(sorted(reader.unknown)),
        written_table=_written_table(tree, catalog),
        written_columns=_written_columns(tree),
    )


def _without_views(tree: exp.Expr, catalog: Catalog, depth: int = 5) -> exp.Expr:
    """Put the definitions of views in their place, as the server does before it plans."""
    own = {c.alias for c in tree.find_all(exp.CTE)}
    found = False
    for table in list(tree.find_all(exp.Table)):
        view = catalog.view(table.name, table.db)
        is_other = view is None or (not table.db and table.name in own)
        if is_other or catalog.table(table.name, table.db) or isinstance(table.parent, _WRITES):
            continue
        assert view is not None
        with contextlib.suppress(Unparsable):
            inner = parse(view.definition.rstrip().rstrip(";"))
            if isinstance(inner, exp.Query):
                alias = table.alias or table.name
                table.replace(exp.Subquery(this=inner, alias=exp.TableAlias(this=_name(alias))))
                found = True
    return _without_views(tree, catalog, depth - 1) if found and depth > 1 else tree


def _name(text: str) -> exp.Identifier:
    return exp.Identifier(this=text, quoted=True)


def _inner_writes(tree: exp.Expr) -> Iterator[exp.Expr]:
    """Yield the search of each UPDATE or DELETE inside a WITH."""
    for node in tree.find_all(exp.Update, exp.Delete):
        # The branches of a MERGE are writes without a table of their own.
        if node is not tree and isinstance(node.this, exp.Table):
            yield _as_query(node)


def _as_query(tree: exp.Expr) -> exp.Expr:
    """Return a SELECT that searches as the UPDATE or DELETE does."""
    if isinstance(tree, exp.Insert):
        source = tree.expression
        return source if isinstance(source, exp.Query) else exp.select("1")
    if isinstance(tree, exp.Merge):
        query = exp.select("*").from_(tree.this.copy())
        query = query.join(tree.args["using"].copy(), join_type="cross")
        return query.where(tree.args["on"].copy())
    if not isinstance(tree, (exp.Update, exp.Delete)):
        return tree if isinstance(tree, exp.Query) else exp.select("1")
    query = exp.select("*").from_(tree.this.copy())
    others = tree.args.get("from_") or tree.args.get("from")
    tables = [others.this] if others is not None else list(tree.args.get("using") or ())
    for other in tables:
        query = query.join(other.copy(), join_type="cross")
    if tree.args.get("where") is not None:
        query.set("where", tree.args["where"].copy())
    if tree.args.get("with_") is not None:
        query.set("with_", tree.args["with_"].copy())
    return query


def _written_table(tree: exp.Expr, catalog: Catalog) -> str:
    if not isinstance(tree, _WRITES):
        return ""
    table = tree.find(exp.Table) if isinstance(tree, exp.Insert) else tree.this
    found = catalog.table(table.name, table.db) if isinstance(table, exp.Table) else None
    return found.qualified_name if found else ""


def _written_columns(tree: exp.Expr) -> tuple[str, ...]:
    if not isinstance(tree, exp.Update):
        return ()
    names = {
        column.name
        for assignment in tree.expressions
        if isinstance(assignment, exp.EQ)
        for column in assignment.this.find_all(exp.Column)
    }
    return tuple(sorted(names))


@dataclass(frozen=True, slots=True)
class _Place:
    """A base table under one alias of one scope."""

    scope_id: int
    alias: str
    table: TableInfo


class _Reader:
    """Collects what the scopes of one statement ask of base tables."""

    def __init__(self, catalog: Catalog, text: str) -> None:
        self._catalog = catalog
        self._text = text
        self._found: dict[tuple[int, str], TableUse] = {}
        self._columns: dict[tuple[int, str], set[str]] = {}
        self.unknown: set[str] = set()

    def uses(self) -> Iterator[TableUse]:
        for key, use in self._found.items():
            yield replace(use, columns=tuple(sorted(self._columns[key])))

    def read(self, scope: Scope) -> None:
        for alias, table in self._tables(scope):
            key = (id(scope), alias)
            self._found[key] = TableUse(table.schema, table.name, alias)
            self._columns[key] = set()
        for column in scope.columns:
            if place := self._resolve(scope, column):
                self._columns.setdefault((place.scope_id, place.alias), set()).add(column.name)
        if not isinstance(scope.expression, exp.Select):
            return
        self._read_stars(scope)
        for condition in _conditions(scope.expression):
            for conjunct in _conjuncts(condition):
                self._read_conjunct(scope, conjunct)
        self._read_using(scope)
        self._read_order(scope)
        self._read_extreme(scope)
        self._read_group(scope)

    # Names

    def _tables(self, scope: Scope) -> Iterator[tuple[str, TableInfo]]:
        for alias, (_, source) in scope.selected_sources.items():
            if not isinstance(source, exp.Table) or not source.name:
                continue
            table = self._catalog.table(source.name, source.db)
            if table is None:
                self.unknown.add(f"{source.db}.{source.name}" if source.db else source.name)
            else:
                yield alias, table

    def _resolve(
        self, scope: Scope | None, column: exp.Column, *, climbs: bool = True
    ) -> _Place | None:
        """Return the base table behind a column, through derived tables, CTEs and outer queries.

        What a derived table returns is looked for in itself: it `climbs` to no outer query.
        """
        while scope is not None:
            for alias, (_, source) in scope.selected_sources.items():
                if column.table and alias != column.table:
                    continue
                place = self._in_source(scope, alias, source, column)
                if place is not None or column.table:
                    return place
            scope = scope.parent if climbs else None
        return None

    def _in_source(
        self, scope: Scope, alias: str, source: Any, column: exp.Column
    ) -> _Place | None:
        if isinstance(source, exp.Table):
            table = self._catalog.table(source.name, source.db)
            known = table is not None and table.column(column.name) is not None
            return _Place(id(scope), alias, table) if known and table else None
        inner = source.expression if isinstance(source, Scope) else None
        if isinstance(inner, (exp.Lateral, exp.Subquery)):
            return None
        if not isinstance(inner, exp.Select) or not _passes_conditions(inner):
            return None
        for projection in inner.expressions:
            base = projection.unalias()
            if isinstance(base, exp.Star) or (
                isinstance(base, exp.Column) and isinstance(base.this, exp.Star)
            ):
                if place := self._resolve(source, exp.column(column.name), climbs=False):
                    return place
            # A renamed column would need its key renamed too: only equal names pass.
            elif isinstance(base, exp.Column) and projection.alias_or_name == base.name:
                if base.name == column.name:
                    return self._resolve(source, base, climbs=False)
        return None

    def _places(self, scope: Scope, node: exp.Expr) -> list[_Place | None]:
        return [self._resolve(scope, c) for c in _columns_of(node)]

    def _key(self, scope: Scope, node: exp.Expr) -> tuple[_Place, Key] | None:
        """Return the one table a node's columns belong to and the node as an index key."""
        node = node.unnest()
        columns = _columns_of(node)
        places = {self._resolve(scope, c) for c in columns}
        if len(places) != 1 or (place := places.pop()) is None:
            return None
        if isinstance(node, exp.Column):
            return place, Key(node.name, columns=(node.name,))
        # A distance is one to this constant alone: an index on it would serve no other.
        if any(node.find_all(exp.Parameter, exp.Query, exp.AggFunc, exp.Window, exp.Distance)):
            return None
        bare = node.copy()
        for column in bare.find_all(exp.Column):
            column.set("table", None)
            column.set("db", None)
        text = bare.sql(dialect="postgres", normalize_functions="lower", comments=False)
        text = _as_spelled(text, self._text)
        return place, Key(text, True, tuple(sorted({c.name for c in columns})))

    # Predicates

    def _add(self, place: _Place, **changes: Any) -> None:
        key = (place.scope_id, place.alias)
        use = self._found.get(key)
        if use is not None:
            more = {k: getattr(use, k) + v for k, v in changes.items() if isinstance(v, tuple)}
            plain = {k: v for k, v in changes.items() if not isinstance(v, tuple)}
            self._found[key] = replace(use, **more, **plain)

    def _read_conjunct(self, scope: Scope, node: exp.Expr) -> None:
        node = node.unnest()
        if isinstance(node, exp.Or):
            self._read_alternatives(scope, node)
            return
        for place, found in self._predicates(scope, node):
            if isinstance(found, JoinKey):
                self._add(place, joins=(found,))
            else:
                self._add(place, predicates=(found,))

    def _read_alternatives(self, scope: Scope, node: exp.Or) -> None:
        branches: list[tuple[Predicate, ...]] = []
        places: set[_Place] = set()
        for branch in _flatten(node, exp.Or):
            found = [p for c in _conjuncts(branch) for p in self._predicates(scope, c)]
            kept = [p for _, p in found if isinstance(p, Predicate)]
            if not kept:
                return
            branches.append(tuple(kept))
            places.update(place for place, _ in found)
        if len(places) == 1:
            self._add(places.pop(), alternatives=tuple(branches))

    def _predicates(self, scope: Scope, node: exp.Expr) -> list[tuple[_Place, Predicate | JoinKey]]:
        node = node.unnest()
        if isinstance(node, exp.EQ):
            return self._equality(scope, node)
        if isinstance(node, exp.In):
            return self._in(scope, node)
        if isinstance(node, (exp.Column, exp.Not, exp.Is)):
            return self._truth(scope, node)
        return self._comparison(scope, node)

    def _equality(self, scope: Scope, node: exp.EQ) -> list[tuple[_Place, Predicate | JoinKey]]:
        left, right = node.this.unnest(), node.expression.unnest()
        if isinstance(left, exp.Tuple) and isinstance(right, exp.Tuple):
            pairs = zip(left.expressions, right.expressions, strict=False)
            equal = [exp.EQ(this=a.copy(), expression=b.copy()) for a, b in pairs]
            return [found for each in equal for found in self._equality(scope, each)]
        if isinstance(right, exp.Any):
            return self._one(scope, left, Operator.ANY, None)
        found: list[tuple[_Place, Predicate | JoinKey]] = []
        for mine, other in ((left, right), (right, left)):
            keyed = self._key(scope, mine)
            if keyed is None:
                continue
            place, key = keyed
            others = self._places(scope, other)
            if place in others or isinstance(other, exp.Any):
                continue
            if isinstance(other, exp.Column) and others[0] is not None:
                theirs = others[0].table.qualified_name
                found.append((place, JoinKey(key, theirs, other.name)))
            else:
                found.append((place, _predicate(Operator.EQUAL, key, other)))
        return found

    def _in(self, scope: Scope, node: exp.In) -> list[tuple[_Place, Predicate | JoinKey]]:
        query = node.args.get("query")
        if query is None and isinstance(node.this.unnest(), exp.Tuple):
            return [
                found
                for side in node.this.unnest().expressions
                for found in self._one(scope, side, Operator.ANY, None)
            ]
        if query is None:
            value = node.expressions[0] if len(node.expressions) == 1 else None
            found = self._one(scope, node.this, Operator.ANY, value)
            return [(place, _with_literals(p, node.expressions)) for place, p in found]
        inner = query.unnest()
        keyed = self._key(scope, node.this)
        if keyed is None or not isinstance(inner, exp.Select) or len(inner.expressions) != 1:
            return []
        column = inner.expressions[0].unalias()
        child = next((s for s in scope.subquery_scopes if s.expression is inner), None)
        theirs = self._key(child, column) if child and isinstance(column, exp.Column) else None
        if theirs is None:
            return [(keyed[0], _predicate(Operator.ANY, keyed[1], None))]
        mine = (keyed[0], JoinKey(keyed[1], theirs[0].table.qualified_name, theirs[1].expression))
        back = JoinKey(theirs[1], keyed[0].table.qualified_name, keyed[1].expression)
        return [mine, (theirs[0], back)]

    def _truth(self, scope: Scope, node: exp.Expr) -> list[tuple[_Place, Predicate | JoinKey]]:
        negated = isinstance(node, exp.Not)
        inner = node.this.unnest() if negated else node
        if negated and isinstance(inner, exp.In) and inner.args.get("query") is None:
            found = self._one(scope, inner.this, Operator.DIFFERENT, None)
            return [(place, _with_literals(p, inner.expressions)) for place, p in found]
        if negated and isinstance(inner, (exp.GT, exp.GTE, exp.LT, exp.LTE)):
            return self._comparison(scope, inner)  # the planner turns it round
        if isinstance(inner, exp.Is):
            if isinstance(inner.expression, exp.Null):
                present = negated != bool(inner.args.get("negate"))
                operator = Operator.NOT_NULL if present else Operator.IS_NULL
                return self._one(scope, inner.this, operator, None)
            plain = not negated and not inner.args.get("negate")
            if isinstance(inner.expression, exp.Boolean) and plain:
                return self._one(scope, inner.this, Operator.EQUAL, inner.expression)
        if isinstance(inner, exp.Column):
            return self._one(scope, inner, Operator.EQUAL, exp.Boolean(this=not negated))
        return []

    def _comparison(self, scope: Scope, node: exp.Expr) -> list[tuple[_Place, Predicate | JoinKey]]:
        if isinstance(node, exp.Escape):
            node = node.this
        if isinstance(node, exp.MatchAgainst):
            found: list[tuple[_Place, Predicate | JoinKey]] = []
            for side in (node.this, *node.expressions):
                found += self._one(scope, side, self._by_type(scope, side, _MATCH), None)
            return found
        if isinstance(node, exp.Between):
            return self._one(scope, node.this, Operator.RANGE, None)
        if isinstance(node, (exp.GT, exp.GTE, exp.LT, exp.LTE)):
            sides = (_leading(node.this), _leading(node.expression))
            found = []
            for mine, other in (sides, sides[::-1]):
                if not _columns_of(other) or self._key(scope, other) is None:
                    found += self._one(scope, mine, Operator.RANGE, other)
            return found
        if isinstance(node, exp.NEQ):
            return self._one(scope, node.this, Operator.DIFFERENT, node.expression)
        operator = _OPERATORS.get(type(node))
        if operator is None or node.args.get("negate"):
            return []
        if operator is Operator.OVERLAP:
            return self._overlap(scope, node)
        if isinstance(node, exp.RegexpLike) and (start := _fixed_beginning(node.expression)):
            return self._one(scope, node.this, Operator.LIKE, start)
        return self._one(scope, node.this, operator, node.expression)

    def _overlap(self, scope: Scope, node: exp.Expr) -> list[tuple[_Place, Predicate | JoinKey]]:
        """Read an operator whose two sides an index may serve alike, each by the other."""
        found: list[tuple[_Place, Predicate | JoinKey]] = []
        for mine, other in ((node.this, node.expression), (node.expression, node.this)):
            keyed = self._key(scope, mine)
            if keyed is not None and keyed[0] not in self._places(scope, other):
                operator = self._by_type(scope, mine, Operator.OVERLAP)
                found.append((keyed[0], _predicate(operator, keyed[1], other)))
        return found

    def _by_type(self, scope: Scope, node: exp.Expr, operator: Operator) -> Operator:
        """Tell @> and @@ of jsonb from those of other types, by the column's type."""
        keyed = self._key(scope, node)
        if operator not in _OF_JSON or keyed is None:
            return operator
        column = keyed[0].table.column(keyed[1].columns[0])
        return _OF_JSON[operator] if column and column.type == "jsonb" else operator

    def _one(
        self, scope: Scope, node: exp.Expr, operator: Operator, value: Any
    ) -> list[tuple[_Place, Predicate | JoinKey]]:
        keyed = self._key(scope, node)
        return [(keyed[0], _predicate(operator, keyed[1], value))] if keyed else []

    # Joins, orders, groups, stars

    def _read_using(self, scope: Scope) -> None:
        for join in scope.expression.args.get("joins") or ():
            for name in join.args.get("using") or ():
                places = [
                    place
                    for alias, (_, source) in scope.selected_sources.items()
                    if (place := self._in_source(scope, alias, source, exp.column(name.name)))
                ]
                for place in places:
                    for other in places:
                        if other != place:
                            key = Key(name.name, columns=(name.name,))
                            theirs = other.table.qualified_name
                            self._add(place, joins=(JoinKey(key, theirs, name.name),))

    def _read_order(self, scope: Scope) -> None:
        select = scope.expression
        assert isinstance(select, exp.Select)
        order = select.args.get("order")
        keys: list[OrderKey] = []
        first: _Place | None = None
        limited = any(select.args.get(a) is not None for a in ("limit", "fetch"))
        for ordered in order.expressions if order is not None else ():
            by = _projected(select, ordered.this)
            if isinstance(by, exp.Distance) and not keys:
                self._read_distance(scope, by, limited)
                break
            keyed = self._key(scope, by)
            if keyed is None or (first is not None and keyed[0] != first):
                break
            first = keyed[0]
            descending = bool(ordered.args.get("desc"))
            nulls_first = bool(ordered.args.get("nulls_first"))
            deviates = nulls_first != descending
            keys.append(OrderKey(keyed[1], descending, nulls_first if deviates else None))
        if first is not None:
            self._add(first, order_by=tuple(keys), has_limit=limited)

    def _read_distance(self, scope: Scope, node: exp.Distance, limited: bool) -> None:
        for mine, other in ((node.this, node.expression), (node.expression, node.this)):
            keyed = self._key(scope, mine)
            if keyed is not None and keyed[0] not in self._places(scope, other):
                self._add(keyed[0], nearest=(keyed[1],), has_limit=limited)

    def _read_extreme(self, scope: Scope) -> None:
        """Treat `SELECT max(a) FROM t` as the order and limit that PostgreSQL makes of it."""
        select = scope.expression
        extremes = [p.unalias() for p in select.expressions]
        whole = all(isinstance(e, (exp.Max, exp.Min)) for e in extremes)
        if not extremes or not whole or select.args.get("group") is not None:
            return
        keyed = [self._key(scope, e.this) for e in extremes]
        # The least and the greatest of one column are the two ends of one index.
        if keyed[0] is not None and all(k == keyed[0] for k in keyed):
            order = OrderKey(keyed[0][1], len(keyed) == 1 and isinstance(extremes[0], exp.Max))
            self._add(keyed[0][0], order_by=(order,), has_limit=True)

    def _read_group(self, scope: Scope) -> None:
        select = scope.expression
        assert isinstance(select, exp.Select)
        group = select.args.get("group")
        keyed = [
            self._key(scope, _projected(select, node))
            for node in (group.expressions if group is not None else ())
        ]
        places = {k[0] if k else None for k in keyed}
        if len(places) == 1 and (place := places.pop()) is not None:
            self._add(place, group_by=tuple(k[1] for k in keyed if k))

    def _read_stars(self, scope: Scope) -> None:
        for projection in scope.expression.expressions:
            base = projection.unalias()
            everything = isinstance(base, exp.Star)
            if everything or (isinstance(base, exp.Column) and isinstance(base.this, exp.Star)):
                for alias in scope.selected_sources:
                    if (everything or base.table == alias) and (id(scope), alias) in self._found:
                        use = self._found[id(scope), alias]
                        self._found[id(scope), alias] = replace(use, reads_all_columns=True)


_OPERATORS: dict[type[exp.Expr], Operator] = {
    exp.Like: Operator.LIKE,
    exp.ILike: Operator.ILIKE,
    exp.SimilarTo: Operator.ILIKE,
    exp.RegexpLike: Operator.ILIKE,
    exp.RegexpILike: Operator.ILIKE,
    exp.ArrayContainsAll: Operator.OVERLAP,
    exp.ArrayContainedBy: Operator.OVERLAP,
    exp.ArrayOverlaps: Operator.OVERLAP,
    exp.BitwiseLeftShift: Operator.OVERLAP,
    exp.BitwiseRightShift: Operator.OVERLAP,
    exp.Mod: Operator.SIMILAR,
    exp.StartsWith: Operator.LIKE,
    exp.JSONBPathExists: Operator.JSON_PATH,
    exp.JSONBContains: Operator.JSON_EXISTS,
    exp.JSONBContainsTopKey: Operator.JSON_EXISTS,
    exp.JSONBContainsAnyTopKeys: Operator.JSON_EXISTS,
    exp.JSONBContainsAllTopKeys: Operator.JSON_EXISTS,
}

_MATCH = Operator.TEXT_SEARCH
_OF_JSON = {Operator.OVERLAP: Operator.JSON_CONTAINS, _MATCH: Operator.JSON_PATH}


def _with_literals(found: Predicate | JoinKey, values: Iterable[exp.Expr]) -> Predicate | JoinKey:
    texts = tuple(v.sql(dialect="postgres") if isinstance(v, exp.Literal) else "" for v in values)
    if isinstance(found, Predicate) and texts and all(texts):
        return replace(found, literals=texts)
    return found


def _predicate(operator: Operator, key: Key, value: Any) -> Predicate:
    if not isinstance(value, exp.Expr):
        return Predicate(operator, key)
    bare = value.unnest()
    while isinstance(bare, exp.Cast):
        bare = bare.this
    if isinstance(bare, exp.Parameter):
        return Predicate(operator, key, parameter=int(bare.name or bare.this.name))
    if isinstance(bare, (exp.Literal, exp.Boolean)):
        return Predicate(operator, key, literal=bare.sql(dialect="postgres"))
    return Predicate(operator, key)


def _fixed_beginning(pattern: exp.Expr) -> exp.Literal | None:
    """Return the letters that a regular expression's text begins with, None where it has none."""
    if not isinstance(pattern, exp.Literal):
        return None
    fixed = re.match(r"\^([\w \-]+)(?![\w \-*?{])", pattern.name)
    return exp.Literal.string(fixed[1]) if fixed else None


_UNIT = re.compile(r"\bdate_trunc\(\s*'(\w+)'", re.IGNORECASE)


def _as_spelled(expression: str, statement: str) -> str:
    """Return the expression with the units of time as the statement has them.

    The parser writes them in capitals, and to PostgreSQL another constant is another expression.

    >>> _as_spelled("date_trunc('MONTH', a)", "SELECT date_trunc('month', a) FROM t")
    "date_trunc('month', a)"
    """
    spelled = {m[1].lower(): m[1] for m in _UNIT.finditer(statement)}

    def restore(match: re.Match[str]) -> str:
        unit = spelled.get(match[1].lower(), match[1].lower())
        return match[0].replace(match[1], unit)

    return _UNIT.sub(restore, expression)


def _conditions(select: exp.Select) -> Iterator[exp.Expr]:
    if (where := select.args.get("where")) is not None:
        yield where.this
    for join in select.args.get("joins") or ():
        if (on := join.args.get("on")) is not None:
            yield on


def _conjuncts(node: exp.Expr) -> Iterator[exp.Expr]:
    yield from _flatten(node, exp.And)


def _flatten(node: exp.Expr, kind: type[exp.Expr]) -> Iterator[exp.Expr]:
    stack = [node]
    while stack:
        node = stack.pop().unnest()
        if isinstance(node, kind):
            stack += [node.expression, node.this]
        else:
            yield node


def _columns_of(node: exp.Expr) -> list[exp.Column]:
    """Return the columns a node reads itself, not those inside a subquery of it."""
    if isinstance(node, exp.Column):
        return [node]
    return [
        n
        for n in node.walk(prune=lambda n: isinstance(n, (exp.Query, exp.Column)))
        if isinstance(n, exp.Column) and not isinstance(n.this, exp.Star)
    ]


def _leading(node: exp.Expr) -> exp.Expr:
    """Return the first member of a row comparison, the one that bounds an index scan."""
    return node.expressions[0] if isinstance(node, exp.Tuple) and node.expressions else node


def _projected(select: exp.Select, node: exp.Expr) -> exp.Expr:
    """Return what an ordinal or an output name in ORDER BY or GROUP BY stands for."""
    if isinstance(node, exp.Literal) and not node.is_string and node.name.isdigit():
        position = int(node.name) - 1
        return (
            select.expressions[position].unalias() if position < len(select.expressions) else node
        )
    if isinstance(node, exp.Column) and not node.table:
        for projection in select.expressions:
            if isinstance(projection, exp.Alias) and projection.alias == node.name:
                return projection.unalias()
    return node


def _passes_conditions(select: exp.Select) -> bool:
    """Say whether PostgreSQL may push a condition from outside into this query."""
    return not any(
        select.args.get(a) for a in ("limit", "fetch", "offset", "group", "distinct", "windows")
    )
