"""The API: what it answers, what it refuses and how, and that its description is true."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import jsonschema
import pytest
import sqlalchemy
from starlette.applications import Starlette
from starlette.routing import Route

from perfcore import api, db
from perfcore.api import openapi
from perfcore.api.operations import OPERATIONS, Operation
from perfcore.api.parameters import Parameter
from perfcore.errors import ConfigurationError
from perfcore.server.embedded import Cluster
from perfcore.store.migrate import migrate
from tests.seeding import (
    CHANGE_ID,
    ENDPOINTS,
    SERVICE,
    STATEMENTS,
    Seeded,
    add_series,
    insert,
    rollup_row,
    seed_store,
)

NOW = datetime(2026, 11, 23, 12, 30, 30, tzinfo=UTC)
NASTY = (
    "", " ", "0", "-0", "-1", "1e9", "1000000000", "9223372036854775807", "9223372036854775808",
    "-9223372036854775809", "9" * 400, "1.5", "nan", "NaN", "Infinity", "-infinity", "infinity",
    "inf", "1e400", "0x10", "1_000", "١٢", "true", "null", "now", "-1h", "-0s", "-999999999w",
    "-9999999999h", "+1h", "epoch", "0000-01-01T00:00:00Z", "0001-01-01T00:00:00+23:59",
    "9999-12-31T23:59:59-23:59", "1969-12-31T23:59:59Z", "2026-02-30T00:00:00Z",
    "2026-01-01T00:00:00", "2026-01-01", "2026-01-01T00:00:00+00:00", "2026-W01-1T00:00:00Z",
    "2199-12-31T00:00:00Z", "1970-01-01T00:00:00Z", "1785000000", "a\0b", "\0", "%", "%s", "%(x)s",
    "'; DROP SCHEMA perfcore CASCADE; --", "\\", "../../etc/passwd", "<script>", "\ufffd", "💥",
    "\u202e", "x" * 1001, "x" * 20_000, "raw", "minute", "day", "api_endpoint", "memory", "open",
    "all", "index", "shop", "[]", "{}", "\r\nx: y",
)  # fmt: skip


@dataclass(frozen=True)
class Client:
    """A caller of the API over ASGI, with the time held still at the seeded store's."""

    seeded: Seeded
    app: Starlette

    def get(self, path: str, **parameters: str) -> httpx.Response:
        return self.send("GET", path, parameters)

    def send(
        self, method: str, path: str, parameters: Mapping[str, str] | None = None
    ) -> httpx.Response:
        return self.all([(method, path, parameters or {})])[0]

    def all(self, wanted: list[tuple[str, str, Mapping[str, str]]]) -> list[httpx.Response]:
        async def ask() -> list[httpx.Response]:
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=True)
            async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
                return [await client.request(m, path, params=dict(p)) for m, path, p in wanted]

        return asyncio.run(ask())


@pytest.fixture(scope="module")
def client(cluster18: Cluster) -> Iterator[Client]:
    with db.connect(cluster18.dsn(), autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS test_api")
        connection.execute("CREATE DATABASE test_api")
    dsn = cluster18.dsn("test_api")
    migrate(dsn)
    seeded = seed_store(dsn, now=NOW)
    engine = db.engine(dsn)
    yield Client(seeded, Starlette(routes=_routes(engine)))
    engine.dispose()


def _routes(engine: sqlalchemy.Engine) -> list[Route]:
    return api.routes(lambda: engine, clock=lambda: NOW)


def _path(operation: Operation, seeded: Seeded) -> str:
    return (
        operation.paths[0]
        .replace("{queryid}", str(STATEMENTS[0].queryid))
        .replace("{plan_id}", str(seeded.plan_id))
    )


def assert_problem(response: httpx.Response, status: int, field: str | None) -> None:
    assert response.status_code == status, response.text
    body = response.json()
    assert set(body) == {"error", "field", "hint"}
    assert body["field"] == field
    assert body["error"] and body["hint"]


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda o: o.name)
def test_answers_are_as_described(client: Client, operation: Operation) -> None:
    response = client.get(_path(operation, client.seeded))
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    body = json.loads(response.text, parse_constant=pytest.fail)
    jsonschema.validate(body, openapi.answer_schema(operation))
    if operation.items:
        assert body["items"], "the seeded store has something for every list"


