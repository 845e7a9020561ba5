"""What a series measures. It is a module of its own because every application imports it."""

from __future__ import annotations

from enum import StrEnum


class MetricType(StrEnum):
    """What a series measures; the value's unit follows from it."""

    API_ENDPOINT = "api_endpoint"  # ms per request; name is "GET /orders/{id}"
    API_FIRST_BYTE = "api_first_byte"  # ms until a streamed answer began; an endpoint's name
    API_STREAM = "api_stream"  # ms an endless or cut off stream was open; an endpoint's name
    API_OUTCOME = "api_outcome"  # ms per request with a special end: "GET /orders aborted KeyError"
    WEBSOCKET_CONNECT = "websocket_connect"  # ms until accepted; name is "/live/{room}"
    WEBSOCKET_OPEN = "websocket_open"  # ms from accepted to closed; named likewise
    WEBSOCKET_CLOSE = "websocket_close"  # ms likewise; name is "/live/{room} 1006"
    CONNECTION = "connection"  # open at the moment: "streams.open", "websockets.open"
    DATABASE_QUERY = (
        "database_query"  # ms per execution; name is the statement's fingerprint, 16 hex digits
    )
    DATABASE_BATCH = "database_batch"  # ms per executemany, and its "rows"; named likewise
    DATABASE_CANCELLED = "database_cancelled"  # ms until it was cancelled; named likewise
    DATABASE_TIME = "database_time"  # ms of a request in which a statement ran; an endpoint's name
    MEMORY = "memory"  # bytes; names as in OpenTelemetry: "process.memory.rss", "python.heap"
    CPU = "cpu"  # percent of one core for processes, of the whole machine for "system.*"
    RUNTIME = "runtime"  # threads, open files, pauses of Python's garbage collector
    CUSTOM = "custom"  # whatever the application says
