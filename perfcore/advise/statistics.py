"""Statistics that mislead the planner: stale ones, and columns that depend on each other.

That columns depend on each other is never guessed from their names. It is shown by a misestimate:
in a plan with actual rows, or by the rows that pg_stat_statements counted against the rows that
the planner expects. The planner multiplies the shares of conditions as if they were independent;
where far more rows come than even the most frequent values would give, were they independent, they
are not. ("Functional Dependencies" and "Multivariate N-Distinct Counts" in the manual; Ilyas et
al., CORDS, SIGMOD 2004, for the question.)
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from psycopg import sql

from perfcore.advise.candidates import is_stale, rows_of
from perfcore.advise.costs import OutOfTime
from perfcore.advise.gains import gain_of, short
from perfcore.advise.server_state import ServerState
from perfcore.advise.statement import Operator, StatementShape, TableUse, plannable
from perfcore.advise.upkeep import STEP, suggest, table_sql
from perfcore.advise.workload import Options
from perfcore.plan import Plan, PlanNode
from perfcore.types import Catalog, Finding, Suggestion, TableInfo, WorkloadStatement

MISESTIMATE = 10.0  # the rule of thumb for a plan that may be the wrong one
MANY_ROWS = 1_000.0
MAX_COLUMNS = 8  # as many as CREATE STATISTICS takes
_FILTERED: tuple[str, ...] = ("dependencies", "mcv")
_GROUPED: tuple[str, ...] = ("ndistinct",)
_LETTERS = {"ndistinct": "d", "dependencies": "f", "mcv": "m"}
_EQUALITY = re.compile(r'\(?(?:"?\w+"?\.)?"?([^\W\d]\w*)"?\)?(?:::[\w ]+)? = ')
_PASSED_ON = ("Sort", "Gather", "Gather Merge", "Incremental Sort", "Result")

Plans = Callable[[str], Plan | None]
Weighed = tuple[WorkloadStatement, StatementShape]


@dataclass(frozen=True, slots=True)
class Misestimate:
    """Rows expected and rows that came, where several columns of one table decide them."""

    table: TableInfo
    columns: tuple[str, ...]  # sorted
    kinds: tuple[str, ...]  # of the statistics that would tell
    expected: float
    came: float
    seen: str  # where, in words
    statement: WorkloadStatement | None = None

    @property
    def factor(self) -> float:
        expected, came = max(self.expected, 1.0), max(self.came, 1.0)
        return max(expected / came, came / expected)


def statistics_advice(
    catalog: Catalog,
    options: Options,
    server: ServerState | None,
    statements: Sequence[Weighed],
    plans: Plans,
) -> list[Suggestion]:
    """Return the statistics to create, the worst misestimate of each set of columns."""
    if server is None:
        return []
    worst: dict[tuple[str, tuple[str, ...], tuple[str, ...]], Misestimate] = {}
    for found in _misestimates(catalog, server, statements, plans):
        key = (found.table.qualified_name, found.columns, found.kinds)
        if key not in worst or worst[key].factor < found.factor:
            worst[key] = found
    return [_create(m, options) for m in worst.values() if not _exists(m, server)]


def _misestimates(
    catalog: Catalog, server: ServerState, statements: Sequence[Weighed], plans: Plans
) -> Iterator[Misestimate]:
    texts = {s.fingerprint: s for s, _ in statements}
    for executed in server.observed.executed:
        for found in in_plan(executed.plan, catalog):
            yield replace(found, statement=texts.get(executed.fingerprint))
    try:
        for statement, shape in statements:
            yield from in_counters(statement, shape, catalog, plans)
    except OutOfTime:
        return


def in_plan(plan: Plan, catalog: Catalog) -> Iterator[Misestimate]:
    """Yield the misestimates of a plan with actual rows that several columns explain."""
    for _, node in plan.root.walk():
        factor = node.misestimate
        if factor is None or factor < MISESTIMATE or node.actual_rows is None:
            continue
        if max(node.actual_rows, node.plan_rows) * (node.loops or 1) < MANY_ROWS:
            continue
        if node.node_type.endswith("Scan") and node.is_underestimated:
            table = catalog.table(node.relation, node.schema)
            columns = _compared(node, table) if table else ()
            kinds = _FILTERED
        elif node.node_type == "Aggregate" and not node.is_underestimated:
            table, columns = _grouped(node, catalog)
            kinds = _GROUPED
        else:
            continue
        if table is not None and _is_known(table, columns):
            seen = "in an executed plan"
            yield Misestimate(table, columns, kinds, node.plan_rows, node.actual_rows, seen)


def _compared(node: PlanNode, table: TableInfo) -> tuple[str, ...]:
    """Return the columns that the scan compares with one value each."""
    conditions = [node.condition(n) for n in ("Index Cond", "Recheck Cond", "Filter")]
    text = " AND ".join(c for c in conditions if c)
    if " OR " in text:
        return ()
    return tuple(sorted({c for c in _EQUALITY.findall(text) if table.column(c)}))


def _grouped(node: PlanNode, catalog: Catalog) -> tuple[TableInfo | None, tuple[str, ...]]:
    """Return the columns that an aggregate groups by, where all are of its one table."""
    keys = node.properties.get("Group Key", ())
    scans = [n for _, n in node.walk() if n.relation]
    if len(scans) != 1 or not isinstance(keys, list):
        return None, ()
    table = catalog.table(scans[0].relation, scans[0].schema)
    columns = tuple(sorted({str(k).rpartition(".")[2].strip('"') for k in keys}))
    if table is None or not all(table.column(c) for c in columns):
        return None, ()
    return table, columns


def in_counters(
    statement: WorkloadStatement, shape: StatementShape, catalog: Catalog, plans: Plans
) -> Iterator[Misestimate]:
    """Yield what the rows of all calls show of a statement that returns a table's rows."""
    use = shape.uses[0] if len(shape.uses) == 1 and shape.command == "select" else None
    if use is None or use.has_limit or use.alternatives or not statement.calls:
        return
    table = catalog.table(use.table, use.schema)
    columns = _deciding(use)
    if table is None or not _is_known(table, columns):
        return
    plan = plans(plannable(statement.text))
    node = None if plan is None else _first(plan.root)
    if node is None:
        return
    came, expected = statement.rows / statement.calls, node.plan_rows
    seen = f"in {statement.calls:,} calls"
    if use.group_by:
        if node.node_type == "Aggregate" and not re.search(r"\bhaving\b", statement.text, re.I):
            found = Misestimate(table, columns, _GROUPED, expected, came, seen, statement)
            if expected > came and expected >= MANY_ROWS and found.factor >= MISESTIMATE:
                yield found
    elif node.node_type.endswith("Scan") and node.relation == table.name:
        found = Misestimate(table, columns, _FILTERED, expected, came, seen, statement)
        if came >= MANY_ROWS and came > expected and found.factor >= MISESTIMATE:
            # Calls may ask for frequent values only: then nothing is shown.
            if came > 2 * _most_if_independent(table, columns):
                yield found


