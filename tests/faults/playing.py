"""Play an ASGI application against a server of the test's own, and write down what both see."""

from __future__ import annotations

import contextvars
import copy
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass, field
from typing import Any

MARK = "perfcore.request"
Application = Callable[..., Awaitable[None]]


class Pause:
    """What an application waits for that a test ends by throwing into it."""

    def __await__(self) -> Generator[None, None, None]:
        yield


@dataclass
class Server:
    """Hands out what it has to say; fails in the send of that number."""

    incoming: list[Any] = field(default_factory=list)
    fails_at: int = -1
    failure: BaseException = field(default_factory=lambda: OSError("the client is gone"))
    seen: list[Any] = field(default_factory=list)
    calls: int = 0

    async def receive(self) -> Any:
        self.seen.append("receive")
        if self.incoming:
            return self.incoming.pop(0)
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.calls += 1
        self.seen.append(copy.deepcopy(message))
        if self.calls == self.fails_at:
            raise self.failure


@dataclass(frozen=True)
class Seen:
    """What a server saw of an application, and how that ended."""

    events: list[Any]
    scope: Any
    error: BaseException | None
    cause: BaseException | None
    context: BaseException | None


def play(app: Application, scope: Any, server: Server, thrown: BaseException | None = None) -> Seen:
    """Run an application to its end, throwing into the first thing that it waits for."""
    return contextvars.copy_context().run(_play, app, scope, server, thrown)


def _play(app: Application, scope: Any, server: Server, thrown: BaseException | None) -> Seen:
    coroutine: Any = app(scope, server.receive, server.send)
    error: BaseException | None = None
    try:
        coroutine.send(None)
        if thrown is not None:
            coroutine.throw(thrown)
        coroutine.close()
    except StopIteration:
        pass
    except BaseException as raised:
        error = raised
    shown = {k: v for k, v in scope.items() if k != MARK} if isinstance(scope, dict) else scope
    if error is None:
        return Seen(server.seen, shown, None, None, None)
    return Seen(server.seen, shown, error, error.__cause__, error.__context__)
