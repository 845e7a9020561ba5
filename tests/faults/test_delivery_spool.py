"""A spool that is torn, flipped, full, gone, shared or of another version."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import subprocess
import sys
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from perfcore.collect import Recorder, backlog
from perfcore.collect import spool as spool_module
from perfcore.collect.backlog import Backlog
from perfcore.collect.spool import VERSION, NewerSpool, Spool, folder_bytes, orphans, spool_path
from perfcore.store.ingest import Batch
from tests.collect.conftest import Rows
from tests.store.test_ingest import a_batch

_NOWHERE = "postgresql://nobody:x@127.0.0.1:1/nothing"
_STORED = "SELECT coalesce(sum(count), 0)::int FROM metric_rollups"
_MAIN_FILE_TRIALS, _LOG_FILE_TRIALS = 400, 200


def _record(recorder: Recorder, count: int) -> None:
    for number in range(count):
        recorder.metric("queue.length", number, "jobs")


def _fill(folder: Path, count: int, *, checkpoint: bool) -> tuple[Path, dict[str, Batch]]:
    """Leave the spool of a process that was killed; return its file and its batches."""
    path = spool_path(folder, "shop-host:1:2")
    spool = Spool(path)
    if not checkpoint:
        spool._database.execute("PRAGMA wal_autocheckpoint = 0")
    batches = [replace(a_batch(n), batch_id=str(uuid.UUID(int=n))) for n in range(count)]
    for batch in batches:
        spool.put(batch)
    if checkpoint:
        spool._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    copies = folder / "copies"
    copies.mkdir()
    for file in folder.glob("*.spool*"):
        shutil.copy(file, copies)
    spool.close(keep=False)
    return copies / path.name, {b.batch_id: b for b in batches}


def _read_all(path: Path) -> tuple[set[str], int]:
    """Return the ids of the batches that an adopting process gets, and how many steps it took.

    Whatever it gets must be what was put: the caller checks that by the batch itself.
    """
    found: dict[str, Batch] = {}
    held = Backlog("other", lambda: path.parent, lambda samples, reason: None)
    steps = 0
    for spool in held.orphans():
        while steps < 200:
            steps += 1
            try:
                rows, batches, bad = backlog.read_some(spool, 4, 10**6)
                if bad:
                    spool.remove(bad, are_known=False)
                if not rows:
                    break
                found |= {b.batch_id: b for b in batches}
                spool.remove(rows)
            except sqlite3.Error:
                spool.set_aside()
                break
        spool.close()
    for batch in found.values():
        assert batch in _ORIGINALS or batch in [replace(b, raw=()) for b in _ORIGINALS]
    return set(found), steps


_ORIGINALS: list[Batch] = []


@pytest.fixture
def fast_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trials need no fsync: nobody cuts the power here."""
    schema = spool_module._SCHEMA.replace("synchronous = FULL", "synchronous = OFF")
    monkeypatch.setattr(spool_module, "_SCHEMA", schema)


