"""Measure what SQLAlchemy executes, on sync and async engines, without changing any of it.

The `do_execute` events of the dialect run in place of the driver's call, so one function holds
both clock reads and sees errors too: half the cost of the pair of cursor events.
"""

from __future__ import annotations

import re
import weakref
from collections.abc import Callable, Mapping, Sequence
from time import perf_counter_ns
from typing import Any

from perfcore.collect.buffer import CURRENT
from perfcore.collect.recorder import Recorder

_NAMED = re.compile(r"%\(([^)]+)\)s|(?<![:\w]):(\w+)")
_MAX_PARAMETERS = 50
_MAX_VALUE = 200
_SIZED = (str, bytes, list, tuple, dict, set)
_Listener = Callable[..., bool]
_watched: weakref.WeakKeyDictionary[Any, dict[str, _Listener]] = weakref.WeakKeyDictionary()


def watch(engine: Any, recorder: Recorder | None = None) -> None:
    """Measure every statement of a SQLAlchemy engine (Engine or AsyncEngine), once.

    Statements inside a request belong to its endpoint and its recorder; those outside to
    `recorder`, or to the one that was configured last.
    """
    from sqlalchemy import event

    engine = getattr(engine, "sync_engine", engine)
    dialect = engine.dialect
    if dialect in _watched:
        return
    listeners = _listeners(dialect, recorder)
    for name, listener in listeners.items():
        event.listen(engine, name, listener)
    _watched[dialect] = listeners


def unwatch(engine: Any) -> None:
    """Stop measuring an engine; one that is not watched stays as it is."""
    from sqlalchemy import event

    engine = getattr(engine, "sync_engine", engine)
    for name, listener in _watched.pop(engine.dialect, {}).items():
        event.remove(engine, name, listener)


def _listeners(dialect: Any, recorder: Recorder | None) -> dict[str, _Listener]:
    """Return what runs in place of the dialect's three ways to execute."""
    own: Any = weakref.proxy(dialect)  # the dialect holds the listeners: no cycle

    def execute(cursor: Any, statement: str, parameters: Any, context: Any) -> bool:
        started_ns, is_error = perf_counter_ns(), True
        try:
            own.do_execute(cursor, statement, parameters, context)
            is_error = False
        finally:
            _observe(statement, parameters, started_ns, is_error, recorder)
        return True

    def executemany(cursor: Any, statement: str, parameters: Any, context: Any) -> bool:
        started_ns, is_error = perf_counter_ns(), True
        try:
            own.do_executemany(cursor, statement, parameters, context)
            is_error = False
        finally:
            first = parameters[0] if parameters else ()
            _observe(statement, first, started_ns, is_error, recorder)
        return True

    def execute_no_params(cursor: Any, statement: str, context: Any) -> bool:
        started_ns, is_error = perf_counter_ns(), True
        try:
            own.do_execute_no_params(cursor, statement, context)
            is_error = False
        finally:
            _observe(statement, (), started_ns, is_error, recorder)
        return True

    return {
        "do_execute": execute,
        "do_executemany": executemany,
        "do_execute_no_params": execute_no_params,
    }


def _observe(
    statement: str, parameters: Any, started_ns: int, is_error: bool, chosen: Recorder | None
) -> None:
    """Record an execution; whatever goes wrong here stays here."""
    ended_ns = perf_counter_ns()
    recorder = chosen
    try:
        context = CURRENT.get()
        recorder = context.recorder if context is not None else chosen or current_recorder()
        if recorder is None or not recorder.is_enabled:
            return
        duration_ns = ended_ns - started_ns
        described = None
        if duration_ns >= recorder.slow_query_ns:
            described = describe(statement, parameters, keep_values=recorder.store_parameters)
        recorder.statement(statement, ended_ns, duration_ns, is_error, context, described)
    except Exception:
        if recorder is not None:
            recorder.self_errors.add()


def describe(statement: str, parameters: Any, *, keep_values: bool) -> tuple[Any, ...]:
    """Return a statement's parameters in the order the server numbers them.

    Without `keep_values` only types and lengths: `{"type": "str", "length": 12}`.
    """
    if isinstance(parameters, Mapping):
        names = dict.fromkeys(a or b for a, b in _NAMED.findall(statement))
        values: Sequence[Any] = [parameters[name] for name in names if name in parameters]
    elif isinstance(parameters, (list, tuple)):
        values = parameters
    else:
        values = [parameters]
    shape = _value if keep_values else _shape
    return tuple(shape(value) for value in values[:_MAX_PARAMETERS])


def _shape(value: Any) -> dict[str, Any]:
    # The exact types only: len() of an application's own class would run its code.
    if type(value) in _SIZED:
        return {"type": type(value).__name__, "length": len(value)}
    return {"type": type(value).__name__}


def _value(value: Any) -> Any:
    if value is None or type(value) in (bool, int):
        return value
    if type(value) is str:
        text = value
    elif type(value).__module__ in ("builtins", "datetime", "decimal", "uuid"):
        text = str(value)
    else:
        return _shape(value)
    return text[:_MAX_VALUE].replace("\0", "\ufffd").encode("utf-8", "replace").decode()


_configured: list[Recorder] = []


def current_recorder() -> Recorder | None:
    """Return the recorder configured last, None before there is one."""
    return _configured[-1] if _configured else None


def set_current_recorder(recorder: Recorder) -> None:
    """Make a recorder the one for what happens outside of requests."""
    _configured[:] = [recorder]
