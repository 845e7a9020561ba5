"""What waits for the store: on disk, and in memory where there is no disk, with exact counts."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from perfcore.collect.quiet import QuietLog
from perfcore.collect.spool import Row, Spool, SpoolFull, SpoolGone, is_damage, orphans, spool_path
from perfcore.store.ingest import Batch

MEMORY_LIMIT_BYTES = 8 * 1024 * 1024
_OVERHEAD_BYTES = 300  # of a waiting batch, besides its bytes

Drop = Callable[[int, str], None]  # samples, reason


class _Held(NamedTuple):
    batch_id: str
    samples: int
    content: bytes
    raw: bytes

    @property
    def size(self) -> int:
        return len(self.content) + len(self.raw) + _OVERHEAD_BYTES


class Backlog:
    """The waiting batches of a process. Nothing here raises for a bad disk: it is counted."""

    def __init__(
        self,
        name: str,
        folder: Callable[[], Path],
        drop: Drop,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self._name = name
        self._folder = folder
        self._drop = drop
        self._check = check  # raises in a thread that was replaced while it hung in the disk
        self._log = QuietLog(logging.getLogger("perfcore.collect.spool"))
        self._spool: Spool | None = None
        self._memory: deque[_Held] = deque()
        self._memory_bytes = 0
        self._stuck: tuple[Spool, int] | None = None  # held by a hanging thread; its last put
        self._left = 0  # samples in the file that was closed, for a later process to send
        self._left_bytes = 0
        self._is_shut = False
        self.is_busy = False  # a thread is within a call to the disk

    @property
    def samples(self) -> int:
        on_disk = self._spool.samples if self._spool is not None else 0
        stuck = self._stuck[0].samples if self._stuck is not None else 0
        return on_disk + stuck + self._left + sum([b.samples for b in list(self._memory)])

    @property
    def disk_bytes(self) -> int:
        return self._spool.file_bytes if self._spool is not None else self._left_bytes

    def put(self, batch: Batch) -> None:
        """Let a batch wait, or count it as dropped when there is no room at all."""
        if self._put_on_disk(batch):
            self._move_to_disk()
        else:
            self._put_in_memory(_Held(batch.batch_id, batch.samples, *batch.to_parts()))

    def _put_on_disk(self, batch: Batch) -> bool:
        """Return whether the disk took it, or counted it: False when there is no disk."""
        if self._is_shut:
            return False
        try:
            with self._guard():
                dropped = self._open_spool().put(batch)
            if dropped:
                self._drop(dropped, "spool_full")
            return True
        except SpoolFull:
            self._drop(batch.samples, "spool_full")
            return True
        except SpoolGone as error:
            self._rescue(error)
        except (OSError, sqlite3.Error) as error:
            self._meet(error, "no room on disk, batches wait in memory")
        return False

    def _meet(self, error: Exception, what: str) -> None:
        """Deal with an error of the disk: a damaged file is repaired, else it may pass."""
        if isinstance(error, sqlite3.Error) and is_damage(error):
            self._repair(error)
        else:
            self._log.warning(f"{what}: {error}")

    def _rescue(self, error: SpoolGone) -> None:
        """Take what was in a deleted file into memory: it can be read as long as it is open."""
        spool, self._spool = self._spool, None
        if spool is None:
            return
        before = spool.samples
        for row in whole_rows(spool):
            self._put_in_memory(_Held(row.batch_id, row.samples, row.content, row.raw or b""))
            spool.samples -= row.samples
        self._log.warning(f"{error}: {spool.samples} of {before} samples are lost")
        if spool.samples:
            self._drop(spool.samples, "spool_lost")
        with contextlib.suppress(OSError, sqlite3.Error):
            spool.close()

    def _move_to_disk(self) -> None:
        """After a disk came back: what is in memory goes there, a few at a time."""
        for _ in range(min(len(self._memory), 10)):
            held = self._memory[0]
            try:
                batch = Batch.from_parts(held.content, held.raw)
            except ValueError:
                return
            if not self._put_on_disk(batch):
                return
            self._forget_oldest()

    def _put_in_memory(self, held: _Held) -> None:
        if self._memory_bytes + held.size > MEMORY_LIMIT_BYTES // 2:
            held = held._replace(raw=b"")
        while self._memory and self._memory_bytes + held.size > MEMORY_LIMIT_BYTES:
            if not self._strip_memory():
                self._drop(self._forget_oldest().samples, "memory_full")
        if held.size > MEMORY_LIMIT_BYTES:
            self._drop(held.samples, "memory_full")
            return
        self._memory_bytes += held.size
        self._memory.append(held)

    def _strip_memory(self) -> bool:
        """Leave the raw samples behind; whether there were any."""
        if not any(held.raw for held in self._memory):
            return False
        self._memory = deque(held._replace(raw=b"") for held in self._memory)
        self._memory_bytes = sum(held.size for held in self._memory)
        return True

    def _forget_oldest(self) -> _Held:
        held = self._memory.popleft()
        self._memory_bytes -= held.size
        return held

    def withdraw(self, batch: Batch) -> bool:
        """Forget a batch that was stored after all; False when it was dropped before."""
        for held in self._memory:
            if held.batch_id == batch.batch_id:
                self._memory.remove(held)
                self._memory_bytes -= held.size
                return True
        if self._spool is None:
            return False
        try:
            with self._finishing():
                return self._spool.withdraw(batch)
        except (OSError, sqlite3.Error) as error:
            # It will be sent once more, and the store will know it.
            self._meet(error, "a batch could not be taken out of the spool")
            return False

    def take(self, count: int, size: int) -> tuple[list[Row], list[Batch]]:
        """Return the oldest rows with their batches, at most so many and so many bytes.

        What cannot be read is taken out and counted.
        """
        if self._spool is not None:
            try:
                with self._guard():
                    rows, batches, bad = read_some(self._spool, count, size)
                    if bad:
                        self._log.warning(f"{len(bad)} batches in {self._spool.path} are damaged")
                        # How many samples they held is known when the others are through.
                        self._spool.remove(bad, are_known=False)
                if rows:
                    return rows, batches
            except (OSError, sqlite3.Error) as error:
                self._meet(error, "the spool cannot be read")
        held = self._memory[0] if self._memory else None
        if held is None:
            return [], []
        row = Row(0, held.batch_id, held.samples, held.content, held.raw, None)
        return [row], [Batch.from_parts(held.content, held.raw)]

    def remove(self, rows: Sequence[Row]) -> list[Row]:
        """Forget rows that `take` gave; those that are gone by this come back.

        The others were dropped meanwhile, or stay and will be sent once more.
        """
        if rows[0].position == 0:
            if not self._memory or self._memory[0].batch_id != rows[0].batch_id:
                return []
            self._forget_oldest()
            return list(rows)
        if self._spool is None:
            return []
        try:
            with self._finishing():
                return self._spool.remove(rows)
        except (OSError, sqlite3.Error) as error:
            self._meet(error, "batches could not be taken out of the spool")
            return []

    def tidy(self) -> None:
        """Delete the file when nothing is in it any more; what it still owes is lost."""
        spool = self._spool
        if spool is None:
            return
        with contextlib.suppress(OSError, sqlite3.Error), self._guard():
            if spool.first() is not None:
                return
            self._spool = None
            if spool.samples:
                self._drop(spool.samples, "spool_corrupt")
            spool.close(keep=False)

    def orphans(self) -> Iterator[Spool]:
        """Open, one after the other, the spools of processes that died."""
        folder = self._folder()
        if not folder.is_dir():
            return
        own = self._spool.path if self._spool is not None else folder
        yield from orphans(folder, own)

    def close(self) -> None:
        """Close the file; what is in it still waits, and whoever finds it will send it."""
        spool, self._spool = self._spool, None
        self._is_shut = True
        if spool is None:
            return
        self._left = spool.samples
        with contextlib.suppress(OSError, sqlite3.Error):
            self._left_bytes = spool.file_bytes
            spool.close(keep=spool.first() is not None)

    def abandon(self) -> None:
        """In a forked child: free the lock's copy, leave everything else to the parent."""
        if self._spool is not None:
            self._spool.abandon()

    def give_up_disk(self) -> None:
        """Leave the file to a thread that hangs in it: from now on batches wait in memory."""
        if self._spool is not None:
            self._stuck = (self._spool, self._spool.last_put)
            self._spool = None
        self._is_shut = True
        self.is_busy = False

    def take_disk_back(self) -> None:
        """The hanging thread has ended: go on with its file, without what was done twice."""
        self._is_shut = False
        if self._stuck is None:
            return
        (self._spool, last_put), self._stuck = self._stuck, None
        with contextlib.suppress(OSError, sqlite3.Error):
            row = self._spool.first(last_put)
            # Its successor took the batch that it hung with into memory.
            if last_put and row is not None and row.is_whole:
                self._spool.remove([row])

    def _open_spool(self) -> Spool:
        if self._spool is None:
            self._spool = Spool(spool_path(self._folder(), self._name))
        return self._spool

    def _repair(self, error: Exception) -> None:
        """Save what can be read of a damaged file, and count what cannot."""
        spool = self._spool
        if spool is None:
            return
        before = spool.samples
        try:
            spool.repair()
        except Exception:
            spool.set_aside()
            self._spool = None
            spool.samples = 0
        lost = before - spool.samples
        self._log.warning(f"the spool {spool.path} is damaged, {lost} samples are lost: {error}")
        if lost:
            self._drop(lost, "spool_lost")

    @contextlib.contextmanager
    def _guard(self) -> Iterator[None]:
        """Say that the disk is asked; a thread that hangs there may be replaced meanwhile."""
        self._check()
        self.is_busy = True
        try:
            yield
        finally:
            self._check()
            self.is_busy = False

    @contextlib.contextmanager
    def _finishing(self) -> Iterator[None]:
        """As `_guard`, but even a thread that was replaced counts what it has done."""
        self.is_busy = True
        try:
            yield
        finally:
            with contextlib.suppress(BaseException):
                self._check()
                self.is_busy = False


def whole_rows(spool: Spool) -> Iterator[Row]:
    """Yield the rows that can be read, as far as the file can be."""
    row: Row | None = None
    with contextlib.suppress(OSError, sqlite3.Error):
        while (row := spool.first(row.position if row else 0)) is not None:
            if row.is_readable:
                yield row


def read_some(
    spool: Spool, count: int, size: int, after: int = 0
) -> tuple[list[Row], list[Batch], list[Row]]:
    """Return the oldest rows that can be read, their batches, and rows that cannot be."""
    rows: list[Row] = []
    batches: list[Batch] = []
    bad: list[Row] = []
    while len(rows) < count and size > 0 and len(bad) < 1000:
        row = spool.first(after)
        if row is None:
            break
        after = row.position
        try:
            batches.append(row.batch())
        except ValueError:
            bad.append(row)
            continue
        rows.append(row)
        size -= len(row.content) + len(row.raw or b"")
    return rows, batches, bad
