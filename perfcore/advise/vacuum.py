"""How tables are vacuumed: dead rows, when autovacuum comes, room for updates."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from perfcore.advise.candidates import rows_of
from perfcore.advise.held_back import holds_back
from perfcore.advise.server_state import (
    ServerState,
    TableState,
    is_true,
)
from perfcore.advise.upkeep import (
    span_words,
    suggest,
    suggest_setting,
    table_sql,
)
from perfcore.advise.workload import Options, Writes
from perfcore.types import Catalog, Finding, IndexInfo, Suggestion, TableInfo

LARGE_TABLE_ROWS = 500_000
MANY_DEAD_ROWS = 100_000  # at the trigger: more means that too much room was lost by then
HOT_SHARE = 0.05  # of the rows, changed since the counters began
OVERDUE = 2.0  # times the trigger
MIN_OVERDUE_ROWS = 10_000
DEFAULT_COST_DELAY_MS = 2.0
MANY_UPDATES = 10_000
MOVED_SHARE = 0.3  # of the updates: rows that found no room on their page
HOT_UPDATE_SHARE = 0.5
FILLFACTOR = 90


def vacuum_advice(
    server: ServerState, catalog: Catalog, writes: Writes, options: Options
) -> list[Suggestion]:
    """Return what the vacuuming of tables needs.

    While an old transaction is open nobody is told to VACUUM: it would remove nothing.
    """
    found: list[Suggestion] = []
    held = holds_back(server)
    for table in catalog.tables:
        state = server.tables.get(table.qualified_name)
        if state is not None:
            found += _of_table(_Table(table, state, server, writes, options), is_held=held)
    found += _slow_vacuum(server, catalog, options)
    return found


@dataclass(frozen=True, slots=True)
class _Table:
    info: TableInfo
    state: TableState
    server: ServerState
    writes: Writes
    options: Options

    @property
    def sql(self) -> str:
        return table_sql(self.info.schema, self.info.name)

    @property
    def rows(self) -> float:
        return max(rows_of(self.info), 0.0)

    @property
    def is_vacuumed(self) -> bool:
        return is_true(self.state.option("autovacuum_enabled") or "on")

    @property
    def trigger_rows(self) -> float:
        """Return the dead rows at which autovacuum comes."""
        scale = self.state.option("autovacuum_vacuum_scale_factor")
        base = self.state.option("autovacuum_vacuum_threshold")
        number = self.server.number
        share = float(scale) if scale else number("autovacuum_vacuum_scale_factor", 0.2)
        rows = float(base) if base else number("autovacuum_vacuum_threshold", 50.0)
        rows += share * self.rows
        bound = self.state.option("autovacuum_vacuum_max_threshold")
        most = float(bound) if bound else number("autovacuum_vacuum_max_threshold", -1.0)
        return min(rows, most) if most >= 0 else rows

    def suggest_storage(
        self,
        name: str,
        value: str,
        title: str,
        finding: Finding,
        reason: str,
        *,
        present: str,
        verify: str,
        caveats: tuple[str, ...] = (),
    ) -> Suggestion:
        """Return the suggestion to set one of the table's storage parameters."""
        before = self.state.option(name)
        undo = f"RESET ({name})" if before is None else f"SET ({name} = {before})"
        return suggest(
            self.options,
            "setting",
            f"{name}/{self.info.qualified_name}",
            title,
            finding,
            reason,
            ddl=f"ALTER TABLE {self.sql} SET ({name} = {value})",
            undo=f"ALTER TABLE {self.sql} {undo}",
            risk="It waits for a running VACUUM of the table; reads and writes go on.",
            present=present,
            proposed=value,
            verify=verify,
            caveats=caveats,
        )


def _of_table(table: _Table, *, is_held: bool) -> Iterator[Suggestion]:
    yield from _not_vacuumed(table)
    yield from _late_trigger(table)
    if not is_held:
        yield from _overdue(table)
    yield from _no_room_for_updates(table)
    yield from _no_identity(table)


