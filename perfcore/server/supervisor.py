"""Start the processes of one Perfcore, watch them, and see that none outlives its parent."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

log = logging.getLogger(__name__)

SUPERVISED = "PERFCORE_SUPERVISED"
ROOT = Path(__file__).parents[2]
_GRACE_S = 5.0


def die_with_parent(environ: Mapping[str, str] | None = None) -> None:
    """End this process when its supervisor ends, however that happens.

    A supervised process has a pipe as its standard input that the supervisor never writes
    to: end of file means that the supervisor is gone. The process then gets SIGTERM, and
    five seconds later it is over. Without a supervisor this does nothing.
    """
    environ = os.environ if environ is None else environ
    if environ.get(SUPERVISED) != "1":
        return
    threading.Thread(target=_wait_for_end_of_input, name="perfcore-parent", daemon=True).start()


def _wait_for_end_of_input() -> None:
    with contextlib.suppress(OSError):
        while os.read(0, 1):
            pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GRACE_S)
    os._exit(1)


@dataclass(frozen=True, slots=True)
class Program:
    """A process to keep running."""

    name: str
    arguments: tuple[str, ...]  # after the Python interpreter
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass
class _Running:
    program: Program
    process: subprocess.Popen[bytes]
    started_at: float
    failures: int = 0


class Supervisor:
    """Keep programs running; each writes to `<log_folder>/<name>.log`."""

    def __init__(self, log_folder: Path) -> None:
        self.log_folder = log_folder
        self._running: dict[str, _Running] = {}
        self._waiting: dict[str, tuple[Program, float, int]] = {}

    def start(self, program: Program) -> None:
        """Start a program; from then on `tend` keeps it running."""
        self._running[program.name] = _Running(program, self._spawn(program), time.monotonic())

    def tend(self, now: float | None = None) -> list[str]:
        """Start again what has ended, ever more slowly, and return one line for each that did."""
        now = time.monotonic() if now is None else now
        lines = []
        for name, running in list(self._running.items()):
            code = running.process.poll()
            if code is None:
                continue
            _close_input(running.process)
            del self._running[name]
            lived_s = now - running.started_at
            failures = 1 if lived_s > 60 else running.failures + 1
            delay_s = min(30.0, 2.0**failures / 2)
            self._waiting[name] = (running.program, now + delay_s, failures)
            lines.append(
                f"{name} ended with code {code} after {lived_s:.0f} s, again in {delay_s:.0f} s; "
                f"see {self.log_of(name)}"
            )
        for name, (program, due, failures) in list(self._waiting.items()):
            if now >= due:
                del self._waiting[name]
                self._running[name] = _Running(program, self._spawn(program), now, failures)
        return lines

    def log_of(self, name: str) -> Path:
        return self.log_folder / f"{name}.log"

    def stop(self) -> None:
        """Ask every program to end, in the reverse order of their start, and see that it does."""
        processes = [r.process for r in reversed(list(self._running.values()))]
        self._running.clear()
        self._waiting.clear()
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
        deadline = time.monotonic() + _GRACE_S
        for process in processes:
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            _close_input(process)

    def _spawn(self, program: Program) -> subprocess.Popen[bytes]:
        self.log_folder.mkdir(parents=True, exist_ok=True)
        path = self.log_of(program.name)
        if path.exists() and path.stat().st_size > 10_000_000:
            path.unlink()
        with path.open("ab") as output:
            return subprocess.Popen(
                [sys.executable, *program.arguments],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env={**os.environ, **program.environ, SUPERVISED: "1", "PYTHONUNBUFFERED": "1"},
                # Ctrl-C reaches the supervisor alone, which then stops the others in order.
                start_new_session=True,
            )


def _close_input(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.close()


def module(name: str, arguments: Sequence[str], **environ: str) -> Program:
    """Return the program `python -m perfcore.<name>` (or `perfcore <name>` without a dot)."""
    words = ("-m", "perfcore", name) if "." not in name else ("-m", f"perfcore.{name}")
    return Program(name.rpartition(".")[2], (*words, *arguments), environ)
