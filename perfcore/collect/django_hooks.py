"""Django's database layer: one execute wrapper on each of its connections.

Each thread has connections of its own, so the wrapper is hung on when one connects.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from importlib import import_module
from typing import Any

from perfcore.collect.recorder import Recorder
from perfcore.collect.sql_hooks import Hook, measuring

_Wrapper = Callable[..., Any]
_UID = "perfcore"
_watched: weakref.WeakKeyDictionary[Any, _Wrapper] = weakref.WeakKeyDictionary()


def watch(source: Any, recorder: Recorder | None) -> None:
    """Measure a connection, or with `django.db.connections` all of them, now and later."""
    if not _is_handler(source):
        _hang(_connection(source), recorder)
        return

    def connected(connection: Any, **rest: Any) -> None:
        _hang(connection, recorder)

    _connection_created().connect(connected, weak=False, dispatch_uid=_UID)
    for connection in source.all(initialized_only=True):
        _hang(connection, recorder)


def unwatch(source: Any) -> None:
    """Take the wrapper from a connection, or from all that have one."""
    if not _is_handler(source):
        _take(_connection(source))
        return
    _connection_created().disconnect(dispatch_uid=_UID)
    for connection in list(_watched):
        _take(connection)


def _connection_created() -> Any:
    return import_module("django.db.backends.signals").connection_created


def _is_handler(source: Any) -> bool:
    return hasattr(source, "databases")


def _connection(source: Any) -> Any:
    # `django.db.connection` stands for the one of the thread; the wrapper needs that one.
    return source if not hasattr(source, "_alias") else source._connections[source._alias]


def _hang(connection: Any, recorder: Recorder | None) -> None:
    if connection not in _watched:
        wrapper = _wrapper(recorder)
        _watched[connection] = wrapper
        connection.execute_wrappers.append(wrapper)


def _take(connection: Any) -> None:
    wrapper = _watched.pop(connection, None)
    if wrapper in connection.execute_wrappers:
        connection.execute_wrappers.remove(wrapper)


def _wrapper(recorder: Recorder | None) -> _Wrapper:
    """Return what Django calls around an execution: (execute, sql, params, many, context)."""
    single = measuring(_run, Hook(recorder, _given))
    batch = measuring(_run, Hook(recorder, _given, is_batch=True))

    def wrapper(execute: Any, sql: Any, params: Any, many: bool, context: Any) -> Any:
        return (batch if many else single)(execute, sql, params, many, context)

    return wrapper


def _run(execute: Any, sql: Any, params: Any, many: bool, context: Any) -> Any:
    return execute(sql, params, many, context)


def _given(params: Any, many: bool, context: Any) -> Any:
    return params
