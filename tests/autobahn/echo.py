"""What Autobahn drives: one ``Connection`` through all cases, whose router echoes every message."""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
from collections.abc import Iterator
from typing import Any
from unittest import mock

import attrs

from llmws.wire import dial, link
from llmws.wire.backoff import Backoff, RetryBudget
from llmws.wire.connection import Connection
from llmws.wire.deadline import TimedSocket
from llmws.wire.endpoint import Endpoint
from llmws.wire.framing import BINARY, Binary, Delivery, Framing, encode
from llmws.wire.link import LinkPolicy
from llmws.wire.ports import Crashed
from llmws.wire.steps import Deliver, Drop, GaveUp, Lost, Opened, Send, Useful, Want


__all__ = ["Driver", "Echo", "echoing_binary"]

_DIAL_SECONDS = 10.0
_END_SECONDS = 5.0


class BinaryMessage(bytes):
    """A message that came as binary, and goes back as binary."""


class MarkingFraming(Framing):
    """
    Delivers binary messages marked as such.

    A link hands text and binary on alike, because no API of ours has a meaning for the difference. An echo has one.
    """

    def feed(self, data: bytes) -> list[Delivery]:
        return [_marked(item) for item in super().feed(data)]

    def filled(self, count: int) -> list[Delivery]:
        return [_marked(item) for item in super().filled(count)]


def _marked(item: Delivery) -> Delivery:
    return BinaryMessage(item.data) if isinstance(item, Binary) else item


def _encode(opcode: int, payload: bytes | bytearray, **how: Any) -> bytes | bytearray:
    return encode(BINARY if isinstance(payload, BinaryMessage) else opcode, payload, **how)


@contextlib.contextmanager
def echoing_binary() -> Iterator[None]:
    """Have links keep apart what is text and what is binary, and nothing else changed."""
    with mock.patch.multiple(link, Framing=MarkingFraming, encode=_encode):
        yield


class PieceSocket(socket.socket):
    """Gives little at a time, as a network may: what follows from one piece is done before the next is seen."""

    piece_bytes = 1

    def recv(self, size: int, flags: int = 0) -> bytes:
        return super().recv(min(size, self.piece_bytes), flags)


class OctetUpgrade(TimedSocket):
    """Reads the answer to the upgrade byte by byte, so that no frame is read together with it."""

    def read(self, size: int) -> bytes:
        return super().read(1)


class Echo:
    """
    A router that sends back whatever comes.

    Attributes:
        answers: Whether it does so.
        messages: What came over this socket.
        ends: How each socket ended, or why there is none.
    """

    deadline = None

    def __init__(self) -> None:
        self.answers = True
        self.messages: list[bytes | bytearray] = []
        self.ends: queue.SimpleQueue[Lost | GaveUp | Crashed] = queue.SimpleQueue()

    def step(self, now: float, given: Any) -> list[Any]:
        """Take one thing that happened and return what is to be done."""
        if isinstance(given, list):
            return given  # Posted: do this.
        if isinstance(given, Opened):
            self.messages = []
            # Not a peer to wait for: after a case that ends badly the next one is dialled at once.
            return [Useful()]
        if isinstance(given, Deliver):
            self.messages += given.messages
            return [Send(object(), message) for message in given.messages if self.answers]
        if isinstance(given, (Lost, GaveUp, Crashed)):
            self.ends.put(given)
        return []


class Driver:
    """
    One connection that visits one address of a server on this machine after another, each on a socket of its own.

    Args:
        port: Where the server listens.
        policy: What the link lives by; by default it waits for the server to start.

    Attributes:
        echo: The router.
        lost: How the last socket ended.
    """

    def __init__(self, port: int, policy: LinkPolicy | None = None) -> None:
        self.echo = Echo()
        self.lost: Lost | None = None
        self._piece_bytes: int | None = None
        self._address = f"ws://127.0.0.1:{port}"
        self._resource = "/"
        self._connection = Connection(
            "llmws-autobahn-1",
            self._address,
            self._dial,
            self.echo,
            link.Link(policy or LinkPolicy(backoff=Backoff(base=0.25, attempts=8))),
            budget=RetryBudget(),
            jitter=lambda: 1.0,
        )

    def __enter__(self) -> Driver:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.stop()
        if not self._connection.join(_END_SECONDS):
            raise TimeoutError(f"{self._connection} did not end.")

    def visit(
        self, resource: str, seconds: float, *, piece_bytes: int | None = None
    ) -> list[bytes | bytearray]:
        """
        Go to an address, echo until the server has had enough, and return what it sent.

        Args:
            resource: The address on the server.
            seconds: How long that may take.
            piece_bytes: How much is read at a time; None means as much as there is.

        Raises:
            TimeoutError: The server had not had enough after so many seconds.
            ConnectError: There was no socket.
        """
        self._resource, self._piece_bytes = resource, piece_bytes
        self._connection.post([Want(_DIAL_SECONDS)])
        try:
            end = self.echo.ends.get(timeout=seconds)
        except queue.Empty:
            self._connection.post([Drop()])
            raise TimeoutError(f"{resource} did not end within {seconds} s.") from None
        if not isinstance(end, Lost):
            raise end.error
        self.lost = end
        return self.echo.messages

    def _dial(self, timeout: float | None, abandoned: threading.Event) -> dial.Dialled:
        endpoint = Endpoint.build(self._address + self._resource)
        if self._piece_bytes is None:
            return dial.dial(endpoint, timeout=timeout, environ={}, abandoned=abandoned)
        with mock.patch.object(dial, "TimedSocket", OctetUpgrade):
            dialled = dial.dial(endpoint, timeout=timeout, environ={}, abandoned=abandoned)
        sock = PieceSocket(fileno=dialled.sock.detach())
        sock.piece_bytes = self._piece_bytes
        sock.setblocking(False)
        return attrs.evolve(dialled, sock=sock)
