"""What measuring a statement costs the application's process, beside what others take.

    pip install -r requirements.txt -r benchmarks/requirements.txt
    python benchmarks/overhead_statements.py              # about eight minutes
    python benchmarks/overhead_statements.py --dsn DSN    # a PostgreSQL of yours for the statements

Every variant is a process of its own, because some peers patch the driver for the whole process.
They wait for one another: a round runs each of them once, in random order, with the same
statements of SQLAlchemy Core, twenty in a request. The cost of a statement is the CPU time of the
process, exporters and flushers included, less that of the bare process in the same round; "on the
path" is that of the thread that executes. A round ends with one flush, as a second does in
production. Each five rounds all processes are new. Peers that are not installed are left out.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import os
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from measuring import Child, answer, quartiles, questions, table, versions

STATEMENTS_A_REQUEST = 20
# Where its memory happens to lie makes a process faster or slower by more than a hook takes.
ROUNDS_A_PROCESS = 5
Request = Callable[[], AbstractContextManager[Any]]
# Flushes and exports what a round left behind, so that it is paid for in that round.
Finish = Callable[[], Any]


def main() -> None:
    options = _options()
    if options.variant:
        _work(options.variant, options.dsn, options.store)
        return
    print(versions("SQLAlchemy", "psycopg", *_NEEDS.values()))
    with _servers() as (dsn, store):
        for name, where in (("SQLite in memory", "sqlite://"), ("PostgreSQL", options.dsn or dsn)):
            print(f"\n{name}, {options.rounds} rounds of {options.statements} statements")
            _report(_measure(where, store, options.rounds, options.statements))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--dsn", default="", help="where the statements run; a server of its own")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--statements", type=int, default=5000)
    parser.add_argument("--variant", default="", help=argparse.SUPPRESS)
    parser.add_argument("--store", default="", help=argparse.SUPPRESS)
    return parser.parse_args()


@contextmanager
def _servers() -> Iterator[tuple[str, str]]:
    """Start a PostgreSQL, and yield the DSN of an empty database and of a store."""
    from perfcore.db import connect
    from perfcore.server.embedded import STORE_SETTINGS, Cluster, wheel_binaries
    from perfcore.store.migrate import migrate

    folder = Path(tempfile.mkdtemp(prefix="perfcore-bench-"))
    folder.chmod(0o755)
    os.environ["TMPDIR"] = str(folder)  # what the children leave goes with it
    try:
        with Cluster(folder / "pg", wheel_binaries(folder), STORE_SETTINGS) as cluster:
            with connect(cluster.dsn(), autocommit=True) as connection:
                connection.execute("CREATE DATABASE application")
                connection.execute("CREATE DATABASE store")
            migrate(cluster.dsn("store"))
            yield cluster.dsn("application"), cluster.dsn("store")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


# --- the process of a variant -------------------------------------------------------------------


def _work(variant: str, dsn: str, store: str) -> None:
    """Execute as often as asked, and answer with the CPU a statement took."""
    pool = sa.StaticPool if dsn.startswith("sqlite") else sa.NullPool
    engine = sa.create_engine(dsn, poolclass=pool)
    request, finish = VARIANTS[variant](engine, store)
    item = sa.table("item", sa.column("id"), sa.column("name"))
    statement = sa.select(item.c.name).where(item.c.id == sa.bindparam("id"))
    with engine.connect() as connection:
        connection.exec_driver_sql("CREATE TEMPORARY TABLE item (id int PRIMARY KEY, name text)")
        connection.exec_driver_sql("INSERT INTO item VALUES (1, 'one'), (2, 'two')")
        for question in questions():
            count = question["statements"]
            process_ns, path_ns = _round(connection, statement, count, request, finish)
            answer(process_us=process_ns / count / 1000, path_us=path_ns / count / 1000)


def _round(
    connection: sa.Connection, statement: Any, count: int, request: Request, finish: Finish
) -> tuple[int, int]:
    process_ns, thread_ns = time.process_time_ns(), time.thread_time_ns()
    for start in range(0, count, STATEMENTS_A_REQUEST):
        with request():
            for number in range(start, min(start + STATEMENTS_A_REQUEST, count)):
                connection.execute(statement, {"id": 1 + number % 2}).all()
    on_path_ns = time.thread_time_ns() - thread_ns
    finish()
    return time.process_time_ns() - process_ns, on_path_ns


def _bare(engine: sa.Engine, store: str) -> tuple[Request, Finish]:
    return nullcontext, lambda: None


def _limit(engine: sa.Engine, store: str) -> tuple[Request, Finish]:
    """Two clock reads and an append: nothing that measures can take less."""
    taken: list[tuple[str, int, int]] = []
    run, clock, append = engine.dialect.do_execute, time.perf_counter_ns, taken.append

    def execute(cursor: Any, statement: str, parameters: Any, context: Any = None) -> None:
        started_ns = clock()
        run(cursor, statement, parameters, context)
        append((statement, started_ns, clock()))

    engine.dialect.do_execute = execute
    return nullcontext, taken.clear


def _without_stream(engine: sa.Engine, store: str) -> tuple[Request, Finish]:
    """Perfcore as with PERFCORE_CACHE_STREAM=off."""
    return _perfcore(engine, store, references_per_s=0.0)


def _perfcore(
    engine: sa.Engine, store: str, references_per_s: float = 200.0
) -> tuple[Request, Finish]:
    from perfcore.collect import Recorder, watch
    from perfcore.collect.batching import Limits
    from perfcore.collect.buffer import CURRENT, RequestContext

    folder = Path(tempfile.mkdtemp(prefix="perfcore-bench-"))
    limits = Limits(references_per_s=references_per_s)
    recorder = Recorder("bench", store, spool_folder=folder, sample_process=False, limits=limits)
    watch(engine, recorder)

    @contextmanager
    def request() -> Iterator[None]:
        context = RequestContext(recorder)
        context.endpoint = "GET /items"
        started_ns, token = time.perf_counter_ns(), CURRENT.set(context)
        yield
        CURRENT.reset(token)
        ended_ns = time.perf_counter_ns()
        recorder.request(context.endpoint, "", started_ns, ended_ns, 200, context)

    return request, lambda: recorder.flush(30)


def _opentelemetry(engine: sa.Engine, store: str) -> tuple[Request, Finish]:
    from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

    class Nowhere(SpanExporter):
        def export(self, spans: Any) -> Any:
            return SpanExportResult.SUCCESS

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(Nowhere()))
    SQLAlchemyInstrumentor().instrument(
        engine=engine, tracer_provider=provider, skip_dep_check=True
    )
    tracer = provider.get_tracer("bench")
    return lambda: tracer.start_as_current_span("GET /items"), provider.force_flush


def _sentry(engine: sa.Engine, store: str) -> tuple[Request, Finish]:
    import sentry_sdk
    from sentry_sdk.integrations.sqlalchemy import SqlalchemyIntegration
    from sentry_sdk.transport import Transport

    class Nowhere(Transport):
        def capture_envelope(self, envelope: Any) -> None:
            pass

    sentry_sdk.init(
        "http://key@localhost/1",
        traces_sample_rate=1.0,
        transport=Nowhere,
        default_integrations=False,
        integrations=[SqlalchemyIntegration()],
    )
    return (
        lambda: sentry_sdk.start_transaction(name="GET /items", op="http.server"),
        sentry_sdk.flush,
    )


def _elastic(engine: sa.Engine, store: str) -> tuple[Request, Finish]:
    import elasticapm

    client = elasticapm.Client(
        service_name="bench", disable_send=True, central_config=False, metrics_interval="0s",
        cloud_provider="none", breakdown_metrics=False,
    )  # fmt: skip
    elasticapm.instrument()
    engine.dispose()  # connections from before are not instrumented

    @contextmanager
    def request() -> Iterator[None]:
        client.begin_transaction("request")
        yield
        client.end_transaction("GET /items", "HTTP 2xx")

    return request, lambda: None


VARIANTS: dict[str, Callable[[sa.Engine, str], tuple[Request, Finish]]] = {
    "bare": _bare,
    "limit": _limit,
    "perfcore": _perfcore,
    "without stream": _without_stream,
    "opentelemetry": _opentelemetry,
    "sentry": _sentry,
    "elastic": _elastic,
}
_NEEDS = {
    "opentelemetry": "opentelemetry-instrumentation-sqlalchemy",
    "sentry": "sentry-sdk",
    "elastic": "elastic-apm",
}


def _version(package: str) -> str:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(package)
    return ""


# --- the rounds ---------------------------------------------------------------------------------


@dataclass
class _Costs:
    """Microseconds of CPU a statement, one for each round."""

    process_us: list[float] = field(default_factory=list)
    path_us: list[float] = field(default_factory=list)


def _measure(dsn: str, store: str, rounds: int, statements: int) -> dict[str, _Costs]:
    wanted = [v for v in VARIANTS if v not in _NEEDS or _version(_NEEDS[v])]
    costs = {variant: _Costs() for variant in wanted}
    for start in range(0, rounds, ROUNDS_A_PROCESS):
        with contextlib.ExitStack() as stack:
            workers = {v: stack.enter_context(_worker(v, dsn, store)) for v in wanted}
            for number in range(start - 2, min(start + ROUNDS_A_PROCESS, rounds)):
                for variant in random.sample(wanted, len(wanted)):
                    process_us, path_us = _ask(workers[variant], statements)
                    if number >= start:  # the two before warm up
                        costs[variant].process_us.append(process_us)
                        costs[variant].path_us.append(path_us)
    return costs


def _worker(variant: str, dsn: str, store: str) -> Child:
    dsn = dsn.replace("postgresql://", "postgresql+psycopg://")
    return Child(__file__, "--variant", variant, "--dsn", dsn, "--store", store)


def _ask(child: Child, statements: int) -> tuple[float, float]:
    answered = child.ask(statements=statements)
    return answered["process_us"], answered["path_us"]


def _report(costs: dict[str, _Costs]) -> None:
    bare = costs.pop("bare")
    print(f"bare: {statistics.median(bare.process_us):.1f} us of CPU a statement\n")
    added = {
        name: (_less(cost.process_us, bare.process_us), _less(cost.path_us, bare.path_us))
        for name, cost in costs.items()
    }
    ours = statistics.median(added["perfcore"][0])
    table(
        ["added CPU a statement", "us", "quartiles", "on the path, us", "quartiles", "ratio"],
        (
            [name, *_cells(whole), *_cells(path), f"{statistics.median(whole) / ours:.1f}"]
            for name, (whole, path) in added.items()
        ),
    )


def _cells(values: list[float]) -> list[str]:
    low, middle, high = quartiles(values)
    return [f"{middle:.2f}", f"{low:.2f} - {high:.2f}"]


def _less(these: list[float], bare: list[float]) -> list[float]:
    return [cost - base for cost, base in zip(these, bare, strict=True)]


if __name__ == "__main__":
    main()
