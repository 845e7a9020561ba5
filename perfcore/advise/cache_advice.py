"""Which answers an application should keep, for how long and at which price in staleness."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from perfcore.advise import caching
from perfcore.advise.caching import CacheCurves, CachePoint, CacheShare, Replay, change_instants
from perfcore.advise.gains import endpoint_gains, gain_of, short
from perfcore.advise.identity import suggestion_id
from perfcore.advise.statement import StatementShape, Unparsable, read_statement
from perfcore.advise.workload import Endpoints, Options, Writes
from perfcore.store.read_streams import Floats, References, ReferenceStream
from perfcore.types import (
    Catalog,
    EndpointGain,
    Evidence,
    Finding,
    StatementGain,
    Suggestion,
    WorkloadStatement,
)

TIME_LIMIT_S = 8.0
MIN_REFERENCES = 50
MIN_SPAN_S = 60.0
MIN_HIT_RATE = 0.2
_MOST_STATEMENTS, _MOST_ENDPOINTS = 40, 20
_ENTRY_OVERHEAD_BYTES = 120  # key, bookkeeping and the pointers of a dict
_ROW_OVERHEAD_BYTES = 56
_VOLATILE = re.compile(
    r"\b(random|nextval|currval|lastval|setval|clock_timestamp|timeofday|gen_random_uuid|uuidv[47]|"
    r"pg_(?:try_)?advisory\w*|pg_sleep\w*|txid_\w+|pg_current_\w+|set_config)\s*\(",
    re.IGNORECASE,
)
_PERSONAL = re.compile(r"\b(current_user|session_user|current_role|current_setting)\b", re.I)
_CLOCK = re.compile(
    r"\b(now\s*\(|transaction_timestamp\s*\(|statement_timestamp\s*\(|"
    r"current_(?:date|time|timestamp)\b|local(?:time|timestamp)\b)",
    re.IGNORECASE,
)
_NOTHING_TO_KEEP = "none of its statements may be kept, or too little is known of them"
_NO_STREAM = (
    "This is a guess from the statement's text: no reference stream of it has come from an "
    "application, or not enough yet. With one it is replayed."
)


@dataclass(frozen=True, slots=True)
class CachedStatement:
    """One of the statements of an endpoint, before the cache that is suggested for it."""

    text: str
    fingerprint: int
    queryid: int | None
    reads_per_hour: float  # of the endpoint
    total_ms_per_hour: float  # that the endpoint waits for it
    hit_rate: float
    saved_ms_per_hour: float
    reason: str  # why its answers are not kept, empty where they are
    changes_per_hour: float = 0.0
    fastest_table: str = ""  # of those that it reads, the one whose writes change it most often

    @property
    def is_kept(self) -> bool:
        return not self.reason


@dataclass(frozen=True, slots=True)
class CacheReplay:
    """What the replay says of a statement, or of all reads of an endpoint."""

    name: str  # the statement's text, or the endpoint
    total_ms_per_hour: float  # that the application waited for it
    reason: str  # in words, why it is worth a cache or not
    fingerprint: int | None = None  # of a statement
    queryid: int | None = None
    service: str = ""  # of an endpoint
    is_suggested: bool = False
    is_judged: bool = False  # enough is known to say yes or no
    entry_bytes: int | None = None  # of one answer with its key, by the columns' mean widths
    endpoints: tuple[str, ...] = ()  # that ran it
    tables: tuple[str, ...] = ()  # whose writes change its answers
    fastest_table: str = ""  # the one of them that changes most often: it bounds the TTL
    fastest_changes_per_hour: float = 0.0
    statements: tuple[CachedStatement, ...] = ()  # of an endpoint, the dearest first
    curves: CacheCurves | None = None  # None: it is never to be kept, or too little was seen


@dataclass(frozen=True, slots=True)
class CacheAdvice:
    """What a round found out about caches."""

    suggestions: tuple[Suggestion, ...] = ()
    replays: tuple[CacheReplay, ...] = ()


# By schema.table: start and end of an interval, s since the epoch, and the rows written in it.
UnseenWrites = Mapping[str, Sequence[tuple[float, float, float]]]


def advise_caches(
    catalog: Catalog,
    workload: Sequence[WorkloadStatement],
    stream: ReferenceStream,
    *,
    endpoints: Endpoints | None = None,
    options: Options | None = None,
    unseen_writes: UnseenWrites | None = None,
    time_limit_s: float = TIME_LIMIT_S,
    clock: Callable[[], float] = time.monotonic,
) -> CacheAdvice:
    """Return what caches would save, the statement that takes most time first.

    What there was no time for has that as its reason; the next round begins with the dearest again.

    `unseen_writes` are those of the server's own counters: where a table was written and no hook
    saw it, its results changed all the same.
    """
    this = _Round(
        catalog, workload, stream, endpoints or {}, options or Options(), unseen_writes or {}
    )
    until = clock() + time_limit_s
    this.is_over = lambda: clock() >= until
    return this.run()


@dataclass
class _Round:
    catalog: Catalog
    workload: Sequence[WorkloadStatement]
    stream: ReferenceStream
    endpoints: Endpoints
    options: Options
    unseen_writes: UnseenWrites
    is_over: Callable[[], bool] = lambda: False
    changes: dict[int, Floats] = field(default_factory=dict)  # by fingerprint, as replayed
    fastest: dict[int, tuple[str, float]] = field(default_factory=dict)  # table, changes an hour
    left_out: dict[int, str] = field(default_factory=dict)  # by fingerprint: why nothing is kept
    own: dict[int, str] = field(default_factory=dict)  # by fingerprint: suggested for it alone

    def run(self) -> CacheAdvice:
        self.by_fingerprint = {s.fingerprint: s for s in self.workload}
        self.shapes = {s.fingerprint: self._shape(s) for s in self.workload if self._is_seen(s)}
        self.spent_ms = self._spent_ms()
        statements = [
            s for s in self.workload if s.fingerprint in self.stream.calls and self._reads(s)
        ]
        statements.sort(key=lambda s: (-self.spent_ms.get(s.fingerprint, 0.0), s.fingerprint))
        suggestions, replays = [], []
        for statement in statements[:_MOST_STATEMENTS]:
            replay = self._statement(statement)
            replays.append(replay)
            if replay.is_suggested and replay.curves and replay.curves.best:
                suggestions.append(self._suggestion(statement, replay, replay.curves.best))
                self.own[statement.fingerprint] = suggestions[-1].suggestion_id
        endpoints = self._endpoints()
        suggestions += [s for r in endpoints if (s := self._for_endpoint(r)) is not None]
        return CacheAdvice(tuple(suggestions), (*replays, *endpoints))

    def _reads(self, statement: WorkloadStatement) -> bool:
        """Say whether it reads anything: version() and its like are nobody's concern."""
        shape = self.shapes[statement.fingerprint]
        return shape is None or bool(shape.uses or shape.unknown_relations)

    def _is_seen(self, statement: WorkloadStatement) -> bool:
        return statement.fingerprint in self.stream.calls or (
            statement.fingerprint in self.stream.writes
        )

    def _shape(self, statement: WorkloadStatement) -> StatementShape | None:
        try:
            return read_statement(statement.text, self.catalog)
        except Unparsable:
            return None

    def _spent_ms(self) -> dict[int, float]:
        refs = self.stream.references
        spent: dict[int, float] = {}
        for fp, calls in self.stream.calls.items():
            mine = refs.fingerprint == fp
            if seen := int(refs.calls[mine].sum()):
                spent[fp] = calls * float(refs.duration_ms[mine].sum()) / seen
        return spent

    # Statements

    def _statement(self, statement: WorkloadStatement) -> CacheReplay:
        fp, shape = statement.fingerprint, self.shapes.get(statement.fingerprint)
        mine = self.stream.references.where(self.stream.references.fingerprint == fp)
        places = dict.fromkeys(self.stream.endpoints[n][1] for n in mine.endpoint.tolist())
        base = CacheReplay(
            statement.text, self._per_hour(self.spent_ms.get(fp, 0.0)), "", fp,
            statement.queryid, endpoints=tuple(p for p in places if p != "(unattributed)"),
        )  # fmt: skip
        never = _never(statement, shape)
        reason = never or self._too_little(fp, mine) or self._too_late()
        if reason or shape is None:
            self.left_out[fp] = reason
            return replace(base, reason=reason, is_judged=bool(never))
        by_table = self._changes(shape)
        self.changes[fp] = change_instants(
            list(by_table.values()), self.stream.start_s, self.stream.end_s
        )
        table, times = max(
            ((t, float(len(at))) for t, at in by_table.items()), key=lambda f: (f[1], f[0])
        )
        self.fastest[fp] = (table, self._per_hour(times)) if times else ("", 0.0)
        curves = Replay(
            mine, {fp: self.stream.calls[fp]}, {fp: self.changes[fp]}, self.stream.span_s
        ).curves()
        reason = self._not_worth_it(curves, self.fastest[fp])
        return replace(
            base,
            reason=reason or _worth(curves),
            is_suggested=not reason,
            is_judged=True,
            fastest_table=self.fastest[fp][0],
            fastest_changes_per_hour=self.fastest[fp][1],
            entry_bytes=self._entry_bytes(statement, shape),
            tables=tuple(sorted({u.qualified_name for u in shape.uses})),
            curves=curves,
        )

    def _too_little(self, fp: int, mine: References) -> str:
        """Say why the stream does not tell enough, empty where it does."""
        without = self.stream.without_key.get(fp, 0)
        if without > self.stream.calls[fp]:
            return (
                f"{without:,} of its executions have parameters of which no key can be made: "
                "types other than numbers, texts, bytes, dates, decimals and UUIDs, or over 64 kB"
            )
        if self.stream.span_s < MIN_SPAN_S or len(mine) < MIN_REFERENCES:
            return (
                f"too little is known: {len(mine):,} references in {self.stream.span_s / 60:,.1f} "
                f"min of the stream; {MIN_REFERENCES} in at least a minute are wanted"
            )
        return ""

    def _too_late(self) -> str:
        return "the round's time was over before it was its turn" if self.is_over() else ""

    def _changes(self, shape: StatementShape) -> dict[str, Floats]:
        """Return when writes to each of its tables may have changed the results of a read."""
        found: dict[str, list[Floats]] = {u.qualified_name: [] for u in shape.uses}
        for fp, instants in self.stream.writes.items():
            writer = self.shapes.get(fp)
            for table in _changed_tables(writer, shape) if writer is not None else ():
                found[table].append(instants)
        return {
            table: change_instants(
                [*writes, self._unseen(table)], self.stream.start_s, self.stream.end_s
            )
            for table, writes in found.items()
        }

    def _unseen(self, table: str) -> Floats:
        """Return instants for the writes that the server counted where no hook saw one."""
        seen = [
            at for fp, at in self.stream.writes.items()
            if (shape := self.shapes.get(fp)) is not None and shape.written_table == table
        ]  # fmt: skip
        return caching.unseen_instants(seen, self.unseen_writes.get(table, ()))

    def _not_worth_it(self, curves: CacheCurves, fastest: tuple[str, float]) -> str:
        best = curves.best
        if curves.longest_ttl_s is None:
            return "the stream is too short to judge any TTL"
        if curves.most_repeated < MIN_HIT_RATE:
            return (
                f"its parameters seldom come again: kept for {seconds(curves.longest_ttl_s)}, an "
                f"answer would serve {100 * curves.most_repeated:.0f} % of its reads"
            )
        if best is None or best.hit_rate < MIN_HIT_RATE:
            return _too_busy(curves, fastest)
        if best.saved_ms_per_hour < caching.MIN_MS_PER_HOUR:
            return (
                f"a cache would save {best.saved_ms_per_hour / 1000:,.1f} s an hour, under the "
                f"{caching.MIN_MS_PER_HOUR / 1000:,.0f} s that are worth its upkeep"
            )
        return ""

    def _entry_bytes(self, statement: WorkloadStatement, shape: StatementShape) -> int:
        rows = statement.rows / statement.calls if statement.calls else 1.0
        width = sum(self._width(shape, name) for name in {u.qualified_name for u in shape.uses})
        return round(_ENTRY_OVERHEAD_BYTES + rows * (_ROW_OVERHEAD_BYTES + width))

    def _width(self, shape: StatementShape, name: str) -> int:
        table = next((t for t in self.catalog.tables if t.qualified_name == name), None)
        if table is None:
            return 0
        uses = shape.uses_of(name)
        columns = {c for u in uses for c in u.columns}
        everything = any(u.reads_all_columns for u in uses)
        return sum(c.avg_width_bytes or 8 for c in table.columns if everything or c.name in columns)

    # Endpoints

    def _endpoints(self) -> list[CacheReplay]:
        """Replay the reads of each endpoint that has statements which may be kept."""
        refs = self.stream.references
        spent = [
            (float((refs.duration_ms * refs.weight)[refs.endpoint == n].sum()), n)
            for n in range(len(self.stream.endpoints))
            if self.stream.endpoints[n][1] != "(unattributed)"
        ]
        spent.sort(key=lambda pair: (-pair[0], pair[1]))
        return [self._endpoint(n, ms) for ms, n in spent[:_MOST_ENDPOINTS] if ms > 0]

    def _endpoint(self, place: int, spent_ms: float) -> CacheReplay:
        service, endpoint = self.stream.endpoints[place]
        every = self.stream.references
        mine = every.where(every.endpoint == place)
        base = CacheReplay(endpoint, self._per_hour(spent_ms), "", service=service)
        fps = [int(fp) for fp in sorted(set(mine.fingerprint.tolist()))]
        reads = {fp: float((mine.calls * mine.weight)[mine.fingerprint == fp].sum()) for fp in fps}
        able = [fp for fp in fps if fp in self.changes]
        table, changes = max(
            (self.fastest[fp] for fp in able), key=lambda f: (f[1], f[0]), default=("", 0.0)
        )
        base = replace(base, fastest_table=table, fastest_changes_per_hour=changes)
        spent = {fp: self._spent_by(mine, fp) for fp in fps}
        if reason := self._too_late() if able else _NOTHING_TO_KEEP:
            shares = [CacheShare(fp, reads[fp], 0.0, 0.0, is_kept=False) for fp in fps]
            return replace(base, reason=reason, statements=self._parts(shares, spent, 0.0))
        curves = Replay(
            mine,
            reads,
            {fp: self.changes[fp] for fp in able},
            self.stream.span_s,
            is_endpoint=True,
            never=frozenset(fps) - frozenset(able),
        ).curves()
        reason = self._not_worth_it(curves, (table, changes))
        shown = curves.best or curves.by_ttl[0]
        return replace(
            base,
            reason=reason or _worth(curves),
            is_suggested=not reason,
            is_judged=True,
            endpoints=(endpoint,),
            tables=tuple(sorted({t for fp in able for t in self._tables(fp)})),
            statements=self._parts(curves.shares, spent, shown.ttl_s),
            curves=curves,
        )

    def _spent_by(self, mine: References, fp: int) -> float:
        return float((mine.duration_ms * mine.weight)[mine.fingerprint == fp].sum())

    def _tables(self, fp: int) -> set[str]:
        shape = self.shapes.get(fp)
        return {u.qualified_name for u in shape.uses} if shape else set()

    def _parts(
        self, shares: Iterable[CacheShare], spent_ms: Mapping[int, float], ttl_s: float
    ) -> tuple[CachedStatement, ...]:
        """Return the statements of an endpoint with what the cache does to each."""
        found = []
        for share in shares:
            fp = share.fingerprint
            known = self.by_fingerprint.get(fp)
            table, changes = self.fastest.get(fp, ("", 0.0))
            found.append(
                CachedStatement(
                    text=known.text if known else "",
                    fingerprint=fp,
                    queryid=known.queryid if known else None,
                    reads_per_hour=self._per_hour(share.reads),
                    total_ms_per_hour=self._per_hour(spent_ms[fp]),
                    hit_rate=share.hit_rate,
                    saved_ms_per_hour=share.saved_ms_per_hour,
                    reason="" if share.is_kept else self._why_not_kept(fp, ttl_s),
                    changes_per_hour=changes,
                    fastest_table=table,
                )
            )
        return tuple(sorted(found, key=lambda s: (-s.total_ms_per_hour, s.fingerprint)))

    def _why_not_kept(self, fp: int, ttl_s: float) -> str:
        if fp in self.left_out:
            return self.left_out[fp]
        if fp in self.fastest:
            table, changes = self.fastest[fp]
            return f"{table} changes {_every(changes)}, faster than a TTL of {seconds(ttl_s)}"
        return "it runs in another database, or takes too little time to be looked at"

    def _per_hour(self, spent_ms: float) -> float:
        return spent_ms * 3600.0 / self.stream.span_s if self.stream.span_s else 0.0

    # The suggestions

    def _suggestion(
        self, statement: WorkloadStatement, replay: CacheReplay, best: CachePoint
    ) -> Suggestion:
        curves = replay.curves
        assert curves is not None
        mean = statement.mean_exec_time_ms
        gain = gain_of(statement, 1.0, 1.0, mean * (1 - best.hit_rate))
        return Suggestion(
            suggestion_id=suggestion_id(
                self.options.target_id, "cache", f"cache/{statement.fingerprint}"
            ),
            target_id=self.options.target_id,
            kind="cache",
            title=f"Keep the answer to {short(statement.text)} for {seconds(best.ttl_s)}",
            reason=_reason(curves, best),
            finding=_finding(curves, best, replay),
            evidence=Evidence.ESTIMATED,
            saved_ms_per_hour=gain.saved_ms_per_hour,
            risk=staleness(curves, best),
            statements=(gain,),
            endpoints=endpoint_gains(self.endpoints, (gain,)),
            caveats=tuple(_caveats(statement.text, replay, curves)),
            verify=_VERIFY,
        )

    def _for_endpoint(self, replay: CacheReplay) -> Suggestion | None:
        """Return what to keep for an endpoint beyond what is suggested for single statements.

        Answers that are each worth too little to be kept may be worth it together.
        """
        curves, best = replay.curves, replay.curves.best if replay.curves else None
        parts = [s for s in replay.statements if s.is_kept and s.fingerprint not in self.own]
        saved_ms = sum(s.saved_ms_per_hour for s in parts)
        if not replay.is_suggested or curves is None or best is None:
            return None
        if saved_ms < caching.MIN_MS_PER_HOUR:
            return None
        gains = tuple(self._gain_within(s) for s in parts if s.saved_ms_per_hour > 0)
        others = len(replay.statements) - len(gains)
        also = (
            f" {others} of its {len(replay.statements)} statements are left out: they change "
            "faster, must not be kept, or have a suggestion of their own."
            if others
            else ""
        )
        several = "answer" if len(gains) == 1 else f"answers of {len(gains)} statements"
        return Suggestion(
            suggestion_id=suggestion_id(
                self.options.target_id, "cache", f"cache/{replay.service}/{replay.name}"
            ),
            target_id=self.options.target_id,
            kind="cache",
            title=f"Keep the {several} in {replay.name} for {seconds(best.ttl_s)}",
            reason=_reason(curves, best) + also,
            finding=_finding(curves, best, replay),
            evidence=Evidence.ESTIMATED,
            saved_ms_per_hour=sum(g.saved_ms_per_hour for g in gains),
            risk=staleness(curves, best),
            statements=gains,
            endpoints=self._endpoint_gain(replay, parts),
            caveats=tuple(_caveats(" ".join(s.text for s in parts), replay, curves)),
            verify=_VERIFY,
        )

    def _gain_within(self, part: CachedStatement) -> StatementGain:
        """Return a statement's gain where only one endpoint's reads of it are kept."""
        statement = self.by_fingerprint[part.fingerprint]
        of_endpoint = part.reads_per_hour / max(
            self._per_hour(self.stream.calls[part.fingerprint]), part.reads_per_hour
        )
        mean = statement.mean_exec_time_ms
        return gain_of(statement, 1.0, 1.0, mean * (1 - part.hit_rate * of_endpoint))

    def _endpoint_gain(
        self, replay: CacheReplay, parts: Sequence[CachedStatement]
    ) -> tuple[EndpointGain, ...]:
        saved_ms, requests = 0.0, 0.0
        for part in parts:
            mean = self.by_fingerprint[part.fingerprint].mean_exec_time_ms
            for use in self.endpoints.get(part.fingerprint, ()):
                if (use.service, use.endpoint) == (replay.service, replay.name):
                    saved_ms += mean * part.hit_rate * use.calls_per_request
                    requests = max(requests, use.requests_per_hour)
        if not requests:
            return ()
        return (EndpointGain(replay.service, replay.name, saved_ms, requests),)


