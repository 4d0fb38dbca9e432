"""What a router and the pool say to each other; values."""

from __future__ import annotations

from typing import Any

import attrs

from ...wire.monitor import Gate
from .turn import Turn


__all__ = [
    "Aged",
    "Astray",
    "GiveBack",
    "Idle",
    "Learn",
    "Learned",
    "Prepare",
    "Ready",
    "Released",
    "Retire",
    "Retired",
    "Returned",
    "TryAgain",
]

# A router's reports.


@attrs.frozen
class Released:
    """This turn no longer takes up a lane: it ended, and nothing more can come of it."""

    turn: Turn


@attrs.frozen
class Returned:
    """This turn cannot begin here; another connection may have it. The server has nothing of it."""

    turn: Turn


@attrs.frozen
class Learned:
    """The server has shown whether it runs lanes side by side."""

    known: bool


@attrs.frozen
class Retired:
    """Whether this connection takes no further turns for now, by the server's word."""

    retired: bool


@attrs.frozen
class Aged:
    """This connection is near the end of the life that the server grants."""


@attrs.frozen
class Ready:
    """The answer to ``Prepare``: whether there is a socket."""

    ready: bool


@attrs.frozen
class Idle:
    """Nothing runs or waits here, and has not for long; or, after ``Retire``, nothing does any more."""


@attrs.frozen
class Astray:
    """This was meant for a turn that is not here."""

    given: Any


# What the pool asks.


@attrs.frozen
class Prepare:
    """
    Have a socket at hand before there is a turn; answered by ``Ready``.

    Attributes:
        timeout: Seconds that the dial may take, or None.
        answered: Opened if there will be no answer, because the connection is over.
    """

    timeout: float | None
    answered: Gate

    def refuse(self) -> None:
        """Let go of whoever waits for the answer."""
        self.answered.set()


@attrs.frozen
class TryAgain:
    """There was no successor: say once more in a while that the connection is old."""


@attrs.frozen
class Retire:
    """Begin nothing more, and say so when nothing is left."""


@attrs.frozen
class GiveBack:
    """Return a turn that waits, if one does that might as well begin elsewhere."""


@attrs.frozen
class Learn:
    """Another connection has learned this of the server."""

    known: bool
