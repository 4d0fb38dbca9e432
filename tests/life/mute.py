"""Servers that do not answer."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

from tests.wire.peers import Peer, Script, until_closed, upgrading


__all__ = ["AFTER_UPGRADE", "BEFORE_UPGRADE", "MUTES", "busy_server", "mute_server"]

BEFORE_UPGRADE = "before the upgrade"
AFTER_UPGRADE = "after the upgrade"
# Each takes the connection; none sends an event, answers a close frame, or closes.
MUTES: dict[str, Script] = {BEFORE_UPGRADE: until_closed, AFTER_UPGRADE: upgrading()}

_BUSY = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 30\r\nContent-Length: 0\r\n\r\n"


@contextlib.contextmanager
def mute_server(when: str) -> Iterator[str]:
    """Be silent from some moment on; yields the base URL."""
    with Peer(MUTES[when]) as peer:
        yield f"http://127.0.0.1:{peer.port}/v1"


@contextlib.contextmanager
def busy_server() -> Iterator[str]:
    """Send every client away for half a minute, which is a backoff that no test outlives; yields the base URL."""

    def script(conn: socket.socket) -> None:
        conn.recv(65536)
        conn.sendall(_BUSY)
        until_closed(conn)

    with Peer(script) as peer:
        yield f"http://127.0.0.1:{peer.port}/v1"