def test_the_seed_paths_answer_the_same(client: Client) -> None:
    for name in ("slow-queries", "suggestions"):
        short, long = f"/api/v1/{name}", f"/api/v1/performance/{name}"
        assert client.get(short).json() == client.get(long).json()


def test_rollups_count_every_request_once(client: Client) -> None:
    for resolution in ("minute", "hour", "day"):
        body = client.get(
            "/api/v1/performance/metrics",
            metric_type="api_endpoint",
            resolution=resolution,
            limit="10000",
        ).json()
        counted: dict[str, int] = {}
        for row in body["items"]:
            name = row["metric_name"]
            counted[name] = counted.get(name, 0) + row["count"]
            assert row["min"] <= row["p50"] <= row["p95"] <= row["p99"] <= row["max"]
        assert counted == client.seeded.requests


def test_raw_samples_are_the_latest_first_and_cut_at_the_limit(client: Client) -> None:
    body = client.get(
        "/api/v1/performance/metrics",
        resolution="raw", metric_name=ENDPOINTS[0].name, limit="7",
    ).json()  # fmt: skip
    times = [row["timestamp"] for row in body["items"]]
    assert len(times) == body["count"] == 7 and body["is_truncated"]
    assert times == sorted(times, reverse=True)
    assert {row["metric_name"] for row in body["items"]} == {ENDPOINTS[0].name}


def test_a_range_without_data_is_empty(client: Client) -> None:
    for operation in OPERATIONS:
        if "from" in {p.name for p in operation.parameters}:
            body = client.get(_path(operation, client.seeded), **{"from": "-9d", "to": "-8d"})
            assert body.status_code == 200, body.text
            assert body.json().get("items", []) == []


def test_slow_queries_are_filtered(client: Client) -> None:
    slow = STATEMENTS[0]
    body = client.get(
        "/api/v1/slow-queries",
        queryid=str(slow.queryid), service=SERVICE, endpoint=ENDPOINTS[0].name,
        min_duration_ms="150",
    ).json()  # fmt: skip
    assert body["items"]
    for row in body["items"]:
        assert row["queryid"] == str(slow.queryid)
        assert row["fingerprint"] == str(slow.fingerprint)
        assert row["duration_ms"] >= 150
        assert row["plan_id"] == client.seeded.plan_id
    assert client.get("/api/v1/slow-queries", queryid="123").json()["items"] == []


def test_identities_survive_a_reader_of_doubles(client: Client) -> None:
    body = client.get(f"/api/v1/statements/{STATEMENTS[4].queryid}").json()
    assert body["queryid"] == "-7005"
    assert int(body["fingerprint"]) == STATEMENTS[4].fingerprint
    assert abs(STATEMENTS[4].fingerprint) > 2**53
    assert [e["endpoint"] for e in body["endpoints"]] == [ENDPOINTS[4].name]
    assert body["trend"]


def test_suggestions_are_filtered_and_sorted(client: Client) -> None:
    body = client.get("/api/v1/suggestions", target="shop").json()
    savings = [s["saved_ms_per_hour"] for s in body["items"]]
    assert len(savings) == 3 and savings == sorted(savings, reverse=True)
    assert body["items"][0]["ddl"].startswith("CREATE INDEX CONCURRENTLY")
    only = client.get("/api/v1/suggestions", kind="drop_index").json()["items"]
    assert [s["kind"] for s in only] == ["drop_index"]
    assert client.get("/api/v1/suggestions", state="dismissed").json()["items"] == []


def test_the_ledger_tells_changes(client: Client) -> None:
    (change,) = client.get("/api/v1/ledger").json()["items"]
    assert change["change_id"] == str(CHANGE_ID)
    assert change["verdict"] == {"verdict": "improved"}
    assert change["fingerprints"] == [str(STATEMENTS[3].fingerprint)]


def test_an_unencoded_plus_still_means_the_zone(client: Client) -> None:
    response = client.send("GET", "/api/v1/endpoints?from=2026-11-23T13:00:00+01:00&to=now")
    assert response.json()["from"] == "2026-11-23T12:00:00+00:00"


