"""
What can happen to a link, and what it asks to be done: the vocabulary of ``link.py``.

Plain values, so that a life of a connection can be written down, replayed and compared. Nobody changes one; those that
every read and write makes are not frozen all the same, because that would make them three times as dear.
"""

from __future__ import annotations

from typing import Any

import attrs

from ..errors import ConnectError


__all__ = [
    "Action",
    "AskRetry",
    "CloseSocket",
    "Deliver",
    "Dial",
    "DialFailed",
    "Dialled",
    "Drop",
    "Ended",
    "Filled",
    "Finished",
    "GaveUp",
    "Given",
    "Granted",
    "Lost",
    "Opened",
    "Received",
    "Repay",
    "Retrying",
    "Send",
    "Started",
    "Stop",
    "Stopped",
    "Tick",
    "Unwant",
    "Useful",
    "Want",
    "Withdraw",
    "Wrote",
]

# What can happen.


@attrs.frozen
class Want:
    """
    Somebody needs a socket.

    Attributes:
        timeout: Seconds that one dial may take, or None.
        fresh: Whether the wish is a new one, of somebody who has not been told of earlier failures.
    """

    timeout: float | None = None
    fresh: bool = False


@attrs.frozen
class Unwant:
    """Nobody needs a socket any more; one that is open stays."""


@attrs.frozen
class Dialled:
    """The dial gave a socket."""


@attrs.frozen
class DialFailed:
    """The dial gave none."""

    error: ConnectError


@attrs.frozen
class Granted:
    """
    The answer to ``AskRetry``.

    Attributes:
        fraction: A random number from 0 to 1 for the jitter, or None if the retry budget is used up.
    """

    fraction: float | None


@attrs.define
class Received:
    """Bytes came from the socket."""

    data: bytes


@attrs.frozen
class Filled:
    """Bytes were read into ``Link.room()``."""

    count: int


@attrs.frozen
class Ended:
    """The socket ended; ``error`` is None for an orderly end of the byte stream."""

    error: Exception | None = None


@attrs.define
class Send:
    """Write one text message; ``key`` comes back in ``Started`` and ``Finished``."""

    key: Any
    message: bytes


@attrs.frozen
class Withdraw:
    """Do not write the message of this key, unless its frame has begun."""

    key: Any


@attrs.define
class Wrote:
    """The kernel took so many bytes of ``Link.pending()``; 0 if TLS has them and could not pass them on yet."""

    count: int


@attrs.frozen
class Useful:
    """An event came that shows that the server works: failures are counted from 0 again."""


@attrs.frozen
class Drop:
    """Give this socket up at once; the link may dial another."""


@attrs.frozen
class Stop:
    """Close for good, with a closing handshake if a socket is open."""


@attrs.frozen
class Tick:
    """Nothing but time passed."""


Given = (
    Want
    | Unwant
    | Dialled
    | DialFailed
    | Granted
    | Received
    | Filled
    | Ended
    | Send
    | Withdraw
    | Wrote
    | Useful
    | Drop
    | Stop
    | Tick
)


# What is to be done.


@attrs.frozen
class Dial:
    """Start a dial of at most ``timeout`` seconds, and report ``Dialled`` or ``DialFailed``."""

    timeout: float | None = None


@attrs.frozen
class AskRetry:
    """Ask the retry budget, and answer with ``Granted``."""


@attrs.frozen
class Repay:
    """Something proved useful: pay one retry back to the budget."""


@attrs.frozen
class Retrying:
    """Another dial follows, ``delay`` seconds from now; for logs and notices."""

    attempt: int
    delay: float
    error: ConnectError


@attrs.frozen
class Opened:
    """A socket is ready for messages."""


@attrs.define
class Deliver:
    """Hand these messages to the router, in order."""

    messages: list[bytes | bytearray]


@attrs.define
class Started:
    """The first byte of this message was handed to the kernel."""

    key: Any


@attrs.define
class Finished:
    """The last byte of this message was handed to the kernel."""

    key: Any


@attrs.frozen
class Lost:
    """
    The link is gone; messages that had not begun were forgotten.

    Attributes:
        code: The peer's close code, or 1006 if it ended without a close frame.
        reason: The peer's words, or what went wrong here.
        error: The socket's error, if there was one.
        violation: Whether the peer broke the WebSocket protocol.
    """

    code: int
    reason: str
    error: Exception | None = None
    violation: bool = False

    @property
    def words(self) -> str:
        """The reason for messages and logs: the peer's words move no cursor and forge no line."""
        reason = self.reason or "no reason given"
        return reason if reason.isprintable() else ascii(reason)


@attrs.frozen
class GaveUp:
    """
    No socket can be had; nobody's wish for one is remembered.

    Attributes:
        error: Why.
        timeout: The seconds that the dial was given, if that was too little; else None.
    """

    error: ConnectError
    timeout: float | None = None


@attrs.frozen
class CloseSocket:
    """Close the socket now."""


@attrs.frozen
class Stopped:
    """The link's life is over."""


Action = (
    Dial
    | AskRetry
    | Repay
    | Retrying
    | Opened
    | Deliver
    | Started
    | Finished
    | Lost
    | GaveUp
    | CloseSocket
    | Stopped
)