def _not_vacuumed(table: _Table) -> Iterator[Suggestion]:
    changed = table.info.rows_updated + table.info.rows_deleted + table.info.rows_inserted
    if table.is_vacuumed or table.rows < table.options.min_table_rows or not changed:
        return
    value = table.state.option("autovacuum_enabled") or "off"
    yield suggest(
        table.options,
        "setting",
        f"autovacuum_enabled/{table.info.qualified_name}",
        f"Let autovacuum look after {table.info.name}",
        Finding(
            "autovacuum_off",
            f"autovacuum is off for {table.info.name}; {changed:,} of its rows were written, "
            f"{table.info.dead_rows:,} are dead.",
            (
                ("dead rows", f"{table.info.dead_rows:,}"),
                ("changed since analysed", f"{table.info.modified_since_analyze:,}"),
            ),
        ),
        "Nobody removes its dead rows or renews its statistics; plans grow wrong and scans longer.",
        ddl=f"ALTER TABLE {table.sql} SET (autovacuum_enabled = on)",
        undo=f"ALTER TABLE {table.sql} SET (autovacuum_enabled = {value})",
        present="off",
        proposed="on",
        verify=f"last_autovacuum and last_autoanalyze of {table.info.name} in pg_stat_user_tables.",
        risk="It waits for a running VACUUM of the table; reads and writes go on.",
        caveats=("A job of your own may vacuum it: then dismiss this with that reason.",),
    )


def _late_trigger(table: _Table) -> Iterator[Suggestion]:
    gone = table.info.rows_updated + table.info.rows_deleted
    trigger = table.trigger_rows
    if not table.is_vacuumed or table.state.option("autovacuum_vacuum_scale_factor"):
        return
    if table.rows < LARGE_TABLE_ROWS or trigger < MANY_DEAD_ROWS:
        return
    if gone < HOT_SHARE * table.rows:
        return
    share = 0.02 if table.rows < 5e6 else 0.01 if table.rows < 5e7 else 0.005
    after = table.server.number("autovacuum_vacuum_threshold", 50.0) + share * table.rows
    if after > trigger / 2:
        return
    yield table.suggest_storage(
        "autovacuum_vacuum_scale_factor",
        f"{share}",
        f"Vacuum {table.info.name} before {trigger:,.0f} rows are dead",
        Finding(
            "late_autovacuum",
            f"autovacuum comes to {table.info.name} when {trigger:,.0f} of its {table.rows:,.0f} "
            f"rows are dead; {gone:,} were updated or deleted since the counters began.",
            (("dead rows now", f"{table.info.dead_rows:,}"), *_pace(table, trigger)),
        ),
        f"The scale factor is made for small tables: of a large one it lets much room be lost "
        f"before anything is reused. With {share} it comes at {after:,.0f} dead rows, and each "
        "time has less to do.",
        present=f"{table.server.number('autovacuum_vacuum_scale_factor', 0.2):g} (the server's)",
        verify=f"n_dead_tup of {table.info.name} in pg_stat_user_tables stays below {after:,.0f}.",
    )


def _pace(table: _Table, trigger: float) -> tuple[tuple[str, str], ...]:
    rate = table.writes.rate(table.info.qualified_name)
    per_hour = rate.updates + rate.deletes
    return (("between two vacuums", span_words(trigger / per_hour)),) if per_hour else ()


def _overdue(table: _Table) -> Iterator[Suggestion]:
    dead, trigger = table.info.dead_rows, table.trigger_rows
    if not table.is_vacuumed or dead < max(OVERDUE * trigger, MIN_OVERDUE_ROWS):
        return
    when = f"{table.state.vacuumed_at:%Y-%m-%d %H:%M} UTC" if table.state.vacuumed_at else "never"
    yield suggest(
        table.options,
        "maintenance",
        f"vacuum/{table.info.qualified_name}",
        f"Vacuum {table.info.name}: {dead:,} dead rows wait",
        Finding(
            "dead_rows",
            f"{dead:,} rows of {table.info.name} are dead; autovacuum should have come at "
            f"{trigger:,.0f}.",
            (("rows", f"{table.rows:,.0f}"), ("last vacuumed", when)),
        ),
        "Scans read dead rows like live ones, and their room is not reused before VACUUM. If it "
        "happens again, autovacuum is off or does not keep up.",
        ddl=f"VACUUM (ANALYZE) {table.sql}",
        present=f"{dead:,} dead rows",
        proposed=f"fewer than {trigger:,.0f}",
        verify=f"n_dead_tup of {table.info.name} in pg_stat_user_tables.",
        risk="It reads the table and its indexes once; reads and writes go on.",
    )


