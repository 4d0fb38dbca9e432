"""The guard notices whatever touches a socket that is another's, and nothing else."""

import contextlib
import os
import socket
import ssl
import subprocess
import sys
from types import SimpleNamespace

import pytest

import llmws
from llmws.testing import Server, rules
from llmws.wire.deadline import Deadline, TimedSocket
from llmws.wire.steps import Want
from tests.owner import NotTheOwner
from tests.responses.acting import FIRST_WORD, PATIENCE, Steps, first_events, in_threads
from tests.wire.harness import Bench


# What the library does with a socket, and what it might be tempted to do.
TOUCHES = {
    "recv": lambda sock: sock.recv(1),
    "recv_into": lambda sock: sock.recv_into(bytearray(1)),
    "send": lambda sock: sock.send(b"x"),
    "sendall": lambda sock: sock.sendall(b"x"),
    "shutdown": lambda sock: sock.shutdown(socket.SHUT_RDWR),
    "close": lambda sock: sock.close(),
    "detach": lambda sock: sock.detach(),
    "fileno": lambda sock: sock.fileno(),  # As a selector does.
    "settimeout": lambda sock: sock.settimeout(1.0),
    "getpeername": lambda sock: sock.getpeername(),
}
TLS_TOUCHES = {
    "pending": lambda sock: sock.pending(),
    "do_handshake": lambda sock: sock.do_handshake(),
    "unwrap": lambda sock: sock.unwrap(),
    "version": lambda sock: sock.version(),
    "_sslobj": lambda sock: sock._sslobj.read(1),  # Past every method of the socket.
}


@contextlib.contextmanager
def in_a_turn(server_context=None, client_context=None):
    """Give a session in the middle of a turn, and see the turn end well."""
    rule = Steps(rules.text("one two three"))
    with (
        Server(rule=rule, ssl_context=server_context) as server,
        llmws.Session("m", base_url=server.base_url, ssl_context=client_context) as session,
    ):
        try:
            rule.let(FIRST_WORD)
            stream = session.stream("Hi")
            first_events(stream, FIRST_WORD)
            yield session
        finally:
            rule.let_all()
        assert stream.response(PATIENCE).text == "one two three"
        assert session.stats.dials == 1


def touch_everything(session, guard, touches):
    sock = session._core.connection._sock
    for touch, call in touches.items():
        with pytest.raises(NotTheOwner, match=f"^{touch} by MainThread, but .* belongs to llmws-"):
            call(sock)
    noted = [violation.split()[0] for violation in guard.take()]
    assert noted == list(touches)


def test_a_plain_socket_is_its_io_threads_alone(guard):
    with in_a_turn() as session:
        touch_everything(session, guard, TOUCHES)


def test_a_tls_socket_is_its_io_threads_alone(guard, tls):
    with in_a_turn(*tls) as session:
        assert isinstance(session._core.connection._sock, ssl.SSLSocket)
        touch_everything(session, guard, {**TOUCHES, **TLS_TOUCHES})


def test_every_socket_that_a_session_dials_is_watched(guard):
    before = guard.watched
    with in_a_turn():
        assert guard.watched == before + 1


def test_the_guard_is_on_in_every_test(request):
    assert "only_its_owner_touches_a_socket" in request.fixturenames


def test_a_socket_in_the_making_is_its_dials_alone(guard):
    ours, theirs = socket.socketpair()
    with theirs:
        wire = TimedSocket(ours, Deadline(PATIENCE), "peer")
        wire.write(b"hello")
        (outcome,) = in_threads(lambda: wire.sock.close())
        assert isinstance(outcome, NotTheOwner)
        assert "close by" in guard.take()[0]
        sock = wire.hand_over()
        # It belongs to whoever called the dial, and he may give it to anybody.
        assert in_threads(sock.fileno, sock.close) != [None, None]
        assert guard.take() == []


def handed_over(bench, sock):
    """Have a dial hand a socket over that nobody has taken yet."""
    bench.dials.append(SimpleNamespace(sock=sock, early=b""))
    bench.connection.post([Want(5.0)])
    bench.turn()
    in_threads(bench.dial)
    return sock


def test_a_socket_on_its_way_may_be_taken_by_its_io_thread(guard):
    bench, (ours, theirs) = Bench(), socket.socketpair()
    with theirs, handed_over(bench, ours):
        ours.setblocking(False)  # The test plays the I/O thread.
        (outcome,) = in_threads(ours.fileno)
        assert isinstance(outcome, NotTheOwner)
        assert len(guard.take()) == 1


def test_a_socket_on_its_way_may_be_closed_by_whoever_turns_it_away(guard):
    bench, (ours, theirs) = Bench(), socket.socketpair()
    with theirs:
        handed_over(bench, ours)
        (peeked, closed) = in_threads(lambda: ours.recv(1)) + in_threads(ours.close)
        assert isinstance(peeked, NotTheOwner)
        assert "belongs to nobody yet" in guard.take()[0]
        assert closed is None
        assert theirs.recv(1) == b""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_may_only_let_go_of_its_copy():
    source = """
import os, socket, threading
from tests.owner import NotTheOwner, Guard
guard = Guard()
ours, theirs = socket.socketpair()
owner = threading.Thread(target=guard.owned, args=(ours,))
owner.start()
owner.join()
pid = os.fork()
if not pid:
    try:
        ours.close()
    except NotTheOwner as exc:
        assert "parent process" in str(exc)
        os.close(ours.detach())
        os._exit(7)
    os._exit(1)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
guard.free(ours)
ours.close()
assert guard.take() == []
"""
    subprocess.run([sys.executable, "-c", source], check=True, timeout=PATIENCE)


def test_a_program_that_is_watched_says_what_is_wrong_on_stderr():
    source = """
import threading, llmws
from llmws.testing import Server, rules
from tests.owner import watch_program
watch_program()
with Server(rule=rules.text("x")) as server, llmws.Session("m", base_url=server.base_url) as session:
    session.create("Hi")
    try:
        session._core.connection._sock.fileno()
    except AssertionError:
        pass
"""
    run = [sys.executable, "-W", "error", "-c", source]
    ended = subprocess.run(run, capture_output=True, text=True, check=True, timeout=PATIENCE)
    assert "fileno by MainThread" in ended.stderr
    assert ended.stderr.count("belongs to") == 1
