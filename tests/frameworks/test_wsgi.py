"""WSGI to the letter: whatever an application and a server do, they do the same through us."""

from __future__ import annotations

import gc
import inspect
import io
import linecache
import sys
import types
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from wsgiref.validate import validator

import pytest
from gunicorn.http.wsgi import FileWrapper
from werkzeug.test import Client

from perfcore.collect import PerfcoreWSGIMiddleware, Recorder, buffer, recorder, routes, wsgi
from perfcore.collect.buffer import CURRENT, HOOKS
from tests.collect.conftest import Rows
from tests.frameworks.asking import counts

_NOWHERE = "postgresql://nobody:x@127.0.0.1:1/nothing"
_FAILURE = KeyError("the application's own")
_Event = tuple[Any, ...]


class _Answer:
    """A body with an end of its own, which may fail."""

    def __init__(self, log: list[_Event], pieces: list[bytes], failure: Exception | None) -> None:
        self.log, self.pieces, self.failure = log, iter(pieces), failure

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return next(self.pieces)

    def close(self) -> None:
        self.log.append(("closed",))
        if self.failure is not None:
            raise self.failure


def _plain(log: list[_Event], environ: Any, start: Any) -> Any:
    start("200 OK", [("A", "b")])
    return [b"a", b"b"]


def _lazy(log: list[_Event], environ: Any, start: Any) -> Any:
    try:
        start("200 OK", [])
        yield b"a"
        yield b"b"
    finally:
        log.append(("generator ended",))


def _closing(log: list[_Event], environ: Any, start: Any) -> Any:
    start("200 OK", [])
    return _Answer(log, [b"a", b"b"], None)


def _close_fails(log: list[_Event], environ: Any, start: Any) -> Any:
    start("200 OK", [])
    return _Answer(log, [b"a", b"b"], _FAILURE)


def _raises(log: list[_Event], environ: Any, start: Any) -> Any:
    raise _FAILURE


def _raises_half_way(log: list[_Event], environ: Any, start: Any) -> Any:
    start("200 OK", [])
    yield b"a"
    raise _FAILURE


def _starts_twice(log: list[_Event], environ: Any, start: Any) -> Any:
    start("200 OK", [("A", "b")])
    try:
        raise _FAILURE
    except KeyError:
        start("500 Oops", [("A", "c")], sys.exc_info())
    return [b"sorry"]


def _starts_twice_too_late(log: list[_Event], environ: Any, start: Any) -> Any:
    start("200 OK", [])
    yield b"a"
    try:
        raise _FAILURE
    except KeyError:
        start("500 Oops", [], sys.exc_info())
    yield b"never"


def _writes(log: list[_Event], environ: Any, start: Any) -> Any:
    write = start("200 OK", [])
    write(b"written")
    return _Answer(log, [b"a"], None)


def _sends_a_file(log: list[_Event], environ: Any, start: Any) -> Any:
    start("200 OK", [])
    return environ["wsgi.file_wrapper"](_File(log))


class _File(io.BytesIO):
    """A file that tells when it is closed."""

    def __init__(self, log: list[_Event]) -> None:
        super().__init__(b"content")
        self.log = log

    def close(self) -> None:
        self.log.append(("file closed",))
        super().close()


def _returns_nonsense(log: list[_Event], environ: Any, start: Any) -> Any:
    start("no status", [])


_APPS = [
    _plain, _lazy, _closing, _close_fails, _raises, _raises_half_way, _starts_twice,
    _starts_twice_too_late, _writes, _sends_a_file, _returns_nonsense,
]  # fmt: skip
_OUTCOMES = {  # (requests, errors)
    _close_fails: (1, 0),  # the answer was complete by then
    _raises: (1, 1),
    _raises_half_way: (1, 1),
    _starts_twice: (1, 1),
    _starts_twice_too_late: (1, 1),
    _returns_nonsense: (1, 1),
}


def _serve(app: Any, name: str, log: list[_Event], most: int | None) -> None:
    """Do what a server does, up to `most` pieces; what it sees goes to the log."""
    sent = False

    def start(line: str, headers: Any, exc_info: Any = None) -> Callable[[bytes], None]:
        log.append(("start", line, headers, exc_info is not None))
        if exc_info is not None and sent:
            raise exc_info[1]
        return lambda data: log.append(("write", data))

    environ = {
        "REQUEST_METHOD": "GET", "PATH_INFO": "/x", "SCRIPT_NAME": "",
        "wsgi.file_wrapper": FileWrapper, "perfcore.route": f"/{name}",
    }  # fmt: skip
    body: Any = None
    try:
        body = app(environ, start)
        log.append(("file",) if isinstance(body, FileWrapper) else ("body",))
        log.append(("length", len(body) if hasattr(body, "__len__") else None))
        for number, piece in enumerate(body, 1):
            sent = True
            log.append(("piece", piece))
            if number == most:
                break
    except Exception as error:
        log.append(("raised", type(error), error if error is _FAILURE else str(error)))
    try:
        if hasattr(body, "close"):
            body.close()
    except Exception as error:
        log.append(("close raised", error))


