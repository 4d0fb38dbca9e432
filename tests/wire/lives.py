"""Lives of a link, played by hand: no clock, no socket, no thread."""

from __future__ import annotations

from typing import Any

from llmws.errors import ConnectError
from llmws.wire.framing import PONG, TEXT, Framing, encode
from llmws.wire.link import Link, LinkPolicy
from llmws.wire.steps import (
    AskRetry,
    Dial,
    DialFailed,
    Dialled,
    Granted,
    Opened,
    Received,
    Retrying,
    Send,
    Tick,
    Want,
    Wrote,
)


MASK = b"\x01\x02\x03\x04"


class Life:
    """A link, its time, and a peer that understands what it writes."""

    def __init__(self, **policy: Any) -> None:
        self.link = Link(LinkPolicy(**policy), mask_key=lambda: MASK)
        self.now = 100.0
        self.peer = Framing("server")

    def step(self, given: Any, after: float = 0.0) -> list[Any]:
        self.now += after
        return self.link.step(self.now, given)

    def receive(self, *frames: bytes | bytearray, after: float = 0.0) -> list[Any]:
        return self.step(Received(b"".join(map(bytes, frames))), after)

    def write(self, most: int = 10**9) -> tuple[list[Any], list[Any]]:
        """Let the kernel take up to so many bytes; return what the peer reads, and the actions."""
        read: list[Any] = []
        actions: list[Any] = []
        while most and (pending := self.link.pending()) is not None:
            piece = bytes(pending[:most])
            most -= len(piece)
            actions += self.step(Wrote(len(piece)))
            read += self.peer.feed(piece)
        return read, actions

    def opened(self) -> Life:
        assert self.step(Want(5.0)) == [Dial(5.0)]
        assert self.step(Dialled()) == [Opened()]
        return self

    def send(self, key: Any = "key", message: bytes = b"{}") -> list[Any]:
        return self.step(Send(key, message))

    def fail(self, error: ConnectError | None = None, fraction: float | None = 1.0) -> list[Any]:
        """Fail the dial, and answer the link's question; return what it did in the end."""
        actions = self.step(DialFailed(error or ConnectError("refused")))
        return self.step(Granted(fraction)) if actions == [AskRetry()] else actions

    def wait(self) -> list[Any]:
        """Let time pass until the link's deadline."""
        deadline = self.link.deadline
        assert deadline is not None
        assert deadline >= self.now
        self.now = deadline
        return self.step(Tick())

    def ping(self) -> list[Any]:
        """Wait for the link's ping and write it."""
        assert self.wait() == []
        read, actions = self.write()
        assert actions == []
        return read


def text(message: bytes = b"{}") -> bytes:
    return bytes(encode(TEXT, message))


def pong(payload: bytes = b"llmws") -> bytes:
    return bytes(encode(PONG, payload))


def only(kind: type, actions: list[Any]) -> Any:
    """Return the one action of this kind."""
    (found,) = (action for action in actions if type(action) is kind)
    return found


def delay_of(actions: list[Any]) -> float:
    delay: float = only(Retrying, actions).delay
    return delay
