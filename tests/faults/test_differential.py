"""Any application behind any server: with and without us both see the same."""

from __future__ import annotations

import asyncio
import copy
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from perfcore.collect import PerfcoreMiddleware, Recorder
from perfcore.collect.buffer import HOOKS
from tests.faults.playing import Pause, Server, play

pytestmark = pytest.mark.fault(1, 4, 5, 9, 10)

_NOWHERE = "postgresql://nobody:x@127.0.0.1:1/nothing"
_texts = st.text(max_size=6) | st.sampled_from(["GET", "/health", "\0", "\ud800", "http"])
_bytes = st.binary(max_size=6)
_odd = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | _texts | _bytes
_headers = st.lists(st.tuples(_bytes, _bytes) | st.just((b"content-type", b"text/event-stream")))
_types = st.sampled_from(
    [
        "http.response.start", "http.response.body", "http.response.pathsend",
        "http.response.trailers", "http.response.early_hint", "http.response.zerocopysend",
        "http.response.push", "http.future", "websocket.accept", "websocket.send",
        "websocket.close", "websocket.http.response.start", "websocket.http.response.body",
        "lifespan.startup.complete", "lifespan.startup.failed", "",
    ]
)  # fmt: skip
_messages = (
    st.fixed_dictionaries(
        {"type": _types},
        optional={
            "status": st.integers(100, 599) | _odd,
            "headers": _headers | _odd,
            "body": _bytes | _odd,
            "more_body": st.booleans() | _odd,
            "code": st.integers(1000, 4999) | _odd,
            "trailers": st.booleans(),
        },
    )
    | st.dictionaries(_texts, _odd, max_size=3)
    | _odd
)
_scopes = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["http", "http", "http", "websocket", "lifespan", "new"]) | _odd,
        "method": st.sampled_from(["GET", "POST", "BREW"]) | _odd,
        "path": _texts | _odd,
        "root_path": _texts | _odd,
        "headers": _headers | _odd,
        "route": _odd,
        "app_root_path": _texts | _odd,
        "fastapi": st.just({}) | _odd,
        "perfcore.route": _odd,
        "route_handler": _odd,
        "path_params": st.dictionaries(_texts, _odd, max_size=2) | _odd,
    },
)
_incoming = st.lists(
    st.fixed_dictionaries(
        {"type": st.sampled_from(["http.request", "http.disconnect", "websocket.connect",
                                  "websocket.receive", "websocket.disconnect"])},
        optional={"code": st.integers(1000, 4999) | _odd, "body": _bytes},
    )
    | _odd,
    max_size=3,
)  # fmt: skip
_raised = st.sampled_from(
    [ValueError, ConnectionResetError, asyncio.CancelledError, KeyboardInterrupt, SystemExit]
)
_steps = st.lists(
    st.tuples(st.just("send"), _messages)
    | st.tuples(st.just("send without waiting"), _messages)
    | st.tuples(st.just("try to send"), _messages)
    | st.tuples(st.just("receive"), st.none())
    | st.tuples(st.just("wait"), st.none())
    | st.tuples(st.just("raise"), _raised),
    max_size=6,
)


class _Application:
    """Does the steps it is given, and writes down what it saw."""

    def __init__(self, steps: list[Any]) -> None:
        self._steps = steps
        self.seen: list[Any] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        for word, given_ in self._steps:
            if word == "send":
                self.seen.append(await send(copy.deepcopy(given_)))
            elif word == "send without waiting":
                send(copy.deepcopy(given_)).close()
            elif word == "try to send":
                try:
                    await send(copy.deepcopy(given_))
                except OSError as error:
                    self.seen.append(type(error))
            elif word == "receive":
                self.seen.append(await receive())
            elif word == "wait":
                await Pause()
            else:
                raise given_("its own")


@pytest.fixture(autouse=True)
def _hooks_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HOOKS, "exist", HOOKS.exist)


@pytest.fixture(scope="module")
def quiet() -> Recorder:
    """A recorder without a thread."""
    recorder = Recorder("shop", _NOWHERE, sample_process=False)
    recorder._is_started = True
    return recorder


# Closing what was not waited for is what the application does here.
@pytest.mark.filterwarnings("ignore:coroutine")
@settings(
    max_examples=1_000,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(
    scope=_scopes,
    steps=_steps,
    incoming=_incoming,
    fails_at=st.integers(-1, 3),
    thrown=st.none() | _raised,
    has_hooks=st.booleans(),
)
def test_with_and_without_us_the_same_is_seen(
    scope: dict[str, Any],
    steps: list[Any],
    incoming: list[Any],
    fails_at: int,
    thrown: type[BaseException] | None,
    has_hooks: bool,
    quiet: Recorder,
) -> None:
    HOOKS.exist = has_hooks
    found = []
    for measured in (False, True):
        app = _Application(steps)
        around = PerfcoreMiddleware(app, recorder=quiet) if measured else app
        seen = play(
            around,
            copy.deepcopy(scope),
            Server(copy.deepcopy(incoming), fails_at),
            thrown("thrown") if thrown else None,
        )
        how = (type(seen.error), str(seen.error), type(seen.cause), type(seen.context))
        found.append((app.seen, seen.events, seen.scope, how))
    assert found[0] == found[1]
    assert quiet.accounting().missing == 0
