"""What becomes of requests that do not just answer: one sample each, and a word for its end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket

from perfcore.collect import PerfcoreMiddleware, Recorder, configure
from perfcore.collect.batching import Batcher, Limits
from perfcore.collect.buffer import Buffer
from perfcore.errors import ConfigurationError
from perfcore.store.ingest import Batch
from tests.collect.conftest import Rows
from tests.faults.playing import Pause, Server, play

_START = {"type": "http.response.start", "status": 200, "headers": []}
_LAST = {"type": "http.response.body", "body": b"x"}
_NOWHERE = "postgresql://nobody:x@127.0.0.1:1/nothing"
_MS = """
    SELECT metric_type, metric_name, count(*)::int, count(*) FILTER (WHERE is_error)::int,
           max(value)
    FROM performance_metrics WHERE unit = 'ms' GROUP BY 1, 2
"""
Series = dict[tuple[str, str], tuple[int, int]]


def _series(rows: Rows) -> Series:
    """Return (samples, errors) by metric type and name."""
    return {(kind, name): (count, errors) for kind, name, count, errors, _ in rows(_MS)}


class _Route:
    path_format = "/x"


def _scope(path: str = "/x", **more: Any) -> dict[str, Any]:
    scope = {"type": "http", "method": "GET", "path": path, "headers": [], "route": _Route()}
    return {**scope, **more}


def _sends(*messages: Any, then: BaseException | None = None) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in messages:
            await (send(message) if message is not Pause else Pause())
        if then is not None:
            raise then

    return app


def _piece(body: bytes = b"x", *, more: bool = True) -> dict[str, Any]:
    return {"type": "http.response.body", "body": body, "more_body": more}


class ClientDisconnect(Exception):
    """As Starlette's."""


_GONE = ConnectionResetError("gone")
_ENDINGS = {
    "raised": (_sends(then=KeyError("secret")), None, "raised KeyError", 1),
    "aborted": (_sends(_START, _piece(), then=KeyError("secret")), None, "aborted KeyError", 1),
    "aborted at once": (_sends(_START, then=KeyError("secret")), None, "aborted KeyError", 1),
    "gone before": (_sends(then=ClientDisconnect()), None, "client_gone", 0),
    "gone amid": (_sends(_START, _piece(), then=_GONE), None, "client_gone", 0),
    "told by the server": (_sends(_START, _piece()), None, "client_gone", 0),
    "cancelled before": (_sends(Pause), asyncio.CancelledError(), "cancelled", 0),
    "cancelled amid": (_sends(_START, _piece(), Pause), asyncio.CancelledError(), "cancelled", 0),
    "nothing said": (_sends(), None, "no_response", 0),
    "status 99": (_sends({**_START, "status": 99}, _LAST), None, "invalid_status", 1),
    "status 600": (_sends({**_START, "status": 600}, _LAST), None, "invalid_status", 1),
    "status 0 amid": (_sends({**_START, "status": 0}, _piece(), _piece(more=False)), None,
                      "invalid_status", 1),
    "status in words": (_sends({**_START, "status": "OK"}, _LAST), None, "invalid_status", 1),
    "status of a list": (_sends({**_START, "status": [200]}, _LAST), None, "invalid_status", 1),
}  # fmt: skip


@pytest.mark.fault(2, 3, 4, 5, 13)
@pytest.mark.parametrize("name", list(_ENDINGS))
def test_each_way_to_end_is_one_sample_and_one_outcome(
    name: str, recorder: Recorder, rows: Rows
) -> None:
    app, thrown, outcome, errors = _ENDINGS[name]
    bare = play(app, _scope(), Server(), thrown)
    measured = play(PerfcoreMiddleware(app, recorder=recorder), _scope(), Server(), thrown)
    assert (measured.events, measured.error) == (bare.events, bare.error)
    assert recorder.accounting().generated == 1
    assert recorder.flush(20)
    found = _series(rows)
    assert found.pop(("api_endpoint", "GET /x")) == (1, errors)
    assert found.pop(("api_outcome", f"GET /x {outcome}")) == (1, errors)
    assert {kind for kind, _ in found} <= {"api_stream", "api_first_byte"}
    assert recorder.buffer.streams.value == 0
    assert recorder.accounting().missing == 0
    assert recorder.self_errors.value == 0


