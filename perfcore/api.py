"""The REST API: GET questions to the store, answered as JSON, documented at /api/openapi.json.

It is mounted beside the pages, in the same process. Every answer is JSON, errors included:
`{"error", "field", "hint"}`. Fingerprints are 16 hex digits and queryids are strings, because
a JSON number loses the last digits of a 64-bit one in many clients.
"""

from __future__ import annotations

import json
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any
from uuid import UUID

import pandas as pd
import sqlalchemy
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

import perfcore
from perfcore import api_answers
from perfcore.aggregate import endpoints, metrics, statements
from perfcore.api_parameters import (
    Parameter,
    RequestRefused,
    choice,
    identity,
    instant,
    number,
    read_parameters,
    text,
    whole,
)
from perfcore.db import redact
from perfcore.errors import ConfigurationError, MigrationError, PerfcoreError, StoreUnavailable
from perfcore.normalise import fingerprint_hex
from perfcore.store import read
from perfcore.store.resolution import DAY
from perfcore.types import MetricType, TimeRange

DEFAULT_SPAN = timedelta(hours=1)
MAX_LIMIT = 10_000
MAX_EXACT = 2**53 - 1  # of the whole numbers that every JSON reader keeps
# The longest range of each resolution: what a single answer may read.
LONGEST = {"minute": 2 * DAY, "hour": 90 * DAY}
MAX_HISTOGRAMS = 200_000  # that one answer may read and merge
SUGGESTION_STATES = ("open", "dismissed", "snoozed", "applied", "gone", "all")
SUGGESTION_KINDS = ("index", "drop_index", "rewrite", "cache", "setting", "maintenance")

EngineFactory = Callable[[], sqlalchemy.Engine]
Clock = Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class Question:
    """A request whose parameters are read and checked."""

    values: Mapping[str, Any]
    now: datetime

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    @property
    def range(self) -> TimeRange:
        """Return the range asked for, by default the last hour before its end."""
        end = self["to"] or self.now
        start = self["from"] or end - DEFAULT_SPAN
        if start >= end:
            raise RequestRefused(
                f"from ({start.isoformat()}) is not before to ({end.isoformat()})",
                field="from",
                hint="let from be earlier than to",
            )
        return TimeRange(start, end)


@dataclass(frozen=True, slots=True)
class Operation:
    """A GET request that is answered, under one path or several."""

    paths: tuple[str, ...]
    summary: str
    parameters: tuple[Parameter, ...]
    answer: Callable[[sqlalchemy.Engine, Question], Any]
    schema: Mapping[str, Any]  # of the answer


FROM = instant("from", "Start of the range; by default one hour before its end.")
TO = instant("to", "End of the range, exclusive; by default now.")
SERVICE = text("service", "Only this service.")


def _limit(default: int = 100) -> Parameter:
    return whole("limit", "The most items to return.", 1, MAX_LIMIT, default=default)


def _metrics(store: sqlalchemy.Engine, question: Question) -> Any:
    r, resolution = question.range, question["resolution"]
    if r.end - r.start > LONGEST.get(resolution, r.end - r.start):
        raise RequestRefused(
            f"the range is too long for resolution {resolution}",
            field="resolution",
            hint=f"at most {LONGEST[resolution].days} days; choose a coarser resolution",
        )
    chosen = (question["metric_type"], question["metric_name"], question["service"])
    limit = question["limit"]
    if resolution == "raw":
        found = metrics.raw_samples(store, r, *chosen, limit=limit + 1)
    else:
        _refuse_too_many(
            metrics.count_histograms(store, r, resolution, *chosen, most=MAX_HISTOGRAMS)
        )
        found = metrics.rollup_table(
            store, r, resolution, *chosen, limit=limit + 1, now=question.now
        )
    return _listed(found, r, limit) | {"resolution": resolution}


def _refuse_too_many(histograms: int) -> None:
    if histograms > MAX_HISTOGRAMS:
        raise RequestRefused(
            f"more than {MAX_HISTOGRAMS:,} histograms lie in this range",
            field="from",
            hint="ask for a shorter range, one metric_name, or a coarser resolution",
        )


