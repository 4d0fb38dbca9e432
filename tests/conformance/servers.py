"""Two servers that play a recording: llmws's own, and one whose framing is none of ours."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.server import ServerProtocol
from websockets.sync.server import ServerConnection

from llmws.testing import Server
from llmws.testing.replay import Replay
from tests.conformance.recorded import Part


WAIT_SECONDS = 30


@contextlib.contextmanager
def our_server(
    path: Path,
    gate: threading.Event,
    *,
    ssl_context: ssl.SSLContext | None = None,
    chunk_bytes: int | None = None,
) -> Iterator[str]:
    """Serve a recording from ``llmws.testing.Server``; yield the base URL."""
    play = Replay.__call__

    def held(self: Replay, request: Any) -> Iterator[dict[str, Any]]:
        assert gate.wait(WAIT_SECONDS)
        yield from play(self, request)

    with pytest.MonkeyPatch.context() as patch:
        # Not a rule around the replay: what rules say is numbered where a recording has no numbers.
        patch.setattr(Replay, "__call__", held)
        with Server(path, ssl_context=ssl_context, chunk_bytes=chunk_bytes) as server:
            yield server.base_url
            server.check()


class SmallWrites:
    """A socket that writes a few bytes at a time."""

    def __init__(self, sock: Any, size: int) -> None:
        self._sock = sock
        self._size = size

    def sendall(self, data: bytes) -> None:
        for start in range(0, len(data), self._size):
            self._sock.sendall(data[start : start + self._size])

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


@contextlib.contextmanager
def foreign_server(
    parts: list[Part],
    gate: threading.Event,
    *,
    ssl_context: ssl.SSLContext | None = None,
    chunk_bytes: int | None = None,
) -> Iterator[str]:
    """
    Serve a recording to one client from the ``websockets`` package; yield the base URL.

    It sends the texts of the recorded lines as they are, for each create those of its part.
    """
    problems: list[object] = []

    def answer(connection: ServerConnection) -> None:
        for part in parts:
            create = json.loads(connection.recv())
            if create != {"type": "response.create", **part.request}:
                problems.append(create)
            assert gate.wait(WAIT_SECONDS)
            for line in part.lines:
                connection.send(line)
        for message in connection:
            problems.append(message)

    def serve() -> None:
        sock: Any = listener.accept()[0]
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if ssl_context is not None:
            sock = ssl_context.wrap_socket(sock, server_side=True)
        if chunk_bytes is not None:
            sock = SmallWrites(sock, chunk_bytes)
        # By hand and not by ``serve()``, which leaves a selector and a pipe open behind it.
        connection = ServerConnection(sock, ServerProtocol(), ping_interval=None)
        with contextlib.suppress(ConnectionClosed), connection:
            connection.handshake()
            answer(connection)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(WAIT_SECONDS)
        thread = threading.Thread(target=serve, name="websockets-server", daemon=True)
        thread.start()
        scheme = "http" if ssl_context is None else "https"
        try:
            yield f"{scheme}://127.0.0.1:{listener.getsockname()[1]}/v1"
        finally:
            gate.set()
            thread.join(WAIT_SECONDS)
    assert problems == []
