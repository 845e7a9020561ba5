"""Where batches wait on disk while the store is away: one SQLite file a process, in WAL mode.

A process holds a lock on its file. A file whose lock is free belongs to a process that has died,
and any other process may take it over; the batch ids keep what it had sent already from counting
twice. SQLite is in the standard library, survives `kill -9`, and needs no format of our own.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO

from perfcore.store.ingest import Batch

try:
    import fcntl
except ImportError:  # Windows: no locks, so spools of dead processes stay where they are
    fcntl = None  # type: ignore[assignment]

LIMIT_BYTES = 256 * 1024 * 1024
_SUFFIX = ".spool"
_SCHEMA = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
PRAGMA busy_timeout = 1000;
CREATE TABLE IF NOT EXISTS batches (
    position INTEGER PRIMARY KEY,
    batch_id TEXT NOT NULL,
    samples  INTEGER NOT NULL,
    content  BLOB NOT NULL
);
"""


class SpoolFull(Exception):
    """The spools of this host have reached their limit."""


class SpoolGone(Exception):
    """The file was deleted from under the process."""


class Spool:
    """The waiting batches of one process, oldest first.

    sqlite3.Error and OSError pass through: the disk is full, read-only or gone, and the
    caller keeps the batch in memory instead.
    """

    def __init__(self, path: Path, *, limit_bytes: int = LIMIT_BYTES) -> None:
        self.path = path
        self._limit_bytes = limit_bytes
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = _lock(path)
        if self._lock is None:
            raise OSError(f"spool {path}: another process holds its lock")
        try:
            self._database = _open(path)
        except sqlite3.Error:
            self._lock.close()
            raise

    def put(self, batch: Batch) -> None:
        """Append a batch; raises SpoolFull over the limit of all spools, SpoolGone.

        Over half of the limit raw samples are left behind: the histograms stay whole.
        """
        used = folder_bytes(self.path.parent)
        if used > self._limit_bytes // 2:
            batch = replace(batch, raw=())
        content = batch.to_bytes()
        if used + len(content) > self._limit_bytes:
            raise SpoolFull(f"the spools in {self.path.parent} hold {used} bytes")
        if not self.path.exists():
            raise SpoolGone(f"spool {self.path} was deleted")
        self._database.execute(
            "INSERT INTO batches (batch_id, samples, content) VALUES (?, ?, ?)",
            (batch.batch_id, batch.samples, content),
        )

    def first(self) -> tuple[int, str, int, bytes] | None:
        """Return (position, batch id, samples, content) of the oldest batch."""
        rows = self._database.execute(
            "SELECT position, batch_id, samples, content FROM batches ORDER BY position LIMIT 1"
        ).fetchall()
        return rows[0] if rows else None

    def remove(self, position: int) -> None:
        """Forget a batch that has been stored."""
        self._database.execute("DELETE FROM batches WHERE position = ?", (position,))

    def close(self, *, keep: bool = True) -> None:
        """Close the file and free its lock; without `keep` delete it, as when it is empty."""
        self._database.close()
        if not keep:
            for suffix in ("", "-wal", "-shm", ".lock"):
                self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
        if self._lock is not None:
            self._lock.close()

    def set_aside(self) -> None:
        """Close a file that cannot be read, and rename it so that nobody adopts it."""
        with contextlib.suppress(sqlite3.Error):
            self._database.close()
        with contextlib.suppress(OSError):
            self.path.rename(self.path.with_name(self.path.name + ".broken"))
        if self._lock is not None:
            self._lock.close()

    def abandon(self) -> None:
        """Let go of it after a fork: the parent goes on with the file."""
        if self._lock is not None:
            self._lock.close()


def folder_bytes(folder: Path) -> int:
    """Return what the files of a spool folder occupy; a file that vanishes counts nothing."""
    total = 0
    for path in folder.glob(f"*{_SUFFIX}*"):
        with contextlib.suppress(FileNotFoundError):
            total += path.stat().st_size
    return total


def spool_path(folder: Path, process: str) -> Path:
    """Return the file of a process; its name holds only what every file system allows."""
    safe = "".join(c if c.isalnum() or c in "-." else "_" for c in process)
    return folder / f"{safe[:150]}{_SUFFIX}"


def orphans(folder: Path, own: Path) -> Iterator[Spool]:
    """Open, one after the other, the spools whose processes have died."""
    if fcntl is None:
        return
    for path in sorted(folder.glob(f"*{_SUFFIX}")):
        if path == own:
            continue
        try:
            yield Spool(path)
        except (OSError, sqlite3.Error):
            continue


def _open(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        database.executescript(_SCHEMA)
    except sqlite3.Error:
        database.close()
        raise
    return database


def _lock(path: Path) -> IO[bytes] | None:
    handle = path.with_name(path.name + ".lock").open("ab")
    if fcntl is not None:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            handle.close()
            return None
    return handle
