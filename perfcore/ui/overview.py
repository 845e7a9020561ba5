"""The parts of the first screen: is it fast, what changed, what to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import streamlit as st

from perfcore import charts
from perfcore.aggregate import endpoints
from perfcore.metric_type import MetricType
from perfcore.store.read import Marker
from perfcore.ui import frame, parts, system, words
from perfcore.ui.timerange import View


@dataclass(frozen=True, slots=True)
class Tile:
    """A number of the first row: where it comes from, how it is written, what it means."""

    label: str
    field: str  # of aggregate.endpoints.Summary
    trend: str  # of the frames of the course
    colour: str
    unit: str  # of the difference: "%" or "pp"
    up_is_bad: bool | None
    help: str

    def text(self, value: float | None) -> str:
        write = {
            "p95_ms": words.ms,
            "requests_per_min": words.rate,
            "error_rate": words.percent,
            "db_ms_per_request": words.ms,
            "cache_hit_ratio": words.percent,
            "memory_rss_bytes": words.byte_size,
        }[self.field]
        return write(value)


TILES = (
    Tile(
        "p95 latency", "p95_ms", "p95_ms", charts.BLUE, "%", True,
        "95 of 100 requests were answered in at most this time; over all endpoints, from merged "
        "histograms (within 1 %).",
    ),
    Tile(
        "Throughput", "requests_per_min", "requests_per_min", charts.GREEN, "%", None,
        "Requests answered per minute, over the whole range.",
    ),
    Tile(
        "Error rate", "error_rate", "error_rate", charts.RED, "pp", True,
        "Share of requests that ended in an exception or a 5xx status.",
    ),
    Tile(
        "DB time / request", "db_ms_per_request", "db_ms_per_request", charts.VIOLET, "%", True,
        "Time spent in SQL statements, as the application measured it, divided by requests.",
    ),
    Tile(
        "Cache hit", "cache_hit_ratio", "cache_hit_ratio", charts.ORANGE, "pp", False,
        "Blocks that PostgreSQL found in its shared buffers, of all blocks it asked for.",
    ),
    Tile(
        "Memory", "memory_rss_bytes", "memory_rss_bytes", charts.AMBER, "%", True,
        "Resident memory of the instrumented processes (RSS), mean over the range.",
    ),
)  # fmt: skip


def tiles(now: Any, before: Any, courses: Mapping[str, Sequence[float]], view: View) -> None:
    """Draw the tiles; `now` and `before` are summaries, `courses` values over time per field."""
    row = parts.Tiles()
    for tile in TILES:
        value, earlier = getattr(now, tile.field), getattr(before, tile.field)
        row.draw(
            tile.label,
            tile.text(value),
            words.change(value, earlier, tile.unit, up_is_bad=tile.up_is_bad),
            help=f"{tile.help} The difference is against {view.baseline_words}: "
            f"{tile.text(earlier)}.",
            trend=courses.get(tile.trend, ()),
            colour=tile.colour,
        )


def courses(trend: pd.DataFrame, database: pd.DataFrame, view: View) -> dict[str, list[float]]:
    """Return the values over time for each tile's line."""
    memory = frame.read(
        endpoints.process_trend, view.range, MetricType.MEMORY.value, "process.memory.rss"
    )
    found = {name: trend[name].tolist() for name in ("p95_ms", "requests_per_min")}
    found["error_rate"] = (trend["errors"] / trend["requests"]).tolist()
    found["memory_rss_bytes"] = memory["mean"].tolist()
    for name in ("db_ms_per_request", "cache_hit_ratio"):
        found[name] = database[name].tolist()
    return found


def cpu_chart(view: View, markers: Sequence[Marker]) -> None:
    """Draw the processor time of the instrumented processes and of the machine."""
    cpu = MetricType.CPU.value
    series = {
        "process": (_gauge(view, cpu, "process.cpu.utilization"), charts.BLUE),
        "machine": (_gauge(view, cpu, "system.cpu.utilization"), charts.GREY),
    }
    _resources(series, view, markers, 1.0, "%", "CPU over time")


def memory_chart(view: View, markers: Sequence[Marker]) -> None:
    """Draw resident, unique and Python heap memory of the instrumented processes."""
    memory = MetricType.MEMORY.value
    series = {
        "RSS": (_gauge(view, memory, "process.memory.rss"), charts.AMBER),
        "USS": (_gauge(view, memory, "process.memory.uss"), charts.VIOLET),
        "heap": (_gauge(view, memory, "python.heap"), charts.GREEN),
    }
    _resources(series, view, markers, 2.0**20, "MiB", "Memory over time")


def _gauge(view: View, metric_type: str, name: str) -> pd.DataFrame:
    return frame.read(endpoints.process_trend, view.range, metric_type, name)


def _resources(
    series: dict[str, tuple[pd.DataFrame, str]],
    view: View,
    markers: Sequence[Marker],
    divisor: float,
    unit: str,
    alt: str,
) -> None:
    if all(found.empty for found, _ in series.values()):
        st.caption("Not measured in this range: it comes with the application's middleware.")
        return
    figure = charts.resources(
        series,
        zone=view.zone,
        span=view.range,
        markers=markers,
        divisor=divisor,
        unit=unit,
        height=240,
    )
    parts.chart(figure, alt)


def what_changed(markers: Sequence[Marker], view: View) -> None:
    """List the markers of the range, the newest first."""
    if not markers:
        st.caption("Nothing was marked in this range: no index, release, setting or plan changed.")
    for marker in sorted(markers, key=lambda m: m.at, reverse=True)[:10]:
        at = marker.at.astimezone(view.zone)
        st.markdown(
            f":gray[{at:%d %b %H\\:%M}]\u2002{words.plain(marker.label)} "
            f":small[:gray[{words.plain(marker.kind)}]]"
        )


def no_requests(has_targets: bool) -> None:
    """Say what is missing when no application has reported yet."""
    frame.nothing_here(
        "No requests were measured in this range",
        "Two lines bring an application in; started with PERFCORE_STORE set to this store, it "
        "reports within seconds. Choose a longer range if it ran earlier, or see it all at once "
        "with make demo.",
        command=system.INSTRUMENT,
        language="python",
    )
    if not has_targets:
        frame.nothing_here(
            "No database is watched",
            "Name one and start again; a role with pg_monitor is enough.",
            command='export PERFCORE_TARGETS="shop=postgresql://monitor:secret@host:5432/shop"',
        )
