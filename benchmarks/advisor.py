"""How good the advice is: what it promises, what the planner says of the real indexes, what runs.

    python benchmarks/advisor.py                                # everything, about half an hour
    python benchmarks/advisor.py --workloads tickets --budgets-mb 40 --rounds 2

For each workload (`benchmarks/workloads/*.jsonl`, and the demo shop) a database is made, the
advisor and the baselines (baselines.py) each propose a set of indexes within the same budget, and
every index of every set is really built, once. Then one set at a time is shown to the server, the
others hidden: its bytes are those on disk, its cost is the planner's with the real indexes, its
time that of executing every statement, writes rolled back. Sums are weighted by calls.

All is in memory, so a time is that of the server's process on a processor, which knows little of
what else the machine does; where the system does not tell it, it is the clock's. Times are taken in
rounds, in each of them statement by statement, every second time in the opposite order. A
statement's plan that is the same with two sets is one thing and measured once; a write is measured
with every set.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import psycopg

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from baselines import BASELINES, NONE, UNBOUNDED, Found, Indexes, Search
from measuring import table

from perfcore.advise.account import Account, advise_dsn
from perfcore.advise.workload import Options
from perfcore.advise.workload_file import Item, read_workload_file
from perfcore.db import connect
from perfcore.demo.seed import create_shop
from perfcore.plan import parse_plan
from perfcore.server.embedded import Cluster, wheel_binaries
from perfcore.types import IndexDefinition
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
VISIT_LIMIT_MS = 2_000.0
SHORT_MS, SHORT_RUNS = 20.0, 20  # what is soon done is executed more often
Key = tuple[str, float]  # a strategy and its budget in MB, 0 where it has none
AS_IT_IS: Key = "as it is", 0.0
BEATEN = 0.8  # of our cost or time, so that it is worth a look ...
WORTH = 0.001  # ... if it is so much of the whole workload's


@dataclass(frozen=True, slots=True)
class Proposed:
    """What a strategy wants built, and what it cost to find out."""

    indexes: Indexes
    promised_cost: float
    write_cost: float  # of keeping the indexes, by Perfcore's own rates
    what_if_calls: int
    elapsed_s: float
    promised: Mapping[str, float] = field(default_factory=dict)  # cost by statement
    bound_cost: float | None = None  # no set of its candidates is cheaper
    stopped_early: bool = False


@dataclass(frozen=True, slots=True)
class Planned:
    """A statement's plan with the real indexes."""

    cost: float
    text: str  # plans of the same text are the same
    used: frozenset[str]  # names of the proposed indexes in it

    @property
    def writes(self) -> bool:
        return '"ModifyTable"' in self.text


@dataclass
class Outcome:
    """A set of indexes as built: by statement, where it was planned or executed."""

    index_bytes: int = 0
    plans: dict[str, Planned] = field(default_factory=dict)
    times_ms: dict[str, list[float]] = field(default_factory=dict)  # the least of each round

    def cost(self, items: Sequence[Item]) -> float:
        return sum(i.calls * self.plans[i.id].cost for i in items if i.id in self.plans)

    def times_s(self, items: Sequence[Item]) -> list[float]:
        """Return the workload's time by round."""
        known = [
            [i.calls * t / 1000 for t in self.times_ms[i.id]]
            for i in items
            if i.id in self.times_ms
        ]
        return [sum(times) for times in zip(*known, strict=True)]

    def time_ms(self, statement: str) -> float | None:
        return statistics.median(t) if (t := self.times_ms.get(statement)) else None


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
    parser.add_argument("--rounds", type=int, default=3, help="0 plans, but does not execute")
    parser.add_argument(
        "--runs", type=int, default=3, help="executions of a plan in a round, at least"
    )
    parser.add_argument("--time-limit-s", type=float, default=60.0, help="of each strategy")
    parser.add_argument("--only", nargs="+", choices=["perfcore", *BASELINES])
    parser.add_argument("--weigh-writes", action="store_true", help="in the baselines' costs too")
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
    sets = _proposals(dsn, items, folder, options)
    with connect(dsn, autocommit=True) as connection:
        built = Built(connection, {i for s in sets.values() for i in s.indexes})
        outcomes = {key: built.planned(s.indexes, items) for key, s in sets.items()}
        for number in range(options.rounds):
            built.execute(sets, outcomes, items, options.runs, is_odd=number % 2 == 1)
            print(f"  round {number + 1} of {options.rounds}", file=sys.stderr, flush=True)
    _print_sets(sets, outcomes, items)
    before = outcomes[AS_IT_IS]
    for budget_mb in options.budgets_mb:
        ours = "perfcore", budget_mb
        if ours in sets:
            _print_promises(sets[ours], before, outcomes[ours], items, built, ours)
            theirs = {k[0]: o for k, o in outcomes.items() if k[1] == budget_mb and k != ours}
            _print_beaten(before, outcomes[ours], theirs, items, built, ours)


