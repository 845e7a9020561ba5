"""A line to PostgreSQL that writes down what the client says."""

from __future__ import annotations

import re
import socket
import struct
import threading


class Wire:
    """Passes everything on; `said()` is what clients sent, without logins."""

    def __init__(self, dsn: str) -> None:
        found = re.search(r"@([^:/@]+):(\d+)/", dsn)
        assert found is not None, dsn
        self._server = (found.group(1), int(found.group(2)))
        self._listener = socket.create_server(("127.0.0.1", 0))
        port = self._listener.getsockname()[1]
        self.dsn = dsn.replace(found.group(0), f"@127.0.0.1:{port}/")
        self._lines: list[bytearray] = []
        self._threads: list[threading.Thread] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def said(self) -> list[list[tuple[bytes, bytes]]]:
        """Return the messages (type, body) of each connection, once all are closed."""
        for thread in self._threads:
            thread.join(60)
        return [_messages(bytes(line)) for line in self._lines]

    def _accept(self) -> None:
        while True:
            try:
                client = self._listener.accept()[0]
            except OSError:
                return
            server = socket.create_connection(self._server)
            line = bytearray()
            self._lines.append(line)
            for source, sink, log in ((client, server, line), (server, client, None)):
                thread = threading.Thread(target=_pass_on, args=(source, sink, log), daemon=True)
                self._threads.append(thread)
                thread.start()


def _pass_on(source: socket.socket, sink: socket.socket, log: bytearray | None) -> None:
    try:
        while piece := source.recv(65_536):
            if log is not None:
                log += piece
            sink.sendall(piece)
    except OSError:
        pass
    try:
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def _messages(said: bytes) -> list[tuple[bytes, bytes]]:
    messages, at = [], 0
    is_started = False
    while at < len(said):
        kind = b"" if not is_started else said[at : at + 1]
        at += len(kind)
        (length,) = struct.unpack_from("!i", said, at)
        body = said[at + 4 : at + length]
        at += length
        # Requests for encryption come before the startup message and look like it.
        is_started = is_started or body[:4] == b"\0\3\0\0"
        if kind != b"p":
            messages.append((kind, body))
    return messages