_VERIFY = (
    "The statement's calls an hour fall to the misses: see its page, and the hit rate that the "
    "cache itself counts."
)


def _changed_tables(writer: StatementShape, reader: StatementShape) -> set[str]:
    """Return the tables of a read in which a write may change what the read returns."""
    if not writer.written_table:
        written = {u.qualified_name for u in writer.uses}
        return written & {u.qualified_name for u in reader.uses}
    changed = set(writer.written_columns) if writer.command == "update" else set()
    return {
        use.qualified_name
        for use in reader.uses_of(writer.written_table)
        if not changed or use.reads_all_columns or changed & set(use.columns)
    }


def _never(statement: WorkloadStatement, shape: StatementShape | None) -> str:
    """Say why an answer must never be kept, empty where it may be."""
    if shape is None:
        return "its text could not be parsed, so nobody knows which writes change its answers"
    if shape.command != "select":
        return "it is not a plain read"
    if found := _VOLATILE.search(statement.text):
        return f"it calls {found[1].lower()}(), which answers differently each time or has effects"
    if found := _PERSONAL.search(statement.text):
        return f"it asks for {found[1].lower()}, so its answer is not the same for every session"
    if shape.unknown_relations:
        names = ", ".join(shape.unknown_relations[:3])
        return f"it reads {names}, which is no table: nobody knows which writes change it"
    return ""