@pytest.mark.fault(4)
def test_a_client_that_leaves_does_not_end_a_background_task(
    recorder: Recorder, rows: Rows
) -> None:
    done: list[str] = []

    async def answer(request: Request) -> Response:
        return PlainTextResponse("ok", background=BackgroundTask(done.append, "task"))

    app = Starlette(routes=[Route("/x", answer)])
    app.add_middleware(PerfcoreMiddleware, recorder=recorder)

    async def ask() -> None:
        async def receive() -> Any:
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            return None  # as a server does whose client is gone

        await app(_scope(), receive, send)

    asyncio.run(ask())
    assert done == ["task"]
    recorder.flush(20)
    assert _series(rows) == {("api_endpoint", "GET /x"): (1, 0)}


@pytest.mark.fault(6)
def test_a_large_stream_is_never_held(recorder: Recorder, rows: Rows) -> None:
    chunk = bytes(65_536)
    sent = [0]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(_START)
        for _ in range(16_384):  # 1 GB
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send(_piece(b"", more=False))

    async def send(message: Any) -> None:
        sent[0] += len(message.get("body", b""))
        if sent[0] == len(chunk):
            tracemalloc.reset_peak()

    measured = PerfcoreMiddleware(app, recorder=recorder)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        asyncio.run(measured(_scope(), Server().receive, send))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sent == [1 << 30]
    assert peak - before < 1_000_000
    recorder.flush(20)
    values = {kind: value for kind, _, _, _, value in rows(_MS)}
    assert set(values) == {"api_endpoint", "api_first_byte"}
    assert values["api_first_byte"] < values["api_endpoint"]


@pytest.mark.fault(7)
@pytest.mark.parametrize("ends", ["by itself", "by the client"])
def test_events_are_one_sample_at_their_close_and_no_latency(
    ends: str, recorder: Recorder, rows: Rows
) -> None:
    start = {**_START, "headers": [(b"Content-Type", b"text/event-stream; charset=utf-8")]}
    open_now = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(start)
        await send(_piece())
        open_now.append(recorder.buffer.streams.value)
        recorder.flush(20)
        time.sleep(0.2)
        if ends == "by itself":
            await send(_piece(more=False))

    recorder.metric("so that", 1, "there is a thread")
    play(PerfcoreMiddleware(app, recorder=recorder), _scope(), Server())
    assert (open_now, recorder.buffer.streams.value) == ([1], 0)
    recorder.flush(20)
    values = {(kind, name): (count, value) for kind, name, count, _, value in rows(_MS)}
    assert values["api_endpoint", "GET /x"][0] == 1
    assert values["api_endpoint", "GET /x"][1] < 200 <= values["api_stream", "GET /x"][1]
    gauge = rows("SELECT value::int FROM performance_metrics WHERE metric_name = 'streams.open' "
                 "ORDER BY timestamp")  # fmt: skip
    assert gauge == [(1,), (0,)]


async def _greet(socket: WebSocket) -> None:
    await socket.accept()
    await socket.send_text("hello")
    with contextlib.suppress(Exception):
        await socket.receive_text()


