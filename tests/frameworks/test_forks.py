"""Forks: no child waits for a lock of its parent, and no sample is stored twice or not at all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.collect.conftest import Rows
from tests.frameworks.asking import counts

ROOT = Path(__file__).parents[2]
# Longer than any pause of a busy machine: a child that waits for ever is ended by it.
_ENOUGH_S = 120

_COMMON = """
import os, signal, sys, threading
from pathlib import Path
from perfcore.collect import PerfcoreMiddleware, PerfcoreWSGIMiddleware, Recorder
from perfcore.collect.buffer import CURRENT

store, folder = sys.argv[1], Path(sys.argv[2])

def child(work):
    pid = os.fork()
    if pid:
        return pid
    signal.alarm(120)
    status = 1
    try:
        work()
        status = 0
    finally:
        os._exit(status)

def await_all(pids):
    wrong = [status for pid in pids if (status := os.waitpid(pid, 0)[1])]
    assert not wrong, wrong
"""

_HELD = """
recorder = Recorder("shop", store, sample_process=False, spool_folder=folder, interval_s=60)
recorder.metric("parent", 1, "")
assert recorder.flush(60)
flusher, stop = recorder._flusher, threading.Event()

def hold():  # somebody always holds a lock of ours, and samples arrive meanwhile
    while not stop.is_set():
        with recorder._start_lock, flusher.ledger, flusher._cycles:
            recorder.metric("parent", 1, "")
            stop.wait(0.0005)

def work():
    assert recorder.accounting().generated == 0
    recorder.metric("child", 1, "")
    if number % 50:
        account = recorder.accounting()
        assert (account.generated, account.missing) == (1, 0), account
    else:
        recorder.close(60)

holder = threading.Thread(target=hold)
holder.start()
for number in range(1000):
    await_all([child(work)])
stop.set()
holder.join()
recorder.close(60)
print(recorder.accounting().generated)
"""

_SERVED = """
import asyncio, httpx
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

recorder = Recorder("shop", store, sample_process=False, spool_folder=folder, interval_s=60)

async def answer(request):
    return PlainTextResponse("async")

async_app = Starlette(routes=[Route("/async/{id}", answer)])
async_app.add_middleware(PerfcoreMiddleware, recorder=recorder)

def app(environ, start):
    environ["perfcore.route"] = "/threads/{id}"
    start("200 OK", [])
    if environ["PATH_INFO"] == "/fork":  # the parent answers, the child does something else
        environ["children"].append(child(serve_ten))
    return [b"x"]

measured = PerfcoreWSGIMiddleware(app, recorder=recorder)

def wsgi(path, children=None):
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": path, "children": children}
    measured(environ, lambda *a: None)

async def ask(number):
    transport = httpx.ASGITransport(async_app)
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
        for _ in range(number):
            await client.get("/async/1")

def serve_ten():
    assert CURRENT.get() is None
    for _ in range(10):
        wsgi("/threads/1")
    asyncio.run(ask(10))
    recorder.close(60)

asyncio.run(ask(100))
for _ in range(99):
    wsgi("/threads/1")
children = [child(serve_ten) for _ in range(8)]
wsgi("/fork", children)
await_all(children)
recorder.close(60)
"""


def _run(code: str, store: str, folder: Path) -> str:
    quiet = "ignore:This process:DeprecationWarning"  # it has threads, and forks: that is the test
    done = subprocess.run(
        [sys.executable, "-W", quiet, "-c", _COMMON + code, store, str(folder)],
        capture_output=True, text=True, cwd=ROOT, timeout=_ENOUGH_S * 2, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


_METRICS = """
    SELECT metric_name, sum(count)::int FROM metric_rollups JOIN series USING (series_id)
    WHERE metric_type = 'custom' GROUP BY 1
"""


@pytest.mark.fault(17)
def test_a_thousand_forks_while_our_locks_are_held(store: str, rows: Rows, tmp_path: Path) -> None:
    generated = int(_run(_HELD, store, tmp_path))
    # Twenty of the children sent their sample; the others were ended before they could.
    assert dict(rows(_METRICS)) == {"parent": generated, "child": 20}


@pytest.mark.fault(17)
def test_what_parent_and_children_measured_is_stored_once(
    store: str, rows: Rows, tmp_path: Path
) -> None:
    _run(_SERVED, store, tmp_path)
    assert counts(rows) == {"GET /async/{id}": (190, 0), "GET /threads/{id}": (190, 0)}
    assert rows("SELECT count(DISTINCT process)::int, sum(samples)::int FROM batches") == [
        (10, 380)
    ]
