"""A line to the store that can be cut after any byte, fall silent, reset or crawl."""

from __future__ import annotations

import contextlib
import re
import select
import socket
import struct
import threading
import time
from dataclasses import dataclass

# The message in which psycopg sends COMMIT, and the length of the answer that means success:
# CommandComplete and ReadyForQuery.
COMMIT = b"Q\x00\x00\x00\x0bCOMMIT\x00"
ANSWER_BYTES = 12 + 6


@dataclass(frozen=True)
class Cut:
    """Where in the next COMMIT exchange to break the line, and how."""

    place: str  # "request" or "answer"
    passed_bytes: int  # so many still get through
    how: str = "close"  # close, reset, half_close, black_hole


class Proxy:
    """Listens on a port of its own and passes everything on, until told otherwise."""

    def __init__(self, dsn: str) -> None:
        found = re.search(r"@([^:/@]+):(\d+)/", dsn)
        assert found is not None, dsn
        self._target = (found.group(1), int(found.group(2)))
        self._listener = socket.create_server(("127.0.0.1", 0))
        port = self._listener.getsockname()[1]
        self.dsn = dsn.replace(found.group(0), f"@127.0.0.1:{port}/")
        self.cut: Cut | None = None  # used once
        self.is_silent = False  # everything is swallowed
        self.bytes_per_s = 0  # from the server, when not 0
        self.cuts_done = 0
        self._lines: list[_Line] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        self.drop_all()

    def drop_all(self) -> None:
        """Close every line there is."""
        lines, self._lines = self._lines, []
        for line in lines:
            line.close()

    def _accept(self) -> None:
        while True:
            try:
                client = self._listener.accept()[0]
            except OSError:
                return
            try:
                server = socket.create_connection(self._target)
            except OSError:
                client.close()
                continue
            line = _Line(self, client, server)
            self._lines.append(line)
            line.start()


class _Line:
    """One connection through the proxy."""

    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy = proxy
        self._client = client
        self._server = server
        self._answer_left = -1  # bytes of the answer that still pass; -1 is all
        self._cut: Cut | None = None
        self._is_dead = False

    def start(self) -> None:
        for pump in (self._to_server, self._to_client):
            threading.Thread(target=self._guarded, args=(pump,), daemon=True).start()

    def _guarded(self, pump: object) -> None:
        with contextlib.suppress(OSError, ValueError):
            pump()  # type: ignore[operator]

    def _receive(self, source: socket.socket) -> bytes:
        # Not blocked in recv(): there it would keep a socket alive that was closed.
        while not select.select([source], [], [], 0.02)[0]:
            if self._is_dead and source.fileno() < 0:
                return b""
        return source.recv(65536)

    def _to_server(self) -> None:
        while data := self._receive(self._client):
            if self._is_dead or self._proxy.is_silent:
                continue
            cut, at = self._proxy.cut, data.find(COMMIT)
            if cut is None or at < 0:
                self._server.sendall(data)
                continue
            self._proxy.cut = None
            self._proxy.cuts_done += 1
            if cut.place == "request":
                self._server.sendall(data[: at + cut.passed_bytes])
                self._break(cut.how)
            else:
                self._cut, self._answer_left = cut, cut.passed_bytes
                self._server.sendall(data)
        self._end(self._server)

    def _to_client(self) -> None:
        while data := self._receive(self._server):
            if self._is_dead or self._proxy.is_silent:
                continue
            if self._answer_left >= 0 and self._cut is not None:
                passed, self._answer_left = data[: self._answer_left], 0
                self._client.sendall(passed)
                self._break(self._cut.how)
            elif self._proxy.bytes_per_s:
                self._crawl(data)
            else:
                self._client.sendall(data)
        self._end(self._client)

    def _crawl(self, data: bytes) -> None:
        for byte in data:
            if self._is_dead:
                return
            self._client.sendall(bytes((byte,)))
            time.sleep(1 / self._proxy.bytes_per_s)

    def _break(self, how: str) -> None:
        self._is_dead = True
        if how == "black_hole":
            return
        if how == "half_close":
            self._client.shutdown(socket.SHUT_WR)
            return
        if how == "reset":
            for each in (self._client, self._server):
                each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def _end(self, other: socket.socket) -> None:
        if not self._is_dead:
            with contextlib.suppress(OSError):
                other.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._is_dead = True
        for each in (self._client, self._server):
            each.close()
