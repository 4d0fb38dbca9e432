"""Telling a tap, the log and the counters what goes over one connection's wire."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from . import jsoncodec
from .ports import Counters, Tap
from .steps import Deliver, GaveUp, Lost, Retrying


__all__ = ["Tapping"]

# The connection's: what it goes through is logged under its name, by which users filter.
logger = logging.getLogger(f"{__package__}.connection")


class Tapping:
    """
    Whoever listens to one connection, if anybody does.

    Args:
        clock: Monotonic seconds.

    Attributes:
        tap: Set by any thread at any time; each method looks at it once and uses what it saw.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.tap: Tap | None = None
        self._clock = clock
        self._told = False  # Whether the tap was told of this socket.

    def note(self, action: Any, name: str, counters: Counters) -> None:
        """Count, log and tell what the link of this name went through; in the log no content, no secrets."""
        if isinstance(action, Deliver):
            self.received(action.messages)
        elif isinstance(action, Lost):
            counters.lost += 1
            logger.info("%s: link lost with code %d", name, action.code)
            self.closed(action.code, action.reason)
        elif isinstance(action, Retrying):
            logger.info("%s: dialling again in %.2f s: %s", name, action.delay, action.error)
        elif isinstance(action, GaveUp):
            logger.warning("%s: %s", name, action.error)

    def opened(self, url: str) -> None:
        """Tell that a socket was opened."""
        if (tap := self.tap) is not None:
            self._told = True
            tap.opened(self._clock(), url)

    def received(self, messages: Sequence[bytes | bytearray]) -> None:
        """Tell what came."""
        if (tap := self.tap) is not None:
            self._tell(tap.received, messages)

    def sent(self, message: bytes) -> None:
        """Tell what is about to be written."""
        if (tap := self.tap) is not None:
            self._tell(tap.sent, [message])

    def closed(self, code: int, reason: str) -> None:
        """Tell that the socket ended, if it was told that one was opened."""
        if (tap := self.tap) is not None and self._told:
            tap.closed(self._clock(), code, reason)
        self._told = False

    def _tell(
        self, hear: Callable[[float, dict[str, Any]], None], messages: Sequence[bytes | bytearray]
    ) -> None:
        for message in messages:
            try:
                raw = jsoncodec.decode(message)
            except jsoncodec.JSONError:
                raw = None
            if isinstance(raw, dict):
                hear(self._clock(), raw)
