"""psycopg 3 without a layer above it: cursors that measure what they execute.

`measured` makes them from any class of cursors, for `cursor_factory=`; watching a connection
gives it such a factory. A pool takes either: `kwargs={"cursor_factory": ...}`, or `configure=`.
COPY and `stream()` are the application's own loops and are not measured.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from inspect import iscoroutinefunction
from time import perf_counter_ns
from typing import Any, TypeVar

from perfcore.collect.buffer import HOOKS
from perfcore.collect.recorder import Recorder
from perfcore.collect.sql_hooks import PENDING, Hook, fault, measuring, observe

_FACTORIES = ("cursor_factory", "server_cursor_factory")
_PLAIN = "_perfcore_plain"
_Class = TypeVar("_Class", bound=type)


def measured(cursor_class: _Class, recorder: Recorder | None = None) -> _Class:
    """Return a class of cursors like the given one that measures its executions."""
    return cursor_class if hasattr(cursor_class, _PLAIN) else _subclass(cursor_class, recorder)


@lru_cache(maxsize=64)
def _subclass(cursor_class: Any, recorder: Recorder | None) -> Any:
    around = _measuring_async if iscoroutinefunction(cursor_class.execute) else measuring
    members = {
        "__slots__": (),
        "__module__": cursor_class.__module__,
        "__qualname__": cursor_class.__qualname__,
        "execute": around(cursor_class.execute, Hook(recorder, _parameters)),
        "executemany": around(cursor_class.executemany, Hook(recorder, _rows, is_batch=True)),
        _PLAIN: cursor_class,
    }
    return type(cursor_class.__name__, (cursor_class,), members)


def watch(connection: Any, recorder: Recorder | None) -> None:
    """Measure the cursors that a connection makes from now on."""
    for name in _FACTORIES:
        setattr(connection, name, measured(getattr(connection, name), recorder))


def unwatch(connection: Any) -> None:
    """Let a connection make plain cursors again."""
    for name in _FACTORIES:
        factory = getattr(connection, name)
        setattr(connection, name, getattr(factory, _PLAIN, factory))


def _parameters(params: Any = None, **options: Any) -> Any:
    return params


def _rows(params_seq: Any, **options: Any) -> Any:
    return params_seq


def _measuring_async(run: Callable[..., Any], hook: Hook) -> Callable[..., Any]:
    """Return what `measuring` does, for a coroutine function."""
    HOOKS.add()

    async def execute(subject: Any, statement: Any, *rest: Any, **named: Any) -> Any:
        started_ns, result = 0, PENDING
        try:
            started_ns = perf_counter_ns()
        except Exception:
            fault(hook)
        try:
            result = await run(subject, statement, *rest, **named)
        finally:
            try:
                observe(hook, started_ns, result is PENDING, subject, statement, rest, named)
            except Exception:
                fault(hook)
        return result

    return execute