@pytest.mark.fault(50, 53)
@pytest.mark.parametrize("part", ["", "-wal"])
@pytest.mark.parametrize("harm", ["flip", "cut"])
def test_a_damaged_file_costs_little_and_never_stops_anyone(
    part: str, harm: str, tmp_path: Path, fast_disk: None
) -> None:
    source, batches = _fill(tmp_path, 6, checkpoint=part == "")
    _ORIGINALS[:] = batches.values()
    content = (source.parent / (source.name + part)).read_bytes()
    chance = random.Random(4711)
    trials = _MAIN_FILE_TRIALS if part == "" else _LOG_FILE_TRIALS
    kept = []
    for number in range(trials if harm == "flip" else trials // 10):
        folder = tmp_path / f"trial{number}"
        folder.mkdir()
        for file in source.parent.glob("*.spool*"):
            if not file.name.endswith(("-shm", ".lock")):
                shutil.copy(file, folder)
        at = number if number < 100 else chance.randrange(len(content))
        harmed = bytearray(content)
        if harm == "flip":
            harmed[at] ^= 1 << chance.randrange(8)
        else:
            del harmed[at:]
        (folder / (source.name + part)).write_bytes(harmed)
        found, steps = _read_all(folder / source.name)
        assert steps < 200
        kept.append(len(found))
        shutil.rmtree(folder)
    if harm == "flip":
        # Where it hits the first page of the file, or the log, all of that is gone.
        later = kept[100:]
        assert sum(later) / len(later) > (4.9 if part == "" else 1)


@pytest.mark.fault(50)
def test_a_torn_tail_leaves_what_was_written_before(tmp_path: Path) -> None:
    source, batches = _fill(tmp_path, 6, checkpoint=False)
    _ORIGINALS[:] = batches.values()
    log = source.with_name(source.name + "-wal")
    log.write_bytes(log.read_bytes()[:-100])
    found, _ = _read_all(source)
    assert found == set(sorted(batches)[:5])


@pytest.mark.fault(53)
def test_a_page_damaged_under_a_running_process_is_counted_exactly(
    make_recorder: Callable[..., Recorder], store: str, rows: Rows, tmp_path: Path
) -> None:
    recorder = make_recorder(_NOWHERE)
    for _ in range(40):
        _record(recorder, 100)
        recorder.flush(20)
    assert recorder._flusher is not None
    spool = recorder._flusher.backlog._spool
    assert spool is not None
    spool._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    spool._database.execute("PRAGMA cache_size = 0")
    with spool.path.open("r+b") as file:
        file.seek(2 * 4096 + 1000)
        file.write(os.urandom(6000))
    recorder._flusher._store = store
    _record(recorder, 3)
    recorder.flush(60)
    recorder.flush(60)
    accounting = recorder.accounting()
    assert (accounting.missing, accounting.spooled, accounting.buffered) == (0, 0, 0)
    assert sum(accounting.dropped.values()) > 0
    assert rows(_STORED) == [(accounting.stored,)]
    assert accounting.stored > 0


@pytest.mark.fault(52, 56)
@pytest.mark.parametrize("place", ["/proc/nowhere", "a file", "/dev/full/x"])
def test_an_unwritable_place_means_memory(
    place: str,
    make_recorder: Callable[..., Recorder],
    store: str,
    rows: Rows,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder = tmp_path / "file" if place == "a file" else Path(place)
    if place == "a file":
        folder.write_text("")
    recorder = make_recorder(_NOWHERE, spool_folder=folder)
    for number in range(1, 4):
        _record(recorder, 10)
        assert not recorder.flush(20)
        assert (recorder.accounting().spooled, recorder.accounting().missing) == (10 * number, 0)
    warnings = [r for r in caplog.records if r.name == "perfcore.collect.spool"]
    assert [r.getMessage()[:50] for r in warnings] == [
        "perfcore: no room on disk, batches wait in memory:"
    ]
    assert recorder._flusher is not None
    recorder._flusher._store = store
    _record(recorder, 1)
    assert recorder.flush(20)
    assert rows(_STORED) == [(31,)]


@pytest.mark.fault(52)
def test_a_disk_that_comes_back_takes_what_waited_in_memory(
    make_recorder: Callable[..., Recorder], tmp_path: Path
) -> None:
    folder = tmp_path / "later"
    folder.write_text("in the way")
    recorder = make_recorder(_NOWHERE, spool_folder=folder)
    _record(recorder, 10)
    recorder.flush(20)
    folder.unlink()
    _record(recorder, 5)
    recorder.flush(20)
    recorder.close()
    [spool] = list(orphans(folder, folder))
    assert spool.samples == 15
    spool.close()


@pytest.mark.fault(52, 58)
def test_full_memory_drops_the_oldest_and_counts(
    make_recorder: Callable[..., Recorder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backlog, "MEMORY_LIMIT_BYTES", 5_000)
    recorder = make_recorder(_NOWHERE, spool_folder=Path("/proc/nowhere"))
    for _ in range(20):
        _record(recorder, 10)
        recorder.flush(20)
        assert recorder.accounting().missing == 0
    accounting = recorder.accounting()
    assert 0 < accounting.spooled < 200
    assert accounting.dropped == {"memory_full": 200 - accounting.spooled}
    assert recorder._flusher is not None
    assert recorder._flusher.backlog._memory_bytes <= 5_000


def _large(number: int) -> Batch:
    batch = a_batch(number)
    chance = random.Random(number)
    sample = batch.raw[0]
    return replace(
        batch,
        batch_id=str(uuid.UUID(int=number)),
        raw=tuple(replace(sample, value=chance.random()) for _ in range(2_000)),
        totals={"noise": chance.randbytes(4_000).hex()},
    )


@pytest.mark.fault(58, 126)
def test_a_full_spool_leaves_raw_samples_behind_then_the_oldest_batches(
    tmp_path: Path, fast_disk: None
) -> None:
    limit = 2_000_000
    spool = Spool(spool_path(tmp_path, "a"), limit_bytes=limit)
    dropped, saw_raw_stripped = 0, False
    for number in range(350):
        dropped += spool.put(_large(number))
        assert folder_bytes(tmp_path) <= limit
        [(with_raw,)] = spool._database.execute("SELECT count(*) FROM raws")
        saw_raw_stripped = saw_raw_stripped or (with_raw == 0 and dropped == 0)
        assert with_raw == 0 or dropped == 0
    assert saw_raw_stripped and dropped > 0 and dropped % 200 == 0
    assert spool.samples == 350 * 200 - dropped
    first = spool.first()
    assert first is not None
    assert first.batch().batch_id == str(uuid.UUID(int=dropped // 200))
    spool.close()


@pytest.mark.fault(126)
def test_the_limit_holds_for_all_processes_of_a_host_together(
    tmp_path: Path, fast_disk: None
) -> None:
    limit = 1_500_000
    spools = [Spool(spool_path(tmp_path, name), limit_bytes=limit) for name in "abc"]
    for number in range(100):
        for place, spool in enumerate(spools):
            spool.put(_large(3 * number + place))
            assert folder_bytes(tmp_path) <= limit
    assert all(spool.samples > 0 for spool in spools)
    for spool in spools:
        spool.close()


@pytest.mark.fault(55)
def test_an_orphan_is_adopted_by_one_of_many(
    make_recorder: Callable[..., Recorder], rows: Rows, tmp_path: Path
) -> None:
    spool = Spool(spool_path(tmp_path, "shop-dead:1:2"))
    for number in range(5):
        spool.put(replace(a_batch(number), batch_id=str(uuid.UUID(int=number))))
    with pytest.raises(OSError, match="another process"):
        Spool(spool.path)
    assert list(orphans(tmp_path, tmp_path)) == []
    spool.close()
    (tmp_path / "shop-dead_1_2.spool.lock").write_text("")  # a lock that nobody holds
    recorders = [make_recorder(interval_s=0.05) for _ in range(3)]
    for recorder in recorders:
        _record(recorder, 1)
    for recorder in recorders:
        assert recorder.flush(30)
    assert all(r.flush(30) for r in recorders)
    assert rows(_STORED) == [(1_003,)]
    assert rows("SELECT count(*)::int FROM batches") == [(8,)]
    assert sum(r.accounting().stored for r in recorders) == 3
    assert not list(tmp_path.glob("*dead*"))


@pytest.mark.fault(119)
def test_a_file_of_the_first_version_is_read_and_a_newer_one_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "old.spool"
    with sqlite3.connect(path) as database:
        database.execute(
            "CREATE TABLE batches (position INTEGER PRIMARY KEY, batch_id TEXT NOT NULL, "
            "samples INTEGER NOT NULL, content BLOB NOT NULL)"
        )
        batch = a_batch(1)
        database.execute(
            "INSERT INTO batches VALUES (1, ?, ?, ?)",
            (batch.batch_id, batch.samples, batch.to_bytes()),
        )
    database.close()
    spool = Spool(path)
    row = spool.first()
    assert row is not None and row.batch() == batch
    spool._database.execute(f"PRAGMA user_version = {VERSION + 1}")
    spool.close()
    with pytest.raises(NewerSpool):
        Spool(path)
    assert list(orphans(tmp_path, tmp_path)) == []
    assert path.exists()


@pytest.mark.fault(51)
def test_each_batch_is_on_disk_before_put_returns(tmp_path: Path) -> None:
    """The system calls say so: a power failure cannot be had in a test."""
    if shutil.which("strace") is None:
        pytest.skip("no strace: apt-get install strace")
    code = f"""
from pathlib import Path
from perfcore.collect.spool import Spool
from tests.store.test_ingest import a_batch
spool = Spool(Path({str(tmp_path / "a.spool")!r}))
for number in range(7):
    print("put", flush=True)
    spool.put(a_batch(number))
print("end", flush=True)
"""
    done = subprocess.run(
        ["strace", "-f", "-e", "trace=fdatasync,fsync,write", sys.executable, "-c", code],
        capture_output=True, text=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    parts = done.stderr.split('"put"')[1:]
    assert len(parts) == 7 and all("sync(" in part for part in parts)


@pytest.mark.fault(51)
def test_puts_are_synchronous_and_removals_need_not_be(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "a.spool")
    assert spool._database.execute("PRAGMA synchronous").fetchone() == (2,)
    assert spool._database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    spool.put(a_batch())
    row = spool.first()
    assert row is not None
    spool.remove([row])
    assert spool._database.execute("PRAGMA synchronous").fetchone() == (2,)
    spool.close(keep=False)
