"""Whatever happens to the line while a batch is stored, it is stored once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from perfcore.collect import Recorder
from perfcore.db import ImpatientConnection
from tests.collect.conftest import Rows
from tests.faults.proxy import ANSWER_BYTES, COMMIT, Cut, Proxy

_STORED = "SELECT coalesce(sum(count), 0)::int FROM metric_rollups"
_LEDGER = "SELECT coalesce(sum(samples), 0)::int FROM batches"


@pytest.fixture
def proxy(store: str) -> Iterator[Proxy]:
    with Proxy(store) as proxy:
        yield proxy


def _record(recorder: Recorder, count: int) -> None:
    for number in range(count):
        recorder.metric("queue.length", number, "jobs")


def _assert_whole(recorder: Recorder, rows: Rows, samples: int) -> None:
    """Nothing is on the way any more, and the store holds each sample once."""
    until = time.monotonic() + 60
    while not recorder.flush(20) and time.monotonic() < until:
        pass
    accounting = recorder.accounting()
    assert (accounting.generated, accounting.stored) == (samples, samples)
    assert (accounting.missing, accounting.dropped) == (0, {})
    assert rows(_STORED) == rows(_LEDGER) == [(samples,)]


def _flush_until_cut(recorder: Recorder, proxy: Proxy, number: int) -> None:
    """Flush; when the line was found dead already, once more."""
    for _ in range(5):
        recorder.flush(20)
        if proxy.cuts_done == number:
            return
    raise AssertionError(f"no COMMIT came by, {proxy.cuts_done} cuts were made")


def _places() -> list[Cut]:
    requests = [Cut("request", n) for n in range(len(COMMIT) + 1)]
    return requests + [Cut("answer", n) for n in range(ANSWER_BYTES + 1)]


@pytest.mark.fault(46)
def test_a_line_cut_after_any_byte_of_a_commit_stores_once(
    make_recorder: Callable[..., Recorder], proxy: Proxy, rows: Rows
) -> None:
    recorder = make_recorder(proxy.dsn)
    outcomes = set()
    for number, cut in enumerate(_places(), start=1):
        proxy.cut = cut
        _record(recorder, 10)
        _flush_until_cut(recorder, proxy, number)
        accounting = recorder.accounting()
        assert accounting.missing == 0
        outcomes.add((cut.place, accounting.spooled, rows(_STORED)[0][0] - accounting.stored))
        _assert_whole(recorder, rows, 10 * number)
    # Both kinds happened: a commit that never came, and one whose answer was lost.
    assert ("request", 10, 0) in outcomes and ("answer", 10, 10) in outcomes


@pytest.mark.fault(44, 46)
@pytest.mark.parametrize("how", ["reset", "half_close", "black_hole"])
def test_a_line_that_breaks_otherwise_stores_once(
    how: str,
    make_recorder: Callable[..., Recorder],
    proxy: Proxy,
    rows: Rows,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ImpatientConnection, "answer_timeout_s", 1.0)
    recorder = make_recorder(proxy.dsn)
    places = [("request", 0), ("request", 5), ("request", 12), ("answer", 0), ("answer", 9)]
    for number, (place, passed) in enumerate(places, start=1):
        proxy.cut = Cut(place, passed, how)
        _record(recorder, 10)
        _flush_until_cut(recorder, proxy, number)
        assert recorder.accounting().missing == 0
        proxy.drop_all()
        _assert_whole(recorder, rows, 10 * number)


@pytest.mark.fault(44)
def test_a_store_that_falls_silent_keeps_no_sample_in_memory(
    make_recorder: Callable[..., Recorder], proxy: Proxy, rows: Rows
) -> None:
    """While the thread waits for an answer it goes on writing to disk."""
    recorder = make_recorder(proxy.dsn, interval_s=0.2)
    _record(recorder, 1)
    assert recorder.flush(20)
    proxy.is_silent = True
    waiting = threading.Thread(target=recorder.flush, args=(30,))
    _record(recorder, 10)
    waiting.start()
    generated = 11
    until = time.monotonic() + 30
    while waiting.is_alive() and recorder.accounting().spooled < 20 and time.monotonic() < until:
        _record(recorder, 1)
        generated += 1
        time.sleep(0.1)
        assert recorder.accounting().missing == 0
    assert recorder.accounting().spooled >= 20
    proxy.is_silent = False
    proxy.drop_all()
    waiting.join(60)
    _assert_whole(recorder, rows, generated)


@pytest.mark.fault(45)
def test_a_store_of_a_few_bytes_a_second_is_given_up(
    make_recorder: Callable[..., Recorder],
    proxy: Proxy,
    rows: Rows,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It answers all the time, so only the deadline ends it."""
    monkeypatch.setattr("perfcore.collect.link.DELIVERY_TIMEOUT_S", 2.0)
    recorder = make_recorder(proxy.dsn)
    _record(recorder, 1)
    assert recorder.flush(20)
    proxy.bytes_per_s = 5
    _record(recorder, 10)
    assert not recorder.flush(60)
    accounting = recorder.accounting()
    assert (accounting.spooled, accounting.missing) == (10, 0)
    assert accounting.trouble is not None and accounting.trouble.reason == "no answer"
    proxy.bytes_per_s = 0
    proxy.drop_all()
    _assert_whole(recorder, rows, 11)
