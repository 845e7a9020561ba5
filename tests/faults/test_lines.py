"""Raise at every line of ours on the request path: what the client gets does not change."""

from __future__ import annotations

import ast
import asyncio
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from perfcore.collect import PerfcoreMiddleware, Recorder, buffer, middleware, routes, websocket
from perfcore.collect import recorder as recorder_module
from tests.faults.playing import Pause, Seen, Server, play

pytestmark = pytest.mark.fault(1, 2, 3, 4, 5, 8)

_FILES = {str(m.__file__) for m in (middleware, websocket, buffer, recorder_module, routes)}
_NOWHERE = "postgresql://nobody:x@127.0.0.1:1/nothing"
_START = {"type": "http.response.start", "status": 200, "headers": [(b"a", b"b")]}
_FAILURE, _CANCELLED = KeyError("the application's own"), asyncio.CancelledError("by a timeout")
_GONE = ConnectionResetError("the client is gone")
# What hands over to the application or the server, and could only fail with them.
_HANDS_OVER = {"app", "send", "_send", "_receive", "_pass", "_talk"}
_RISKS = (
    ast.Call, ast.Attribute, ast.Subscript, ast.BinOp, ast.In, ast.NotIn, ast.ImportFrom,
)  # fmt: skip


class Injected(Exception):
    """The fault of a line."""


async def _ok(scope: Any, receive: Any, send: Any) -> None:
    scope["route"] = _Route("/orders/{id}")
    await send(_START)
    await send({"type": "http.response.body", "body": b"order"})


async def _raises(scope: Any, receive: Any, send: Any) -> None:
    raise _FAILURE from _GONE


async def _streams(scope: Any, receive: Any, send: Any) -> None:
    await send(_START)
    for piece in (b"a", b"b"):
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _waits(scope: Any, receive: Any, send: Any) -> None:
    await send(_START)
    await send({"type": "http.response.body", "body": b"a", "more_body": True})
    await Pause()


async def _talks(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": (await receive())["text"]})
    assert (await receive())["type"] == "websocket.disconnect"


class _Route:
    def __init__(self, path_format: str) -> None:
        self.path_format = path_format


@dataclass(frozen=True)
class Scenario:
    """A request, by what its application and its server do."""

    app: Callable[..., Any]
    kind: str = "http"
    fails_at: int = -1
    thrown: BaseException | None = None

    def play(self, around: Callable[[Any], Any] = lambda app: app) -> tuple[Seen, int]:
        """Return what the server saw, and how often the application was called."""
        calls = []

        async def counted(*arguments: Any) -> None:
            calls.append(1)
            await self.app(*arguments)

        scope = {
            "type": self.kind, "method": "GET", "path": "/orders/7", "headers": [], "root_path": "",
        }  # fmt: skip
        incoming = [
            {"type": "websocket.connect"},
            {"type": "websocket.receive", "text": "hello"},
            {"type": "websocket.disconnect", "code": 1006},
        ]
        server = Server(incoming if self.kind == "websocket" else [], self.fails_at, _GONE)
        _FAILURE.__traceback__ = _GONE.__traceback__ = _CANCELLED.__traceback__ = None
        seen = play(around(counted), scope, server, self.thrown)
        seen.scope.pop("route", None)
        return seen, len(calls)


SCENARIOS = {
    "ok": Scenario(_ok),
    "handler raises": Scenario(_raises),
    "stream": Scenario(_streams),
    "client disconnects": Scenario(_streams, fails_at=3),
    "cancelled": Scenario(_waits, thrown=_CANCELLED),
    "websocket": Scenario(_talks, kind="websocket"),
}


@cache
def _can_raise(path: str) -> frozenset[int]:
    """Return the lines of a file on which something of ours is evaluated that could fail."""
    lines = set()
    for node in ast.walk(ast.parse(Path(path).read_text())):
        if not isinstance(node, ast.stmt):
            continue
        for part in _own_parts(node):
            if any(isinstance(inner, _RISKS) for inner in ast.walk(part)):
                hands_over = any(
                    isinstance(inner, ast.Call) and _called(inner) in _HANDS_OVER
                    for inner in ast.walk(part)
                )
                if not hands_over:
                    lines |= set(range(part.lineno, (part.end_lineno or part.lineno) + 1))
    return frozenset(lines)


def _own_parts(node: ast.stmt) -> Iterator[Any]:
    """Yield the expressions of a statement, without those of the statements inside it."""
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns"):
            continue  # never evaluated
        for part in value if isinstance(value, list) else [value]:
            if isinstance(part, ast.expr):
                yield part


def _called(call: ast.Call) -> str:
    function = call.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


class Tracer:
    """Notes the lines of ours that are run, and raises when one comes to the line it is given."""

    def __init__(self, target: tuple[str, int] | None = None) -> None:
        self._target = target
        self.lines: dict[tuple[str, int], None] = {}

    def __call__(self, frame: FrameType, event: str, argument: Any) -> Any:
        if frame.f_code.co_filename not in _FILES:
            return None
        if event == "line":
            where = frame.f_code.co_filename, frame.f_lineno
            self.lines[where] = None
            if where == self._target:
                self._target = None
                raise Injected(f"{where[0]}:{where[1]}")
        return self

    def trace(self, run: Callable[[], Any]) -> Any:
        before = sys.gettrace()
        sys.settrace(self)
        try:
            return run()
        finally:
            sys.settrace(before)


@pytest.mark.parametrize("has_hooks", [False, True])
@pytest.mark.parametrize("name", list(SCENARIOS))
def test_a_fault_in_any_line_changes_nothing(
    name: str, has_hooks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(buffer.HOOKS, "exist", has_hooks)
    scenario = SCENARIOS[name]
    bare, _ = scenario.play()
    recorder = Recorder("shop", _NOWHERE, sample_process=False)
    recorder._is_started = True  # no thread

    def run(tracer: Tracer) -> Any:
        measured = PerfcoreMiddleware(scenario.app, recorder=recorder)

        def around(app: Any) -> PerfcoreMiddleware:
            measured.app = app
            return measured

        return tracer.trace(lambda: scenario.play(around))

    first = Tracer()
    assert run(first) == (bare, 1)
    assert recorder.self_errors.value == 0
    lines = [where for where in first.lines if where[1] in _can_raise(where[0])]
    assert len(lines) > 15
    for where in lines:
        faults = recorder.self_errors.value
        seen, calls = run(Tracer(where))
        assert (seen, calls) == (bare, 1), where
        assert seen.error is bare.error, where
        assert recorder.self_errors.value == faults + 1, where


def test_a_recorder_that_cannot_start_its_thread_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(recorder: Recorder) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(Recorder, "_begin", fail)
    recorder = Recorder("shop", _NOWHERE)
    for scenario in SCENARIOS.values():
        bare, _ = scenario.play()
        assert scenario.play(lambda app: PerfcoreMiddleware(app, recorder=recorder)) == (bare, 1)
    assert recorder.self_errors.value >= len(SCENARIOS)
    assert recorder.accounting().missing == 0