def _too_busy(curves: CacheCurves, fastest: tuple[str, float]) -> str:
    table, changes = fastest
    return (
        f"its results may change {_every(curves.changes_per_hour)} (writes to its tables, most "
        f"often to {table}, {_every(changes)}), and no TTL shorter than that serves enough of its "
        "reads a true answer"
    )


def _every(changes_per_hour: float) -> str:
    return f"every {seconds(3600 / changes_per_hour)}" if changes_per_hour else "never"


def _worth(curves: CacheCurves) -> str:
    best = curves.best
    assert best is not None
    return (
        f"kept for {seconds(best.ttl_s)}, {100 * best.hit_rate:.0f} % of its reads would find an "
        f"answer, which saves {best.saved_ms_per_hour / 1000:,.1f} s an hour"
    )


def _reason(curves: CacheCurves, best: CachePoint) -> str:
    if not curves.changes_per_hour:
        changes = "Nothing that it reads was written meanwhile."
    elif len(curves.shares) > 1:
        changes = "Only results that change slower than that are kept."
    else:
        changes = f"What it reads may change {_every(curves.changes_per_hour)}, slower than that."
    asked = (
        "all with the same parameters"
        if curves.keys <= 1
        else f"with {curves.keys:,} different parameters"
    )
    size = "one entry is" if best.entries == 1 else f"{_entries(best)} are"
    limit = "" if best.entries is None else f", and {size} nearly as good as no limit"
    return (
        f"Its last {curves.span_s / 60:,.0f} minutes were replayed through a cache that starts "
        f"empty: {curves.reads:,} reads, {asked}. A TTL of {seconds(best.ttl_s)} saves nearly as "
        f"much as the longest that its writes allow{limit}. {changes}"
    )


