"""SQLAlchemy: an engine's dialect executes through us, whoever else listens to it.

The three methods of the dialect that call the driver are replaced on that one object, which
takes half of what a pair of cursor events takes. A listener of `do_execute` would cost the same,
but one that has executed ends the round: listeners of the application would not run any more.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from types import MethodType
from typing import Any

from perfcore.collect.recorder import Recorder
from perfcore.collect.sql_hooks import Hook, measuring

_MARK = "_perfcore_measures"


def watch(engine: Any, recorder: Recorder | None) -> None:
    """Measure an Engine or AsyncEngine; all that share its dialect are one."""
    dialect = _dialect(engine)
    if _MARK in vars(dialect):
        return
    setattr(dialect, _MARK, {name: vars(dialect).get(name) for name in _METHODS})
    for name, (pick, is_batch) in _METHODS.items():
        run = vars(dialect).get(name) or _weakly_bound(dialect, name)
        setattr(dialect, name, measuring(run, Hook(recorder, pick, is_batch)))


def unwatch(engine: Any) -> None:
    """Give the dialect its own methods back."""
    dialect = _dialect(engine)
    for name, before in vars(dialect).pop(_MARK, {}).items():
        if before is None:
            delattr(dialect, name)
        else:
            setattr(dialect, name, before)


def _dialect(engine: Any) -> Any:
    return getattr(engine, "sync_engine", engine).dialect


def _weakly_bound(dialect: Any, name: str) -> Callable[..., Any]:
    """Return the dialect's method; bound as usual, the dialect would keep itself alive."""
    return MethodType(getattr(type(dialect), name), weakref.proxy(dialect))


def _given(parameters: Any, context: Any = None) -> Any:
    return parameters


def _none(context: Any = None) -> Any:
    return ()


_METHODS: dict[str, tuple[Callable[..., Any], bool]] = {
    "do_execute": (_given, False),
    "do_executemany": (_given, True),
    "do_execute_no_params": (_none, False),
}
