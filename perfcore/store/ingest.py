"""What a sender hands to the store, and how it gets there exactly once.

A batch carries its own id, chosen by the sender. The store writes the id and the content in one
transaction, so a batch sent again after a lost answer changes nothing.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterable, MutableMapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from perfcore.histogram import Histogram

if TYPE_CHECKING:
    import psycopg
    from psycopg.rows import TupleRow

_VERSION = 1


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
class Rollup:
    """What a series did in (a part of) a minute."""

    series: SeriesKey
    bucket_start: datetime
    histogram: Histogram


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
    samples: int  # samples in the histograms
    raw: tuple[RawSample, ...] = ()
    rollups: tuple[Rollup, ...] = ()
    endpoint_statements: tuple[EndpointStatement, ...] = ()
    slow_queries: tuple[SlowQuery, ...] = ()
    texts: tuple[tuple[int, str], ...] = ()  # fingerprint, normalised text
    was_spooled: bool = False
    totals: dict[str, Any] = field(default_factory=dict)  # the sender's accounting

    def to_bytes(self) -> bytes:
        """Return the batch as compressed JSON, the form in which it waits in a spool."""
        document = {
            "version": _VERSION,
            "head": [self.batch_id, self.service, self.process, _epoch(self.sent_at)],
            "samples": self.samples,
            "raw": [[*s.series, _epoch(s.at), s.value, s.is_error, s.weight] for s in self.raw],
            "rollups": [
                [*r.series, _epoch(r.bucket_start), _to_text(r.histogram)]
                for r in self.rollups
            ],
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
            "was_spooled": self.was_spooled,
            "totals": self.totals,
        }  # fmt: skip
        return zlib.compress(json.dumps(document, separators=(",", ":")).encode(), 3)

    @classmethod
    def from_bytes(cls, data: bytes) -> Batch:
        """Return what `to_bytes` wrote; ValueError for bytes of another form or version."""
        try:
            document = json.loads(zlib.decompress(data))
            if document["version"] != _VERSION:
                raise ValueError(f"version {document['version']}")
            return cls._from_document(document)
        except (zlib.error, KeyError, TypeError, ValueError) as error:
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
            raw=tuple(
                RawSample(SeriesKey(*r[:4]), _instant(r[4]), *r[5:]) for r in document["raw"]
            ),
            rollups=tuple(
                Rollup(
                    SeriesKey(*r[:4]),
                    _instant(r[4]),
                    Histogram.from_bytes(base64.b85decode(r[5])),
                )
                for r in document["rollups"]
            ),
            endpoint_statements=tuple(
                EndpointStatement(_instant(r[0]), *r[1:]) for r in document["endpoint_statements"]
            ),
            slow_queries=tuple(
                SlowQuery(r[0], _instant(r[1]), r[2], r[3], r[4], r[5], tuple(r[6]))
                for r in document["slow_queries"]
            ),
            texts=tuple((fp, text) for fp, text in document["texts"]),
            was_spooled=document["was_spooled"],
            totals=document["totals"],
        )


def _to_text(histogram: Histogram) -> str:
    return base64.b85encode(histogram.to_bytes()).decode()


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
    # Deferred: an application that imports perfcore.collect must not pay for SQLAlchemy.
    from psycopg.types.json import Jsonb

    from perfcore.db import query

    known = dict(series_ids or {})
    with connection.transaction():
        claim = connection.execute(
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
        if claim.fetchone() is None:
            return False
        _name_series(connection, batch, known)
        _write_texts(connection, batch)
        _copy(connection, "ingest_rollups", (_rollup_row(r, known) for r in batch.rollups))
        _copy(connection, "ingest_raw", map(_raw_row, batch.raw))
        _copy(
            connection,
            "ingest_endpoint_statements",
            (_endpoint_statement_row(batch.service, e) for e in batch.endpoint_statements),
        )
        _copy(
            connection,
            "ingest_slow_queries",
            (_slow_query_row(batch.service, q) for q in batch.slow_queries),
        )
    if series_ids is not None:
        series_ids.update(known)
    return True


def _name_series(
    connection: psycopg.Connection[TupleRow], batch: Batch, known: dict[SeriesKey, int]
) -> None:
    from perfcore.db import query

    new = sorted({r.series for r in batch.rollups} - known.keys())
    if not new:
        return
    services, types, names, units = (list(column) for column in zip(*new, strict=True))
    columns = {"services": services, "types": types, "names": names, "units": units}
    connection.execute(query("ingest_series"), columns)
    for *key, series_id in connection.execute(query("ingest_series_ids"), columns):
        known[SeriesKey(*key)] = series_id


def _write_texts(connection: psycopg.Connection[TupleRow], batch: Batch) -> None:
    from perfcore.db import query

    if batch.texts:
        fingerprints, texts = (list(column) for column in zip(*batch.texts, strict=True))
        connection.execute(query("ingest_texts"), {"fingerprints": fingerprints, "texts": texts})


def _copy(
    connection: psycopg.Connection[TupleRow], name: str, rows: Iterable[tuple[Any, ...]]
) -> None:
    from perfcore.db import query

    rows = list(rows)
    if not rows:
        return
    with connection.cursor() as cursor, cursor.copy(query(name)) as copy:
        for row in rows:
            copy.write_row(row)


def _rollup_row(rollup: Rollup, series_ids: dict[SeriesKey, int]) -> tuple[Any, ...]:
    h = rollup.histogram
    return (
        "minute", rollup.bucket_start, series_ids[rollup.series],
        h.count, h.error_count, h.sum, h.min, h.max, h.to_bytes(),
    )  # fmt: skip


def _raw_row(sample: RawSample) -> tuple[Any, ...]:
    key = sample.series
    return (
        key.metric_type, key.metric_name, sample.value, sample.at,
        key.service, key.unit, sample.is_error, sample.weight,
    )  # fmt: skip


def _endpoint_statement_row(service: str, e: EndpointStatement) -> tuple[Any, ...]:
    return (
        e.bucket_start, service, e.endpoint, e.fingerprint, e.calls, e.duration_ms,
        e.requests, e.repeated_requests, e.max_calls,
    )  # fmt: skip


def _slow_query_row(service: str, q: SlowQuery) -> tuple[Any, ...]:
    return (
        q.slow_query_id, q.occurred_at, service, q.endpoint, q.fingerprint, q.duration_ms,
        q.is_error, json.dumps(q.parameters),
    )  # fmt: skip