@pytest.mark.fault(8)
@pytest.mark.parametrize(
    ("steps", "code", "expected"),
    [
        (["connect", "leave"], 1006, "1006"),
        (["connect", "leave"], 1001, "1001"),
        (["connect", "close"], 0, "4000"),
        (["connect", "raise"], 0, "1006"),
        (["refuse"], 0, "1000"),
        (["deny"], 0, "403"),
    ],
)
def test_websockets_have_their_own_series(
    steps: list[str], code: int, expected: str, recorder: Recorder, rows: Rows
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        for step in steps:
            if step == "connect":
                await send({"type": "websocket.accept"})
                assert recorder.buffer.websockets.value == 1
            elif step == "leave":
                assert (await receive())["code"] == code
            elif step == "close":
                await send({"type": "websocket.close", "code": 4000})
            elif step == "refuse":
                await send({"type": "websocket.close"})
            elif step == "deny":
                await send({"type": "websocket.http.response.start", "status": 403})
            else:
                raise KeyError("broken")

    incoming = [{"type": "websocket.connect"}, {"type": "websocket.disconnect", "code": code}]
    scope = _scope(type="websocket")
    play(PerfcoreMiddleware(app, recorder=recorder), scope, Server(incoming))
    assert recorder.buffer.websockets.value == 0
    recorder.flush(20)
    found = _series(rows)
    assert found.pop(("websocket_close", f"/x {expected}")) == (1, 0)
    accepted = {("websocket_connect", "/x"): (1, 0), ("websocket_open", "/x"): (1, 0)}
    assert found == (accepted if "connect" in steps else {})
    assert (recorder.accounting().missing, recorder.self_errors.value) == (0, 0)


@contextlib.contextmanager
def _serve(app: Any) -> Iterator[str]:
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical"))
    thread = threading.Thread(target=server.run)
    thread.start()
    until = time.monotonic() + 20
    while not server.started and time.monotonic() < until:
        time.sleep(0.02)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(20)


@pytest.mark.fault(4, 7, 8)
def test_over_real_sockets_those_who_leave_are_seen(recorder: Recorder, rows: Rows) -> None:
    from websockets.sync.client import connect

    async def endless(request: Request) -> Response:
        async def pieces() -> AsyncIterator[bytes]:
            while True:
                yield b"data: x\n\n"
                await asyncio.sleep(0.01)

        return StreamingResponse(pieces(), media_type="text/event-stream")

    app = Starlette(routes=[Route("/events", endless), WebSocketRoute("/ws/{room}", _greet)])
    app.add_middleware(PerfcoreMiddleware, recorder=recorder)
    with _serve(app) as place:
        with httpx.stream("GET", f"http://{place}/events") as answer:
            next(answer.iter_raw())
        with connect(f"ws://{place}/ws/12") as socket:
            assert socket.recv() == "hello"
        with connect(f"ws://{place}/ws/13") as socket:
            assert socket.recv() == "hello"
            socket.socket.shutdown(2)
        until = time.monotonic() + 20
        while recorder.accounting().generated < 7 and time.monotonic() < until:
            time.sleep(0.02)
    recorder.flush(20)
    found = _series(rows)
    assert found["api_endpoint", "GET /events"] == (1, 0)
    assert found["api_outcome", "GET /events client_gone"] == (1, 0)
    assert found["websocket_open", "/ws/{room}"] == (2, 0)
    assert found["websocket_close", "/ws/{room} 1000"] == (1, 0)
    # Which of the two codes a lost connection has is the server's choice.
    lost = [found.get(("websocket_close", f"/ws/{{room}} {code}")) for code in (1005, 1006)]
    assert sorted(lost, key=str) == [(1, 0), None]
    assert recorder.accounting().missing == 0


@pytest.mark.fault(9)
def test_a_lifespan_that_fails_is_the_applications_own(
    make_recorder: Callable[..., Recorder],
) -> None:
    recorder = make_recorder(_NOWHERE)
    failure = RuntimeError("no database")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        recorder.metric("m", 1, "x")
        raise failure

    began = time.monotonic()
    seen = play(PerfcoreMiddleware(app, recorder=recorder), {"type": "lifespan"}, Server())
    assert seen.error is failure
    assert time.monotonic() - began < 60
    accounting = recorder.accounting()
    assert (accounting.generated, accounting.missing) == (1, 0)


@pytest.mark.fault(12)
def test_a_million_unmatched_paths_are_one_name(make_recorder: Callable[..., Recorder]) -> None:
    recorder = make_recorder(_NOWHERE)
    app = Starlette(routes=[Route("/x", _greet)])
    app.add_middleware(PerfcoreMiddleware, recorder=recorder)
    measured = PerfcoreMiddleware(_sends(_START, _LAST), recorder=recorder)
    recorder._is_started = True
    batcher, buffer = Batcher("shop", "p", Limits()), recorder.buffer

    def ask(application: Any, numbers: range) -> Batch:
        async def all_of_them() -> None:
            for number in numbers:
                scope = _scope(f"/scan/{number}.php")
                del scope["route"]
                await application(scope, Server().receive, _swallow)

        asyncio.run(all_of_them())
        batch = batcher.take(buffer)
        assert batch is not None
        assert {r.series.metric_name for r in batch.rollups} == {"GET (unmatched)"}
        return batch

    ask(app, range(1_000))  # as a real router leaves the scope
    ask(measured, range(20_000))
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    count = sum(ask(measured, range(n, n + 20_000)).samples for n in range(0, 100_000, 20_000))
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 100_000
    assert after - before < 200_000


async def _swallow(message: Any) -> None:
    return None


@pytest.mark.fault(13)
@pytest.mark.parametrize("method", ["BREW", "A" * 10_000, "get", ""])
def test_a_method_that_http_does_not_know_is_other(
    method: str, recorder: Recorder, rows: Rows
) -> None:
    measured = PerfcoreMiddleware(_sends(_START, _LAST), recorder=recorder)
    play(measured, _scope(method=method), Server())
    play(measured, _scope(method=method, route=None), Server())
    recorder.flush(20)
    assert set(_series(rows)) == {
        ("api_endpoint", "OTHER /x"), ("api_endpoint", "OTHER (unmatched)"),
    }  # fmt: skip


@pytest.mark.fault(14)
def test_a_hundred_thousand_routes_are_two_thousand_names_and_the_rest() -> None:
    batcher, buffer = Batcher("shop", "p", Limits()), Buffer(limit=1_000_000)
    routes = [type("Route", (), {"path_format": f"/page{n}"})() for n in range(100)]
    names: list[set[str]] = []
    for _ in range(2):
        for number in range(100_000):
            route = routes[number] if number < 100 else f"GET /page{number}"
            buffer.requests.extend((route, "GET", 0, 1_000_000, 200, None))
            next(buffer.generated.numbers)
        batch = batcher.take(buffer)
        assert batch is not None and batch.samples == 100_000
        names.append({r.series.metric_name for r in batch.rollups})
        counts = {r.series.metric_name: r.histogram.count for r in batch.rollups}
        assert len(counts) == 2_001
        assert counts["(other)"] == 98_000
        assert counts["GET /page7"] == 1
    assert names[0] == names[1]


@pytest.mark.fault(15)
@pytest.mark.parametrize(
    "path", ["/a\0b", "/\ud800", "/a\r\nb", "/\u202egnp", "/" + "x" * 65_536, "/\udcff?secret=1"]
)
def test_no_raw_path_is_ever_stored(path: str, recorder: Recorder, rows: Rows) -> None:
    async def answer(request: Request) -> Response:
        return PlainTextResponse("ok")

    inside = Starlette(routes=[Route("/in/{rest:path}", answer)])
    app = Starlette(routes=[Route("/at/{rest:path}", answer), Mount("/m/{tenant}", inside)])
    app.add_middleware(PerfcoreMiddleware, recorder=recorder)
    for asked in ("/at" + path, path, f"/m/acme/in{path}", f"/m{path}"):
        raw = {"raw_path": b"/\xff", "query_string": b"token=secret", "root_path": ""}
        play(app, _scope(asked, route=None, **raw), Server())
    recorder.flush(20)
    found = _series(rows)
    assert not any(path in name or "secret" in name for _, name in found)
    names = {name for kind, name in found if kind == "api_endpoint"}
    assert names <= {
        "GET /at/{rest}", "GET (unmatched)", "GET /m/{tenant}/in/{rest}", "GET /m/{tenant}/{path}",
    }  # fmt: skip
    assert "GET (unmatched)" in names


def test_a_name_that_is_too_long_is_cut(recorder: Recorder, rows: Rows) -> None:
    long = type("Route", (), {"path_format": "/" + "x" * 5_000})()
    measured = PerfcoreMiddleware(_sends(_START, _LAST), recorder=recorder)
    play(measured, _scope(route=long), Server())
    recorder.flush(20)
    (((_, name), _),) = _series(rows).items()
    assert name.startswith("GET /xxx")
    assert len(name) == 500


class _Clock:
    """A monotonic clock and a wall clock that tests set."""

    def __init__(self, wall_s: int) -> None:
        self.wall_s, self.ticks_ns = wall_s, 10**15

    def wall_ns(self) -> int:
        return self.wall_s * 10**9

    def clock_ns(self) -> int:
        return self.ticks_ns

    def pass_s(self, seconds: float) -> None:
        self.wall_s += int(seconds)
        self.ticks_ns += int(seconds * 1e9)


def _request(buffer: Buffer, ended_ns: int, taken_s: float = 0.01) -> None:
    next(buffer.generated.numbers)
    started_ns = ended_ns - int(taken_s * 1e9)
    buffer.requests.extend(("GET /x", "", started_ns, ended_ns, 200, None))


@pytest.mark.fault(21)
@pytest.mark.parametrize("step_s", [3_600, -3_600])
def test_a_step_of_the_wall_clock_changes_no_duration(step_s: int) -> None:
    clock = _Clock(1_700_000_000)
    batcher = Batcher("shop", "p", Limits(), clock.wall_ns, clock.clock_ns)
    buffer = Buffer()
    minutes = []
    for step in (0, step_s):
        clock.pass_s(90)
        clock.wall_s += step
        _request(buffer, clock.ticks_ns - 80 * 10**9)  # comes late
        _request(buffer, clock.ticks_ns)
        batch = batcher.take(buffer)
        assert batch is not None
        minutes.append([r.bucket_start.timestamp() for r in batch.rollups])
        assert sum(r.histogram.count for r in batch.rollups) == 2
        assert all(r.histogram.min == r.histogram.max == 10.0 for r in batch.rollups)
        assert all(s.value == 10.0 for s in batch.raw)
        late, now = minutes[-1]
        assert late == (clock.wall_s - 80) // 60 * 60
        assert now == clock.wall_s // 60 * 60
    assert minutes[1][1] - minutes[0][1] == pytest.approx(step_s + 90, abs=60)


@pytest.mark.fault(22)
def test_a_suspended_process_has_one_long_sample_with_a_flag() -> None:
    clock = _Clock(1_700_000_000)
    batcher = Batcher("shop", "p", Limits(raw_per_s=5), clock.wall_ns, clock.clock_ns)
    buffer = Buffer()
    slept_at = clock.ticks_ns
    clock.pass_s(600)
    batcher.slept(slept_at, 1.0)
    _request(buffer, clock.ticks_ns, taken_s=600.1)  # was under way
    for _ in range(1_000):
        _request(buffer, clock.ticks_ns)  # came after
    batch = batcher.take(buffer)
    assert batch is not None
    counts = {r.series[1:3]: (r.histogram.count, r.histogram.max) for r in batch.rollups}
    assert counts["api_outcome", "GET /x stalled"] == (1, 600_100.0)
    assert counts["api_endpoint", "GET /x"] == (1_001, 600_100.0)
    assert len(batch.raw) < 100
    slept_at = clock.ticks_ns
    clock.pass_s(1)
    batcher.slept(slept_at, 1.0)
    _request(buffer, clock.ticks_ns, taken_s=0.5)
    batch = batcher.take(buffer)
    assert batch is not None
    assert [r.series[1] for r in batch.rollups] == ["api_endpoint"]


@pytest.mark.fault(22)
@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="nothing suspends a process here")
def test_a_stopped_process_flags_what_was_under_way(store: str, rows: Rows, tmp_path: Path) -> None:
    code = f"""
import asyncio, sys
from pathlib import Path
from perfcore.collect import PerfcoreMiddleware, Recorder
r = Recorder("shop", {store!r}, spool_folder=Path({str(tmp_path)!r}), interval_s=0.2,
             sample_process=False)
async def app(scope, receive, send):
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    await send({{"type": "http.response.start", "status": 200, "headers": []}})
    await send({{"type": "http.response.body", "body": b""}})
async def main():
    r.metric("m", 1, "x")
    print("under way", flush=True)
    await PerfcoreMiddleware(app, recorder=r)({{"type": "http", "method": "GET", "path": "/x"}},
                                              None, lambda m: asyncio.sleep(0))
    r.close(20)
asyncio.run(main())
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdin is not None and child.stdout is not None
        assert child.stdout.readline() == "under way\n"
        time.sleep(0.5)
        os.kill(child.pid, signal.SIGSTOP)
        time.sleep(6.5)
        os.kill(child.pid, signal.SIGCONT)
        time.sleep(0.5)
        child.stdin.write("go\n")
        child.stdin.close()
        assert child.wait(60) == 0
    found = _series(rows)
    assert found["api_endpoint", "GET (unmatched)"] == (1, 0)
    assert found["api_outcome", "GET (unmatched) stalled"] == (1, 0)


@pytest.mark.fault(23)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), 10**400])
def test_what_is_no_finite_number_is_refused_and_counted(value: Any, recorder: Recorder) -> None:
    with pytest.raises(ValueError, match=r"queue.*must be a finite number"):
        recorder.metric("queue", value, "jobs")
    accounting = recorder.accounting()
    assert (accounting.refused, accounting.generated, accounting.missing) == (1, 0, 0)


@pytest.mark.fault(23)
@pytest.mark.parametrize("value", [-1.5, 0, 2**70, 1e299])
def test_every_finite_number_is_taken(value: Any, recorder: Recorder, rows: Rows) -> None:
    recorder.metric("queue", value, "jobs")
    assert recorder.flush(20)
    assert rows("SELECT value FROM performance_metrics") == [(float(value),)]


@pytest.mark.fault(24)
def test_a_second_middleware_says_so_once_and_the_outer_one_measures(
    recorder: Recorder, rows: Rows, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(_START)
        await send(_LAST)
        time.sleep(0.05)

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        time.sleep(0.1)
        await inner(scope, receive, send)

    inner = PerfcoreMiddleware(app, recorder=recorder)
    outer = PerfcoreMiddleware(slow, recorder=recorder)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            play(outer, _scope(), Server())
    assert caplog.text.count("installed twice") == 1
    recorder.flush(20)
    ((kind, name, count, _, slowest),) = rows(_MS)
    assert (kind, name, count) == ("api_endpoint", "GET /x", 3)
    assert slowest >= 100


@pytest.mark.fault(26)
@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"PERFCORE_STOER": "x"}, ["PERFCORE_STOER", "did you mean PERFCORE_STORE"]),
        ({"PERFCORE_SLOW_QUERY_MS": "soon"}, ["PERFCORE_SLOW_QUERY_MS", "'soon'"]),
        ({"PERFCORE_STORE": "postgres//me:hunter2@host/db"}, ["PERFCORE_STORE", "(hidden)"]),
        ({"PERFCORE_STORE": "host=db passwort=hunter2"}, ["PERFCORE_STORE", "passwort"]),
    ],
)
def test_a_bad_setting_is_one_line_and_the_application_runs(
    environ: dict[str, str], words: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        recorder = configure("shop", environ=environ)
    assert not recorder.is_enabled
    (line,) = caplog.messages
    assert all(word in line for word in words)
    assert "\n" not in line
    assert "hunter2" not in line
    bare = play(_sends(_START, _LAST), _scope(), Server())
    measured = PerfcoreMiddleware(_sends(_START, _LAST), recorder=recorder)
    assert play(measured, _scope(), Server()).events == bare.events
    with pytest.raises(ConfigurationError):
        configure("shop", environ=environ, strict=True)


@pytest.mark.fault(26)
def test_a_spool_that_cannot_be_written_is_one_line_and_the_application_runs(
    make_recorder: Callable[..., Recorder], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    recorder = make_recorder(_NOWHERE, spool_folder=blocked / "spool")
    measured = PerfcoreMiddleware(_sends(_START, _LAST), recorder=recorder)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            play(measured, _scope(), Server())
            recorder.flush(20)
    assert sum("spool" in line or "disk" in line for line in caplog.messages) >= 1
    assert sum(str(blocked) in line for line in caplog.messages) <= 1
    accounting = recorder.accounting()
    assert (accounting.generated, accounting.spooled, accounting.missing) == (3, 3, 0)
