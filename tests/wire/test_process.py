"""Fork and exit, each in a process of its own."""

from __future__ import annotations

import os
import socket
from types import SimpleNamespace

import pytest

from llmws.testing import Server, rules
from llmws.wire.framing import Close, Framing, encode_close
from llmws.wire.steps import Want
from tests.life.children import Program
from tests.responses.acting import FIRST_WORD, Steps, mute_server
from tests.wire.harness import Bench
from tests.wire.peers import Peer, read_head, switching, until_closed


forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
PATIENCE = 20.0


FORK = """
stream = session.stream("Hello")
reader = iter(stream)
first = next(reader)
connection = session._core.connection
poll = connection._poll
descriptors = [connection._sock.fileno(), poll._ear.fileno(), poll._bell.fileno(), poll._selector.fileno()]

def open_ones():
    found = []
    for descriptor in descriptors:
        try:
            os.fstat(descriptor)
        except OSError:
            continue
        found.append(descriptor)
    return len(found)

pid = os.fork()
if not pid:
    try:
        stream.response(timeout=5)
        error = None
    except llmws.ForkedError as exc:
        error = str(exc)
    seen = 0
    try:
        for chunk in stream:
            seen += 1
    except llmws.ForkedError:
        ended = True
    tell(error=error, seen=seen, ended=ended, open=open_ones(), threads=threading.active_count())
    hear()
    tell(text=session.create("child").text, dials=session.stats.dials)
    sys.exit(7)
code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
text = stream.response(timeout=20).text
tell(child=code, text=text, open=open_ones(), dials=session.stats.dials, chunks=len(list(stream)))
session.close()
"""


@forks
def test_a_forked_child_lets_go_and_its_parent_goes_on():
    rule = Steps(rules.text("one two three"))
    with Server(rule=rule) as server, Program(FORK, server.base_url) as program:
        rule.let(FIRST_WORD)
        child = program.facts()
        assert "parent process" in child["error"]
        assert child["ended"]
        assert child["seen"] >= 1
        assert child["open"] == 0
        assert child["threads"] == 1
        rule.let_all()
        program.go_on()
        # The child's session works: it dials a socket of its own.
        assert program.facts() == {"text": "one two three", "dials": 1}
        parent = program.facts()
        assert (parent["child"], parent["text"], parent["open"]) == (7, "one two three", 4)
        assert (parent["dials"], parent["chunks"] > 3) == (1, True)
        assert program.end() == (0, "")


FORK_IN_DIAL = """
stream = session.stream("Hello")
hear()
pid = os.fork()
if not pid:
    tell(forked=True)
    hear()
    tell(lives=True)
    os._exit(0)
os.waitpid(pid, 0)
session.close()
"""


@forks
@pytest.mark.parametrize(("scheme", "first"), [("http", b"GET "), ("https", b"\x16")])
def test_a_child_that_was_forked_in_a_dial_does_not_keep_its_socket(scheme, first):
    with mute_server() as (listener, base_url):
        listener.settimeout(PATIENCE)
        with Program(FORK_IN_DIAL, base_url.replace("http", scheme)) as program:
            conn, _ = listener.accept()
            with conn:
                conn.settimeout(PATIENCE)
                # The upgrade's request, or the first message of TLS: the dial waits for the answer.
                assert conn.recv(65536).startswith(first)
                program.go_on()
                assert program.facts() == {"forked": True}
                conn.settimeout(5.0)
                conn.shutdown(socket.SHUT_WR)  # The parent's dial fails, and closes its socket.
                until_closed(conn)  # Before that, TLS may say why it failed.
            program.go_on()
            assert program.facts() == {"lives": True}
            assert program.end() == (0, "")


def test_a_dialled_socket_that_nobody_has_accepted_yet_is_closed_in_a_child():
    bench = Bench()
    ours, theirs = socket.socketpair()
    with theirs, ours.dup() as parents:
        descriptor = ours.fileno()
        bench.dials.append(SimpleNamespace(sock=ours, early=b""))
        bench.connection.post([Want(5.0)])
        bench.turn()
        bench.dial()  # Its result is posted.
        assert bench.connection._sock is None
        bench.connection.abandon_in_child()
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)
        parents.sendall(b"still open")
        assert theirs.recv(20) == b"still open"


HOOKS = """
from llmws.wire.backoff import process_budget
from llmws.wire.process import on_fork

class Owner:
    def __init__(self, name):
        self.name = name

    def forked(self):
        told.append(self.name)

told, kept, lost = [], Owner("kept"), Owner("lost")
on_fork(kept, "forked")
on_fork(lost, "forked")
del lost
process_budget._lock.acquire()
pid = os.fork()
if not pid:
    tell(child=told, spent=process_budget.spend())
    os._exit(0)
os.waitpid(pid, 0)
tell(parent=told, locked=process_budget._lock.locked())
"""


@forks
def test_owners_that_live_are_told_in_the_child_alone():
    with Program(HOOKS, "http://127.0.0.1:9/v1") as program:
        assert program.facts() == {"child": ["kept"], "spent": True}
        assert program.facts() == {"parent": [], "locked": True}
        assert program.end() == (0, "")


AT_EXIT = """
import atexit

def look():
    # Registered before llmws, so this runs after whatever llmws does at exit.
    tell(threads=[thread.name for thread in threading.enumerate() if "llmws" in thread.name])

atexit.register(look)
"""


def test_at_exit_the_io_thread_is_stopped_and_says_goodbye():
    heard: list[object] = []

    def script(conn):
        conn.sendall(switching(read_head(conn)))
        framing = Framing("server")
        while data := conn.recv(4096):
            for message in framing.feed(data):
                heard.append(message)
                if isinstance(message, Close):
                    conn.sendall(encode_close(message.code))

    source = """
stream = session.stream("Hello")
while stream.state == llmws.TurnState.QUEUED:
    threading.Event().wait(0.002)
"""
    with Peer(script) as peer:
        base_url = f"http://127.0.0.1:{peer.port}/v1"
        with Program(source, base_url, first=AT_EXIT) as program:
            assert program.facts() == {"threads": []}
            assert program.end() == (0, "")
    assert type(heard[-1]) is Close
    assert (heard[-1].code, len(heard)) == (1000, 2)


def test_what_a_program_raises_is_its_own_and_nothing_is_added():
    source = "stream = session.stream('Hello')\nnext(iter(stream))\nsys.exit('on purpose')"
    with Server(rule=rules.text("x")) as server, Program(source, server.base_url) as program:
        assert program.end() == (1, "on purpose\n")
