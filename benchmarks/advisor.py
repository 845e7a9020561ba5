"""How good the advice is: what it promises, what the planner says of the real indexes, what runs.

    python benchmarks/advisor.py                                # everything, about half an hour
    python benchmarks/advisor.py --workloads tickets --budgets-mb 40 --runs 3

For each workload (`benchmarks/workloads/*.jsonl`, and the demo shop) a database is made, the
advisor and simple baselines each propose a set of indexes within the same budget, and every set is
really built: its bytes are those on disk, its cost is the planner's with the real indexes, its time
that of executing every statement, writes rolled back. Sums are weighted by calls.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import psycopg

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from measuring import table

from perfcore.advise.account import Account, advise_dsn
from perfcore.advise.candidates import propose, serving
from perfcore.advise.statement import StatementShape, Unparsable, plannable, read_statement
from perfcore.advise.workload import Options
from perfcore.advise.workload_file import Item, read_workload_file
from perfcore.db import connect
from perfcore.demo.seed import create_shop
from perfcore.errors import PerfcoreError
from perfcore.server.embedded import Cluster, wheel_binaries
from perfcore.types import Catalog, IndexDefinition, IndexKey
from perfcore.whatif.catalog import read_catalog
from perfcore.whatif.twin import Twin

FOLDER = Path(__file__).parent / "workloads"
SETTINGS = {
    "shared_preload_libraries": "pg_stat_statements",
    "shared_buffers": "512MB",
    "maintenance_work_mem": "256MB",
    "random_page_cost": "1.1",
    "effective_cache_size": "2GB",
    "max_parallel_workers_per_gather": "0",
    "autovacuum": "off",
    "fsync": "off",
    "full_page_writes": "off",
    "max_wal_size": "4GB",
}
STATEMENT_LIMIT_S = 60
_IMPOSSIBLE = 1e12  # the cost of what cannot be planned


@dataclass(frozen=True, slots=True)
class Proposed:
    """What a strategy wants built, and what it cost to find out."""

    strategy: str
    ddl: tuple[str, ...]
    promised_cost: float | None
    what_if_calls: int
    elapsed_s: float
    promised: dict[str, float] = field(default_factory=dict)  # cost by statement
    bound_cost: float | None = None  # no set of its candidates brings cost and writes lower


@dataclass(frozen=True, slots=True)
class Measured:
    """A set of indexes as built; by statement where it was planned or executed."""

    index_bytes: int
    costs: dict[str, float]
    times_ms: dict[str, float]

    def cost(self, items: Sequence[Item]) -> float:
        return sum(i.calls * self.costs.get(i.id, 0.0) for i in items)

    def time_s(self, items: Sequence[Item]) -> float:
        return sum(i.calls * self.times_ms.get(i.id, 0.0) for i in items) / 1000


def main() -> None:
    options = _options()
    folder = Path(tempfile.mkdtemp(prefix="perfcore-advisor-"))
    folder.chmod(0o755)
    try:
        with Cluster(folder / "pg", wheel_binaries(folder), SETTINGS) as cluster:
            for name in options.workloads:
                dsn = _database(cluster, name, options.scale)
                _compare(name, dsn, folder, options)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _options() -> argparse.Namespace:
    names = sorted(p.stem for p in FOLDER.glob("*.jsonl"))
    parser = argparse.ArgumentParser(description="Measure the advice.")
    parser.add_argument("--workloads", nargs="+", choices=names, default=names)
    parser.add_argument("--budgets-mb", nargs="+", type=float, default=[20.0, 60.0, 200.0])
    parser.add_argument("--scale", type=float, default=0.5, help="of the demo shop")
    parser.add_argument("--runs", type=int, default=5, help="executions of each statement")
    parser.add_argument("--time-limit-s", type=float, default=120.0)
    parser.add_argument("--only", nargs="+", choices=list(STRATEGIES), default=list(STRATEGIES))
    parser.add_argument("--no-execute", action="store_true", help="plan, but do not run")
    return parser.parse_args()


def _database(cluster: Cluster, name: str, scale: float) -> str:
    with connect(cluster.dsn(), autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"'.encode())
    dsn = cluster.dsn(name)
    began = time.monotonic()
    if name == "shop":
        create_shop(dsn, scale=scale)
    else:
        with connect(dsn, autocommit=True) as connection:
            connection.execute((FOLDER / f"{name}.sql").read_bytes())
    with connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
        connection.execute("VACUUM ANALYZE")
        size = connection.execute("SELECT pg_database_size(current_database())").fetchone()
    assert size is not None
    print(f"\n## {name}: {size[0] / 1e6:,.0f} MB, made in {time.monotonic() - began:.0f} s")
    return dsn


def _compare(name: str, dsn: str, folder: Path, options: argparse.Namespace) -> None:
    items = read_workload_file(FOLDER / f"{name}.jsonl")
    runs = 0 if options.no_execute else options.runs
    before = _build_and_measure(dsn, (), items, runs)
    rows = [_row("as it is", 0, before, before, items, None)]
    for budget_mb in options.budgets_mb:
        for strategy in options.only:
            if strategy in _UNBOUNDED and budget_mb != options.budgets_mb[0]:
                continue
            found = STRATEGIES[strategy](dsn, items, folder, budget_mb, options.time_limit_s)
            after = _build_and_measure(dsn, found.ddl, items, runs)
            shown = strategy if strategy in _UNBOUNDED else f"{strategy}, {budget_mb:.0f} MB"
            rows.append(_row(shown, len(found.ddl), after, before, items, found))
            print(f"  {shown}: {len(found.ddl)} indexes", file=sys.stderr, flush=True)
            if strategy == "perfcore":
                _print_promises(found, before, after, items, budget_mb)
    table(
        ("strategy", "indexes", "MB on disk", "bound", "promised cost", "planner's cost",
         "executed", "plans", "seconds"),
        rows,
    )  # fmt: skip


def _row(
    shown: str,
    count: int,
    after: Measured,
    before: Measured,
    items: Sequence[Item],
    found: Proposed | None,
) -> tuple[str, ...]:
    whole, whole_s = before.cost(items), before.time_s(items)
    promised = found.promised_cost if found else None
    bound = found.bound_cost if found else None
    return (
        shown,
        str(count),
        f"{after.index_bytes / 1e6:.1f}",
        "" if bound is None else _less(bound, whole),
        "" if promised is None else _less(promised, whole),
        _less(after.cost(items), whole) if found else f"{whole:,.0f}",
        _less(after.time_s(items), whole_s) if found and whole_s else f"{whole_s:,.1f} s",
        str(found.what_if_calls) if found else "",
        f"{found.elapsed_s:.1f}" if found else "",
    )


def _less(after: float, before: float) -> str:
    return f"{100 * (after / before - 1):+.1f} %"


def _print_promises(
    found: Proposed, before: Measured, after: Measured, items: Sequence[Item], budget_mb: float
) -> None:
    """Print per statement what was promised and what came of it."""
    rows = []
    for item in items:
        cost, promised = before.costs.get(item.id), found.promised.get(item.id)
        if not cost or promised is None or promised > 0.95 * cost:
            continue
        ran = before.times_ms.get(item.id)
        delivered = after.times_ms.get(item.id, 0.0) / ran if ran else float("nan")
        rows.append(
            (
                item.id,
                f"{promised / cost:.3f}",
                f"{after.costs[item.id] / cost:.3f}",
                f"{delivered:.3f}",
                f"{ran or 0:,.2f}",
            )
        )
    print(f"\nPromised and delivered, {budget_mb:.0f} MB (after / before):\n")
    table(("statement", "promised", "planner's", "executed", "before, ms"), rows)
    for ddl in found.ddl:
        print(f"    {ddl}")
    print()


# What is measured


def _build_and_measure(dsn: str, ddl: Sequence[str], items: Sequence[Item], runs: int) -> Measured:
    """Build the indexes, measure, and drop them again."""
    with connect(dsn, autocommit=True) as connection:
        before = _indexes(connection)
        for statement in ddl:
            connection.execute(statement.replace(" CONCURRENTLY", "").encode())
        # A GIN index and one on an expression have statistics of their own.
        connection.execute("VACUUM ANALYZE" if ddl else "SELECT 1")
        new = {n: b for n, b in _indexes(connection).items() if n not in before}
        costs = {i.id: c for i in items if (c := _planned(connection, i.sql)) is not None}
        times = {i.id: t for i in items if runs and (t := _executed(connection, i.sql, runs))}
        for name in new:
            connection.execute(f"DROP INDEX {name}".encode())
    return Measured(sum(new.values()), costs, times)


def _indexes(connection: psycopg.Connection) -> dict[str, int]:
    rows = connection.execute(
        "SELECT indexrelid::regclass::text, pg_relation_size(indexrelid) FROM pg_index "
        "JOIN pg_class ON oid = indrelid WHERE relnamespace = 'public'::regnamespace"
    ).fetchall()
    return {name: int(size) for name, size in rows}


def _planned(connection: psycopg.Connection, text: str) -> float | None:
    try:
        row = connection.execute(f"EXPLAIN (FORMAT JSON) {text}".encode()).fetchone()
    except psycopg.Error:
        return None
    return float(row[0][0]["Plan"]["Total Cost"]) if row else None


def _executed(connection: psycopg.Connection, text: str, runs: int) -> float | None:
    """Return the median time in ms; a write is rolled back."""
    times = []
    connection.execute(f"SET statement_timeout = '{STATEMENT_LIMIT_S}s'".encode())
    for run in range(runs + 1):
        try:
            with connection.transaction(force_rollback=True):
                began = time.perf_counter()
                connection.execute(text.encode())
                took_ms = (time.perf_counter() - began) * 1000
        except psycopg.Error:
            return None
        if run:  # the first one warms the cache
            times.append(took_ms)
        if took_ms > 5_000:
            break
    return statistics.median(times or [took_ms])


# The strategies


def _perfcore(
    dsn: str, items: Sequence[Item], folder: Path, budget_mb: float, limit_s: float
) -> Proposed:
    options = Options(
        storage_budget_bytes=int(budget_mb * 1e6), max_indexes=sys.maxsize, time_limit_s=limit_s
    )
    account: Account = advise_dsn(dsn, items, folder / "twins", options)
    return Proposed(
        "perfcore",
        tuple(s.suggestion.ddl for s in account.suggestions if s.suggestion.kind == "index"),
        account.cost_after,
        account.what_if_calls,
        account.elapsed_s,
        {s.id: s.cost_after for s in account.statements if s.cost_after is not None},
        account.bound_cost,
    )


class _Search:
    """What the baselines share: statements, their columns and a twin to ask."""

    def __init__(self, dsn: str, items: Sequence[Item], twin: Twin) -> None:
        self.items, self.twin = items, twin
        with connect(dsn, autocommit=True) as connection:
            self.catalog: Catalog = read_catalog(connection)
        self.shapes = {i.id: _shape(i.sql, self.catalog) for i in items}

    def cost(self, indexes: Sequence[IndexDefinition]) -> float:
        return sum(self.one_cost(item, indexes) for item in self.items)

    def one_cost(self, item: Item, indexes: Sequence[IndexDefinition]) -> float:
        try:
            plan = self.twin.planner.plan(plannable(item.sql, limit_rows=20), indexes=indexes)
        except PerfcoreError:
            return 0.0 if not indexes else item.calls * _IMPOSSIBLE
        return item.calls * plan.total_cost

    def columns(self) -> Iterator[tuple[str, str, str]]:
        """Yield (schema, table, column) of every predicate, join, order and group."""
        seen = set()
        for shape in self.shapes.values():
            for use in shape.uses if shape else ():
                keys = [p.key for p in use.predicates] + [j.key for j in use.joins]
                keys += [o.key for o in use.order_by] + list(use.group_by)
                for key in keys:
                    place = use.schema, use.table, key.expression
                    if not key.is_expression and place not in seen:
                        seen.add(place)
                        yield place

    def bytes(self, indexes: Sequence[IndexDefinition]) -> int:
        return sum(self.twin.planner.index_bytes(i) for i in indexes)


def _shape(text: str, catalog: Catalog) -> StatementShape | None:
    try:
        return read_statement(text, catalog)
    except Unparsable:
        return None


def _single_columns(search: _Search, budget_bytes: float) -> list[IndexDefinition]:
    """Return an index for every column that any statement compares, joins, orders or groups."""
    wanted = [_index(s, t, (c,)) for s, t, c in search.columns()]
    tables = {(t.schema, t.name): t for t in search.catalog.tables}
    return [i for i in wanted if not serving(i, tables[i.schema, i.table])]


def _per_statement(search: _Search, budget_bytes: float) -> list[IndexDefinition]:
    """Return for each statement the one candidate that lowers its cost most."""
    chosen: dict[str, IndexDefinition] = {}
    for item in search.items:
        shape = search.shapes[item.id]
        if shape is None:
            continue
        options = propose(shape, search.catalog, min_table_rows=10_000).candidates
        before = search.one_cost(item, ())
        costs = [(search.one_cost(item, (c.index,)), c.index.digest, c.index) for c in options]
        if costs and (best := min(costs, key=lambda c: c[:2]))[0] < 0.9 * before:
            chosen[best[1]] = best[2]
    return list(chosen.values())


def _greedy(search: _Search, budget_bytes: float) -> list[IndexDefinition]:
    """Add the single column that gains most per byte, until the budget is used."""
    return _grow(search, budget_bytes, width=1)


def _extend(search: _Search, budget_bytes: float) -> list[IndexDefinition]:
    """Do as Extend (Schlosser et al., ICDE 2019) does, with keys of up to three columns."""
    return _grow(search, budget_bytes, width=3)


def _grow(search: _Search, budget_bytes: float, width: int) -> list[IndexDefinition]:
    columns = list(search.columns())
    chosen: list[IndexDefinition] = []
    cost = search.cost(chosen)
    while True:
        best: tuple[float, list[IndexDefinition], float] | None = None
        for schema, table_name, column in columns:
            for new in _steps(chosen, schema, table_name, column, width):
                used = search.bytes(new)
                if used > budget_bytes:
                    continue
                after = search.cost(new)
                ratio = (cost - after) / max(used - search.bytes(chosen), 1)
                if cost - after > 0.0005 * cost and (best is None or ratio > best[0]):
                    best = ratio, new, after
        if best is None:
            return chosen
        chosen, cost = best[1], best[2]


def _steps(
    chosen: list[IndexDefinition], schema: str, table_name: str, column: str, width: int
) -> Iterator[list[IndexDefinition]]:
    """Yield the sets that one more index, or one more column of a chosen one, makes."""
    single = _index(schema, table_name, (column,))
    if single not in chosen:
        yield [*chosen, single]
    for index in chosen:
        names = [k.expression for k in index.keys]
        fits = (index.schema, index.table) == (schema, table_name) and column not in names
        if fits and len(names) < width:
            wider = replace(index, keys=(*index.keys, IndexKey(column)))
            yield [wider if i is index else i for i in chosen]


def _index(schema: str, table_name: str, columns: tuple[str, ...]) -> IndexDefinition:
    return IndexDefinition(schema, table_name, tuple(IndexKey(c) for c in columns))


def _baseline(
    name: str, choose: Callable[[_Search, float], list[IndexDefinition]]
) -> Callable[[str, Sequence[Item], Path, float, float], Proposed]:
    def strategy(
        dsn: str, items: Sequence[Item], folder: Path, budget_mb: float, limit_s: float
    ) -> Proposed:
        began = time.monotonic()
        with Twin.build(dsn, folder / "twins") as twin:
            search = _Search(dsn, items, twin)
            chosen = choose(search, budget_mb * 1e6)
            cost, calls = search.cost(chosen), twin.calls
        # Under names of their own: an index of that name may be there, on other keys.
        ddl = tuple(i.ddl(concurrently=False, name=f"bench_{n}") for n, i in enumerate(chosen))
        return Proposed(name, ddl, cost, calls, time.monotonic() - began)

    return strategy


STRATEGIES = {
    "perfcore": _perfcore,
    "extend": _baseline("extend", _extend),
    "greedy": _baseline("greedy", _greedy),
    "per statement": _baseline("per statement", _per_statement),
    "single columns": _baseline("single columns", _single_columns),
}
_UNBOUNDED = {"per statement", "single columns"}

if __name__ == "__main__":
    main()
