"""
Servers that answer an upgrade as no server should, or break off in the middle of it.

What a dial meets of honest failures is in ``tests/wire/test_dial.py``: wrong answers, redirects, slow and silent peers,
bodies of lying length, certificates that are not to be trusted.
"""

from __future__ import annotations

import gzip
import os
import socket
import ssl
import struct
import time

import pytest

import llmws
from llmws.wire import dial as dial_module
from llmws.wire.deadline import Deadline, TimedSocket
from llmws.wire.dial import dial
from llmws.wire.endpoint import Endpoint
from tests.conftest import open_descriptors
from tests.endings.script import PATIENCE, Script, answer, session_at
from tests.wire.peers import Peer, read_head, switching, until_closed


LIMITS = {"total": PATIENCE}
# A server's first flight begins so: a handshake record with a ServerHello, of which the rest never comes.
HALF_A_HELLO = b"\x16\x03\x03\x00\x7a\x02\x00\x00\x76\x03\x03" + b"\x11" * 32


def refused(script, scheme="ws", timeout=PATIENCE):
    """Dial a peer; return the error, and how long it took."""
    with Peer(script) as peer:
        endpoint = Endpoint.build(f"{scheme}://127.0.0.1:{peer.port}/v1/responses")
        started = time.monotonic()
        with pytest.raises(llmws.ConnectError) as caught:
            dial(endpoint, timeout=timeout, environ={})
        return caught.value, time.monotonic() - started


def reset(conn):
    conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    conn.close()


def for_ever(data):
    """Make a script that answers with the same again and again."""

    def script(conn):
        read_head(conn)
        while True:
            conn.sendall(data)

    return script


ENDLESS = {
    "100 Continue": b"HTTP/1.1 100 Continue\r\n\r\n" * 100,
    "103 Early Hints": b"HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\n\r\n" * 100,
    "status lines": b"HTTP/1.1 101 Switching Protocols\r\n" * 100,
    "one header": b"HTTP/1.1 101 Yes\r\nX: " + b"x" * 4096,
    "empty headers": b"X:\r\n" * 100,
    "cookies": b"HTTP/1.1 101 Yes\r\n" + b"Set-Cookie: a=b\r\n" * 100,
    "line ends": b"\r\n" * 100,
    "zeros": bytes(4096),
    "chunks": b"HTTP/1.1 401 No\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 1000,
}


@pytest.mark.parametrize("what", ENDLESS)
def test_an_answer_without_end_is_refused_long_before_the_deadline(what):
    error, seconds = refused(for_ever(ENDLESS[what]))
    assert isinstance(error, llmws.HandshakeError)
    assert not error.retryable
    assert len(error.body) <= 2048
    assert len(str(error)) < 1000
    assert seconds < PATIENCE / 2


# Plain HTTP first: how far the server gets before it resets the connection.
BEFORE_RESET = {
    "at once": lambda conn: None,
    "behind half of the request": lambda conn: conn.recv(20),
    "behind the request": read_head,
    "in the status line": lambda conn: (read_head(conn), conn.sendall(b"HTTP/1.1 1")),
    "in the headers": lambda conn: conn.sendall(switching(read_head(conn))[:-2]),
}
IN_TLS = {
    "at once": lambda conn: None,
    "behind the client's hello": lambda conn: conn.recv(4096),
    "in the server's hello": lambda conn: (conn.recv(4096), conn.sendall(HALF_A_HELLO)),
}


@pytest.mark.parametrize("end", [reset, socket.socket.close])
@pytest.mark.parametrize("point", BEFORE_RESET)
def test_a_dial_that_is_broken_off_may_be_repeated(point, end):
    error, _ = refused(lambda conn: (BEFORE_RESET[point](conn), end(conn)))
    assert error.retryable


@pytest.mark.parametrize("end", [reset, socket.socket.close])
@pytest.mark.parametrize("point", IN_TLS)
def test_tls_that_is_broken_off_may_be_begun_again(point, end):
    error, _ = refused(lambda conn: (IN_TLS[point](conn), end(conn)), "wss")
    assert error.retryable


