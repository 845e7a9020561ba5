"""Measure websockets: how long until accepted, how long open, and how they were closed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from time import perf_counter_ns
from typing import Any

from perfcore.collect.recorder import Recorder
from perfcore.metric_type import MetricType

Message = MutableMapping[str, Any]

ABNORMAL = 1006  # closed without a word; what no endpoint can send
_NS_PER_MS = 1e6


class Talk:
    """One websocket. Nothing of its messages is read but that it opens, and its close code."""

    __slots__ = ("_accepted_ns", "_code", "_receive", "_recorder", "_send", "_started_ns")

    def __init__(
        self,
        recorder: Recorder,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        self._recorder = recorder
        self._receive = receive
        self._send = send
        self._code: Any = None
        self._accepted_ns = 0
        self._started_ns = perf_counter_ns()

    async def receive(self) -> Message:
        message = await self._receive()
        try:
            if message["type"] == "websocket.disconnect":
                self._close(message.get("code", 1005))
        except Exception:
            self._recorder.self_errors.add()
        return message

    def send(self, message: Message) -> Awaitable[None]:
        try:
            kind = message["type"]
            if kind == "websocket.accept" and not self._accepted_ns:
                self._accepted_ns = perf_counter_ns()
                self._recorder.buffer.websockets.opened.add()
            elif kind == "websocket.close":
                self._close(message.get("code", 1000))
            elif kind == "websocket.http.response.start":
                self._close(message.get("status"))
        except Exception:
            self._recorder.self_errors.add()
        return self._send(message)

    def _close(self, code: Any) -> None:
        """Take the code; the first one counts: what follows is an answer to it."""
        if self._code is None:
            self._code = code if type(code) is int and 0 < code < 5000 else "invalid"

    def end(self, endpoint: str) -> None:
        """Record the websocket, whose application has ended; "/live/{room}" names it."""
        ended_ns = perf_counter_ns()
        recorder, accepted_ns = self._recorder, self._accepted_ns
        if accepted_ns:
            recorder.buffer.websockets.closed.add()
            self._add(MetricType.WEBSOCKET_CONNECT, endpoint, accepted_ns - self._started_ns)
            self._add(MetricType.WEBSOCKET_OPEN, endpoint, ended_ns - accepted_ns)
        # Ended by an exception, or by nobody: the server closes the connection without a word.
        code = ABNORMAL if self._code is None else self._code
        open_ns = ended_ns - (accepted_ns or self._started_ns)
        self._add(MetricType.WEBSOCKET_CLOSE, f"{endpoint} {code}", open_ns)

    def _add(self, metric_type: str, name: str, duration_ns: int) -> None:
        self._recorder.metric(name, duration_ns / _NS_PER_MS, "ms", metric_type)
