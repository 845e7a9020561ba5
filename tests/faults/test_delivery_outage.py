"""An outage in small: what benchmarks/outage.py does in full."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from perfcore.collect import Recorder
from perfcore.collect.batching import Batcher, Limits
from perfcore.collect.buffer import RequestContext
from perfcore.collect.flusher import Flusher
from perfcore.collect.spool import folder_bytes
from perfcore.db import engine
from perfcore.store import read
from tests.collect.conftest import Rows

_NOWHERE = "postgresql://nobody:x@127.0.0.1:1/nothing"
# Not the values that derive from others, such as how a request ended.
_STORED = (
    "SELECT coalesce(sum(count), 0)::int FROM metric_rollups JOIN series USING (series_id) "
    "WHERE metric_type IN ('api_endpoint', 'database_query')"
)
_SECONDS, _SAMPLES = 40, 1_000


class _Clock:
    def __init__(self) -> None:
        self.ns = 1_795_000_000 * 10**9

    def __call__(self) -> int:
        return self.ns


def _second(recorder: Recorder, clock: _Clock) -> None:
    """Measure for a second."""
    for number in range(_SAMPLES // 2):
        context = RequestContext(recorder)
        recorder.statement(f"SELECT a{number % 50} FROM t", clock(), 10**6, 0, context, None)
        started = clock() - 2_000_000 - number
        recorder.request(f"GET /page{number % 50}", "", started, clock(), 200, context)
    clock.ns += 10**9


@pytest.mark.fault(43, 57)
def test_an_outage_loses_and_doubles_nothing(
    make_recorder: Callable[..., Recorder], store: str, rows: Rows, tmp_path: Path
) -> None:
    clock = _Clock()
    recorder = make_recorder(_NOWHERE)
    flusher = Flusher(recorder, _NOWHERE, "here:1:2", tmp_path)
    flusher.configure(60.0, Limits(), False)
    flusher._batcher = Batcher("shop", "here:1:2", Limits(), clock, clock)
    flusher._thread = threading.current_thread()
    recorder._flusher = flusher
    recorder._is_started = True
    for number in range(1, _SECONDS + 1):
        _second(recorder, clock)
        flusher._flush(is_last=False)
        accounting = recorder.accounting()
        assert accounting.spooled == accounting.generated == _SAMPLES * number
        assert accounting.missing == 0
    assert 0 < accounting.spool_bytes <= folder_bytes(tmp_path) < 4_000_000
    assert not flusher.backlog._memory
    flusher._store = store
    flusher.link.hurry()
    live = 0
    while recorder.accounting().spooled and live < 2_000:
        _second(recorder, clock)
        live += 1
        flusher._flush(is_last=False)
        accounting = recorder.accounting()
        assert accounting.missing == 0
        # More only where the answer to a commit came too late: that batch is sent again.
        assert accounting.stored <= rows(_STORED)[0][0] <= accounting.generated
    _second(recorder, clock)
    flusher._flush(is_last=False)
    total = _SAMPLES * (_SECONDS + live + 1)
    accounting = recorder.accounting()
    assert (accounting.generated, accounting.stored, accounting.dropped) == (total, total, {})
    assert rows(_STORED) == rows("SELECT sum(samples)::int FROM batches") == [(total,)]
    reader = engine(store)
    try:
        [process] = read.collection_state(reader).processes
    finally:
        reader.dispose()
    shown = process.account
    assert (shown.generated, shown.stored, shown.missing, shown.gone) == (total, total, 0, 0)
    assert shown.trouble.startswith("cannot be reached since ") and " until " in shown.trouble
    flusher._end()
    flusher._thread = None
