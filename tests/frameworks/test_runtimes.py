"""Threads, event loops, greenlets, another program in the same process, and the interpreter's end.

Each runs in a process of its own; what it measured is afterwards in the store or in its spool.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from perfcore.collect import Recorder
from tests.collect.conftest import Rows
from tests.frameworks.asking import counts, statements

ROOT = Path(__file__).parents[2]
_NOWHERE = "postgresql://nobody:x@127.0.0.1:1/nothing"
# Longer than any pause of a busy machine: what waits for ever is ended by it.
_ENOUGH_S = 120

_COMMON = """
import logging, sys, threading
from pathlib import Path
logging.getLogger("perfcore").addHandler(logging.NullHandler())  # an outage is no news here
from perfcore.collect import PerfcoreMiddleware, PerfcoreWSGIMiddleware, Recorder, watch

store, folder = sys.argv[1], Path(sys.argv[2])
recorder = Recorder("shop", store, sample_process=False, spool_folder=folder, interval_s=60)

def app(environ, start):
    environ["perfcore.route"] = "/x/{id}"
    start("200 OK", [])
    yield b"a"
    work()
    yield b"b"

measured = PerfcoreWSGIMiddleware(app, recorder=recorder)
work = lambda: None

def ask(path="/x/1"):
    body = measured({"REQUEST_METHOD": "GET", "PATH_INFO": path}, lambda *a: None)
    assert list(body) == [b"a", b"b"]
    body.close()
"""


def _run(code: str, store: str, folder: Path) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", code, store, str(folder)],
        capture_output=True, text=True, cwd=ROOT, timeout=_ENOUGH_S, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done


def _adopt(make_recorder: Callable[..., Recorder]) -> None:
    """Send what a process that has ended left in its spool."""
    recorder = make_recorder()
    recorder.metric("adopts", 1, "")
    recorder.flush(60)
    recorder.close(60)


_CUSTOM = """
    SELECT metric_name, sum(count)::int FROM metric_rollups JOIN series USING (series_id)
    WHERE metric_type = 'custom' AND metric_name <> 'adopts' GROUP BY 1
"""

_THREADS = """
import sqlalchemy as sa
engine = sa.create_engine("sqlite://", poolclass=sa.pool.StaticPool,
                          connect_args={"check_same_thread": False})
engine.connect().close()
watch(engine, recorder)
one_at_a_time = threading.Lock()

def work():
    with one_at_a_time, engine.connect() as connection:
        connection.exec_driver_sql("SELECT 1")

def serve():
    for _ in range(100):
        ask()

threads = [threading.Thread(target=serve) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
recorder.close(60)
"""


@pytest.mark.fault(18)
def test_threads(store: str, rows: Rows, tmp_path: Path) -> None:
    _run(_COMMON + _THREADS, store, tmp_path)
    assert counts(rows) == {"GET /x/{id}": (800, 0)}
    assert statements(rows) == {"GET /x/{id}": (800, 800)}


_UVLOOP = """
import asyncio, uvloop

async def app(scope, receive, send):
    scope["perfcore.route"] = "/async/{id}"
    await asyncio.sleep(0)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"x"})

served = PerfcoreMiddleware(app, recorder=recorder)

async def serve():
    async def send(message):
        await asyncio.sleep(0)
    assert type(asyncio.get_running_loop()).__module__.startswith("uvloop")
    scopes = [{"type": "http", "method": "GET", "path": "/a", "headers": []} for _ in range(300)]
    await asyncio.gather(*[served(scope, None, send) for scope in scopes])

uvloop.run(serve())
recorder.close(60)
"""


@pytest.mark.fault(18)
def test_uvloop(store: str, rows: Rows, tmp_path: Path) -> None:
    _run(_COMMON + _UVLOOP, store, tmp_path)
    assert counts(rows) == {"GET /async/{id}": (300, 0)}


_GEVENT = """
import gevent
work = lambda: gevent.sleep(0.001)

def serve():
    for _ in range(20):
        ask()

