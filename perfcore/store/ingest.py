"""What a sender hands to the store, and how it gets there exactly once.

A batch carries its own id, chosen by the sender. The store writes the id and the content in one
transaction, so a batch sent again after a lost answer changes nothing.
"""

from __future__ import annotations

import base64
import contextlib
import json
import zlib
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from perfcore.histogram import Histogram

if TYPE_CHECKING:
    import psycopg
    from psycopg.rows import TupleRow

_VERSION = 2
_OLDEST_VERSION = 1


class SeriesKey(NamedTuple):
    """What a value belongs to."""

    service: str
    metric_type: str
    metric_name: str
    unit: str


@dataclass(frozen=True, slots=True)
class RawSample:
    """One sample, standing for `weight` samples of its series where rows were thinned."""

    series: SeriesKey
    at: datetime
    value: float
    is_error: bool = False
    weight: int = 1


@dataclass(frozen=True, slots=True)
class PackedHistogram:
    """A histogram as the store holds it: what comes out of a spool need not be unpacked."""

    content: bytes
    count: int
    error_count: int
    sum: float
    min: float
    max: float

    def to_bytes(self) -> bytes:
        return self.content


@dataclass(frozen=True, slots=True)
class Rollup:
    """What a series did in (a part of) a minute."""

    series: SeriesKey
    bucket_start: datetime
    histogram: Histogram | PackedHistogram

    def packed(self) -> Rollup:
        """Return it with its histogram packed."""
        h = self.histogram
        packed = PackedHistogram(h.to_bytes(), h.count, h.error_count, h.sum, h.min, h.max)
        return replace(self, histogram=packed)


@dataclass(frozen=True, slots=True)
class EndpointStatement:
    """What an endpoint asked of a statement in (a part of) a minute."""

    bucket_start: datetime
    endpoint: str
    fingerprint: int
    calls: int
    duration_ms: float  # summed over calls
    requests: int  # requests that ran it at least once
    repeated_requests: int  # requests that ran it five times or more
    max_calls: int  # most calls in one request


@dataclass(frozen=True, slots=True)
class Repetition:
    """What requests asked of a statement that they ran again and again (N+1)."""

    bucket_start: datetime
    endpoint: str
    fingerprint: int
    location: str  # "file:line in function" of the application, empty when not known
    requests: int  # that ran it often enough and for long enough
    calls: int  # of it, in these requests
    duration_ms: float  # summed over these calls
    max_calls: int  # most calls in one request


@dataclass(frozen=True, slots=True)
class StreamChunk:
    """A piece of the reference stream, packed by `perfcore.collect.stream`."""

    started_at: datetime  # of its first reference or write
    references: int  # rows in it
    content: bytes


