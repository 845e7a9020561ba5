from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from perfcore.demo import traffic
from perfcore.demo.shop import create_app, endpoints
from perfcore.demo.traffic import MAX_IN_FLIGHT, Pace, Traffic, Visitors, check_url, main
from perfcore.errors import ConfigurationError

_SIZES = {"customers": 3000, "products": 1200, "orders": 4000, "reviews": 2500}


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com", "https://127.0.0.1", "http://10.0.0.1:80", "127.0.0.1:80", "",
        "http://127.0.0.1@example.com", "http://localhost.example.com", "http://0.0.0.0:80",
    ],
)  # fmt: skip
def test_refuses_every_host_but_this_one(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigurationError, match="on this machine"):
        check_url(url)
    assert main([f"--url={url}"]) == 2
    assert url in capsys.readouterr().err


@pytest.mark.parametrize("url", ["http://127.0.0.1:80", "http://localhost:8", "http://[::1]:9"])
def test_accepts_this_machine(url: str) -> None:
    assert check_url(url) == url


def test_the_same_seed_asks_the_same() -> None:
    first, second, other = (Visitors(seed, _SIZES) for seed in (4, 4, 5))
    asked = [first.next() for _ in range(200)]
    assert asked == [second.next() for _ in range(200)]
    assert asked != [other.next() for _ in range(200)]


def test_few_things_are_asked_for_most() -> None:
    visitors = Visitors(1, _SIZES)
    counts = Counter(visitors.popular("products") for _ in range(5000))
    assert set(counts) <= set(range(1, 1201))
    assert sum(count for _, count in counts.most_common(20)) > 2000
    assert len(counts) > 300


def test_ids_stay_within_the_shop() -> None:
    visitors = Visitors(1, {"customers": 1, "products": 1, "orders": 1, "reviews": 1})
    assert {visitors.popular("orders") for _ in range(100)} == {1}
    assert {visitors.recent("orders") for _ in range(100)} == {1}
    for _ in range(2000):
        visitors.next()


def test_the_day_has_a_noon_and_a_night() -> None:
    rates = [Pace(10).per_second(second) for second in range(0, 600, 10)]
    assert max(rates) == pytest.approx(10, rel=0.01)
    assert min(rates) == pytest.approx(2, rel=0.01)


def test_asks_less_while_answers_are_slow_or_the_machine_is_busy_and_then_more_again() -> None:
    pace = Pace(10)
    pace.latencies_s.extend([0.01] * 90 + [3.0] * 10)
    for _ in range(50):
        pace.adapt(cpu_percent=5)
    assert pace.share == 0.25
    pace.latencies_s.extend([0.01] * 100)
    pace.adapt(cpu_percent=95)
    assert pace.share == 0.25
    for _ in range(50):
        pace.adapt(cpu_percent=5)
    assert pace.share == 1


def test_visits_every_endpoint_that_the_document_lists(
    shop_dsn: str, serve: Callable[[Starlette], str]
) -> None:
    url = serve(create_app(shop_dsn, middleware=False))
    visitors = Visitors(1, _SIZES)
    visitors.open_orders.extend(range(3981, 4000))
    statuses: Counter[int] = Counter()
    with httpx.Client(base_url=url, timeout=30, trust_env=False) as client:
        for kind in traffic.KINDS:
            for _ in range(3):
                visit = kind(visitors)
                statuses[
                    client.request(
                        visit.method, visit.path, params=dict(visit.query), json=visit.body
                    ).status_code
                ] += 1
    assert statuses[200] + statuses[201] >= len(traffic.KINDS) * 2
    assert statuses[500] == 0
    assert statuses[404] + statuses[422] >= 1
    assert len(traffic.KINDS) >= len(endpoints()) - 2


def test_runs_for_the_given_time_and_counts(
    shop_dsn: str, serve: Callable[[Starlette], str]
) -> None:
    visits = Traffic(serve(create_app(shop_dsn, middleware=False)), rate=100, seed=3)
    asyncio.run(visits.run(seconds=1.5))
    assert sum(visits.statuses.values()) > 5
    assert set(visits.statuses) <= {200, 201, 404, 409, 422, 500}


def test_keeps_few_requests_under_way(serve: Callable[[Starlette], str]) -> None:
    now, most = 0, 0

    async def slow(request: Request) -> JSONResponse:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.3)
        now -= 1
        return JSONResponse(_SIZES)

    methods = ["GET", "POST", "DELETE"]
    visits = Traffic(
        serve(Starlette(routes=[Route("/{path:path}", slow, methods=methods)])), rate=500
    )
    asyncio.run(visits.run(seconds=1.5))
    assert most == MAX_IN_FLIGHT


def test_ends_when_the_shop_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traffic, "_START_S", 0.5)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        visits = Traffic(f"http://127.0.0.1:{closed.getsockname()[1]}")
        asyncio.run(asyncio.wait_for(visits.run(), 10))
    assert visits.statuses == {}


def test_sigterm_ends_it_cleanly(shop_dsn: str, serve: Callable[[Starlette], str]) -> None:
    url = serve(create_app(shop_dsn, middleware=False))
    process = subprocess.Popen([sys.executable, "-m", "perfcore.demo.traffic", "--url", url])
    time.sleep(2)
    process.send_signal(signal.SIGTERM)
    assert process.wait(15) == 0