def _deciding(use: TableUse) -> tuple[str, ...]:
    if use.group_by:
        keys = use.group_by if not use.predicates else ()
        return tuple(sorted({k.expression for k in keys if not k.is_expression}))
    if any(p.operator is not Operator.EQUAL for p in use.predicates):
        return ()  # a range's share is another question
    return tuple(sorted({p.key.expression for p in use.predicates if not p.key.is_expression}))


def _first(node: PlanNode) -> PlanNode:
    """Return the node whose rows the statement returns."""
    while node.node_type in _PASSED_ON and len(node.children) == 1:
        node = node.children[0]
    return node


def _is_known(table: TableInfo, columns: Sequence[str]) -> bool:
    """Say whether single columns' statistics are there, so that only their dependence is not."""
    if not 2 <= len(columns) <= MAX_COLUMNS or is_stale(table):
        return False
    found = [table.column(c) for c in columns]
    return all(c is not None and c.n_distinct is not None for c in found)


def _most_if_independent(table: TableInfo, columns: Iterable[str]) -> float:
    """Return the rows that the most frequent value of each column would give together."""
    return rows_of(table) * math.prod(_most_frequent(table, c) for c in columns)


def _most_frequent(table: TableInfo, name: str) -> float:
    column = table.column(name)
    assert column is not None
    if column.most_common_freqs:
        return max(column.most_common_freqs)
    rows = max(rows_of(table), 1.0)
    known = column.n_distinct or -1.0
    return 1.0 / max(known if known > 0 else -known * rows, 1.0)