def _finding(curves: CacheCurves, best: CachePoint, replay: CacheReplay) -> Finding:
    size = "" if replay.entry_bytes is None else _megabytes(replay.entry_bytes, best, curves)
    return Finding(
        "cacheable",
        f"{100 * best.hit_rate:.1f} % of its reads ask for what was answered less than "
        f"{seconds(best.ttl_s)} before.",
        (
            ("TTL", seconds(best.ttl_s)),
            ("size", _entries(best) + (f", about {size}" if size else "")),
            ("hit rate, one cache for all processes", f"{100 * best.hit_rate:.1f} %"),
            ("hit rate, a cache in each process", f"{100 * curves.per_process_hit_rate:.1f} %"),
            (
                "waiting saved in the application",
                f"{best.saved_ms_per_hour / 1000:,.1f} of "
                f"{curves.total_ms_per_hour / 1000:,.1f} s an hour",
            ),
            ("stale hits", f"{100 * best.stale_share:.1f} %"),
            ("keys replayed", f"{100 * curves.sampled:.0f} %"),
        ),
    )


def staleness(curves: CacheCurves, best: CachePoint) -> str:
    """Say in words how old an answer gets."""
    most = f"no answer is older than {seconds(best.ttl_s)}"
    if not curves.changes_per_hour:
        return (
            f"Nothing was written to its tables in these {curves.span_s / 60:,.0f} minutes, so no "
            f"hit would have been stale; {most}."
        )
    if not best.stale_share:
        return f"No hit would have shown what a write had already changed; {most}."
    return (
        f"{100 * best.stale_share:.1f} % of the hits would show an answer that a write had "
        f"changed, {seconds(best.stale_age_s)} before on the average; {most}."
    )


