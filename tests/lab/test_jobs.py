from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from perfcore.codec import from_json
from perfcore.config import load_config
from perfcore.db import connect
from perfcore.errors import ChangeRefused, TrialFailed
from perfcore.lab.jobs import Jobs
from perfcore.lab.report import TrialReport
from perfcore.lab.tend import tend_once
from perfcore.server.embedded import Cluster
from perfcore.store.gains import read_gains
from perfcore.types import Evidence, IndexDefinition, IndexKey
from tests.lab.conftest import ORDERS, PARTITIONED, Connection
from tests.targets import reader_dsn, run_setup

STATEMENT = "SELECT note FROM orders WHERE customer_id = $1 ORDER BY placed_at DESC LIMIT $2"


@pytest.fixture
def environ(
    dsn: str, store: str, cluster18: Cluster, work_folder: Path, target: Connection
) -> dict[str, str]:
    run_setup(dsn)
    return {
        "PERFCORE_STORE": store,
        "PERFCORE_TARGETS": f"shop={reader_dsn(dsn)}",
        "PERFCORE_APPLY_DSNS": f"shop={dsn}",
        "PERFCORE_LAB": cluster18.dsn(),
        "PERFCORE_DATA_DIR": str(work_folder / "data"),
    }


@pytest.fixture
def jobs(environ: dict[str, str], cluster18: Cluster) -> Iterator[Jobs]:
    made = Jobs(load_config(environ))
    yield made
    made.close()
    with connect(cluster18.dsn(), autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS lab_shop WITH (FORCE)")


def test_a_trial_estimates_copies_and_measures(jobs: Jobs, store: str, target_id: int) -> None:
    trial_id = jobs.start_trial(target_id, "shop", STATEMENT, 7, ORDERS, pairs=3)
    state, message, result = ended(store, "trials", trial_id)
    assert (state, message) == ("done", "measured")
    report = from_json(TrialReport, result)
    assert report.estimates[0].planner == "twin" and report.estimates[0].used_index
    assert report.estimates[0].ratio < 0.5
    assert report.lab is not None and report.lab.tables[0].rows == 20000
    assert report.measured is not None and report.measured.used_index
    assert report.measured.ratio.high < 1
    with connect(store) as connection:
        gains = read_gains(connection)
    assert {(str(g.trial_id), g.fingerprint, g.evidence) for g in gains} == {
        (trial_id, 7, Evidence.MEASURED)
    }
    assert {g.parameters for g in gains} == {s.label for s in report.measured.sets}
    assert {g.plan_change for g in gains} == {"Seq Scan -> Bitmap Heap Scan"}
    assert {g.promised_ratio for g in gains} == {report.estimates[0].ratio}
    for gain, each in zip(reversed(gains), report.measured.sets, strict=True):
        assert (gain.delivered_ratio, gain.delivered_high) == (each.ratio.value, each.ratio.high)


def test_a_trial_measures_the_index_s_other_statements_too(
    jobs: Jobs, store: str, target_id: int
) -> None:
    counted = "SELECT count(*) FROM orders WHERE customer_id = $1"
    others = [(7, STATEMENT), (8, counted), (9, "DELETE FROM orders WHERE customer_id = $1"),
              (10, "SELECT * FROM nowhere"), (11, "SELECT now()"), (12, "SELECT 1")]  # fmt: skip
    trial_id = jobs.start_trial(target_id, "shop", STATEMENT, 7, ORDERS, others=others, pairs=3)
    state, _, result = ended(store, "trials", trial_id)
    assert state == "done"
    report = from_json(TrialReport, result)
    assert [o.fingerprint for o in report.others] == [8, 9, 10, 11]  # five in all, none twice
    found, deleted, unknown, _ = report.others
    assert found.estimate is not None and found.estimate.ratio < 0.5
    assert found.measured is not None and found.measured.ratio.high < 1
    assert found.measured.pairs == 3 and not found.note
    assert deleted.measured is None and "DELETE is not a SELECT" in deleted.note
    assert unknown.measured is None and "nowhere" in unknown.note
    with connect(store) as connection:
        gains = read_gains(connection)
    assert {g.fingerprint for g in gains} >= {7, 8} and 9 not in {g.fingerprint for g in gains}
    assert {g.plan_change for g in gains if g.fingerprint == 8} != {""}


def test_an_index_on_a_partitioned_table_is_tried(
    jobs: Jobs, target: Connection, dsn: str, store: str, target_id: int
) -> None:
    target.execute(PARTITIONED)
    run_setup(dsn)
    text = "SELECT body FROM events WHERE kind = $1"
    index = IndexDefinition("public", "events", (IndexKey("kind"),))
    trial_id = jobs.start_trial(target_id, "shop", text, 7, index, pairs=3)
    state, message, result = ended(store, "trials", trial_id)
    assert (state, message) == ("done", "measured"), message
    report = from_json(TrialReport, result)
    assert report.lab is not None
    assert [(t.qualified_name, t.rows) for t in report.lab.tables] == [("public.events", 9000)]
    assert report.measured is not None and report.measured.used_index
    assert report.measured.index_bytes > 2 * 8192  # of three leaves
    first = report.measured.sets[0]
    assert "kind_idx" in first.variant.plan_text and "kind_idx" not in first.baseline.plan_text
    assert first.variant.blocks_hit < first.baseline.blocks_hit
    assert report.estimates[0].used_index and report.estimates[0].ratio < 0.9


def test_a_trial_that_cannot_be_measured_keeps_its_estimate(
    jobs: Jobs, store: str, target_id: int
) -> None:
    trial_id = jobs.start_trial(
        target_id, "shop", "DELETE FROM orders WHERE customer_id = $1", 7, ORDERS
    )
    state, message, result = ended(store, "trials", trial_id)
    assert state == "failed" and "DELETE is not a SELECT" in message
    assert from_json(TrialReport, result).estimates[0].used_index
    with pytest.raises(TrialFailed, match="'other' is not a target"):
        jobs.start_trial(target_id, "other", STATEMENT, 7, ORDERS)


def test_a_change_runs_in_the_background_and_is_judged(
    jobs: Jobs, environ: dict[str, str], store: str, target_id: int
) -> None:
    change_id = jobs.start_apply(target_id, "shop", ORDERS, fingerprints=(7,))
    assert ended(store, "changes", change_id)[0] == "applied"
    tend_once(load_config(environ), datetime.now(UTC))
    with connect(store) as connection:
        row = connection.execute("SELECT verdict ->> 'verdict' FROM perfcore.changes").fetchone()
    assert row == ("not enough data yet",)
    jobs.start_revert("shop", change_id)
    assert ended(store, "changes", change_id, ("reverted",))[0] == "reverted"
    assert not jobs.may_apply("other")
    with pytest.raises(ChangeRefused, match="nothing may be changed on other"):
        jobs.start_apply(target_id, "other", ORDERS)


def ended(
    store: str,
    table: str,
    key: str,
    states: tuple[str, ...] = ("done", "failed", "applied"),
) -> tuple[str, str, Any]:
    """Wait until the job has come to its end; return state, message and result."""
    column, result = ("trial_id", "result") if table == "trials" else ("change_id", "verdict")
    deadline = time.monotonic() + 60
    with connect(store, autocommit=True) as connection:
        while time.monotonic() < deadline:
            row = connection.execute(
                f"SELECT state, message, {result} FROM perfcore.{table} "
                f"WHERE {column} = %s".encode(),
                (key,),
            ).fetchone()
            if row is not None and row[0] in states:
                return row[0], row[1], row[2]
            time.sleep(0.1)
    raise AssertionError(f"the job did not end: {row}")
