"""A connection driven by hand: an in-memory socket, a clock, a poll and a spawn that do as they are told."""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from llmws.wire.backoff import RetryBudget
from llmws.wire.connection import Connection
from llmws.wire.framing import Framing
from llmws.wire.link import Link, LinkPolicy


class FakeSocket:
    """
    One end of a byte stream in memory.

    Attributes:
        incoming: What ``recv`` gives, one piece a call: bytes, ``b""`` for the end, or an exception to raise. Nothing
            there is ``BlockingIOError``.
        room: What each ``send`` takes: a number of bytes, or an exception. Nothing there takes all.
        sent: Everything that was taken.
    """

    def __init__(self, *incoming: bytes | Exception) -> None:
        self.incoming: deque[bytes | Exception] = deque(incoming)
        self.room: deque[int | Exception] = deque()
        self.sent = b""
        self.reads = 0
        self.closed = False
        self.shut = False

    def recv(self, size: int) -> bytes:
        assert not self.closed
        self.reads += 1
        piece = self.incoming.popleft() if self.incoming else BlockingIOError()
        if isinstance(piece, Exception):
            raise piece
        if piece[size:]:
            self.incoming.appendleft(piece[size:])
        return piece[:size]

    def recv_into(self, room: memoryview) -> int:
        piece = self.recv(len(room))
        room[: len(piece)] = piece
        return len(piece)

    def send(self, data: memoryview) -> int:
        assert not self.closed
        taken = self.room.popleft() if self.room else len(data)
        if isinstance(taken, Exception):
            raise taken
        self.sent += bytes(data[:taken])
        return min(taken, len(data))

    def shutdown(self, how: int) -> None:
        assert how == socket.SHUT_RDWR
        self.shut = True

    def close(self) -> None:
        self.closed = True


class FakePoll:
    """A poll whose waits end at once, with what the test says."""

    def __init__(self) -> None:
        self.watched: Any = None
        self.ready: deque[tuple[bool, bool]] = deque()
        self.waits: list[tuple[float | None, bool]] = []
        self.wakes = 0
        self.closed = False
        self.on_wait: Callable[[], None] = lambda: None

    def watch(self, sock: Any) -> None:
        assert self.watched is None
        self.watched = sock

    def unwatch(self, sock: Any) -> None:
        assert self.watched is sock
        assert not sock.closed, "a selector cannot forget a closed socket"
        self.watched = None

    def wait(self, timeout: float | None, *, write: bool) -> tuple[bool, bool]:
        assert timeout is None or timeout >= 0
        self.waits.append((timeout, write))
        assert len(self.waits) < 1000, "the I/O thread spins"
        self.on_wait()
        return self.ready.popleft() if self.ready else (False, False)

    def wake(self) -> None:
        self.wakes += 1

    def close(self) -> None:
        self.closed = True

    def abandon(self) -> None:
        self.closed = True


class FakeTap:
    """Notes what it hears."""

    def __init__(self) -> None:
        self.heard: list[tuple[Any, ...]] = []

    def opened(self, t: float, url: str) -> None:
        self.heard.append(("opened", t, url))

    def received(self, t: float, raw: dict[str, Any]) -> None:
        self.heard.append(("received", t, raw))

    def sent(self, t: float, raw: dict[str, Any]) -> None:
        self.heard.append(("sent", t, raw))

    def closed(self, t: float, code: int, reason: str) -> None:
        self.heard.append(("closed", t, code))


class FakeRouter:
    """Notes what it is told, and answers as the test says."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.times: list[float] = []
        self.answers: dict[type, Callable[[Any], list[Any]]] = {}
        self.deadline: float | None = None

    def step(self, now: float, given: Any) -> list[Any]:
        self.told.append(given)
        self.times.append(now)
        if isinstance(given, list):
            return given  # Posted by a test: do this.
        answer = self.answers.get(type(given))
        return answer(given) if answer else []

    def of(self, kind: type) -> list[Any]:
        return [given for given in self.told if isinstance(given, kind)]


class Bench:
    """A connection and everything that it is plugged into."""

    def __init__(self, router: Any = None, **policy: Any) -> None:
        self.now = 1000.0
        self.router = FakeRouter() if router is None else router
        self.poll = FakePoll()
        self.tap = FakeTap()
        self.budget = RetryBudget()
        self.spawned: deque[tuple[str, Callable[[], None]]] = deque()
        self.dials: deque[Any] = deque()
        self.timeouts: list[float | None] = []
        self.link = Link(LinkPolicy(**policy), mask_key=lambda: b"\x01\x02\x03\x04")
        self.connection = Connection(
            "llmws-test-1",
            "ws://test/",
            self._dial,
            self.router,
            self.link,
            tap=self.tap,
            clock=lambda: self.now,
            poll=lambda: self.poll,
            spawn=lambda name, target: self.spawned.append((name, target)),
            budget=self.budget,
            jitter=lambda: 1.0,
        )

    def _dial(self, timeout: float | None, abandoned: Any) -> Any:
        self.timeouts.append(timeout)
        outcome = self.dials.popleft()
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def dial(self) -> None:
        """Run the dial that was spawned last."""
        _, target = self.spawned.pop()
        target()

    def turn(self, readable: bool = False, writable: bool = False) -> bool:
        """Do one round of the I/O thread, whose wait ends with this."""
        self.poll.ready.append((readable, writable))
        return self.connection.run_once(self.poll)

    def opened(self, *incoming: bytes | Exception, early: bytes = b"") -> FakeSocket:
        """Post a wish, dial, and return the socket that the connection now has."""
        from llmws.wire.steps import Want

        sock = FakeSocket(*incoming)
        self.dials.append(SimpleNamespace(sock=sock, early=early))
        self.connection.post([Want(5.0)])
        self.turn()
        self.dial()
        return sock

    def peer_reads(self, sock: FakeSocket) -> list[Any]:
        return Framing("server").feed(sock.sent)
