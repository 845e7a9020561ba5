"""A row that the store cannot take costs itself, not its batch.

Such a batch is written again in pieces: what fails is halved until the bad rows are alone, and
those go to the quarantine with the reason. Everything else is stored, in the same transaction.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from perfcore.store.ingest import (
    TABLES,
    Batch,
    Rollup,
    SeriesKey,
    Table,
    claim,
    copy_rows,
    fit_for_store,
    name_series,
    stored_samples,
    write_texts,
)

if TYPE_CHECKING:
    import psycopg
    from psycopg.rows import TupleRow

# Beyond so many bad rows a batch's failing halves are refused whole: it is not worth the time.
MAX_ALONE = 100
_MAX_CONTENT = 500
_Row = TypeVar("_Row")


@dataclass(frozen=True, slots=True)
class Rejected:
    """A row that was not stored."""

    kind: str
    reason: str
    content: str
    samples: int = 0


def is_poison(error: BaseException) -> bool:
    """Return whether sending the same rows again would fail again."""
    import psycopg

    return isinstance(
        error,
        (
            psycopg.DataError,
            psycopg.IntegrityError,
            psycopg.errors.ProgramLimitExceeded,
            psycopg.errors.StatementTooComplex,
            # psycopg's own, while it writes a value: a lone surrogate, a number out of range.
            ValueError,
            TypeError,
            OverflowError,
        ),
    )


def write_apart(
    connection: psycopg.Connection[TupleRow],
    batch: Batch,
    series_ids: MutableMapping[SeriesKey, int],
) -> tuple[int, list[Rejected]]:
    """Store what can be stored of a batch; how many samples that are, and the rows left out.

    Errors that are not about a row pass through, and then nothing is stored.
    """
    known = dict(series_ids)
    with connection.transaction():
        if not _claim(connection, batch):
            return stored_samples(connection, [batch])[batch.batch_id], []
        pieces = _Pieces(connection)
        batch = _name(pieces, batch, known)
        pieces.write("text", list(batch.texts), lambda texts: write_texts(connection, dict(texts)))
        for table in TABLES:
            _write_table(pieces, table, batch, known)
        # Some values derive from others, and only these are counted as samples.
        lost = min(batch.samples, sum(r.samples for r in pieces.rejected))
        _correct(connection, batch, lost, pieces.rejected)
        _quarantine(connection, batch, pieces.rejected)
    series_ids.update(known)
    return batch.samples - lost, pieces.rejected


class _Pieces:
    """Writes rows and gathers those that cannot be."""

    def __init__(self, connection: psycopg.Connection[TupleRow]) -> None:
        self._connection = connection
        self.rejected: list[Rejected] = []

    def write(
        self,
        kind: str,
        rows: Sequence[_Row],
        write: Callable[[Sequence[_Row]], None],
        samples: Callable[[_Row], int] = lambda row: 0,
    ) -> list[_Row]:
        """Write the rows; those that were rejected come back."""
        if not rows:
            return []
        try:
            with self._connection.transaction():
                write(rows)
            return []
        except Exception as error:
            if not is_poison(error):
                raise
            if len(rows) == 1 or len(self.rejected) >= MAX_ALONE:
                for row in rows:
                    self.rejected.append(Rejected(kind, _reason(error), _shown(row), samples(row)))
                return list(rows)
        middle = len(rows) // 2
        first = self.write(kind, rows[:middle], write, samples)
        return first + self.write(kind, rows[middle:], write, samples)


def _name(pieces: _Pieces, batch: Batch, known: dict[SeriesKey, int]) -> Batch:
    """Return the batch without the series that have no name in the store."""
    series = sorted({r.series for r in batch.rollups})
    counts = dict.fromkeys(series, 0)
    for rollup in batch.rollups:
        counts[rollup.series] += rollup.histogram.count
    connection = pieces._connection
    bad = set(
        pieces.write(
            "series", series, lambda some: name_series(connection, some, known), counts.__getitem__
        )
    )
    return replace(
        batch,
        rollups=tuple(r for r in batch.rollups if r.series not in bad),
        raw=tuple(r for r in batch.raw if r.series not in bad),
    )


def _write_table(pieces: _Pieces, table: Table, batch: Batch, known: dict[SeriesKey, int]) -> None:
    rows = table.rows(batch, known)
    counts: dict[int, int] = {}
    if table.kind == "rollup":
        counts = {id(row): _samples(r) for row, r in zip(rows, batch.rollups, strict=True)}
    pieces.write(
        table.kind,
        rows,
        lambda some: copy_rows(pieces._connection, table, some),
        lambda row: counts.get(id(row), 0),
    )


def _samples(rollup: Rollup) -> int:
    return rollup.histogram.count


def _claim(connection: psycopg.Connection[TupleRow], batch: Batch) -> bool:
    """Write the batch's row in the ledger, without the sender's totals if those are the poison."""
    try:
        with connection.transaction():
            return claim(connection, batch)
    except Exception as error:
        if not is_poison(error):
            raise
    plain = {k: v for k, v in batch.totals.items() if isinstance(v, int)}
    process, service = fit_for_store(batch.process), fit_for_store(batch.service)
    return claim(connection, replace(batch, process=process, service=service, totals=plain))


def _correct(
    connection: psycopg.Connection[TupleRow], batch: Batch, lost: int, rejected: list[Rejected]
) -> None:
    from perfcore.db import query

    raw = len(batch.raw) - sum(r.kind == "raw" for r in rejected)
    connection.execute(
        query("ingest_correct_batch"),
        {"batch_id": batch.batch_id, "samples": batch.samples - lost, "raw_samples": raw},
    )


def _quarantine(
    connection: psycopg.Connection[TupleRow], batch: Batch, rejected: list[Rejected]
) -> None:
    """Keep the rejected rows; a store of an older version has no place for them."""
    import psycopg

    from perfcore.db import query

    try:
        with connection.transaction():
            for row in rejected:
                connection.execute(
                    query("ingest_quarantine"),
                    {
                        "batch_id": batch.batch_id,
                        "service": fit_for_store(batch.service),
                        "process": fit_for_store(batch.process),
                        "kind": row.kind,
                        "reason": row.reason,
                        "samples": row.samples,
                        "content": row.content,
                    },
                )
    except psycopg.errors.UndefinedTable:
        pass


def _reason(error: BaseException) -> str:
    state = getattr(error, "sqlstate", None) or type(error).__name__
    text = str(error).strip().splitlines()
    return fit_for_store(f"{state}: {text[0] if text else ''}")[:_MAX_CONTENT]


def _shown(row: Any) -> str:
    return fit_for_store(repr(row))[:_MAX_CONTENT]