def test_the_default_range_is_the_last_hour(client: Client) -> None:
    body = client.get("/api/v1/endpoints").json()
    assert (body["from"], body["to"]) == (
        (NOW - timedelta(hours=1)).isoformat(), NOW.isoformat(),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("path", "parameters", "field"),
    [
        ("/api/v1/endpoints", {"form": "-1h"}, "form"),
        ("/api/v1/endpoints", {"from": "0000-01-01T00:00:00Z"}, "from"),
        ("/api/v1/endpoints", {"from": "0001-01-01T00:00:00Z"}, "from"),
        ("/api/v1/endpoints", {"to": "infinity"}, "to"),
        ("/api/v1/endpoints", {"from": "2026-01-01T00:00:00"}, "from"),
        ("/api/v1/endpoints", {"from": "-1h", "to": "-2h"}, "from"),
        ("/api/v1/endpoints", {"from": "now"}, "from"),
        ("/api/v1/endpoints", {"limit": "0"}, "limit"),
        ("/api/v1/endpoints", {"limit": "-1"}, "limit"),
        ("/api/v1/endpoints", {"limit": "1000000000"}, "limit"),
        ("/api/v1/endpoints", {"service": "a\0b"}, "service"),
        ("/api/v1/slow-queries", {"min_duration_ms": "NaN"}, "min_duration_ms"),
        ("/api/v1/slow-queries", {"queryid": str(2**63)}, "queryid"),
        ("/api/v1/performance/metrics", {"resolution": "week"}, "resolution"),
        ("/api/v1/performance/metrics", {"metric_type": "API_ENDPOINT"}, "metric_type"),
        ("/api/v1/suggestions", {"state": "closed"}, "state"),
        ("/api/v1/statements/one", {}, "queryid"),
        ("/api/v1/health", {"x": "1"}, "x"),
        ("/api/openapi.json", {"x": "1"}, "x"),
    ],
)
def test_wrong_input_names_the_field(
    client: Client, path: str, parameters: dict[str, str], field: str
) -> None:
    assert_problem(client.get(path, **parameters), 422, field)


def test_a_misspelt_parameter_is_recognised(client: Client) -> None:
    assert "did you mean limit?" in client.get("/api/v1/endpoints", limti="3").json()["hint"]


def test_a_repeated_parameter_is_refused(client: Client) -> None:
    assert_problem(client.send("GET", "/api/v1/endpoints?limit=1&limit=2"), 422, "limit")


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/api/v1/statements/123", "queryid"),
        ("/api/v1/plans/9223372036854775807", "plan_id"),
        ("/api/v1/suggestions?target=nowhere", "target"),
        ("/api/nonsense", None),
        ("/api/v1/health/", None),
        ("/api/", None),
        ("/api", None),
        ("/api/v1/plans/1/2", None),
    ],
)
def test_what_is_not_there_is_404(client: Client, path: str, field: str | None) -> None:
    assert_problem(client.send("GET", path), 404, field)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_other_methods_are_405(client: Client, method: str) -> None:
    for path in ("/api/v1/endpoints", "/api/v1/plans/1", "/api/openapi.json"):
        response = client.send(method, path)
        assert_problem(response, 405, None)
        assert response.headers["allow"] == "GET, HEAD"


def _fuzz(operation: Operation, parameter: Parameter, path: str) -> list[tuple[str, str, Any]]:
    if parameter.where == "query":
        return [("GET", path, {parameter.name: value}) for value in NASTY]
    folder = path.rsplit("/", 1)[0]
    usable = [
        v for v in NASTY if v and "/" not in v and not {"?", "#"} & set(v) and v.isprintable()
    ]
    return [("GET", f"{folder}/{httpx.QueryParams({'v': v})}"[:60_000], {}) for v in usable]


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda o: o.name)
def test_no_value_breaks_it(client: Client, operation: Operation) -> None:
    path = _path(operation, client.seeded)
    for parameter in operation.parameters:
        wanted = _fuzz(operation, parameter, path)
        for (_, _, given), response in zip(wanted, client.all(wanted), strict=True):
            about = (parameter.name, given, response.text[:200])
            assert response.status_code in {200, 404, 422}, about
            json.loads(response.text, parse_constant=pytest.fail)
            if response.status_code != 200:
                assert_problem(response, response.status_code, parameter.name)


