"""No supervised process outlives its supervisor, and one that ends is started again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from perfcore.server.supervisor import Program, Supervisor

# It ignores SIGTERM on purpose: the worst child there is.
_STUBBORN = (
    "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: None)\n"
    "from perfcore.server.supervisor import die_with_parent\n"
    "die_with_parent(); print('up', flush=True)\n"
    "while True: time.sleep(0.1)"
)


def _wait(condition: object, seconds: float = 15.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if callable(condition) and condition():
            return True
        time.sleep(0.05)
    return False


def test_children_end_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path\n"
        "from perfcore.server.supervisor import Program, Supervisor\n"
        "s = Supervisor(Path(sys.argv[1])); s.start(Program('child', ('-c', sys.argv[2])))\n"
        "print(s._running['child'].process.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path), _STUBBORN], stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert _wait(lambda: "up" in (tmp_path / "child.log").read_text())
        os.kill(parent.pid, signal.SIGKILL)
    assert _wait(lambda: not _lives(child), 10.0)


def test_stop_ends_even_what_ignores_sigterm(tmp_path: Path) -> None:
    supervisor = Supervisor(tmp_path)
    supervisor.start(Program("child", ("-c", _STUBBORN)))
    child = supervisor._running["child"].process.pid
    assert _wait(lambda: "up" in supervisor.log_of("child").read_text())
    supervisor.stop()
    assert not _lives(child)


def test_what_ends_is_started_again_more_and_more_slowly(tmp_path: Path) -> None:
    supervisor = Supervisor(tmp_path)
    supervisor.start(Program("child", ("-c", "print('started')")))
    started_at = time.monotonic()
    assert _wait(lambda: supervisor._running["child"].process.poll() is not None)
    (line,) = supervisor.tend(started_at + 1)
    assert "child ended with code 0" in line and "child.log" in line
    assert supervisor.tend(started_at + 1.5) == []
    supervisor.tend(started_at + 2.1)
    assert "child" in supervisor._running
    supervisor.stop()


def _lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