@dataclass(frozen=True, slots=True)
class SlowQuery:
    """One execution over the threshold; `parameters` is JSON, by the parameter policy."""

    slow_query_id: str
    occurred_at: datetime
    endpoint: str
    fingerprint: int
    duration_ms: float
    is_error: bool
    parameters: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Batch:
    """What one process measured between two flushes."""

    batch_id: str  # uuid
    service: str
    process: str  # "host:pid:start"
    sent_at: datetime
    samples: int  # measurements; values that derive from them are in the histograms beside them
    raw: tuple[RawSample, ...] = ()
    rollups: tuple[Rollup, ...] = ()
    endpoint_statements: tuple[EndpointStatement, ...] = ()
    slow_queries: tuple[SlowQuery, ...] = ()
    texts: tuple[tuple[int, str], ...] = ()  # fingerprint, normalised text
    repetitions: tuple[Repetition, ...] = ()
    streams: tuple[StreamChunk, ...] = ()
    was_spooled: bool = False
    totals: dict[str, Any] = field(default_factory=dict)  # the sender's accounting

    def to_bytes(self) -> bytes:
        """Return the batch as compressed JSON, the form in which it waits in a spool."""
        document = {
            "version": _VERSION,
            "head": [self.batch_id, self.service, self.process, _epoch(self.sent_at)],
            "samples": self.samples,
            "raw": [_raw_to_list(s) for s in self.raw],
            "rollups": [_rollup_to_list(r) for r in self.rollups],
            "endpoint_statements": [
                [
                    _epoch(e.bucket_start), e.endpoint, e.fingerprint, e.calls, e.duration_ms,
                    e.requests, e.repeated_requests, e.max_calls,
                ]
                for e in self.endpoint_statements
            ],
            "slow_queries": [
                [
                    q.slow_query_id, _epoch(q.occurred_at), q.endpoint, q.fingerprint,
                    q.duration_ms, q.is_error, q.parameters,
                ]
                for q in self.slow_queries
            ],
            "texts": self.texts,
            "repetitions": [
                [
                    _epoch(r.bucket_start), r.endpoint, r.fingerprint, r.location, r.requests,
                    r.calls, r.duration_ms, r.max_calls,
                ]
                for r in self.repetitions
            ],
            "streams": [
                [_epoch(c.started_at), c.references, base64.b64encode(c.content).decode()]
                for c in self.streams
            ],
            "was_spooled": self.was_spooled,
            "totals": self.totals,
        }  # fmt: skip
        return _deflate(document)

    def to_parts(self) -> tuple[bytes, bytes]:
        """Return the batch without its raw samples, and those: the part to leave behind first."""
        if not self.raw:
            return self.to_bytes(), b""
        return replace(self, raw=()).to_bytes(), _deflate([_raw_to_list(s) for s in self.raw])

    @classmethod
    def from_parts(cls, data: bytes, raw: bytes | None) -> Batch:
        """Return what `to_parts` gave; raw samples that cannot be read are left out."""
        batch = cls.from_bytes(data)
        if not raw:
            return batch
        try:
            return replace(batch, raw=tuple(map(_raw_from_list, json.loads(zlib.decompress(raw)))))
        except (zlib.error, TypeError, ValueError):
            return batch

    @classmethod
    def from_bytes(cls, data: bytes) -> Batch:
        """Return what `to_bytes` wrote; ValueError for bytes of another form or version."""
        try:
            document = json.loads(zlib.decompress(data))
            if not _OLDEST_VERSION <= document["version"] <= _VERSION:
                raise ValueError(f"version {document['version']}")
            return cls._from_document(document)
        except (zlib.error, LookupError, TypeError, ValueError, OverflowError, OSError) as error:
            raise ValueError(f"not a batch of this program: {error}") from error

    @classmethod
    def _from_document(cls, document: dict[str, Any]) -> Batch:
        batch_id, service, process, sent_at = document["head"]
        return cls(
            batch_id,
            service,
            process,
            _instant(sent_at),
            document["samples"],
            raw=tuple(map(_raw_from_list, document["raw"])),
            rollups=tuple(map(_rollup_from_list, document["rollups"])),
            endpoint_statements=tuple(
                EndpointStatement(_instant(r[0]), *r[1:]) for r in document["endpoint_statements"]
            ),
            slow_queries=tuple(
                SlowQuery(r[0], _instant(r[1]), r[2], r[3], r[4], r[5], tuple(r[6]))
                for r in document["slow_queries"]
            ),
            texts=tuple((fp, text) for fp, text in document["texts"]),
            # Not there in what an earlier release wrote.
            repetitions=tuple(
                Repetition(_instant(r[0]), *r[1:]) for r in document.get("repetitions", ())
            ),
            streams=tuple(
                StreamChunk(_instant(at), references, base64.b64decode(content))
                for at, references, content in document.get("streams", ())
            ),
            was_spooled=document["was_spooled"],
            totals=document["totals"],
        )


def _deflate(document: Any) -> bytes:
    return zlib.compress(json.dumps(document, separators=(",", ":")).encode(), 3)


def _raw_to_list(sample: RawSample) -> list[Any]:
    return [*sample.series, _epoch(sample.at), sample.value, sample.is_error, sample.weight]


def _raw_from_list(row: list[Any]) -> RawSample:
    return RawSample(SeriesKey(*row[:4]), _instant(row[4]), *row[5:])


def _rollup_to_list(rollup: Rollup) -> list[Any]:
    h = rollup.histogram
    content = base64.b64encode(h.to_bytes()).decode()
    numbers = [h.count, h.error_count, h.sum, h.min, h.max]
    return [*rollup.series, _epoch(rollup.bucket_start), content, *numbers]