gevent.joinall([gevent.spawn(serve) for _ in range(20)], raise_error=True)
assert recorder.flush(60)
recorder.close(60)
"""


@pytest.mark.fault(18)
def test_gevent(store: str, rows: Rows, tmp_path: Path) -> None:
    patched = "from gevent import monkey; monkey.patch_all()\n" + _COMMON
    _run(patched + _GEVENT, store, tmp_path)
    assert counts(rows) == {"GET /x/{id}": (400, 0)}


_EXEC = """
import os
ask()
recorder.metric("before", 1, "")
assert not recorder.flush(60)  # the store is away: they wait on disk
then = [sys.executable, "-c", os.environ["THEN"], os.environ["STORE"], sys.argv[2]]
os.execv(sys.executable, then)
"""

_THEN = """
recorder.metric("after", 1, "")
recorder.close(60)
"""


@pytest.mark.fault(18)
def test_another_program_in_the_same_process(
    store: str,
    rows: Rows,
    tmp_path: Path,
    make_recorder: Callable[..., Recorder],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("THEN", _COMMON + _THEN)
    monkeypatch.setenv("STORE", store)
    _run(_COMMON + _EXEC, _NOWHERE, tmp_path)
    _adopt(make_recorder)
    assert counts(rows) == {"GET /x/{id}": (1, 0)}
    assert dict(rows(_CUSTOM)) == {"before": 1, "after": 1}


_GARBAGE = """
import gc, sqlalchemy as sa
log = logging.getLogger("perfcore.collect")
engine = sa.create_engine("sqlite://")
engine.connect().close()
watch(engine, recorder)
connection = engine.connect()
died = 0
dying = threading.local()

class Garbage:
    def __init__(self):
        self.me = self  # only the garbage collector finds it

    def __del__(self):
        global died
        died += 1
        dying.now = True
        try:
            self.use_everything()
        finally:
            dying.now = False

    def use_everything(self):
        recorder.metric("died", 1, "")
        log.warning("one more")
        recorder.accounting()
        if threading.current_thread() is threading.main_thread():
            connection.exec_driver_sql("SELECT 1")
            recorder._start()

class Held:
    # The lock of ours in which the collector runs: it leaves nothing to chance.
    def __init__(self, lock):
        self.lock = lock

    def acquire(self, *arguments, **options):
        got = self.lock.acquire(*arguments, **options)
        self.litter()
        return got

    def release(self):
        self.litter()
        self.lock.release()

    def litter(self):
        if not getattr(dying, "now", False):  # the litter's own locks make no more of it
            Garbage()
            gc.collect(0)

    __enter__ = acquire

    def __exit__(self, *error):
        self.release()

recorder._start_lock = Held(recorder._start_lock)
gc.set_threshold(20)
ask()
flusher = recorder._flusher
flusher.ledger = Held(flusher.ledger)
for number in range(50):
    Garbage()
    ask()
    if number % 10 == 0:
        assert recorder.flush(60)
gc.set_threshold(700)
gc.collect()
recorder.flush(60)
flusher._overdue_ns = 0  # it seems to hang: the next measurement looks after it, with its lock
recorder._is_started = False
ask()
recorder.close(60)
print(died)
"""


@pytest.mark.fault(19)
def test_a_finalizer_that_measures_while_we_hold_a_lock(
    store: str, rows: Rows, tmp_path: Path
) -> None:
    died = int(_run(_COMMON + _GARBAGE, store, tmp_path).stdout)
    assert died > 50
    assert counts(rows) == {"GET /x/{id}": (52, 0)}


_END = """
import atexit

class Last:
    def __del__(self):  # the interpreter is ending
        assert sys.is_finalizing()
        other.metric("too late", 1, "")
        ask()

other = Recorder("shop", store, sample_process=False, spool_folder=folder)
for _ in range(20):
    ask()
recorder.metric("last words", 1, "")
last = Last()
import builtins
builtins.kept_to_the_end = last
"""


@pytest.mark.fault(20)
@pytest.mark.parametrize("is_away", [False, True], ids=["store", "no store"])
def test_the_interpreters_end_is_quiet_and_loses_nothing(
    is_away: bool,
    store: str,
    rows: Rows,
    tmp_path: Path,
    make_recorder: Callable[..., Recorder],
) -> None:
    _run(_COMMON + _END, _NOWHERE if is_away else store, tmp_path)
    _adopt(make_recorder)
    assert counts(rows) == {"GET /x/{id}": (20, 0)}
    assert dict(rows(_CUSTOM)) == {"last words": 1}


_NO_THREADS = """
import _thread
real = threading._start_new_thread

def refuse(*arguments):
    raise RuntimeError("can't start new thread")

threading._start_new_thread = refuse
ask()
recorder.metric("early", 1, "")
account = recorder.accounting()
assert (account.generated, account.buffered, account.missing) == (2, 2, 0)
assert account.self_errors >= 1
if sys.argv[3:] == ["never"]:
    sys.exit()
threading._start_new_thread = real
recorder._flusher._overdue_ns = 0  # the time after which it tries again is over
ask()
recorder.close(60)
"""


@pytest.mark.fault(20)
def test_without_a_thread_it_waits_until_there_is_one(
    store: str, rows: Rows, tmp_path: Path
) -> None:
    _run(_COMMON + _NO_THREADS, store, tmp_path)
    assert counts(rows) == {"GET /x/{id}": (2, 0)}
    assert dict(rows(_CUSTOM)) == {"early": 1}
