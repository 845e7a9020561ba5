"""The parts of the page on caches: hit ratios, and the replay of an application's reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pandas as pd
import streamlit as st

from perfcore import charts
from perfcore.advise.cache_advice import CacheReplay, seconds, staleness
from perfcore.advise.caching import CacheCurves, CachePoint
from perfcore.codec import CodecError, from_json
from perfcore.normalise import fingerprint_hex
from perfcore.store import read
from perfcore.store.read import StoredReplay, StreamState, TargetState
from perfcore.ui import frame, parts, words
from perfcore.ui.system import INSTRUMENT

HIT_RATIO = (
    "Blocks of 8 kB that PostgreSQL found in its shared buffers, of all it asked for. What it "
    "read may still have come from the operating system's cache, which nobody counts."
)
REPLAY = (
    "Instrumented applications send a sampled stream of their reads, parameters hashed. The "
    "advisor replays its last hour through caches of every TTL and size (LRU), with the writes to "
    "the tables; each cache starts empty. Time is what the application waited for the database."
)
_TTL_TICKS = ((1, "1 s"), (5, "5 s"), (20, "20 s"), (60, "1 min"), (300, "5 min"),
              (1200, "20 min"), (3600, "1 h"))  # fmt: skip


STATEMENTS, ENDPOINTS = "statements", "endpoints"


@dataclass(frozen=True, slots=True)
class Shown:
    """A replay with where and when it was made."""

    target: str
    replayed_at: datetime
    replay: CacheReplay

    @property
    def subject(self) -> str:
        """Return what names it in the URL."""
        fp = self.replay.fingerprint
        return endpoint_subject(self.replay) if fp is None else fingerprint_hex(fp)

    @property
    def by(self) -> str:
        """Return which of the two lists it stands in."""
        return ENDPOINTS if self.replay.fingerprint is None else STATEMENTS

    @property
    def best(self) -> CachePoint | None:
        return self.replay.curves.best if self.replay.curves else None


def of_target(target: TargetState) -> str:
    return f"of {words.plain(target.name)} · table and indexes together, most read first"


def statements(ran: pd.DataFrame) -> None:
    """Draw statements by what they read from outside of shared buffers."""
    rows = ran.sort_values(["blks_read", "blks_hit"], ascending=False)
    rows = rows.assign(
        text=[words.gist(t) for t in rows["text"]],
        read_per_call=rows["blks_read"] / rows["calls"].where(rows["calls"] > 0),
        queryid=rows["queryid"].astype(str),
    )
    parts.table(
        rows,
        {
            "text": parts.text("Query", "The statement; a long select list is left out.", 380),
            "hit_ratio": parts.bar("Hit ratio", HIT_RATIO, width=140),
            "blks_hit": parts.number("Blocks hit", "%,d", "Found in shared buffers.", 105),
            "blks_read": parts.number("Blocks read", "%,d", "Read from outside of them.", 105),
            "read_per_call": parts.number(
                "Read/call", "%.1f", "Blocks read from outside, per execution.", 85
            ),
            "calls": parts.number("Calls", "%,d", "Executions in the range.", 80),
            "mean_ms": parts.number("Mean", "%.1f ms", "Mean execution time, by the server.", 85),
        },
        key="cache_statements",
        opens=lambda row: frame.open_page("query", queryid=row["queryid"]),
        max_rows=10,
    )


def replays(stored: Sequence[StoredReplay]) -> list[Shown]:
    """Return what can be read of the replays, those that save most first."""
    found = []
    for each in stored:
        try:
            replay = from_json(CacheReplay, each.body)
        except CodecError:  # of another release; the next round writes it anew
            continue
        found.append(Shown(each.target, each.replayed_at, replay))
    return sorted(found, key=_rank)


def _rank(shown: Shown) -> tuple[float, float]:
    return -round(_saved_s(shown)), -shown.replay.total_ms_per_hour


def _saved_s(shown: Shown) -> float:
    is_worth_it = shown.replay.is_suggested and shown.best is not None
    return shown.best.saved_ms_per_hour / 1000 if is_worth_it and shown.best else 0.0


def note(shown: Sequence[Shown]) -> str:
    """Return when and of how long a stream it was replayed."""
    last = max(s.replayed_at for s in shown)
    spans = [s.replay.curves.span_s for s in shown if s.replay.curves]
    length = f" the last {max(spans) / 60:,.0f} min" if spans else ""
    return f"replayed{length} of reads {words.ago(last)} · click a row for its curves"


def choice(shown: Sequence[Shown]) -> list[Shown]:
    """Draw the choice of statements or endpoints, kept in the URL; return those of its kind."""
    by = st.segmented_control(
        "Cache by", (STATEMENTS, ENDPOINTS), default=STATEMENTS, required=True, key="by",
        bind="query-params", label_visibility="collapsed",
    )  # fmt: skip
    return [s for s in shown if s.by == by]


def nothing_replayed(states: Sequence[StreamState]) -> None:
    """Say why there is no replay."""
    if not states:
        frame.nothing_here(
            "No reference stream came in the last hour",
            "An application sends it from each engine that it watches, unless "
            "PERFCORE_CACHE_STREAM=off is set there. Without it nobody knows which parameters "
            "come again.",
            command=INSTRUMENT,
            language="python",
        )
        return
    sent = ", ".join(f"{words.plain(s.service)} ({words.count(s.references)})" for s in states)
    frame.nothing_here(
        "The stream was not replayed yet",
        f"References came from {sent}. The advisor replays them each minute; run it by hand to "
        "see what it says.",
        command="python -m perfcore advise",
    )


def table(shown: Sequence[Shown]) -> None:
    """Draw each statement or endpoint with its best cache, or why it gets none."""
    rows = pd.DataFrame([_row(s) for s in shown])
    most = float(rows["waited_s"].max() or 1.0)
    by_endpoint = shown[0].by == ENDPOINTS
    columns = {
        "name": parts.text("Endpoint", width=200)
        if by_endpoint
        else parts.text("Statement", width=300),
        "service": parts.text("Service", width=75),
        "waited_s": parts.number(
            "Waited", "%,.1f s/h", "Time the application waits for its reads, per hour.", 80
        ),
        "saved_s": parts.bar_of(
            "Saved", "%,.1f s/h", "Of that, with the suggested cache.", most, 115
        ),
        "hit_percent": parts.number(
            "Hit rate", "%.0f %%", "Reads that find an answer younger than the TTL.", 70
        ),
        "ttl": parts.text("TTL", "How long an answer is kept.", 55),
        "entries": parts.number("Entries", "%,d", "Answers kept at a time.", 65),
        "kept": parts.text("Kept", "Of its statements, those whose answers are kept.", 60),
        "changes": parts.text(
            "Changes", "How often writes may change what it reads, and in which table most often.",
            140,
        ),
        "reason": parts.text("Why", "Why it is worth a cache, or not.", 420),
    }  # fmt: skip
    if not by_endpoint or rows["service"].nunique() == 1:
        del columns["service"]
    if not by_endpoint:
        del columns["kept"]
    parts.table(rows, columns, key="cache_replays", opens=_open, max_rows=10)


def _row(shown: Shown) -> dict[str, Any]:
    replay, best = shown.replay, shown.best if shown.replay.is_suggested else None
    kept = sum(s.is_kept for s in replay.statements)
    return {
        "name": words.gist(replay.name),
        "service": replay.service,
        "waited_s": replay.total_ms_per_hour / 1000,
        "saved_s": _saved_s(shown) or None,
        "hit_percent": None if best is None else 100 * best.hit_rate,
        "ttl": None if best is None else seconds(best.ttl_s),
        "entries": None if best is None else best.entries,
        "kept": f"{kept} of {len(replay.statements)}" if best is not None else None,
        "changes": _changes(replay.fastest_changes_per_hour, replay.fastest_table)
        if replay.curves
        else None,
        "reason": replay.reason[:1].upper() + replay.reason[1:],
        "subject": shown.subject,
        "by": shown.by,
    }


def _changes(per_hour: float, table: str) -> str:
    """Return how often a table changes, in few words.

    >>> _changes(1200.0, "public.orders"), _changes(0.0, "")
    ('every 3 s: orders', 'never seen')
    """
    if not per_hour:
        return "never seen"
    return f"every {seconds(3600 / per_hour)}: {table.removeprefix('public.')}"


def _open(row: Mapping[Any, Any]) -> None:
    frame.open_page("cache", subject=row["subject"], by=row["by"])


def chosen(shown: Sequence[Shown], subject: str) -> Shown:
    """Return the one that the URL names, else the one that saves most."""
    named = next((s for s in shown if s.subject == subject), None)
    drawn = next((s for s in shown if s.replay.curves), shown[0])
    return named or drawn


def subject(shown: Shown) -> None:
    """Draw one replay: its curves, the point to choose, and what it does to freshness."""
    replay = shown.replay
    is_statement = replay.fingerprint is not None
    with parts.card("Curves", "of a statement" if is_statement else "of all reads of an endpoint"):
        if is_statement:
            st.code(words.one_line(replay.name), language="sql", wrap_lines=True)
        else:
            st.markdown(f"{words.code(replay.name)} of {words.plain(replay.service)}")
        sentence = words.plain(replay.reason[:1].upper() + replay.reason[1:])
        icon = ":material/bolt:" if replay.is_suggested else ":material/info:"
        st.markdown(f"{icon} {sentence}.")
        if replay.curves is not None:
            _numbers(replay, replay.curves)
            _charts(replay.curves, is_suggested=replay.is_suggested)
            st.caption(_basis(replay.curves))
        if not is_statement:
            _statements_of(replay)
        _links(shown)


def _statements_of(replay: CacheReplay) -> None:
    """Draw what a cache of an endpoint keeps: the answers of which of its statements."""
    if not replay.statements:
        return
    st.markdown(f"**What is kept** :gray[{words.plain(_kept(replay))}]")
    rows = pd.DataFrame(
        [
            {
                "queryid": s.queryid,
                "text": words.gist(s.text) or "a statement that no watched database reported",
                "reads_per_hour": s.reads_per_hour,
                "waited_s": s.total_ms_per_hour / 1000,
                "hit_percent": 100 * s.hit_rate if s.is_kept else None,
                "saved_s": s.saved_ms_per_hour / 1000 if s.is_kept else None,
                "changes": _changes(s.changes_per_hour, s.fastest_table) if s.is_kept else None,
                "reason": "kept" if s.is_kept else f"not kept: {s.reason}",
            }
            for s in replay.statements
        ]
    )
    parts.table(
        rows,
        {
            "text": parts.text("Statement", width=250),
            "reads_per_hour": parts.number("Reads", "%,.0f /h", "By this endpoint.", 85),
            "waited_s": parts.number("Waited", "%,.1f s/h", "By this endpoint.", 85),
            "saved_s": parts.number("Saved", "%,.1f s/h", "With this cache.", 85),
            "hit_percent": parts.number("Hit rate", "%.0f %%", "Of its own reads.", 75),
            "changes": parts.text("Changes", "How often writes may change its answers.", 150),
            "reason": parts.text("Kept", "Whether its answers are kept, and why not.", 380),
        },
        key="cache_statements_of",
        opens=lambda row: _open_statement(row["queryid"]),
        max_rows=8,
    )


def _kept(replay: CacheReplay) -> str:
    best = replay.curves.best if replay.curves else None
    kept = sum(s.is_kept for s in replay.statements)
    of = f"{kept} of {len(replay.statements)} statements"
    if best is None or not replay.is_suggested:
        return "the answers of its statements, each with its parameters as the key"
    if not replay.fastest_table:
        return f"the answers of {of}; nothing that they read was written"
    return (
        f"the answers of {of}; {replay.fastest_table} changes most often, every "
        f"{seconds(3600 / replay.fastest_changes_per_hour)}: what reads it is kept for no longer"
    )


def _open_statement(queryid: float | None) -> None:
    if queryid is None or pd.isna(queryid):
        st.toast("The server has not reported this statement yet.")
        return
    frame.open_page("query", queryid=queryid)


def of_endpoint(service: str, endpoint: str) -> None:
    """Draw the way from an endpoint to the replay of its reads, with what it says, if there is."""
    wanted = {"fingerprint": None, "service": service, "name": endpoint}
    _way("A cache of its reads", wanted)


def of_statement(fingerprint: int, label: str = "A cache of its answers") -> None:
    """Draw the way from a statement to the replay of its reads, with what it says, if there is."""
    _way(label, {"fingerprint": fingerprint})


def _way(label: str, wanted: Mapping[str, Any]) -> None:
    stored = [
        each for each in frame.read(read.cache_replays)
        if all(each.body.get(name) == value for name, value in wanted.items())
    ]  # fmt: skip
    found = next(iter(replays(stored)), None)
    if found is not None:
        said = f"{label}: {_in_short(found)}"
        frame.link("cache", said, icon=":material/bolt:", help=words.plain(found.replay.reason),
                   subject=found.subject, by=found.by)  # fmt: skip
        if not found.best or not found.replay.is_suggested:
            st.caption(words.plain(found.replay.reason[:1].upper() + found.replay.reason[1:] + "."))


def _in_short(shown: Shown) -> str:
    if shown.best is None or not shown.replay.is_suggested:
        return "none pays" if shown.replay.is_judged else "not known yet"
    return f"{words.ms(shown.best.saved_ms_per_hour)} saved per hour"


def endpoint_subject(replay: CacheReplay) -> str:
    return f"{replay.service} {replay.name}"


def _numbers(replay: CacheReplay, curves: CacheCurves) -> None:
    best = curves.best
    if best is None or not replay.is_suggested:
        return
    size = min(best.entries or curves.keys, curves.keys) * (replay.entry_bytes or 0)
    of_process = f"{words.percent(curves.per_process_hit_rate)} were each process to keep its own"
    with st.container(horizontal=True, gap="large"):
        for label, value in (
            ("TTL", seconds(best.ttl_s)),
            ("entries", "no limit" if best.entries is None else words.count(best.entries)),
            *([("memory, about", words.byte_size(size))] if size else []),
            ("hit rate", f"{words.percent(best.hit_rate)} ({of_process})"),
            ("waiting saved", f"{words.ms(best.saved_ms_per_hour)} an hour"),
        ):
            st.markdown(f":small[:gray[{label}]]  \n**{words.plain(value)}**", width="content")
    st.markdown(f":material/schedule: {words.plain(staleness(curves, best))}")


def _charts(curves: CacheCurves, *, is_suggested: bool) -> None:
    best = curves.best if is_suggested else None
    by_entries = [p for p in curves.by_entries if p.entries]
    grid = st.grid(2, min_column_width=380, gap="small")
    with grid.cell():
        figure = charts.cache_curve(
            _frame(curves.by_ttl, [p.ttl_s for p in curves.by_ttl]),
            title="TTL, without a limit of entries",
            chosen=best.ttl_s if best else None,
            ticks=_TTL_TICKS,
            ink=parts.ink(),
        )
        parts.chart(figure, "Hit rate and waiting saved over the TTL", key="cache_by_ttl")
    with grid.cell():
        if curves.keys <= 1:
            st.caption("One answer is all there is to keep: it is always the same question.")
            return
        figure = charts.cache_curve(
            _frame(by_entries, [float(p.entries or 1) for p in by_entries]).assign(is_allowed=True),
            title=f"entries, at a TTL of {seconds(by_entries[0].ttl_s)}",
            chosen=best.entries if best else None,
            ticks=_entry_ticks(curves.keys),
            ink=parts.ink(),
        )
        parts.chart(figure, "Hit rate and waiting saved over the entries", key="cache_by_entries")


def _entry_ticks(keys: int) -> list[tuple[float, str]]:
    """Return the places to label on the axis of entries, more of them where keys are few."""
    steps = (1, 2, 3, 5) if keys < 50 else (1,)
    return [(float(s * 10**n), words.count(s * 10**n)) for n in range(7) for s in steps]


def _frame(points: Sequence[CachePoint], x: Sequence[float]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "x": x,
            "label": [
                seconds(p.ttl_s) if p.entries is None else f"{p.entries:,} entries" for p in points
            ],
            "hit_rate": [p.hit_rate for p in points],
            "saved_s_per_hour": [p.saved_ms_per_hour / 1000 for p in points],
            "stale_share": [p.stale_share for p in points],
            "is_allowed": pd.Series([p.is_allowed for p in points], dtype=bool),
        }
    )


def _basis(curves: CacheCurves) -> str:
    changes = (
        f"what they read may have changed {words.count(curves.changes_per_hour)} times an hour"
        if curves.changes_per_hour
        else "nothing that they read was written"
    )
    sampled = "" if curves.sampled == 1 else f", {words.percent(curves.sampled)} of the keys"
    longest = (
        f" A TTL over {seconds(curves.longest_ttl_s)} is not suggested before more was seen."
        if curves.longest_ttl_s
        else ""
    )
    of_several = (
        " A statement is kept up to the TTL that its tables allow; where it drops out, the curve "
        "falls."
        if len(curves.shares) > 1
        else ""
    )
    keys = (
        "always with the same parameters"
        if curves.keys <= 1
        else f"with {words.count(curves.keys)} different parameters"
    )
    return (
        f"{words.count(curves.reads)} reads {keys} in {curves.span_s / 60:,.0f} min{sampled}; "
        f"{changes}.{longest}{of_several}"
    )


def _links(shown: Shown) -> None:
    replay = shown.replay
    if replay.queryid is not None:
        frame.link("query", "Open the query", icon=":material/database:", queryid=replay.queryid)
    else:
        frame.link(
            "endpoint",
            "Open the endpoint",
            icon=":material/alt_route:",
            service=replay.service,
            endpoint=replay.name,
        )
