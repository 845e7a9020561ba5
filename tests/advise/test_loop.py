"""A whole round from the store through a real twin and back."""

from __future__ import annotations

import json
import threading
import zlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from perfcore.advise import loop
from perfcore.advise.advisor import Advice
from perfcore.advise.store import Connection, read_foreign_keys
from perfcore.config import Config, load_config
from perfcore.db import connect
from perfcore.errors import ConfigurationError, TargetUnavailable
from perfcore.gist import gist
from perfcore.store.targets import ensure_target
from perfcore.types import Suggestion, Target
from perfcore.whatif.twin import Agreement
from tests.advise.conftest import Shop
from tests.targets import reader_dsn, run_setup

SLOW = "SELECT id, total, note FROM orders WHERE customer_id = $1 ORDER BY created_at DESC LIMIT $2"


def config(store: str, target: str, work_folder: Path) -> Config:
    return load_config(
        {
            "PERFCORE_STORE": store,
            "PERFCORE_TARGETS": f"shop={target}",
            "PERFCORE_DATA_DIR": str(work_folder / "advise"),
        }
    )


def record(store: str) -> None:
    """Write down ten minutes in which the slow statement ran a hundred times."""
    now = datetime.now(UTC)
    with connect(store, autocommit=True) as connection:
        ensure_target(connection, "shop")
        connection.execute(
            "INSERT INTO perfcore.statements (target_id, queryid, fingerprint, text) "
            "VALUES (1, 11, 42, %s)",
            (SLOW,),
        )
        connection.execute(
            "INSERT INTO perfcore.statement_deltas "
            "VALUES (1, 11, %s, %s, 100, 4000.0, 1000, 0, 0, 0, 0, 0)",
            (now - timedelta(minutes=10), now),
        )


def open_titles(store: str) -> list[tuple[str, str]]:
    with connect(store, autocommit=True) as connection:
        return connection.execute("SELECT title, state FROM perfcore.suggestions").fetchall()


def test_a_statement_is_explained_by_a_new_round(
    store: str, shop_dsn: str, work_folder: Path
) -> None:
    record(store)
    run_setup(shop_dsn)
    given = config(store, reader_dsn(shop_dsn), work_folder)
    assert loop.explain_statement(given, 4711, ["shop"]) == ""
    assert open_titles(store) == []  # nobody was asked
    told = loop.explain_statement(given, 11, ["shop"])
    assert told.startswith("Statement 11 on shop\n  SELECT id, total, note FROM orders")
    assert "600 calls an hour at 40 ms" in told
    assert "1. Index orders (customer_id, created_at DESC)" in told
    assert "Seq Scan on orders became" in told and "weighed and rejected" in told


def test_the_twin_prices_what_the_collector_stored(
    store: str, shop_dsn: str, work_folder: Path
) -> None:
    record(store)
    run_setup(shop_dsn)
    advice = loop.advise_target(config(store, reader_dsn(shop_dsn), work_folder), "shop")
    assert advice.planner == "twin"
    assert "orders (customer_id, created_at DESC)" in loop.render_text(advice)
    assert not any("The twin plans" in c for s in advice.suggestions for c in s.caveats)
    assert ("Index orders (customer_id, created_at DESC)", "open") in open_titles(store)
    # The server's own settings are read with the same role.
    off = next(s for s in advice.suggestions if s.title == "Turn autovacuum on")
    assert (off.present, off.proposed) == ("off", "on")
    assert not [s for s in advice.suggestions if s.finding.kind == "unread"]
    with connect(store) as connection:
        kept = connection.execute("SELECT count(*) FROM perfcore.index_uses").fetchone()
    assert kept is not None and kept[0] > 3


@pytest.mark.fault(69)
def test_nothing_is_explained_as_superuser(store: str, shop_dsn: str, work_folder: Path) -> None:
    record(store)
    with pytest.raises(TargetUnavailable, match="refusing to EXPLAIN as superuser: create the ro"):
        loop.advise_target(config(store, shop_dsn, work_folder), "shop")


def test_a_planner_that_plans_otherwise_is_not_believed_blindly(
    store: str, shop: Shop, shop_dsn: str
) -> None:
    record(store)
    target = Target(1, "shop", shop_dsn)
    with connect(store, autocommit=True) as connection:
        advice = loop.run_once(
            connection, target, shop.planner, check=lambda text: Agreement(100.0, 150.0, True)
        )
    index = next(s for s in advice.suggestions if s.kind == "index")
    assert "a cost of 150, the target itself at 100" in index.caveats[-1]


