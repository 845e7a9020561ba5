"""Which adapter measures what the application has."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from perfcore.collect import django_hooks, psycopg_hooks, sqlalchemy_hooks
from perfcore.collect.buffer import HOOKS
from perfcore.collect.recorder import Recorder

_ADAPTERS = {
    "sqlalchemy": sqlalchemy_hooks,
    "psycopg": psycopg_hooks,
    "django": django_hooks,
}


def watch(source: Any, recorder: Recorder | None = None) -> None:
    """Measure every statement of an engine or connection, once; TypeError for anything else.

    `source` is a SQLAlchemy Engine or AsyncEngine, a connection of psycopg (or, for a pool,
    `configure=watch`), or `django.db.connections`. Statements inside a request belong to its
    endpoint and its recorder; those outside to `recorder`, or to the one configured last.
    """
    _adapter(source).watch(source, recorder)
    HOOKS.add()  # from now on, even if nothing is connected yet


def unwatch(source: Any) -> None:
    """Stop measuring; what is not watched stays as it is."""
    _adapter(source).unwatch(source)


def _adapter(source: Any) -> ModuleType:
    """Return the adapter for the library that an object's class, or one of its bases, is from."""
    for base in type(source).__mro__:
        found = _ADAPTERS.get(base.__module__.partition(".")[0])
        if found is not None:
            return found
    raise TypeError(
        f"cannot watch {type(source).__name__}: give a SQLAlchemy engine, a connection of "
        "psycopg, or django.db.connections"
    )