def _events(app: Any, most: int | None, measured_by: Recorder | None = None) -> list[_Event]:
    log: list[_Event] = []

    def bound(environ: Any, start: Any) -> Any:
        return app(log, environ, start)

    served: Any = bound
    if measured_by is not None:
        served = PerfcoreWSGIMiddleware(bound, recorder=measured_by)
    _serve(served, app.__name__, log, most)
    if most is not None:
        gc.collect()  # what is left of a body must not close it once more
    return log


@pytest.fixture(autouse=True)
def _statements_are_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HOOKS, "exist", True)


@pytest.mark.fault(16)
def test_server_and_application_see_what_they_saw_before(recorder: Recorder, rows: Rows) -> None:
    for app in _APPS:
        assert _events(app, None, recorder) == _events(app, None)
        assert CURRENT.get() is None
    recorder.flush(20)
    assert recorder.self_errors.value == 0
    assert counts(rows) == {f"GET /{app.__name__}": _OUTCOMES.get(app, (1, 0)) for app in _APPS}


@pytest.mark.fault(16)
def test_a_body_that_is_read_half_way_is_closed_as_before_and_counts_once(
    recorder: Recorder, rows: Rows
) -> None:
    for app in _APPS:
        assert _events(app, 1, recorder) == _events(app, 1)
        assert CURRENT.get() is None
    recorder.flush(20)
    assert recorder.self_errors.value == 0
    assert [requests for requests, _ in counts(rows).values()] == [1] * len(_APPS)


_SENT_ON = (  # lines that do nothing but call the application or the server
    "self.app(", "self._start_response(", "self._body:", "yield piece", "close()",
    "_close(close)", "request.end(", "request.leave(", "request.fail(", "self.end(",
    "self.leave(", "self.fail(",
)  # fmt: skip
_WORDS = (  # lines that hold nothing that could fail
    "try:", "finally:", "except", "raise", "return write", "return body", "if close", "if exc_info",
    "if self._started_ns", "if self._context",
)  # fmt: skip


def _is_ours(frame: types.FrameType) -> bool:
    """Return whether a line may fail: not where it only passes on, as in `__call__`."""
    line = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
    is_passing = any(part in line for part in _SENT_ON) or line.startswith(_WORDS)
    return not (is_passing or frame.f_code.co_name in ("__call__", "closing", "close"))


_FILES = {inspect.getfile(module) for module in (wsgi, routes, recorder, buffer)}


def _with_fault(app: Any, number: int, measured_by: Recorder) -> tuple[list[_Event], str]:
    """Return the events when the line of ours with this number fails, and where it is."""
    count, where = 0, ""

    def trace(frame: types.FrameType, event: str, argument: Any) -> Any:
        nonlocal count, where
        if frame.f_code.co_filename not in _FILES:
            return None
        if event == "line" and _is_ours(frame):
            count += 1
            if count == number:
                where = f"{frame.f_code.co_filename}:{frame.f_lineno}"
                raise ValueError("ours")
        return trace

    log: list[_Event] = []
    measured = PerfcoreWSGIMiddleware(lambda e, s: app(log, e, s), recorder=measured_by)
    before = sys.gettrace()
    sys.settrace(trace)
    try:
        _serve(measured, app.__name__, log, None)
    finally:
        sys.settrace(before)
    return log, where


@pytest.mark.fault(1)
@pytest.mark.parametrize("app", _APPS, ids=lambda a: a.__name__)
def test_no_line_of_ours_can_change_an_answer(app: Any, tmp_path: Path) -> None:
    measured_by = Recorder("shop", _NOWHERE, interval_s=60, spool_folder=tmp_path)
    measured_by.metric("starts the thread", 1, "")
    expected, places = _events(app, None), [""]
    while len(places) == 1 or places[-1]:
        got, where = _with_fault(app, len(places), measured_by)
        places.append(where)
        assert got == expected, f"with a fault at {where}"
    assert len(set(places)) > 25
    assert measured_by.self_errors.value > 20
    measured_by.close()


def test_a_validator_finds_nothing_on_either_side(recorder: Recorder, rows: Rows) -> None:
    def app(environ: Any, start: Any) -> Iterable[bytes]:
        start("200 OK", [("Content-Type", "text/plain")])
        return (piece for piece in (b"a", b"b"))

    measured = validator(PerfcoreWSGIMiddleware(validator(app), recorder=recorder))
    answer = Client(measured).get("/")
    assert answer.data == b"ab"
    answer.close()
    recorder.flush(20)
    assert counts(rows) == {"GET (unmatched)": (1, 0)}


def test_installed_twice_it_measures_once_and_a_template_may_be_passed(
    recorder: Recorder, rows: Rows
) -> None:
    def app(environ: Any, start: Any) -> Iterable[bytes]:
        start("200 OK", [])
        return [b"a"]

    inner = PerfcoreWSGIMiddleware(app, recorder=recorder)
    outer = PerfcoreWSGIMiddleware(
        inner, recorder=recorder, route=lambda environ: environ.get("their.route")
    )
    outer({"REQUEST_METHOD": "GET", "PATH_INFO": "/a/1", "their.route": "/a/{id}"}, lambda *a: None)
    outer({"REQUEST_METHOD": "GET", "PATH_INFO": "/healthz"}, lambda *a: None)
    recorder.flush(20)
    assert counts(rows) == {"GET /a/{id}": (1, 0)}
