"""What tests of this folder share."""

import socket
import threading
from collections.abc import Iterator

import pytest


@pytest.fixture
def pair(tls) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Return both ends of a TLS connection, shaken hands."""
    server_context, client_context = tls
    ours, theirs = socket.socketpair()
    with (
        client_context.wrap_socket(
            ours, server_hostname="127.0.0.1", do_handshake_on_connect=False
        ) as client,
        server_context.wrap_socket(
            theirs, server_side=True, do_handshake_on_connect=False
        ) as server,
    ):
        shaking = threading.Thread(target=server.do_handshake, daemon=True)
        shaking.start()
        client.do_handshake()
        shaking.join(10)
        client.setblocking(False)
        yield client, server
