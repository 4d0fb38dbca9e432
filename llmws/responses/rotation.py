"""
Replacing a connection before the server ends it, so that no turn has to wait for it.

A successor is dialled first and reads the transcripts of the conversations that are in use (``generate: false``); then
new turns go there, and the old connection ends when its last turn has. A conversation moves between two of its turns:
the next one sends what the successor has not read.

All this takes seconds and happens once in an hour, on a short-lived thread of its own: it may wait, and holds no lock
while it does.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from typing import Protocol

from ..errors import ConnectError
from ..timeouts import Timeouts
from .continuation import Anchor, Continuation
from .pool import Pool, Slot
from .turn import Turn


__all__ = ["Movable", "Rotation"]

logger = logging.getLogger(__name__)


class Movable(Protocol):
    """A conversation, as far as it can be moved."""

    @property
    def last_used(self) -> float:
        """When its latest turn began, on the monotonic clock; now, if that still runs."""

    def goes_on_from(self, router: object) -> bool:
        """Tell whether its latest turn is, or was, on the connection of this router."""

    def warm_request(self) -> Continuation | None:
        """Return a turn that has another connection read the transcript; None if there is nothing to read."""

    def add_anchor(self, anchor: Anchor, warmed: Continuation) -> bool:
        """Remember what a warm-up came to."""


class Rotation:
    """
    Replaces connections of one pool.

    Args:
        pool: The pool.
        conversations: Gives those that there are now.
        timeouts: Limits of a warm-up.
        warm_window: Conversations that were in use in the last so many seconds are moved; 0 moves none.
        spawn: Starts a daemon thread.
    """

    def __init__(
        self,
        pool: Pool,
        conversations: Callable[[], Iterable[Movable]],
        timeouts: Timeouts,
        warm_window: float,
        spawn: Callable[[str, Callable[[], None]], None],
    ) -> None:
        self._pool = pool
        self._conversations = conversations
        self._timeouts = timeouts
        self._warm_window = warm_window
        self._spawn = spawn

    def begin(self, old: Slot) -> None:
        """Replace a connection, on a thread of its own; without threads it is replaced when it ends."""
        try:
            self._spawn(f"{old.connection.name}-rotation", lambda: self._rotate(old))
        except RuntimeError:
            logger.warning("%s: no thread for its rotation", old.connection.name)

    def _rotate(self, old: Slot) -> None:
        live = self._live(old)
        if not live and not old.turns:
            self._pool.retire(old)
            return
        new = self._pool.add()
        if new is None:
            return
        try:
            ready = self._pool.prepare(new, self._timeouts.connect)
        except ConnectError:
            ready = False
        if not ready:
            logger.warning("%s: no successor to be had yet", old.connection.name)
            self._pool.discard(new)
            self._pool.try_again(old)
            return
        self._warm(new, live)
        logger.info("%s: replaced by %s", old.connection.name, new.connection.name)
        self._pool.replace(old, new)

    def _live(self, old: Slot) -> list[Movable]:
        """Return the conversations that go on from this connection, and are in use."""
        since = time.monotonic() - self._warm_window
        used = [each for each in self._conversations() if each.last_used >= since]
        return [each for each in used if self._warm_window and each.goes_on_from(old.lanes)]

    def _warm(self, new: Slot, live: list[Movable]) -> None:
        """Have the successor read the transcripts, all at once; what fails is sent in full when it is needed."""
        under_way = []
        for conversation in live:
            request = conversation.warm_request()
            if request is None:
                continue
            turn = Turn(
                payload=b"",
                continuation=request,
                timeouts=self._timeouts,
                started_at=time.monotonic(),
                warm_up=True,
            )
            self._pool.submit_to(new, turn)
            under_way.append((conversation, request, turn))
        for conversation, request, turn in under_way:
            turn.inbox.wait_ended()  # Bounded by the turn's own limits.
            if turn.inbox.error is None and turn.response_id is not None:
                anchor = Anchor(turn.response_id, request.history.count, False, turn.home)
                conversation.add_anchor(anchor, request)
