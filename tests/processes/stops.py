"""
A process that is stopped for a while (SIGSTOP, or a laptop that sleeps) and goes on: its links are still good.

The clock goes on meanwhile, so every timer is late when the process continues. The peers are alive and say so: their
pings and events wait in the kernel, and the pong that the process had asked for.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

from llmws.testing import rules
from llmws.testing.ledger import Ledger
from llmws.wire.framing import PING, encode
from tests.processes.programs import PATIENCE, WORDS, serving, watched
from tests.responses.acting import FIRST_WORD, Steps


__all__ = ["stop"]

# The numbers that links live by, made so short that a second is a long time; the rules are the same.
_SHORT = """
import functools, llmws.responses.connections.core as core
core.LinkPolicy = functools.partial(core.LinkPolicy, ping_interval=0.1, ping_timeout=1.0)
"""
# After the numbers were made short.
_SESSION = """
session = llmws.Session("m", base_url=sys.argv[1], api_key="none")
"""
_IDLE = """
tell(text=session.create("before").text)
hear()
tell(text=session.create("after").text, dials=session.stats.dials, lost=session.stats.lost)
session.close()
"""
_IN_A_TURN = """
stream = session.stream("Hello")
next(stream.texts())
tell(state=stream.state)
hear()
text = stream.response(20).text
tell(text=text, again=session.create("after").text, dials=session.stats.dials, lost=session.stats.lost)
session.close()
"""


class Peer:
    """The other end's rule: it keeps the connection, to ping it while its client stands still."""

    def __init__(self, rule: Any) -> None:
        self._rule = rule
        self.connection: Any = None

    def __call__(self, request: Any) -> Any:
        self.connection = request.connection
        return self._rule(request)

    @contextlib.contextmanager
    def keeping_a_pong(self, ledger: Ledger) -> Iterator[None]:
        """Wait for a ping, and give its pong to the network only afterwards."""
        deadline = time.monotonic() + PATIENCE
        # Whatever this connection sends is sent under this lock.
        with self.connection._sending:
            before = ledger.pings
            while ledger.pings == before:
                assert time.monotonic() < deadline, "no ping came"
                threading.Event().wait(0.002)
            yield

    def ping(self) -> None:
        self.connection.send_bytes(encode(PING, b"are you there"))


def stop(
    *, seconds: float, in_a_turn: bool = False, short: bool = False, secure: bool = False
) -> dict[str, Any]:
    """
    Stop a program for so long, and let it go on.

    Args:
        seconds: How long.
        in_a_turn: Whether in the middle of a turn, which goes on meanwhile; else between two turns.
        short: Whether its links live by short numbers; else by the library's.
        secure: Whether over TLS.

    Returns:
        What the program told in the end, how many pings the server got, and whether its own were answered.
    """
    steps = Steps(rules.text(WORDS))
    peer = Peer(steps)
    source = (_SHORT if short else "") + _SESSION + (_IN_A_TURN if in_a_turn else _IDLE)
    with (
        serving(peer, secure=secure) as server,
        watched(source, server.base_url, seconds=PATIENCE + seconds) as program,
    ):
        steps.let(FIRST_WORD) if in_a_turn else steps.let_all()
        program.facts()
        with stopped(program.process.pid, peer.keeping_a_pong(server.ledger) if short else None):
            peer.ping()
            peer.ping()
            steps.let_all()
            threading.Event().wait(seconds)
        program.go_on()
        told = program.facts()
        assert program.end() == (0, "")
        return {**told, "pings": server.ledger.pings, "connections": server.ledger.connections}


@contextlib.contextmanager
def stopped(pid: int, meeting: contextlib.AbstractContextManager[None] | None) -> Iterator[None]:
    """Stop a process meanwhile, at the moment at which it meets with something."""
    with meeting or contextlib.nullcontext():
        os.kill(pid, signal.SIGSTOP)
        os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOWAIT)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
