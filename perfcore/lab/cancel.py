"""Cancel a running statement on a target; its session goes on, and is never terminated."""

from __future__ import annotations

from datetime import datetime

import psycopg

from perfcore import db
from perfcore.config import Config
from perfcore.errors import ChangeRefused, TargetUnavailable
from perfcore.target import connect_target


def may_cancel(config: Config, target_name: str) -> bool:
    """Say whether the settings allow it, and there is a DSN to do it with."""
    return config.cancel and target_name in config.apply_dsns


def cancel_statement(config: Config, target_name: str, pid: int, query_start: datetime) -> None:
    """Cancel what the session runs, if it is the statement that began at that instant.

    Raises ChangeRefused where the settings do not allow it, and where the session has gone on
    to something else; TargetUnavailable with PostgreSQL's words where that refuses.
    """
    if not may_cancel(config, target_name):
        raise ChangeRefused(
            f"statements on {target_name} are not cancelled from here",
            hint="set PERFCORE_CANCEL=on, and PERFCORE_APPLY_DSNS for the target",
        )
    given = {"pid": pid, "query_start": query_start}
    try:
        with connect_target(config.apply_dsns[target_name]) as connection:
            row = connection.execute(db.query("lab_cancel"), given).fetchone()
    except psycopg.Error as error:
        raise TargetUnavailable(
            f"process {pid} on {target_name} was not cancelled: "
            f"{error.diag.message_primary or error}",
            hint="the role in PERFCORE_APPLY_DSNS must be a member of pg_signal_backend or of "
            "the session's own role",
        ) from error
    if row is None or not row[0]:
        raise ChangeRefused(
            f"process {pid} does not run that statement any more: nothing was cancelled"
        )
