"""The shop's visitors: a bounded stream of requests with favourites, rhythm and mistakes."""

from __future__ import annotations

import argparse
import asyncio
import ipaddress
import math
import random
import signal
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil

from perfcore.demo import words
from perfcore.errors import ConfigurationError
from perfcore.server.supervisor import die_with_parent

MAX_IN_FLIGHT = 8
# A day of visitors passes in ten minutes.
DAY_S = 600.0
_GONE_S = 10.0
# A shop that has not answered yet may still be starting.
_START_S = 30.0
_QUEUE = "/fulfilment/queue"
_ADAPT_EVERY_S = 3.0
_SLOW_P95_S = 1.0
_BUSY_CPU_PERCENT = 85.0
# Fewer visitors than this would leave nothing to see.
_LEAST_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class Visit:
    """One request to be sent."""

    method: str
    path: str
    query: Mapping[str, str | int] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None


@dataclass
class Pace:
    """How many requests a second: a daily rhythm, lowered while shop or machine are strained."""

    rate: float
    share: float = 1.0
    latencies_s: deque[float] = field(default_factory=lambda: deque(maxlen=100))

    def per_second(self, elapsed_s: float) -> float:
        """Return the rate of this moment of the day.

        >>> round(Pace(10).per_second(150)), round(Pace(10).per_second(450))
        (10, 2)
        """
        return self.rate * self.share * (0.6 + 0.4 * math.sin(2 * math.pi * elapsed_s / DAY_S))

    def adapt(self, cpu_percent: float) -> None:
        """Lower the rate by a fifth while p95 or the machine's CPU is high, else raise it."""
        ordered = sorted(self.latencies_s)
        p95_s = ordered[int(0.95 * (len(ordered) - 1))] if ordered else 0.0
        if p95_s > _SLOW_P95_S or cpu_percent > _BUSY_CPU_PERCENT:
            self.share = max(_LEAST_SHARE, self.share * 0.8)
        else:
            self.share = min(1.0, self.share * 1.1)


class Visitors:
    """Decides what is asked next; the same seed asks the same."""

    def __init__(self, seed: int | None, sizes: Mapping[str, int]) -> None:
        self._random = random.Random(seed)
        self.sizes = dict(sizes)
        # Read from the fulfilment queue, to be shipped in that order.
        self.open_orders: deque[int] = deque(maxlen=50)
        self._kinds = list(_WEIGHTS)
        self._cumulative = [sum(list(_WEIGHTS.values())[: n + 1]) for n in range(len(self._kinds))]

    def next(self) -> Visit:
        """Return the next request."""
        kind = self._random.choices(self._kinds, cum_weights=self._cumulative)[0]
        return kind(self)

    def popular(self, what: str) -> int:
        """Return an id, low ones far more often than high ones (about as 1/id).

        >>> Visitors(1, {"products": 1}).popular("products")
        1
        """
        return min(self.sizes[what], int(self.sizes[what] ** self._random.random()))

    def recent(self, what: str) -> int:
        """Return an id, mostly one of the newest."""
        return max(1, self.sizes[what] + 1 - self.popular(what))

    def any(self, what: str) -> int:
        return self._random.randint(1, self.sizes[what])

    def choice(self, options: Sequence[Any]) -> Any:
        return self._random.choice(options)

    def chance(self, share: float) -> bool:
        return self._random.random() < share


def _categories(v: Visitors) -> Visit:
    return Visit("GET", "/categories")


def _category(v: Visitors) -> Visit:
    return Visit("GET", f"/categories/{v.choice(range(1, 201))}/products")


def _product(v: Visitors) -> Visit:
    return Visit("GET", f"/products/{v.popular('products')}")


def _filter(v: Visitors) -> Visit:
    brand = 1 + v.popular("products") % words.BRANDS
    return Visit("GET", "/products/filter", {"color": v.choice(words.COLORS), "brand": brand})


def _search(v: Visitors) -> Visit:
    return Visit("GET", "/search", {"q": f"{v.choice(words.MATERIALS)} {v.choice(words.NOUNS)}"})


