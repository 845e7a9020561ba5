"""What every hook does around an execution: two clock reads, and a sample in the queue.

The adapters (`sqlalchemy_hooks`, `psycopg_hooks`, `django_hooks`) put `measuring` around the
driver's own call. No exception of ours leaves it and none of the driver's is held back, so with
any fault of Perfcore the application has a query that ran once, and its result.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter_ns
from typing import Any

from perfcore.collect.buffer import CANCELLED, CURRENT, DONE, FAILED, HOOKS, LARGE_CHARACTERS
from perfcore.collect.callers import sight
from perfcore.collect.recorder import Recorder
from perfcore.collect.stream import encoded
from perfcore.store.ingest import fit_for_store

PENDING = object()

_NAMED = re.compile(r"%\(([^)]+)\)s|(?<![:\w]):(\w+)")
_MAX_PARAMETERS = 50
_MAX_VALUE = 200
_MAX_READ = 16_384  # characters of a statement that are searched for names of parameters
_SIZED = (str, bytes, list, tuple, dict, set)
_Run = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Hook:
    """What is known of an execution before it comes."""

    recorder: Recorder | None  # for executions outside of requests
    pick: Callable[..., Any]  # finds the parameters in what follows the statement
    is_batch: bool = False  # an executemany


def measuring(run: _Run, hook: Hook) -> _Run:
    """Return `run(subject, statement, ...)`, measured.

    The usual execution is queued on the spot, because each call more is code that the
    processor has forgotten while the database was at work; `observe` takes all others.
    """
    HOOKS.add()
    is_batch, pick = hook.is_batch, hook.pick
    chosen = hook.recorder if hook.recorder is not None and hook.recorder.is_enabled else None

    def execute(subject: Any, statement: Any, *rest: Any, **named: Any) -> Any:
        started_ns, result = 0, PENDING
        try:
            started_ns = perf_counter_ns()
        except Exception:
            fault(hook)
        try:
            result = run(subject, statement, *rest, **named)
        finally:
            try:
                ended_ns = perf_counter_ns()
                context = CURRENT.get()
                recorder = chosen if context is None else context.recorder
                if (
                    result is PENDING
                    or is_batch
                    or recorder is None
                    or not recorder._is_started
                    or ended_ns - started_ns >= recorder.slow_query_ns
                    or type(statement) is not str
                    or len(statement) > LARGE_CHARACTERS
                ):
                    is_broken = result is PENDING
                    observe(hook, started_ns, ended_ns, is_broken, subject, statement, rest, named)
                else:
                    buffer = recorder.buffer
                    if context is not None:
                        context.is_used = True
                        if buffer.wanted and statement in buffer.wanted:
                            sight(buffer, context, statement)
                    key = encoded(pick(*rest, **named)) if statement in buffer.hashed else None
                    if next(buffer.generated.numbers) < buffer.room:
                        took_ns = ended_ns - started_ns
                        buffer.statements.extend(
                            (statement, ended_ns, took_ns, DONE, context, None, None, key)
                        )
                    else:
                        buffer.dropped.add()
            except Exception:
                fault(hook)
        return result

    return execute


def observe(
    hook: Hook,
    started_ns: int,
    ended_ns: int,
    is_broken: bool,
    subject: Any,
    statement: Any,
    rest: tuple[Any, ...],
    named: dict[str, Any],
) -> None:
    """Record an execution that is over; while it raises, `is_broken`, its error is the current."""
    context = CURRENT.get()
    recorder = hook.recorder or current_recorder() if context is None else context.recorder
    if recorder is None or not recorder.is_enabled or not started_ns:
        return
    outcome = _outcome() if is_broken else DONE
    if type(statement) is not str:
        statement = _text(statement, subject)
    duration_ns = ended_ns - started_ns
    rows = described = key = None
    if not hook.is_batch and outcome == DONE and statement in recorder.buffer.hashed:
        key = encoded(hook.pick(*rest, **named))
    if hook.is_batch or duration_ns >= recorder.slow_query_ns:
        parameters = hook.pick(*rest, **named)
        if hook.is_batch:
            rows = _rows(parameters)
            parameters = parameters[0] if rows > 0 else ()
        if duration_ns >= recorder.slow_query_ns:
            described = describe(statement, parameters, keep_values=recorder.store_parameters)
    recorder.statement(statement, ended_ns, duration_ns, outcome, context, described, rows, key)


def fault(hook: Hook) -> None:
    """Count an exception of our own where it can be seen."""
    context = CURRENT.get()
    recorder = hook.recorder or current_recorder() if context is None else context.recorder
    if recorder is not None:
        recorder.self_errors.add()


def _outcome() -> int:
    """Return how an execution failed: what is no Exception (CancelledError) cancelled it."""
    return FAILED if isinstance(sys.exc_info()[1], Exception) else CANCELLED


def _rows(parameters: Any) -> int:
    """Return how many rows an executemany has, -1 for an iterator: reading it is not for us."""
    return len(parameters) if type(parameters) in (list, tuple) else -1


def _text(statement: Any, cursor: Any) -> str:
    """Return the text of bytes, or of a statement that psycopg composes."""
    if isinstance(statement, str):
        return str.__str__(statement)
    if isinstance(statement, bytes):
        return statement.decode("utf-8", "replace")
    return str(statement.as_string(cursor))


def describe(statement: str, parameters: Any, *, keep_values: bool) -> tuple[Any, ...]:
    """Return a statement's parameters in the order the server numbers them.

    Without `keep_values` only types and lengths: `{"type": "str", "length": 12}`.
    """
    if parameters is None:
        return ()
    if isinstance(parameters, Mapping):
        names = dict.fromkeys(a or b for a, b in _NAMED.findall(statement[:_MAX_READ]))
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
    return fit_for_store(text[:_MAX_VALUE])


_configured: list[Recorder] = []


def current_recorder() -> Recorder | None:
    """Return the recorder configured last, None before there is one."""
    return _configured[-1] if _configured else None


def set_current_recorder(recorder: Recorder) -> None:
    """Make a recorder the one for what happens outside of requests."""
    _configured[:] = [recorder]
