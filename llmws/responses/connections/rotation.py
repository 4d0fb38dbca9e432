"""
Replacing a connection before the server ends it, so that no turn has to wait for it.

A successor is dialled first and reads the transcripts of the conversations that are in use (``generate: false``); then
new turns go there, and the old connection ends when its last turn has. A conversation moves between two of its turns:
the next one sends what the successor has not read.

All this takes seconds and happens once in an hour, on a short-lived thread of its own: it may wait, though never for
ever, and holds no lock while it does.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from typing import Protocol

from ...errors import APIError, ConnectError
from ...timeouts import Timeouts
from ..routing.lane import Lane
from ..routing.turn import Turn
from ..sending.continuation import Anchor, Continuation
from .pool import Pool, Slot


__all__ = ["Movable", "Rotation"]

logger = logging.getLogger(__name__)

# An old connection has 65 s left at the least (a twelfth of 13 minutes, see ``Capabilities.rotate_after``). Within them
# its successor is to be there and to have read. A dial that its user gave no limit gets so long…
_DIAL_SECONDS = 15.0
# …and a warm-up never longer than this. What takes longer to read is sent in full.
_WARM_SECONDS = 45.0


class Movable(Protocol):
    """A conversation, as far as it can be moved."""

    @property
    def last_used(self) -> float:
        """When its latest turn ended, on the monotonic clock; now, if that still runs."""

    @property
    def home(self) -> object:
        """The lane of its latest turn, or of what its next one goes on from; None if there is none."""

    @property
    def keeper(self) -> object:
        """What the router knows it by."""

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
        timeouts: Limits of a dial, and of a warm-up, which has one of its own besides.
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
        if not old.turns and not self._live(old):
            self._pool.retire(old)
            return
        new = self._pool.add()
        if new is None:
            return
        moved = False
        try:
            # Looked at anew: the dial may have taken seconds.
            moved = self._prepared(new) and self._warm(new, self._live(old))
        finally:
            if moved:
                logger.info("%s: replaced by %s", old.connection.name, new.connection.name)
                self._pool.replace(old, new)
            else:
                if not self._pool.stopped:
                    logger.warning("%s: no successor to be had yet", old.connection.name)
                self._pool.discard(new)
                self._pool.try_again(old)

    def _prepared(self, new: Slot) -> bool:
        """Have the successor dial; return whether it has a socket."""
        limit = self._timeouts.connect
        try:
            return self._pool.prepare(new, _DIAL_SECONDS if limit is None else limit)
        except ConnectError:
            return False

    def _live(self, old: Slot) -> list[Movable]:
        """Return the conversations to be moved from this connection, those last that have most to lose."""
        if not self._warm_window:
            return []
        since = time.monotonic() - self._warm_window
        used = [each for each in self._conversations() if each.last_used >= since]
        live = [each for each in used if getattr(each.home, "owner", None) is old.lanes]
        live.sort(key=lambda each: (_has_to_lose(each), each.last_used))
        # Without lanes a server caches one response a connection: each warm-up would evict the one before.
        return live if self._pool.has_lanes else live[-1:]

    def _warm(self, new: Slot, live: list[Movable]) -> bool:
        """
        Have the successor read the transcripts, all at once; what fails is sent in full when it is needed.

        Returns:
            Whether the successor is of use; not if it answered nothing of what it was asked.
        """
        total = self._timeouts.total
        seconds = _WARM_SECONDS if total is None else min(total, _WARM_SECONDS)
        limits = self._timeouts.but({"total": seconds})
        under_way = []
        for conversation in live:
            request = conversation.warm_request()
            if request is None:
                continue
            turn = Turn(
                payload=b"",
                continuation=request,
                timeouts=limits,
                started_at=time.monotonic(),
                warm_up=True,
            )
            self._pool.submit_to(new, turn)
            under_way.append((conversation, request, turn))
        for conversation, request, turn in under_way:
            turn.inbox.wait_ended()  # Bounded by the turn's own limits.
            if turn.inbox.error is None and turn.response_id is not None:
                count = request.history.count
                anchor = Anchor(turn.response_id, count, False, turn.home, warmed=True)
                conversation.add_anchor(anchor, request)
        return not under_way or any(_was_answered(turn) for _, _, turn in under_way)


def _has_to_lose(conversation: Movable) -> bool:
    """Tell whether the server caches what a conversation goes on from, or will once what runs there has ended."""
    lane = conversation.home
    turn = lane.turn if isinstance(lane, Lane) else None
    holder = lane if turn is None else turn.continuation
    return getattr(holder, "keeper", None) is conversation.keeper


def _was_answered(turn: Turn) -> bool:
    """Tell whether the server said anything to a turn, be it a refusal."""
    refused = bool(turn.remedies) or isinstance(turn.inbox.error, APIError)
    return refused or turn.response_id is not None
