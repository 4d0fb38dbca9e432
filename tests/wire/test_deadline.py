from __future__ import annotations

import os
import socket
import ssl
import threading
import traceback
from collections.abc import Iterator

import pytest

from llmws.errors import ConnectError, ConnectTimeout
from llmws.wire import deadline as deadlines
from llmws.wire.deadline import Deadline, Loan, TimedSocket
from llmws.wire.process import half_made


KEY = "canary-0f9d3b6a52"


@pytest.fixture
def pair() -> Iterator[tuple[TimedSocket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield TimedSocket(ours, Deadline(5.0), "the server"), theirs


def test_a_deadline_says_what_is_left_and_names_the_phase_it_ended_in() -> None:
    deadline = Deadline(1000.0)
    assert 990 < (deadline.left() or 0) <= 1000
    deadline.phase = "TLS"
    deadline.started -= 1000
    with pytest.raises(ConnectTimeout, match=r"1000 s.*'TLS'"):
        deadline.left()


def test_no_limit_leaves_none() -> None:
    assert Deadline(None).left() is None


def test_a_deadline_can_only_be_shortened() -> None:
    deadline = Deadline(10.0)
    deadline.shorten(1000.0)
    assert deadline.timeout == 10.0
    deadline.shorten(1.0)
    assert 0.9 < (deadline.left() or 0) <= 1.0
    endless = Deadline(None)
    endless.shorten(1.0)
    assert 0.9 < (endless.left() or 0) <= 1.0


def test_an_abandoned_dial_ends_at_the_next_look() -> None:
    abandoned = threading.Event()
    for deadline in (Deadline(None, abandoned), Deadline(10.0, abandoned)):
        abandoned.clear()
        deadline.left()
        abandoned.set()
        with pytest.raises(ConnectError, match="abandoned"):
            deadline.left()


def test_an_abandoned_dial_does_not_wait_for_a_peer_that_is_silent() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        abandoned, ended = threading.Event(), []

        def read() -> None:
            wire = TimedSocket(ours, Deadline(3600.0, abandoned), "the server")
            with ours, pytest.raises(ConnectError, match="abandoned"):
                wire.read(1)
            ended.append(True)

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        abandoned.set()
        reader.join(5)
        assert ended == [True]


def test_a_silent_peer_is_waited_for_until_the_deadline(
    pair: tuple[TimedSocket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    wire, server = pair
    monkeypatch.setattr(deadlines, "_LOOK_SECONDS", 0.001)
    writer = threading.Timer(0.05, server.sendall, [b"late"])
    writer.start()
    assert wire.read(10) == b"late"
    writer.join()
    wire.deadline.shorten(0.05)
    with pytest.raises(ConnectTimeout):
        wire.read(10)


def test_the_network_s_own_timeout_is_not_taken_for_the_deadline(
    pair: tuple[TimedSocket, socket.socket],
) -> None:
    wire, _ = pair
    assert type(wire.broken(TimeoutError(110, "Connection timed out"))) is ConnectError
    assert type(wire.broken(TimeoutError("timed out"))) is ConnectTimeout


def test_what_is_written_arrives_whole_and_what_is_read_is_kept(
    pair: tuple[TimedSocket, socket.socket],
) -> None:
    wire, server = pair
    data = bytes(range(256)) * 20_000
    received = bytearray()

    def drain() -> None:
        while len(received) < len(data):
            received.extend(server.recv(65536))

    reader = threading.Thread(target=drain)
    reader.start()
    wire.write(data)
    reader.join(5)
    assert received == data
    server.sendall(b"abc")
    assert wire.fill()
    assert wire.inbound == b"abc"
    server.close()
    assert not wire.fill()


def test_a_failed_loan_keeps_our_error_without_what_was_sent(
    pair: tuple[TimedSocket, socket.socket],
) -> None:
    wire, _ = pair
    wire.sock.close()
    loan = Loan(wire)
    with pytest.raises(OSError, match="the loan says why"):
        loan.send(f"Authorization: Bearer {KEY}".encode())
    failure = loan.failure
    assert type(failure) is ConnectError
    for error in (failure, failure.__cause__):
        assert error is not None
        walk = traceback.TracebackException.from_exception(error, capture_locals=True)
        assert KEY not in "".join(walk.format())


def test_a_library_cannot_close_what_it_has_on_loan(
    pair: tuple[TimedSocket, socket.socket],
) -> None:
    wire, server = pair
    loan = Loan(wire)
    loan.close()
    assert loan.sendall(b"abc") == 3
    assert server.recv(10) == b"abc"
    server.sendall(b"xyz")
    assert loan.recv(2) == b"xy"
    assert loan.gettimeout() is None


def test_a_socket_is_a_forked_childs_to_close_until_it_is_handed_over(
    pair: tuple[TimedSocket, socket.socket],
) -> None:
    wire, _ = pair
    assert wire in half_made
    sock = wire.hand_over()
    assert wire not in half_made
    assert not sock.getblocking()


def test_a_forked_child_closes_its_copy_without_a_word_to_the_peer(
    pair: tuple[TimedSocket, socket.socket],
) -> None:
    wire, server = pair
    descriptor = wire.sock.fileno()
    with wire.sock.dup() as parents:
        wire.abandon_in_child()
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)
        parents.sendall(b"still open")  # Which a shutdown would have ended for both.
        assert server.recv(20) == b"still open"
    wire.abandon_in_child()  # A second time there is nothing left to close.


def test_what_is_closed_in_a_child_is_the_socket_of_tls_once_there_is_one(
    pair: tuple[TimedSocket, socket.socket],
) -> None:
    wire, _ = pair
    wire.sock = ssl.create_default_context().wrap_socket(
        wire.sock, server_hostname="host", do_handshake_on_connect=False
    )
    descriptor = wire.sock.fileno()
    wire.abandon_in_child()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
