"""
The books of one Responses connection's router: which turns wait, run and end; no I/O, no thread.

This is what everything that a router does is written in: a turn is put in line, leaves its lane, is sent again, ends.
``answers.py`` builds on it what the server says, ``lanes.py`` what users, the pool and the link do.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Literal

from ...errors import ConnectError, TurnError
from ...secret import Secret, mask
from ...wire.ports import Append, Finish, Report
from ...wire.steps import Drop, Send, Unwant, Want, Withdraw
from ..vocabulary.apierrors import ErrorEvent
from ..vocabulary.capabilities import Capabilities
from ..vocabulary.events import Event, ResponseFinished
from ..vocabulary.items import Usage
from .ends import LaneCounters, too_long
from .lane import Lane, LaneSet
from .parents import WARMED_UP, message_of, parent_of
from .reports import Idle, Released, Retired, Returned
from .turn import Notice, Turn, TurnState


__all__ = ["DRAIN_SECONDS", "Books", "soonest"]

logger = logging.getLogger(__name__)

# An ended turn that still runs on the server is read to its terminal event for so long; then the socket is replaced,
# unless other turns run on it.
DRAIN_SECONDS = 5.0


class Books:
    """
    The state of one connection's turns.

    Args: as of ``Lanes``.
    """

    def __init__(
        self,
        sequence_check: Literal["warn", "strict"] = "warn",
        secrets: Callable[[], Iterable[Secret]] = tuple,
        capabilities: Capabilities | None = None,
        *,
        max_age: float | None = None,
        idle_seconds: float | None = None,
    ) -> None:
        self.counters = LaneCounters()
        self._strict = sequence_check == "strict"
        self._secrets = secrets
        capabilities = capabilities or Capabilities(lanes=False)
        self._max_frame_bytes = capabilities.max_frame_bytes
        self._steering = capabilities.steering
        self._life = capabilities.max_age
        self._lanes = LaneSet(capabilities, self)
        self._max_age = max_age
        self._idle_seconds = idle_seconds
        self._queue: deque[Turn] = deque()
        # When the first limit of a waiting turn passes, or earlier: turns that left do not push it back until a Tick.
        self._queue_due: float | None = None
        self._running: list[Turn] = []  # Their requests were handed to the link, in this order.
        self._open = False
        # The server said that this socket ends: it takes no further request.
        self._retired: Event | None = None
        self._doomed = False  # The socket is given up as soon as no turn runs on it.
        self._used = False  # This socket has carried a request.
        self._proven = False  # This socket has brought an event of some turn.
        self._failed_dial: ConnectError | None = None  # The latest, since there was a socket.
        self._owed = 0  # Turns that the pool wants back, and that have not come yet.
        self._preparing = False  # The pool waits for a socket.
        self._closing = False  # The pool wants nothing more to begin here.
        self._aged_at: float | None = None
        self._expires_at: float | None = None  # From then on the server takes nothing more.
        self._idle_at: float | None = None
        self._stopped = False
        self._now = 0.0
        # An error without a lane may have been this running turn's, or another's.
        self._doubted: Turn | None = None
        # An error without a lane, and the requests of which one may have been refused by it.
        self._orphan: tuple[ErrorEvent, list[Turn]] | None = None
        self._actions: list[Any] = []

    def __repr__(self) -> str:
        return f"<{type(self).__name__} busy={self._lanes.busy!r} queued={len(self._queue)}>"

    def _report(self, what: Any) -> None:
        self._actions.append(Report(what))

    def _notice(self, turn: Turn, raw: dict[str, Any]) -> None:
        self._actions.append(Append(turn.inbox, [Notice(raw["type"], raw)], 0))

    def _hide(self, value: Any) -> Any:
        return mask(value, self._secrets())

    # Waiting and beginning.

    def _enqueue(self, turn: Turn, *, first: bool = False) -> None:
        self._idle_at = None
        (self._queue.appendleft if first else self._queue.append)(turn)
        pause = turn.not_before if turn.not_before > self._now else None
        self._queue_due = soonest((self._queue_due, turn.deadline, pause))

    def _advance(self, *, fresh: bool = False) -> None:
        """Begin what waits and can begin; ``fresh`` if a new turn is why."""
        expired = self._expires_at is not None and self._expires_at <= self._now
        over = self._doomed or ((self._retired is not None or expired) and self._lanes.quiet)
        if self._open and over and not self._running:
            self._actions.append(Drop())
            self._closed_socket()
        if self._closing or (self._open and (self._retired is not None or self._doomed)):
            self._give_back_all()
        if self._queue and not self._open:
            self._actions.append(Want(self._queue[0].timeouts.connect, fresh))
        elif self._queue and not self._lanes.full:
            self._begin_what_can()
        if self._owed:
            self._give_back_some()
        self._rest()

    def _begin_what_can(self) -> None:
        for turn in [*self._queue]:
            if turn.not_before > self._now:
                continue
            continuation = turn.continuation
            parent = parent_of(turn, self._lanes)
            forked = continuation is not None and continuation.forked
            lane = self._lanes.choose(turn, parent, forked=forked)
            if lane is not None:
                self._queue.remove(turn)
                if forked and parent is not None and parent is not lane:
                    parent.forks |= {turn}
                    turn.holds = parent
                self._begin(turn, lane)
            if self._lanes.full:
                return

    def _begin(self, turn: Turn, lane: Lane) -> None:
        message = message_of(turn, lane, self._lanes)
        if len(message) > self._max_frame_bytes:
            # A whole transcript that only now has to be sent: the server has lost what it stands for.
            self._end_waiting(turn, too_long(turn, len(message), self._max_frame_bytes))
            return
        if turn.sent is not None and turn.sent.reason == WARMED_UP:
            reason = "the connection before neared the end of its life"
            self._notice(turn, {"type": "llmws.rotation", "reason": reason})
        self._lanes.lease(lane, turn)
        turn.lane = turn.home = lane
        self._running.append(turn)
        self._actions.append(Send(turn, message))

    def _take_back(self, turn: Turn) -> None:
        """Let a turn whose request was not begun to be written wait again, before all others."""
        self._actions.append(Withdraw(turn))
        self._leave(turn)
        turn.lane = turn.sent = None
        self._enqueue(turn, first=True)

    def _count_sent(self, turn: Turn) -> None:
        """Count a request whose first byte is on its way; before that it may yet be withdrawn."""
        self.counters.reuses += self._used
        self._used = True
        if turn.sent is not None and not turn.warm_up:
            kind = "deltas" if turn.sent.kind == "delta" else "fulls"
            setattr(self.counters, kind, getattr(self.counters, kind) + 1)
            self.counters.saved_bytes += turn.sent.saved_bytes

    def _rest(self) -> None:
        """Say when nothing is left to do, at once if that is waited for."""
        if self._queue or not self._lanes.quiet or self._stopped:
            return
        if self._closing:
            self._report(Idle())
        elif self._idle_seconds is not None and self._idle_at is None:
            self._idle_at = self._now + self._idle_seconds

    def _give_back_some(self) -> None:
        """Return as many turns as the pool asked for, of those that wait and might as well begin elsewhere."""
        for turn in [*self._queue]:
            if turn.not_before <= self._now and parent_of(turn, self._lanes) is None:
                self._owed -= 1
                self._queue.remove(turn)
                self._report(Returned(turn))
            if not self._owed:
                return
        if not self._queue:
            self._owed = 0  # Enough have ended or begun.

    def _give_back_all(self) -> None:
        queue, self._queue = self._queue, deque()
        for turn in queue:
            self._report(Returned(turn))

    def _again(self, turn: Turn, raw: dict[str, Any], why: str, delay: float = 0.0) -> None:
        """Have a turn sent once more."""
        self.counters.retries += 1
        logger.info("a turn is sent again in %.1f s: %s", delay, why)
        turn.requeue(self._now + delay)
        self._notice(turn, raw)
        self._enqueue(turn, first=True)

    # Ending.

    def _end_early(self, turn: Turn, error: TurnError, hard: bool = False) -> None:
        """End a turn before its terminal event, and see to what of it is under way."""
        if turn not in self._running:
            if turn in self._queue:
                self._queue.remove(turn)
                self._end_waiting(turn, error)
                if not self._queue and not self._running and not self._open:
                    self._actions.append(Unwant())
                self._rest()
            return
        lane = turn.lane
        assert lane is not None
        self._leave(turn)
        self._finish(turn, error)
        if error.state == TurnState.QUEUED.value:
            turn.sent = None  # What the server knows is as it was.
            self._actions.append(Withdraw(turn))
            self._report(Released(turn))
            self._advance()
            return
        unaccepted = error.state == TurnState.SENT.value
        self._lanes.drain(lane, turn, self._now + DRAIN_SECONDS, unaccepted=unaccepted)
        if hard:
            self._doom()
        self._advance()

    def _doom(self) -> None:
        """Give the socket up as soon as no turn runs on it."""
        if self._running and not self._doomed:
            self._report(Retired(True))  # Else what is given back meanwhile would come here again.
        self._doomed = True

    def _tick_lanes(self) -> None:
        overdue = []
        for lane in self._lanes.draining:
            if lane.overdue(self._now):
                steering = lane.drained.steering
                if steering is None or steering.ended is None or steering.outstanding:
                    overdue.append(lane)
                else:
                    self._drained(lane)  # The server has no word about a steer.
        # With lanes conversations go on, and what they have cached is worth more than a lane that is stuck.
        going_on = self._lanes.known and any(lane.keeper is not None for lane in self._lanes)
        ending = self._lanes.full or self._retired or self._closing
        if overdue and not self._running and (ending or not going_on):
            self._doomed = True
            return
        for lane in overdue:
            lane.draining_until = self._now + DRAIN_SECONDS

    def _drained(self, lane: Lane) -> None:
        """Free a lane of which nothing more comes."""
        turn = self._lanes.drained(lane)
        self._report(Released(turn))

    def _end_waiting(self, turn: Turn, error: Exception) -> None:
        self._finish(turn, error)
        self._report(Released(turn))

    def _leave(self, turn: Turn) -> None:
        """Take a turn off its lane."""
        if turn in self._running:
            self._running.remove(turn)
        if turn is self._doubted:
            self._doubted = None
        if turn.lane is not None and turn.lane in self._lanes:
            self._lanes.left(turn.lane, turn.response_id, turn.next_number)
        self._unhold(turn)
        if turn.lane is not None and turn.lane.turn is turn:
            self._lanes.vacate(turn.lane)

    def _end_all(self, error: Callable[[Turn], TurnError]) -> None:
        turns = [*self._running, *self._queue]
        self._running, self._queue = [], deque()
        self._closed_socket()
        for turn in turns:
            self._finish(turn, error(turn))
            self._report(Released(turn))

    def _finish(self, turn: Turn, error: Exception | None) -> None:
        turn.state = TurnState.ENDED
        self._release(turn)
        turn.payload = b""
        self._add_usage(turn, turn.final)
        self.counters.missing_events += turn.missing_events
        if turn.missing_events or turn.repeated_events:
            logger.warning(
                "response %r: %d sequence numbers missing, %d repeated",
                turn.response_id,
                turn.missing_events,
                turn.repeated_events,
            )
        if turn.held:
            self._actions.append(Append(turn.inbox, [*turn.held], 0))
            turn.held = ()
        if turn.steering is not None:
            turn.steering.give_back()
            # What became of those that were sent and are not done, nobody knows any more.
            self._actions += [Finish(s.inbox, None) for s in turn.steering.steers if not s.done]
        self._actions.append(Finish(turn.inbox, error))

    def _release(self, turn: Turn) -> None:
        """Count a request as one that no longer waits to be written."""
        self.counters.released_bytes += turn.size_bytes
        turn.size_bytes = 0

    def _add_usage(self, turn: Turn, final: ResponseFinished | None) -> None:
        if final is None:
            return
        usage = Usage.from_wire(final.response.get("usage"))
        if usage is None:
            return
        if turn.warm_up:
            self.counters.warm_up_usage += usage
        else:
            self.counters.usage += usage

    def _closed_socket(self) -> None:
        """Forget what belonged to the socket."""
        drained = [lane.drained for lane in self._lanes.draining]
        if self._retired is not None or self._doomed:
            self._report(Retired(False))  # The next socket is as good as any.
        self._open = self._doomed = self._used = False
        self._retired = self._aged_at = self._expires_at = None
        self._doubted = self._orphan = None
        self._lanes.reset()
        self._actions += [Report(Released(turn)) for turn in drained]

    def _unhold(self, turn: Turn) -> bool:
        """Let the source of a fork go on: the server has begun the fork, or never will; return whether one waited."""
        held, turn.holds = turn.holds, None
        if held is None:
            return False
        held.forks -= {turn}
        return True


def soonest(times: Iterable[float | None]) -> float | None:
    """Return the earliest of some times, of which each may be none; None if all are."""
    return min([time for time in times if time is not None], default=None)
