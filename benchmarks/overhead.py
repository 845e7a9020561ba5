"""What measuring costs a request: ours, the physical limit, and other tools, in one run.

    python benchmarks/overhead.py [--rounds 40] [--requests 1000] [--sections in-process,socket,...]

Sections: `in-process` calls the applications with ASGI scopes, `socket` runs uvicorn and asks over
HTTP, `memory` sends a million unmatched paths, `store` measures while the store is healthy, slow,
silent or gone. The limit is a pure ASGI middleware that reads the clock twice and appends to a
list. All times are CPU time; variants take turns, so what disturbs the machine disturbs all.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import importlib
import os
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from measuring import Child, answer, quartiles, questions, table, versions

_ORDINARY = ("bare", "limit", "perfcore")
_PEERS = ("prometheus", "opentelemetry", "sentry", "elastic", "apitally")
_FRAMEWORKS = ("starlette", "fastapi")
_NOWHERE = "postgresql://nobody@127.0.0.1:1/nothing"
_SLICES = 10
_TARGETS = {"prometheus": 20, "opentelemetry": 100, "sentry": 100, "elastic": 100, "apitally": 100}


# The applications and what is put around them.


class Limit:
    """The physical limit of any middleware: two clock reads and an append."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.samples: list[int] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        started_ns = time.perf_counter_ns()
        await self.app(scope, receive, send)
        self.samples.append(time.perf_counter_ns() - started_ns)
        if len(self.samples) >= 50_000:
            self.samples.clear()


def _starlette() -> Any:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import PlainTextResponse, Response
    from starlette.routing import Route

    async def order(request: Request) -> Response:
        return PlainTextResponse("ok")

    return Starlette(routes=[Route("/orders/{id:int}", order)])


def _fastapi() -> Any:
    from fastapi import FastAPI

    app = FastAPI()

    @app.get("/orders/{id}")
    async def order(id: int) -> dict[str, int]:
        return {"id": id}

    return app


_MAKERS: dict[str, Callable[[], Any]] = {"starlette": _starlette, "fastapi": _fastapi}


def make(framework: str, variant: str, store: str = _NOWHERE) -> tuple[Any, Any]:
    """Return an application with a tool around it, and our recorder where it is ours."""
    before = {"sentry": _init_sentry}.get(variant)
    if before is not None:
        before()
    app, recorder = _MAKERS[framework](), None
    if variant == "limit":
        app.add_middleware(Limit)
    elif variant == "perfcore":
        from perfcore.collect import PerfcoreMiddleware, Recorder

        folder = Path(tempfile.mkdtemp(prefix="perfcore-overhead-"))
        recorder = Recorder("overhead", store, spool_folder=folder)
        app.add_middleware(PerfcoreMiddleware, recorder=recorder)
    elif variant != "bare" and before is None:
        _ADD[variant](app, framework)
    return app, recorder


def _init_sentry() -> None:
    import sentry_sdk

    class Nowhere(sentry_sdk.Transport):
        def capture_envelope(self, envelope: Any) -> None:
            return None

    sentry_sdk.init(
        dsn="http://key@127.0.0.1:1/1", traces_sample_rate=1.0, transport=Nowhere,
        default_integrations=True,
    )  # fmt: skip


def _add_prometheus(app: Any, framework: str) -> None:
    from prometheus_fastapi_instrumentator import Instrumentator

    Instrumentator().instrument(app)


def _add_opentelemetry(app: Any, framework: str) -> None:
    from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    provider = MeterProvider(metric_readers=[InMemoryMetricReader()])
    app.add_middleware(OpenTelemetryMiddleware, meter_provider=provider)


def _add_elastic(app: Any, framework: str) -> None:
    from elasticapm.contrib.starlette import ElasticAPM, make_apm_client

    client = make_apm_client(
        {"SERVICE_NAME": "x", "SERVER_URL": "http://127.0.0.1:1", "CENTRAL_CONFIG": False,
         "TRANSPORT_CLASS": "elasticapm.transport.base.Transport", "METRICS_INTERVAL": "0ms"}
    )  # fmt: skip
    app.add_middleware(ElasticAPM, client=client)


