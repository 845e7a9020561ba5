"""Real servers with several processes: what was asked is in the store once they have stopped."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from perfcore.collect import Recorder
from tests.collect.conftest import Rows
from tests.frameworks.asking import counts, statements
from tests.frameworks.instructions import blocks

ROOT = Path(__file__).parents[2]
# Longer than any pause of a busy machine; what waits for less waits for a condition.
_ENOUGH_S = 120
_ORDERS, _FAILURES, _STRANGERS = 60, 6, 4

_ENGINE = """
import sqlalchemy as sa
from sqlalchemy.pool import NullPool
engine = sa.create_engine("sqlite:///shop.db", poolclass=NullPool)
engine.connect().close()

def select():
    with engine.connect() as connection:
        return connection.exec_driver_sql("SELECT 5").scalar()
"""

_FLASK = """
import flask
app = flask.Flask("shop")

@app.get("/orders/<int:id>")
def order(id):
    return str(select())

@app.get("/boom")
def boom():
    raise RuntimeError("boom")

@app.get("/health")
def health():
    return "fine"
"""

_FASTAPI = """
from fastapi import FastAPI
app = FastAPI()

@app.get("/orders/{id}")
def order(id: int):
    return select()

@app.get("/boom")
def boom():
    raise RuntimeError("boom")

@app.get("/health")
def health():
    return "fine"
"""

# What a parent measures before it forks.
_AT_IMPORT = """
from perfcore.collect import record
record("imported", 1)
"""

_DJANGO_SETTINGS = """
SECRET_KEY, ALLOWED_HOSTS, ROOT_URLCONF = "of the test", ["*"], "project.urls"
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "shop.db"}}
MIDDLEWARE = ["django.middleware.common.CommonMiddleware"]
"""

_DJANGO_URLS = """
from django.db import connection
from django.http import HttpResponse
from django.urls import path

def order(request, id):
    with connection.cursor() as cursor:
        cursor.execute("SELECT 5")
        return HttpResponse(str(cursor.fetchone()[0]))

def boom(request):
    raise RuntimeError("boom")

def health(request):
    return HttpResponse("fine")

urlpatterns = [path("orders/<int:id>", order), path("boom", boom), path("health", health)]
"""

_DJANGO_APPLICATION = """
import os
os.environ["DJANGO_SETTINGS_MODULE"] = "project.settings"
from django.core.{kind} import get_{kind}_application
application = get_{kind}_application()
"""


@pytest.fixture
def environment(store: str, tmp_path: Path) -> dict[str, str]:
    return {
        **{name: value for name, value in os.environ.items() if "PERFCORE" not in name},
        "PERFCORE_STORE": store,
        "PERFCORE_DATA_DIR": str(tmp_path / "data"),
        "PYTHONPATH": str(ROOT),
    }


@contextmanager
def _serving(command: str, folder: Path, environment: dict[str, str]) -> Iterator[str]:
    """Run a server of the instructions on a free port, and stop it as an init system does."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    where = ["--bind", f"127.0.0.1:{port}"] if "gunicorn" in command else ["--port", str(port)]
    program, *options = shlex.split(command)
    log = (folder / "server.log").open("wb")
    server = subprocess.Popen(
        [sys.executable, "-m", program, *where, *options],
        cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT,
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        _await(lambda: _is_up(url), server, folder)
        yield url
        server.send_signal(signal.SIGTERM)
        server.wait(_ENOUGH_S)
    finally:
        server.kill()
        server.wait()
        log.close()


def _is_up(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=_ENOUGH_S).text.strip('"') == "fine"
    except httpx.TransportError:
        return False


def _await(is_so: Callable[[], bool], server: subprocess.Popen[bytes], folder: Path) -> None:
    until = time.monotonic() + _ENOUGH_S
    while not is_so():
        assert server.poll() is None, (folder / "server.log").read_text()
        assert time.monotonic() < until, (folder / "server.log").read_text()
        time.sleep(0.1)


def _ask(url: str) -> None:
    """Ask from several sides, so that every process and thread gets something to do."""
    lines = [(f"/orders/{n}", 200) for n in range(_ORDERS)]
    lines += [("/boom", 500)] * _FAILURES + [("/nowhere", 404)] * _STRANGERS

    def ask(line: tuple[str, int]) -> None:
        assert httpx.get(url + line[0], timeout=_ENOUGH_S).status_code == line[1]

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, lines))


_EXPECTED = {
    "GET /orders/{id}": (_ORDERS, 0),
    "GET /boom": (_FAILURES, _FAILURES),
    "GET (unmatched)": (_STRANGERS, 0),
}


def _assert_all_stored(rows: Rows, make_recorder: Callable[..., Recorder], folder: Path) -> None:
    """Count in the store; what the last seconds left in a spool is sent from there first."""
    for spool in (folder / "data").glob("spool-*"):
        recorder = make_recorder(spool_folder=spool)
        recorder.metric("adopts", 1, "")
        recorder.flush(60)
        recorder.close(60)
    assert counts(rows) == _EXPECTED, (folder / "server.log").read_text()
    assert statements(rows) == {"GET /orders/{id}": (_ORDERS, _ORDERS)}


_COMMANDS = [line for block in blocks("sh")["Servers"] for line in block.splitlines()]


_IMPORTED = """
    SELECT sum(count)::int FROM metric_rollups JOIN series USING (series_id)
    WHERE metric_name = 'imported'
"""


@pytest.mark.fault(17, 18)
@pytest.mark.parametrize("command", _COMMANDS)
def test_counts_in_the_store_equal_requests_made(
    command: str,
    environment: dict[str, str],
    tmp_path: Path,
    rows: Rows,
    make_recorder: Callable[..., Recorder],
) -> None:
    is_asgi = "uvicorn" in command
    heading, bare = ("Starlette and FastAPI", _FASTAPI) if is_asgi else ("Flask", _FLASK)
    (block,) = blocks("python")[heading]
    (tmp_path / "shop.py").write_text(_ENGINE + bare + block + _AT_IMPORT)
    with _serving(command, tmp_path, environment) as url:
        _ask(url)
    _assert_all_stored(rows, make_recorder, tmp_path)
    if "--preload" in command:
        assert rows(_IMPORTED) == [(1,)]  # by the parent, whose children answered the requests
        assert rows("SELECT count(DISTINCT process) >= 2 FROM batches") == [(True,)]


@pytest.mark.parametrize("kind", ["wsgi", "asgi"])
def test_a_django_project(
    kind: str,
    environment: dict[str, str],
    tmp_path: Path,
    rows: Rows,
    make_recorder: Callable[..., Recorder],
) -> None:
    settings, for_wsgi, for_asgi = blocks("python")["Django"]
    block = {"wsgi": for_wsgi, "asgi": for_asgi}[kind]
    files: dict[str, Any] = {
        "__init__.py": "",
        "settings.py": _DJANGO_SETTINGS + settings,
        "urls.py": _DJANGO_URLS,
        f"{kind}.py": _DJANGO_APPLICATION.replace("{kind}", kind) + block,
    }
    (tmp_path / "project").mkdir()
    for name, text in files.items():
        (tmp_path / "project" / name).write_text(text)
    program = {"wsgi": "gunicorn --threads 4", "asgi": "uvicorn"}[kind]
    with _serving(f"{program} project.{kind}:application", tmp_path, environment) as url:
        _ask(url)
    _assert_all_stored(rows, make_recorder, tmp_path)
