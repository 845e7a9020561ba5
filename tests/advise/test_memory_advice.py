"""work_mem for a statement: as much as its spill shows, no more than the server can bear."""

from __future__ import annotations

from dataclasses import replace

import pytest

from perfcore.advise.memory_advice import ceiling, work_mem_advice
from perfcore.advise.server_state import MB, ExecutedPlan, Observed, ServerState
from perfcore.advise.workload import Options
from perfcore.types import Suggestion, WorkloadStatement
from tests.advise.ailing import MAJORS, dsn_of, executed_plan, generic_plan, read, run
from tests.advise.conftest import statement

TEXT = "SELECT id, note FROM rows ORDER BY note"
ROWS = (
    "CREATE TABLE rows (id int, note text)",
    "INSERT INTO rows SELECT g, md5(g::text) FROM generate_series(1, 60000) g",
    "ANALYZE rows",
)


def counted(spilled_mb: float) -> WorkloadStatement:
    return statement(TEXT, temp_blks_written=int(600 * spilled_mb * 1e6 / 8192))


def proposed(server: ServerState | None, asked: WorkloadStatement, dsn: str) -> Suggestion:
    (found,) = work_mem_advice(asked, generic_plan(dsn, TEXT), server, Options(target_id=1))
    return found


@MAJORS
def test_what_was_written_to_disk_fits_afterwards(
    request: pytest.FixtureRequest, major: int
) -> None:
    dsn = dsn_of(request, major)
    run(dsn, *ROWS)
    small = ("work_mem = '1MB'", "max_parallel_workers_per_gather = 0")
    plan = executed_plan(dsn, TEXT, *small)
    assert plan.root.sort_is_on_disk
    _, server = read(dsn, memory_bytes=64 * 1024 * MB)
    few_mb = replace(server.settings["work_mem"], text="1024")
    server = replace(
        server,
        settings={**server.settings, "work_mem": few_mb},
        observed=Observed(executed=(ExecutedPlan(statement(TEXT).fingerprint, plan),)),
    )
    found = proposed(server, statement(TEXT), dsn)
    assert found.finding.summary.startswith("Its Sort went to disk when it was executed: ")
    assert found.present == "1 MB"
    setting = found.ddl.removeprefix("SET LOCAL ")
    assert not executed_plan(dsn, TEXT, setting, small[1]).root.sort_is_on_disk


@MAJORS
def test_the_ceiling_is_what_all_connections_can_take(
    request: pytest.FixtureRequest, major: int
) -> None:
    dsn = dsn_of(request, major)
    run(dsn, *ROWS)
    _, server = read(dsn, memory_bytes=8 * 1024 * MB)
    limit = ceiling(server, generic_plan(dsn, TEXT))
    assert limit is not None
    # Half of 8 GB less 64 MB of shared_buffers, for 80 connections and one sort.
    assert limit.work_mem_bytes / MB == pytest.approx((8192 - 64) / 2 / 80)
    found = proposed(server, counted(40), dsn)
    assert found.ddl == "SET LOCAL work_mem = '50MB'"
    assert "It would need 128 MB, which is safe while at most 31 run it at a time." in found.caveats
    assert "8 GB of memory, as PERFCORE_TARGET_MEMORY_MB says" in found.reason
    assert proposed(server, counted(4), dsn).ddl == "SET LOCAL work_mem = '16MB'"


def test_hashes_and_workers_take_their_share(dsn: str) -> None:
    run(dsn, *ROWS)
    _, server = read(dsn, memory_bytes=8 * 1024 * MB)
    text = "SELECT a.note FROM rows a JOIN rows b ON a.id = b.id ORDER BY a.note"
    plain = ceiling(server, executed_plan(dsn, text, "enable_mergejoin = off"))
    workers = ceiling(
        server,
        executed_plan(
            dsn, text, "enable_mergejoin = off", "min_parallel_table_scan_size = 0",
            "parallel_setup_cost = 0", "parallel_tuple_cost = 0",
        ),
    )  # fmt: skip
    assert plain is not None and workers is not None
    assert plain.per_call == 3  # a sort, and a hash that may take twice as much
    assert workers.per_call == 9  # in three processes


def test_where_nothing_is_safe_it_says_so(dsn: str) -> None:
    run(dsn, *ROWS)
    _, server = read(dsn, memory_bytes=512 * MB)
    found = proposed(server, counted(40), dsn)
    assert found.ddl == "" and found.title.endswith("spills, and no more work_mem is safe")
    assert any("at most 1 run it at a time" in c for c in found.caveats)


def test_the_memory_that_nobody_told_is_assumed_and_said(dsn: str) -> None:
    run(dsn, *ROWS)
    _, server = read(dsn)
    limit = ceiling(replace(server, memory_bytes=None), None)
    assert limit is not None and "assuming 1 GB of memory, four times shared_buffers" in limit.words


def test_what_fits_already_needs_nothing(dsn: str) -> None:
    run(dsn, *ROWS)
    _, server = read(dsn, memory_bytes=64 * 1024 * MB)
    raised = replace(server.settings["work_mem"], text=str(256 * 1024))
    server = replace(server, settings={**server.settings, "work_mem": raised})
    assert work_mem_advice(counted(40), None, server, Options()) == []
    assert work_mem_advice(counted(0.5), None, None, Options()) == []