def _slow_queries(store: sqlalchemy.Engine, question: Question) -> Any:
    r = question.range
    found = statements.slow_queries(
        store,
        r,
        endpoint=question["endpoint"],
        queryid=question["queryid"],
        service=question["service"],
        min_duration_ms=question["min_duration_ms"],
        limit=question["limit"] + 1,
    )
    return _listed(found, r, question["limit"])


def _suggestions(store: sqlalchemy.Engine, question: Question) -> Any:
    wanted, names = question["state"], {t.target_id: t.name for t in read.targets(store)}
    if question["target"] is not None and question["target"] not in names.values():
        known = ", ".join(names.values()) or "none is watched yet"
        raise RequestRefused(
            f"no target is named {question['target']!r}", field="target", hint=f"known: {known}"
        )
    found = [
        {
            **_fields(stored.suggestion),
            "target": names.get(stored.suggestion.target_id, ""),
            "state": stored.state,
            "state_reason": stored.state_reason,
            "created_at": stored.created_at,
            "updated_at": stored.updated_at,
        }
        for stored in read.suggestions(store, state=None if wanted == "all" else wanted)
        if question["kind"] in (None, stored.suggestion.kind)
        and question["target"] in (None, names.get(stored.suggestion.target_id, ""))
    ]
    return _cut(found, question["limit"])


def _endpoints(store: sqlalchemy.Engine, question: Question) -> Any:
    r = question.range
    table = endpoints.endpoint_table(store, r, question["service"], now=question.now)
    return _listed(table, r, question["limit"])


def _statement(store: sqlalchemy.Engine, question: Question) -> Any:
    r = question.range
    detail = read.statement(store, question["queryid"])
    if detail is None:
        raise _unknown("queryid", question["queryid"], "GET /api/v1/slow-queries lists some")
    table = statements.statement_table(store, r, detail.target_id, now=question.now)
    mine = table[table["fingerprint"] == detail.fingerprint].drop(
        columns=["target_id", "fingerprint", "queryid", "text"]
    )
    return _fields(detail) | {
        "from": r.start,
        "to": r.end,
        "statistics": next(iter(_records(mine)), None),
        "endpoints": _records(statements.statement_endpoints(store, r, detail.fingerprint)),
        "plans": [
            {name: getattr(p, name) for name in _PLAN_FIELDS}
            for p in read.plans(store, detail.fingerprint, detail.target_id)
        ],
    }


_PLAN_FIELDS = ("plan_id", "shape_hash", "is_generic", "total_cost", "first_seen", "last_seen")


def _plan(store: sqlalchemy.Engine, question: Question) -> Any:
    found = read.plan(store, question["plan_id"])
    if found is None:
        raise _unknown(
            "plan_id", question["plan_id"], "GET /api/v1/statements/{queryid} lists them"
        )
    return _fields(found) | {"plan": found.plan.document, "text": found.plan.to_text()}


def _ledger(store: sqlalchemy.Engine, question: Question) -> Any:
    changes = read.changes(store, limit=question["limit"] + 1)
    return _cut([_fields(c) for c in changes], question["limit"])


def _health(store: sqlalchemy.Engine, question: Question) -> Any:
    state = read.collection_state(store, question.now)
    return {
        "status": "ok",
        "version": perfcore.__version__,
        "last_batch_at": state.last_batch_at,
        "samples": state.samples,
        "processes_sending": len(state.sending),
        "targets": [
            {"name": t.name, "last_seen_at": t.last_seen_at, "last_error": redact(t.last_error)}
            for t in state.targets
        ],
    }


