"""What keeps VACUUM from removing dead rows: transactions, slots and standbys that look back."""

from __future__ import annotations

from collections.abc import Iterator

from psycopg import sql

from perfcore.advise.server_state import (
    PreparedState,
    ServerState,
    SessionState,
    SlotState,
)
from perfcore.advise.upkeep import hours_between, size_words, span_words, suggest
from perfcore.advise.workload import Options
from perfcore.types import Finding, Suggestion

IDLE_HOURS = 5 / 60
ACTIVE_HOURS = 1.0
PREPARED_HOURS = 1.0
HELD_XIDS = 1_000_000


def holds_back(server: ServerState) -> bool:
    """Say whether a VACUUM of this database's tables would remove little now.

    A session of another database looks at its own tables only, and a slot that keeps nothing but
    the log keeps no rows; a logical one keeps the catalogue's.
    """
    now, here = server.counters.read_at, server.counters.database
    return (
        any(
            s.xid_age is not None
            and s.database == here
            and hours_between(s.began_at, now) >= IDLE_HOURS
            for s in server.sessions
        )
        or any(
            p.database == here and hours_between(p.prepared_at, now) >= PREPARED_HOURS
            for p in server.prepared
        )
        or any((s.xid_age or 0) >= HELD_XIDS for s in server.standbys)
        or any(s.kind == "physical" and (s.xid_age or 0) >= HELD_XIDS for s in server.slots)
    )


def held_back(server: ServerState, options: Options) -> Iterator[Suggestion]:
    """Yield what keeps VACUUM from removing dead rows."""
    now = server.counters.read_at
    for session in server.sessions:
        hours = hours_between(session.began_at, now)
        if session.state.startswith("idle in transaction") and hours >= IDLE_HOURS:
            yield _idle(session, hours, server, options)
        elif hours >= ACTIVE_HOURS and session.xid_age is not None:
            yield _long(session, hours, options)
    for prepared in server.prepared:
        hours = hours_between(prepared.prepared_at, now)
        if hours >= PREPARED_HOURS:
            yield _prepared(prepared, hours, options)
    most = max(server.size_bytes("max_wal_size") or 0.0, 1.0)
    for slot in server.slots:
        if not slot.is_active and (slot.retained_bytes > most or (slot.xid_age or 0) >= HELD_XIDS):
            yield _slot(slot, options)
    for standby in server.standbys:
        if (standby.xid_age or 0) >= HELD_XIDS:
            yield suggest(
                options,
                "maintenance",
                f"standby/{standby.name}/{standby.address}",
                f"The standby {standby.name} holds back VACUUM",
                Finding(
                    "held_xmin",
                    f"By hot_standby_feedback {standby.name} ({standby.address}) keeps row "
                    f"versions {standby.xid_age:,} transactions old.",
                ),
                "A long query runs there, or an idle transaction. No dead row that is newer can be "
                "removed here.",
                present=f"{standby.xid_age:,} transactions held",
                proposed=f"fewer than {HELD_XIDS:,}",
                verify="SELECT application_name, age(backend_xmin) FROM pg_stat_replication.",
            )


def _who(session: SessionState) -> str:
    return f"{session.role} ({session.application or 'no application name'})"


_HELD = (
    "While it is open VACUUM removes no row version that died since it began, in any table of the "
    "database."
)
_LOCKS = (
    "It keeps its locks, for which every change of these tables' columns or indexes waits, and "
    "behind that everybody else."
)
_VERIFY_HELD = (
    "SELECT max(age(backend_xmin)) FROM pg_stat_activity falls, and n_dead_tup after the next "
    "VACUUM."
)