def _caveats(text: str, replay: CacheReplay, curves: CacheCurves) -> Iterable[str]:
    if curves.changes_per_hour:
        tables = ", ".join(replay.tables)
        yield (
            f"Each write to {tables} is taken to change every answer. Dropping entries when the "
            "application writes makes them true again at once."
        )
    if _CLOCK.search(text):
        yield "It asks for the time: what the clock alone would change is late by up to the TTL."
    yield "A transaction that goes on to write what it read must not read it from a cache."
    yield "Reckoned with its time of today: where an index makes it faster, a cache saves less."


def _entries(best: CachePoint) -> str:
    if best.entries is None:
        return "no limit"
    return "1 entry" if best.entries == 1 else f"{best.entries:,} entries"


def _megabytes(entry_bytes: int, best: CachePoint, curves: CacheCurves) -> str:
    entries = min(best.entries or curves.keys, curves.keys)
    size = entries * entry_bytes
    return f"{size / 1e6:,.1f} MB" if size >= 1e5 else f"{size / 1e3:,.1f} kB"


def seconds(length_s: float) -> str:
    """Return a length of time with its unit.

    >>> seconds(0.25), seconds(30), seconds(600), seconds(5400)
    ('0.25 s', '30 s', '10 min', '1.5 h')
    """
    if length_s >= 3600:
        return f"{length_s / 3600:.2g} h"
    if length_s >= 120:
        return f"{length_s / 60:.2g} min" if length_s < 600 else f"{length_s / 60:.0f} min"
    return f"{length_s:.2g} s" if length_s < 10 else f"{length_s:.0f} s"