OPERATIONS = (
    Operation(
        ("/api/v1/performance/metrics",),
        "Samples as they were recorded, or histograms of them with percentiles, latest first.",
        (
            choice("metric_type", "Only this type.", [m.value for m in MetricType]),
            text("metric_name", "Only this name, such as GET /orders/{id}."),
            SERVICE, FROM, TO,
            choice(
                "resolution",
                "raw: samples, thinned under load; else exact counts and percentiles per bucket.",
                ("raw", "minute", "hour", "day"), default="raw",
            ),
            _limit(1000),
        ),
        _metrics,
        api_answers.METRICS,
    ),
    Operation(
        ("/api/v1/slow-queries", "/api/v1/performance/slow-queries"),
        "Captured executions over the threshold, latest first.",
        (
            FROM, TO, SERVICE,
            text("endpoint", "Only within requests of this endpoint."),
            identity("queryid", "Only this statement, by PostgreSQL's queryid."),
            number("min_duration_ms", "Only those that took at least this.", 0, 1e12, default=0),
            _limit(),
        ),
        _slow_queries,
        api_answers.SLOW_QUERIES,
    ),
    Operation(
        ("/api/v1/suggestions", "/api/v1/performance/suggestions"),
        "What to do, the most saving first.",
        (
            choice("state", "Only in this state.", SUGGESTION_STATES, default="open"),
            choice("kind", "Only of this kind.", SUGGESTION_KINDS),
            text("target", "Only for the target of this name."),
            _limit(),
        ),
        _suggestions,
        api_answers.SUGGESTIONS,
    ),
    Operation(
        ("/api/v1/endpoints",),
        "Endpoints with counts, errors and percentiles, the one that took the most time first.",
        (FROM, TO, SERVICE, _limit(1000)),
        _endpoints,
        api_answers.ENDPOINTS,
    ),
    Operation(
        ("/api/v1/statements/{queryid}",),
        "A statement with its statistics in the range, its endpoints and its plans.",
        (identity("queryid", "As in pg_stat_statements.", in_path=True), FROM, TO),
        _statement,
        api_answers.STATEMENT,
    ),
    Operation(
        ("/api/v1/plans/{plan_id}",),
        "A plan as EXPLAIN (FORMAT JSON) gave it, and as text.",
        (whole("plan_id", "The plan.", 1, MAX_EXACT, in_path=True),),
        _plan,
        api_answers.PLAN,
    ),
    Operation(
        ("/api/v1/ledger",),
        "What was done to the targets and what came of it, latest first.",
        (_limit(),),
        _ledger,
        api_answers.LEDGER,
    ),
    Operation(
        ("/api/v1/health",),
        "Whether the store answers and what still arrives.",
        (),
        _health,
        api_answers.HEALTH,
    ),
)  # fmt: skip


def routes(engine_factory: EngineFactory, clock: Clock | None = None) -> list[Route]:
    """Return the routes of the API, the last of which answers every other /api path with 404.

    `engine_factory` is called per request, in a worker thread; let it return one engine.
    """
    now = clock or (lambda: datetime.now(UTC))
    made = [
        Route(path, _Endpoint(_answering(operation, engine_factory, now)))
        for operation in OPERATIONS
        for path in operation.paths
    ]
    document = openapi()

    async def describe(request: Request) -> Any:
        return document

    async def missing(request: Request) -> Any:
        raise RequestRefused(
            "there is nothing at this path",
            field="path",
            hint="GET /api/openapi.json lists what there is",
            status=404,
        )

    return [
        *made,
        Route("/api/openapi.json", _Endpoint(describe)),
        Route("/api", _Endpoint(missing, any_method=True)),
        Route("/api/{path:path}", _Endpoint(missing, any_method=True)),
    ]


def exception_handlers() -> dict[Any, Any]:
    """Return what turns errors beneath /api into JSON, for the application that mounts routes."""
    return {HTTPException: _http_error, PerfcoreError: _error_response}


class _Endpoint:
    """An ASGI application that answers GET (and HEAD) with JSON, errors included."""

    def __init__(
        self, answer: Callable[[Request], Awaitable[Any]], *, any_method: bool = False
    ) -> None:
        self._answer = answer
        self._any_method = any_method

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._respond(Request(scope, receive))
        await response(scope, receive, send)

    async def _respond(self, request: Request) -> Response:
        try:
            if not self._any_method and request.method not in ("GET", "HEAD"):
                raise RequestRefused(
                    f"{request.method} is not allowed here",
                    field="method",
                    hint="use GET",
                    status=405,
                )
            return _json(await self._answer(request))
        except (RequestRefused, StoreUnavailable, ConfigurationError, MigrationError) as error:
            return _error_response(request, error)


def _answering(
    operation: Operation, engine_factory: EngineFactory, clock: Clock
) -> Callable[[Request], Awaitable[Any]]:
    async def answer(request: Request) -> Any:
        now = clock()
        values = read_parameters(
            operation.parameters, request.path_params, request.query_params.multi_items(), now
        )
        return await run_in_threadpool(
            lambda: operation.answer(engine_factory(), Question(values, now))
        )

    return answer


