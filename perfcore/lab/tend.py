"""Judge changes by the traffic since, and finish what a killed worker left, again and again."""

from __future__ import annotations

import logging
import threading
from datetime import UTC, datetime

import psycopg

from perfcore import db
from perfcore.config import Config
from perfcore.errors import PerfcoreError
from perfcore.lab.change import reconcile
from perfcore.lab.verdict import judge_all

log = logging.getLogger(__name__)


def tend_once(config: Config, now: datetime) -> None:
    """Reconcile and judge once."""
    for change in reconcile(config.store, config.apply_dsns):
        log.info("finished the change of %s: %s", change.object_name, change.state)
    with db.connect(config.store, autocommit=True) as store:
        judge_all(store, now)


def run(config: Config, stop: threading.Event, every_s: float = 10.0) -> None:
    """Go on until stopped; a round that fails is tried again."""
    while not stop.wait(every_s):
        try:
            tend_once(config, datetime.now(UTC))
        except (PerfcoreError, psycopg.Error) as error:
            log.warning("no verdicts this time: %s", error)


def start(config: Config, stop: threading.Event) -> None:
    """Run in a thread of this process."""
    threading.Thread(target=run, args=(config, stop), name="perfcore-tend", daemon=True).start()