def test_bytes_that_are_no_text_break_nothing(client: Client) -> None:
    for query in ("service=%ff%fe", "service=%ed%a0%80", "%ff=1", "a%00b=1", "=", "&&&", ";"):
        response = client.send("GET", f"/api/v1/endpoints?{query}")
        assert response.status_code in {200, 422}, (query, response.text)


def test_nan_and_infinity_become_null(store: str) -> None:
    with db.connect(store) as connection:
        series_id = add_series(connection, "custom", "queue", "jobs")
        row = rollup_row(series_id, NOW.replace(second=0), [1.0])
        insert(connection, "metric_rollups", [{**row, "sum": float("inf"), "max": float("nan")}])
    engine = db.engine(store)
    client = Client.__new__(Client)
    object.__setattr__(client, "app", Starlette(routes=_routes(engine)))
    response = client.get("/api/v1/performance/metrics", metric_type="custom")
    engine.dispose()
    (item,) = json.loads(response.text, parse_constant=pytest.fail)["items"]
    assert item["sum"] is None and item["count"] == 1


def test_an_empty_store_has_empty_answers(store: str) -> None:
    engine = db.engine(store)
    client = Client.__new__(Client)
    object.__setattr__(client, "app", Starlette(routes=_routes(engine)))
    for operation in OPERATIONS:
        if "{" not in operation.paths[0]:
            body = client.get(operation.paths[0])
            assert body.status_code == 200, body.text
            jsonschema.validate(body.json(), openapi.answer_schema(operation))
    engine.dispose()


def test_a_store_away_is_503_with_a_hint() -> None:
    away = sqlalchemy.create_engine("postgresql+psycopg://nobody@127.0.0.1:1/none")
    client = Client.__new__(Client)
    object.__setattr__(client, "app", Starlette(routes=_routes(away)))
    for operation in OPERATIONS:
        path = operation.paths[0].replace("{queryid}", "1").replace("{plan_id}", "1")
        response = client.get(path)
        assert_problem(response, 503, None)
        assert "PERFCORE_STORE" in response.json()["hint"]


def test_a_store_without_tables_says_what_to_run(dsn: str) -> None:
    engine = db.engine(dsn)
    client = Client.__new__(Client)
    object.__setattr__(client, "app", Starlette(routes=_routes(engine)))
    response = client.get("/api/v1/health")
    engine.dispose()
    assert_problem(response, 503, None)
    assert "migrate" in response.json()["hint"]


def test_no_store_configured_is_503() -> None:
    def no_store() -> sqlalchemy.Engine:
        raise ConfigurationError("no store is configured")

    client = Client.__new__(Client)
    object.__setattr__(client, "app", Starlette(routes=api.routes(no_store)))
    assert_problem(client.get("/api/v1/endpoints"), 503, None)


def test_the_document_describes_the_routes(client: Client) -> None:
    document = client.get("/api/openapi.json").json()
    served = {
        r.path for r in client.app.routes if isinstance(r, Route) and r.path.startswith("/api/v1")
    }
    assert set(document["paths"]) == served
    assert document["openapi"].startswith("3.1")
    names = [o["get"]["operationId"] for o in document["paths"].values()]
    assert len(names) == len(set(names))
    for path, methods in document["paths"].items():
        in_path = {p["name"] for p in methods["get"]["parameters"] if p["in"] == "path"}
        assert in_path == {part[1:-1] for part in path.split("/") if part.startswith("{")}
        for parameter in methods["get"]["parameters"]:
            jsonschema.Draft202012Validator.check_schema(parameter["schema"])
        schema = methods["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        jsonschema.Draft202012Validator.check_schema(schema)


def test_identities_are_documented_as_text(client: Client) -> None:
    for operation in OPERATIONS:
        for fields in (operation.fields, operation.items):
            for name in {"queryid", "fingerprint"} & set(fields):
                assert "string" in fields[name]["type"]
                assert "2^53" in fields[name]["description"]
