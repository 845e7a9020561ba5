"""Sequences that come to an end: their own, or that of the column they fill."""

from __future__ import annotations

from collections.abc import Iterator

from psycopg import sql

from perfcore.advise.server_state import SequenceState, ServerState
from perfcore.advise.upkeep import span_words, suggest, table_sql
from perfcore.advise.workload import Options, Writes
from perfcore.types import Finding, Suggestion

USED_SHARE = 0.7
_MOST = {"smallint": 2**15 - 1, "integer": 2**31 - 1, "bigint": 2**63 - 1}


def sequence_advice(server: ServerState, writes: Writes, options: Options) -> Iterator[Suggestion]:
    """Yield a suggestion for each sequence that has used seven tenths of its values."""
    for sequence in server.sequences:
        if sequence.last_value is None or sequence.increment <= 0:
            continue
        most = _limit(sequence)
        if sequence.last_value >= USED_SHARE * most and not (
            sequence.cycles and most == sequence.most
        ):
            yield _ending(sequence, most, writes, options)


def _limit(sequence: SequenceState) -> int:
    """Return the last value that the sequence and its column can take."""
    return min(sequence.most, _MOST.get(sequence.column_type, sequence.most))


def _ending(sequence: SequenceState, most: int, writes: Writes, options: Options) -> Suggestion:
    assert sequence.last_value is not None
    left = (most - sequence.last_value) // sequence.increment
    # A bound of its own is lifted; where the column's or the type's is met, both get wider.
    is_column = most == _MOST.get(sequence.column_type) and sequence.column_type != "bigint"
    ddl = _remedy(sequence, is_column=is_column)
    full = f"{sequence.schema}.{sequence.name}"
    column = f"{sequence.table_name}.{sequence.column_name}" if sequence.table_name else full
    used = 100 * sequence.last_value / most
    return suggest(
        options,
        "maintenance",
        f"sequence/{full}/{column}",
        f"{column} runs out of numbers",
        Finding(
            "sequence_end",
            f"{sequence.name} stands at {sequence.last_value:,}, {used:.1f} % of the {most:,} that "
            f"{_bound(sequence, most)} can hold.",
            (("left", f"{left:,}"), *_pace(sequence, left, writes)),
        ),
        "When it is used up every INSERT fails.",
        ddl=ddl,
        present=sequence.column_type if is_column else f"up to {sequence.most:,}",
        proposed="bigint" if is_column else "no maximum but the type's",
        verify=f"SELECT last_value FROM {table_sql(sequence.schema, sequence.name)} and the "
        "column's type in pg_attribute.",
        risk=_RISK_REWRITE if is_column else "It takes an instant.",
        caveats=_CAVEATS if is_column else (),
    )


_RISK_REWRITE = (
    "ALTER COLUMN TYPE writes the whole table and its indexes anew under an ACCESS EXCLUSIVE lock: "
    "reads and writes wait until it is done."
)
_CAVEATS = (
    "Without the wait: add a bigint column, fill it in batches and by a trigger, index it "
    "concurrently, then swap the two in one short transaction.",
    "Columns that reference it, and the application's own integers, must become as wide.",
)


def _bound(sequence: SequenceState, most: int) -> str:
    return f"the {sequence.column_type} column" if most < sequence.most else "it"


def _remedy(sequence: SequenceState, *, is_column: bool) -> str:
    name = table_sql(sequence.schema, sequence.name)
    # AS moves the bound of the old type, and no other.
    is_own_bound = sequence.most < _MOST[sequence.type]
    wider = f"ALTER SEQUENCE {name} AS bigint" + (" NO MAXVALUE" if is_own_bound else "")
    if not is_column:
        is_enough = is_own_bound and sequence.type != "smallint"
        return f"ALTER SEQUENCE {name} NO MAXVALUE" if is_enough else wider
    table = table_sql(sequence.table_schema, sequence.table_name)
    column = sql.Identifier(sequence.column_name).as_string(None)
    alter = f"ALTER TABLE {table} ALTER COLUMN {column} TYPE bigint"
    return alter if sequence.type == "bigint" else f"{alter};\n{wider}"


def _pace(sequence: SequenceState, left: int, writes: Writes) -> tuple[tuple[str, str], ...]:
    rate = writes.rate(f"{sequence.table_schema}.{sequence.table_name}").inserts
    return (("at the present rate of inserts", span_words(left / rate)),) if rate else ()