def _add_apitally(app: Any, framework: str) -> None:
    module = importlib.import_module(f"apitally.{framework}")
    module.init(app, write_token="apt_" + 24 * "0", otlp_endpoint="http://127.0.0.1:1", env="x")


_ADD: dict[str, Callable[[Any, str], None]] = {
    "prometheus": _add_prometheus,
    "opentelemetry": _add_opentelemetry,
    "elastic": _add_elastic,
    "apitally": _add_apitally,
}


# In a child: run requests and tell the CPU time they took.


def _scope(path: str) -> dict[str, Any]:
    return {
        "type": "http", "asgi": {"version": "3.0", "spec_version": "2.4"}, "http_version": "1.1",
        "method": "GET", "scheme": "http", "path": path, "raw_path": path.encode(),
        "query_string": b"", "root_path": "", "headers": [(b"host", b"bench"), (b"accept", b"*/*")],
        "client": ("127.0.0.1", 50_000), "server": ("127.0.0.1", 80), "state": {},
    }  # fmt: skip


async def _receive() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _send(message: Any) -> None:
    return None


async def _ask(app: Any, paths: Iterator[str]) -> None:
    for path in paths:
        await app(_scope(path), _receive, _send)


def _thread_cpu_ns(recorder: Any) -> int:
    """Return the CPU time of the flusher so far."""
    for thread in threading.enumerate():
        if thread.name == "perfcore-flusher" and thread.ident and recorder is not None:
            return time.clock_gettime_ns(time.pthread_getcpuclockid(thread.ident))
    return 0


def serve_in_process(framework: str, variants: list[str]) -> None:
    """In a child: run as many requests of each variant as asked, and answer with their CPU time.

    They take turns in slices; the median of the slices is what a round was.
    """
    made = {variant: make(framework, variant) for variant in variants}
    loop = asyncio.new_event_loop()
    for app, _ in made.values():
        loop.run_until_complete(_ask(app, (f"/orders/{n}" for n in range(2_000))))
    gc.collect()
    gc.freeze()
    answer(ready=True)
    for question in questions():
        count = question["requests"] // _SLICES
        paths = [f"/orders/{n}" for n in range(count)]
        slices: dict[str, list[tuple[float, float]]] = {variant: [] for variant in variants}
        for _ in range(_SLICES):
            for variant in question.get("variants", variants):
                process_ns, thread_ns = time.process_time_ns(), time.thread_time_ns()
                loop.run_until_complete(_ask(made[variant][0], iter(paths)))
                thread_ns = time.thread_time_ns() - thread_ns
                process_ns = time.process_time_ns() - process_ns
                slices[variant].append((process_ns / count / 1000, thread_ns / count / 1000))
        recorder = made["perfcore"][1] if "perfcore" in made else None
        answer(
            flusher_ms=_thread_cpu_ns(recorder) / 1e6,
            process_us={v: quartiles([s[0] for s in got])[1] for v, got in slices.items() if got},
            thread_us={v: quartiles([s[1] for s in got])[1] for v, got in slices.items() if got},
        )


def serve_over_socket(framework: str, variants: list[str]) -> None:
    """In a child: uvicorn on a free port; `/cpu` tells the CPU time of the process."""
    import uvicorn

    app, _ = make(framework, variants[0])

    async def with_cpu(scope: Any, receive: Any, send: Any) -> None:
        if scope.get("path") != "/cpu":
            await app(scope, receive, send)
            return
        body = str(time.process_time_ns()).encode()
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(with_cpu, log_level="critical", access_log=False, lifespan="on")
    answer(port=listener.getsockname()[1])
    uvicorn.Server(config).run([listener])


