"""Where batches wait on disk while the store is away: one SQLite file a process, in WAL mode.

A process holds a lock on its file. A file whose lock is free belongs to a process that has died,
and any other process may take it over; the batch ids keep what it had sent already from counting
twice. SQLite is in the standard library, survives `kill -9`, and needs no format of our own.

A commit reaches the disk before it returns: one flush a second is two fsyncs a second, and so a
power failure costs no more than `kill -9`. The log beside the file never holds more than one
commit, because a flipped bit in it costs all that follows. Each row carries a checksum, so a
flipped bit costs the row it hits; where it hits the tree above the rows, what can still be read
moves to a new file.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple

from perfcore.store.ingest import Batch

try:
    import fcntl
except ImportError:  # Windows: no locks, so spools of dead processes stay where they are
    fcntl = None  # type: ignore[assignment]

LIMIT_BYTES = 256 * 1024 * 1024
VERSION = 1
_SUFFIX = ".spool"
_PAGE_BYTES = 4096
_STRIPPED_AT_ONCE = 16
_LOG_BYTES = 64 * _PAGE_BYTES  # of the log, besides the batch itself
_SCHEMA = f"""
PRAGMA page_size = {_PAGE_BYTES};
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
PRAGMA busy_timeout = 1000;
PRAGMA cache_size = -512;
PRAGMA wal_autocheckpoint = 1;
PRAGMA journal_size_limit = {_LOG_BYTES};
PRAGMA cell_size_check = ON;
PRAGMA secure_delete = OFF;
CREATE TABLE IF NOT EXISTS batches (
    position INTEGER PRIMARY KEY,
    batch_id TEXT NOT NULL,
    samples  INTEGER NOT NULL,
    content  BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS raws (position INTEGER PRIMARY KEY, raw BLOB NOT NULL);
"""
_UPGRADE = f"""
ALTER TABLE batches ADD COLUMN checksum INTEGER;
PRAGMA user_version = {VERSION};
"""
# SQLITE_PERM, BUSY, LOCKED, NOMEM, READONLY, INTERRUPT, IOERR, FULL, CANTOPEN, PROTOCOL: what
# surrounds the file is at fault, and it may pass.
_OUTSIDE = {3, 5, 6, 7, 8, 9, 10, 13, 14, 15}
_SELECT = (
    "SELECT b.position, b.batch_id, b.samples, b.content, r.raw, b.checksum "
    "FROM batches b LEFT JOIN raws r ON r.position = b.position "
)


class SpoolFull(Exception):
    """The spools of this host have reached their limit."""


class SpoolGone(Exception):
    """The file was deleted from under the process."""


class Row(NamedTuple):
    """A batch as it waits; `raw` is its raw samples, the first to be left behind."""

    position: int
    batch_id: str
    samples: int
    content: bytes
    raw: bytes | None
    checksum: int | None  # none in a file of the first version

    @property
    def is_whole(self) -> bool:
        try:
            return self.checksum is None or self.checksum == _checksum(*self[:4])
        except TypeError:  # the type of a column flipped
            return False

    @property
    def is_readable(self) -> bool:
        try:
            self.batch()
        except ValueError:
            return False
        return True

    def batch(self) -> Batch:
        """Return the batch; ValueError when it cannot be read."""
        if not self.is_whole:
            raise ValueError("the checksum is wrong")
        try:
            batch = Batch.from_parts(self.content, self.raw)
        except TypeError as error:
            raise ValueError(f"a column is of another type: {error}") from error
        if (batch.batch_id, batch.samples) != (self.batch_id, self.samples):
            raise ValueError("the row and the batch within disagree")
        return batch


class Spool:
    """The waiting batches of one process, oldest first.

    sqlite3.Error and OSError pass through: the disk is full, read-only or gone, and the
    caller keeps the batch in memory instead. Where `is_damage` says that the file itself is
    the reason, `repair` saves what can be read.
    """

    def __init__(self, path: Path, *, limit_bytes: int = LIMIT_BYTES, create: bool = True) -> None:
        self.path = path
        self._limit_bytes = limit_bytes
        self.last_put = 0  # the position of the last batch that was put
        if create:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = _lock(path)
        if self._lock is None:
            raise OSError(f"spool {path}: another process holds its lock")
        try:
            if not create and not path.exists():
                raise FileNotFoundError(f"spool {path}: somebody else has emptied it")
            self._open()
        except BaseException:
            self._lock.close()
            raise

    def _open(self) -> None:
        try:
            self._database = _open(self.path)
            self._inode = self.path.stat().st_ino
            [(self.samples,)] = self._database.execute(
                "SELECT coalesce(sum(samples), 0) FROM batches"
            )
            if not isinstance(self.samples, int):
                raise sqlite3.DatabaseError(f"{self.samples!r} samples")
        except sqlite3.Error as error:
            if not is_damage(error):
                raise
            self.repair()

    def put(self, batch: Batch) -> int:
        """Append a batch; how many samples of older ones had to go to make room for it.

        SpoolFull when nothing of this process is left to go, SpoolGone without the file. Over
        half of the limit raw samples are left behind, then those of older batches: the
        histograms stay whole as long as there is any other way.
        """
        if not self._is_there():
            raise SpoolGone(f"spool {self.path} was deleted")
        content, raw = batch.to_parts()
        if folder_bytes(self.path.parent) > self._limit_bytes // 2:
            raw = b""
        with self._transaction():
            dropped = self._make_room(len(content) + len(raw))
            position = self._insert(batch.batch_id, batch.samples, content, raw)
        self.samples += batch.samples - dropped
        self.last_put = position
        return dropped

    def _insert(self, batch_id: str, samples: int, content: bytes, raw: bytes | None) -> int:
        position = 1 + self._last()
        checksum = _checksum(position, batch_id, samples, content)
        self._database.execute(
            "INSERT INTO batches (position, batch_id, samples, content, checksum) "
            "VALUES (?, ?, ?, ?, ?)",
            (position, batch_id, samples, content, checksum),
        )
        if raw:
            self._database.execute("INSERT OR REPLACE INTO raws VALUES (?, ?)", (position, raw))
        return position

    def _last(self) -> int:
        [(last,)] = self._database.execute("SELECT coalesce(max(position), 0) FROM batches")
        return int(last)

    def _make_room(self, wanted: int) -> int:
        """Drop what must go for so many bytes; how many samples that were."""
        dropped = 0
        while (lacking := self._lacking(wanted)) > 0:
            if _forget_broken(self.path.parent):
                continue
            oldest = self.first()
            # Where others have filled the folder, dropping what is here helps nobody.
            if oldest is None or lacking > wanted + _LOG_BYTES:
                raise SpoolFull(f"the spools in {self.path.parent} have reached their limit")
            if not self._strip_oldest():
                self._delete(oldest.position)
                dropped += oldest.samples if oldest.is_whole else 0
        return dropped

    def _lacking(self, wanted: int) -> int:
        """Return how many bytes the folder would be over its limit with so many more here."""
        [(free_pages,)] = self._database.execute("PRAGMA freelist_count")
        growth = max(0, wanted + 4 * _PAGE_BYTES - free_pages * _PAGE_BYTES)
        log_growth = max(0, wanted + _LOG_BYTES - _bytes([self._beside("-wal")]))
        return int(folder_bytes(self.path.parent) + growth + log_growth - self._limit_bytes)

    def _beside(self, suffix: str) -> Path:
        return self.path.with_name(self.path.name + suffix)

    def _strip_oldest(self) -> bool:
        done = self._database.execute(
            "DELETE FROM raws WHERE position IN (SELECT position FROM raws ORDER BY 1 LIMIT ?)",
            (_STRIPPED_AT_ONCE,),
        )
        return done.rowcount > 0

    def _is_there(self) -> bool:
        try:
            return self.path.stat().st_ino == self._inode
        except OSError:
            return False

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._database.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                self._database.execute("ROLLBACK")
            raise

    def first(self, after: int = 0) -> Row | None:
        """Return the oldest batch beyond that position."""
        rows = self._database.execute(
            f"{_SELECT} WHERE b.position > ? ORDER BY b.position LIMIT 1", (after,)
        ).fetchall()
        return Row(*rows[0]) if rows else None

    def remove(self, rows: Sequence[Row], *, are_known: bool = True) -> list[Row]:
        """Forget rows; those that were still there come back, the others had to make room.

        Of damaged rows nobody knows how many samples they held (`are_known` is false): that is
        seen in `samples` when all others are gone. A row that is there and does not go is
        damage, or it would be sent for ever.
        """
        # What a power failure brings back is sent again, and the store knows its id.
        self._database.execute("PRAGMA synchronous = NORMAL")
        try:
            with self._transaction():
                removed = [row for row in rows if self._delete(row.position)]
        finally:
            self._database.execute("PRAGMA synchronous = FULL")
        if are_known:
            self.samples -= sum(row.samples for row in removed)
        return removed

    def _delete(self, position: int) -> bool:
        self._database.execute("DELETE FROM raws WHERE position = ?", (position,))
        if self._database.execute("DELETE FROM batches WHERE position = ?", (position,)).rowcount:
            return True
        row = self.first(position - 1)
        if row is not None and row.position == position:
            raise sqlite3.DatabaseError(f"batch {position} cannot be removed")
        return False

    def withdraw(self, batch: Batch) -> bool:
        """Forget a batch that was stored after all; False when it had to go before."""
        rows = self._database.execute(
            f"{_SELECT} WHERE b.batch_id = ?", (batch.batch_id,)
        ).fetchall()
        whole = [row for row in map(Row._make, rows) if row.is_whole]
        return bool(whole and self.remove(whole))

    def repair(self) -> None:
        """Move what can be read to a new file; the damaged one stays beside it as `.broken`.

        Then `samples` is what was saved. The errors of `put` pass through.
        """
        with contextlib.suppress(AttributeError, sqlite3.Error):
            self._database.close()
        broken = self._rename("broken")
        self._database = _open(self.path)
        self._inode = self.path.stat().st_ino
        self.samples = 0
        with self._transaction():
            for row in _readable(broken):
                self._insert(row.batch_id, row.samples, row.content, row.raw)
                self.samples += row.samples

    def _rename(self, word: str) -> Path:
        aside = self.path.with_name(f"{self.path.name}.{word}")
        for suffix in ("", "-wal"):
            source = self._beside(suffix)
            with contextlib.suppress(FileNotFoundError):
                source.rename(aside.with_name(aside.name + suffix))
        self._beside("-shm").unlink(missing_ok=True)
        return aside

    @property
    def file_bytes(self) -> int:
        """Return what the file and its log occupy."""
        return _bytes(self.path.parent.glob(f"{self.path.name}*"))

    def close(self, *, keep: bool = True) -> None:
        """Close the file and free its lock; without `keep` delete it, as when it is empty."""
        try:
            self._database.close()
            if not keep:
                for suffix in ("", "-wal", "-shm", ".lock"):
                    self._beside(suffix).unlink(missing_ok=True)
        finally:
            self.abandon()

    def set_aside(self) -> None:
        """Close a file that cannot be read, and rename it so that nobody adopts it."""
        with contextlib.suppress(sqlite3.Error):
            self._database.close()
        with contextlib.suppress(OSError):
            self._rename("broken")
            self._beside(".lock").unlink(missing_ok=True)
        self.abandon()

    def abandon(self) -> None:
        """Let go of it, as after a fork: the parent goes on with the file."""
        if self._lock is not None:
            self._lock.close()


def folder_bytes(folder: Path) -> int:
    """Return what the files of a spool folder occupy; a file that vanishes counts nothing."""
    return _bytes(folder.glob(f"*{_SUFFIX}*"))


def _bytes(paths: Iterable[Path]) -> int:
    total = 0
    for path in paths:
        with contextlib.suppress(OSError):
            total += path.stat().st_size
    return total


def _forget_broken(folder: Path) -> bool:
    """Delete what was set aside, when its room is wanted; whether there was anything."""
    found = list(folder.glob(f"*{_SUFFIX}.broken*"))
    for path in found:
        path.unlink(missing_ok=True)
    return bool(found)


def is_damage(error: sqlite3.Error) -> bool:
    """Return whether the file is at fault, and not the disk or a lock."""
    if not isinstance(error, sqlite3.DatabaseError):
        return False
    code = getattr(error, "sqlite_errorcode", None)
    return (
        code is None
        and not isinstance(error, sqlite3.OperationalError)
        or (code is not None and code & 0xFF not in _OUTSIDE)
    )


def spool_path(folder: Path, process: str) -> Path:
    """Return the file of a process; its name holds only what every file system allows."""
    safe = "".join(c if c.isascii() and (c.isalnum() or c in "-.") else "_" for c in process)
    return folder / f"{safe[:150]}{_SUFFIX}"


def orphans(folder: Path, own: Path) -> Iterator[Spool]:
    """Open, one after the other, the spools whose processes have died."""
    if fcntl is None:
        return
    for path in sorted(folder.glob(f"*{_SUFFIX}")):
        if path == own:
            continue
        try:
            yield Spool(path, create=False)
        except (OSError, sqlite3.Error, NewerSpool):
            continue


class NewerSpool(Exception):
    """A newer version of this program wrote the file: it is left for that one."""


def _open(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        [(version,)] = database.execute("PRAGMA user_version")
        if version > VERSION:
            raise NewerSpool(f"spool {path} is of version {version}, this program knows {VERSION}")
        database.executescript(_SCHEMA)
        if version < VERSION:
            database.executescript(f"BEGIN; {_UPGRADE} COMMIT;")
    except BaseException:
        database.close()
        raise
    return database


def _readable(path: Path) -> Iterator[Row]:
    """Yield the rows of a damaged file that are whole, each looked up by itself."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
        try:
            [(last,)] = database.execute("SELECT max(position) FROM batches")
            [(start,)] = database.execute("SELECT min(position) FROM batches")
            positions = range(int(start or 1), min(int(last or 0), int(start or 1) + 10**6) + 1)
        except (sqlite3.Error, TypeError, ValueError):
            return
        for position in positions:
            try:
                row = database.execute(f"{_SELECT} WHERE b.position = ?", (position,)).fetchone()
            except (sqlite3.Error, OverflowError):
                continue
            if row is not None and Row(*row).is_readable:
                yield Row(*row)


def _checksum(position: int, batch_id: str, samples: int, content: bytes) -> int:
    return zlib.crc32(content, zlib.crc32(f"{position} {batch_id} {samples}".encode()))


def _lock(path: Path) -> IO[bytes] | None:
    handle = path.with_name(path.name + ".lock").open("ab")
    if fcntl is None:
        return handle
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Whoever held it before may have deleted the file that it belongs to.
        held, named = os.fstat(handle.fileno()), os.stat(handle.name)
        if held.st_ino != named.st_ino:
            raise OSError(f"{handle.name} is another file now")
    except OSError:
        handle.close()
        return None
    return handle
