"""Reading sockets that do not block, plain and TLS ones."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator

import pytest

from llmws.wire.receive import receive, receive_into


@pytest.fixture
def plain() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Return both ends of a connection; ours does not block."""
    ours, theirs = socket.socketpair()
    for end in (ours, theirs):
        for buffer in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            end.setsockopt(socket.SOL_SOCKET, buffer, 2**20)
    with ours, theirs:
        ours.setblocking(False)
        yield ours, theirs


def test_a_read_that_may_have_left_something_says_so(plain) -> None:
    ours, theirs = plain
    theirs.sendall(bytes(100_000))
    data, why = receive(ours, first=True)
    assert (len(data), why) == (65_536, None)


def test_whoever_reads_on_is_given_more_at_once(plain) -> None:
    ours, theirs = plain
    theirs.sendall(bytes(100_000))
    data, why = receive(ours, first=False)
    assert len(data) == 100_000
    assert isinstance(why, BlockingIOError)


@pytest.mark.parametrize("first", [True, False])
def test_a_socket_with_nothing_to_read_says_so(plain, first) -> None:
    data, why = receive(plain[0], first=first)
    assert data == b""
    assert isinstance(why, BlockingIOError)


@pytest.mark.parametrize("first", [True, False])
def test_the_end_is_told_from_nothing(plain, first) -> None:
    ours, theirs = plain
    theirs.close()
    data, why = receive(ours, first=first)
    assert data == b""
    assert isinstance(why, EOFError)


def test_a_broken_socket_says_how_it_broke(plain) -> None:
    ours, _ = plain
    ours.close()
    data, why = receive(ours, first=True)
    assert data == b""
    assert isinstance(why, OSError)
    assert not isinstance(why, BlockingIOError)


def test_a_buffer_is_filled_as_far_as_bytes_have_come(plain) -> None:
    ours, theirs = plain
    theirs.sendall(b"abcde")
    buffer = bytearray(3)
    assert receive_into(ours, memoryview(buffer)) == (3, None)
    count, why = receive_into(ours, memoryview(buffer))
    assert (count, buffer) == (2, b"dec")
    assert isinstance(why, BlockingIOError)


def test_a_buffer_of_a_socket_at_its_end_stays_as_it_is(plain) -> None:
    ours, theirs = plain
    theirs.close()
    count, why = receive_into(ours, memoryview(bytearray(3)))
    assert count == 0
    assert isinstance(why, EOFError)


def test_the_first_read_of_tls_waits_for_no_second_record(pair) -> None:
    client, server = pair
    server.sendall(b"one")
    server.sendall(b"two")
    assert receive(client, first=True) == (b"one", None)


def test_a_further_read_of_tls_takes_all_records_that_have_come(pair) -> None:
    client, server = pair
    for record in (b"one", b"two", b"three"):
        server.sendall(record)
    data, why = receive(client, first=False)
    assert data == b"onetwothree"
    assert isinstance(why, ssl.SSLWantReadError)


def test_what_came_before_the_end_of_tls_is_not_lost(pair) -> None:
    client, server = pair
    server.sendall(b"last words")
    server.close()
    data, why = receive(client, first=False)
    assert data == b"last words"
    assert isinstance(why, EOFError)


def test_what_came_before_tls_broke_is_not_lost(pair) -> None:
    client, server = pair
    server.sendall(b"last words")
    with socket.socket(fileno=server.detach()) as bare:
        bare.sendall(b"no record of TLS at all")
    data, why = receive(client, first=False)
    assert data == b"last words"
    assert isinstance(why, ssl.SSLError)


def test_a_buffer_over_tls_is_asked_for_again_after_each_record(pair) -> None:
    client, server = pair
    server.sendall(b"abc")
    assert receive_into(client, memoryview(bytearray(10))) == (3, None)
