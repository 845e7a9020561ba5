"""Whether an index change may begin: each refusal names the cause and the remedy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow, class_row

from perfcore import db
from perfcore.errors import ChangeRefused
from perfcore.types import IndexDefinition

MAX_INDEXES = 10
MAX_TRANSACTION_AGE_S = 300.0

Connection = psycopg.Connection[TupleRow]


@dataclass(frozen=True, slots=True)
class TableState:
    """What a target says of a table and of itself, at one instant."""

    table_oid: int
    kind: str  # pg_class.relkind
    persistence: str
    is_standby: bool
    is_owner: bool
    owner: str
    is_read_only: bool
    index_count: int
    prepared_transactions: int
    builder_pid: int | None  # builds another index on the table
    rewriter_pid: int | None  # runs VACUUM FULL or CLUSTER on it
    oldest_pid: int | None
    oldest_age_s: float | None  # of the oldest open transaction, which a build must wait for


@dataclass(frozen=True, slots=True)
class ExistingIndex:
    """An index with its parts as PostgreSQL spells them."""

    oid: int
    name: str
    method: str
    is_unique: bool
    is_valid: bool
    is_ready: bool
    is_live: bool
    is_primary: bool
    is_replica_identity: bool
    is_partition: bool
    is_constraint: bool
    key_count: int
    columns: list[str]  # keys, then INCLUDE
    classes: list[str]  # operator class of each key
    options: list[str]  # DESC and NULLS FIRST of each key, as bits
    predicate: str
    definition: str
    index_bytes: int
    comment: str

    @property
    def is_whole(self) -> bool:
        return self.is_valid and self.is_ready and self.is_live

    @property
    def keys(self) -> list[tuple[str, str, str]]:
        names = self.columns[: self.key_count]
        return list(zip(names, self.classes, self.options, strict=True))

    def equals(self, other: ExistingIndex) -> bool:
        """Say whether both are the same index but for the name."""
        return (
            (self.method, self.is_unique, self.predicate, self.keys)
            == (other.method, other.is_unique, other.predicate, other.keys)
        ) and self.columns == other.columns

    def serves(self, other: ExistingIndex) -> bool:
        """Say whether whatever `other` answers, this one answers too: it begins with its keys."""
        if self.equals(other):
            return True
        return (
            self.method == other.method == "btree"
            and not other.is_unique
            and self.predicate == other.predicate
            and self.keys[: len(other.keys)] == other.keys
            and set(other.columns) <= set(self.columns)
        )


def read_table(connection: Connection, schema: str, table: str) -> TableState | None:
    """Return what decides about a change of that table's indexes, None if there is no table."""
    with connection.cursor(row_factory=class_row(TableState)) as cursor:
        cursor.execute(db.query("lab_preflight"), {"schema": schema, "table": table})
        return cursor.fetchone()


def read_indexes(connection: Connection, table_oid: int) -> list[ExistingIndex]:
    """Return the table's indexes, ordered by name."""
    with connection.cursor(row_factory=class_row(ExistingIndex)) as cursor:
        return cursor.execute(db.query("lab_read_indexes"), {"table_oid": table_oid}).fetchall()


def probe(connection: Connection, index: IndexDefinition) -> ExistingIndex:
    """Return the index as PostgreSQL would spell it, made on an empty temporary copy.

    Raises ChangeRefused with PostgreSQL's words where it does not accept the definition.
    """
    there = replace(index, schema="pg_temp", table="perfcore_probe")
    try:
        with connection.transaction(force_rollback=True):
            connection.execute(
                sql.SQL("CREATE TEMPORARY TABLE perfcore_probe (LIKE {})").format(
                    sql.Identifier(index.schema, index.table)
                )
            )
            ddl = there.ddl(concurrently=False, name="perfcore_probe_idx")
            connection.execute(ddl.encode())
            row = connection.execute("SELECT 'pg_temp.perfcore_probe'::regclass::oid::bigint")
            found = row.fetchone()
            assert found is not None
            return read_indexes(connection, found[0])[0]
    except psycopg.Error as error:
        raise ChangeRefused(
            f"PostgreSQL does not accept {index.body()}: {error.diag.message_primary or error}"
        ) from error


