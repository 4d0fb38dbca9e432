"""A scripted server that can stop at any byte, and sessions whose link repeats itself in no time."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import llmws
from llmws.testing.answer import Answer, numbered
from llmws.testing.request import Request
from llmws.wire.backoff import Backoff, RetryBudget
from llmws.wire.framing import TEXT, Close, Framing, encode, encode_close
from llmws.wire.link import Link, LinkPolicy
from tests.wire.peers import Peer, read_head, switching


# No scenario waits longer for a thing that should happen; those of broken libraries are given less.
PATIENCE = 10.0
REASON = "because"


def answer(text: str = "Hello world", turn: int = 1) -> list[dict[str, Any]]:
    """Return a whole answer: events 4 and 5 are its two deltas, event 9 is the last."""
    built = Answer(Request(body={"model": "m"}, turn=turn))
    head, gap, tail = text.partition(" ")
    events = [*built.start(), *built.message(text, [head, gap + tail]), *built.complete()]
    return list(numbered(iter(events)))


class Wire:
    """The server's end of one connection, as a script uses it."""

    def __init__(self, conn: socket.socket, number: int, server: Script) -> None:
        self.number = number
        self._conn = conn
        self._server = server
        self._framing = Framing("server")
        self._messages: deque[bytes | bytearray] = deque()

    def upgrade(self, early: bytes = b"") -> None:
        """Answer the upgrade; what is early travels together with the answer."""
        head = read_head(self._conn)
        self._conn.sendall(switching(head) + early)

    def head(self) -> None:
        """Read the upgrade, and say nothing to it."""
        read_head(self._conn)

    def arrived(self) -> None:
        """Wait until the client has sent something, without reading it."""
        self._conn.recv(1, socket.MSG_PEEK)

    def create(self) -> dict[str, Any]:
        """Read the next request."""
        while not self._messages:
            data = self._conn.recv(65536)
            found = self._framing.feed(data)
            self._messages.extend(m for m in found if isinstance(m, (bytes, bytearray)))
            if not data or any(isinstance(m, Close) for m in found):
                raise ConnectionError("the client went away")
        body: dict[str, Any] = json.loads(self._messages.popleft())
        self._server.creates.append(body)
        return body

    def send(self, *events: dict[str, Any]) -> None:
        """Send events, each in a frame of its own."""
        self.raw(b"".join(encode(TEXT, json.dumps(event).encode()) for event in events))

    def raw(self, data: bytes | bytearray) -> None:
        """Send bytes."""
        self._server.sent_at = time.monotonic()
        self._conn.sendall(data)

    def tear(self, event: dict[str, Any], *, between_frames: bool) -> None:
        """Send half an event: half a frame, or the first of two so that a close frame may follow."""
        payload = json.dumps(event).encode()
        if between_frames:
            frame = bytearray(encode(TEXT, payload[: len(payload) // 2]))
            frame[0] &= 0x7F  # Not the last frame of its message.
        else:
            frame = bytearray(encode(TEXT, payload))[: len(payload) // 2]
        self.raw(frame)

    def end(self, ending: str) -> None:
        """End the connection: ``fin``, ``rst``, a close code, or ``mute`` (nothing more happens)."""
        if ending == "fin":
            self._conn.shutdown(socket.SHUT_WR)
        elif ending == "rst":
            self._conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._conn.close()
            return
        elif ending.isdigit():
            self.raw(encode_close(int(ending), REASON))
        # A socket closed with unread bytes would send RST, so it is kept until the test is over.
        self._server.over.wait(3 * PATIENCE)

    def until_closed(self) -> None:
        """Wait for the client to go away; a further request is left unanswered."""
        while True:
            self.create()


class Script(Peer):
    """
    A server that plays ``play(wire)`` for each connection.

    Attributes:
        creates: Every request that was read, of all connections in order.
        sent_at: When a script began to send what it sent last; the client cannot have had it earlier.
        gate: Scripts wait here for the test.
        over: Set when the test is over.
    """

    def __init__(self, play: Callable[[Wire], None]) -> None:
        super().__init__(self._play)
        self.play = play
        self.creates: list[dict[str, Any]] = []
        self.sent_at = 0.0
        self.gate = threading.Event()
        self.over = threading.Event()
        self._numbers = iter(range(1, 1000))

    def _play(self, conn: socket.socket) -> None:
        conn.settimeout(3 * PATIENCE)
        self.play(Wire(conn, next(self._numbers), self))

    def __exit__(self, *exc: object) -> None:
        self.over.set()
        self.gate.set()
        super().__exit__(*exc)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"


@contextlib.contextmanager
def session_at(base_url: str, *, ping: float = 20.0, **options: Any) -> Iterator[llmws.Session]:
    """Open a session of one connection, which dials again at once, and whose retries no other test pays for."""
    options.setdefault("max_connections", 1)
    with contextlib.closing(llmws.Session("m", base_url=base_url, **options)) as session:
        connection = session._core.connection
        connection._link = Link(
            LinkPolicy(
                backoff=Backoff(base=0.005, cap=0.01),
                ping_interval=ping,
                ping_timeout=ping,
                close_timeout=0.1,  # Several scripts never answer a close frame.
            )
        )
        connection._budget = RetryBudget()
        yield session


class Losses:
    """A tap that tells what a session has noticed of its socket."""

    def __init__(self, session: llmws.Session) -> None:
        self._changed = threading.Condition()
        self._lost = False
        self._messages = 0
        session._core.connection.tap = self

    def noticed(self, patience: float) -> bool:
        """Wait for the loss of the socket."""
        with self._changed:
            return self._changed.wait_for(lambda: self._lost, patience)

    def received_messages(self, count: int, patience: float) -> None:
        """Wait until so many messages have come."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._messages >= count, patience)

    def closed(self, t: float, code: int, reason: str) -> None:
        with self._changed:
            self._lost = True
            self._changed.notify_all()

    def received(self, t: float, message: bytes) -> None:
        with self._changed:
            self._messages += 1
            self._changed.notify_all()

    def opened(self, t: float, url: str) -> None: ...
    def sent(self, t: float, message: bytes) -> None: ...