def _slow_vacuum(server: ServerState, catalog: Catalog, options: Options) -> Iterator[Suggestion]:
    delay = server.setting("autovacuum_vacuum_cost_delay")
    auto = server.setting("autovacuum")
    if delay is None or auto is None or not auto.is_on or delay.number <= DEFAULT_COST_DELAY_MS:
        return
    tables = [
        _Table(t, server.tables[t.qualified_name], server, Writes({}), options)
        for t in catalog.tables
        if t.qualified_name in server.tables
    ]
    late = [t for t in tables if any(_overdue(t))]
    if not late:
        return
    names = ", ".join(t.info.name for t in late[:3])
    yield suggest_setting(
        options,
        delay,
        "2ms",
        "Let autovacuum work faster",
        Finding(
            "slow_autovacuum",
            f"autovacuum is behind on {len(late)} tables ({names}) and sleeps {delay.number:g} ms "
            "after each small piece of work.",
            (("tables behind", f"{len(late)}"),),
        ),
        "The pause was made for disks that turn. 2 ms is the default since PostgreSQL 12.",
        verify="n_dead_tup of these tables in pg_stat_user_tables falls.",
        risk="Vacuuming reads and writes more per second.",
    )


def _no_room_for_updates(table: _Table) -> Iterator[Suggestion]:
    info = table.info
    if info.rows_updated < MANY_UPDATES or table.state.option("fillfactor"):
        return
    hot = info.rows_hot_updated / info.rows_updated
    moved = table.state.newpage_updates
    updated = set(table.writes.updated_columns.get(info.qualified_name, {}))
    indexed = sorted(c for c in updated if any(_mentions(i, c) for i in info.indexes))
    if hot >= HOT_UPDATE_SHARE or indexed:
        return
    # Up to 15 nobody counts the moved ones: then the columns that are updated must be known.
    if moved >= 0 and moved < MOVED_SHARE * info.rows_updated:
        return
    if moved < 0 and not updated:
        return
    numbers = [("updates", f"{info.rows_updated:,}"), ("of them HOT", f"{100 * hot:.0f} %")]
    if moved >= 0:
        numbers.append(("moved to another page", f"{moved:,}"))
    yield table.suggest_storage(
        "fillfactor",
        str(FILLFACTOR),
        f"Leave room on the pages of {info.name} for updates",
        Finding(
            "few_hot_updates",
            f"Only {100 * hot:.0f} % of {info.rows_updated:,} updates of {info.name} stayed on "
            "their page, though they change no indexed column.",
            tuple(numbers),
        ),
        "An update that changes no indexed column and finds room on its page writes no index "
        f"entry (HOT). With {100 - FILLFACTOR} % of each page left free more of them do.",
        present="100 (the default)",
        verify=f"n_tup_hot_upd against n_tup_upd of {info.name} in pg_stat_user_tables.",
        caveats=(
            "It holds for pages written from now on; VACUUM FULL or pg_repack writes all anew, a "
            f"{100 / FILLFACTOR - 1:.0%} larger table.",
        ),
    )


def _mentions(index: IndexInfo, column: str) -> bool:
    # A summarizing index alone does not keep an update from being HOT (since 16).
    if index.method == "brin":
        return False
    words = (*index.keys, *index.include, index.predicate)
    return any(column == w or column in w.replace("(", " ").split() for w in words)


def _no_identity(table: _Table) -> Iterator[Suggestion]:
    state = table.state
    if not (state.publications and state.lacks_identity):
        return
    has_key = any(i.is_primary for i in table.info.indexes)
    lacks = "no primary key" if state.identity == "d" else "REPLICA IDENTITY NOTHING"
    if state.identity == "i":
        lacks = "a replica identity whose index is gone"
    yield suggest(
        table.options,
        "maintenance",
        f"identity/{table.info.qualified_name}",
        f"Give {table.info.name} a replica identity",
        Finding(
            "no_replica_identity",
            f"{table.info.name} is published ({state.publications}) and has {lacks}: UPDATE and "
            "DELETE on it fail.",
        ),
        "A subscriber must know which row changed. A primary key tells it; without one the whole "
        "old row is written to the log.",
        ddl=f"ALTER TABLE {table.sql} REPLICA IDENTITY {'DEFAULT' if has_key else 'FULL'}",
        undo=f"ALTER TABLE {table.sql} REPLICA IDENTITY "
        + ("DEFAULT" if state.identity == "d" else "NOTHING"),
        present="none",
        proposed="the primary key" if has_key else "a primary key; FULL until there is one",
        verify="An UPDATE of one row does not fail, and arrives at the subscriber.",
        risk="It takes an ACCESS EXCLUSIVE lock for an instant"
        + ("." if has_key else "; updates write more log."),
    )
