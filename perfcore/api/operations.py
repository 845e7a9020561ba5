"""The table of what can be asked: it routes, validates and documents."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy

from perfcore.advise.readers import Reader
from perfcore.api import answers, schemas
from perfcore.api.answers import Question
from perfcore.api.parameters import Parameter, choice, identity, instant, number, text, whole
from perfcore.metric_type import MetricType

MAX_LIMIT = 10_000
MAX_EXACT = 2**53 - 1  # of the whole numbers that every JSON reader keeps
SUGGESTION_STATES = ("open", "dismissed", "snoozed", "applied", "gone", "all")
SUGGESTION_KINDS = ("index", "drop_index", "rewrite", "cache", "setting", "maintenance")


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
        answers.metrics,
        schemas.METRICS,
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
        answers.slow_queries,
        schemas.SLOW_QUERIES,
    ),
    Operation(
        ("/api/v1/suggestions", "/api/v1/performance/suggestions"),
        "What to do, the most saving first.",
        (
            choice("state", "Only in this state.", SUGGESTION_STATES, default="open"),
            choice("kind", "Only of this kind.", SUGGESTION_KINDS),
            choice("reader", "Only for this reader.", [r.value for r in Reader]),
            text("target", "Only for the target of this name."),
            _limit(),
        ),
        answers.suggestions,
        schemas.SUGGESTIONS,
    ),
    Operation(
        ("/api/v1/rejections",),
        "Indexes that the last round weighed and did not suggest, with the reason.",
        (text("target", "Only for the target of this name."), _limit(500)),
        answers.rejections,
        schemas.REJECTIONS,
    ),
    Operation(
        ("/api/v1/endpoints",),
        "Endpoints with counts, errors and percentiles, the one that took the most time first.",
        (FROM, TO, SERVICE, _limit(1000)),
        answers.endpoints,
        schemas.ENDPOINTS,
    ),
    Operation(
        ("/api/v1/statements/{queryid}",),
        "A statement with its statistics in the range, its endpoints and its plans.",
        (identity("queryid", "As in pg_stat_statements.", in_path=True), FROM, TO),
        answers.statement,
        schemas.STATEMENT,
    ),
    Operation(
        ("/api/v1/plans/{plan_id}",),
        "A plan as EXPLAIN (FORMAT JSON) gave it, as text, and what it shows to be wrong.",
        (whole("plan_id", "The plan.", 1, MAX_EXACT, in_path=True),),
        answers.plan,
        schemas.PLAN,
    ),
    Operation(
        ("/api/v1/ledger",),
        "What was done to the targets and what came of it, latest first.",
        (_limit(),),
        answers.ledger,
        schemas.LEDGER,
    ),
    Operation(
        ("/api/v1/processes",),
        "Who sends, and what became of all that each has generated, latest first.",
        (_limit(),),
        answers.processes,
        schemas.PROCESSES,
    ),
    Operation(
        ("/api/v1/health",),
        "Whether the store answers and what still arrives.",
        (),
        answers.health,
        schemas.HEALTH,
    ),
)  # fmt: skip
