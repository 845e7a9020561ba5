"""What a remedy does to a statement and to the endpoints behind it."""

from __future__ import annotations

from collections.abc import Sequence

from perfcore.advise.workload import Endpoints, Options
from perfcore.gist import gist
from perfcore.types import EndpointGain, StatementGain, WorkloadStatement


def gain_of(
    statement: WorkloadStatement, before: float, after: float, mean_ms_after: float
) -> StatementGain:
    """Return the statement's gain; equal costs stand for a remedy that no planner prices."""
    return StatementGain(
        fingerprint=statement.fingerprint,
        queryid=statement.queryid,
        text=statement.text,
        cost_before=before,
        cost_after=after,
        calls_per_hour=statement.calls_per_hour,
        mean_ms_before=statement.mean_exec_time_ms,
        mean_ms_after=mean_ms_after,
    )


def endpoint_gains(
    endpoints: Endpoints, gains: Sequence[StatementGain]
) -> tuple[EndpointGain, ...]:
    """Return what each endpoint saves per request, the one that saves most in all first."""
    saved: dict[tuple[str, str], float] = {}
    requests: dict[tuple[str, str], float] = {}
    for gain in gains:
        for use in endpoints.get(gain.fingerprint, ()):
            key = (use.service, use.endpoint)
            per_request = (gain.mean_ms_before - gain.mean_ms_after) * use.calls_per_request
            saved[key] = saved.get(key, 0.0) + per_request
            requests[key] = max(requests.get(key, 0.0), use.requests_per_hour)
    made = [EndpointGain(s, e, ms, requests[s, e]) for (s, e), ms in saved.items()]
    return tuple(
        sorted(
            made,
            key=lambda g: (
                -g.saved_ms_per_request * g.requests_per_hour,
                g.service,
                g.endpoint,
            ),
        )
    )


def too_fast(statement: WorkloadStatement, options: Options) -> str:
    """Say in numbers why the statement is not worth a look, empty when it is."""
    total = statement.mean_exec_time_ms * statement.calls_per_hour
    slow = statement.mean_exec_time_ms >= options.min_mean_ms
    if statement.calls >= options.min_calls and (slow or total >= options.min_total_ms_per_hour):
        return ""
    return (
        f"{statement.mean_exec_time_ms:,.2f} ms a call, {statement.calls} calls in "
        f"{statement.window_s / 60:,.0f} minutes"
    )


def short(text: str) -> str:
    """Return what tells a statement from others, on one line of sixty letters at most."""
    return gist(text, 60)