def _exists(found: Misestimate, server: ServerState) -> bool:
    wanted = {_LETTERS[k] for k in found.kinds}
    return any(
        (s.schema, s.table_name) == (found.table.schema, found.table.name)
        and set(found.columns) <= set(s.columns)
        and wanted & set(s.kinds)
        for s in server.extended_statistics
    )


def _create(found: Misestimate, options: Options) -> Suggestion:
    table = table_sql(found.table.schema, found.table.name)
    name = table_sql(found.table.schema, _name(found))
    columns = ", ".join(sql.Identifier(c).as_string(None) for c in found.columns)
    words = " and ".join(found.columns)
    more = "more" if found.came > found.expected else "fewer"
    where = f" for {short(found.statement.text)}" if found.statement else ""
    mean = found.statement.mean_exec_time_ms if found.statement else 0.0
    return suggest(
        options,
        "maintenance",
        f"statistics/{found.table.qualified_name}/{columns}/{','.join(found.kinds)}",
        f"Tell the planner how {words} of {found.table.name} depend on each other",
        Finding(
            "correlated_columns",
            f"{found.factor:,.0f} times {more} rows of {found.table.name} came than the planner "
            f"expected {found.seen}{where}: {found.came:,.0f} in place of {found.expected:,.0f}.",
            (
                ("rows expected", f"{found.expected:,.0f}"),
                ("rows that came", f"{found.came:,.0f}"),
                ("if independent, at most", f"{_bound(found):,.0f}"),
            ),
        ),
        f"The planner takes {words} for independent and multiplies their shares. Each one's "
        "statistics are up to date; only statistics of both together can tell, and a wrong number "
        "of rows picks the wrong join.",
        ddl=f"CREATE STATISTICS {name} ({', '.join(found.kinds)}) ON {columns} FROM {table}"
        f"{STEP}ANALYZE {table}",
        undo=f"DROP STATISTICS {name}",
        present=f"{found.expected:,.0f} rows expected",
        proposed=f"about {found.came:,.0f} rows expected",
        verify="EXPLAIN of the statement before and after: its rows near the rows that come.",
        risk="ANALYZE reads a sample and takes seconds. Plans may change, mostly for the better.",
        statements=(gain_of(found.statement, 1.0, 1.0, mean),) if found.statement else (),
    )


def _bound(found: Misestimate) -> float:
    if found.kinds == _GROUPED:
        return min(rows_of(found.table), found.expected)
    return _most_if_independent(found.table, found.columns)


def _name(found: Misestimate) -> str:
    stem = "_".join([found.table.name, *found.columns])
    suffix = "_groups" if found.kinds == _GROUPED else "_stats"
    if len((stem + suffix).encode()) <= 63:
        return stem + suffix
    digest = hashlib.sha256(stem.encode()).hexdigest()[:6]
    return stem.encode()[:48].decode(errors="ignore") + f"_{digest}{suffix}"


def stale_statistics(table: TableInfo, options: Options) -> Iterator[Suggestion]:
    """Yield ANALYZE for a table that changed too much since the last one."""
    rows = max(table.row_count, 0.0)
    changed = table.modified_since_analyze
    if not is_stale(table):
        return
    if max(rows_of(table), changed) < options.min_table_rows:
        return
    when = f"on {table.last_analyze:%Y-%m-%d %H:%M} UTC" if table.last_analyze else "never"
    share = f" ({100 * changed / rows:,.0f} % of the {rows:,.0f} it knows of)" if rows > 0 else ""
    yield suggest(
        options,
        "maintenance",
        table.qualified_name,
        f"Analyse {table.name}: its statistics are stale",
        Finding(
            "stale_statistics",
            f"{changed:,} rows of {table.name} changed since it was last analysed{share}.",
            (("last analysed", when), ("rows changed since", f"{changed:,}")),
        ),
        "The planner chooses plans by statistics that no longer describe the table. ANALYZE "
        "reads a sample and takes seconds. If it happens again, autovacuum is off for this "
        "table or its thresholds are too high.",
        ddl=f"ANALYZE {table_sql(table.schema, table.name)}",
        present=f"last analysed {when}",
        proposed="analysed now",
        verify=f"n_mod_since_analyze of {table.name} in pg_stat_user_tables is near 0.",
        risk="Plans may change, for the better as a rule.",
        id_kind="analyze",
    )