def serve_memory(framework: str, variants: list[str]) -> None:
    """In a child: ask for paths that no route matches, and tell what the process occupies."""
    import psutil

    if variants[0] == "driver":
        import psycopg  # noqa: F401
    app, _ = make(framework, "bare" if variants[0] == "driver" else variants[0])
    loop = asyncio.new_event_loop()
    process = psutil.Process()
    number = 0
    answer(ready=True)
    for question in questions():
        count = question["requests"]
        paths = (f"/scan/{n}.php" for n in range(number, number + count))
        loop.run_until_complete(_ask(app, paths))
        number += count
        gc.collect()
        answer(rss_mb=process.memory_info().rss / 2**20, threads=threading.active_count())


def serve_store(framework: str, variants: list[str]) -> None:
    """In a child: requests at a steady pace, with their CPU time and their latencies."""
    app, recorder = make(framework, "perfcore", variants[0])
    loop = asyncio.new_event_loop()
    loop.run_until_complete(_ask(app, (f"/orders/{n}" for n in range(2_000))))
    answer(ready=True)
    for question in questions():
        until = time.monotonic() + question["seconds"]
        count, thread_ns, process_ns = 0, time.thread_time_ns(), time.process_time_ns()
        taken: list[int] = []
        while time.monotonic() < until:
            for _ in range(20):
                began = time.perf_counter_ns()
                loop.run_until_complete(_ask(app, iter([f"/orders/{count}"])))
                taken.append(time.perf_counter_ns() - began)
                count += 1
            time.sleep(0.005)
        taken.sort()
        thread_ns = time.thread_time_ns() - thread_ns
        process_ns = time.process_time_ns() - process_ns
        accounting = recorder.accounting()
        answer(
            requests=count, thread_us=thread_ns / count / 1000,
            process_us=process_ns / count / 1000, p50_us=taken[len(taken) // 2] / 1000,
            stored=accounting.stored, missing=accounting.missing,
        )  # fmt: skip


_CHILDREN = {
    "in-process": serve_in_process,
    "socket": serve_over_socket,
    "memory": serve_memory,
    "store": serve_store,
}


# In the parent: ask in turns, and print.


def _child(section: str, framework: str, *variants: str) -> Child:
    return Child(str(Path(__file__).resolve()), "--child", section, framework, *variants)


def _open(stack: contextlib.ExitStack, section: str, framework: str, *variants: str) -> Any:
    """Return a child and its first answer, None when what it measures cannot be imported."""
    child = stack.enter_context(_child(section, framework, *variants))
    try:
        return child, child.read()
    except RuntimeError:
        print(f"left out, it cannot be imported or started: {', '.join(variants)}")
        return None


def _added(rows: dict[str, list[float]], peers: list[str]) -> None:
    """Print what each variant costs more than the bare application."""
    added = {
        variant: quartiles([a - b for a, b in zip(rows[variant], rows["bare"], strict=True)])
        for variant in rows
        if variant != "bare"
    }
    limit, own = added["limit"][1], added["perfcore"][1]
    lines = []
    for variant, (low, middle, high) in added.items():
        target = {"perfcore": "<= 3 limits"}.get(variant, "")
        if variant in peers:
            target = f">= {_TARGETS[variant]} of ours"
        lines.append(
            [variant, f"{middle:.2f}", f"{low:.2f} - {high:.2f}", f"{middle / limit:.2f}",
             f"{middle / own:.1f}", target]
        )  # fmt: skip
    bare = quartiles(rows["bare"])[1]
    print(f"bare: {bare:.1f} us")
    table(["added", "median us", "quartiles", "in limits", "in ours", "target"], lines)


def in_process(framework: str, rounds: int, requests: int, peers: list[str]) -> None:
    print(f"### In process, {framework}: CPU time of the request path\n")
    with contextlib.ExitStack() as stack:
        opened = [_open(stack, "in-process", framework, *_ORDINARY)]
        opened += [_open(stack, "in-process", framework, peer) for peer in peers]
        children = [found[0] for found in opened if found is not None]
        rows: dict[str, list[float]] = {}
        for _ in range(rounds):
            for child in children:
                got = child.ask(requests=requests)
                # Of peers everything counts: some work in threads of their own.
                for variant, taken_us in got["process_us"].items():
                    taken_us = taken_us if variant in peers else got["thread_us"][variant]
                    rows.setdefault(variant, []).append(taken_us)
        _added(rows, peers)
        limit, path = (
            quartiles([a - b for a, b in zip(rows[v], rows["bare"], strict=True)])[1]
            for v in ("limit", "perfcore")
        )
        share_us, idle_ms, per_s = _flusher_share(children[0])
        print(
            f"perfcore's flusher: {share_us:.2f} us a request at {per_s:,.0f} requests a second, "
            f"and {idle_ms:.1f} ms of each second whatever comes (no store: it spools).\n"
            f"perfcore, path and flusher's share: {path + share_us:.2f} us, "
            f"{(path + share_us) / limit:.2f} limits\n"
        )


def _flusher_share(child: Child) -> tuple[float, float, float]:
    """Return the flusher's us a request, its ms a second without any, and requests a second."""
    idle_from_ms = child.ask(requests=_SLICES, variants=["perfcore"])["flusher_ms"]
    time.sleep(6)
    busy_from_ms = child.ask(requests=_SLICES, variants=["perfcore"])["flusher_ms"]
    idle_ms = (busy_from_ms - idle_from_ms) / 6
    began, count, busy_ms = time.monotonic(), 0, busy_from_ms
    while (taken_s := time.monotonic() - began) < 10:
        busy_ms = child.ask(requests=2_000, variants=["perfcore"])["flusher_ms"]
        count += 2_000
    share_us = (busy_ms - busy_from_ms - idle_ms * taken_s) * 1000 / count
    return max(0.0, share_us), idle_ms, count / taken_s


class _Client:
    """A client of one kept connection."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def get(self, path: str) -> bytes:
        self._socket.sendall(f"GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode())
        data = self._socket.recv(65_536)
        while b"\r\n\r\n" not in data:
            data += self._socket.recv(65_536)
        head, _, body = data.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        while len(body) < length:
            body += self._socket.recv(65_536)
        return body


def over_socket(framework: str, rounds: int, requests: int, peers: list[str]) -> None:
    print(f"### Over a socket, {framework} on uvicorn: CPU time of the server's process\n")
    with contextlib.ExitStack() as stack:
        clients = {}
        for variant in [*_ORDINARY, *peers]:
            opened = _open(stack, "socket", framework, variant)
            if opened is not None:
                clients[variant] = _Client(opened[1]["port"])
        rows: dict[str, list[float]] = {variant: [] for variant in clients}
        for client in clients.values():
            for number in range(500):
                client.get(f"/orders/{number}")
        for _ in range(rounds):
            for variant, client in clients.items():
                before_ns = int(client.get("/cpu"))
                for number in range(requests):
                    client.get(f"/orders/{number}")
                rows[variant].append((int(client.get("/cpu")) - before_ns) / requests / 1000)
        _added(rows, peers)


def memory(framework: str, total: int) -> None:
    print(f"### Memory, {framework}: {total:,} distinct paths that no route matches\n")
    print("Added is to the application with the driver, which one on PostgreSQL has anyway.\n")
    steps = 10
    with contextlib.ExitStack() as stack:
        lines, children = [], {}
        for variant in ("bare", "driver", "perfcore"):
            children[variant] = _open(stack, "memory", framework, variant)[0]
        for step in range(1, steps + 1):
            got = {v: c.ask(requests=total // steps) for v, c in children.items()}
            bare, driver, ours = (got[v]["rss_mb"] for v in ("bare", "driver", "perfcore"))
            lines.append(
                [f"{total // steps * step:,}", f"{bare:.1f}", f"{driver:.1f}", f"{ours:.1f}",
                 f"{ours - driver:.1f}", got["perfcore"]["threads"] - got["bare"]["threads"]]
            )  # fmt: skip
        titles = ["requests", "bare MB", "with psycopg MB", "perfcore MB", "added MB (<= 16)"]
        table([*titles, "threads (1)"], lines)


def _silent_server(stack: contextlib.ExitStack) -> str:
    """Return the DSN of a server that accepts and never answers."""
    listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=64))
    return f"postgresql://nobody@127.0.0.1:{listener.getsockname()[1]}/nothing"


def _slow_server(stack: contextlib.ExitStack, port: int, delay_s: float) -> int:
    """Return the port of a proxy that holds every piece of an answer back."""
    listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=64))

    def pass_on(source: socket.socket, target: socket.socket, wait_s: float) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                time.sleep(wait_s)
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.create_connection(("127.0.0.1", port))
                for source, target, wait_s in ((near, far, 0.0), (far, near, delay_s)):
                    arguments = (source, target, wait_s)
                    threading.Thread(target=pass_on, args=arguments, daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return int(listener.getsockname()[1])


def store(framework: str, seconds: float) -> None:
    print(f"### The store, {framework}: a request while it is healthy, slow, silent or gone\n")
    from perfcore.server.embedded import THROWAWAY_SETTINGS, Cluster, wheel_binaries
    from perfcore.store.migrate import migrate

    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="perfcore-bench-")))
        folder.chmod(0o755)
        cluster = Cluster(folder / "pg", wheel_binaries(folder), THROWAWAY_SETTINGS, durable=False)
        stack.enter_context(cluster)
        migrate(cluster.dsn())
        slow_port = _slow_server(stack, cluster.port, 0.2)
        stores = {
            "healthy": cluster.dsn(),
            "slow (0.2 s an answer)": cluster.dsn().replace(f":{cluster.port}/", f":{slow_port}/"),
            "silent": _silent_server(stack),
            "gone": _NOWHERE,
        }
        children = {s: _open(stack, "store", framework, dsn)[0] for s, dsn in stores.items()}
        rows: dict[str, list[Any]] = {state: [] for state in children}
        for _ in range(4):
            for state, child in children.items():
                rows[state].append(child.ask(seconds=seconds / 4))
        lines = []
        for state, got in rows.items():
            cells: list[object] = [state, sum(g["requests"] for g in got)]
            for key in ("thread_us", "p50_us", "process_us"):
                own, healthy = (quartiles([g[key] for g in rows[s]])[1] for s in (state, "healthy"))
                cells += [f"{own:.1f}", f"{own / healthy:.2f}"]
            lines.append([*cells, got[-1]["stored"], got[-1]["missing"]])
        table(
            ["store", "requests", "path us", "ratio", "p50 us", "ratio (<= 1.10)", "process us",
             "ratio", "stored", "missing (0)"], lines,
        )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sections", default="in-process,socket,memory,store")
    parser.add_argument("--frameworks", default=",".join(_FRAMEWORKS))
    parser.add_argument("--peers", default=",".join(_PEERS))
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--requests", type=int, default=1_000, help="of a variant in a round")
    parser.add_argument("--paths", type=int, default=1_000_000, help="of the memory section")
    parser.add_argument("--seconds", type=float, default=20, help="of each store")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        section, framework, *variants = given.child
        _CHILDREN[section](framework, variants)
        return
    peers = [peer for peer in given.peers.split(",") if peer]
    print(
        versions(
            "starlette", "fastapi", "uvicorn", "httptools", "uvloop",
            "prometheus-fastapi-instrumentator", "opentelemetry-instrumentation-asgi",
            "opentelemetry-sdk", "sentry-sdk", "elastic-apm", "apitally",
        ),
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}",
        sep="\n", end="\n\n",
    )  # fmt: skip
    sections = given.sections.split(",")
    for framework in given.frameworks.split(","):
        usable = [p for p in peers if p != "prometheus" or framework == "fastapi"]
        if "in-process" in sections:
            in_process(framework, given.rounds, given.requests, usable)
        if "socket" in sections:
            over_socket(framework, given.rounds, given.requests, usable)
    if "memory" in sections:
        memory("starlette", given.paths)
    if "store" in sections:
        store("starlette", given.seconds)


if __name__ == "__main__":
    main()
