"""Django's database layer on PostgreSQL: one wrapper on the connections of every thread."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import django
import pytest
from django import conf
from django.db.utils import ConnectionHandler, DataError

from perfcore.collect import Recorder, unwatch, watch
from perfcore.collect.batching import Limits
from perfcore.collect.buffer import CURRENT, RequestContext
from tests.collect.conftest import Rows


def handler_of(dsn: str) -> Any:
    """Return what `django.db.connections` is in a project on that database."""
    if not conf.settings.configured:
        conf.settings.configure(SECRET_KEY="of the tests")
        django.setup()
    parts = urlsplit(dsn)
    return ConnectionHandler(
        {
            "default": {
                "ENGINE": "django.db.backends.postgresql",
                "NAME": parts.path[1:],
                "USER": parts.username,
                "PASSWORD": parts.password,
                "HOST": parts.hostname,
                "PORT": parts.port,
            }
        }
    )


@pytest.fixture
def connections(dsn: str) -> Iterator[Any]:
    handler = handler_of(dsn)
    yield handler
    unwatch(handler)
    handler.close_all()


def test_each_execution_is_one_sample_of_its_endpoint(
    connections: Any, make_recorder: Callable[..., Recorder], rows: Rows
) -> None:
    recorder = make_recorder(slow_query_ms=0)
    watch(connections, recorder)
    watch(connections, recorder)  # a second time changes nothing
    context = RequestContext(recorder)
    context.endpoint = "GET /orders/"
    token = CURRENT.set(context)
    with connections["default"].cursor() as cursor:
        cursor.execute("CREATE TABLE orders (id int, note text)")
        cursor.executemany("INSERT INTO orders VALUES (%s, %s)", [(1, "a"), (2, "b")])
        cursor.execute("SELECT note FROM orders WHERE id = %s", [2])
        assert cursor.fetchall() == [("b",)]
        with pytest.raises(DataError):
            cursor.execute("SELECT 1 / %s", [0])
    recorder.request(context.endpoint, "", 0, 1, 200, context)
    CURRENT.reset(token)
    recorder.flush(20)
    assert rows(
        "SELECT endpoint, text, sum(calls)::int FROM endpoint_statements "
        "JOIN statement_texts USING (fingerprint) WHERE text !~ 'CREATE|set_config' "
        "GROUP BY 1, 2 ORDER BY 2"
    ) == [
        ("GET /orders/", "INSERT INTO orders VALUES (?)", 1),
        ("GET /orders/", "SELECT ? / ?", 1),
        ("GET /orders/", "SELECT note FROM orders WHERE id = ?", 1),
    ]
    assert rows("SELECT sum(error_count)::int FROM metric_rollups JOIN series USING (series_id) "
                "WHERE metric_type = 'database_query'") == [(1,)]  # fmt: skip
    assert ([{"type": "int"}, {"type": "str", "length": 1}],) in rows(
        "SELECT parameters FROM slow_queries"
    )


def test_every_thread_is_measured_and_unwatch_ends_it_everywhere(
    connections: Any, recorder: Recorder
) -> None:
    watch(connections, recorder)
    go_on, asked = threading.Event(), threading.Event()
    wrappers: list[list[Any]] = []

    def elsewhere() -> None:
        connection = connections["default"]
        for _ in range(2):
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1")
            wrappers.append(list(connection.execute_wrappers))
            asked.set()
            assert go_on.wait(60)
        connection.close()

    thread = threading.Thread(target=elsewhere)
    thread.start()
    assert asked.wait(60)
    measured = recorder.accounting().generated
    unwatch(connections)
    go_on.set()
    thread.join(60)
    assert measured >= 1
    assert recorder.accounting().generated == measured
    assert [len(w) for w in wrappers] == [1, 0]


def test_one_connection_can_be_watched_alone(connections: Any, recorder: Recorder) -> None:
    connection = connections["default"]
    watch(connection, recorder)
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    unwatch(connection)
    assert connection.execute_wrappers == []
    assert recorder.accounting().generated >= 1


def test_a_repetition_tells_its_place(
    connections: Any, make_recorder: Callable[..., Recorder], rows: Rows
) -> None:
    recorder = make_recorder(limits=Limits(n_plus_one_ms=0))
    watch(connections, recorder)

    def request() -> None:
        context = RequestContext(recorder)
        token = CURRENT.set(context)
        with connections["default"].cursor() as cursor:
            for number in range(6):
                cursor.execute("SELECT %s + 2", [number])
        recorder.request("GET /orders/", "", 0, 10**9, 200, context)
        CURRENT.reset(token)
        recorder.flush(20)

    request()
    request()
    [(place,)] = rows("SELECT location FROM repetitions WHERE location <> ''")
    line = request.__code__.co_firstlineno + 5
    nearest = place.partition(" ← ")[0]
    assert nearest.endswith(f"/test_django_hooks.py:{line} in {request.__qualname__}")