def _reviews(v: Visitors) -> Visit:
    # Readers turn a few pages; a crawler goes to the end.
    last = max(1, v.sizes["reviews"] // 20)
    page = v.choice(range(last // 2, last)) if v.chance(0.4) else v.choice(range(20))
    return Visit("GET", "/reviews", {"page": page})


def _add_review(v: Visitors) -> Visit:
    body = {"customer_id": v.any("customers"), "rating": v.choice(range(1, 6)), "body": "Fine."}
    return Visit("POST", f"/products/{v.popular('products')}/reviews", body=body)


def _customer(v: Visitors) -> Visit:
    return Visit("GET", f"/customers/{v.popular('customers')}")


def _by_email(v: Visitors) -> Visit:
    return Visit("GET", "/customers/by-email", {"email": words.email(v.any("customers")).lower()})


def _add_customer(v: Visitors) -> Visit:
    n = v.choice(range(10**9))
    body = {"email": f"New{n}@Mail.example", "name": v.choice(words.FIRST_NAMES), "country": "PT"}
    return Visit("POST", "/customers", body=body)


def _customer_orders(v: Visitors) -> Visit:
    query = {"status": v.choice(("delivered", "delivered", *words.ORDER_STATUSES))}
    return Visit("GET", f"/customers/{v.popular('customers')}/orders", query)


def _cart(v: Visitors) -> Visit:
    return Visit("GET", f"/customers/{v.popular('customers')}/cart")


def _add_to_cart(v: Visitors) -> Visit:
    body = {"product_id": v.popular("products"), "quantity": 1}
    return Visit("POST", f"/customers/{v.popular('customers')}/cart", body=body)


def _empty_cart(v: Visitors) -> Visit:
    return Visit("DELETE", f"/customers/{v.popular('customers')}/cart")


def _order(v: Visitors) -> Visit:
    return Visit("GET", f"/orders/{v.recent('orders')}")


def _add_order(v: Visitors) -> Visit:
    items = [
        {"product_id": v.popular("products"), "quantity": v.choice((1, 1, 2))}
        for _ in range(v.choice((1, 2, 3)))
    ]
    return Visit("POST", "/orders", body={"customer_id": v.any("customers"), "items": items})


def _pay(v: Visitors) -> Visit:
    return Visit("POST", f"/orders/{v.recent('orders')}/payment", body={})


def _ship(v: Visitors) -> Visit:
    if not v.open_orders:
        return _queue(v)
    return Visit("POST", f"/orders/{v.open_orders.popleft()}/shipment", body={})


def _invoice(v: Visitors) -> Visit:
    return Visit("GET", f"/invoices/{words.invoice_number(v.recent('orders'))}")


def _shipment(v: Visitors) -> Visit:
    shipped = max(1, int(v.sizes["orders"] * 0.99) - v.popular("orders"))
    return Visit("GET", f"/shipments/{words.tracking_code(shipped)}")


def _queue(v: Visitors) -> Visit:
    return Visit("GET", _QUEUE)


def _customer_value(v: Visitors) -> Visit:
    return Visit("GET", "/reports/customer-value", {"days": v.choice((120, 180, 180, 365))})


def _unwished(v: Visitors) -> Visit:
    return Visit("GET", "/reports/unwished-products")


def _warehouse(v: Visitors) -> Visit:
    return Visit("GET", f"/warehouses/{v.choice(words.OPEN_WAREHOUSES)}/suppliers")


def _mistake(v: Visitors) -> Visit:
    """An old link, a mistyped id, a form sent half empty."""
    return v.choice(  # type: ignore[no-any-return]
        (
            Visit("GET", "/products/0"),
            Visit("GET", "/products/undefined"),
            Visit("GET", "/old-shop/index.php"),
            Visit("GET", "/orders/999999999"),
            Visit("POST", "/orders", body={"customer_id": 1}),
        )
    )


# How often each is asked, out of the sum. The dear ones are rare, as reports are.
_WEIGHTS: Mapping[Callable[[Visitors], Visit], float] = {
    _categories: 10,
    _category: 6,
    _product: 18,
    _filter: 5,
    _search: 3,
    _reviews: 4,
    _add_review: 2,
    _customer: 5,
    _by_email: 5,
    _add_customer: 1,
    _customer_orders: 8,
    _cart: 5,
    _add_to_cart: 4,
    _empty_cart: 1,
    _order: 5,
    _add_order: 4,
    _pay: 4,
    _ship: 4,
    _invoice: 4,
    _shipment: 5,
    _queue: 4,
    _customer_value: 1,
    _unwished: 1.5,
    _warehouse: 1.5,
    _mistake: 1.5,
}


# Every kind of request there is.
KINDS = tuple(_WEIGHTS)


def check_url(url: str) -> str:
    """Return the URL without a closing slash; refuse every host but this one.

    >>> check_url("http://127.0.0.1:8000/")
    'http://127.0.0.1:8000'
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme != "http" or not _is_loopback(host):
        raise ConfigurationError(
            f"--url is {url!r}: the traffic is for a demo shop on this machine, "
            "give http://127.0.0.1:<port>"
        )
    return url.rstrip("/")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Traffic:
    """One run of visits against one shop."""

    def __init__(self, url: str, *, rate: float = 15.0, seed: int | None = None) -> None:
        self.url = check_url(url)
        self.statuses: dict[int, int] = {}
        self._pace = Pace(rate)
        self._seed = seed
        self._stop = asyncio.Event()
        self._patience_s = _START_S
        self._last_answer_s = time.monotonic()
        self._running: set[asyncio.Task[None]] = set()

    def stop(self) -> None:
        """End the run after the requests that are under way."""
        self._stop.set()

    async def run(self, seconds: float | None = None) -> None:
        """Visit the shop until told to stop, for `seconds`, or until it is gone for ten seconds."""
        started_s = self._last_answer_s = time.monotonic()
        async with httpx.AsyncClient(base_url=self.url, timeout=30, trust_env=False) as client:
            sizes = await self._sizes(client)
            if sizes is None:
                return
            visitors = Visitors(self._seed, sizes)
            chores = [asyncio.create_task(self._keep(self._adapt, _ADAPT_EVERY_S))]
            chores.append(
                asyncio.create_task(self._keep(lambda: self._refresh(client, visitors), 30.0))
            )
            try:
                while not self._over(started_s, seconds):
                    self._send(client, visitors)
                    rate = self._pace.per_second(time.monotonic() - started_s)
                    await self._sleep(1 / max(rate, 0.1))
            finally:
                for chore in chores:
                    chore.cancel()
                await asyncio.gather(*chores, *self._running, return_exceptions=True)

    def _over(self, started_s: float, seconds: float | None) -> bool:
        now_s = time.monotonic()
        return (
            self._stop.is_set()
            or (seconds is not None and now_s - started_s >= seconds)
            or now_s - self._last_answer_s >= self._patience_s
        )

    def _send(self, client: httpx.AsyncClient, visitors: Visitors) -> None:
        if len(self._running) >= MAX_IN_FLIGHT:
            return
        task = asyncio.create_task(self._visit(client, visitors))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _visit(self, client: httpx.AsyncClient, visitors: Visitors) -> None:
        visit, started_s = visitors.next(), time.monotonic()
        try:
            answer = await client.request(
                visit.method, visit.path, params=dict(visit.query) or None, json=visit.body
            )
        except httpx.TransportError:
            return
        self._last_answer_s = time.monotonic()
        self._pace.latencies_s.append(self._last_answer_s - started_s)
        self.statuses[answer.status_code] = self.statuses.get(answer.status_code, 0) + 1
        if visit.path == _QUEUE and answer.status_code == 200:
            visitors.open_orders = deque((order["id"] for order in answer.json()), maxlen=50)

    async def _sizes(self, client: httpx.AsyncClient) -> dict[str, int] | None:
        """Return the highest ids; wait for a shop that is still starting."""
        while not self._over(0.0, None):
            try:
                answer = await client.get("/sitemap")
                answer.raise_for_status()
                self._last_answer_s, self._patience_s = time.monotonic(), _GONE_S
                return {name: int(newest or 1) for name, newest in answer.json().items()}
            except (httpx.HTTPError, ValueError):
                await self._sleep(0.5)
        return None

    async def _refresh(self, client: httpx.AsyncClient, visitors: Visitors) -> None:
        sizes = await self._sizes(client)
        if sizes:
            visitors.sizes.update(sizes)

    async def _adapt(self) -> None:
        self._pace.adapt(psutil.cpu_percent(None))

    async def _keep(self, work: Callable[[], Awaitable[None]], every_s: float) -> None:
        while True:
            await asyncio.sleep(every_s)
            await work()

    async def _sleep(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stop.wait(), min(seconds, 5.0))
        except TimeoutError:
            return


async def _main(options: argparse.Namespace) -> None:
    traffic = Traffic(options.url, rate=options.rate, seed=options.seed)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, traffic.stop)
    await traffic.run(options.seconds)


def main(arguments: Sequence[str] | None = None) -> int:
    """Send visitors to a demo shop on this machine."""
    parser = argparse.ArgumentParser(prog="python -m perfcore.demo.traffic", description=__doc__)
    parser.add_argument("--url", required=True, help="http://127.0.0.1:<port> of the shop")
    parser.add_argument("--rate", type=float, default=15.0, help="requests per second at noon")
    parser.add_argument("--seconds", type=float, help="stop after so long; default: go on")
    parser.add_argument("--seed", type=int, help="the same seed asks the same; default: any")
    options = parser.parse_args(arguments)
    try:
        check_url(options.url)
    except ConfigurationError as error:
        print(error, file=sys.stderr)
        return 2
    die_with_parent()
    asyncio.run(_main(options))
    return 0


if __name__ == "__main__":
    sys.exit(main())