def _shown(key: Key) -> str:
    strategy, budget_mb = key
    return f"{strategy}, {budget_mb:.0f} MB" if budget_mb else strategy


# What is proposed


def _proposals(
    dsn: str, items: Sequence[Item], folder: Path, options: argparse.Namespace
) -> dict[Key, Proposed]:
    found: dict[Key, Proposed] = {AS_IT_IS: Proposed(NONE, 0.0, 0.0, 0, 0.0)}
    for budget_mb in options.budgets_mb:
        for strategy in options.only or ("perfcore", *BASELINES):
            key = strategy, 0.0 if strategy in UNBOUNDED else budget_mb
            if key in found:
                continue
            if strategy == "perfcore":
                found[key] = _perfcore(dsn, items, folder, budget_mb, options)
            else:
                choose = BASELINES[strategy]
                found[key] = _baseline(choose, dsn, items, folder, budget_mb, options)
            count = len(found[key].indexes)
            print(f"  {_shown(key)}: {count} indexes", file=sys.stderr, flush=True)
    return found


def _perfcore(
    dsn: str, items: Sequence[Item], folder: Path, budget_mb: float, options: argparse.Namespace
) -> Proposed:
    limits = Options(
        storage_budget_bytes=int(budget_mb * 1e6),
        max_indexes=sys.maxsize,
        time_limit_s=options.time_limit_s,
    )
    account: Account = advise_dsn(dsn, items, folder / "twins", limits)
    suggested = [a.suggestion.index for a in account.suggestions]
    return Proposed(
        frozenset(i for i in suggested if i is not None),
        account.cost_after,
        account.write_cost,
        account.what_if_calls,
        account.elapsed_s,
        {s.id: s.cost_after for s in account.statements if s.cost_after is not None},
        account.bound_cost,
        account.stopped_early,
    )


def _baseline(
    choose: Callable[[Search, float], Found],
    dsn: str,
    items: Sequence[Item],
    folder: Path,
    budget_mb: float,
    options: argparse.Namespace,
) -> Proposed:
    began = time.monotonic()
    with Twin.build(dsn, folder / "twins") as twin:
        with connect(dsn, autocommit=True) as connection:
            catalog = read_catalog(connection)
        search = Search(
            catalog,
            items,
            twin,
            weigh_writes=options.weigh_writes,
            end_s=began + options.time_limit_s,
        )
        found = choose(search, budget_mb * 1e6)
        elapsed_s, calls = time.monotonic() - began, twin.calls
        search.end_s = float("inf")
        return Proposed(
            found.indexes,
            search.read_cost(found.indexes),
            sum(map(search.write_cost, found.indexes)),
            calls,
            elapsed_s,
            bound_cost=found.bound_cost,
            stopped_early=found.stopped_early,
        )


# What is measured