def _idle(session: SessionState, hours: float, server: ServerState, options: Options) -> Suggestion:
    database = session.database or server.counters.database
    name = sql.Identifier(database).as_string(None)
    return suggest(
        options,
        "setting",
        f"idle_in_transaction/{database}/{session.role}/{session.application}",
        f"End transactions of {session.role} that idle",
        Finding(
            "idle_in_transaction",
            f"Session {session.pid} of {_who(session)} has had a transaction open for "
            f"{span_words(hours)} and does nothing.",
            (("state", session.state), ("began", f"{session.began_at:%Y-%m-%d %H:%M} UTC")),
        ),
        (f"{_HELD} It keeps its locks, too." if session.xid_age is not None else _LOCKS)
        + " The application waits for something, or forgot to commit; the server can end such a "
        "session by itself.",
        ddl=f"ALTER DATABASE {name} SET idle_in_transaction_session_timeout = '5min'",
        undo=f"ALTER DATABASE {name} RESET idle_in_transaction_session_timeout",
        present=f"more than {span_words(hours)}, or off",
        proposed="5 minutes",
        verify=_VERIFY_HELD,
        risk="An application that idles on purpose gets an error; it holds for new sessions.",
        caveats=(f"This one ends by SELECT pg_terminate_backend({session.pid}).",),
    )


def _long(session: SessionState, hours: float, options: Options) -> Suggestion:
    return suggest(
        options,
        "maintenance",
        f"long_transaction/{session.database}/{session.role}/{session.application}",
        f"A transaction of {session.role} has run for {span_words(hours)}",
        Finding(
            "held_xmin",
            f"Session {session.pid} of {_who(session)} is {session.state} in a transaction that "
            f"began {span_words(hours)} ago.",
            (("transactions held", f"{session.xid_age:,}"),),
        ),
        f"{_HELD} Long reports belong on a standby, batches into small transactions.",
        present=f"open for {span_words(hours)}",
        proposed=f"less than {span_words(ACTIVE_HOURS)}",
        verify=_VERIFY_HELD,
        caveats=(
            f"SELECT pg_cancel_backend({session.pid}) ends its statement: ask its owner first.",
        ),
    )


def _prepared(prepared: PreparedState, hours: float, options: Options) -> Suggestion:
    gid = sql.Literal(prepared.gid).as_string(None)
    return suggest(
        options,
        "maintenance",
        f"prepared/{prepared.gid}",
        f"A prepared transaction has been open for {span_words(hours)}",
        Finding(
            "held_xmin",
            f"{gid} of {prepared.role} in {prepared.database} was prepared "
            f"{prepared.prepared_at:%Y-%m-%d %H:%M} UTC and neither committed nor rolled back.",
            (("transactions held", f"{prepared.xid_age:,}"),),
        ),
        f"{_HELD} It keeps its locks over a restart, too. Its transaction manager is gone or has "
        "forgotten it.",
        ddl=f"ROLLBACK PREPARED {gid}",
        present=f"open for {span_words(hours)}",
        proposed="committed or rolled back",
        verify="SELECT gid FROM pg_prepared_xacts no longer shows it.",
        risk="What it did is lost, and cannot be brought back: its transaction manager may want "
        "COMMIT PREPARED instead.",
        caveats=(f"To be run in the database {prepared.database}, by its owner.",),
    )


def _slot(slot: SlotState, options: Options) -> Suggestion:
    name = sql.Literal(slot.name).as_string(None)
    held = f"{slot.xid_age:,} transactions" if slot.xid_age else "no row versions"
    return suggest(
        options,
        "maintenance",
        f"slot/{slot.name}",
        f"Nobody reads the replication slot {slot.name}",
        Finding(
            "inactive_slot",
            f"{slot.name} is inactive and keeps {size_words(slot.retained_bytes)} of write-ahead "
            f"log and {held}.",
            (("kind", slot.kind), ("log kept", size_words(slot.retained_bytes))),
        ),
        "The log grows until the disk is full, and rows that its reader might want to see are not "
        "removed. Its subscriber or standby is gone, or stands still.",
        ddl=f"SELECT pg_catalog.pg_drop_replication_slot({name})",
        present=f"{size_words(slot.retained_bytes)} kept",
        proposed="read again, or dropped",
        verify="SELECT slot_name, active FROM pg_replication_slots; the size of pg_wal falls after "
        "a checkpoint.",
        risk="A reader that comes back must be copied anew: nothing takes the drop back.",
        caveats=("max_slot_wal_keep_size bounds what a slot may keep.",),
    )
