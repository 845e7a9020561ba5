"""The API over a seeded store: right answers, and a 4xx that names the field otherwise."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import httpx
import jsonschema  # type: ignore[import-untyped]
import psycopg
import pytest
import sqlalchemy
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from perfcore.api import OPERATIONS, Operation, exception_handlers, routes
from perfcore.db import connect, engine
from perfcore.normalise import fingerprint_hex, from_hex
from perfcore.server.embedded import Cluster
from perfcore.store.migrate import migrate
from tests.seeding import ENDPOINTS, STATEMENTS, Seeded, seed_store

NOW = datetime(2026, 11, 23, 12, 30, 20, tzinfo=UTC)
NASTY = (
    "", " ", "0", "-1", "1", "1000000000", "9223372036854775807", "9223372036854775808",
    "-9223372036854775809", "1" * 400, "1e309", "1e3", "1.5", "NaN", "nan", "Infinity", "-inf",
    "infinity", "-infinity", "epoch", "today", "0000-01-01T00:00:00Z", "0001-01-01T00:00:00Z",
    "9999-12-31T23:59:59Z", "10000-01-01T00:00:00Z", "2026-02-30T00:00:00Z",
    "2026-01-01T00:00:00", "2026-01-01", "2026-01-01T00:00:00+99:00", "-1h", "-999999999w", "+1h",
    "-1x", "now", "null", "true", "[]", "{}", "\x00", "a\x00b", "'; DROP TABLE perfcore.series;--",
    "%", "%s", "%(x)s", "\u202e", "\U0001f600", "\ud800", "\u0661\u0662", "1_000", "0x10",
    "../../etc/passwd", "x" * 5000, "<img src=x onerror=alert(1)>", "raw", "day", "all",
)  # fmt: skip


class Client:
    """Requests to an application, one after the other, without a socket."""

    def __init__(self, application: Starlette) -> None:
        self._runner = asyncio.Runner()
        transport = httpx.ASGITransport(application)
        self._client = httpx.AsyncClient(transport=transport, base_url="http://perfcore")

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc: object) -> None:
        self._runner.run(self._client.aclose())
        self._runner.close()

    def request(self, method: str, url: str, **options: Any) -> httpx.Response:
        return self._runner.run(self._client.request(method, url, **options))

    def get(self, url: str, **options: Any) -> httpx.Response:
        return self.request("GET", url, **options)


@pytest.fixture(scope="module")
def seeded_dsn(cluster18: Cluster) -> Iterator[str]:
    with connect(cluster18.dsn(), autocommit=True) as connection:
        connection.execute("CREATE DATABASE api_store")
    migrate(cluster18.dsn("api_store"))
    yield cluster18.dsn("api_store")
    with connect(cluster18.dsn(), autocommit=True) as connection:
        connection.execute("DROP DATABASE api_store WITH (FORCE)")


@pytest.fixture(scope="module")
def seeded(seeded_dsn: str) -> Seeded:
    return seed_store(seeded_dsn, now=NOW)


@pytest.fixture(scope="module")
def client(seeded_dsn: str, seeded: Seeded) -> Iterator[Client]:
    store = engine(seeded_dsn)
    with Client(_application(store)) as client:
        yield client
    store.dispose()


def _application(store: sqlalchemy.Engine) -> Starlette:
    return Starlette(
        routes=routes(lambda: store, clock=lambda: NOW), exception_handlers=exception_handlers()
    )


def get(client: Client, path: str, **parameters: object) -> Any:
    response = client.get(path, params={k: str(v) for k, v in parameters.items()})
    assert response.status_code == 200, response.text
    return strict_json(response.text)


def strict_json(text: str) -> Any:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


def assert_refused(response: Any, status: int, field: str) -> None:
    assert response.status_code == status, response.text
    body = strict_json(response.text)
    assert set(body) == {"error", "field", "hint"}
    assert body["field"] == field and body["error"] and body["hint"]


def test_raw_samples_come_latest_first_and_limited(client: Client) -> None:
    answer = get(client, "/api/v1/performance/metrics", metric_type="api_endpoint", limit=5)
    times = [item["timestamp"] for item in answer["items"]]
    assert answer["is_truncated"] and answer["count"] == 5 and times == sorted(times, reverse=True)
    assert answer["from"] == "2026-11-23T11:30:20+00:00"
    assert answer["items"][0]["unit"] == "ms"


@pytest.mark.parametrize("resolution", ["minute", "hour", "day"])
def test_rollups_hold_every_request(client: Client, resolution: str, seeded: Seeded) -> None:
    name = ENDPOINTS[0].name
    answer = get(
        client, "/api/v1/performance/metrics", metric_type="api_endpoint", metric_name=name,
        service="shop", resolution=resolution, **{"from": "-1h"},
    )  # fmt: skip
    assert sum(item["count"] for item in answer["items"]) == seeded.requests[name]
    assert all(i["min"] <= i["p50"] <= i["p95"] <= i["p99"] <= i["max"] for i in answer["items"])


def test_a_range_too_long_for_minutes_is_refused_with_the_way_out(client: Client) -> None:
    response = client.get("/api/v1/performance/metrics?resolution=minute&from=-30d")
    assert_refused(response, 422, "resolution")


@pytest.mark.parametrize("path", ["slow-queries", "suggestions", "endpoints"])
def test_a_list_says_whether_it_was_cut(client: Client, path: str) -> None:
    whole = get(client, f"/api/v1/{path}", limit=1000)["count"]
    for limit in (whole - 1, whole, whole + 1):
        answer = get(client, f"/api/v1/{path}", limit=limit)
        assert answer["count"] == len(answer["items"]) == min(limit, whole)
        assert answer["is_truncated"] == (limit < whole)


def test_a_range_with_too_many_histograms_is_refused(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perfcore.api.answers.MAX_HISTOGRAMS", 360)
    path = "/api/v1/performance/metrics"
    chosen = {"metric_type": "api_endpoint", "resolution": "minute", "from": "-59m"}
    assert client.get(path, params=chosen).status_code == 200
    refused = client.get(path, params={"resolution": "minute", "from": "-59m"})
    assert_refused(refused, 422, "from")


@pytest.mark.parametrize("path", ["/api/v1/slow-queries", "/api/v1/performance/slow-queries"])
def test_slow_queries_by_statement_and_duration(client: Client, path: str) -> None:
    answer = get(client, path, queryid=7006, min_duration_ms=150, limit=1000)
    assert answer["items"]
    for item in answer["items"]:
        assert item["queryid"] == "7006" and item["duration_ms"] >= 150
        assert item["fingerprint"] == fingerprint_hex(STATEMENTS[5].fingerprint)
        assert item["endpoint"] == "GET /search" and item["plan_id"] is None
    assert get(client, path, endpoint="GET /nothing")["items"] == []


@pytest.mark.parametrize("path", ["/api/v1/suggestions", "/api/v1/performance/suggestions"])
def test_suggestions_with_ddl_and_undo(client: Client, path: str) -> None:
    answer = get(client, path, kind="index", target="shop")
    [item] = answer["items"]
    assert item["ddl"].startswith("CREATE INDEX CONCURRENTLY")
    assert item["undo"].startswith("DROP INDEX CONCURRENTLY")
    assert item["state"] == "open" and item["target"] == "shop"
    assert item["statements"][0]["queryid"] == "7001"
    assert get(client, path, state="dismissed")["items"] == []
    assert get(client, path, state="all")["count"] == 3
    assert (item["reader"], item["snoozed_until_ms"]) == ("run now", None)
    assert "reads and writes go on" in item["why"]
    decision = get(client, path, reader="needs a decision")
    assert [i["kind"] for i in decision["items"]] == ["drop_index"]
    assert_refused(client.get(path + "?target=nope"), 422, "target")
    assert_refused(client.get(path + "?reader=me"), 422, "reader")


def test_rejected_candidates_with_their_reasons(client: Client) -> None:
    items = get(client, "/api/v1/rejections", target="shop")["items"]
    assert [i["index"]["table"] for i in items] == ["orders", "events", "orders"]
    first = items[0]
    assert first["reason"] == "orders (customer_id, created_at DESC) saves the same and more"
    assert first["ddl"].startswith("CREATE INDEX CONCURRENTLY")
    assert [s["queryid"] for s in first["statements"]] == ["7001", "7003"]
    assert_refused(client.get("/api/v1/rejections?target=nope"), 422, "target")


def test_endpoints(client: Client, seeded: Seeded) -> None:
    items = get(client, "/api/v1/endpoints")["items"]
    assert {i["endpoint"]: i["requests"] for i in items} == seeded.requests
    assert len(get(client, "/api/v1/endpoints", limit=2)["items"]) == 2
    assert get(client, "/api/v1/endpoints", service="other")["items"] == []


def test_a_statement_leads_to_endpoints_and_plans(client: Client) -> None:
    answer = get(client, "/api/v1/statements/7001")
    assert answer["text"] == STATEMENTS[0].text
    assert answer["statistics"]["calls"] > 1000
    assert [e["endpoint"] for e in answer["endpoints"]] == [ENDPOINTS[0].name]
    plan = get(client, f"/api/v1/plans/{answer['plans'][0]['plan_id']}")
    assert plan["plan"]["Plan"]["Node Type"] == "Limit" and "Seq Scan on orders" in plan["text"]
    (finding,) = plan["findings"]
    assert (finding["kind"], finding["node"]) == ("seq_scan_keeps_few", 2)
    assert finding["numbers"]["rows kept"] == "about 60"
    assert plan["parameters_at"] is None
    assert get(client, "/api/v1/statements/-7005")["queryid"] == "-7005"


@pytest.mark.parametrize(
    "path, field",
    [("/api/v1/statements/4711", "queryid"), ("/api/v1/plans/4711", "plan_id")],
)
def test_an_unknown_id_is_404(client: Client, path: str, field: str) -> None:
    assert_refused(client.get(path), 404, field)


def test_the_ledger_and_health(client: Client) -> None:
    [item] = get(client, "/api/v1/ledger")["items"]
    assert item["state"] == "applied" and item["verdict"] == {"verdict": "improved"}
    assert item["fingerprints"] == [fingerprint_hex(STATEMENTS[3].fingerprint)]
    health = get(client, "/api/v1/health")
    assert health["status"] == "ok" and health["targets"][0]["name"] == "shop"


def test_processes_say_what_became_of_their_samples(client: Client) -> None:
    [item] = get(client, "/api/v1/processes")["items"]
    parts = [item[name] for name in ("stored", "spooled", "buffered", "missing")]
    assert item["generated"] == sum(parts) + sum(item["dropped"].values()) > 0
    assert item["missing"] == 0


@pytest.mark.parametrize(
    "query, field",
    [
        ("from=-1h&form=-2h", "form"),
        ("from=2026-01-01T00:00:00", "from"),
        ("from=0000-01-01T00:00:00Z", "from"),
        ("to=infinity", "to"),
        ("from=now&to=-1h", "from"),
        ("from=now&to=now", "from"),
        ("queryid=9223372036854775808", "queryid"),
        ("queryid=7.5", "queryid"),
        ("limit=0", "limit"),
        ("limit=-1", "limit"),
        ("limit=1000000000", "limit"),
        ("limit=1&limit=2", "limit"),
        ("min_duration_ms=NaN", "min_duration_ms"),
        ("min_duration_ms=1e999", "min_duration_ms"),
        ("endpoint=%00", "endpoint"),
        ("endpoint=", "endpoint"),
    ],
)
def test_wrong_input_is_named(client: Client, query: str, field: str) -> None:
    assert_refused(client.get("/api/v1/slow-queries?" + query), 422, field)


def test_a_misspelt_parameter_is_told_the_right_one(client: Client) -> None:
    assert "did you mean limit?" in client.get("/api/v1/ledger?limt=3").json()["hint"]


@pytest.mark.parametrize(
    "start",
    ["2026-11-23T12:00:00+00:00", "2026-11-23T12:00:00%2B00:00", "2026-11-23T13:00:00%2B01"],
)
def test_instants_with_zones(client: Client, start: str) -> None:
    answer = client.get(f"/api/v1/slow-queries?from={start}").json()
    assert answer["from"] == "2026-11-23T12:00:00+00:00"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_other_methods_are_405(client: Client, method: str) -> None:
    response = client.request(method, "/api/v1/suggestions")
    assert_refused(response, 405, "method")
    assert response.headers["allow"] == "GET, HEAD"


@pytest.mark.parametrize("path", ["/api", "/api/", "/api/v2/x", "/api/v1/health/", "/api/v1/%00"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_unknown_paths_are_404(client: Client, path: str, method: str) -> None:
    assert_refused(client.request(method, path), 404, "path")


def _requests(value: str) -> Iterator[str]:
    escaped = quote(value, safe="", errors="surrogatepass")
    for operation in OPERATIONS:
        path = operation.paths[0]
        query = [p.name for p in operation.parameters if not p.in_path]
        fixed = re.sub(r"\{\w+\}", "1", path)
        yield from (f"{fixed}?{name}={escaped}" for name in query)
        yield f"{fixed}?{escaped}=1"
        if fixed != path and value:
            yield re.sub(r"\{\w+\}", escaped, path)


@pytest.mark.parametrize("value", NASTY, ids=range(len(NASTY)))
def test_nothing_asked_makes_it_fail(client: Client, value: str) -> None:
    for url in _requests(value):
        response = client.get(url)
        assert response.status_code < 500, (url, response.text)
        body = strict_json(response.text)
        if response.status_code != 200:
            assert set(body) == {"error", "field", "hint"}, url


def test_times_at_the_edges_of_the_calendar(client: Client) -> None:
    for start, end in (("1970-01-02T00:00:00Z", "2200-01-01T00:00:00Z"), ("-1s", "now")):
        for resolution in ("raw", "day"):
            query = {"from": start, "to": end, "resolution": resolution}
            assert client.get("/api/v1/performance/metrics", params=query).status_code == 200
        for path in ("slow-queries", "endpoints", "statements/7001"):
            answer = client.get(f"/api/v1/{path}", params={"from": start, "to": end})
            assert answer.status_code == 200


def test_a_store_that_is_away_is_503_with_a_hint() -> None:
    store = engine("postgresql://perfcore:secret@127.0.0.1:1/nowhere")
    with Client(_application(store)) as client:
        response = client.get("/api/v1/health")
        assert_refused(response, 503, "store")
        assert "PERFCORE_STORE" in response.json()["hint"]
        assert "secret" not in response.text
    store.dispose()


def test_a_store_without_tables_is_told_to_migrate(dsn: str) -> None:
    store = engine(dsn)
    with Client(_application(store)) as client:
        response = client.get("/api/v1/endpoints")
        assert_refused(response, 503, "store")
        assert "migrate" in response.json()["hint"]
    store.dispose()


def test_a_fresh_store_answers_with_nothing(store: str) -> None:
    empty = engine(store)
    with Client(_application(empty)) as client:
        for path in ("performance/metrics?resolution=hour", "performance/metrics", "slow-queries",
                     "suggestions", "rejections", "endpoints", "ledger"):  # fmt: skip
            assert client.get(f"/api/v1/{path}").json()["items"] == []
        assert client.get("/api/v1/health").json()["last_batch_at"] is None
    empty.dispose()


def test_values_that_json_cannot_hold_become_null(store: str) -> None:
    with connect(store) as connection:
        connection.execute(
            "INSERT INTO perfcore.performance_metrics (metric_type, metric_name, value, timestamp)"
            " VALUES ('custom', 'odd', 'NaN', %(now)s), ('custom', 'odd', '-Infinity', %(now)s)",
            {"now": NOW - timedelta(minutes=1)},
        )
    odd = engine(store)
    with Client(_application(odd)) as client:
        items = get(client, "/api/v1/performance/metrics", metric_name="odd")["items"]
    assert [i["value"] for i in items] == [None, None]
    odd.dispose()


def test_the_document_names_every_route_and_parameter(client: Client) -> None:
    document = get(client, "/api/openapi.json")
    mounted = {r.path for r in routes(lambda: pytest.fail("no question was asked"))}
    assert document["openapi"].startswith("3.1")
    assert set(document["paths"]) == mounted - {"/api", "/api/{path:path}", "/api/openapi.json"}
    ids = [path["get"]["operationId"] for path in document["paths"].values()]
    assert len(set(ids)) == len(ids)
    for path, item in document["paths"].items():
        named = {p["name"] for p in item["get"]["parameters"] if p["in"] == "path"}
        assert named == set(re.findall(r"\{(\w+)\}", path))
        for parameter in item["get"]["parameters"]:
            assert parameter["description"] and parameter["schema"]["type"]


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda o: o.paths[0])
def test_answers_hold_what_the_document_says(
    client: Client, seeded: Seeded, operation: Operation
) -> None:
    schema = get(client, "/api/openapi.json")["paths"][operation.paths[0]]["get"]
    schema = schema["responses"]["200"]["content"]["application/json"]["schema"]
    jsonschema.Draft202012Validator.check_schema(schema)
    path = operation.paths[0].replace("{queryid}", "7001").replace("{plan_id}", "1")
    answer = get(client, path)
    jsonschema.validate(answer, schema)
    assert answer.get("items") != []
    if "resolution" in answer:
        jsonschema.validate(get(client, path, resolution="minute"), schema)


def test_no_documented_number_is_beyond_a_double(client: Client) -> None:
    def numbers(value: Any) -> Iterator[int]:
        if isinstance(value, dict | list):
            for part in value.values() if isinstance(value, dict) else value:
                yield from numbers(part)
        elif isinstance(value, int):
            yield value

    assert max(abs(n) for n in numbers(get(client, "/api/openapi.json"))) < 2**53


def test_identities_keep_their_last_digit(client: Client) -> None:
    of = STATEMENTS[0]
    assert abs(of.fingerprint) > 2**53
    answer = get(client, f"/api/v1/statements/{of.queryid}")
    assert answer["queryid"] == str(of.queryid)
    assert from_hex(answer["fingerprint"]) == of.fingerprint
    query = {"metric_type": "database_query", "resolution": "hour"}
    (row, *_) = get(
        client, "/api/v1/performance/metrics", metric_name=answer["fingerprint"], **query
    )["items"]
    assert row["count"] > 0


def test_documented_defaults_are_those_that_hold() -> None:
    for operation in OPERATIONS:
        for parameter in operation.parameters:
            assert parameter.schema.get("default") == parameter.default


def test_other_pages_keep_their_plain_errors() -> None:
    async def page(request: Any) -> PlainTextResponse:
        return PlainTextResponse("page")

    other = Starlette(routes=[Route("/page", page)], exception_handlers=exception_handlers())
    with Client(other) as outside:
        assert outside.get("/page").text == "page"
        assert outside.get("/missing").text == "Not Found"
        assert_refused(outside.get("/api/missing"), 404, "request")


def test_psycopg_parameters_cannot_be_reached_from_outside(client: Client, seeded_dsn: str) -> None:
    for value in ("'; DROP TABLE perfcore.series;--", "%(start)s", "%s"):
        get(client, "/api/v1/endpoints", service=value)
    with psycopg.connect(seeded_dsn) as connection:
        row = connection.execute("SELECT count(*) FROM perfcore.series").fetchone()
    assert row is not None and row[0] > 0
