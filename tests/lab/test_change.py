from __future__ import annotations

import threading
import uuid
from dataclasses import replace

import psycopg
import pytest

from perfcore.db import connect
from perfcore.errors import ChangeRefused
from perfcore.lab import change, ledger
from perfcore.types import IndexDefinition, IndexKey
from tests.lab.conftest import ORDERS, Connection


def test_an_applied_index_is_valid_and_recorded_before_and_after(
    target: Connection, dsn: str, store: str, target_id: int
) -> None:
    with connect(store, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO perfcore.suggestions (suggestion_id, target_id, kind, title, "
            "saved_ms_per_hour, evidence, body) VALUES ('s1', %s, 'index', 't', 1, 'estimated', "
            "'{}')",
            (target_id,),
        )
    done = change.apply_index(
        store, dsn, target_id, ORDERS, suggestion_id="s1", fingerprints=(11, -12)
    )
    assert done.state == "applied" and done.index_bytes and done.fingerprints == [11, -12]
    assert index_states(target) == {"orders_customer_id_idx": True, "orders_pkey": True}
    comment = target.execute("SELECT obj_description('orders_customer_id_idx'::regclass)")
    assert comment.fetchone() == (f"perfcore change {done.change_id}",)
    with connect(store) as connection:
        assert connection.execute("SELECT kind, label FROM perfcore.markers").fetchall() == [
            ("change", "Index orders_customer_id_idx created")
        ]
        assert state_of_suggestion(connection) == "applied"

    reverted = change.revert(store, dsn, done.change_id)
    again = change.revert(store, dsn, done.change_id)
    assert reverted.state == again.state == "reverted"
    assert reverted.reverted_at == again.reverted_at
    assert index_states(target) == {"orders_pkey": True}
    with connect(store) as connection:
        assert state_of_suggestion(connection) == "open"


REFUSALS = [
    ("SELECT 1", replace(ORDERS, table="absent"), "there is no table public.absent"),
    (
        "CREATE INDEX wide ON orders (customer_id, status)",
        ORDERS,
        "the index wide of public.orders begins with the same keys",
    ),
    (
        "CREATE INDEX by_mail ON orders (lower(email))",
        replace(ORDERS, keys=(IndexKey("lower( email )", is_expression=True),)),
        "public.orders has this index already: by_mail",
    ),
    (
        "CREATE TABLE parts (customer_id int) PARTITION BY LIST (customer_id)",
        replace(ORDERS, table="parts"),
        "public.parts is partitioned",
    ),
    ("CREATE VIEW seen AS TABLE orders", replace(ORDERS, table="seen"), "is not a table"),
    (
        "SELECT 1",
        replace(ORDERS, keys=(IndexKey("nothing"),)),
        'PostgreSQL does not accept "public"."orders" USING btree ("nothing"): column "nothing" '
        "does not exist",
    ),
    (
        "DO $$ BEGIN FOR n IN 1..9 LOOP EXECUTE "
        "'CREATE INDEX ON orders (status, (id + ' || n || '))'; END LOOP; END $$",
        replace(ORDERS, keys=(IndexKey("note"),)),
        "public.orders has 12 indexes",
    ),
]


def test_what_must_not_be_built_is_refused_with_its_own_words(
    target: Connection, dsn: str, store: str, target_id: int
) -> None:
    refusals = []
    for prepare, index, words in REFUSALS:
        target.execute(prepare.encode())
        before = index_states(target)
        with pytest.raises(ChangeRefused) as refusal:
            change.apply_index(store, dsn, target_id, index)
        assert words in str(refusal.value)
        assert index_states(target) == before
        refusals.append(("failed", str(refusal.value)))
    with connect(store) as connection:
        rows = connection.execute(
            "SELECT state, message FROM perfcore.changes ORDER BY intended_at"
        ).fetchall()
    assert rows == refusals


def test_an_old_transaction_is_a_reason_to_wait(
    target: Connection, dsn: str, store: str, target_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perfcore.lab.preflight.MAX_TRANSACTION_AGE_S", 0.0)
    with connect(dsn) as idle:
        idle.execute("DELETE FROM orders WHERE id = 1")
        with pytest.raises(ChangeRefused, match=f"process {idle.info.backend_pid} has a trans"):
            change.apply_index(store, dsn, target_id, ORDERS)


def test_a_taken_name_gives_way_to_a_longer_one(
    target: Connection, dsn: str, store: str, target_id: int
) -> None:
    target.execute("CREATE TABLE orders_customer_id_idx ()")
    done = change.apply_index(store, dsn, target_id, ORDERS)
    assert done.index_name == f"orders_customer_id_{ORDERS.digest[:12]}_idx"
    assert done.index_name in done.ddl and done.index_name in done.undo
    assert change.revert(store, dsn, done.change_id).state == "reverted"
    assert index_states(target) == {"orders_pkey": True}


def test_a_failed_build_leaves_no_invalid_index(
    target: Connection, dsn: str, store: str, target_id: int
) -> None:
    with pytest.raises(ChangeRefused, match="could not create unique index") as refusal:
        change.apply_index(store, dsn, target_id, replace(ORDERS, unique=True))
    assert "its INVALID remains were dropped" in str(refusal.value)
    assert index_states(target) == {"orders_pkey": True}
    assert change.reconcile(store, {"shop": dsn}) == []


def test_a_build_that_waits_too_long_for_a_writer_is_given_up(
    target: Connection, dsn: str, store: str, target_id: int
) -> None:
    with connect(dsn) as writer:
        writer.execute("DELETE FROM orders WHERE id = 1")
        with pytest.raises(ChangeRefused, match="lock timeout") as refusal:
            change.apply_index(store, dsn, target_id, ORDERS, lock_timeout_s=0.2)
        assert "may remain INVALID until the next round" in str(refusal.value)
        assert "a transaction holds the table" in refusal.value.hint
        writer.rollback()
    assert index_states(target) == {"orders_customer_id_idx": False, "orders_pkey": True}
    (found,) = change.reconcile(store, {"shop": dsn})
    assert (found.state, found.message) == ("failed", str(refusal.value))
    assert index_states(target) == {"orders_pkey": True}
    assert change.reconcile(store, {"shop": dsn}) == []


def test_a_second_change_of_the_table_is_refused_and_the_first_shows_its_progress(
    target: Connection, dsn: str, store: str, target_id: int
) -> None:
    seen: list[str] = []
    waits = threading.Event()

    def watch(fraction: float, message: str) -> None:
        seen.append(message)
        if "waiting" in message:
            waits.set()

    with connect(dsn) as writer:
        pid = writer.info.backend_pid
        writer.execute("DELETE FROM orders WHERE id = 1")
        first = threading.Thread(
            target=change.apply_index, args=(store, dsn, target_id, ORDERS),
            kwargs={"progress": watch},
        )  # fmt: skip
        first.start()
        assert waits.wait(20)
        with pytest.raises(ChangeRefused, match="another index change is running on public.orders"):
            change.apply_index(store, dsn, target_id, replace(ORDERS, keys=(IndexKey("status"),)))
        assert change.reconcile(store, {"shop": dsn}) == []  # it is not abandoned
        writer.rollback()
        first.join(20)
    assert f"which is process {pid}" in " ".join(seen)
    assert index_states(target) == {"orders_customer_id_idx": True, "orders_pkey": True}


def test_a_build_finished_after_its_worker_was_killed_is_adopted(
    target: Connection, dsn: str, store: str, target_id: int
) -> None:
    change_id = abandoned(store, target_id, ORDERS)
    target.execute(ORDERS.ddl().encode())
    (found,) = change.reconcile(store, {"shop": dsn})
    assert (found.change_id, found.state) == (change_id, "applied")
    assert change.revert(store, dsn, change_id).state == "reverted"
    assert index_states(target) == {"orders_pkey": True}


def test_an_invalid_index_of_a_killed_worker_is_dropped(
    target: Connection, dsn: str, store: str, target_id: int
) -> None:
    unique = replace(ORDERS, unique=True)
    abandoned(store, target_id, unique)
    with pytest.raises(psycopg.errors.UniqueViolation):
        target.execute(unique.ddl().encode())
    assert index_states(target)["orders_customer_id_idx"] is False
    (found,) = change.reconcile(store, {"shop": dsn})
    assert (found.state, found.index_oid) == ("failed", None)
    assert index_states(target) == {"orders_pkey": True}


def test_an_intent_that_never_began_is_failed_and_a_strangers_index_is_kept(
    target: Connection, dsn: str, store: str, target_id: int
) -> None:
    abandoned(store, target_id, replace(ORDERS, keys=(IndexKey("status"),)))
    abandoned(store, target_id, ORDERS)
    target.execute("CREATE INDEX orders_customer_id_idx ON orders (note)")
    found = change.reconcile(store, {"shop": dsn})
    assert [c.state for c in found] == ["failed", "failed"]
    assert index_states(target) == {"orders_customer_id_idx": True, "orders_pkey": True}


def test_an_interrupted_revert_is_carried_to_its_end(
    target: Connection, dsn: str, store: str, target_id: int
) -> None:
    done = change.apply_index(store, dsn, target_id, ORDERS)
    with connect(store, autocommit=True) as connection:
        ledger.request_revert(connection, done.change_id)
    (found,) = change.reconcile(store, {"shop": dsn})
    assert found.state == "reverted"
    assert index_states(target) == {"orders_pkey": True}


def test_a_change_that_ends_while_it_is_looked_at_stands(
    target: Connection, dsn: str, store: str, target_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its worker ends between the reconciler's list and the reconciler's turn at the table."""
    done = change.apply_index(store, dsn, target_id, ORDERS)
    with connect(store, autocommit=True) as connection:
        assert change._reconcile_one(connection, dsn, done.change_id) is False
        assert ledger.read_change(connection, done.change_id).state == "applied"
    assert index_states(target) == {"orders_customer_id_idx": True, "orders_pkey": True}


def test_an_intent_of_a_moment_ago_is_left_to_its_worker(
    target: Connection, dsn: str, store: str, target_id: int
) -> None:
    change_id = intended(store, target_id, ORDERS)
    assert change.reconcile(store, {"shop": dsn}) == []
    with connect(store, autocommit=True) as connection:
        assert ledger.read_change(connection, change_id).state == "intended"
        connection.execute(
            "UPDATE perfcore.changes SET intended_at = intended_at - interval '2 minutes'"
        )
    (found,) = change.reconcile(store, {"shop": dsn})
    assert found.state == "failed"


def test_a_replaced_index_is_not_ours_to_drop(
    target: Connection, dsn: str, store: str, target_id: int
) -> None:
    done = change.apply_index(store, dsn, target_id, ORDERS)
    target.execute("DROP INDEX orders_customer_id_idx")
    target.execute("CREATE INDEX orders_customer_id_idx ON orders (customer_id)")
    with pytest.raises(ChangeRefused, match="it was replaced"):
        change.revert(store, dsn, done.change_id)
    assert "orders_customer_id_idx" in index_states(target)


def test_a_dropped_index_can_be_made_anew(
    target: Connection, dsn: str, store: str, target_id: int
) -> None:
    target.execute("CREATE INDEX spare ON orders (status) WHERE customer_id > 5")
    done = change.apply_drop(store, dsn, target_id, "public", "spare")
    assert done.state == "applied" and index_states(target) == {"orders_pkey": True}
    assert change.revert(store, dsn, done.change_id).state == "reverted"
    assert index_states(target) == {"orders_pkey": True, "spare": True}


def test_an_index_that_guards_data_is_never_dropped(
    target: Connection, dsn: str, store: str, target_id: int
) -> None:
    target.execute("CREATE UNIQUE INDEX once ON orders (id, status)")
    with pytest.raises(ChangeRefused, match="is a primary key"):
        change.apply_drop(store, dsn, target_id, "public", "orders_pkey")
    with pytest.raises(ChangeRefused, match="is unique"):
        change.apply_drop(store, dsn, target_id, "public", "once")
    assert index_states(target) == {"once": True, "orders_pkey": True}


def abandoned(store: str, target_id: int, index: IndexDefinition) -> str:
    """Write down a change as a worker does that is killed during its build."""
    change_id = intended(store, target_id, index)
    with connect(store, autocommit=True) as connection:
        ledger.update(connection, change_id, state="running")
    return change_id


def intended(store: str, target_id: int, index: IndexDefinition) -> str:
    """Write down a change as a worker does before anything else."""
    change_id = str(uuid.uuid4())
    with connect(store, autocommit=True) as connection:
        ledger.intend(
            connection, change_id, target_id, "create_index", f"public.{index.name}",
            ddl=index.ddl(), undo=index.undo(), suggestion_id=None, fingerprints=(), index=index,
        )  # fmt: skip
    return change_id


def index_states(target: Connection) -> dict[str, bool]:
    rows = target.execute(
        "SELECT indexrelid::regclass::text, indisvalid FROM pg_index "
        "WHERE indrelid = 'orders'::regclass ORDER BY 1"
    ).fetchall()
    return dict(rows)


def state_of_suggestion(connection: Connection) -> str:
    row = connection.execute("SELECT state FROM perfcore.suggestions").fetchone()
    assert row is not None
    return str(row[0])
