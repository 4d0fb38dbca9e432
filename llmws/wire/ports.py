"""
What a connection is plugged into: a router that decides, a tap that listens, counters that tell.

A connection knows these shapes and nothing behind them; an API family brings its own router.
"""

from __future__ import annotations

from typing import Any, Protocol

import attrs

from .inbox import Inbox


__all__ = [
    "Allowed",
    "Append",
    "AskAgain",
    "Counters",
    "Crashed",
    "Finish",
    "Overflowed",
    "Report",
    "Router",
    "Tap",
]


@attrs.define
class Append:
    """The router's wish: add items to an inbox."""

    inbox: Inbox[Any]
    items: list[Any]
    size_bytes: int


@attrs.define
class Finish:
    """The router's wish: end an inbox, with an error or normally."""

    inbox: Inbox[Any]
    error: Exception | None


@attrs.define
class Report:
    """The router's wish: tell the connection's owner."""

    what: Any


@attrs.frozen
class AskAgain:
    """The router's wish: ask the retry budget whether something may be sent again; answered by ``Allowed``."""

    key: Any


@attrs.frozen
class Allowed:
    """
    Told to the router: the answer to ``AskAgain``.

    Attributes:
        key: As it was asked.
        fraction: A random number from 0 to 1 for the jitter, or None if the budget is used up.
    """

    key: Any
    fraction: float | None


@attrs.frozen
class Overflowed:
    """Told to the router: this inbox was full and has ended with its own error."""

    inbox: Inbox[Any]


@attrs.frozen
class Crashed:
    """Told to the router: the I/O thread failed and will not come back."""

    error: BaseException


class Router(Protocol):
    """
    Decides whose message a message is; pure, and called on the I/O thread alone.

    It is told of the link's ``Opened``, ``Deliver``, ``Started``, ``Finished``, ``Lost``, ``Retrying`` and
    ``GaveUp``, of ``Overflowed``, ``Allowed`` and ``Crashed``, of ``Stop`` and ``Tick``, and of whatever else is
    posted. It answers with ``Append`` and ``Finish`` for inboxes, ``Report``, ``AskAgain`` and ``Repay``, and with what
    it wants of the link.
    """

    def step(self, now: float, given: Any) -> list[Any]:
        """Take one thing that happened and return what is to be done."""

    @property
    def deadline(self) -> float | None:
        """When a ``Tick`` is due, or None."""


class Tap(Protocol):
    """
    Hears what goes over the wire, as JSON objects; called on the I/O thread, must not block.

    Times are those of the connection's clock. The objects are the tap's own.
    """

    def opened(self, t: float, url: str) -> None:
        """A socket was opened."""

    def received(self, t: float, raw: dict[str, Any]) -> None:
        """A message came; one that is no JSON object is passed over."""

    def sent(self, t: float, raw: dict[str, Any]) -> None:
        """A message is about to be written."""

    def closed(self, t: float, code: int, reason: str) -> None:
        """The socket ended; the code is 1000 if it was closed from here."""


@attrs.define
class Counters:
    """
    What a connection did so far; written by its I/O thread alone, read by anyone.

    Attributes:
        dials: Dials begun.
        failed_dials: Dials that gave no socket.
        lost: Sockets that ended before they were closed here.
        bytes_sent: Bytes handed to the kernel after the upgrade.
        bytes_received: Bytes read after the upgrade.
    """

    dials: int = 0
    failed_dials: int = 0
    lost: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
