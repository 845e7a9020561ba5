"""Where in an application's code a statement was sent from: "shop/views.py:42 in orders".

Looked up only for statements that the flusher has seen a request repeat, and for those only a
few times: `Buffer.wanted` says which and how often.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Iterator
from functools import lru_cache
from types import FrameType
from typing import Any

from perfcore.collect.buffer import Buffer, RequestContext

_MAX_FRAMES = 400
_MAX_LOCATION = 300
_MAX_PLACES = 3
_CALLED_BY = " ← "
_MAX_SIGHTINGS = 2_000
_HERE = os.path.dirname(os.path.abspath(__file__)) + os.sep
_STANDARD = os.path.join(sysconfig.get_path("stdlib"), "")
_SCRIPTS = os.path.join(sysconfig.get_path("scripts"), "")
_INSTALLED = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")
# Installed packages that pass a statement on; an application may be installed beside them.
_PASSING_ON = frozenset(
    """a2wsgi aiohttp alembic anyio asgiref asyncpg django fastapi flask flask_sqlalchemy gevent
    greenlet gunicorn h11 hypercorn jinja2 litestar perfcore psycopg psycopg_c psycopg_pool
    psycopg2 pydantic quart sentry_sdk sqlalchemy sqlmodel starlette uvicorn uvloop waitress
    werkzeug
    """.split()
)


def sight(buffer: Buffer, context: RequestContext, text: str) -> None:
    """Note where a wanted text was sent from; it never raises, whatever the stack holds."""
    try:
        left = buffer.wanted.get(text, 0)
        if left <= 0 or len(buffer.sightings) >= _MAX_SIGHTINGS:
            buffer.wanted.pop(text, None)
            return
        buffer.wanted[text] = left - 1
        if found := caller():
            buffer.sightings.append((context, text, found))
    except Exception:
        buffer.wanted.clear()  # what failed once is not tried at each execution


def caller() -> str:
    """Return the application's place nearest to the call, empty where there is none.

    Python's own library, installed packages and this one are passed over. An application that
    is an installed package itself is found where nothing else is. Often the nearest is a helper
    that runs any statement: those that call it directly follow, behind an arrow.
    """
    found: list[str] = []
    installed = ""
    for frame in _frames():
        kind = _kind(frame.f_code.co_filename)
        if kind == "application":
            found.append(_words(frame))
        if len(found) == _MAX_PLACES or (found and kind != "application"):
            break
        if kind == "installed" and not installed:
            installed = _words(frame)
    return (_CALLED_BY.join(found) or installed)[:_MAX_LOCATION]


def _frames() -> Iterator[FrameType]:
    """Yield the frames below this one, and where the stack is a greenlet's those that wait for it.

    SQLAlchemy runs a driver's coroutines from a greenlet of its own: who awaits the statement
    is on the stack of the greenlet's parent.
    """
    greenlets = sys.modules.get("greenlet")
    parent: Any = greenlets.getcurrent().parent if greenlets is not None else None
    frame: FrameType | None = sys._getframe(1)
    for _ in range(_MAX_FRAMES):
        while frame is None and parent is not None:
            frame, parent = parent.gr_frame, parent.parent
        if frame is None:
            return
        yield frame
        frame = frame.f_back


@lru_cache(maxsize=2_000)
def _kind(name: str) -> str:
    """Return whose file it is: the application's, an installed package's, or nobody's."""
    for folder in _INSTALLED:
        if folder in name:
            package = name.rpartition(folder)[2].partition(os.sep)[0].removesuffix(".py")
            return "" if package in _PASSING_ON else "installed"
    if name.startswith(("<", _HERE, _STANDARD, _SCRIPTS)):
        return ""
    return "application"


def _words(frame: FrameType) -> str:
    code = frame.f_code
    name = _short(code.co_filename)
    # The lines of a compiled template are not the template's.
    line = f":{frame.f_lineno}" if name.endswith(".py") else ""
    return f"{name}{line} in {code.co_qualname}"


@lru_cache(maxsize=2_000)
def _short(name: str) -> str:
    """Return a file's name as an import would find it, else its last three parts."""
    for folder in sorted(map(os.path.abspath, sys.path), key=len, reverse=True):
        if name.startswith(os.path.join(folder, "")):
            return name[len(os.path.join(folder, "")) :]
    return os.path.join(*name.split(os.sep)[-3:])