def test_a_socket_that_is_reset_before_tls_begins_is_closed():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sock = socket.create_connection(listener.getsockname())
        conn, _ = listener.accept()
        reset(conn)
        before = open_descriptors()
        with pytest.raises(llmws.ConnectError) as caught:
            dial_module._tls(
                TimedSocket(sock, Deadline(PATIENCE), "the server"),
                Endpoint.build("wss://a.example/"),
            )
        # Not only when the error, which holds the frames that hold the socket, is collected.
        assert len(before - open_descriptors()) == 1
        assert caught.value.retryable


@pytest.mark.parametrize(
    "record", [b"\x16\x03\x03\xff\xff" + bytes(70_000), HALF_A_HELLO + b"\x00" * 200, bytes(5000)]
)
def test_garbage_in_the_middle_of_tls_is_an_error_of_ours(record):
    def script(conn):
        conn.recv(4096)
        conn.sendall(record)
        until_closed(conn)

    error, seconds = refused(script, "wss")
    assert "TLS" in str(error)
    assert seconds < PATIENCE / 2


def test_tls_that_stops_in_the_middle_ends_at_the_deadline():
    def script(conn):
        conn.recv(4096)
        conn.sendall(HALF_A_HELLO)
        until_closed(conn)

    error, seconds = refused(script, "wss", timeout=0.3)
    assert isinstance(error, llmws.ConnectTimeout)
    assert seconds < 0.3 + 1


def test_a_compressed_body_is_neither_unpacked_nor_shown_as_it_is():
    bomb = gzip.compress(bytes(5_000_000))

    def script(conn):
        read_head(conn)
        conn.sendall(
            b"HTTP/1.1 400 No\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb)
            + bomb
        )

    error, _ = refused(script)
    assert (error.status, len(error.body)) == (400, 2048)
    assert str(error).isprintable()


def test_no_answer_writes_to_the_terminal():
    def script(conn):
        read_head(conn)
        conn.sendall(
            b"HTTP/1.1 403 No\r\nX-Evil: \x1b[2J\r\nLocation: http://\x1b[2J.example/\r\n\r\n\x1b]0;title\x07\r\n\x9b2J"
        )

    error, _ = refused(script)
    assert str(error).isprintable()
    assert repr(error).isprintable()


def over_tls(play, tls):
    """Make a script's server speak TLS; return it with its base URL and its client's context."""
    server = Script(play)
    server.ssl_context = tls[0]
    return server, f"https://127.0.0.1:{server.port}/v1", tls[1]


def plain(wire):
    """Return the socket below TLS."""
    return socket.socket(fileno=os.dup(wire._conn.fileno()))


def garbage(wire):
    with plain(wire) as sock:
        sock.sendall(b"\x17\x03\x03\x00\x20" + b"garbage!" * 4)


def cut(wire):
    with plain(wire) as sock:
        sock.shutdown(socket.SHUT_WR)


def tear(wire):
    with plain(wire) as sock:
        sock.sendall(b"\x17\x03\x03\x40\x00half a record")
        sock.shutdown(socket.SHUT_WR)


def abort(wire):
    wire._conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wire._conn.close()


def say_goodbye(wire):
    wire._conn.settimeout(0)
    try:
        wire._conn.unwrap()
    except (ssl.SSLWantReadError, OSError):
        wire._conn.settimeout(PATIENCE)


@pytest.mark.parametrize("end", [garbage, cut, tear, abort, say_goodbye])
def test_tls_that_breaks_in_an_answer_ends_its_turn_and_nothing_else(end, tls):
    def play(wire):
        wire.upgrade()
        wire.create()
        events = answer(turn=wire.number)
        if wire.number == 1:
            wire.send(*events[:5])
            server.gate.wait(PATIENCE)
            end(wire)
            server.over.wait(2 * PATIENCE)  # Closing the socket would help the client.
        wire.send(*events)
        wire.until_closed()

    server, base_url, context = over_tls(play, tls)
    with server, session_at(base_url, ssl_context=context, api_key="none") as session:
        stream = session.stream("one", timeouts=LIMITS)
        assert next(iter(stream.texts())) == "Hello"
        server.gate.set()
        with pytest.raises(llmws.StreamInterruptedError) as caught:
            stream.response()
        assert (caught.value.close_code, caught.value.partial.text) == (1006, "Hello")
        assert session.create("two", timeouts=LIMITS).text == "Hello world"