def check_table(state: TableState | None, name: str) -> TableState:
    """Return the state of a table whose indexes may be changed now, or raise ChangeRefused."""
    if state is None:
        raise ChangeRefused(f"there is no table {name} (dropped since it was analysed?)")
    for refused, words, hint in _table_rules(state, name):
        if refused:
            raise ChangeRefused(words, hint=hint)
    return state


def check_new(wanted: ExistingIndex, existing: Sequence[ExistingIndex], name: str) -> None:
    """Raise ChangeRefused where an index of the table makes the wanted one superfluous."""
    for index in existing:
        if index.is_valid and index.equals(wanted):
            raise ChangeRefused(f"{name} has this index already: {index.name}")
        if index.is_valid and index.serves(wanted):
            raise ChangeRefused(
                f"the index {index.name} of {name} begins with the same keys and serves the "
                "same searches",
                hint=f"look why the planner does not use {index.name}",
            )
    if len(existing) >= MAX_INDEXES:
        raise ChangeRefused(
            f"{name} has {len(existing)} indexes, and every write keeps each of them up",
            hint="drop an unused or duplicate one first",
        )


def check_drop(index: ExistingIndex, name: str) -> None:
    """Raise ChangeRefused where the index is more than a means to search."""
    if index.is_primary:
        raise ChangeRefused(f"{name} is a primary key: it is never dropped here")
    if index.is_constraint:
        raise ChangeRefused(f"{name} backs a constraint: drop the constraint if it is not wanted")
    if index.is_unique:
        raise ChangeRefused(f"{name} is unique: it guards the data besides serving searches")
    if index.is_replica_identity:
        raise ChangeRefused(f"{name} is the replica identity of its table")
    if index.is_partition:
        raise ChangeRefused(f"{name} belongs to an index of a partitioned table")


def _table_rules(state: TableState, name: str) -> list[tuple[bool, str, str]]:
    age_s = state.oldest_age_s or 0.0
    return [
        (
            state.is_standby,
            "this server is a standby: indexes are made on its primary",
            "give the primary's address in PERFCORE_APPLY_DSNS",
        ),
        (state.is_read_only, "this connection may only read", "default_transaction_read_only"),
        (
            state.kind == "p",
            f"{name} is partitioned, and PostgreSQL cannot index a partitioned table concurrently",
            "index each partition",
        ),
        (state.kind == "f", f"{name} is a foreign table: index it where its rows are", ""),
        (state.kind not in "rmpf", f"{name} is not a table", ""),
        (state.persistence == "t", f"{name} is a temporary table", ""),
        (
            not state.is_owner,
            f"the apply account is not the owner of {name}, which is {state.owner}",
            f"GRANT {state.owner} TO the account in PERFCORE_APPLY_DSNS",
        ),
        (
            state.builder_pid is not None,
            f"another index change is running on {name} (process {state.builder_pid})",
            "wait for it",
        ),
        (
            state.rewriter_pid is not None,
            f"{name} is being rewritten by VACUUM FULL or CLUSTER (process {state.rewriter_pid})",
            "wait for it",
        ),
        (
            state.prepared_transactions > 0,
            f"{state.prepared_transactions} prepared transactions are open, and a concurrent "
            "build may wait for them forever",
            "end them: SELECT * FROM pg_prepared_xacts",
        ),
        (
            age_s > MAX_TRANSACTION_AGE_S,
            f"process {state.oldest_pid} has a transaction open for {age_s / 60:.0f} min, and a "
            "concurrent build waits for it",
            "end it, or wait",
        ),
    ]