# Without a stream


def guesses(
    statement: WorkloadStatement,
    shape: StatementShape,
    writes: Writes,
    endpoints: Endpoints,
    options: Options,
) -> list[Suggestion]:
    """Return a guess for a read without parameters, where no stream can be replayed."""
    found = caching.cacheable(statement, shape, writes)
    if found is None or _never(statement, shape):
        return []
    mean = statement.mean_exec_time_ms
    gain = gain_of(statement, 1.0, 1.0, mean * (1 - found.hit_rate))
    return [
        Suggestion(
            suggestion_id=suggestion_id(
                options.target_id, "cache", f"cache/{statement.fingerprint}"
            ),
            target_id=options.target_id,
            kind="cache",
            title=f"Keep the answer to {short(statement.text)} for {found.ttl_s:.0f} s",
            reason=(
                "It takes no parameters, so everybody gets the same answer, and what it reads "
                "hardly changes. Kept in the application's memory it would run "
                f"{found.runs_per_hour:.0f} times an hour and process."
            ),
            finding=Finding(
                "cacheable",
                f"It is asked {statement.calls_per_hour:,.0f} times an hour; its tables change "
                f"{found.writes_per_hour:,.0f} times an hour where it reads them.",
                (
                    ("hit rate expected", f"{100 * found.hit_rate:.1f} %"),
                    ("mean time", f"{mean:,.2f} ms"),
                ),
            ),
            evidence=Evidence.ESTIMATED,
            saved_ms_per_hour=found.saved_ms_per_hour,
            statements=(gain,),
            endpoints=endpoint_gains(endpoints, (gain,)),
            caveats=(f"Readers may see an answer up to {found.ttl_s:.0f} s old.", _NO_STREAM),
        )
    ]