def _http_error(request: Request, error: HTTPException) -> Response:
    if not request.url.path.startswith("/api"):
        return PlainTextResponse(error.detail, error.status_code, headers=error.headers)
    return _json(
        {"error": error.detail, "field": "request", "hint": "see /api/openapi.json"},
        error.status_code,
    )


def _error_response(request: Request, error: PerfcoreError) -> Response:
    status = error.status if isinstance(error, RequestRefused) else 503
    field = error.field if isinstance(error, RequestRefused) else "store"
    body = {"error": redact(str(error)), "field": field, "hint": redact(error.hint)}
    headers = {"Allow": "GET, HEAD"} if status == 405 else {}
    if status == 503:
        headers["Retry-After"] = "5"
    return _json(body, status, headers)


def _unknown(field: str, value: object, hint: str) -> RequestRefused:
    return RequestRefused(f"{field} {value} is not known", field=field, hint=hint, status=404)


def _listed(table: pd.DataFrame, r: TimeRange, limit: int) -> dict[str, Any]:
    return {"from": r.start, "to": r.end, **_cut(_records(table), limit)}


def _cut(items: list[dict[str, Any]], limit: int) -> dict[str, Any]:
    kept = items[:limit]
    return {"count": len(kept), "is_truncated": len(items) > limit, "items": kept}


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(k): v for k, v in row.items()} for row in table.to_dict("records")]


def _fields(value: Any) -> dict[str, Any]:
    """Return a dataclass's fields, without descending into them."""
    return {f.name: getattr(value, f.name) for f in fields(value)}


def _json(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    content = json.dumps(_plain(body), allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    always = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    return Response(
        content.encode("utf-8", "replace"),
        status,
        headers=always | dict(headers or {}),
        media_type="application/json",
    )


def _plain(value: Any, name: str = "") -> Any:
    """Return the value in JSON's types: no NaN or infinity, instants in UTC, big ids as text."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v, str(k)) for k, v in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(_fields(value))
    if isinstance(value, list | tuple):
        return [_plain(v, name) for v in value]
    if isinstance(value, Enum):
        return value.value
    if value is None or value is pd.NA or value is pd.NaT or isinstance(value, str | bool):
        return None if value is pd.NA or value is pd.NaT else value
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, UUID):
        return str(value)
    return _plain_number(value, name)


def _plain_number(value: Any, name: str) -> Any:
    if name in ("queryid", "queryids"):
        return str(int(value))
    if name in ("fingerprint", "fingerprints"):
        return fingerprint_hex(int(value))
    if isinstance(value, int):
        return value
    number = float(value)
    return number if math.isfinite(number) else None


def openapi() -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of the routes."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Perfcore",
            "version": perfcore.__version__,
            "description": "Endpoints, the statements they run, and what makes them faster.",
        },
        "paths": {
            path: {"get": _described(operation, path)}
            for operation in OPERATIONS
            for path in operation.paths
        },
        "components": {"schemas": {"Error": _ERROR_SCHEMA}},
    }


def _described(operation: Operation, path: str) -> dict[str, Any]:
    statuses = {"405": "Not a GET.", "422": "A parameter is wrong.", "503": "The store is away."}
    if "{" in path:
        statuses["404"] = "Nothing of that id is known."
    failing = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}}
    answer = {"application/json": {"schema": dict(operation.schema)}}
    return {
        "operationId": path.removeprefix("/api/v1/").translate(_NAMING),
        "summary": operation.summary,
        "parameters": [p.document() for p in operation.parameters],
        "responses": {
            "200": {"description": "The answer.", "content": answer},
            **{status: {"description": words, **failing} for status, words in statuses.items()},
        },
    }


_NAMING = str.maketrans({"/": "_", "-": "_", "{": "", "}": ""})
_ERROR_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["error", "field", "hint"],
    "properties": {
        "error": {"type": "string", "description": "What is wrong, with the value."},
        "field": {"type": "string", "description": "The parameter it is about."},
        "hint": {"type": "string", "description": "The remedy."},
    },
}


def parameters_of(path: str) -> Sequence[Parameter]:
    """Return the parameters of a path, as documented."""
    return next((o.parameters for o in OPERATIONS if path in o.paths), ())