def _rollup_from_list(row: list[Any]) -> Rollup:
    key, at = SeriesKey(*row[:4]), _instant(row[4])
    if len(row) == 6:  # the first version
        return Rollup(key, at, Histogram.from_bytes(base64.b85decode(row[5])))
    return Rollup(key, at, PackedHistogram(base64.b64decode(row[5]), *row[6:]))


def fit_for_store(text: str) -> str:
    """Return the text without what PostgreSQL cannot hold: NUL and lone surrogates.

    >>> fit_for_store("a\\0b")
    'a\ufffdb'
    """
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def _epoch(at: datetime) -> float:
    return at.timestamp()


def _instant(epoch: float) -> datetime:
    return datetime.fromtimestamp(epoch, UTC)


def write_batch(
    connection: psycopg.Connection[TupleRow],
    batch: Batch,
    series_ids: MutableMapping[SeriesKey, int] | None = None,
) -> bool:
    """Store a batch in one transaction; False when it had been stored before.

    `series_ids` remembers ids between batches; it must not outlive the store it was filled
    from. psycopg's errors pass through, and then nothing of the batch is stored, unless the
    connection broke during COMMIT: sending the same batch again is right in every case.
    """
    known = dict(series_ids or {})
    with connection.transaction():
        if not claim(connection, batch):
            return False
        write_rows(connection, [batch], known)
    if series_ids is not None:
        series_ids.update(known)
    return True


def write_batches(
    connection: psycopg.Connection[TupleRow],
    batches: Sequence[Batch],
    series_ids: MutableMapping[SeriesKey, int],
) -> list[int]:
    """Store several batches in one transaction; how many samples of each the store holds now.

    Of a batch that was stored before it is what was stored then. Errors are those of
    `write_batch`, and mean that none of them was stored.
    """
    known = dict(series_ids)
    with connection.transaction():
        new = [batch for batch in batches if claim(connection, batch)]
        write_rows(connection, new, known)
        held = {b.batch_id: b.samples for b in new}
        if len(new) < len(batches):
            held = stored_samples(connection, batches) | held
    series_ids.update(known)
    return [held[b.batch_id] for b in batches]


def claim(connection: psycopg.Connection[TupleRow], batch: Batch) -> bool:
    """Write a batch's row in the ledger; False when it is there already."""
    # Deferred: an application that imports perfcore.collect must not pay for SQLAlchemy.
    from psycopg.types.json import Jsonb

    from perfcore.db import query

    claimed = connection.execute(
        query("ingest_batch"),
        {
            "batch_id": batch.batch_id,
            "service": batch.service,
            "process": batch.process,
            "sent_at": batch.sent_at,
            "samples": batch.samples,
            "raw_samples": len(batch.raw),
            "was_spooled": batch.was_spooled,
            "totals": Jsonb(batch.totals),
        },
    )
    return claimed.fetchone() is not None


def stored_samples(
    connection: psycopg.Connection[TupleRow], batches: Sequence[Batch]
) -> dict[str, int]:
    """Return how many samples of each batch were stored, by batch id."""
    from perfcore.db import query

    ids = {"batch_ids": [b.batch_id for b in batches]}
    return {str(row[0]): int(row[1]) for row in connection.execute(query("ingest_stored"), ids)}


def write_rows(
    connection: psycopg.Connection[TupleRow],
    batches: Sequence[Batch],
    known: dict[SeriesKey, int],
) -> None:
    """Write all rows of the batches, within the caller's transaction."""
    name_series(connection, {r.series for b in batches for r in b.rollups}, known)
    write_texts(connection, {fp: text for b in batches for fp, text in b.texts})
    for table in TABLES:
        copy_rows(connection, table, [row for b in batches for row in table.rows(b, known)])


@dataclass(frozen=True, slots=True)
class Table:
    """A table that takes rows of a batch; `query` is its COPY.

    A store that an earlier release made may lack one that `is_new`: its rows are then left out.
    """

    kind: str
    query: str
    rows: Callable[[Batch, Mapping[SeriesKey, int]], list[tuple[Any, ...]]]
    is_new: bool = False


