"""`perfcore advise --dsn … --workload …` as a program would use it, on a real database and twin."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from perfcore.advise.account import advise_dsn
from perfcore.advise.workload import Options
from perfcore.advise.workload_file import Item, read_items, read_server, read_workload_file
from perfcore.db import connect
from perfcore.errors import ConfigurationError, TargetUnavailable

ROOT = Path(__file__).parents[2]
WORKLOAD = (
    ("by_customer", "SELECT id, total FROM orders WHERE customer_id = 17", 3000),
    (
        "latest",
        "SELECT id, note FROM orders WHERE customer_id = $1 ORDER BY created_at DESC LIMIT $2",
        1000,
    ),
    ("by_email", "SELECT id FROM customers WHERE lower(email) = 'customer7@mail.example'", 500),
    ("by_id", "SELECT note FROM orders WHERE id = 5;", 9000),
    ("countries", "SELECT id FROM countries WHERE code = 'C7'", 9000),
    ("items", "SELECT quantity FROM order_items WHERE product_id = 77", 20),
    ("add", "INSERT INTO order_items VALUES (-1, 1, 1, 1)", 400),
    ("close", "UPDATE orders SET closed_at = now() WHERE id = 9", 100),
    ("broken", "SELECT FROM WHERE", 1),
    ("gone", "SELECT a FROM no_such_table WHERE b = 1", 1),
)


@pytest.fixture(scope="module")
def run(shop_dsn: str, tmp_path_factory: pytest.TempPathFactory, work_folder: Path) -> Any:
    folder = tmp_path_factory.mktemp("workload")
    workload = folder / "workload.jsonl"
    workload.write_text(
        "\n".join(json.dumps({"id": i, "sql": s, "calls": c}) for i, s, c in WORKLOAD)
    )
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PERFCORE_")}

    def command(*arguments: str, workload: Path = workload) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "perfcore", "advise", "--dsn", shop_dsn]
            + ["--workload", str(workload), *arguments],
            cwd=ROOT,
            env=kept | {"PERFCORE_DATA_DIR": str(work_folder / "account")},
            capture_output=True,
            text=True,
            timeout=120,
        )

    return command


def test_the_account_is_whole(run: Any, shop_dsn: str) -> None:
    before = _sizes(shop_dsn)
    done = run("--budget-mb", "100", "--format", "json")
    assert done.returncode == 10, done.stderr
    assert "100 % done" in done.stderr and "planning 3 of 10" in done.stderr
    answer = json.loads(done.stdout)
    assert _sizes(shop_dsn) == before

    statements = {s["id"]: s for s in answer["statements"]}
    assert list(statements) == [i for i, _, _ in WORKLOAD]
    for name in ("by_customer", "latest", "by_email", "items"):
        s = statements[name]
        assert s["cost_after"] < 0.5 * s["cost_before"] and s["suggestions"], s
        assert s["reason"] == ""
    assert "already serve" in statements["by_id"]["reason"]
    assert "small" in statements["countries"]["reason"]
    assert "not a SELECT" in statements["add"]["reason"]
    assert statements["broken"]["cost_before"] is None and statements["broken"]["reason"]
    assert statements["gone"]["cost_before"] is None and statements["gone"]["reason"]

    agreements = [s["agreement"] for s in statements.values() if s["agreement"] is not None]
    assert len(agreements) == 8 and all(0.98 <= a <= 1.02 for a in agreements), agreements
    assert answer["totals"]["note"] == ""

    indexes = [s for s in answer["suggestions"] if s["kind"] == "index"]
    ddl = [s["ddl"] for s in indexes]
    assert any('("customer_id", "created_at" DESC)' in d for d in ddl), ddl
    assert any("lower(" in d for d in ddl), ddl
    items = next(s for s in indexes if "order_items" in s["ddl"])
    assert "400 entries an hour" in items["write_cost"]
    assert [c["id"] for c in items["helped"]] == ["items"] and items["hurt"] == []
    assert all(s["index_bytes"] > 0 and s["undo"].startswith("DROP INDEX") for s in indexes)
    assert not any(" ms" in s["reason"] for s in answer["suggestions"])  # nothing was timed

    totals = answer["totals"]
    assert totals["cost_before"] == pytest.approx(
        sum(s["calls"] * (s["cost_before"] or 0) for s in answer["statements"]), rel=1e-3
    )
    assert totals["cost_after"] == pytest.approx(
        sum(s["calls"] * (s["cost_after"] or 0) for s in answer["statements"]), rel=1e-3
    )
    assert totals["cost_after"] < 0.5 * totals["cost_before"]
    paid = totals["cost_after"] + totals["write_cost"]
    assert 0 < totals["lower_bound_cost"] <= paid * 1.001
    assert totals["index_bytes"] == sum(s["index_bytes"] for s in indexes) <= 100e6
    assert totals["what_if_calls"] > 10 and totals["cache_hits"] > 10
    assert not totals["stopped_early"]


def test_the_same_input_gives_the_same_output(run: Any) -> None:
    answers = [json.loads(run("--budget-mb", "3", "--format", "json").stdout) for _ in range(2)]
    for answer in answers:
        del answer["totals"]["elapsed_s"], answer["totals"]["planning_s"]
    assert answers[0] == answers[1]
    assert answers[0]["totals"]["index_bytes"] <= 3e6


def test_at_most_so_many_indexes(run: Any) -> None:
    answer = json.loads(run("--max-indexes", "1", "--format", "json").stdout)
    assert len([s for s in answer["suggestions"] if s["kind"] == "index"]) == 1


def test_nothing_to_do_is_0_and_wrong_use_is_2(run: Any, tmp_path: Path) -> None:
    fine = tmp_path / "fine.jsonl"
    fine.write_text('{"id": "a", "sql": "SELECT note FROM orders WHERE id = 5", "calls": 9}')
    done = run("--format", "text", workload=fine)
    assert (done.returncode, done.stdout.splitlines()[0][:14]) == (0, "0 suggestions;"), done.stdout
    wrong = tmp_path / "wrong.jsonl"
    wrong.write_text('{"id": "a", "sql": "SELECT 1"}\n{"id": "b", "calls": 1}')
    done = run(workload=wrong)
    assert done.returncode == 2 and done.stdout == ""
    assert 'line 2 of the workload: "sql" is None' in done.stderr
    assert run("--budget-mb", "0").returncode == 2
    assert run(workload=tmp_path / "missing.jsonl").returncode == 2


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[1]", "not a JSON object"),
        ('{"sql": ""}', '"sql"'),
        ('{"sql": "SELECT 1", "calls": 0}', '"calls"'),
        ('{"sql": "SELECT 1", "calls": NaN}', '"calls"'),
        ('{"sql": "SELECT 1", "calls": true}', '"calls"'),
        ('{"id": {}, "sql": "SELECT 1"}', '"id"'),
        ('{"id": "twice", "sql": "SELECT 1"}', "is that of line 1 already"),
    ],
)
def test_a_wrong_line_is_named(line: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match="line 2") as caught:
        list(read_items(['{"id": "twice", "sql": "SELECT 1"}', line]))
    assert words in str(caught.value)


def test_an_empty_file_says_what_a_line_looks_like(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n\n")
    with pytest.raises(ConfigurationError) as caught:
        read_workload_file(tmp_path / "empty")
    assert '"sql": "SELECT' in caught.value.hint


def test_without_a_file_the_servers_own_record_is_the_workload(dsn: str) -> None:
    with connect(dsn, autocommit=True) as connection:
        with pytest.raises(TargetUnavailable, match="not installed"):
            read_server(dsn)
        connection.execute("CREATE EXTENSION pg_stat_statements")
        for _ in range(7):
            connection.execute("SELECT relname FROM pg_class WHERE oid = 1259")
        items = read_server(dsn)
    found = [i for i in items if "relname FROM pg_class WHERE oid = $1" in i.sql]
    assert [(i.calls, i.id.lstrip("-").isdigit()) for i in found] == [(7.0, True)]


def _sizes(dsn: str) -> list[tuple[Any, ...]]:
    with connect(dsn, autocommit=True) as connection:
        return connection.execute(
            "SELECT oid, relname, relpages FROM pg_class WHERE relnamespace = "
            "'public'::regnamespace ORDER BY oid"
        ).fetchall()


def test_a_trigram_index_is_priced_before_its_extension_is_there(
    dsn: str, work_folder: Path
) -> None:
    with connect(dsn, autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE notes AS SELECT n AS id, md5(n::text) AS body "
            "FROM generate_series(1, 30000) AS n"
        )
        connection.execute("ANALYZE notes")
    items = [Item("search", "SELECT id FROM notes WHERE body LIKE '%abcde%'", 100)]
    answer = advise_dsn(dsn, items, work_folder / "untrigrammed", Options())
    found = next(s.suggestion for s in answer.suggestions if s.suggestion.kind != "maintenance")
    assert found.kind == "rewrite"
    assert found.ddl.startswith("CREATE EXTENSION IF NOT EXISTS pg_trgm;\nCREATE INDEX")
    assert found.statements[0].cost_after < 0.1 * found.statements[0].cost_before


def test_what_libraries_print_past_python_is_no_part_of_the_answer() -> None:
    code = (
        "import ctypes, perfcore.__main__ as m\n"
        "with m._quiet_libraries(): ctypes.CDLL(None).puts(b'a solver was here')\n"
        "print('answer')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == "answer\n", done
    assert done.stderr == "a solver was here\n"