def test_what_trials_delivered_corrects_the_next_round(
    store: str, shop: Shop, shop_dsn: str
) -> None:
    record(store)
    target = Target(1, "shop", shop_dsn)
    with connect(store, autocommit=True) as connection:
        (before,) = _orders(loop.run_once(connection, target, shop.planner))
        assert before.plan_change and before.saved_ms_per_hour == before.promised_ms_per_hour
        for _ in range(3):
            tried(connection, before.plan_change, promised_ratio=0.0, delivered_ratio=1.0)
        (after,) = _orders(loop.run_once(connection, target, shop.planner))
    assert after.promised_ms_per_hour == before.promised_ms_per_hour
    assert after.saved_ms_per_hour == pytest.approx(before.saved_ms_per_hour / 2)
    assert "delivered 0 % of what the planner promised (3 measured)" in after.caveats[-1]


def _orders(advice: Advice) -> list[Suggestion]:
    return [s for s in advice.suggestions if s.kind == "index"]


def tried(
    connection: Connection, plan_change: str, *, promised_ratio: float, delivered_ratio: float
) -> None:
    """Write down a trial of some index and what came of it."""
    row = connection.execute(
        "INSERT INTO perfcore.trials (trial_id, target_id, fingerprint, index_body, state) "
        "VALUES (gen_random_uuid(), 1, 42, '{}', 'done') RETURNING trial_id"
    ).fetchone()
    assert row is not None
    connection.execute(
        "INSERT INTO perfcore.gains_delivered (target_id, suggestion_id, trial_id, index_digest, "
        "fingerprint, plan_change, evidence, promised_ratio, delivered_ratio, delivered_low, "
        "delivered_high, delivered_saved_ms) "
        "VALUES (1, 's', %(id)s, %(id)s, 42, %(kind)s, 'measured', %(promised)s, %(delivered)s, "
        "%(delivered)s, %(delivered)s, 0)",
        {
            "id": row[0], "kind": plan_change, "promised": promised_ratio,
            "delivered": delivered_ratio,
        },
    )  # fmt: skip


def test_the_loop_goes_on_when_a_target_is_gone(
    store: str, shop_dsn: str, work_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gone = shop_dsn.replace("/advise_shop", "/no_such_database")
    stop = threading.Event()
    worker = threading.Thread(
        target=loop.run, args=(config(store, gone, work_folder), stop, 0.05), daemon=True
    )
    worker.start()
    deadline = threading.Event()
    for _ in range(200):
        if caplog.text.count("no advice on shop this time") >= 2:
            break
        deadline.wait(0.05)
    stop.set()
    worker.join(10)
    assert not worker.is_alive()
    assert caplog.text.count("no advice on shop this time") >= 2


def test_an_unknown_target_is_named(store: str, shop_dsn: str, work_folder: Path) -> None:
    with pytest.raises(ConfigurationError, match="names: shop"):
        loop.advise_target(config(store, shop_dsn, work_folder), "shpo")


def test_foreign_keys_are_read_with_their_columns(dsn: str) -> None:
    with connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE a (x int, y int, PRIMARY KEY (x, y))")
        connection.execute("CREATE TABLE b (q int, p int, FOREIGN KEY (q, p) REFERENCES a)")
        assert read_foreign_keys(connection) == (("public.b", ("p", "q")),)


def test_the_stream_is_replayed_in_a_round(store: str, shop: Shop, shop_dsn: str) -> None:
    """Ten minutes in which the slow statement is asked for five customers again and again."""
    record(store)
    now = datetime.now(UTC)
    keys = [n * 2**40 for n in range(5)]
    document = {
        "version": 1, "fingerprints": [42], "levels": [0], "calls": [10], "without_key": [0],
        "late": 0, "hot": [], "endpoints": ["GET /orders"], "statement": [0] * 5,
        "endpoint": [0] * 5, "key": keys, "at_ms": [100 * n for n in range(5)], "count": [2] * 5,
        "duration_us": [80_000] * 5, "writes": [],
    }  # fmt: skip
    content = zlib.compress(json.dumps(document).encode())
    with connect(store, autocommit=True) as connection:
        for second in range(0, 600, 10):
            connection.execute(
                "INSERT INTO perfcore.reference_streams VALUES (%s, 'shop', 'p', 5, %s)",
                (now - timedelta(seconds=600 - second), content),
            )
        advice = loop.run_once(connection, Target(1, "shop", shop_dsn), shop.planner)
        saved = connection.execute("SELECT body FROM perfcore.cache_replays").fetchall()
    (found,) = [s for s in advice.suggestions if s.kind == "cache"]
    assert found.title.endswith("for 60 s")
    numbers = dict(found.finding.numbers)
    assert numbers["size"].startswith("6 entries")
    assert [(body["is_suggested"], body["fingerprint"]) for (body,) in saved] == [
        (True, 42), (True, None),
    ]  # fmt: skip
    assert (f"Keep the answer to {gist(SLOW, 60)} for 60 s", "open") in open_titles(store)