def name_series(
    connection: psycopg.Connection[TupleRow],
    series: Iterable[SeriesKey],
    known: dict[SeriesKey, int],
) -> None:
    """Make sure that `known` holds the id of each series, naming those that are new."""
    from perfcore.db import query

    new = sorted(set(series) - known.keys())
    if not new:
        return
    services, types, names, units = (list(column) for column in zip(*new, strict=True))
    columns = {"services": services, "types": types, "names": names, "units": units}
    connection.execute(query("ingest_series"), columns)
    for *key, series_id in connection.execute(query("ingest_series_ids"), columns):
        known[SeriesKey(*key)] = series_id


def write_texts(connection: psycopg.Connection[TupleRow], texts: Mapping[int, str]) -> None:
    """Write the texts of statements that are not there yet."""
    from perfcore.db import query

    if texts:
        columns = {"fingerprints": list(texts), "texts": list(texts.values())}
        connection.execute(query("ingest_texts"), columns)


def copy_rows(
    connection: psycopg.Connection[TupleRow], table: Table, rows: Sequence[tuple[Any, ...]]
) -> None:
    """Append rows to a table."""
    if not rows:
        return
    if not table.is_new:
        _copy(connection, table, rows)
        return
    from psycopg.errors import UndefinedTable

    with contextlib.suppress(UndefinedTable), connection.transaction():
        _copy(connection, table, rows)


def _copy(
    connection: psycopg.Connection[TupleRow], table: Table, rows: Sequence[tuple[Any, ...]]
) -> None:
    from perfcore.db import query

    with connection.cursor() as cursor, cursor.copy(query(table.query)) as copy:
        for row in rows:
            copy.write_row(row)


def _rollup_rows(batch: Batch, series_ids: Mapping[SeriesKey, int]) -> list[tuple[Any, ...]]:
    return [
        (
            "minute", r.bucket_start, series_ids[r.series],
            h.count, h.error_count, h.sum, h.min, h.max, h.to_bytes(),
        )
        for r in batch.rollups
        if r.series in series_ids
        for h in (r.histogram,)
    ]  # fmt: skip


def _raw_rows(batch: Batch, series_ids: Mapping[SeriesKey, int]) -> list[tuple[Any, ...]]:
    return [
        (
            s.series.metric_type, s.series.metric_name, s.value, s.at,
            s.series.service, s.series.unit, s.is_error, s.weight,
        )
        for s in batch.raw
    ]  # fmt: skip


def _endpoint_statement_rows(
    batch: Batch, series_ids: Mapping[SeriesKey, int]
) -> list[tuple[Any, ...]]:
    return [
        (
            e.bucket_start, batch.service, e.endpoint, e.fingerprint, e.calls, e.duration_ms,
            e.requests, e.repeated_requests, e.max_calls,
        )
        for e in batch.endpoint_statements
    ]  # fmt: skip


def _repetition_rows(batch: Batch, series_ids: Mapping[SeriesKey, int]) -> list[tuple[Any, ...]]:
    return [
        (
            r.bucket_start, batch.service, r.endpoint, r.fingerprint, r.location, r.requests,
            r.calls, r.duration_ms, r.max_calls,
        )
        for r in batch.repetitions
    ]  # fmt: skip


def _stream_rows(batch: Batch, series_ids: Mapping[SeriesKey, int]) -> list[tuple[Any, ...]]:
    return [
        (c.started_at, batch.service, batch.process, c.references, c.content) for c in batch.streams
    ]


def _slow_query_rows(batch: Batch, series_ids: Mapping[SeriesKey, int]) -> list[tuple[Any, ...]]:
    return [
        (
            q.slow_query_id, q.occurred_at, batch.service, q.endpoint, q.fingerprint,
            q.duration_ms, q.is_error, json.dumps(q.parameters),
        )
        for q in batch.slow_queries
    ]  # fmt: skip


TABLES = (
    Table("rollup", "ingest_rollups", _rollup_rows),
    Table("raw", "ingest_raw", _raw_rows),
    Table("endpoint_statement", "ingest_endpoint_statements", _endpoint_statement_rows),
    Table("slow_query", "ingest_slow_queries", _slow_query_rows),
    Table("repetition", "ingest_repetitions", _repetition_rows, is_new=True),
    Table("stream", "ingest_reference_streams", _stream_rows, is_new=True),
)