class Built:
    """The real indexes of all the sets, any of which can be hidden as if they were dropped.

    An index that is not "live" is neither planned with nor written. All that is written meanwhile
    is rolled back, so it is whole when it is shown again; vacuumed is only while all are shown.
    """

    def __init__(self, connection: psycopg.Connection, indexes: Iterable[IndexDefinition]) -> None:
        self._connection = connection
        self._server = psutil.Process(connection.info.backend_pid)
        self.indexes: dict[str, IndexDefinition] = {}
        for index in sorted(indexes, key=lambda i: i.digest):
            name = f"bench_{index.digest}"
            try:
                connection.execute(index.ddl(concurrently=False, name=name).encode())
            except psycopg.Error as error:
                print(f"  not built: {index.body()}: {error}", file=sys.stderr)
                continue
            self.indexes[name] = index
        connection.execute("VACUUM ANALYZE")
        rows = connection.execute(
            "SELECT relname, pg_relation_size(oid) FROM pg_class WHERE relname LIKE 'bench\\_%'"
        ).fetchall()
        self.bytes = {name: int(size) for name, size in rows}
        connection.execute(f"SET statement_timeout = '{STATEMENT_LIMIT_S}s'".encode())

    def show(self, names: Iterable[str]) -> None:
        """Hide all but these; touching the tables' own rows makes every session look again."""
        self._connection.execute(
            "WITH turned AS (UPDATE pg_index SET indislive = NOT indislive FROM pg_class AS i "
            "WHERE i.oid = indexrelid AND i.relname LIKE 'bench\\_%%' "
            "AND indislive <> (i.relname = ANY(%s)) RETURNING indrelid) "
            "UPDATE pg_class SET relhasindex = relhasindex "
            "WHERE oid IN (SELECT indrelid FROM turned)",
            [list(names)],
        )

    def names(self, indexes: Indexes) -> frozenset[str]:
        return frozenset(name for name, index in self.indexes.items() if index in indexes)

    def planned(self, indexes: Indexes, items: Sequence[Item]) -> Outcome:
        """Return the set's size and the statements' plans with it."""
        names = self.names(indexes)
        self.show(names)
        outcome = Outcome(sum(self.bytes[n] for n in names))
        for item in items:
            if (plan := self._plan(item.sql)) is not None:
                outcome.plans[item.id] = plan
        return outcome

    def _plan(self, text: str) -> Planned | None:
        try:
            row = self._connection.execute(f"EXPLAIN (FORMAT JSON) {text}".encode()).fetchone()
        except psycopg.Error:
            return None
        assert row is not None
        plan = parse_plan(row[0])
        used = frozenset(name for name in self.indexes if plan.uses_index(name))
        return Planned(plan.total_cost, json.dumps(row[0]), used)

    def execute(
        self,
        sets: Mapping[Key, Proposed],
        outcomes: Mapping[Key, Outcome],
        items: Sequence[Item],
        runs: int,
        *,
        is_odd: bool,
    ) -> None:
        """Execute every statement with every set and add the least time to the outcomes.

        What else the machine does only ever adds to a time.
        """
        self.show(self.indexes)
        self._connection.execute("VACUUM")
        for item in reversed(items) if is_odd else items:
            alike: dict[tuple[str, frozenset[str]], list[Key]] = {}
            for key, outcome in outcomes.items():
                if (plan := outcome.plans.get(item.id)) is not None:
                    written = self.names(sets[key].indexes) if plan.writes else frozenset()
                    alike.setdefault((plan.text, written), []).append(key)
            for members in reversed(alike.values()) if is_odd else alike.values():
                self.show(self.names(sets[members[0]].indexes))
                if (took_ms := self._time(item.sql, runs)) is not None:
                    for key in members:
                        outcomes[key].times_ms.setdefault(item.id, []).append(took_ms)

    def _spent_ms(self) -> float:
        """Return the processor time of the session's server process, once it waits for us."""
        path = Path(f"/proc/{self._server.pid}/schedstat")
        if not path.exists():
            return time.perf_counter() * 1000
        while self._server.status() != psutil.STATUS_SLEEPING:
            time.sleep(0)
        return int(path.read_text().split()[0]) / 1e6

    def _time(self, text: str, runs: int) -> float | None:
        """Return the least time in ms; a write is rolled back."""
        times: list[float] = []
        self._execute(text)  # which reads the catalogue anew and warms the cache
        while len(times) < runs or (sum(times) < SHORT_MS and len(times) < SHORT_RUNS):
            took_ms = self._execute(text)
            if took_ms is None:
                return None
            times.append(took_ms)
            if sum(times) > VISIT_LIMIT_MS:
                break
        return min(times)

    def _execute(self, text: str) -> float | None:
        try:
            with self._connection.transaction(force_rollback=True):
                began_ms = self._spent_ms()
                self._connection.execute(text.encode())
                return self._spent_ms() - began_ms
        except psycopg.errors.QueryCanceled:
            return STATEMENT_LIMIT_S * 1000.0
        except psycopg.Error:
            return None


# What is printed


def _print_sets(
    sets: Mapping[Key, Proposed], outcomes: Mapping[Key, Outcome], items: Sequence[Item]
) -> None:
    before = outcomes[AS_IT_IS]
    rows = []
    for key, found in sets.items():
        times = outcomes[key].times_s(items)
        ours = outcomes["perfcore", key[1]].times_s(items) if ("perfcore", key[1]) in sets else []
        row = _row(found, outcomes[key], before.cost(items), items)
        rows.append((_shown(key), *row, *_shares(times, before.times_s(items), ours)))
    table(
        ("strategy", "indexes", "MB on disk", "bound", "promised cost", "planner's cost",
         "with writes", "plans", "seconds", "executed", "from - to", "by ours"),
        rows,
    )  # fmt: skip


def _row(found: Proposed, after: Outcome, whole: float, items: Sequence[Item]) -> tuple[str, ...]:
    cost = after.cost(items)
    if not found.what_if_calls:
        return "0", "0.0", "", "", f"{whole:,.0f}", "", "", ""
    return (
        str(len(found.indexes)),
        f"{after.index_bytes / 1e6:.1f}",
        "" if found.bound_cost is None else _less(found.bound_cost / whole),
        _less(found.promised_cost / whole),
        _less(cost / whole),
        _less((cost + found.write_cost) / whole),
        str(found.what_if_calls),
        f"{found.elapsed_s:.1f}" + (" (cut)" if found.stopped_early else ""),
    )


def _shares(times: Sequence[float], before: Sequence[float], ours: Sequence[float]) -> list[str]:
    """Return the time as a share of that before, its range over the rounds, and by ours."""
    if not times:
        return ["", "", ""]
    if times == before:
        return [f"{statistics.median(times):,.1f} s", f"{min(times):,.1f} - {max(times):,.1f}", ""]
    shares = [t / b for t, b in zip(times, before, strict=True)]
    by_ours = [t / o for t, o in zip(times, ours, strict=True)] if ours else []
    return [
        _less(statistics.median(shares)),
        f"{_less(min(shares))} - {_less(max(shares))}",
        f"{min(by_ours):.2f} - {max(by_ours):.2f}" if by_ours else "",
    ]


def _less(share: float) -> str:
    return f"{100 * (share - 1):+.1f} %"


def _print_promises(
    found: Proposed,
    before: Outcome,
    after: Outcome,
    items: Sequence[Item],
    built: Built,
    ours: Key,
) -> None:
    """Print per statement what was promised and what came of it."""
    rows = []
    for item in items:
        plan, promised = before.plans.get(item.id), found.promised.get(item.id)
        if plan is None or promised is None or promised > 0.95 * plan.cost:
            continue
        ran, runs = before.time_ms(item.id), after.time_ms(item.id)
        rows.append(
            (
                item.id,
                f"{promised / plan.cost:.3f}",
                f"{after.plans[item.id].cost / plan.cost:.3f}",
                f"{runs / ran:.3f}" if ran and runs else "",
                f"{ran or 0:,.2f}",
            )
        )
    print(f"\nPromised and delivered, {_shown(ours)} (after / before):\n")
    table(("statement", "promised", "planner's", "executed", "before, ms"), rows)
    for name in sorted(built.names(found.indexes), key=lambda n: built.indexes[n].body()):
        print(f"    {built.bytes[name] / 1e6:7.2f} MB  {built.indexes[name].body()}")
    print()


def _print_beaten(
    before: Outcome,
    ours: Outcome,
    theirs: Mapping[str, Outcome],
    items: Sequence[Item],
    built: Built,
    key: Key,
) -> None:
    """Print the statements that a baseline's set serves much better than ours."""
    rows = []
    for item in items:
        worse = [
            (lost, w) for w, o in theirs.items() if (lost := _lost(item, before, ours, o, items))
        ]
        if not worse:
            continue
        lost, peer = max(worse)
        other = theirs[peer]
        rows.append(
            (
                lost,
                item.id,
                f"{peer}" + (f" and {len(worse) - 1} more" if worse[1:] else ""),
                f"{ours.plans[item.id].cost:,.1f}",
                f"{other.plans[item.id].cost:,.1f}",
                f"{ours.time_ms(item.id) or 0:,.2f}",
                f"{other.time_ms(item.id) or 0:,.2f}",
                f"{100 * lost:.2f} %",
                ", ".join(built.indexes[n].body() for n in sorted(other.plans[item.id].used)),
            )
        )
    if not rows:
        return
    print(
        f"\nBetter served by a baseline than by {_shown(key)}, and how much of the whole that is:\n"
    )
    table(
        ("statement", "by", "our cost", "theirs", "our ms", "theirs", "lost", "they use"),
        [row[1:] for row in sorted(rows, reverse=True)],
    )


def _lost(
    item: Item, before: Outcome, ours: Outcome, theirs: Outcome, items: Sequence[Item]
) -> float:
    """Return what share of the whole cost or time is lost, the greater; 0 where it is little.

    Times count only where every round says so: of a statement with the same plan both are one.
    """
    if item.id not in ours.plans or item.id not in theirs.plans:
        return 0.0
    losses = [0.0]
    own, other = ours.plans[item.id].cost, theirs.plans[item.id].cost
    if other < BEATEN * own:
        losses.append(item.calls * (own - other) / before.cost(items))
    mine, peers = ours.times_ms.get(item.id), theirs.times_ms.get(item.id)
    if mine and peers and max(peers) < min(mine):
        own, other = statistics.median(mine), statistics.median(peers)
        if other < BEATEN * own:
            whole_s = statistics.median(before.times_s(items))
            losses.append(item.calls * (own - other) / 1000 / whole_s)
    return max(losses) if max(losses) >= WORTH else 0.0


if __name__ == "__main__":
    main()
